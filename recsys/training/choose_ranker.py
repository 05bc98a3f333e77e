"""Which ranker: linear alone, corrected by trees, or trees alone; chosen on questions that no ranker has seen.

Trees find what a linear model cannot say, and take what is true of an older log only for a rule. On tastes
without order a linear model alone is the best, elsewhere one that trees correct: decision 0027. Sources and ALS
were chosen on the judge's questions; all rankers share that.
"""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from recsys.bundle import Recipe
from recsys.evaluation.metrics import ndcg_of_hits
from recsys.features.matrix import NAMES
from recsys.ranking.fit import bounds, fit_ranker
from recsys.ranking.ranker import Ranker
from recsys.training.examples import Examples

CORRECTIONS = (0, 25, 50, 100)  # trees beside a linear model
ALONE = (100, 200)
TAUGHT = 6_000  # questions of each older lesson: with all of MovieLens 1M training took 249 s, not 181
FEW = 25  # trees beside a linear model where nothing can be chosen
USUAL = 50  # trees beside a linear model, unless another ranker is surely better: decision 0038
SURELY = 2.0  # standard errors of the mean difference, users drawn anew
USERS_MIN = 30  # below, nothing is sure
JUDGED = 2_000  # questions
_K = 10


def choose_ranker(
    older: Sequence[Examples], judge: Examples, user: np.ndarray, recipe: Recipe, *, threads: int | None = None
) -> Recipe:
    """The recipe with USUAL trees beside a linear model, or with that which, taught by older lessons, surely beats it.

    Of several the one with the highest NDCG@10, the first of equals. What another draw of questions could turn round
    decides nothing: it had latest-small without trees, a tenth of a standard error ahead and 6 % behind held out.

    Args:
        older: Lessons before that of the judge. judge: Its questions with all their candidates. Without an answer in
            both, few trees correct a linear model. user: int [q], who asks each question that `judge.group` numbers.
        recipe: Its trees are as many as any ranker may have.
    """
    if not judge.label.any() or not any(one.label.any() for one in older):
        return _settled(recipe, linear=True, trees=FEW)
    taught = Examples.concatenate([_limited(one) for one in older])
    tried = [(kind, _ndcg(judge, ranker)) for kind, ranker in _rankers(taught, recipe, threads)]
    usual = next((one for one in tried if one[0].linear and one[0].trees == min(USUAL, recipe.trees)), tried[-1])
    asking = user[judge.group[bounds(judge.group)[:-1]]]
    best, most = usual[0], 0.0
    for kind, value in tried:
        gain = value - usual[1]
        if gain.mean() > max(most, SURELY * _standard_error(gain, asking)):
            best, most = kind, gain.mean()
    return best


def _rankers(taught: Examples, recipe: Recipe, threads: int | None) -> Iterator[tuple[Recipe, Ranker]]:
    """With fewer trees first; only the loss of the linear part can be corrected."""
    rows = taught.features, taught.label, taught.group, taught.weight
    for linear, tried in ((True, CORRECTIONS), (False, ALONE)):
        if linear and recipe.loss != "QueryRMSE":
            continue
        counts = sorted({min(count, recipe.trees) for count in tried})
        kinds = [_settled(recipe, linear=linear, trees=count) for count in counts]
        once = msgspec.structs.replace(kinds[-1], tree_seeds=1)  # of a mean no prefix is what boosting had
        ranker = fit_ranker(*rows, names=NAMES, recipe=once, threads=threads)
        for count, kind in zip(counts, kinds, strict=True):
            yield kind, ranker.first(count)


def _settled(recipe: Recipe, *, linear: bool, trees: int) -> Recipe:
    return msgspec.structs.replace(recipe, linear=linear, trees=min(trees, recipe.trees), choose_ranker=False)


def _limited(lesson: Examples) -> Examples:
    """At most TAUGHT questions, spread evenly."""
    start = bounds(lesson.group)
    chosen = np.zeros(len(start) - 1, bool)
    chosen[np.linspace(0, len(chosen) - 1, min(TAUGHT, len(chosen)), dtype=np.int64)] = True
    rows = np.repeat(chosen, np.diff(start))
    of = lesson.features[rows], lesson.label[rows], lesson.group[rows], lesson.weight[rows]
    return Examples(*of, lesson.asked, lesson.found)


def _standard_error(gain: np.ndarray, user: np.ndarray) -> float:
    """Of the mean of the gains of questions, float64 [q], of which those of one user go together.

    The variance of a ratio of sums over clusters: Cochran, "Sampling Techniques", 1977, chapter 6. Without end for
    fewer than USERS_MIN users.
    """
    number, asked = np.unique(user, return_inverse=True, return_counts=True)[1:]
    if len(asked) < USERS_MIN:
        return np.inf
    off = np.bincount(number, gain) - gain.mean() * asked
    return float(np.sqrt(len(asked) / (len(asked) - 1) * np.square(off).sum()) / len(gain))


def _ndcg(judge: Examples, ranker: Ranker) -> np.ndarray:
    """NDCG@10 of each question whose answer was found."""
    start = bounds(judge.group)
    score = ranker.score(judge.features, start)
    question = np.repeat(np.arange(len(start) - 1), np.diff(start))
    order = np.lexsort((-score, question))
    place = np.arange(len(order)) - start[question]
    inside = place < _K
    hits = np.zeros((len(start) - 1, _K), bool)
    hits[question[inside], place[inside]] = judge.label[order][inside] > 0
    return ndcg_of_hits(hits, np.bincount(question, judge.label > 0).astype(np.int64))

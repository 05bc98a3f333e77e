"""How much one positive says to ALS, chosen by what ranks the right answers higher.

On dense data (MovieLens) ALS alone finds more where a positive weighs twice an absence and factors are held small; on
sparse data (Amazon Beauty) where it weighs eleven times as much: decision 0022.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from recsys.bundle import Bundle, Recipe
from recsys.evaluation.answers import ask
from recsys.evaluation.baselines import alone
from recsys.evaluation.metrics import ndcg_of_hits
from recsys.training.fit import with_als
from recsys.training.log import Log
from recsys.training.questions import Known, Questions
from recsys.types import Source, World

STRENGTHS = ((10.0, 0.1), (1.0, 10.0))  # (als_alpha, als_regularization)
ASKED = 2000  # questions


def choose_als(
    bundle: Bundle,
    past: Log,
    questions: Questions,
    known: Known,
    *,
    strengths: Sequence[tuple[float, float]] = STRENGTHS,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Bundle:
    """The bundle, its ALS of that strength with which ALS alone has the highest NDCG@10; of equals the first.

    Args:
        bundle: Fitted on `past`, which holds none of the answers.
    """
    rows = questions.drawn(ASKED, seed=bundle.recipe.seed)
    few, known = questions.take(rows), known.take(rows)
    best, most = bundle, -1.0
    for alpha, regularization in strengths:
        recipe = with_strength(bundle.recipe, alpha, regularization)
        tried = with_als(replace(bundle, recipe=recipe), past, threads=threads)
        of = alone(World(tried, tried.item_stats), Source.ALS)
        answers = ask(of.world, few, known, score=of.score, seed=recipe.seed)
        value = float(ndcg_of_hits(answers.hits(10), answers.wanted).mean())
        if value > most:
            best, most = tried, value
        progress(1)
    return best


def with_strength(recipe: Recipe, alpha: float, regularization: float) -> Recipe:
    """The recipe with a strength that is settled."""
    return msgspec.structs.replace(recipe, als_alpha=alpha, als_regularization=regularization, choose_als=False)

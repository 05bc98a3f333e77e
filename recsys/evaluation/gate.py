"""What a bundle has to show before it may answer users in place of the champion: a line for each, with its figures."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.evaluation.baselines import Pipeline
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.compare import HEADLINE, Asked, compare
from recsys.evaluation.report import Report
from recsys.experiments.outcomes import distance
from recsys.recommend import recommend
from recsys.retrieval.index import Index
from recsys.training.questions import Known, Questions
from recsys.types import QueryBatch, World
from recsys.users import Users

CHAMPION = "champion"
MARGIN = 0.05  # of the champion's NDCG@10: how much worse it may possibly be
COVERAGE = 0.5  # of the champion's: different items in the first ten
RECALL, RECALL_AT, RECALL_OF = 0.95, 128, 64  # of exact search, for the vectors of so many users
SLOWER = 2.0  # times the champion's CPU of a request
LARGER = 3.0  # times the champion's files
CHANGED = 0.9  # mean distance of recorded lists: beyond it nothing is left of what users know
LISTS = 20  # on record at least, for that: one list of a stranger was wholly another after 60 new events
BATCH, ROUNDS = 16, 5
SHORT, SHORT_AT, SHORT_OF = 0.01, 20, 512  # share of lists of so many items that may fall short, of so many users
START_S = 10.0  # in which a replica loads and warms a bundle; a promotion waits for it


@dataclass(frozen=True, slots=True)
class Line:
    """One demand.

    Attributes:
        passed: Whether it is met. found, wanted: For people, with figures.
        difference: Of the bundle over the champion, where that is what was found: the paired 95 % interval.
    """

    name: str
    passed: bool
    found: str
    wanted: str
    difference: Interval | None = None


def quality(world: World, champion: World, asked: Asked, *, protocol: str, seed: int) -> list[Line]:
    """No surely relevant loss against the champion on the same questions, and no shrunken catalogue.

    Non-inferiority: the lower end of the paired 95 % interval of the difference lies above -MARGIN of the champion's.
    """
    report = compare(world, asked, protocol=protocol, seed=seed, beside={CHAMPION: Pipeline(champion)})
    own, other = report.rows[:2]
    difference, before = report.over(CHAMPION), other.metrics[HEADLINE].mean
    coverage = own.beyond["coverage"] / max(other.beyond["coverage"], 1e-9)
    return [
        Line(
            f"{HEADLINE} beside the champion",
            difference.low >= -MARGIN * before,
            f"{own.metrics[HEADLINE].mean:.4f} and {before:.4f}, difference {difference.mean:+.4f} "
            f"[{difference.low:+.4f}, {difference.high:+.4f}]",
            f"surely not below {-MARGIN * before:+.4f}",
            difference,
        ),
        Line(
            "different items in the first ten",
            coverage >= COVERAGE,
            f"{coverage:.0%} of the champion's",
            f"{COVERAGE:.0%} at least",
        ),
    ]


def floor(report: Report) -> Line:
    """Not surely behind any simple pipeline in its own report."""
    behind = [name for name in report.behind() if name != CHAMPION]
    return Line("beside simple pipelines", not behind, f"behind {', '.join(behind) or 'none'}", "surely behind none")


def recall(world: World, questions: Questions, known: Known) -> Line:
    """What the index finds of the best items by exact search, for the vectors of users."""
    rows = np.arange(min(len(questions), RECALL_OF))
    batch = questions.batch(known, rows, count=1, seed=1)
    found = _found(world, batch, world.bundle.index, world.bundle.factors)
    return Line(
        f"index, of the best {RECALL_AT}", found >= RECALL, f"{found:.3f} of exact search", f"{RECALL:.2f} at least"
    )


def cost(world: World, champion: World, questions: Questions, known: Known) -> Line:
    """CPU of a request in batches, beside the champion's, measured in turns."""
    rows = np.arange(min(len(questions), BATCH))
    batch = questions.batch(known, rows, count=20, seed=1)
    took: tuple[list[float], list[float]] = [], []
    for one, times in ((world, took[0]), (champion, took[1])) * ROUNDS:
        times.append(cpu_s(one, batch))
    own, other = (min(times) / len(rows) * 1e3 for times in took)
    return Line(
        "CPU of a request",
        own <= SLOWER * max(other, 1e-6),
        f"{own:.2f} ms and {other:.2f} ms",
        f"at most {SLOWER:g} times the champion's",
    )


def short(world: World, champion: World, questions: Questions, known: Known) -> Line:
    """Lists that fall short of the items that were asked for, beside the champion's of the same users."""
    rows = np.arange(min(len(questions), SHORT_OF))
    batch = questions.batch(known, rows, count=SHORT_AT, seed=1)
    own, other = (float((np.diff(recommend(one, batch).indptr) < SHORT_AT).mean()) for one in (world, champion))
    return Line(
        "lists that fall short",
        own <= other + SHORT,
        f"{own:.1%} and {other:.1%} of {len(rows)}",
        f"at most {SHORT:.0%} more than of the champion's",
    )


def start(seconds: float) -> Line:
    """How long it takes to be loaded and warmed."""
    return Line("load and warm-up", seconds <= START_S, f"{seconds:.1f} s", f"{START_S:g} s at most")


def cpu_s(world: World, batch: QueryBatch) -> float:
    """CPU of making the lists of a batch, once they were made before."""
    recommend(world, batch)
    began = time.process_time()
    recommend(world, batch)
    return time.process_time() - began


def size(own_bytes: int, champion_bytes: int) -> Line:
    """Memory: the files, which are mapped, beside the champion's."""
    return Line(
        "memory, as mapped files",
        own_bytes <= LARGER * champion_bytes,
        f"{own_bytes / 2**20:.1f} MB and {champion_bytes / 2**20:.1f} MB",
        f"at most {LARGER:g} times the champion's",
    )


def recorded(served: Sequence[Sequence[str]], now: Sequence[Sequence[str]]) -> Line:
    """How far lists that were served are from those that it would make of the same requests and states."""
    if len(served) < LISTS:
        found = f"{len(served)} on record, fewer than {LISTS} say nothing" if served else "none on record"
        return Line("recorded lists", True, found, f"mean distance at most {CHANGED}")
    apart = [distance(one, other) for one, other in zip(served, now, strict=True)]
    mean = float(np.mean(apart))
    return Line(
        "recorded lists",
        mean <= CHANGED,
        f"{len(apart):,} made again, mean distance {mean:.2f} (0: the same lists)",
        f"mean distance at most {CHANGED}",
    )


def checked(name: str, check: Callable[[], str], wanted: str) -> Line:
    """A demand that is met where a check raises nothing; what it raises is what was found."""
    try:
        return Line(name, True, check(), wanted)
    except Exception as error:
        return Line(name, False, str(error)[:300] or type(error).__name__, wanted)


def _found(world: World, batch: QueryBatch, index: Index, table: np.ndarray) -> float:
    vectors = Users.of(world, batch).vector
    vectors = vectors[np.any(vectors, axis=1)]
    every = np.full((len(table) + 7) // 8, 255, np.uint8)
    shares = []
    for vector in vectors:
        score = table @ vector
        k = min(RECALL_AT, int((score > 0).sum()))
        best = set(np.argsort(-score, kind="stable")[:k].tolist())
        got = {one for one in index.search(vector, RECALL_AT, every)[0].tolist() if one >= 0}
        if best:
            shares.append(len(best & got) / len(best))
    return float(np.mean(shares)) if shares else 1.0

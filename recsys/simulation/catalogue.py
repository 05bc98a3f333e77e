"""What there is to want, and when: items with launches and retirements in simulated time."""

from dataclasses import dataclass, replace

import numpy as np

from recsys.datasets.dataset import Dataset
from recsys.simulation import DAY_S
from recsys.training.fit import item_stats
from recsys.training.log import Log
from recsys.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """Items that came and went, int64 rows by rising time."""

    launched: np.ndarray
    retired: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """Items by row, and the time in which there is each: from `launch_s` on, before `retire_s`.

    Attributes:
        item_id: In row order.
        rank: int64 [N], 1 for the most popular item.
        launch_s, retire_s: float64 [N], UTC epoch seconds; -inf and inf for what was and is always there.
    """

    item_id: list[str]
    rank: np.ndarray
    launch_s: np.ndarray
    retire_s: np.ndarray

    def __len__(self) -> int:
        return len(self.item_id)

    @classmethod
    def of(cls, dataset: Dataset) -> "Catalogue":
        """The items of a data set, ranked by their newest demand: positives decayed with a half-life of 30 days."""
        n, log = len(dataset.item_id), Log.of(dataset)
        vocabulary, row_of = Vocabulary.build(dataset.item_id)
        stats = item_stats(vocabulary.key, log, until_s=int(log.ts_s[-1]) if len(log) else 0)
        rank = np.empty(n, np.int64)
        rank[np.argsort(row_of)[stats.order]] = np.arange(1, n + 1)
        return cls(dataset.item_id, rank, np.full(n, -np.inf), np.full(n, np.inf))

    def with_turnover(
        self, rng: np.random.Generator, *, start_s: float, days: float, launched: float, mean_life_days: float = np.inf
    ) -> "Catalogue":
        """The same items, some of which come later, and all of which go.

        Args:
            start_s: When the first of them comes, UTC epoch seconds.
            days: How long they keep coming, at moments that are uniform in it: a Poisson process of launches.
            launched: Share of the items that come later, drawn; the others are there from the start.
            mean_life_days: Lives are exponential, as if every item were as likely to go on any day.
        """
        n = len(self)
        launch_s = np.full(n, -np.inf)
        late = rng.permutation(n)[: round(launched * n)]
        launch_s[late] = start_s + rng.random(len(late)) * days * DAY_S
        life_s = rng.standard_exponential(n) * mean_life_days * DAY_S
        return replace(self, launch_s=launch_s, retire_s=np.maximum(launch_s, start_s) + life_s)

    def available(self, at_s: np.ndarray) -> np.ndarray:
        """Which items there are at moments float64 [b]: bool [b, N]."""
        at_s = np.asarray(at_s, np.float64)[:, None]
        return (self.launch_s <= at_s) & (at_s < self.retire_s)

    def changes(self, after_s: float, until_s: float) -> Changes:
        """What came and what went after one moment and not after another; both, where a life was that short."""
        return Changes(*(_between(moment_s, after_s, until_s) for moment_s in (self.launch_s, self.retire_s)))


def _between(moment_s: np.ndarray, after_s: float, until_s: float) -> np.ndarray:
    rows = np.flatnonzero((moment_s > after_s) & (moment_s <= until_s))
    return rows[np.argsort(moment_s[rows], kind="stable")]

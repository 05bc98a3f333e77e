"""What users of each variant were shown and what came of it: one row per user, and the figures made from the rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.experiments.effects import Effect, Side, effect
from recsys.experiments.sequential import mismatch

METRICS = ("clicked", "converted", "value", "changed", "degraded", "latency_ms", "slow", "strange")
SLOW_MS = 25.0  # of computation; where one list in a hundred takes longer, that is the 99th percentile
PER_USER = {"value"}  # divided by users; the others by lists
PER_PAIR = {"changed"}  # by lists that have one before them
WORSE_IF_MORE = {"degraded", "latency_ms", "slow", "strange"}


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """The users of an experiment.

    Attributes:
        names: Of the variants, the control first.
        variant: int64 [u], places in `names`.
        lists: float64 [u], lists shown.
        totals: float64 [len(METRICS), u]: of those, how many were clicked and converted, the value that came of them,
            how many were others than the user's list before, how many were degraded, the milliseconds that they took
            together, how many took more than SLOW_MS, and how many had scores out of the range of their bundle's own.
        before: float64 [u], events of the user in the time before the experiment.
        items, owners: Per variant, the items of each user's first list, and whose they are, as rows: int64.
    """

    names: tuple[str, ...]
    variant: np.ndarray
    lists: np.ndarray
    totals: np.ndarray
    before: np.ndarray
    items: tuple[np.ndarray, ...]
    owners: tuple[np.ndarray, ...]

    def first(self, users: int) -> "Outcomes":
        """The first of the users, and what they were shown."""
        rows = slice(0, users)
        kept = [one < users for one in self.owners]
        items, owners = (
            tuple(one[of] for one, of in zip(columns, kept, strict=True)) for columns in (self.items, self.owners)
        )
        columns = self.variant[rows], self.lists[rows], self.totals[:, rows], self.before[rows]
        return Outcomes(self.names, *columns, items, owners)

    def users(self) -> list[int]:
        """By variant."""
        return np.bincount(self.variant, minlength=len(self.names)).tolist()

    def shown(self) -> list[int]:
        """Lists by variant."""
        return np.bincount(self.variant, weights=self.lists, minlength=len(self.names)).astype(int).tolist()

    def side(self, variant: int, metric: str) -> Side:
        """The users of a variant, as `effects` wants them."""
        rows = self.variant == variant
        lists = self.lists[rows]
        weight = np.ones(len(lists)) if metric in PER_USER else lists - 1 if metric in PER_PAIR else lists
        return Side(self.totals[METRICS.index(metric)][rows], weight, self.before[rows])

    def effect(self, metric: str, variant: int, *, planned: int, alpha: float) -> Effect:
        """What a variant does to a metric, beside the control."""
        return effect(self.side(0, metric), self.side(variant, metric), planned=planned, alpha=alpha)

    def mismatch(self, shares: Sequence[float]) -> float:
        """As `sequential.mismatch`, of the users by variant."""
        return mismatch(self.users(), shares)


def distance(one: Sequence[str], other: Sequence[str], *, p: float = 0.9) -> float:
    """1 less the rank-biased overlap of two lists as far as the longer goes, scaled so that equal lists have 0.

    Source: Webber, Moffat, Zobel, "A Similarity Measure for Indefinite Rankings", ACM TOIS 28(4), 2010. p: How far down
    it looks.
    """
    depth = max(len(one), len(other))
    if not depth:
        return 0.0
    left: set[str] = set()
    right: set[str] = set()
    agreed, total = 0.0, 0.0
    for place in range(depth):
        left.update(one[place : place + 1])
        right.update(other[place : place + 1])
        weight = p**place
        agreed += weight * len(left & right) / (place + 1)
        total += weight
    return 1 - agreed / total

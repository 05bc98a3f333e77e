"""What simulated users like: directions that stay as they are until drift sets in."""

from dataclasses import dataclass, field

import numpy as np

from recsys.simulation import DAY_S
from recsys.simulation.directions import unit


@dataclass(frozen=True)
class Drift:
    """How tastes change from `onset_s` on; before it none does.

    Args:
        onset_s: UTC epoch seconds; inf for never.
        shock: Share of the users who like something else altogether from the onset on.
        walk_per_day: Radians by which everybody's taste wanders in a day, a random walk: n days take it about
            `sqrt(n)` times as far, while that is little.
        days: For how many days tastes walk; after them they stay.
        step_s: A walk is made of steps that are this long.
    """

    onset_s: float = np.inf
    shock: float = 0.0
    walk_per_day: float = 0.0
    days: float = 30.0
    step_s: float = 3_600.0

    @property
    def steps(self) -> int:
        """Steps of a walk; the shock alone takes one."""
        if not np.isfinite(self.onset_s):
            return 0
        return max(1, round(self.days * DAY_S / self.step_s)) if self.walk_per_day else 1


@dataclass(frozen=True, slots=True, eq=False)
class Tastes:
    """Everybody's taste at any time.

    Attributes:
        path: float64 [steps + 1, users, d], unit vectors: before the onset, and after each step.
        shocked: bool [users], whose taste is another one from the onset on.
    """

    path: np.ndarray
    shocked: np.ndarray
    drift: Drift = field(default_factory=Drift)

    @classmethod
    def draw(cls, rng: np.random.Generator, *, users: int, dimensions: int, drift: Drift) -> "Tastes":
        """Tastes that are uniform over all directions, and their drift; the first are the same whatever the drift."""
        path = np.empty((drift.steps + 1, users, dimensions))
        path[0] = unit(rng.standard_normal((users, dimensions)))
        shocked = np.zeros(users, bool)
        shocked[rng.permutation(users)[: round(drift.shock * users)]] = True
        length = drift.walk_per_day * np.sqrt(drift.step_s / DAY_S)
        for step in range(drift.steps):
            taste = path[step]
            if step == 0:  # exchanging its coordinates turns a taste into an unrelated one of the same distribution
                taste = np.where(shocked[:, None], np.roll(taste, dimensions // 2, axis=1), taste)
            if length:
                taste = unit(taste + length / np.sqrt(dimensions) * rng.standard_normal(taste.shape))
            path[step + 1] = taste
        return cls(path, shocked, drift)

    def at(self, user: np.ndarray, at_s: np.ndarray) -> np.ndarray:
        """The taste of each user at a moment, int [b] and float64 [b] UTC epoch seconds: float64 [b, d]."""
        since = np.floor((np.asarray(at_s) - self.drift.onset_s) / self.drift.step_s)
        return self.path[np.clip(since + 1, 0, len(self.path) - 1).astype(np.int64), user]

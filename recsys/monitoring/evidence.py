"""Evidence that a mean has left its tolerance, which may be looked at every hour for as long as there are hours.

A bet against "the mean of x is at most u" multiplies what is left of one unit by 1 + L (x - u) at each x in [0, 1]; one
against "at least l" by 1 + L (l - x). Where the claim is true nobody's wealth grows on average, so that it ever reaches
1/a has a probability of at most a (Ville, 1939): Waudby-Smith & Ramdas, "Estimating means of bounded random variables
by betting", JRSS B 86(1), 2024. The unit is shared out among both sides of each component and among STAKES, so nobody
need know what will change, or how much; and over the days on which a change may begin, day k having 1 / (k (k + 1)) of
it, so a long quiet past costs little: a mixture of e-processes as in Shin, Ramdas & Rinaldo, "E-detectors", New England
Journal of Statistics in Data Science 2(2), 2023, whose shares add up to 1, so that the bound is on the probability of
any false alarm ever, not on how often they come.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

STAKES = (0.05, 0.2, 0.5, 0.9)  # of the wealth that the worst x would take
MOST = 1e200  # beyond it nothing more is to be proved, and floats end
MEMORY = 200.0  # rows after which an old one counts for a half in `recent`


@dataclass(frozen=True, slots=True, eq=False)
class Tolerance:
    """What means are allowed, and the usual ones; float64 [K] each, NaN where nothing is claimed."""

    low: np.ndarray
    high: np.ndarray
    usual: np.ndarray


@dataclass(slots=True, eq=False)
class Evidence:
    """What has been seen of some components so far, [C] of them; of each by itself.

    Attributes:
        wealth: float64 [2, C, len(STAKES)], of bets on "above", then on "below".
        total, rows: [C], sum and number of all values.
        recent, weight: [C], a sum in which old values fade, and what it is a sum over.
        days, day: [C], on how many days bets have begun, and the last of them, counted from the epoch.
    """

    wealth: np.ndarray
    total: np.ndarray
    rows: np.ndarray
    recent: np.ndarray
    weight: np.ndarray
    days: np.ndarray
    day: np.ndarray

    @classmethod
    def none(cls, components: int) -> "Evidence":
        """Before anything was seen."""
        return cls(np.zeros((2, components, len(STAKES))), *(np.zeros(components) for _ in range(6)))

    @classmethod
    def unpacked(cls, packed: Mapping[str, bytes]) -> "Evidence":
        """From `packed`. Raises ValueError: its parts do not fit together."""
        columns = {name: np.frombuffer(packed.get(name, b""), "<f8").copy() for name in cls.__slots__}
        wealth = columns.pop("wealth").reshape(2, len(columns["total"]), len(STAKES))
        if {len(one) for one in columns.values()} != {wealth.shape[1]}:
            raise ValueError("columns of different lengths")
        return cls(wealth, **columns)

    def packed(self) -> dict[str, bytes]:
        """All of it as bytes."""
        return {name: getattr(self, name).astype("<f8").tobytes() for name in self.__slots__}

    def widened(self, components: int) -> "Evidence":
        """The same, and so many more of which nothing was seen."""
        more = Evidence.none(components)
        axis = {"wealth": 1}
        return Evidence(
            *(np.concatenate([getattr(self, n), getattr(more, n)], axis=axis.get(n, 0)) for n in self.__slots__)
        )

    def value(self, of: slice) -> float:
        """The e-value of what some components claim together: 1 at the start, large where a tolerance is left."""
        return float(1 / (self.days[of].max() + 1) + self.wealth[:, of].mean())

    def values(self, starts: np.ndarray) -> np.ndarray:
        """Those of neighbouring groups of components that begin at `starts`, float64 [len(starts)]."""
        sizes = np.diff(np.append(starts, self.wealth.shape[1]))
        won = np.add.reduceat(self.wealth.sum(axis=(0, 2)), starts) / (2 * len(STAKES) * sizes)
        return won + 1 / (np.maximum.reduceat(self.days, starts) + 1)

    def means(self, of: slice) -> np.ndarray:
        """The recent mean of each component, float64 [K]; NaN where nothing was seen."""
        weight = self.weight[of]
        return np.divide(self.recent[of], weight, out=np.full(len(weight), np.nan), where=weight > 0)

    def see(self, values: np.ndarray, tolerance: Tolerance, *, day: int) -> None:
        """Take in rows of a day, float64 [n, C] in [0, 1], NaN where one says nothing."""
        said = ~np.isnan(values)
        values = np.where(said, values, 0.0)
        later = said[::-1].cumsum(axis=0)[::-1]
        fade, whole = 0.5 ** (later / MEMORY), 0.5 ** (later[0] / MEMORY)
        self.recent = self.recent * whole + (values * fade).sum(axis=0)
        self.weight = self.weight * whole + (said * fade).sum(axis=0)
        self.total, self.rows = self.total + values.sum(axis=0), self.rows + later[0]
        begins = (later[0] > 0) & (self.day != day) & ~np.isnan(tolerance.high)
        self.days[begins] += 1
        self.day[begins] = day
        self.wealth[:, begins] += (1 / (self.days[begins] * (self.days[begins] + 1)))[:, None]
        with np.errstate(divide="ignore"):
            self.wealth = np.exp(np.minimum(np.log(self.wealth) + _growth(values, said, tolerance), math.log(MOST)))

    def forget(self, of: slice) -> None:
        """An alarm is over: what was won is gone, and bets begin anew with the days that are left."""
        self.wealth[:, of] = 0.0


def _growth(values: np.ndarray, said: np.ndarray, tolerance: Tolerance) -> np.ndarray:
    """The logarithm by which each bet grows, float64 [2, C, STAKES]; 0 where none can be made."""
    high, low = tolerance.high, tolerance.low
    above = np.divide(1, high, out=np.zeros(len(high)), where=(high > 0) & (high < 1))
    below = np.divide(1, 1 - low, out=np.zeros(len(low)), where=(low > 0) & (low < 1))
    up = np.where(said & (above > 0), (values - high) * above, 0)
    down = np.where(said & (below > 0), (low - values) * below, 0)
    return np.stack([np.stack([np.log1p(stake * side).sum(axis=0) for stake in STAKES], axis=1) for side in (up, down)])

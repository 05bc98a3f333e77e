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

import msgspec
import numpy as np

STAKES = (0.05, 0.25, 0.8)  # of the wealth that the worst x would take
MOST = 1e200  # beyond it nothing more is to be proved, and floats end
MEMORY = 400.0  # rows after which an old one counts for a half in `recent`


class Tolerance(msgspec.Struct, frozen=True):
    """What means are allowed, [K] each; NaN where nothing is claimed."""

    low: list[float]
    high: list[float]


class Evidence(msgspec.Struct):
    """What has been seen of one series so far.

    Attributes:
        wealth: float [2 * K * len(STAKES)], of bets on "above", then on "below".
        total: [K], sums of all rows. rows: Ever counted.
        days: On which bets have begun. day: The last of them, counted from the epoch.
        recent, weight: [K], sums in which old rows fade, and what they are sums over.
    """

    wealth: list[float]
    total: list[float]
    recent: list[float]
    weight: list[float]
    days: int = 0
    day: int = -1
    rows: int = 0

    @classmethod
    def none(cls, components: int) -> "Evidence":
        """Before anything was seen."""
        zeros = [0.0] * components
        return cls([0.0] * (2 * components * len(STAKES)), zeros, zeros, zeros)

    def value(self) -> float:
        """The e-value: 1 at the start, large where the tolerance is left."""
        return 1 / (self.days + 1) + math.fsum(self.wealth) / max(len(self.wealth), 1)

    def means(self) -> np.ndarray:
        """The recent mean of each component, float64 [K]; NaN where nothing was seen."""
        weight = np.array(self.weight)
        return np.divide(self.recent, weight, out=np.full(len(weight), np.nan), where=weight > 0)

    def see(self, values: np.ndarray, tolerance: Tolerance | None, *, day: int) -> None:
        """Take in rows of a day, float64 [n, K] in [0, 1], NaN where one says nothing; no tolerance: nobody bets."""
        k = len(self.total)
        said = ~np.isnan(values)
        values = np.where(said, values, 0.0)
        self.rows += int(said.any(axis=1).sum())
        fade = 0.5 ** (said[::-1].cumsum(axis=0)[::-1] / MEMORY)
        whole = 0.5 ** (said.sum(axis=0) / MEMORY)
        for name, now in (("recent", values), ("weight", said)):
            setattr(self, name, (np.array(getattr(self, name)) * whole + (now * fade).sum(axis=0)).tolist())
        self.total = (np.array(self.total) + values.sum(axis=0)).tolist()
        if tolerance is None:
            return
        wealth = np.array(self.wealth).reshape(2, k, len(STAKES))
        if day != self.day:
            self.days, self.day = self.days + 1, day
            wealth += 1 / (self.days * (self.days + 1))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            grown = np.minimum(np.log(wealth) + _growth(values, said, tolerance), math.log(MOST))
            self.wealth = np.exp(grown).ravel().tolist()

    def forget(self) -> None:
        """An alarm is over: what was won is gone, and bets begin anew with the days that are left."""
        self.wealth = [0.0] * len(self.wealth)


def _growth(values: np.ndarray, said: np.ndarray, tolerance: Tolerance) -> np.ndarray:
    """The logarithm by which each bet grows, float64 [2, K, STAKES]; 0 where none can be made."""
    high, low = np.array(tolerance.high), np.array(tolerance.low)
    above = np.divide(1, high, out=np.zeros(len(high)), where=(high > 0) & (high < 1))
    below = np.divide(1, 1 - low, out=np.zeros(len(low)), where=(low > 0) & (low < 1))
    up = np.where(said & (above > 0), (values - high) * above, 0)
    down = np.where(said & (below > 0), (low - values) * below, 0)
    return np.stack([[np.log1p(stake * side).sum(axis=0) for stake in STAKES] for side in (up, down)]).transpose(
        0, 2, 1
    )

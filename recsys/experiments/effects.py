"""What a variant changes: the difference of two ratios over users, with intervals, before and after CUPED.

Users are what is drawn, so users are what is counted: lists of one user are no independent draws. A rate is a sum over
lists divided by lists, and its variance is that of each user's surplus over the rate.

Sources: the delta method: Deng, Knoblich, Lu, "Applying the Delta Method in Metric Analytics", KDD 2018. CUPED, which
takes away what could be known of a user before: Deng, Xu, Kohavi, Walker, "Improving the Sensitivity of Online
Controlled Experiments by Utilizing Pre-Experiment Data", WSDM 2013.
"""

from dataclasses import dataclass

import numpy as np

from recsys.experiments.sequential import fixed_half_width, half_width


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The users of one variant.

    Attributes:
        total: float64 [u], the sum of the metric over a user's lists. weight: float64 [u], what it is divided by: their
            number, or 1 where the metric is one of users.
        before: float64 [u], something of each user that was settled before the experiment began.
    """

    total: np.ndarray
    weight: np.ndarray
    before: np.ndarray

    def __len__(self) -> int:
        return len(self.total)

    def rate(self) -> float:
        """The ratio; NaN without users."""
        return float(self.total.sum() / self.weight.sum()) if self.weight.sum() > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class Effect:
    """A difference of rates, treatment less control.

    Attributes:
        control, treatment: The rates. users: Of both sides. difference: After CUPED.
        low, high: In which the true difference lies with probability 1 - alpha at all times together.
        fixed_low, fixed_high: In which it lies at this moment, for who had fixed it beforehand.
        explained: Share of the variance that CUPED took away.
    """

    control: float
    treatment: float
    users: int
    difference: float
    low: float
    high: float
    fixed_low: float
    fixed_high: float
    explained: float

    @property
    def relative(self) -> tuple[float, float, float]:
        """Difference, low and high as shares of the control's rate; NaN where that is 0."""
        by = self.control or float("nan")
        return self.difference / by, self.low / by, self.high / by


def effect(control: Side, treatment: Side, *, planned: int, alpha: float = 0.05) -> Effect:
    """What the treatment does to a rate.

    Args:
        planned: As in `sequential.half_width`.
    """
    users = len(control) + len(treatment)
    if min(len(control), len(treatment)) < 2 or not min(control.weight.sum(), treatment.weight.sum()):
        nan, inf = float("nan"), float("inf")
        return Effect(control.rate(), treatment.rate(), users, nan, -inf, inf, -inf, inf, 0.0)
    sides = (control, treatment)
    surplus = [(one.total - one.rate() * one.weight) / one.weight.mean() for one in sides]
    plain = sum(_variance_of_mean(one) for one in surplus)
    theta = _slope(np.concatenate(surplus), np.concatenate([one.before - one.before.mean() for one in sides]))
    shift = theta * float(treatment.before.mean() - control.before.mean())
    left = [one - theta * (side.before - side.before.mean()) for one, side in zip(surplus, sides, strict=True)]
    variance = sum(_variance_of_mean(one) for one in left)
    difference = treatment.rate() - control.rate() - shift
    # The variance of a small side is the last to be known: a hundred users without a purchase seem to have none. So
    # whoever looks always takes the larger of the two for both; else rare clicks of a 1 % canary were surely fewer in
    # a quarter of experiments without any difference.
    largest = max(float(one.var(ddof=1)) for one in left)
    cautious = sum(largest / len(one) for one in left)
    fewest = min(len(one) for one in sides)
    wide = half_width(cautious, users, planned=planned, alpha=alpha, fewest=fewest)
    fixed = fixed_half_width(variance, alpha=alpha)
    return Effect(
        control.rate(),
        treatment.rate(),
        users,
        difference,
        difference - wide,
        difference + wide,
        difference - fixed,
        difference + fixed,
        1 - variance / plain if plain else 0.0,
    )


def _variance_of_mean(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) / len(values)


def _slope(values: np.ndarray, before: np.ndarray) -> float:
    """Least squares of one on the other, 0 where nothing was known before."""
    spread = float(before @ before)
    return float(before @ values) / spread if spread else 0.0

"""Intervals and tests that hold at every moment at once: whoever looks daily, or always, is still wrong in alpha of all
experiments at most.

Sources: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 52(6), 2024, theorem 2.2; the same mixture as Johari, Koomen, Pekelis, Walsh, "Always
Valid Inference: Continuous Monitoring of A/B Tests", Operations Research 70(3), 2022. Counts: Lindon, Malek,
"Anytime-Valid Inference for Multinomial Count Data", NeurIPS 2022.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

NORMAL = NormalDist()
LEAST = 100  # users of a side before anything is said: the intervals are asymptotic
PRIOR = 100.0  # pseudo-users of the prior on shares, spread as the shares should be


def half_width(variance: float, users: int, *, planned: int, alpha: float, fewest: int | None = None) -> float:
    """Half the width of the interval around an estimate, valid whenever one looks.

    Args:
        variance: Of the estimate, from these users; it falls as 1 / users.
        planned: Users at which the interval is to be tightest. It is valid at any other number, and a bit wider.
        alpha: Probability that the truth is ever outside.
        fewest: Users of the smaller side; half of all where it is not given.
    Returns:
        Infinity below LEAST users of a side.
    """
    if (users // 2 if fewest is None else fewest) < LEAST or not math.isfinite(variance):
        return math.inf
    log = -2 * math.log(alpha)
    ratio = (log + math.log(log + 1)) * users / planned
    return math.sqrt(variance * 2 * (ratio + 1) / ratio * (math.log(ratio + 1) / 2 - math.log(alpha)))


def fixed_half_width(variance: float, *, alpha: float) -> float:
    """Half the width of the interval for who looks once, at a number of users that was fixed before."""
    return NORMAL.inv_cdf(1 - alpha / 2) * math.sqrt(variance)


def users_for(effect: float, deviation: float, *, alpha: float, power: float) -> int:
    """Users of both sides that a test with one look at the end needs: the textbook's number, to compare with."""
    z = NORMAL.inv_cdf(1 - alpha / 2) + NORMAL.inv_cdf(power)
    return math.ceil(2 * 2 * (z * deviation / effect) ** 2)


def mismatch(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The largest probability with which such counts, or stranger ones, would ever come of these shares.

    The inverse of the Bayes factor of any shares against these: small means that users were not drawn as they should
    have been, and no figure of the experiment is to be believed. It may be looked at again and again.

    Args:
        counts: Users by variant. shares: As wanted, positive, adding up to 1.
    """
    prior = [PRIOR * share for share in shares]
    after = [count + one for count, one in zip(counts, prior, strict=True)]
    log_factor = math.lgamma(sum(prior)) - math.lgamma(sum(after))
    log_factor += sum(math.lgamma(one) - math.lgamma(other) for one, other in zip(after, prior, strict=True))
    log_factor -= sum(count * math.log(share) for count, share in zip(counts, shares, strict=True))
    return min(1.0, math.exp(-float(log_factor))) if log_factor < 700 else 0.0

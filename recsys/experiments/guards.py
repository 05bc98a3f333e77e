"""What a new bundle must not do to users while it is rolled out: a verdict on its outcomes beside the champion's.

A guard that is sure that something is worse, sends the bundle back. Being sure is by intervals that hold whenever one
looks, each of each step with its part of ALPHA: a bundle that is no worse is sent back in ALPHA of rollouts at most.
"""

from dataclasses import dataclass

from recsys.experiments.outcomes import METRICS, WORSE_IF_MORE, Outcomes
from recsys.experiments.sequential import LEAST

ALPHA = 0.05
PLANNED = 5_000  # users at which intervals are tightest
SLOWER_MS = 5.0  # tolerated
DEGRADED = 0.001  # share of lists, tolerated
LOPSIDED = 0.001  # of users by variant: below it they were not drawn as they should have been
COVERAGE, COVERAGE_USERS = 0.75, 200  # of the items that the champion shows as many users; no interval, so far below 1
NAMES = {
    "clicked": "lists clicked",
    "converted": "lists liked or bought from",
    "value": "value per user",
    "degraded": "degraded lists",
    "latency_ms": "milliseconds of computation",
}
TOLERATED = {"degraded": DEGRADED, "latency_ms": SLOWER_MS}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What guards found.

    Attributes:
        broken: Each guard that is sure, in a sentence with its figures; empty: go on.
        users, lists: Of control and bundle.
        seen: All figures, a sentence each, for who wants to look.
    """

    broken: tuple[str, ...]
    users: tuple[int, int]
    lists: tuple[int, int]
    seen: tuple[str, ...]


def judge(outcomes: Outcomes, share: float, *, alpha: float = ALPHA) -> Verdict:
    """A verdict on variant 1 beside the control.

    Args:
        share: Of users that are to be in variant 1, 0 to 1.
    """
    broken, seen = [], []
    for metric in METRICS:
        one = outcomes.effect(metric, 1, planned=PLANNED, alpha=alpha / len(METRICS))
        sentence = (
            f"{NAMES[metric]}: {_figure(one.treatment)} instead of {_figure(one.control)}, difference "
            f"{one.difference:+.4g} [{one.low:+.4g}, {one.high:+.4g}]"
        )
        seen.append(sentence)
        is_worse = one.low > TOLERATED[metric] if metric in WORSE_IF_MORE else one.high < 0
        if is_worse:
            broken.append(sentence)
    users, lists = outcomes.users(), outcomes.shown()
    if 0 < share < 1:
        chance = outcomes.mismatch([1 - share, share])
        seen.append(f"users {users[0]:,} and {users[1]:,}, {share:.2%} wanted: probability {chance:.2g}")
        if chance < LOPSIDED:
            broken.append(seen[-1])
    if min(users) < LEAST:
        seen.append(f"below {LEAST} users of a side nothing but who was drawn is judged")
    coverage = outcomes.coverage(1)
    if min(users) >= COVERAGE_USERS:
        seen.append(f"different items: {coverage:.0%} of what the champion shows as many users")
        if coverage < COVERAGE:
            broken.append(seen[-1])
    return Verdict(tuple(broken), (users[0], users[1]), (lists[0], lists[1]), tuple(seen))


def _figure(value: float) -> str:
    return f"{value:.4g}"

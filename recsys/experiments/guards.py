"""What a new bundle must not do to users while it is rolled out: a verdict on its outcomes beside the champion's.

A guard that is sure that something is worse, sends the bundle back. Being sure is by intervals that hold whenever one
looks, each of each step with its part of ALPHA: a bundle that is no worse is sent back in ALPHA of rollouts at most.

No guard broken is no proof: of a hundred users nobody can tell. So a bundle is not fit to be champion before it is sure
that lists clicked are not fewer by more than a margin: one that is so much worse is taken for fit in ALPHA of rollouts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recsys.experiments.effects import Effect
from recsys.experiments.margin import MARGIN
from recsys.experiments.outcomes import METRICS, SLOW_MS, WORSE_IF_MORE, Outcomes
from recsys.experiments.sequential import LEAST, half_width
from recsys.experiments.spread import FIRST_LOOK, Coverage, coverage, head_share

ALPHA = 0.05
PLANNED = 5_000  # users at which intervals are tightest
SLOWER_MS = 5.0  # tolerated
DEGRADED = 0.001  # share of lists, tolerated
SLOW = 0.01  # of lists that take more than SLOW_MS: so many more are tolerated
STRANGE = 0.05  # of lists with scores that the bundle had for none of its validation: so many more are tolerated
LOPSIDED = 0.001  # of users by variant: below it they were not drawn as they should have been
COVERAGE = 0.75  # of the items that the champion shows as many users: how few are tolerated
LOST = 0.10  # of its users who are not seen at all: so many are tolerated when it is to have all
HEAD_MORE = 0.15  # of a list: how much more of it may be of the champion's most shown items
UNCHANGED = 0.10  # of lists: how many more may be just those that their user got before
NAMES = {
    "clicked": "lists clicked",
    "converted": "lists liked or bought from",
    "value": "value per user",
    "changed": "lists that changed",
    "degraded": "degraded lists",
    "latency_ms": "milliseconds of computation",
    "slow": f"lists slower than {SLOW_MS:g} ms",
    "strange": "lists with scores out of range",
}
TOLERATED = {"degraded": DEGRADED, "latency_ms": SLOWER_MS, "slow": SLOW, "strange": STRANGE, "changed": UNCHANGED}
GUARDS = len(METRICS) + 2  # with the head and the different items: each has its part of alpha


@dataclass(frozen=True, slots=True)
class Verdict:
    """What guards found.

    Attributes:
        broken: Each guard that is sure, in a sentence with its figures; empty: go on.
        users, lists: Of control and bundle.
        seen: All figures, a sentence each, for who wants to look.
        unsettled: What has to be known better before the bundle may have all users, a sentence each.
    """

    broken: tuple[str, ...]
    users: tuple[int, int]
    lists: tuple[int, int]
    seen: tuple[str, ...]
    unsettled: tuple[str, ...] = ()


def judge(outcomes: Outcomes, share: float, *, alpha: float = ALPHA, margin: float = MARGIN) -> Verdict:
    """A verdict on variant 1 beside the control.

    Args:
        share: Of users that are to be in variant 1, 0 to 1.
        margin: How many fewer of the control's clicked lists are tolerated, as a share of them; 1: any number.
    """
    part = alpha / GUARDS
    effects = {metric: outcomes.effect(metric, 1, planned=PLANNED, alpha=part) for metric in METRICS}
    found = [_of_metric(metric, one) for metric, one in effects.items()]
    found.append(_of_head(head_share(outcomes, 1, planned=PLANNED, alpha=part)))
    users, lists = outcomes.users(), outcomes.shown()
    if 0 < share < 1:
        chance = outcomes.mismatch([1 - share, share])
        drawn = f"users {users[0]:,} and {users[1]:,}, {share:.2%} wanted: probability {chance:.2g}"
        found.append((drawn, chance < LOPSIDED))
    if min(users) < LEAST:
        found.append((f"below {LEAST} users of a side nothing but who was drawn is judged", False))
    spread = coverage(outcomes, 1, alpha=part)
    if spread.users >= FIRST_LOOK:
        items = f"{spread.ratio:.0%} [{spread.low:.0%}, {spread.high:.0%}] of what the champion shows"
        found.append((f"different items: {items}, the first {spread.users:,} users of each", spread.high < COVERAGE))
    broken = tuple(sentence for sentence, is_broken in found if is_broken)
    unsettled = []
    if margin < 1:
        unsettled = [*_clicks_unsettled(outcomes, margin), *_items_unsettled(spread), *_users_unsettled(users, share)]
    seen = tuple(sentence for sentence, _ in found)
    return Verdict(broken, (users[0], users[1]), (lists[0], lists[1]), seen, tuple(unsettled))


def _clicks_unsettled(outcomes: Outcomes, margin: float) -> list[str]:
    """One side of an interval, so of twice ALPHA."""
    worst = outcomes.effect("clicked", 1, planned=PLANNED, alpha=2 * ALPHA).relative[1]
    if worst >= -margin:
        return []
    may = f"may be {min(1.0, -worst):.1%} fewer" if math.isfinite(worst) else "may be any number fewer"
    return [f"lists clicked {may}, as far as is known; {margin:.1%} are tolerated"]


def _items_unsettled(spread: Coverage) -> list[str]:
    if spread.low >= COVERAGE:
        return []
    return [f"different items may be {spread.low:.0%} of the champion's, as far as is known; {COVERAGE:.0%} are wanted"]


def _users_unsettled(users: Sequence[int], share: float) -> list[str]:
    """One side of an interval around the share of users who are in the bundle."""
    if not 0 < share < 1 or not sum(users):
        return []
    drawn = users[1] / sum(users)
    wide = half_width(drawn * (1 - drawn) / sum(users), sum(users), planned=PLANNED, alpha=2 * ALPHA, fewest=min(users))
    low = max(0.0, drawn - wide)
    lost = 1 - low / (1 - low) * (1 - share) / share
    if lost <= LOST:
        return []
    return [f"{lost:.0%} of its users may never arrive, as far as is known; {LOST:.0%} are tolerated"]


def _of_metric(metric: str, one: Effect) -> tuple[str, bool]:
    """A sentence, and whether the guard is broken."""
    tolerated = TOLERATED.get(metric, 0.0)
    is_worse = one.low > tolerated if metric in WORSE_IF_MORE else one.high < -tolerated
    return _sentence(NAMES[metric], one), is_worse


def _of_head(one: Effect) -> tuple[str, bool]:
    return _sentence("share of the most shown items", one), one.low > HEAD_MORE


def _sentence(name: str, one: Effect) -> str:
    return (
        f"{name}: {_figure(one.treatment)} instead of {_figure(one.control)}, difference "
        f"{one.difference:+.4g} [{one.low:+.4g}, {one.high:+.4g}]"
    )


def _figure(value: float) -> str:
    return f"{value:.4g}"

"""Whether a challenger is worth the change: it passes every line of the gate, and is surely better than the champion.

The gate alone lets through what is no worse. Each change of the champion costs users some of what they know, and of
many challengers that are no better some pass it by luck and are a little worse: retraining often would wander downhill.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from recsys.evaluation.gate import Line

Outcome = Literal["better", "no better", "refused"]


@dataclass(frozen=True, slots=True)
class Worth:
    """A verdict and its reason, for people, with figures."""

    outcome: Outcome
    reason: str


def worth(lines: Sequence[Line]) -> Worth:
    """The verdict on a challenger, from the lines of its gate; where there is no champion, it need not be better."""
    if failed := [one for one in lines if not one.passed]:
        return Worth("refused", "; ".join(f"{one.name}: {one.found}, wanted {one.wanted}" for one in failed))
    beside = [one for one in lines if one.difference is not None]
    if not beside:
        return Worth("better", "there is no champion to be compared with, and every line of the gate is met")
    if behind := [one for one in beside if one.difference is not None and one.difference.low <= 0]:
        return Worth("no better", "; ".join(f"{one.name}: {one.found}" for one in behind))
    return Worth("better", "; ".join(f"{one.name}: {one.found}" for one in beside))

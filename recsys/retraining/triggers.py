"""What starts a training: harmful drift, as much new data as matters, or time."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["drift", "volume", "schedule", "asked"]


@dataclass(frozen=True, slots=True)
class Policy:
    """When training is due.

    Attributes:
        every_s: After so long it is, if anything is new.
        share: Of the events that the last one saw: so many new ones are reason enough.
        least: Fewer new events are never reason enough: a day without users teaches nothing.
        rest_s: Between two of them at least, whatever the reason, unless somebody asks.
    """

    every_s: float = 86_400.0
    share: float = 0.1
    least: int = 1_000
    rest_s: float = 3_600.0


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why a training began: `detail` is for people, with figures."""

    kind: Kind
    detail: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to judge by.

    Attributes:
        since_s: Since the last training began, whatever came of it; None: there was none.
        known, new: Events that the last one saw, and those that came after.
        harmful: What drifts so that lists may be worse for it, in words.
    """

    since_s: float | None
    known: int
    new: int
    harmful: tuple[str, ...] = ()


def due(policy: Policy, seen: Seen) -> Trigger | None:
    """Why training is due; None: it is not."""
    if seen.new < policy.least or (seen.since_s is not None and seen.since_s < policy.rest_s):
        return None
    if seen.harmful:
        return Trigger("drift", f"{'; '.join(seen.harmful)}; {seen.new:,} new events")
    if seen.new >= policy.share * seen.known:
        return Trigger("volume", f"{seen.new:,} new events, the last training saw {seen.known:,}")
    if seen.since_s is None or seen.since_s >= policy.every_s:
        last = "there was none before" if seen.since_s is None else f"the last began {seen.since_s / 3600:.1f} h ago"
        return Trigger("schedule", f"{last}; {seen.new:,} new events")
    return None


def not_due(policy: Policy, seen: Seen) -> str:
    """Why training is not due, for people."""
    if seen.new < policy.least:
        return f"{seen.new:,} new events; fewer than {policy.least:,} are never reason enough"
    since_s = seen.since_s or 0.0
    if since_s < policy.rest_s:
        return f"the last training began {since_s / 60:.0f} min ago, and {policy.rest_s / 60:.0f} min lie between two"
    enough = policy.share * seen.known
    return (
        f"{seen.new:,} new events of {enough:,.0f} that are reason enough, no harmful drift, and the next is due by "
        f"time in {(policy.every_s - since_s) / 3600:.1f} h"
    )

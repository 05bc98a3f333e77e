"""A simulated service as the monitor sees it: hours of `served` as hours of `monitoring`, day after day."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recsys.monitoring.alarms import Alarm, alarms_of
from recsys.monitoring.causes import Cause, causes
from recsys.monitoring.hours import Hour, Outcomes, examined, series_of
from recsys.monitoring.measured import HEAD, measure
from recsys.monitoring.reference import Reference
from recsys.monitoring.series import rising_of, shelf_of
from recsys.monitoring.watch import Watcher, new_watch
from recsys.simulation.hours import ServedHour
from recsys.simulation.served import Served

SETTLE = 24  # hours from the first alarm to the name: so that what belongs together can show


@dataclass(frozen=True, slots=True, eq=False)
class Noticed:
    """What the monitor said first.

    Attributes:
        hours, lists, events: Until the first alarm; lists are all that were asked for.
        alarms, causes: SETTLE hours later.
    """

    hours: int
    lists: int
    events: int
    alarms: list[Alarm]
    causes: list[Cause]


def watcher_of(reference: Reference, before: Watcher | None = None) -> Watcher:
    """One that has seen nothing. before: Of the bundle that served until now."""
    return Watcher(new_watch("simulated", None if before is None else before.watch()), reference)


def seen(hour: ServedHour, served: Served, reference: Reference) -> Hour:
    """An hour as read from records and events."""
    b = len(hour.shown)
    measured = None
    if hour.batch is not None and hour.world is not None:
        measured = measure(hour.world, hour.batch, diversity=reference.diversity)
    return Hour(
        start_s=hour.start_s,
        requests=hour.requests,
        measured=measured,
        placement=np.array(["default"] * b),
        outcomes=Outcomes(hour.clicked[:, :HEAD], np.minimum(hour.shown, HEAD)),
        item_age_s=np.full(b, hour.item_age_s),
        state_age_s=np.zeros(b),
        event_user=hour.user,
        event_item=served.row_of[hour.item],
        event_verb=hour.verb,
        rising=None if hour.world is None else rising_of(hour.world.bundle, hour.world.item_stats),
    )


def looking(served: Served, reference: Reference, watcher: Watcher) -> Callable[[ServedHour], None]:
    """Shows hours to a watcher, as long as this bundle answers."""
    assert served.world is not None
    bundle = served.world.bundle
    shelf, examination = shelf_of(bundle), examined(reference.examination)

    def look(hour: ServedHour) -> None:
        series = series_of(seen(hour, served, reference), bundle, reference.bins, shelf, examination)
        watcher.see(hour.start_s, series)

    return look


def watch(served: Served, reference: Reference, watcher: Watcher, *, start_s: int, hours: int) -> Noticed | None:
    """Serve and look every hour; what is said SETTLE hours after the first alarm, if there is one."""
    look = looking(served, reference, watcher)
    lists = events = 0
    first: tuple[int, int, int] | None = None
    for number, hour in enumerate(served.hours(start_s, hours + SETTLE), 1):
        look(hour)
        lists, events = lists + int(hour.requests.sum()), events + len(hour.user)
        if first is None and alarms_of(watcher):
            first = number, lists, events
        if number >= (hours if first is None else first[0] + SETTLE):
            break
    if first is None:
        return None
    alarms = alarms_of(watcher)
    return Noticed(*first, alarms, causes(alarms))

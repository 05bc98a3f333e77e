"""What a set of alarms looks like: the first of a few pictures that fits, then the next for what it leaves over.

Each picture says which alarms it needs and which others it explains. The order is that of what hides what: robots and
broken inputs also change tastes, a wave of new users also changes what is popular, and only what none of them explains
is a change of taste.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import NamedTuple

import msgspec

from recsys.monitoring.alarms import Alarm
from recsys.monitoring.bins import ABOVE, BELOW, DEFAULT, MISSING
from recsys.monitoring.segments import ALL
from recsys.monitoring.series import SCORE
from recsys.monitoring.watch import FRESH

IDLE, ACTIVITY = "user_log_idle_s", "user_log_activity_1h"  # features of when a user last did something


class Remedy(StrEnum):
    """What helps."""

    REPAIR = "repair"  # an input is wrong; a model trained on it would be wrong as well
    BLOCK = "block"  # who is not meant to be served
    RETRAIN = "retrain"
    WATCH = "watch"  # nothing is worse for it yet


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """What alarms look like.

    Attributes:
        subject: Of it, such as the features. why: The evidence in words.
        since_s: When the last of the alarms came on that it explains, of the harmful ones if there are any, UTC epoch
            seconds; 0 where no alarm is needed.
    """

    name: str
    subject: str
    why: str
    remedy: Remedy
    harmful: bool
    since_s: int = 0


class Aged(NamedTuple):
    """Data that end long before the lists. days: How long. components: The last ones that idle times lie in."""

    days: float
    components: tuple[str, ...]


Picture = Callable[[Sequence[Alarm]], tuple[Cause, Callable[[Alarm], bool]] | None]


def causes(alarms: Sequence[Alarm], aged: Aged | None = None) -> list[Cause]:
    """What alarms look like, the cause that hides others first. aged: Where the age of the data may be one."""
    found: list[Cause] = []
    left = list(alarms)
    pictures: tuple[Picture, ...] = (_bots, partial(_old, aged=aged), _broken, _wave, _shock, _taste, _other)
    for picture in pictures:
        if left and (seen := picture(left)):
            cause, explained = seen
            of = [one for one in left if explained(one)]
            since_s = max((one.since_s for one in [one for one in of if one.harmful] or of), default=0)
            found.append(msgspec.structs.replace(cause, since_s=since_s))
            left = [one for one in left if not explained(one)]
    return found


def _bots(alarms: Sequence[Alarm]) -> tuple[Cause, Callable[[Alarm], bool]] | None:
    busy = [one for one in alarms if one.kind == "traffic"]
    if not busy:
        return None
    why = f"{busy[0].now:.0%} of the lists are beyond one a minute of the user who asked for them, for hours"
    cause = Cause(name="bot traffic", subject="requests", why=why, remedy=Remedy.BLOCK, harmful=False)
    return (
        cause,
        lambda one: (
            one.kind in ("traffic", "events", "quality") or (one.kind == "feature" and one.subject.startswith("item_"))
        ),
    )


def _old(alarms: Sequence[Alarm], *, aged: Aged | None) -> tuple[Cause, Callable[[Alarm], bool]] | None:
    """Everybody comes back after as long as hardly anybody was away in training."""
    features = [one for one in alarms if one.kind == "feature" and one.now > one.usual]
    if aged is None or not any(one.subject == IDLE and one.component in aged.components for one in features):
        return None
    why = f"what was learnt ends {aged.days:,.0f} days ago, and since then those who are asked for did nothing"
    cause = Cause(name="old data", subject=IDLE, why=why, remedy=Remedy.RETRAIN, harmful=True)
    of = [(IDLE, one) for one in aged.components] + [(ACTIVITY, DEFAULT)]
    return cause, lambda one: one in features and (one.subject, one.component) in of


def _broken(alarms: Sequence[Alarm]) -> tuple[Cause, Callable[[Alarm], bool]] | None:
    wave = any(one.kind == "users" for one in alarms)
    bad = [one for one in alarms if one.harmful and one.kind in ("feature", FRESH, SCORE)]
    if wave:  # new users look like features without values among all users, and not within a segment
        bad = [one for one in bad if one.kind == FRESH or one.component == MISSING or one.segment != ALL]
    if not bad:
        return None
    how = {MISSING: "missing values", DEFAULT: "missing values", ABOVE: "other units", BELOW: "other units"}
    of = [one for one in bad if one.kind != SCORE] or bad  # scores are made of features
    worst = max(of, key=lambda one: one.now)
    kind = "frozen" if worst.kind == FRESH else how.get(worst.component, "frozen")
    subject = ", ".join(dict.fromkeys(one.subject for one in of))
    why = f"{kind}: {worst.sentence()}"
    cause = Cause(name="broken feature", subject=subject, why=why, remedy=Remedy.REPAIR, harmful=True)
    return cause, lambda one: one.kind in ("feature", FRESH, "score", "list", "source", "quality")


def _wave(alarms: Sequence[Alarm]) -> tuple[Cause, Callable[[Alarm], bool]] | None:
    users = [one for one in alarms if one.kind == "users" and (one.component == "new") == (one.now > one.usual)]
    if not users:
        return None
    why = f"{users[0].sentence()}; within segments less has changed"
    cause = Cause(name="new-user wave", subject="users", why=why, remedy=Remedy.WATCH, harmful=False)
    return cause, lambda one: one.segment == ALL or one.segment == "new" or one.kind == "events"


def _shock(alarms: Sequence[Alarm]) -> tuple[Cause, Callable[[Alarm], bool]] | None:
    events = [one for one in alarms if one.kind == "events" and one.subject in ("popularity", "rising")]
    items = [one for one in alarms if one.kind == "feature" and one.subject.startswith("item_")]
    if not events:
        return None
    seen = "; ".join(one.sentence() for one in (*events, *items[:2]))
    why = f"other items than those of training are met: {seen}"
    cause = Cause(name="popularity shock", subject="items", why=why, remedy=Remedy.RETRAIN, harmful=_worse(alarms))
    return cause, lambda _: True


def _taste(alarms: Sequence[Alarm]) -> tuple[Cause, Callable[[Alarm], bool]] | None:
    quality = [one for one in alarms if one.kind == "quality" and one.harmful]
    cross = [one for one in alarms if one.kind == "feature" and one.subject.startswith("cross_")]
    if not quality and not cross:
        return None
    first = (quality or cross)[0]
    same = "inputs are sound, users and items are of the same kinds"
    why = f"what users did says less of what they want: {first.sentence()}; {same}"
    cause = Cause(name="taste drift", subject="users", why=why, remedy=Remedy.RETRAIN, harmful=bool(quality))
    return cause, lambda one: one.kind in ("quality", "score", "list", "source") or one.subject.startswith("cross_")


def _other(alarms: Sequence[Alarm]) -> tuple[Cause, Callable[[Alarm], bool]] | None:
    subject = ", ".join(dict.fromkeys(one.name for one in alarms))
    why = f"it looks like nothing that has a name here: {alarms[0].sentence()}"
    cause = Cause(name="other drift", subject=subject, why=why, remedy=Remedy.WATCH, harmful=_worse(alarms))
    return cause, lambda _: True


def _worse(alarms: Sequence[Alarm]) -> bool:
    return any(one.kind == "quality" and one.harmful for one in alarms)

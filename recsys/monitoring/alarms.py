"""Alarms: series that have left their tolerance, as values for whoever acts on them."""

import msgspec

from recsys.monitoring.bins import ABOVE, BELOW, DEFAULT, MISSING
from recsys.monitoring.segments import ALL, SEGMENTS
from recsys.monitoring.watch import FRESH, Watcher

CONSTANT = 0.98  # of the cells, in one bin
BROKEN_SHARE = 0.1  # of the cells, in which a value is missing or out of range


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A series that has left its tolerance.

    Attributes:
        kind, subject, segment: Its name. since_s: When evidence was enough, UTC epoch seconds.
        evidence: The e-value: how many times as likely what was seen is under a bet as where nothing has changed.
        component: What moved most; `usual` and `now` are its means, of some 300 rows.
        harmful: Whether lists are worse, or made of what is wrong; else only other people or other items are there.
    """

    kind: str
    subject: str
    segment: str
    since_s: int
    evidence: float
    component: str
    usual: float
    now: float
    harmful: bool

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind} {self.subject}" + ("" if self.segment == ALL else f" ({self.segment})")

    def sentence(self) -> str:
        """What moved, and how far."""
        return f"{self.name}: {self.component} {self.usual:.3g} -> {self.now:.3g}"


def alarms_of(watcher: Watcher) -> list[Alarm]:
    """The alarms that are on, those of the most evidence first."""
    found = []
    for key, one in watcher.series.items():
        tolerance = watcher.tolerance(key)
        if not one.since_s or tolerance is None or one.moved not in one.components:
            continue
        place = one.components.index(one.moved)
        now = float(watcher.evidence.means(one.of)[place])
        worse = key.kind == "quality" and not one.up
        found.append(
            Alarm(
                kind=key.kind,
                subject=key.subject,
                segment=key.segment,
                since_s=one.since_s,
                evidence=watcher.evidence.value(one.of),
                component=one.moved,
                usual=float(tolerance.usual[place]),
                now=now,
                harmful=worse or is_broken(key.kind, one.moved, one.up, now, key.segment),
            )
        )
    return sorted(found, key=lambda one: -one.evidence)


def is_broken(kind: str, component: str, up: bool, now: float, segment: str = ALL) -> bool:
    """Whether a change is that of something broken rather than of something else that happens.

    Values that are missing or out of range, a feature that has become a constant, inputs that are stale. The default of
    a feature is what new users have: a constant of it is broken only for those of whom something is known.
    """
    if kind == FRESH:
        return True
    lost = component == MISSING or (kind == "feature" and component in (BELOW, ABOVE))
    constant = kind == "feature" and now >= CONSTANT and (component != DEFAULT or segment in SEGMENTS[1:])
    return up and ((lost and now >= BROKEN_SHARE) or constant)

"""Lists and events as they come, put down to users: what outcomes and preferences are made from.

It reads on: told of more, it knows more, and forgets lists of which nothing more can come. An event counts for a list
that it names and that has its item, where it happened within a window after it, and arrived within LATE_S after that;
so what is known depends on what there was to read, and not on how often it was read.
"""

from array import array
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from recsys.experiments.outcomes import METRICS, SLOW_MS, Outcomes
from recsys.experiments.preferences import CREDITS, Preferences
from recsys.vocabulary import item_key

EARLY_MS = 60_000  # clients' clocks may be a minute early
LATE_S = 3_600  # after the window, in which an event of it may still arrive
UNMATCHED_MS = 60_000  # an event may be read so long before the record of its list


def in_time(shown_ms: int, happened_ms: int, window_s: float) -> bool:
    """Whether an event is put down to a list that was shown before it."""
    return -EARLY_MS <= happened_ms - shown_ms <= window_s * 1000


class Shown(NamedTuple):
    """A list as it was answered.

    Attributes:
        variant: Its place. time_ms: UTC epoch milliseconds. took_ms: Of computation.
        strange: Its scores are out of the range of its bundle's own.
        team: Of an interleaved list, whose credit each item is, as `interleaving.Draft.team`; else none.
    """

    id: str
    user: str
    variant: int
    time_ms: int
    items: Sequence[str]
    degraded: bool
    took_ms: float
    team: Sequence[int] = ()
    strange: bool = False


class Happened(NamedTuple):
    """An event. list_id: That it came from; None: from none. arrived_ms, happened_ms: UTC epoch milliseconds."""

    user: str
    item: str
    list_id: str | None
    arrived_ms: int
    happened_ms: int
    clicked: bool
    converted: bool
    value: float


@dataclass(slots=True)
class _User:
    variant: int
    first: Sequence[str]
    totals: list[float] = field(default_factory=lambda: [0.0] * len(METRICS))
    lists: int = 0
    last: Sequence[str] = ()
    credit: list[float] = field(default_factory=lambda: [0.0] * (2 * len(CREDITS)))


@dataclass(slots=True)
class _Open:
    """A list of which something may still come; there are as many as an hour has lists, so most hold nothing else.

    Attributes:
        items: 32 bits of the fingerprint of each: 4 bytes instead of 60.
        team: Of each item; None where it is not interleaved. done: What counted already; None where nothing did.
    """

    user: _User
    time_ms: int
    items: bytes
    team: dict[str, int] | None = None
    done: set[tuple[int, str]] | None = None


class Tally:
    """What came of the lists of some variants.

    Args:
        variants: Their names, the control first.
        earliest_ms, began_ms: Events that arrived between these count as what users did before.
        window_s: After a list, in which what happens to its items is put down to it.
    """

    def __init__(self, variants: Sequence[str], *, earliest_ms: int, began_ms: int, window_s: float) -> None:
        self.variants = tuple(variants)
        self._earliest_ms, self._began_ms, self._window_ms = earliest_ms, began_ms, window_s * 1000
        self._users: dict[str, _User] = {}
        self._moved: set[str] = set()
        self._open: dict[str, _Open] = {}
        self._unmatched: deque[Happened] = deque()
        self._before: Counter[str] = Counter()

    def show(self, one: Shown) -> None:
        """A list; one that is known counts once."""
        if one.id in self._open or one.user in self._moved:
            return
        user = self._users.get(one.user)
        if user is None:
            user = self._users[one.user] = _User(one.variant, tuple(one.items))
        elif user.variant != one.variant:  # who was moved from one to another is in none
            self._moved.add(one.user)
            del self._users[one.user]
            return
        user.totals[METRICS.index("changed")] += user.lists > 0 and tuple(one.items) != user.last
        user.last = tuple(one.items)
        user.lists += 1
        user.totals[METRICS.index("degraded")] += one.degraded
        user.totals[METRICS.index("latency_ms")] += one.took_ms
        user.totals[METRICS.index("slow")] += one.took_ms > SLOW_MS
        user.totals[METRICS.index("strange")] += one.strange
        team = dict(zip(one.items, one.team, strict=True)) if one.team else None
        self._open[one.id] = _Open(user, one.time_ms, array("I", map(_bits, one.items)).tobytes(), team)

    def happen(self, one: Happened) -> None:
        """An event. Where its list is not known, it may yet be."""
        if self._earliest_ms <= one.arrived_ms < self._began_ms:
            self._before[one.user] += 1
        if one.list_id is not None and (one.clicked or one.converted) and not self._match(one):
            self._unmatched.append(one)

    def settle(self, now_ms: int) -> None:
        """Match events whose lists have come since; forget what nothing more can come of."""
        waiting = [one for one in self._unmatched if not self._match(one)]
        self._unmatched = deque(one for one in waiting if one.arrived_ms > now_ms - UNMATCHED_MS)
        closed = now_ms - self._window_ms - LATE_S * 1000 - UNMATCHED_MS
        # They came by time, but for moments.
        over = takewhile(lambda item: item[1].time_ms < closed, self._open.items())
        for identity in [identity for identity, _ in over]:
            del self._open[identity]

    def __len__(self) -> int:
        """Lists and events that are held: what memory grows with besides users."""
        return len(self._open) + len(self._unmatched)

    def users(self) -> list[int]:
        """By variant."""
        counts = Counter(user.variant for user in self._users.values())
        return [counts[place] for place in range(len(self.variants))]

    def outcomes(self) -> Outcomes:
        """One row for each user of one variant, in the order in which they came."""
        users = list(self._users.values())
        items: list[list[int]] = [[] for _ in self.variants]
        owners: list[list[int]] = [[] for _ in self.variants]
        for row, user in enumerate(users):
            items[user.variant].extend(item_key(item) >> 1 for item in user.first)  # 63 bits
            owners[user.variant].extend([row] * len(user.first))
        return Outcomes(
            self.variants,
            np.array([user.variant for user in users], np.int64),
            np.array([user.lists for user in users], np.float64),
            np.array([user.totals for user in users], np.float64).reshape(-1, len(METRICS)).T,
            np.array([self._before[user] for user in self._users], np.float64),
            *(tuple(np.array(one, np.int64) for one in of) for of in (items, owners)),
        )

    def preferences(self, names: tuple[str, str], alone: tuple[int, int]) -> Preferences:
        """One row for each user, of interleaved lists."""
        users = list(self._users.values())
        credit = np.array([user.credit for user in users], np.float64).reshape(-1, len(CREDITS), 2)
        return Preferences(
            names, np.array([user.lists for user in users], np.float64), credit.transpose(1, 2, 0), alone
        )

    def _match(self, event: Happened) -> bool:
        of = self._open.get(event.list_id or "")
        if of is None:
            return False
        if _bits(event.item) not in memoryview(of.items).cast("I"):  # of another list, or of none
            return True
        on_time = in_time(of.time_ms, event.happened_ms, self._window_ms / 1000)
        if not on_time or event.arrived_ms - of.time_ms > self._window_ms + LATE_S * 1000:
            return True
        team = of.team.get(event.item, -1) if of.team else -1
        done = of.done = of.done or set()
        for place, counts in enumerate((event.clicked, event.converted)):
            if not counts:
                continue
            if (place, "") not in done:  # of a list
                done.add((place, ""))
                of.user.totals[place] += 1
            if team >= 0 and (place, event.item) not in done:  # of an item
                done.add((place, event.item))
                of.user.credit[2 * place + team] += 1
        if event.converted:
            of.user.totals[METRICS.index("value")] += event.value
        return True


def _bits(item: str) -> int:
    return item_key(item) & 0xFFFFFFFF

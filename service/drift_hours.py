"""Decision records and events of some hours, as the monitor reads them: live features come from replaying records."""

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from recsys.errors import RecsysError
from recsys.experiments.tally import in_time
from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.user import UserStates
from recsys.monitoring.hours import Hour, Outcomes
from recsys.monitoring.measured import BATCH, HEAD, Measured, measure
from recsys.monitoring.reference import HOUR_S
from recsys.monitoring.series import rising_of
from recsys.types import World
from recsys.vocabulary import item_keys
from service.decisions import Decision
from service.errors import HttpError
from service.logged_events import LoggedEvent
from service.outcomes import CLICKED
from service.queries import Query, batch_of
from service.replay import query_of

SAMPLE = 300  # lists of an hour that are made again, of as many users
OUTCOME_S = 600  # within which a click is put down to a list
KNOWN_AFTER_MS = 60_000  # an event that is older than that should be in the states
SKEW_MS = 5_000  # between the clocks of a gateway and of the store


class Read:
    """Records and events of a stretch of time, counted; what cannot be used is told by its reason.

    Attributes:
        not_measured: Why records were not made again, and how many. unsound: Records with a score that is no number.
        newest_s: When each user of a list that was made again had last done anything, by their state; not of those who
            never did, nor of lists whose moment is none.
        skewed, received: Events whose gateway's clock and the store's disagree, of all.
    """

    def __init__(self, world_of: Callable[[Decision], World], bundle_world: World, diversity: float) -> None:
        self._world_of, self._world, self._diversity = world_of, bundle_world, diversity
        self._lists: dict[int, list[Decision]] = defaultdict(list)
        self._events: list[LoggedEvent] = []
        self.not_measured: Counter[str] = Counter()
        self.unsound = self.skewed = self.received = self.lists = self.events = 0
        self.distinct: set[str] = set()
        self.distinct_lists = 0
        self.newest_s: list[int] = []

    def add(self, record: Decision) -> None:
        """A record of the bundle, in any order."""
        if record.kind != "recommendations" or not isinstance(record.query, dict):
            self.not_measured[f"answers of kind {record.kind!r} are not made for a user"] += 1
            return
        self.lists += 1
        self.unsound += not all(math.isfinite(score) for score in record.scores)
        if self.distinct_lists < 1_000:
            self.distinct_lists += 1
            self.distinct.update(record.items[:HEAD])
        self._lists[record.time_ms // 1000 // HOUR_S].append(record)

    def add_event(self, event: LoggedEvent) -> None:
        """An event, in any order."""
        self._events.append(event)
        self.received += 1
        self.skewed += abs(event.received_ms - event.ms) > SKEW_MS

    def hours(self, start_s: int, end_s: int) -> Iterator[Hour]:
        """Each hour in which there was anything, from `start_s` on and over by `end_s`."""
        self._events.sort(key=lambda one: one.ms)
        changing = [one for one in self._events if one.verb]
        self._changed_ms = [one.ms for one in changing]
        self._of_user: dict[str, list[LoggedEvent]] = defaultdict(list)
        self._of_list: dict[str, list[LoggedEvent]] = defaultdict(list)
        for one in changing:
            self._of_user[one.user_id].append(one)
        for one in self._events:
            if one.recommendation_id and one.type in CLICKED:
                self._of_list[one.recommendation_id].append(one)
        by_hour: dict[int, list[LoggedEvent]] = defaultdict(list)
        for one in changing:
            by_hour[one.ms // 1000 // HOUR_S].append(one)
        for number in range(start_s // HOUR_S, end_s // HOUR_S):
            if number in self._lists or number in by_hour:
                yield self._hour(number, self._lists.get(number, []), by_hour.get(number, []))

    def _hour(self, number: int, records: Sequence[Decision], events: Sequence[LoggedEvent]) -> Hour:
        requests = Counter(str(one.query.get("user_id")) for one in records)
        first: dict[str, Decision] = {}
        for one in sorted(records, key=lambda one: one.time_ms):
            first.setdefault(str(one.query.get("user_id")), one)
        sample = sorted(first.values(), key=lambda one: one.seed)[:SAMPLE]  # seeds are drawn by chance
        used, measured, newest_s = self._measured(sample)
        sound = [abs(one.now_s - one.time_ms // 1000) < HOUR_S for one in used]
        self.newest_s += [at_s for at_s, is_sound in zip(newest_s, sound, strict=True) if at_s and is_sound]
        live = [one for one in used if one.item_stats.rpartition(".")[2].isdecimal()]
        self.events += len(events)
        user = {name: place for place, name in enumerate(sorted({one.user_id for one in events}))}
        rows = self._world.bundle.vocabulary.rows(item_keys([one.item_id for one in events]))
        return Hour(
            start_s=number * HOUR_S,
            requests=np.array(list(requests.values()), np.int64),
            measured=measured,
            placement=np.array([str(one.query.get("placement", "default")) for one in used]),
            outcomes=Outcomes(
                np.array([self._clicks(one) for one in used], bool).reshape(-1, HEAD),
                np.array([min(len(one.items), HEAD) for one in used], np.int64),
            ),
            item_age_s=np.array([self._item_age_s(one) for one in used], np.float64),
            state_age_s=np.array([self._state_age_s(*pair) for pair in zip(used, newest_s, strict=True)], np.float64),
            event_user=np.array([user[one.user_id] for one in events], np.int64),
            event_item=np.asarray(rows, np.int64),
            event_verb=np.array([one.verb for one in events], np.uint8),
            rising=rising_of(self._world.bundle, self._world_of(live[0]).item_stats) if live else None,
        )

    def _measured(self, sample: Sequence[Decision]) -> tuple[list[Decision], Measured | None, list[int]]:
        """What could be made again, and when the newest interaction of each was, by its state; UTC epoch seconds."""
        groups: dict[int, tuple[World, list[tuple[Decision, Query]]]] = {}
        for one in sample:
            try:
                world = self._world_of(one)
                query = query_of(one, world.bundle)
            except (RecsysError, HttpError, msgspec.ValidationError) as error:
                self.not_measured[str(error)] += 1
                continue
            if one.item_stats != world.item_stats.version:
                self.not_measured[f"item stats {one.item_stats!r} are gone"] += 1
                continue
            groups.setdefault(id(world), (world, []))[1].append((one, query))
        used: list[Decision] = []
        parts: list[Measured] = []
        newest: list[int] = []
        for world, asked in groups.values():
            for start in range(0, len(asked), BATCH):
                some = asked[start : start + BATCH]
                states, _ = unpack([one.user_state for one, _ in some], SCHEMA_HASH)
                parts.append(measure(world, batch_of([query for _, query in some], states), diversity=self._diversity))
                used += [one for one, _ in some]
                newest += _newest_s(states)
        return used, Measured.concatenate(parts) if parts else None, newest

    def _clicks(self, record: Decision) -> list[bool]:
        clicked = [False] * HEAD
        for event in self._of_list.get(record.id, ()):
            if not in_time(record.time_ms, event.ts_ms, OUTCOME_S):
                continue
            if event.item_id in record.items[:HEAD]:
                clicked[record.items.index(event.item_id)] = True
        return clicked

    def _item_age_s(self, record: Decision) -> float:
        """How much older the item stats are than the newest event before the list; NaN of a bundle's own."""
        _, _, horizon = record.item_stats.rpartition(".")
        place = bisect_right(self._changed_ms, record.time_ms - KNOWN_AFTER_MS)
        if not horizon.isdecimal() or not place:
            return math.nan
        return max(0.0, (self._changed_ms[place - 1] - int(horizon)) / 1000)

    def _state_age_s(self, record: Decision, newest_s: int) -> float:
        """For how long the newest event that should be in the state has not been; NaN of who did nothing lately."""
        own = self._of_user.get(str(record.query.get("user_id")), [])
        due = [one for one in own if one.ms <= record.time_ms - KNOWN_AFTER_MS]
        if not due:
            return math.nan
        missing = [one for one in due if one.ts_ms // 1000 > newest_s]
        return (record.time_ms - missing[0].ms) / 1000 if missing else 0.0


def _newest_s(states: UserStates) -> list[int]:
    return [int(ts_s) if used else 0 for ts_s, used in zip(states.ts_s[:, 0], states.length, strict=True)]

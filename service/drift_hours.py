"""Decision records and events of some hours, as the monitor reads them: live features come from replaying records."""

import hashlib
import math
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
TOGETHER = 20_000  # events that are packed at a time


class _Listed:
    """The lists of an hour: how many each user got, and the first of each of SAMPLE users, drawn by a hash.

    So many records are held, however many there are; an hour of a busy service would not fit into memory.
    """

    def __init__(self, number: int) -> None:
        self.requests: Counter[str] = Counter()
        self._salt = str(number).encode()
        self._first: dict[str, tuple[int, Decision]] = {}
        self._below = 2**64  # users with a greater hash are not among those drawn

    def add(self, record: Decision) -> None:
        user = str(record.query.get("user_id"))
        self.requests[user] += 1
        digest = hashlib.blake2b(user.encode(), digest_size=8, key=self._salt).digest()
        drawn = int.from_bytes(digest, "little")
        if drawn >= self._below:
            return
        known = self._first.get(user)
        if known is None or record.time_ms < known[1].time_ms:
            self._first[user] = drawn, record
        if len(self._first) >= 2 * SAMPLE:
            self._keep_drawn()

    def drawn(self) -> list[Decision]:
        """SAMPLE first lists, or as many as there are users."""
        self._keep_drawn()
        return [record for _, record in self._first.values()]

    def _keep_drawn(self) -> None:
        by_hash = sorted(self._first.items(), key=lambda one: one[1][0])
        self._first = dict(by_hash[:SAMPLE])
        if len(by_hash) > SAMPLE:
            self._below = by_hash[SAMPLE][1][0]


class _Happened:
    """Events that change something, of all users, in columns: 30 bytes each."""

    def __init__(self) -> None:
        self._waiting: list[LoggedEvent] = []
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(self, event: LoggedEvent) -> None:
        self._waiting.append(event)
        if len(self._waiting) >= TOGETHER:
            self._pack()

    def columns(self) -> tuple[np.ndarray, ...]:
        """When they came, ms; fingerprints of users and of items; verbs: [e], by time."""
        self._pack()
        self._parts = [tuple(np.concatenate(column) for column in zip(*self._parts, strict=True))]
        order = np.argsort(self._parts[0][0], kind="stable")
        return tuple(column[order] for column in self._parts[0])

    def _pack(self) -> None:
        some, self._waiting = self._waiting, []
        ms = np.array([one.ms for one in some], np.int64)
        users, items = (item_keys([getattr(one, name) for one in some]) for name in ("user_id", "item_id"))
        self._parts.append((ms, users, items, np.array([one.verb for one in some], np.uint8)))


class Read:
    """Records and then events of a stretch of time, counted; what cannot be used is told by its reason.

    Attributes:
        not_measured: Why records were not made again, and how many. unsound: Records with a score that is no number.
        newest_s: When each user of a list that was made again had last done anything, by their state; not of those who
            never did, nor of lists whose moment is none.
        skewed, received: Events whose gateway's clock and the store's disagree, of all.
    """

    def __init__(self, world_of: Callable[[Decision], World], bundle_world: World, diversity: float) -> None:
        self._world_of, self._world, self._diversity = world_of, bundle_world, diversity
        self._lists: dict[int, _Listed] = {}
        self._drawn: dict[int, list[Decision]] | None = None  # by hour, once all records are there
        self._happened = _Happened()
        self._of_user: dict[str, list[LoggedEvent]] = defaultdict(list)
        self._of_list: dict[str, list[LoggedEvent]] = defaultdict(list)
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
        number = record.time_ms // 1000 // HOUR_S
        (self._lists.get(number) or self._lists.setdefault(number, _Listed(number))).add(record)

    def add_event(self, event: LoggedEvent) -> None:
        """An event, in any order, after all records."""
        self._draw()
        if event.verb:
            self._happened.add(event)
            if event.user_id in self._users:
                self._of_user[event.user_id].append(event)
        if event.recommendation_id in self._ids and event.type in CLICKED:
            self._of_list[event.recommendation_id].append(event)
        self.received += 1
        self.skewed += abs(event.received_ms - event.ms) > SKEW_MS

    @property
    def first_s(self) -> int | None:
        """When the first hour with a list of the bundle began; None without any."""
        return min(self._lists) * HOUR_S if self._lists else None

    def hours(self, start_s: int, end_s: int) -> Iterator[Hour]:
        """Each hour in which there was anything, from `start_s` on and over by `end_s`."""
        drawn = self._draw()
        self._changed_ms, user, item, verb = self._happened.columns()
        for own in self._of_user.values():
            own.sort(key=lambda one: one.ms)
        for number in range(start_s // HOUR_S, end_s // HOUR_S):
            ends = np.searchsorted(self._changed_ms, [1000 * HOUR_S * number, 1000 * HOUR_S * (number + 1)])
            events = slice(*ends.tolist())
            if number in self._lists or events.start < events.stop:
                requests = self._lists[number].requests if number in self._lists else Counter[str]()
                yield self._hour(number, requests, drawn.get(number, []), user[events], item[events], verb[events])

    def _draw(self) -> dict[int, list[Decision]]:
        if self._drawn is None:
            self._drawn = {number: one.drawn() for number, one in self._lists.items()}
            every = [one for of in self._drawn.values() for one in of]
            self._users = {str(one.query.get("user_id")) for one in every}
            self._ids = {one.id for one in every}
        return self._drawn

    def _hour(
        self,
        number: int,
        requests: Counter[str],
        sample: Sequence[Decision],
        user: np.ndarray,
        item: np.ndarray,
        verb: np.ndarray,
    ) -> Hour:
        used, measured, newest_s = self._measured(sample)
        sound = [abs(one.now_s - one.time_ms // 1000) < HOUR_S for one in used]
        self.newest_s += [at_s for at_s, is_sound in zip(newest_s, sound, strict=True) if at_s and is_sound]
        live = [one for one in used if one.item_stats.rpartition(".")[2].isdecimal()]
        self.events += len(verb)
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
            event_user=np.unique(user, return_inverse=True)[1].astype(np.int64),
            event_item=np.asarray(self._world.bundle.vocabulary.rows(item), np.int64),
            event_verb=verb,
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
        place = int(np.searchsorted(self._changed_ms, record.time_ms - KNOWN_AFTER_MS, "right"))
        if not horizon.isdecimal() or not place:
            return math.nan
        return max(0.0, (int(self._changed_ms[place - 1]) - int(horizon)) / 1000)

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

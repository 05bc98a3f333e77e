"""From decision records and events to what came of an experiment, wherever they lie: streams, archives or both."""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

from redis.exceptions import RedisError

from recsys.archive import Archive, Position
from recsys.erased_users import ErasedUsers, user_digest
from recsys.errors import ArchiveError, BundleError, RegistryError
from recsys.experiments.outcomes import Outcomes
from recsys.experiments.preferences import Preferences
from recsys.experiments.tally import Happened, Shown, Tally
from recsys.monitoring.reference import Reference
from recsys.monitoring.series import SCORE
from service.archives import decision_archive, erased_users, event_archive, user_of
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.decisions import Decision
from service.errors import RecordsUnavailable, StackError
from service.log_entries import position_of
from service.logged_events import POSITION, is_after, runs_after
from service.round_trips import RoundTrips
from service.settings import Settings
from service.state_keys import SHARDS
from service.traffic.document import INTERLEAVED
from service.world import registry

WINDOW_S = 3_600  # after a list was answered, in which what happens to its items is put down to it
BEFORE_DAYS = 14  # in which what a user did is taken for how active they are anyway
CLICKED = {"view", "click", "like", "purchase", "rating"}
CONVERTED = {"like", "purchase"}
KEPT = 32  # experiments and steps that are read on from where they were
_COLUMNS = (*POSITION, "user_id", "item_id", "type", "recommendation_id", "ts_ms", "value")
COMMAND_MS = 10_000
AGAIN_S = 60.0  # before a bundle that could not be had is asked for once more
_ANY = -math.inf, math.inf

Read = TypeVar("Read")


class _Following:
    """One experiment or rollout, and how far it is read."""

    def __init__(self, name: str, tally: Tally, since_ms: int, earliest_ms: int) -> None:
        self.name, self.tally, self.since_ms, self.earliest_ms = name, tally, since_ms, earliest_ms
        self.records: Position = (since_ms, 0)
        self.events: list[Position] = [(earliest_ms, 0)] * SHARDS
        self.alone: Counter[str] = Counter()  # interleaved lists that are of one side, by its name

    def is_of(self, record: Decision) -> bool:
        """Whether a record is one of its lists."""
        drawn = record.variants.get(self.name) in self.tally.variants and not record.overridden
        return drawn and record.time_ms >= self.since_ms

    def take(self, record: Decision, arrived_ms: int, usual: tuple[float, float]) -> None:
        variant, of = record.variants[self.name], record.interleaved
        if variant == INTERLEAVED:
            if of and len(of.variants) == 1:
                self.alone[of.variants[0]] += 1
            if not record.counts(self.name):
                return
        # Its own batch's computation: from waiting to answer a list takes as long as all lanes of its micro-batch.
        took_ms = sum(record.timing_ms.get(stage, 0.0) for stage in ("retrieve", "rank", "select"))
        self.tally.show(
            Shown(
                record.id,
                record.query["user_id"],
                self.tally.variants.index(variant),
                min(record.time_ms, arrived_ms),  # a gateway's clock may be ahead
                record.items,
                bool(record.degraded),
                took_ms,
                of.team if of else (),
                bool(record.scores) and not usual[0] <= max(record.scores) <= usual[1],
            )
        )


class OutcomeReader:
    """Joins lists and events by the recommendation id. What it was asked for before it reads on from where it was.

    Args:
        store: Of the streams. events: The archive of events. erased: Users of whom nothing is to be known.
        usual: The range of a bundle's best scores; None: it cannot be told now. It may take long: called in a thread.
    """

    def __init__(
        self,
        store: RoundTrips,
        records: DecisionRecords,
        events: Archive,
        erased: ErasedUsers,
        usual: Callable[[str], tuple[float, float] | None],
    ) -> None:
        self._usual = usual
        self._ranges: dict[str, tuple[float, float]] = {}
        self._unknown: dict[str, float] = {}  # until when bundles are not asked about again, by a monotonic clock
        self._store, self._records, self._events, self._erased = store, records, events, erased
        self._followed: dict[tuple[object, ...], _Following] = {}
        self._erased_as_of: object = None
        self._lock = asyncio.Lock()  # a position moves for one reader at a time
        self._listed: dict[str, int] = {}

    async def read(
        self,
        name: str,
        variants: Sequence[str],
        *,
        since_ms: int,
        began_ms: int | None = None,
        window_s: float = WINDOW_S,
    ) -> Outcomes:
        """What came of one experiment or rollout.

        Args:
            name: Of it. variants: Their names, the control first; other answers do not count.
            since_ms: UTC epoch milliseconds, of the first answer that counts.
            began_ms: When any user first got a variant, where that was earlier: what they did since is no "before".
        Raises:
            RecordsUnavailable, ArchiveError: not all can be read.
            RedisError, OSError, TimeoutError: the store failed.
        """
        return (await self._read_on(name, tuple(variants), since_ms, began_ms, window_s)).tally.outcomes()

    async def preferences(
        self, name: str, sides: tuple[str, str], *, since_ms: int, window_s: float = WINDOW_S
    ) -> Preferences:
        """What users of an interleaving chose; arguments and errors as of `read`."""
        found = await self._read_on(name, (INTERLEAVED,), since_ms, None, window_s)
        return found.tally.preferences(sides, (found.alone[sides[0]], found.alone[sides[1]]))

    async def users(self, name: str, variants: Sequence[str], *, since_ms: int) -> list[int]:
        """How many users each variant has; arguments and errors as of `read`, and it reads on where that was."""
        return (await self._read_on(name, tuple(variants), since_ms, None, WINDOW_S)).tally.users()

    def held(self) -> int:
        """Lists and events in memory, besides the users' rows."""
        return sum(len(one.tally) for one in self._followed.values())

    async def _read_on(
        self, name: str, variants: tuple[str, ...], since_ms: int, began_ms: int | None, window_s: float
    ) -> _Following:
        async with self._lock:
            return await self._read_on_alone(name, variants, since_ms, began_ms, window_s)

    async def _read_on_alone(
        self, name: str, variants: tuple[str, ...], since_ms: int, began_ms: int | None, window_s: float
    ) -> _Following:
        await self._forget()
        began = since_ms if began_ms is None else began_ms
        key = (name, variants, since_ms, began, window_s)
        earliest_ms = since_ms - BEFORE_DAYS * 86_400_000
        # Out of the table while it is read on: a read that fails half way is begun anew.
        one = self._followed.pop(key, None) or _Following(
            name,
            Tally(variants, earliest_ms=earliest_ms, began_ms=began, window_s=window_s),
            since_ms,
            earliest_ms,
        )
        now_ms = await self._store.now_ms()
        async for position, record in self._records.after(one.records):
            one.records = position
            if isinstance(record, Decision) and one.is_of(record) and not self._is_erased(user_of(record), position):
                one.take(record, position[0], await self._range(record.bundle))
        await self._read_events(one)
        one.tally.settle(now_ms)
        self._followed[key] = one
        while len(self._followed) > KEPT:
            del self._followed[next(iter(self._followed))]
        return one

    async def _range(self, bundle_id: str) -> tuple[float, float]:
        if (known := self._ranges.get(bundle_id)) is not None:
            return known
        if monotonic() >= self._unknown.get(bundle_id, 0.0):
            found = await asyncio.to_thread(self._usual, bundle_id)
            if found is not None:
                return self._ranges.setdefault(bundle_id, found)
            self._unknown[bundle_id] = monotonic() + AGAIN_S
        return _ANY

    async def _read_events(self, one: _Following) -> None:
        """The archive, then what of the streams it does not have."""
        until = await asyncio.to_thread(self._events.until)
        if any(reached > at for reached, at in zip(until, one.events, strict=True)):
            parts = self._events.oldest(columns=_COLUMNS, since_ms=min(one.events)[0])
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                newer = part.filter(is_after(part, one.events))
                for stream, ms, sequence, *event in zip(*(newer[name].to_pylist() for name in _COLUMNS), strict=True):
                    one.events[stream] = ms, sequence
                    self._take(one, (ms, sequence), *event)
        for number in range(SHARDS):
            one.events[number] = max(one.events[number], until[number])
            async for run in runs_after(self._store, number, one.events[number]):
                for position, did in zip(run.positions, run.events, strict=True):
                    fields = did.user_id, did.item_id, did.type, did.recommendation_id, did.ts_ms, did.value
                    self._take(one, position, *fields)
                one.events[number] = position_of(run.end)

    def _take(
        self,
        one: _Following,
        position: Position,
        user: str,
        item: str,
        kind: str,
        list_id: str | None,
        happened_ms: int,
        value: float | None,
    ) -> None:
        if self._is_erased(user, position):
            return
        did = kind in CLICKED, kind in CONVERTED
        one.tally.happen(Happened(user, item, list_id, position[0], happened_ms, *did, float(value or 0.0)))

    async def _forget(self) -> None:
        """After somebody was forgotten all is read anew: what is in memory may be of them."""
        as_of = await asyncio.to_thread(self._erased.as_of)
        if as_of != self._erased_as_of:
            self._listed = await asyncio.to_thread(self._erased.read)
            self._followed.clear()
            self._erased_as_of = as_of

    def _is_erased(self, user: object, position: Position) -> bool:
        return bool(self._listed) and position[0] < self._listed.get(user_digest(str(user)), 0)


def with_outcomes(settings: Settings, url: str, work: Callable[[OutcomeReader], Awaitable[Read]]) -> Read:
    """Read what came of something, for a command that waits for it. Raises StackError: not all can be read."""

    async def read() -> Read:
        store = RoundTrips(url, timeout_ms=COMMAND_MS, connections=1)
        try:
            return await work(outcome_reader(settings, store))
        except (RedisError, OSError, TimeoutError, RecordsUnavailable, ArchiveError) as error:
            raise StackError(f"what came of it cannot be read: {str(error) or type(error).__name__}") from error
        finally:
            await store.close()

    return asyncio.run(read())


def outcome_reader(settings: Settings, store: RoundTrips) -> OutcomeReader:
    """A reader of what this home and its store have."""
    records = DecisionRecords(DecisionStream(store), decision_archive(settings))
    return OutcomeReader(store, records, event_archive(settings), erased_users(settings), partial(_usual, settings))


def _usual(settings: Settings, bundle_id: str) -> tuple[float, float] | None:
    """The range of a bundle's best scores in its validation; any where it has none, None where nobody can tell."""
    try:
        return Reference.load(registry(settings).path(bundle_id)).bins[SCORE].range
    except BundleError:
        return _ANY
    except (RegistryError, OSError):
        return None

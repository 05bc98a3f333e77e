"""The item updater: from the event log and the catalogue to one snapshot, published as often as something changes.

A snapshot holds all that has a position before a moment of the store's own clock, its horizon, counted in the order of
position and shard. So its version is a time, two updaters make the same bytes, and the archive can make it again.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
from redis.exceptions import RedisError

from recsys.archive import Position
from recsys.errors import StateError
from recsys.verbs import MERGED
from recsys.vocabulary import item_keys
from service.catalogue_entries import changes_in, items_after
from service.event_log import Event, stream_key
from service.item_snapshot import CATALOGUE, Snapshot, decode, encode, head, snapshot_key, version_key
from service.log_entries import Entry, Run, position_of
from service.round_trips import RoundTrips
from service.state_keys import SHARDS, live_key

EVERY_S = 0.5
READ = 20_000  # entries of one stream at a time; many more than come in one millisecond
BY_VERSION_S = 3  # a process that lost a version of the last second looks for it there
IDLE_MS = 60_000  # after that a snapshot is published though nothing has changed: demand decays
_log = logging.getLogger(__name__)

# KEYS: snapshot. ARGV: head of the version that the work began from, snapshot.
_PUBLISH = """
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

Logged = tuple[Position, int, Event]  # position, shard, event: ascending is the order in which events count


class ItemUpdater:
    """Brings the snapshot of a namespace up to date.

    Args:
        namespace: Whose; None: of whichever is live. Where nothing has been rebuilt there is no snapshot, and no work.
    """

    def __init__(self, store: RoundTrips, *, namespace: str | None = None) -> None:
        self._store, self._fixed = store, namespace
        self._namespace = ""
        self._snapshot: Snapshot | None = None
        self.counts: Counter[str] = Counter()  # "counted", "changed_items", "published", "lost_publications"

    async def step(self) -> bool:
        """Count what came since the last horizon and publish where anything changed; whether there is more to read.

        Raises:
            RedisError, OSError, TimeoutError: the store failed; calling again goes on. StateError: the snapshot in the
                store is damaged.
        """
        snapshot = await self._current()
        if snapshot is None:
            return False
        horizon_ms, entries = await self._read(snapshot.horizon_ms)
        logged = in_order(entries[:-1], horizon_ms)
        changes = items_after(changes_in(entries[-1]), horizon_ms)
        turned = any(one.turns_between(snapshot.horizon_ms, horizon_ms) for one in snapshot.items.values())
        if not (logged or changes or turned or horizon_ms - snapshot.horizon_ms >= IDLE_MS):
            return False
        count(snapshot, [event for _, _, event in logged])
        new = Snapshot(snapshot.base, horizon_ms, snapshot.counts, snapshot.items | changes)
        self._snapshot = None  # its counts have moved on; only what the store has taken is true
        key, value = snapshot_key(self._namespace), encode(new)
        # First by its version, which nobody asks for before it is published: on a cluster it is another node's.
        await self._store.demand([("SET", version_key(new.version), value, "EX", str(BY_VERSION_S))])
        if (await self._store.demand([("EVAL", _PUBLISH, "1", key, head(snapshot.version), value)]))[0]:
            self._snapshot = new
            self.counts += Counter(counted=len(logged), changed_items=len(changes), published=1)
        else:
            self.counts["lost_publications"] += 1
        return any(len(one) == READ for one in entries)

    async def _current(self) -> Snapshot | None:
        """The snapshot of the namespace to work on: that in memory, if the store still has it."""
        live = self._fixed.encode() if self._fixed else (await self._store.demand([("GET", live_key())]))[0]
        if not live:
            return None
        self._namespace = live.decode()
        key = snapshot_key(self._namespace)
        if self._snapshot is not None:
            known = head(self._snapshot.version)
            if (await self._store.demand([("GETRANGE", key, "0", str(len(known) - 1))]))[0] == known:
                return self._snapshot
        (value,) = await self._store.demand([("GET", key)])
        self._snapshot = decode(value) if value else None
        return self._snapshot

    async def _read(self, since_ms: int) -> tuple[int, list[list[Entry]]]:
        """Entries of all shards and of the catalogue since a moment, and the moment before which they are complete."""
        horizon_ms = await self._store.now_ms()
        streams = [*map(stream_key, range(SHARDS)), CATALOGUE]
        entries = await self._store.demand([("XRANGE", one, str(since_ms), "+", "COUNT", str(READ)) for one in streams])
        for one in entries:
            if len(one) == READ:
                horizon_ms = min(horizon_ms, position_of(one[-1][0])[0])
        return horizon_ms, entries


def in_order(entries: Sequence[Sequence[Entry]], horizon_ms: int) -> list[Logged]:
    """Events with a position before a moment, in the order in which they count. entries: of each shard."""
    logged: list[Logged] = []
    for number, one in enumerate(entries):
        if one:
            run = Run.of(number, one)
            pairs = zip(run.positions, run.events, strict=True)
            logged += [(position, number, event) for position, event in pairs if position[0] < horizon_ms]
    logged.sort(key=lambda one: one[:2])
    return logged


def count(snapshot: Snapshot, events: Sequence[Event]) -> None:
    """Count events, in order, in the counts of a snapshot."""
    acting = [event for event in events if counts_for_items(event)]
    if acting:
        snapshot.counts.apply(
            item_key=item_keys(event.item_id for event in acting),
            verb=np.array([event.verb for event in acting], np.uint8),
            ts_s=np.array([event.ts_ms // 1000 for event in acting], np.uint32),
        )


def counts_for_items(event: Event) -> bool:
    """Whether an event changes item stats; one that was merged did so when it happened."""
    return bool(event.verb) and event.type != MERGED


async def run(updater: ItemUpdater) -> None:
    """Step for ever; a store that fails is asked again."""
    failing = False
    while True:
        try:
            while await updater.step():
                pass
            failing = False
        except (RedisError, OSError, TimeoutError, StateError) as error:
            if not failing:
                _log.warning("the item updater waits: %s", str(error) or type(error).__name__)
            failing = True
        await asyncio.sleep(EVERY_S)

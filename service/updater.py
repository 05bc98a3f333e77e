"""The feature updater: from the event log to user states, each event once.

States and position of a shard are committed together, by a script that refuses when the position is not the one the
work began from. So an updater that dies, or a second one started by mistake, loses nothing and applies nothing twice:
whoever comes second reads on from where the first has committed.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from redis.exceptions import RedisError

from recsys.features.apply import apply
from recsys.features.codec import pack, unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.user import UserStates
from recsys.vocabulary import item_keys
from service.event_log import Event, stream_key
from service.lookup import NAMESPACE, SHARDS, shard, state_key
from service.round_trips import Command, RoundTrips

RETRY_S = 0.5
BATCH = 512  # entries of one shard per commit
_START = b"0-0"
_log = logging.getLogger(__name__)

# KEYS: position, stream, dead letters, states. ARGV: expected position, new position, entries that a stream may keep,
# states, then three for each dead letter.
_COMMIT = """
if (redis.call('GET', KEYS[1]) or '0-0') ~= ARGV[1] then return 0 end
for i = 4, #KEYS do redis.call('SET', KEYS[i], ARGV[i]) end
for i = #KEYS + 1, #ARGV, 3 do
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*',
             'position', ARGV[i], 'reason', ARGV[i + 1], 'entry', ARGV[i + 2])
end
redis.call('SET', KEYS[1], ARGV[2])
if redis.call('XLEN', KEYS[2]) > tonumber(ARGV[3]) then redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2]) end
return 1
"""


def position_key(number: int) -> str:
    """Where the position of the last event applied to a shard's states lies."""
    return f"riffle:{{s{number:02d}}}:{NAMESPACE}:position"


def dead_key(number: int) -> str:
    """Where entries that are no events are set aside."""
    return f"riffle:{{s{number:02d}}}:dead-events"


class Updater:
    """Applies events to states.

    Args:
        store: Its timeout is above `block_ms`. shards: Those this updater works on.
        kept: Entries up to which a shard's stream keeps what has been applied.
    """

    def __init__(self, store: RoundTrips, *, shards: Sequence[int] = range(SHARDS), kept: int = 20_000) -> None:
        self._store, self._kept = store, kept
        self._shards = list(shards)
        self.counts: Counter[str] = Counter()  # "applied", "dead", "undecodable_states", "lost_commits"
        self.lag_s = 0.0  # from an event's arrival to its commit, the oldest of the last step

    async def step(self, *, block_ms: int = 1000) -> int:
        """Read once, apply, commit: four round trips, however many shards. Returns how many entries were committed.

        Raises:
            RedisError, OSError, TimeoutError: the store failed; calling again goes on from what is committed.
        """
        # Read anew each time: another updater may have committed, or an import may have set them back.
        after = [at or _START for at in await self._one("MGET", *map(position_key, self._shards))]
        streams = [stream_key(number) for number in self._shards]
        read = await self._one("XREAD", "COUNT", str(BATCH), "BLOCK", str(block_ms), "STREAMS", *streams, *after)
        if not read:
            return 0
        runs = [_Run.of(self._shards[streams.index(stream.decode())], entries) for stream, entries in read]
        users = [user for one in runs for user in one.users]
        values = await self._one("MGET", *map(state_key, users)) if users else []
        states, undecodable = unpack(values, SCHEMA_HASH)
        self.counts["undecodable_states"] += len(undecodable)
        _apply(states, runs)
        return await self._commit(dict(zip(self._shards, after, strict=True)), runs, pack(states, SCHEMA_HASH))

    async def _commit(self, began: dict[int, bytes], runs: Sequence["_Run"], values: Sequence[bytes]) -> int:
        commands: list[Command] = []
        start = 0
        for one in runs:
            own = values[start : start + len(one.users)]
            start += len(own)
            keys = (position_key(one.shard), stream_key(one.shard), dead_key(one.shard), *map(state_key, one.users))
            before = began[one.shard], one.end, str(self._kept)
            commands.append(
                ("EVAL", _COMMIT, str(len(keys)), *keys, *before, *own, *(part for dead in one.dead for part in dead))
            )
        committed = 0
        for one, reply in zip(runs, await self._store.call(commands), strict=True):
            if isinstance(reply, Exception):
                raise reply
            if not reply:  # another updater was here; the next step reads on from what it committed
                self.counts["lost_commits"] += 1
                continue
            committed += one.entries
            self.counts["applied"] += len(one.events)
            self.counts["dead"] += len(one.dead)
        if arrived_ms := [event.received_ms for one in runs for event in one.events]:
            self.lag_s = time.time() - min(arrived_ms) / 1000
        return committed

    async def _one(self, *command: str | bytes) -> Any:
        (reply,) = await self._store.call([command])
        if isinstance(reply, Exception):
            raise reply
        return reply


def warm_up() -> None:
    """Load the compiled code of a step: the first event would wait half a second for it."""
    states, _ = unpack([*pack(UserStates.empty(2), SCHEMA_HASH), None], SCHEMA_HASH)
    row, one = np.array([0, 0, 1]), np.ones(3, np.uint64)
    event_id = np.array([[1, 0], [2, 0], [1, 0]], np.uint64)
    apply(states, row, item_key=one, verb=one.astype(np.uint8), ts_s=one.astype(np.uint32), event_id=event_id)
    pack(states, SCHEMA_HASH)


async def run(updater: Updater) -> None:
    """Step for ever; a store that fails is asked again after a while."""
    failing = False
    while True:
        try:
            await updater.step()
            failing = False
        except (RedisError, OSError, TimeoutError) as error:
            if not failing:
                _log.warning("the updater waits for the store: %s", str(error) or type(error).__name__)
            failing = True
            await asyncio.sleep(RETRY_S)


@dataclass(frozen=True, slots=True)
class _Run:
    """Entries that follow one another in a shard.

    Attributes:
        end: Position of the last one. entries: How many they are.
        events: Those that are events, at `positions`. dead: Those that are not: position, reason, what lay there.
        users: Whose states change, in the order in which they first act.
    """

    shard: int
    end: bytes
    entries: int
    events: list[Event]
    positions: list[tuple[int, int]]
    dead: list[tuple[bytes, str, bytes]]
    users: list[str]

    @classmethod
    def of(cls, number: int, entries: Sequence[tuple[bytes, list[bytes] | None]]) -> "_Run":
        """Decode what lies in a stream: a position and its fields and values in turn; None if it was just deleted."""
        run = cls(number, entries[-1][0], len(entries), [], [], [], [])
        for position, fields in entries:
            raw = dict(zip((fields or [])[::2], (fields or [])[1::2], strict=False)).get(b"e", b"")
            try:
                event = _decoded(raw, number)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                run.dead.append((position, str(error), raw))
                continue
            ms, _, sequence = position.partition(b"-")
            run.events.append(event)
            run.positions.append((int(ms), int(sequence)))
        run.users.extend(dict.fromkeys(event.user_id for event in run.events if event.verb))
        return run


_decode = msgspec.msgpack.Decoder(Event).decode


def _decoded(raw: bytes, number: int) -> Event:
    event = _decode(raw)
    if not 0 <= event.verb < 256:
        raise msgspec.ValidationError(f"verb {event.verb}")
    if not 0 <= event.ts_ms // 1000 < 2**32:
        raise msgspec.ValidationError(f"ts_ms {event.ts_ms}")
    if shard(event.user_id) != number:
        raise msgspec.ValidationError(f"its user belongs to shard {shard(event.user_id)}, not {number}")
    return event


def _apply(states: UserStates, runs: Sequence[_Run]) -> None:
    """All runs at once: a user is in one shard only. `states` are those of the runs' users, one after another."""
    row = {user: number for number, user in enumerate(user for one in runs for user in one.users)}
    acting = [
        (event, position)
        for one in runs
        for event, position in zip(one.events, one.positions, strict=True)
        if event.verb
    ]
    if not acting:
        return
    apply(
        states,
        np.array([row[event.user_id] for event, _ in acting]),
        item_key=item_keys(event.item_id for event, _ in acting),
        verb=np.array([event.verb for event, _ in acting], np.uint8),
        ts_s=np.array([event.ts_ms // 1000 for event, _ in acting], np.uint32),
        event_id=np.array([position for _, position in acting], np.uint64),
    )

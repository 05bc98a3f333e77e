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
from typing import Any

import numpy as np
from redis.exceptions import RedisError

from recsys.features.apply import apply
from recsys.features.codec import pack, unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.user import UserStates
from recsys.vocabulary import item_keys
from service.event_log import stream_key
from service.histogram import Histogram
from service.log_entries import Run
from service.round_trips import Command, RoundTrips
from service.state_keys import FIRST, SHARDS, live_key, live_name, position_key, refused_key, state_key
from service.stream_reading import read_streams

RETRY_S = 0.5
# Between steps at least: a step costs 2 ms however few events it finds, and 100 calls a second made 100 steps of it.
GATHER_S = 0.02
BATCH = 512  # entries of one shard per commit
START = b"0-0"  # the position of a shard of which nothing is applied
# Seconds. 0.25 is a bound because an alert asks whether 99 % of the events are at or below it.
EFFECT_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_log = logging.getLogger(__name__)

# KEYS: position, dead letters, states, for each state what says that its user is refused: a state read before its user
# was forgotten must not come back. ARGV: expected position, new position, states, then three for each dead letter.
_COMMIT = """
if (redis.call('GET', KEYS[1]) or '0-0') ~= ARGV[1] then return 0 end
local states = (#KEYS - 2) / 2
local anybody = states > 0 and redis.call('EXISTS', unpack(KEYS, states + 3)) > 0
local written = {}
for i = 3, states + 2 do
  if not anybody or redis.call('EXISTS', KEYS[i + states]) == 0 then
    written[#written + 1], written[#written + 2] = KEYS[i], ARGV[i]
  end
end
if #written > 0 then redis.call('MSET', unpack(written)) end
for i = states + 3, #ARGV, 3 do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', '10000', '*',
             'position', ARGV[i], 'reason', ARGV[i + 1], 'entry', ARGV[i + 2])
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


def dead_key(number: int) -> str:
    """Where entries that are no events are set aside."""
    return f"riffle:{{s{number:02d}}}:dead-events"


class Updater:
    """Applies events to states.

    Args:
        store: Its timeout is above `block_ms`. shards: Those this updater works on.
        namespace: Whose states; None: of whichever is live.
    """

    def __init__(
        self, store: RoundTrips, *, shards: Sequence[int] = range(SHARDS), namespace: str | None = None
    ) -> None:
        self._store, self._fixed = store, namespace
        self._namespace = namespace or FIRST
        self._shards = list(shards)
        self._looked = namespace is not None  # whether it was ever known which states are live
        self.counts: Counter[str] = Counter()  # "applied", "dead", "undecodable_states", "lost_commits", "shards_left"
        self.effect_s = Histogram(EFFECT_BOUNDS_S)  # from each event's arrival to its commit

    async def step(self, *, block_ms: int = 1000) -> int:
        """Read once, apply, commit: four round trips, however many shards. Returns how many entries were committed.

        On a cluster the shards of a node that fails are left for later steps, and counted.

        Raises:
            RedisError, OSError, TimeoutError: the store failed; calling again goes on from what is committed.
        """
        after = self._answered(await self._positions())
        streams = {stream_key(number): number for number in after}
        read = await read_streams(
            self._store,
            {stream: after[number] or START for stream, number in streams.items()},
            count=BATCH,
            block_ms=block_ms,
        )
        entries = self._answered({streams[stream]: found for stream, found in read.items()})
        if not entries:
            return 0
        runs = [Run.of(number, found) for number, found in entries.items()]
        values = await self._states({one.shard: _users(one) for one in runs})
        runs = [one for one in runs if one.shard in values]
        users = [_users(one) for one in runs]
        states, undecodable = unpack([value for one in runs for value in values[one.shard]], SCHEMA_HASH)
        self.counts["undecodable_states"] += len(undecodable)
        _apply(states, [user for own in users for user in own], runs)
        began = {one.shard: after[one.shard] or START for one in runs}
        return await self._commit(began, runs, users, pack(states, SCHEMA_HASH))

    def _answered(self, of_shard: dict[int, Any]) -> dict[int, Any]:
        """What is no exception. Raises one of them where nothing else is left."""
        failures = [one for one in of_shard.values() if isinstance(one, Exception)]
        if failures and len(failures) == len(of_shard):
            raise failures[0]
        self.counts["shards_left"] += len(failures)
        return {number: one for number, one in of_shard.items() if not isinstance(one, Exception)}

    async def _positions(self) -> dict[int, Any]:
        """Where each shard's states stand.

        Read anew each time: another updater may have committed, or a rebuild may have made other states live. Who
        cannot see which are live goes on with those that were: they have positions of their own.
        """
        while True:
            positions = [("GET", position_key(self._namespace, number)) for number in self._shards]
            *found, live = await self._store.call([*positions, ("GET", live_key())])
            if isinstance(live, Exception) and not self._looked:
                raise live
            if not (self._fixed or isinstance(live, Exception)):
                self._looked = True
                if live_name(live) != self._namespace:
                    self._namespace = live_name(live)
                    continue
            return dict(zip(self._shards, found, strict=True))

    async def _states(self, users: dict[int, list[str]]) -> dict[int, list[bytes | None]]:
        """The packed states of each shard's users."""
        asked = [number for number, own in users.items() if own]
        commands: list[Command] = [
            ("MGET", *(state_key(self._namespace, user) for user in users[number])) for number in asked
        ]
        replies = await self._store.call(commands) if asked else []
        nobody: dict[int, Any] = {number: [] for number, own in users.items() if not own}
        return self._answered(nobody | dict(zip(asked, replies, strict=True)))

    async def _commit(
        self, began: dict[int, bytes], runs: Sequence[Run], users: Sequence[Sequence[str]], values: Sequence[bytes]
    ) -> int:
        commands: list[Command] = []
        start = 0
        for one, own in zip(runs, users, strict=True):
            states = [state_key(self._namespace, user) for user in own]
            keys = (position_key(self._namespace, one.shard), dead_key(one.shard), *states, *map(refused_key, own))
            packed = values[start : start + len(own)]
            start += len(own)
            dead = [part for entry in one.dead for part in entry]
            commands.append(("EVAL", _COMMIT, str(len(keys)), *keys, began[one.shard], one.end, *packed, *dead))
        committed = 0
        replies = await self._store.call(commands)
        by_shard = self._answered({one.shard: reply for one, reply in zip(runs, replies, strict=True)})
        for one in runs:
            if one.shard not in by_shard:
                continue
            if not by_shard[one.shard]:  # another updater was here; the next step reads on from what it committed
                self.counts["lost_commits"] += 1
                continue
            committed += one.entries
            self.counts["applied"] += len(one.events)
            self.counts["dead"] += len(one.dead)
            self.effect_s.observe(one.ages_s(time.time()))
        return committed


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
        began = time.monotonic()
        try:
            await updater.step()
            failing = False
            await asyncio.sleep(max(0.0, began + GATHER_S - time.monotonic()))
        except (RedisError, OSError, TimeoutError) as error:
            if not failing:
                _log.warning("the updater waits for the store: %s", str(error) or type(error).__name__)
            failing = True
            await asyncio.sleep(RETRY_S)


def _users(run: Run) -> list[str]:
    """Whose states change, in the order in which they first act."""
    return list(dict.fromkeys(event.user_id for event in run.events if event.verb))


def _apply(states: UserStates, users: Sequence[str], runs: Sequence[Run]) -> None:
    """All runs at once: a user is in one shard only. `states` are those of `users`."""
    row = {user: number for number, user in enumerate(users)}
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

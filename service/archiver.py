"""The archiver: from the event log to Parquet, and out of Redis what is on disk and in the states.

How far it has come is what the archive itself reaches to. So one that dies, or a second one started by mistake, loses
nothing and keeps nothing twice.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from redis.exceptions import RedisError

from recsys.archive import Archive, Position
from recsys.errors import ArchiveError
from service.archives import event_rows
from service.event_log import stream_key
from service.log_entries import Run, position_of, text_of
from service.round_trips import RoundTrips
from service.state_keys import SHARDS, live_key, live_name, position_key, rebuilt_key

# KEYS: the names of the live states and of those being rebuilt; per shard its stream, and its position in each of them.
# ARGV: these two names; how many there are; entries that a stream may keep; per shard how far it is archived.
_TRIM = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] or (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return 0 end
local function before(a, b)
  local a_ms, a_sequence = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_sequence = string.match(b, '(%d+)-(%d+)')
  if a_ms ~= b_ms then return tonumber(a_ms) < tonumber(b_ms) end
  return tonumber(a_sequence) < tonumber(b_sequence)
end
local each, trimmed = 1 + tonumber(ARGV[3]), 0
for shard = 1, #ARGV - 4 do
  local first, done = 3 + (shard - 1) * each, ARGV[4 + shard]
  for key = first + 1, first + each - 1 do
    local position = redis.call('GET', KEYS[key]) or '0-0'
    if before(position, done) then done = position end
  end
  if redis.call('XLEN', KEYS[first]) > tonumber(ARGV[4]) then
    trimmed = trimmed + redis.call('XTRIM', KEYS[first], 'MINID', done)
  end
end
return trimmed
"""
READ = 2_000  # entries of one shard at a time: about 10 MB, and 30 ms of decoding
_log = logging.getLogger(__name__)


class Archiver:
    """Moves events.

    Args:
        kept: Entries up to which a shard's stream keeps what is archived and applied.
    """

    def __init__(self, store: RoundTrips, archive: Archive, *, kept: int) -> None:
        self._store, self._archive, self._kept = store, archive, kept
        self.counts: Counter[str] = Counter()  # "archived", "trimmed", "merged"

    async def step(self) -> bool:
        """Read what is not archived yet, archive it, trim; whether there is more.

        Raises:
            RedisError, OSError, TimeoutError: the store failed. ArchiveError: the disk did. Calling again goes on.
        """
        after = await asyncio.to_thread(self._archive.until)
        streams = {stream_key(number).encode(): number for number in range(SHARDS)}
        positions = [text_of(one) for one in after]
        (read,) = await self._store.demand([("XREAD", "COUNT", str(READ), "STREAMS", *streams, *positions)])
        runs = [Run.of(streams[stream], entries) for stream, entries in read or []]
        if not runs:
            await self._trim(after)
            return False
        until = list(after)
        for one in runs:
            until[one.shard] = position_of(one.end)
        logged = [
            (one.shard, position, event)
            for one in runs
            for position, event in zip(one.positions, one.events, strict=True)
        ]
        if await asyncio.to_thread(self._archive.append, event_rows(logged), after=after, until=until):
            self.counts["archived"] += len(logged)
            await self._trim(until)
        return any(one.entries == READ for one in runs)

    async def merge(self) -> None:
        """Make one file of many where that is due. Raises ArchiveError."""
        self.counts["merged"] += await asyncio.to_thread(self._archive.merge, today=datetime.now(UTC).date())

    async def _trim(self, archived: Sequence[Position]) -> None:
        """Drop from streams that are long what is archived, in the live states and in those being rebuilt."""
        lengths = await self._store.demand([("XLEN", stream_key(number)) for number in range(SHARDS)])
        if max(lengths) <= self._kept:
            return
        live, rebuilt = await self._store.demand([("GET", live_key()), ("GET", rebuilt_key())])
        names = [live_name(live), *([rebuilt.decode()] if rebuilt else [])]
        keys = [live_key(), rebuilt_key()]
        for number in range(SHARDS):
            keys += [stream_key(number), *(position_key(name, number) for name in names)]
        arguments = [live or b"", rebuilt or b"", str(len(names)), str(self._kept), *map(text_of, archived)]
        (trimmed,) = await self._store.demand([("EVAL", _TRIM, str(len(keys)), *keys, *arguments)])
        self.counts["trimmed"] += trimmed


async def run(archiver: Archiver, *, every_s: float) -> None:
    """Step for ever; what fails is tried again after a while, and the log waits."""
    failing = False
    while True:
        try:
            while await archiver.step():
                pass
            await archiver.merge()
            failing = False
        except (RedisError, OSError, TimeoutError, ArchiveError) as error:
            if not failing:
                _log.warning("the archiver waits: %s", str(error) or type(error).__name__)
            failing = True
        await asyncio.sleep(every_s)

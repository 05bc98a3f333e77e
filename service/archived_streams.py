"""The streams that go to archives: events by shard, and decision records."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from recsys.archive import Position
from recsys.erased_users import ErasedUsers, user_digest
from service.archives import decision_rows, event_rows, user_of
from service.decision_stream import record_of
from service.decisions import STREAM, Decision, Erased
from service.event_log import stream_key
from service.log_entries import Entry, Run, position_of, text_of
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
_log = logging.getLogger(__name__)


class EventStreams:
    """The event log; what is archived and in the states leaves streams that are long. Counts "trimmed".

    Args:
        kept: Entries up to which a shard's stream keeps what is archived and applied.
    """

    def __init__(self, store: RoundTrips, *, kept: int) -> None:
        self.keys: Sequence[str] = [stream_key(number) for number in range(SHARDS)]
        self._store, self._kept = store, kept

    async def rows(self, entries: Sequence[tuple[int, Sequence[Entry]]]) -> pa.Table:
        """Rows of the event archive; entries that are no events are passed over."""
        runs = [Run.of(number, found) for number, found in entries]
        return event_rows(
            [
                (one.shard, position, event)
                for one in runs
                for position, event in zip(one.positions, one.events, strict=True)
            ]
        )

    async def release(self, _: Sequence[Position], until: Sequence[Position]) -> Counter[str]:
        """Drop from streams that are long what is archived, in the live states and in those being rebuilt."""
        lengths = await self._store.demand([("XLEN", key) for key in self.keys])
        if max(lengths) <= self._kept:
            return Counter()
        live, rebuilt = await self._store.demand([("GET", live_key()), ("GET", rebuilt_key())])
        names = [live_name(live), *([rebuilt.decode()] if rebuilt else [])]
        keys = [live_key(), rebuilt_key()]
        for number in range(SHARDS):
            keys += [stream_key(number), *(position_key(name, number) for name in names)]
        arguments = [live or b"", rebuilt or b"", str(len(names)), str(self._kept), *map(text_of, until)]
        (trimmed,) = await self._store.demand([("EVAL", _TRIM, str(len(keys)), *keys, *arguments)])
        return Counter(trimmed=trimmed)


class DecisionStreams:
    """The stream of decision records, which drops its oldest by itself, archived or not.

    A user who was forgotten may ask for lists, and some were on their way into the stream: of those only the stub is
    archived, and the stream loses the record.

    Counts "gaps": how often it had dropped entries that may not have been archived. How many they were nobody knows.
    """

    def __init__(self, store: RoundTrips, erased: ErasedUsers) -> None:
        self.keys: Sequence[str] = [STREAM]
        self._store, self._erased = store, erased

    async def rows(self, entries: Sequence[tuple[int, Sequence[Entry]]]) -> pa.Table:
        """Rows of the decision archive; entries that are no records are passed over."""
        ((_, found),) = entries
        erased = await asyncio.to_thread(self._erased.read)  # after the entries: who was listed before them is known
        logged: list[tuple[Position, Decision | Erased, bytes | None]] = []
        gone = []
        for position, fields in found:
            value = dict(zip((fields or [])[::2], (fields or [])[1::2], strict=False)).get(b"d", b"")
            record, at = record_of(value), position_of(position)
            if record and at[0] < erased.get(user_digest(user_of(record) or ""), 0):
                logged.append((at, Erased(id=record.id, time_ms=record.time_ms), None))
                gone.append(position)
            elif record:
                logged.append((at, record, value))
        if gone:  # a death after this costs a stub, one before would keep the record
            await self._store.demand([("XDEL", STREAM, *gone)])
        return decision_rows(logged)

    async def release(self, after: Sequence[Position], until: Sequence[Position]) -> Counter[str]:
        """See whether the stream had dropped something beyond `after`."""
        if after == until:
            return Counter()
        (info,) = await self._store.demand([("XINFO", "STREAM", STREAM)])
        stream = dict(zip(info[::2], info[1::2], strict=True))
        first = stream[b"first-entry"]
        dropped = stream[b"entries-added"] > stream[b"length"]
        if not dropped or (first is not None and position_of(first[0]) <= after[0]):
            return Counter()
        _log.warning("decision records left their stream since %s that may not be archived", text_of(after[0]))
        return Counter(gaps=1)

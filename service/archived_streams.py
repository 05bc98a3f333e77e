"""The streams that go to archives: events by shard, decision records, and the catalogue."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from recsys.archive import Position
from recsys.erased_users import ErasedUsers, user_digest
from service.archives import catalogue_rows, decision_rows, event_rows
from service.catalogue_entries import changes_in
from service.decision_stream import heading_of
from service.decisions import STREAM, Erased, Heading
from service.event_log import stream_key
from service.item_snapshot import CATALOGUE, HEAD_BYTES, horizon_of, snapshot_key
from service.log_entries import Entry, Run, position_of, text_of
from service.node_connections import without_errors
from service.round_trips import Command, RoundTrips
from service.state_keys import SHARDS, live_key, live_name, position_key, rebuilt_key

# KEYS: a shard's stream, its position in each of some states. ARGV: entries that the stream may keep; the first
# position that is not in the item stats of each; how far the shard is archived. Returns how many left, and how many of
# them no item stats have.
_TRIM = """
local function before(a, b)
  local a_ms, a_sequence = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_sequence = string.match(b, '(%d+)-(%d+)')
  if a_ms ~= b_ms then return tonumber(a_ms) < tonumber(b_ms) end
  return tonumber(a_sequence) < tonumber(b_sequence)
end
local kept, done, trimmed, uncounted = tonumber(ARGV[1]), ARGV[3], 0, 0
for i = 2, #KEYS do
  local position = redis.call('GET', KEYS[i]) or '0-0'
  if before(position, done) then done = position end
end
if redis.call('XLEN', KEYS[1]) > kept then
  trimmed = redis.call('XTRIM', KEYS[1], 'MINID', before(ARGV[2], done) and ARGV[2] or done)
end
if redis.call('XLEN', KEYS[1]) > 1.5 * kept then
  uncounted = redis.call('XTRIM', KEYS[1], 'MINID', done)
end
return {trimmed + uncounted, uncounted}
"""
_END: Position = (2**53, 0)  # beyond every clock; Lua counts no further
_log = logging.getLogger(__name__)


class EventStreams:
    """The event log; what is archived, in the states and in the item stats leaves streams that are long.

    A rebuild that begins between the look at which states there are and the trimming needs nothing of what leaves: it
    was archived before that look, and the rebuild reads the archive after it. So each shard is trimmed by itself, which
    a cluster asks for.

    An item updater that stands still must not fill the log: beyond one and a half times `kept` what only the item stats
    lack leaves as well. Counts "trimmed", and "uncounted" of them.

    Args:
        kept: Entries up to which a shard's stream keeps what nobody needs.
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
        """Drop from streams that are long what is archived, in the live states and in those being rebuilt.

        Their item stats are waited for as the class says.
        """
        lengths = await self._store.call([("XLEN", key) for key in self.keys])
        long = [number for number, length in enumerate(lengths) if isinstance(length, int) and length > self._kept]
        if not long:
            without_errors(lengths)
            return Counter()
        live, rebuilt = await self._store.demand([("GET", live_key()), ("GET", rebuilt_key())])
        names = [live_name(live), *([rebuilt.decode()] if rebuilt else [])]
        counted = text_of(await _counted(self._store, live, rebuilt))
        commands: list[Command] = []
        for number in long:
            keys = [stream_key(number), *(position_key(name, number) for name in names)]
            arguments = str(self._kept), counted, text_of(until[number])
            commands.append(("EVAL", _TRIM, str(len(keys)), *keys, *arguments))
        done = await self._store.demand(commands)
        trimmed, uncounted = (sum(one[at] for one in done) for at in (0, 1))
        if uncounted:
            _log.warning("%d events left the log that no item stats have; `riffle features rebuild` counts", uncounted)
        return Counter(trimmed=trimmed, uncounted=uncounted)


class DecisionStreams:
    """The stream of decision records, which drops its oldest by itself, archived or not.

    A user who was forgotten may ask for lists, and some were on their way into the stream: of those only the stub is
    archived, and the stream loses the record.

    Counts "gaps": how often it had dropped entries that may not have been archived. How many they were nobody knows.
    Counts "trimmed": what left because it is archived. What the store holds is what a rewrite of its file has to write.

    Args:
        kept: Entries up to which it keeps what is archived.
    """

    def __init__(self, store: RoundTrips, erased: ErasedUsers, *, kept: int) -> None:
        self.keys: Sequence[str] = [STREAM]
        self._store, self._erased, self._kept = store, erased, kept

    async def rows(self, entries: Sequence[tuple[int, Sequence[Entry]]]) -> pa.Table:
        """Rows of the decision archive; entries that are no records are passed over."""
        ((_, found),) = entries
        erased = await asyncio.to_thread(self._erased.read)  # after the entries: who was listed before them is known
        logged: list[tuple[Position, Heading | Erased, bytes | None]] = []
        gone = []
        for position, fields in found:
            value = dict(zip((fields or [])[::2], (fields or [])[1::2], strict=False)).get(b"d", b"")
            heading, at = heading_of(value), position_of(position)
            if heading and at[0] < erased.get(user_digest(heading.query.user_id or ""), 0):
                logged.append((at, Erased(id=heading.id, time_ms=heading.time_ms), None))
                gone.append(position)
            elif heading:
                logged.append((at, heading, value))
        if gone:  # a death after this costs a stub, one before would keep the record
            await self._store.demand([("XDEL", STREAM, *gone)])
        return decision_rows(logged)

    async def release(self, after: Sequence[Position], until: Sequence[Position]) -> Counter[str]:
        """See whether the stream had dropped something beyond `after`; drop from a long one what came before that.

        What was moved just now stays, so that the next look finds an entry it knows.
        """
        if after == until:
            return Counter()
        (info,) = await self._store.demand([("XINFO", "STREAM", STREAM)])
        stream = dict(zip(info[::2], info[1::2], strict=True))
        first = stream[b"first-entry"]
        dropped = stream[b"entries-added"] > stream[b"length"]
        counts: Counter[str] = Counter()
        if dropped and (first is None or position_of(first[0]) > after[0]):
            _log.warning("decision records left their stream since %s that may not be archived", text_of(after[0]))
            counts["gaps"] = 1
        if stream[b"length"] > self._kept:
            (counts["trimmed"],) = await self._store.demand([("XTRIM", STREAM, "MINID", text_of(after[0]))])
        return counts


class CatalogueStream:
    """The catalogue; what is archived and in the item snapshots leaves it where it is long. Counts "trimmed".

    Args:
        kept: Entries up to which it keeps what is archived and in the snapshots.
    """

    def __init__(self, store: RoundTrips, *, kept: int) -> None:
        self.keys: Sequence[str] = [CATALOGUE]
        self._store, self._kept = store, kept

    async def rows(self, entries: Sequence[tuple[int, Sequence[Entry]]]) -> pa.Table:
        """Rows of the catalogue's archive; entries that are no items are passed over."""
        ((_, found),) = entries
        return catalogue_rows(changes_in(found))

    async def release(self, _: Sequence[Position], until: Sequence[Position]) -> Counter[str]:
        """Drop from a long stream what is archived, in the live item snapshot and in that of states being rebuilt.

        The item updater reads on from the horizon of either; of a rebuild that begins meanwhile the class of the event
        log says why it needs nothing of what leaves.
        """
        length, live, rebuilt = await self._store.demand(
            [("XLEN", CATALOGUE), ("GET", live_key()), ("GET", rebuilt_key())]
        )
        if length <= self._kept:
            return Counter()
        first = min(until[0], await _counted(self._store, live, rebuilt))
        (trimmed,) = await self._store.demand([("XTRIM", CATALOGUE, "MINID", text_of(first))])
        return Counter(trimmed=trimmed)


async def _counted(store: RoundTrips, *namespaces: bytes | None) -> Position:
    """The position from which on the item snapshots of some namespaces lack what is in the streams.

    A namespace that is being made has none at first, and nobody knows where it will begin.
    """
    keys = [snapshot_key(name.decode()) for name in namespaces if name]
    heads = await store.demand([("GETRANGE", key, "0", str(HEAD_BYTES - 1)) for key in keys])
    return min(((horizon_of(one), 0) for one in heads), default=_END)

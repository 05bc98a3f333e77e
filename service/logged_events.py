"""Events of a stretch of time, wherever they lie: in the archive, then what of the log it does not have."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.archive import Archive, Position
from service.event_log import stream_key
from service.log_entries import Run, position_of, text_of
from service.round_trips import RoundTrips
from service.state_keys import SHARDS

POSITION = ("stream", "ms", "sequence")  # columns of an archived event
_PAGE = 2_000


class LoggedEvent(NamedTuple):
    """An event as `event_log.Event` has it, and `ms`, when it came to the log by the store's clock."""

    ms: int
    user_id: str
    item_id: str
    type: str
    verb: int
    ts_ms: int
    received_ms: int
    recommendation_id: str | None
    position: int | None
    value: float | None


class LoggedEvents:
    """Reads them.

    Args:
        store: Of the streams. archive: Of events; it is read in a thread.
    """

    def __init__(self, store: RoundTrips, archive: Archive) -> None:
        self._store, self._archive = store, archive

    async def since(self, moment: datetime) -> AsyncIterator[LoggedEvent]:
        """All that arrived at a moment or later, and some that arrived before it; the archived ones first, in parts.

        Raises:
            ArchiveError: a file cannot be read. RedisError, OSError, TimeoutError: the store failed.
        """
        until = await asyncio.to_thread(self._archive.until)
        columns = dict.fromkeys((*POSITION, *LoggedEvent._fields))
        parts = self._archive.oldest(columns=list(columns), since_ms=int(moment.timestamp() * 1000))
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            known = part.filter(pc.invert(is_after(part, until)))  # the rest was archived meanwhile, and is read below
            for row in zip(*(known[name].to_pylist() for name in LoggedEvent._fields), strict=True):
                yield LoggedEvent(*row)
        for number in range(SHARDS):
            async for run in runs_after(self._store, number, until[number]):
                for position, one in zip(run.positions, run.events, strict=True):
                    own = (getattr(one, name) for name in LoggedEvent._fields[1:])
                    yield LoggedEvent(position[0], *own)


def is_after(rows: pa.Table, positions: Sequence[Position]) -> pa.Array:
    """Which archived rows, of several streams, came after the position of theirs."""
    stream, ms, sequence = (rows[name].to_numpy() for name in POSITION)
    last = np.array(positions, np.uint64)[stream]
    return pa.array((ms > last[:, 0]) | ((ms == last[:, 0]) & (sequence > last[:, 1])))


async def runs_after(store: RoundTrips, number: int, after: Position) -> AsyncIterator[Run]:
    """What a shard's stream has beyond a position, a page at a time; errors as the store's."""
    while True:
        start = f"({text_of(after)}"
        (page,) = await store.demand([("XRANGE", stream_key(number), start, "+", "COUNT", str(_PAGE))])
        if page:
            run = Run.of(number, page)
            yield run
            after = position_of(run.end)
        if len(page) < _PAGE:
            return

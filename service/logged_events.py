"""Events of a stretch of time, wherever they lie: in the archive, then what of the log it does not have."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from recsys.archive import Archive, Position
from service.event_log import stream_key
from service.log_entries import Run, position_of, text_of
from service.round_trips import RoundTrips
from service.state_keys import SHARDS

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
        """All that arrived on the day of a moment or later, the archived ones first.

        Raises:
            ArchiveError: a file cannot be read. RedisError, OSError, TimeoutError: the store failed.
        """
        days = [moment.date() + timedelta(days=n) for n in range((datetime.now(UTC) - moment).days + 3)]
        until = await asyncio.to_thread(self._archive.until)
        table = await asyncio.to_thread(self._archive.read, columns=LoggedEvent._fields, days=days)
        columns = await asyncio.to_thread(lambda: [table[name].to_pylist() for name in LoggedEvent._fields])
        for row in zip(*columns, strict=True):
            yield LoggedEvent(*row)
        for number in range(SHARDS):
            async for run in runs_after(self._store, number, until[number]):
                for position, one in zip(run.positions, run.events, strict=True):
                    own = (getattr(one, name) for name in LoggedEvent._fields[1:])
                    yield LoggedEvent(position[0], *own)


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

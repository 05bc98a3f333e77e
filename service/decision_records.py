"""Decision records, wherever they are: first in their stream, then in the archive."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from recsys.archive import Archive, Position
from recsys.errors import ArchiveError
from service.decision_stream import WRITTEN_WITHIN_MS, DecisionStream, answered_at_ms, identity_of, record_of
from service.decisions import Decision, Erased
from service.errors import NotFound, RecordsUnavailable

_COLUMNS = ("ms", "sequence", "id", "time_ms", "record")


class DecisionRecords:
    """All records that there are. The archive is read in a thread.

    Args:
        archive: As `archives.decision_archive`.
    """

    def __init__(self, stream: DecisionStream, archive: Archive) -> None:
        self._stream, self._archive = stream, archive

    async def find(self, recommendation_id: str) -> Decision | Erased:
        """The record of one answer, or what is left of it.

        Of the archive only the day of the answer is read, and of that the parts whose ids may be its own.

        Raises:
            NotFound: it is no recommendation id, or there is no such record.
            RecordsUnavailable: the store does not answer, or a file of the archive cannot be read.
        """
        try:
            return await self._stream.find(recommendation_id)
        except NotFound:
            identity = identity_of(recommendation_id)
        at_ms = answered_at_ms(identity)
        days = {_day(at_ms), _day(at_ms + WRITTEN_WITHIN_MS)}
        try:
            rows = await asyncio.to_thread(
                self._archive.read, columns=_COLUMNS, days=sorted(days), where=[("id", "=", str(identity))]
            )
        except ArchiveError as error:
            raise RecordsUnavailable(f"decision records cannot be read: {error}") from error
        if not (records := _records(rows)):
            raise NotFound(f"no record of {identity}; it was not sampled, or was dropped before it was archived")
        return records[-1]

    async def newest(self, count: int | None = None, *, since_ms: int = 0) -> AsyncIterator[Decision | Erased]:
        """The newest `count` records (all: None) of answers given at `since_ms` or later, newest first.

        Args:
            since_ms: UTC epoch milliseconds.
        Raises:
            RecordsUnavailable: the store does not answer, or a file of the archive cannot be read.
        """
        given = 0
        async for record in self._all(since_ms):
            if record.time_ms >= since_ms:
                yield record
                given += 1
                if given == count:
                    return

    async def after(self, position: Position) -> AsyncIterator[tuple[Position, Decision | Erased | None]]:
        """Every entry after a position, the oldest first, with its position; None where it is no record.

        Raises:
            RecordsUnavailable: the store does not answer, or a file of the archive cannot be read.
        """
        try:
            (until,) = await asyncio.to_thread(self._archive.until)
            parts = self._archive.oldest(columns=_COLUMNS, since_ms=position[0])
            while until > position and (part := await asyncio.to_thread(next, parts, None)) is not None:
                newer = part.filter(_is_after(part, position))  # of thousands that were read before none is decoded
                for at, record in zip(_positions(newer), _found(newer), strict=True):
                    position = at
                    yield at, record
        except ArchiveError as error:
            raise RecordsUnavailable(f"decision records cannot be read: {error}") from error
        async for one in self._stream.entries_after(max(position, until)):
            yield one

    async def _all(self, since_ms: int) -> AsyncIterator[Decision | Erased]:
        oldest = (2**63, 0)  # of the stream; the archive goes on before it
        async for position, record in self._stream.newest_entries(since_ms=since_ms):
            oldest = position
            if record is not None:
                yield record
        parts = self._archive.newest(columns=_COLUMNS, since_ms=since_ms)
        while True:
            try:
                part = await asyncio.to_thread(next, parts, None)
            except ArchiveError as error:
                raise RecordsUnavailable(f"decision records cannot be read: {error}") from error
            if part is None:
                return
            earlier = part.filter(pa.array([position < oldest for position in _positions(part)], pa.bool_()))
            for one in reversed(_records(earlier)):
                yield one


def _records(rows: pa.Table) -> list[Decision | Erased]:
    """What the rows hold; those that are no records of this version are passed over."""
    return [record for record in _found(rows) if record is not None]


def _found(rows: pa.Table) -> list[Decision | Erased | None]:
    """What each row holds; None where it is no record of this version."""
    return [
        Erased(id=identity, time_ms=time_ms) if value is None else record_of(value)
        for identity, time_ms, value in zip(*(rows[name].to_pylist() for name in _COLUMNS[2:]), strict=True)
    ]


def _positions(rows: pa.Table) -> list[Position]:
    return list(zip(rows["ms"].to_pylist(), rows["sequence"].to_pylist(), strict=True))


def _is_after(rows: pa.Table, position: Position) -> pa.ChunkedArray:
    """Which rows came after a position."""
    ms, sequence = position
    return pc.or_(pc.greater(rows["ms"], ms), pc.and_(pc.equal(rows["ms"], ms), pc.greater(rows["sequence"], sequence)))


def _day(ms: int) -> date:
    return datetime.fromtimestamp(ms / 1000, UTC).date()

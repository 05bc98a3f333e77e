"""Decision records read back from their stream."""

from collections.abc import AsyncIterator
from uuid import UUID

import msgspec
from redis.exceptions import RedisError

from recsys.archive import Position
from service.decisions import STREAM, Decision, Heading
from service.errors import NotFound, RecordsUnavailable
from service.log_entries import position_of
from service.round_trips import RoundTrips

PAGE = 100  # records per round trip, some 300 kB: the gateway parses a page between two micro-batches
WRITTEN_WITHIN_MS = 60_000  # a record is in the stream so long after its answer, or it was dropped

_decode = msgspec.msgpack.Decoder(Decision).decode
_decode_heading = msgspec.msgpack.Decoder(Heading).decode


class DecisionStream:
    """The records that the stream still has. Entries that are no records are passed over.

    Args:
        store: Of its own: a page must not keep a lookup waiting.
    """

    def __init__(self, store: RoundTrips) -> None:
        self._store = store

    async def find(self, recommendation_id: str) -> Decision:
        """The record of one answer.

        Raises:
            NotFound: it is no recommendation id, or there is no such record.
            RecordsUnavailable: the store does not answer.
        """
        identity = identity_of(recommendation_id)
        answered_ms = answered_at_ms(identity)
        wanted = str(identity).encode("ascii")
        async for _, value in self._values("XRANGE", str(answered_ms), str(answered_ms + WRITTEN_WITHIN_MS)):
            # The id stands in the record as text: other records need not be decoded.
            if wanted in value and (record := record_of(value)) and record.id == str(identity):
                return record
        raise NotFound(f"no record of {identity}; it was not sampled, or the stream has dropped it")

    async def newest(self, count: int | None = None, *, since_ms: int = 0) -> AsyncIterator[Decision]:
        """The newest `count` records (all: None) of answers given at `since_ms` or later, newest first.

        Args:
            since_ms: UTC epoch milliseconds.
        Raises:
            RecordsUnavailable: the store does not answer.
        """
        given = 0
        async for _, record in self.newest_entries(since_ms=since_ms):
            if record is None or record.time_ms < since_ms:
                continue
            yield record
            given += 1
            if given == count:
                return

    async def newest_entries(self, *, since_ms: int = 0) -> AsyncIterator[tuple[Position, Decision | None]]:
        """Every entry written at `since_ms` or later, newest first, with its position; None where it is no record.

        Raises:
            RecordsUnavailable: the store does not answer.
        """
        async for position, value in self._values("XREVRANGE", "+", str(since_ms)):
            yield position, record_of(value)

    async def entries_after(self, position: Position) -> AsyncIterator[tuple[Position, Decision | None]]:
        """As `newest_entries`, what came after a position, the oldest first."""
        async for at, value in self._values("XRANGE", f"({position[0]}-{position[1]}", "+"):
            yield at, record_of(value)

    async def _values(self, command: str, begin: str, end: str) -> AsyncIterator[tuple[Position, bytes]]:
        """What each entry holds, page by page, in the order of the command."""
        while True:
            page = await self._page(command, begin, end)
            for position, fields in page:
                yield position_of(position), dict(zip(fields[::2], fields[1::2], strict=True)).get(b"d", b"")
            if len(page) < PAGE:
                return
            begin = f"({page[-1][0].decode('ascii')}"

    async def _page(self, command: str, begin: str, end: str) -> list[tuple[bytes, list[bytes]]]:
        try:
            (page,) = await self._store.call([(command, STREAM, begin, end, "COUNT", str(PAGE))])
        except (RedisError, OSError, TimeoutError) as error:
            page = error
        if isinstance(page, Exception):
            why = str(page) or type(page).__name__
            raise RecordsUnavailable(f"decision records cannot be read: {why}") from page
        return page


def identity_of(recommendation_id: str) -> UUID:
    """A recommendation id as it was made. Raises NotFound where it is none."""
    try:
        return UUID(recommendation_id)
    except ValueError as error:
        raise NotFound(f"{recommendation_id[:100]!r} is no recommendation id; it is a UUID, as in an answer") from error


def answered_at_ms(identity: UUID) -> int:
    """When the answer of a recommendation id was begun, UTC epoch milliseconds."""
    return identity.int >> 80


def record_of(value: bytes) -> Decision | None:
    """What was written, None where it is no record of this version."""
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def heading_of(value: bytes) -> Heading | None:
    """What a record is filed under; None where it is no record, or one of a list for a user whom it does not name.

    Nobody could find such a one again to forget its user.

    Cost: 0.9 us, and nothing for the collector to walk; `record_of` takes 6 us, 27 where thousands are held.
    """
    try:
        found = _decode_heading(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if found.query.user_id is not None or found.kind == "similar" else None

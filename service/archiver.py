"""The archiver: from streams to Parquet, and out of Redis what is on disk.

How far it has come is what the archive itself reaches to. So one that dies, or a second one started by mistake, loses
nothing and keeps nothing twice.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import pyarrow as pa
from redis.exceptions import RedisError

from recsys.archive import Archive, Position
from recsys.errors import ArchiveError, DatasetError
from service.errors import StackError
from service.log_entries import Entry, position_of, text_of
from service.round_trips import RoundTrips
from service.stream_reading import read_streams

READ = 2_000  # entries of one stream that become one file: of events about 10 MB, and 30 ms of decoding
PAGE = 100  # entries of each stream in one reply: the store answers nobody else while it makes one
_log = logging.getLogger(__name__)


class Streams(Protocol):
    """What is moved: where it lies, what becomes of it, and what may leave the store.

    Attributes:
        keys: Of the streams, by their number in the archive.
    """

    keys: Sequence[str]

    async def rows(self, entries: Sequence[tuple[int, Sequence[Entry]]]) -> pa.Table:
        """Rows of the archive from (stream, what was read of it)."""
        ...

    async def release(self, after: Sequence[Position], until: Sequence[Position]) -> Counter[str]:
        """See to the store, now that what came after `after` is archived up to `until`; what was done, by name."""
        ...


class Archiver:
    """Moves what lies in streams to an archive.

    Args:
        store: Its timeout allows for PAGE entries of each stream.
    """

    def __init__(self, store: RoundTrips, archive: Archive, streams: Streams) -> None:
        self._store, self.archive, self._streams = store, archive, streams
        # "archived", "passed_over", "merged", "unread", and what the streams count
        self.counts: Counter[str] = Counter()

    async def step(self) -> bool:
        """Read what is not archived yet, archive it, release it; whether there is more.

        Raises:
            RedisError, OSError, TimeoutError: the store failed. ArchiveError: the disk did. Calling again goes on.
        """
        after = await asyncio.to_thread(self.archive.until)
        entries = await self._read(after)
        if not entries:
            self.counts += await self._streams.release(after, after)
            return False
        until = list(after)
        for number, found in entries:
            until[number] = position_of(found[-1][0])
        rows = await self._streams.rows(entries)
        if await asyncio.to_thread(self.archive.append, rows, after=after, until=until):
            self.counts["archived"] += len(rows)
            self.counts["passed_over"] += sum(len(found) for _, found in entries) - len(rows)
            self.counts += await self._streams.release(after, until)
        return any(len(found) >= READ for _, found in entries)

    async def _read(self, after: Sequence[Position]) -> list[tuple[int, list[Entry]]]:
        """What came after some positions, at most READ entries and a page of each stream, by its number."""
        number_of = {key: number for number, key in enumerate(self._streams.keys)}
        found: dict[int, list[Entry]] = {number: [] for number in number_of.values()}
        reached: dict[str, str | bytes] = {stream: text_of(after[number]) for stream, number in number_of.items()}
        while reached:
            read = await read_streams(self._store, reached, count=PAGE)
            reached = {}
            for stream, page in read.items():
                if isinstance(page, Exception):
                    self.counts["unread"] += 1  # the others need not wait for its node
                    continue
                entries = found[number_of[stream]]
                entries += page
                if len(page) == PAGE and len(entries) < READ:
                    reached[stream] = page[-1][0]
        return [(number, entries) for number, entries in found.items() if entries]

    async def drain(self) -> None:
        """Step until there is no more. Raises as `step` does, and OSError where a node of the store does not answer."""
        unread = self.counts["unread"]
        while await self.step():
            pass
        if self.counts["unread"] > unread:
            raise ConnectionError("a node of the store does not answer, so not all is archived")

    async def merge(self) -> None:
        """Make one file of many where that is due. Raises ArchiveError."""
        self.counts["merged"] += await asyncio.to_thread(self.archive.merge, today=datetime.now(UTC).date())
        pa.default_memory_pool().release_unused()  # it keeps what a step took, 300 MB after half a million records


async def run(
    archivers: Sequence[Archiver], *, every_s: float, then: Sequence[Callable[[], Awaitable[int]]] = ()
) -> None:
    """Archive for ever, then each time what is to be done then; what fails is tried again and holds nothing else up."""
    tasks: list[Callable[[], Awaitable[object]]] = [one.drain for one in archivers]
    tasks += [*(one.merge for one in archivers), *then]
    failing: set[Callable[[], Awaitable[object]]] = set()
    while True:
        for task in tasks:
            try:
                await task()
                failing.discard(task)
            except (RedisError, OSError, TimeoutError, ArchiveError, DatasetError, StackError) as error:
                if task not in failing:
                    _log.warning("the archiver waits: %s", str(error) or type(error).__name__)
                failing.add(task)
        await asyncio.sleep(every_s)

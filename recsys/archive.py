"""What came through streams, kept for good: Parquet files by day of arrival, in the order of arrival.

A file's name has the range of its numbers; its metadata says how far into each stream the archive reaches with it. So
the files are the position as well: what is there is archived, what is not is not. A file that merges others covers
their numbers, and those it covers do not count.
"""

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.archive_files import File, Position, by_stream, counting, merged, readable, sweep, write
from recsys.errors import ArchiveError

MERGED_AT = 32  # files of one day that become one
DAY_MS = 86_400_000
POSITION = (pa.field("stream", pa.uint8()), pa.field("ms", pa.uint64()), pa.field("sequence", pa.uint64()))
START: Position = (0, 0)

Condition = tuple[str, str, Any]  # column, "=", ">=", "in" and the like, value


class Archive:
    """One archive. Several processes may use it; a lock in its folder sees to that.

    Args:
        root: Its folder; made when something is appended.
        streams: How many streams it takes from, at most 256.
        columns: Of what is kept, besides `stream`, `ms` and `sequence` (POSITION).
    """

    def __init__(self, root: Path, *, streams: int, columns: Sequence[pa.Field]) -> None:
        self.root, self._streams = root, streams
        self.schema = pa.schema([*POSITION, *columns])

    def until(self) -> list[Position]:
        """How far each stream is archived, inclusively.

        Raises:
            ArchiveError: a file cannot be read.
        """
        if not self.root.exists():
            return [START] * self._streams
        with self._locked(fcntl.LOCK_SH):
            return self._reached()

    def append(self, rows: pa.Table, *, after: Sequence[Position], until: Sequence[Position]) -> bool:
        """Add what came after `after`, up to `until`; when this returns it is on disk.

        Args:
            rows: As `schema`, ascending within each stream; empty where nothing worth keeping came.
        Returns:
            False, and nothing is added, where the archive does not reach just to `after`: somebody else has added.
        Raises:
            ArchiveError: the disk refuses; what was archived before is as it was.
        """
        rows = rows.select(self.schema.names).cast(self.schema)
        with self._locked():
            if self._reached() != list(after):
                return False
            number = max((one.last for one in counting(self.root)), default=-1) + 1
            reached = list(after)
            parts = _by_day(rows) or [(_day(max(until)[0]), rows)]
            for place, (day, part) in enumerate(parts):
                for stream, position in ends(part).items():
                    reached[stream] = position
                last = place == len(parts) - 1
                target = File.at(self.root, day, number, number)
                write(by_stream(part), target, self.schema, until if last else reached)
                number += 1
            return True

    def read(
        self,
        *,
        stream: int | None = None,
        columns: Sequence[str] | None = None,
        days: Sequence[date] | None = None,
        where: Sequence[Condition] = (),
    ) -> pa.Table:
        """What is archived, ascending by stream and position within each file, the files in order of their numbers.

        Args:
            stream: Only this one. columns: Only these. days: Only what arrived on these (UTC). where: Only rows that
                meet all of these; parts of files whose statistics rule them out are not read.
        Raises:
            ArchiveError: a file cannot be read.
        """
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        wanted = [*where, *([] if stream is None else [("stream", "=", stream)])]
        parts = [schema.empty_table()]
        if not self.root.exists():
            return parts[0]
        with self._locked(fcntl.LOCK_SH):  # no file goes while it is wanted
            for one in counting(self.root):
                if days is None or one.day in days:
                    with readable(one.path):
                        part = pq.read_table(one.path, columns=schema.names, filters=wanted or None, partitioning=None)
                        parts.append(part.cast(schema))
        return pa.concat_tables(parts)

    def newest(self, *, columns: Sequence[str], since_ms: int = 0) -> Iterator[pa.Table]:
        """Parts of an archive of one stream, the newest first, rows in each ascending; read as they are asked for.

        Args:
            since_ms: What arrived before this moment (UTC epoch milliseconds) may be left out, and need not be.
        Raises:
            ArchiveError: a file cannot be read.
        """
        return self._parts(columns, since_ms, newest_first=True)

    def oldest(self, *, columns: Sequence[str], since_ms: int = 0) -> Iterator[pa.Table]:
        """As `newest`, the oldest first; of several streams each is ascending."""
        return self._parts(columns, since_ms, newest_first=False)

    def _parts(self, columns: Sequence[str], since_ms: int, *, newest_first: bool) -> Iterator[pa.Table]:
        if not self.root.exists():
            return
        with self._locked(fcntl.LOCK_SH):
            days = {one.day for one in counting(self.root)}
        turned = reversed if newest_first else iter
        for day in turned(sorted(one for one in days if one >= _day(since_ms))):
            # Rows stay in their day, so what is merged meanwhile is neither lost nor doubled.
            with ExitStack() as opened:
                with self._locked(fcntl.LOCK_SH):
                    files = [one for one in counting(self.root) if one.day == day]
                    handles = []
                    for one in files:
                        with readable(one.path):
                            handles.append(opened.enter_context(pq.ParquetFile(one.path)))
                for one, handle in turned(list(zip(files, handles, strict=True))):
                    for group in turned(range(handle.num_row_groups)):
                        if _newest_ms(handle, group) < since_ms:
                            continue
                        with readable(one.path):
                            part = handle.read_row_group(group, columns=list(columns))
                        yield part

    def merge(self, *, today: date) -> int:
        """Merge the files of days that are over into one each, and many small ones of today; returns files saved.

        Raises:
            ArchiveError: the disk refuses.
        """
        saved = 0
        with self._locked():
            days: dict[date, list[File]] = {}
            for one in counting(self.root):
                days.setdefault(one.day, []).append(one)
            for day, files in days.items():
                small = [one for one in files if one.first == one.last]
                chosen = files if day < today else small if len(small) >= MERGED_AT else []
                if len(chosen) > 1:
                    self._merge(day, chosen)
                    saved += len(chosen) - 1
        return saved

    def rewrite(self, change: Callable[[pa.Table], pa.Table], *, where: Sequence[Condition] = ()) -> None:
        """Put what `change` makes of the rows in their place, file by file; what a death has left beside them goes.

        Args:
            change: Of some rows of a stream; returns the very table that it got where nothing changes. It is called
                once for each row, and again for those of a file that was not finished when a death came.
            where: Files without a row that meets all of these are left as they are.
        Raises:
            ArchiveError: a file cannot be read, or the disk refuses; files before it are changed already.
        """
        if not self.root.exists():
            return
        with self._locked():
            sweep(self.root)
            for one in counting(self.root):
                if where and not _some(one, where):
                    continue
                for place, rows in enumerate(one.groups()):
                    if (kept := change(rows)) is not rows:
                        parts = chain(one.groups(0, place), [kept], map(change, one.groups(place + 1)))
                        write(parts, one, self.schema, one.until(self._streams))
                        break

    def _reached(self) -> list[Position]:
        files = counting(self.root)
        return files[-1].until(self._streams) if files else [START] * self._streams

    def _merge(self, day: date, files: Sequence[File]) -> None:
        runs: list[list[File]] = []
        for one in files:  # what is merged must cover its range without a gap
            if runs and runs[-1][-1].last + 1 == one.first:
                runs[-1].append(one)
            else:
                runs.append([one])
        for run in runs:
            if len(run) == 1:
                continue
            target = File.at(self.root, day, run[0].first, run[-1].last)
            write(merged(run), target, self.schema, run[-1].until(self._streams))
            for one in run:
                one.path.unlink()

    @contextmanager
    def _locked(self, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with (self.root / "archive.lock").open("ab") as lock:
                fcntl.flock(lock, kind)
                yield
        except OSError as error:
            raise ArchiveError(f"cannot use the archive {self.root}: {error}; check the folder and the disk") from error


def _by_day(rows: pa.Table) -> list[tuple[date, pa.Table]]:
    """The rows of each day of arrival, the earliest first."""
    day = rows["ms"].to_numpy() // DAY_MS
    return [(_day(number * DAY_MS), rows.filter(pa.array(day == number))) for number in np.unique(day).tolist()]


def ends(rows: pa.Table) -> dict[int, Position]:
    """The last position of each stream, of rows that ascend within each."""
    stream, ms, sequence = (rows[name].to_numpy() for name in ("stream", "ms", "sequence"))
    last = {number: int(np.flatnonzero(stream == number)[-1]) for number in np.unique(stream).tolist()}
    return {number: (int(ms[row]), int(sequence[row])) for number, row in last.items()}


def _some(one: File, where: Sequence[Condition]) -> bool:
    """Whether a file has rows that meet all conditions."""
    with readable(one.path):
        return len(pq.read_table(one.path, columns=["ms"], filters=list(where), partitioning=None)) > 0


def _newest_ms(handle: pq.ParquetFile, group: int) -> int:
    """When the last row of a group arrived, by its statistics."""
    column = handle.metadata.row_group(group).column(handle.schema_arrow.get_field_index("ms"))
    return int(column.statistics.max) if column.statistics and column.statistics.has_min_max else 2**63


def _day(ms: int) -> date:
    return datetime.fromtimestamp(ms / 1000, UTC).date()

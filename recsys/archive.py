"""What came through streams, kept for good: Parquet files by day of arrival, in the order of arrival.

A file's name has the range of its numbers; its metadata says how far into each stream the archive reaches with it. So
the files are the position as well: what is there is archived, what is not is not. A file that merges others covers
their numbers, and those it covers do not count.
"""

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.errors import ArchiveError

MERGED_AT = 32  # files of one day that become one
DAY_MS = 86_400_000
POSITION = (pa.field("stream", pa.uint8()), pa.field("ms", pa.uint64()), pa.field("sequence", pa.uint64()))
_UNTIL = b"riffle.until"
_NAME = re.compile(r"(\d{10})-(\d{10})\.parquet")

Position = tuple[int, int]  # milliseconds, sequence
START: Position = (0, 0)


class _File(NamedTuple):
    """One file and the numbers that it covers."""

    path: Path
    first: int
    last: int


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
            number = max((one.last for one in self._files()), default=-1) + 1
            reached = list(after)
            parts = _by_day(rows) or [(_day(max(until)[0]), rows)]
            for place, (day, part) in enumerate(parts):
                for stream, position in _ends(part).items():
                    reached[stream] = position
                last = place == len(parts) - 1
                self._write(part, day, number, number, until if last else reached)
                number += 1
            return True

    def read(
        self, *, stream: int | None = None, columns: Sequence[str] | None = None, days: Sequence[date] | None = None
    ) -> pa.Table:
        """What is archived, ascending by stream and position within each file, the files in order of their numbers.

        Args:
            stream: Only this one. columns: Only these. days: Only what arrived on these (UTC).
        Raises:
            ArchiveError: a file cannot be read.
        """
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        wanted = None if stream is None else [("stream", "=", stream)]
        parts = [schema.empty_table()]
        if not self.root.exists():
            return parts[0]
        with self._locked(fcntl.LOCK_SH):  # no file goes while it is wanted
            for one in self._files():
                if days is None or _day_of(one.path) in days:
                    with _readable(one.path):
                        part = pq.read_table(one.path, columns=schema.names, filters=wanted, partitioning=None)
                        parts.append(part.cast(schema))
        return pa.concat_tables(parts)

    def merge(self, *, today: date) -> int:
        """Merge the files of days that are over into one each, and many small ones of today; returns files saved.

        Raises:
            ArchiveError: the disk refuses.
        """
        saved = 0
        with self._locked():
            days: dict[date, list[_File]] = {}
            for one in self._files():
                days.setdefault(_day_of(one.path), []).append(one)
            for day, files in days.items():
                small = [one for one in files if one.first == one.last]
                chosen = files if day < today else small if len(small) >= MERGED_AT else []
                if len(chosen) > 1:
                    self._merge(day, chosen)
                    saved += len(chosen) - 1
        return saved

    def rewrite(self, change: Callable[[pa.Table], pa.Table]) -> int:
        """Put what `change` makes of each file in its place, file by file; returns how many rows are gone.

        Args:
            change: Returns the very table that it got where nothing changes. Doing it twice is safe.
        Raises:
            ArchiveError: a file cannot be read, or the disk refuses; files before it are changed already.
        """
        gone = 0
        with self._locked():
            for one in self._files():
                with _readable(one.path):
                    rows = pq.read_table(one.path, partitioning=None)
                kept = change(rows)
                if kept is not rows:
                    self._write(kept, _day_of(one.path), one.first, one.last, self._until(one))
                    gone += len(rows) - len(kept)
        return gone

    def _reached(self) -> list[Position]:
        files = self._files()
        return self._until(files[-1]) if files else [START] * self._streams

    def _merge(self, day: date, files: Sequence[_File]) -> None:
        runs: list[list[_File]] = []
        for one in files:  # what is merged must cover its range without a gap
            if runs and runs[-1][-1].last + 1 == one.first:
                runs[-1].append(one)
            else:
                runs.append([one])
        for run in runs:
            if len(run) == 1:
                continue
            tables = []
            for one in run:
                with _readable(one.path):
                    tables.append(pq.read_table(one.path, partitioning=None))
            self._write(pa.concat_tables(tables), day, run[0].first, run[-1].last, self._until(run[-1]))
            for one in run:
                one.path.unlink()

    def _write(self, rows: pa.Table, day: date, first: int, last: int, until: Sequence[Position]) -> None:
        folder = self.root / f"day={day.isoformat()}"
        target = folder / f"{first:010d}-{last:010d}.parquet"
        temporary = target.with_suffix(".writing")
        rows = rows.sort_by([("stream", "ascending"), ("ms", "ascending"), ("sequence", "ascending")])
        metadata = {_UNTIL: json.dumps(until).encode()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                with pq.ParquetWriter(file, self.schema.with_metadata(metadata), compression="zstd") as writer:
                    for stream in np.unique(
                        rows["stream"].to_numpy()
                    ).tolist():  # a row group each: `read` skips others
                        writer.write_table(
                            rows.filter(pc.equal(rows["stream"], stream)).replace_schema_metadata(metadata)
                        )
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            for changed in (folder, self.root):
                _sync(changed)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise ArchiveError(f"cannot write {target}: {error}; free disk space or mend the folder") from error

    def _until(self, one: _File) -> list[Position]:
        with _readable(one.path):
            found = json.loads(pq.read_schema(one.path).metadata[_UNTIL])
            if len(found) != self._streams:
                raise ValueError(f"it is about {len(found)} streams, not {self._streams}")
            return [(int(ms), int(sequence)) for ms, sequence in found]

    def _files(self) -> list[_File]:
        """Those that count, by rising number."""
        found = []
        for path in self.root.glob("day=*/*.parquet"):
            if name := _NAME.fullmatch(path.name):
                found.append(_File(path, int(name[1]), int(name[2])))
        found.sort(key=lambda one: (one.first, -one.last))
        files: list[_File] = []
        for one in found:
            if not files or one.last > files[-1].last:
                files.append(one)
        return files

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


def _ends(rows: pa.Table) -> dict[int, Position]:
    """The last position of each stream in ascending rows."""
    stream, ms, sequence = (rows[name].to_numpy() for name in ("stream", "ms", "sequence"))
    last = {number: int(np.flatnonzero(stream == number)[-1]) for number in np.unique(stream).tolist()}
    return {number: (int(ms[row]), int(sequence[row])) for number, row in last.items()}


def _day(ms: int) -> date:
    return datetime.fromtimestamp(ms / 1000, UTC).date()


def _day_of(path: Path) -> date:
    return date.fromisoformat(path.parent.name.removeprefix("day="))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ArchiveError(f"{path} cannot be read: {error}; restore the file") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

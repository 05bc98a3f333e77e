"""The files of an archive: named by the range of their numbers, each saying how far the archive reaches with it."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.durable import sync
from recsys.errors import ArchiveError

GROUP_ROWS = 8_192  # of one stream in a row group: 12 MB of decision records, what a look for one of them reads
_UNTIL = b"riffle.until"
_NAME = re.compile(r"(\d{10})-(\d{10})\.parquet")

Position = tuple[int, int]  # milliseconds, sequence


class File(NamedTuple):
    """One file and the numbers that it covers."""

    path: Path
    first: int
    last: int

    @classmethod
    def at(cls, root: Path, day: date, first: int, last: int) -> "File":
        """The file of these numbers; it need not be there yet."""
        return cls(root / f"day={day.isoformat()}" / f"{first:010d}-{last:010d}.parquet", first, last)

    @property
    def day(self) -> date:
        """The day on which its rows arrived."""
        return date.fromisoformat(self.path.parent.name.removeprefix("day="))

    def until(self, streams: int) -> list[Position]:
        """How far each of so many streams is archived with it. Raises ArchiveError."""
        with readable(self.path):
            found = json.loads(pq.read_schema(self.path).metadata[_UNTIL])
            if len(found) != streams:
                raise ValueError(f"it is about {len(found)} streams, not {streams}")
            return [(int(ms), int(sequence)) for ms, sequence in found]

    def groups(self, start: int = 0, stop: int | None = None) -> Iterator[pa.Table]:
        """Its row groups in their order, each of one stream, read as they are asked for. Raises ArchiveError."""
        with readable(self.path), pq.ParquetFile(self.path) as handle:
            for group in range(handle.num_row_groups)[start:stop]:
                yield handle.read_row_group(group)

    def streams(self) -> list[int]:
        """The stream of each row group, ascending. Raises ArchiveError."""
        with readable(self.path):
            metadata = pq.read_metadata(self.path)
            column = metadata.schema.names.index("stream")
            found = [metadata.row_group(n).column(column).statistics for n in range(metadata.num_row_groups)]
            if any(one is None or one.min != one.max for one in found):
                raise ValueError("it has a row group that is not of one stream")
            return [one.min for one in found]


def counting(root: Path) -> list[File]:
    """The files that count, by rising number: those that another one covers do not."""
    files: list[File] = []
    for one in _found(root):
        if not files or one.last > files[-1].last:
            files.append(one)
    return files


def sweep(root: Path) -> None:
    """Remove what a death has left: files that do not count, and those that were being written."""
    counts = {one.path for one in counting(root)}
    for path in [*(one.path for one in _found(root) if one.path not in counts), *root.glob("day=*/*.writing")]:
        path.unlink()


def by_stream(rows: pa.Table) -> list[pa.Table]:
    """Rows in order: those of each stream, ascending."""
    rows = rows.sort_by([("stream", "ascending"), ("ms", "ascending"), ("sequence", "ascending")])
    return [rows.filter(pc.equal(rows["stream"], one)) for one in np.unique(rows["stream"].to_numpy()).tolist()]


def merged(files: Sequence[File]) -> Iterator[pa.Table]:
    """Rows of files that follow one another, group by group, in the order of one file. Raises ArchiveError."""
    places = [(stream, n, group) for n, one in enumerate(files) for group, stream in enumerate(one.streams())]
    for _, n, group in sorted(places):
        yield from files[n].groups(group, group + 1)


def write(parts: Iterable[pa.Table], target: File, schema: pa.Schema, until: Sequence[Position]) -> None:
    """Put a file in its place; when this returns it is on disk.

    Args:
        parts: Rows, each part of one stream, ascending by stream and position. No more than a row group's rows and one
            part are held at a time: a day of decision records is larger than memory, and than a column may be.
    Raises:
        ArchiveError: the disk refuses, or a part cannot be read; what was in the place is as it was.
    """
    path = target.path
    temporary = path.with_suffix(".writing")
    schema = schema.with_metadata({_UNTIL: json.dumps(until).encode()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for group in _groups(parts):  # each of one stream: reads skip others
                    writer.write_table(group.cast(schema))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        for changed in (path.parent, path.parent.parent):
            sync(changed)
    except (OSError, pa.ArrowException, ArchiveError) as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, ArchiveError):  # of a file that was read
            raise
        raise ArchiveError(f"cannot write {path}: {error}; free disk space or mend the folder") from error


def _groups(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in groups of GROUP_ROWS; the last one of a stream is smaller."""
    for _, of_stream in groupby((one for one in parts if len(one)), key=lambda part: part["stream"][0].as_py()):
        held: list[pa.Table] = []
        for part in of_stream:
            held.append(part)
            if sum(map(len, held)) >= GROUP_ROWS:
                rows = pa.concat_tables(held)
                whole = len(rows) - len(rows) % GROUP_ROWS
                yield from (rows.slice(start, GROUP_ROWS) for start in range(0, whole, GROUP_ROWS))
                held = [rows.slice(whole)]
        if sum(map(len, held)):
            yield pa.concat_tables(held)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is read into an ArchiveError that names it."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ArchiveError(f"{path} cannot be read: {error}; restore the file") from error


def _found(root: Path) -> list[File]:
    found = []
    for path in root.glob("day=*/*.parquet"):
        if name := _NAME.fullmatch(path.name):
            found.append(File(path, int(name[1]), int(name[2])))
    return sorted(found, key=lambda one: (one.first, -one.last))

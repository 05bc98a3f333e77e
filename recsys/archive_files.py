"""The files of an archive: named by the range of their numbers, each saying how far the archive reaches with it."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
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

    def rows(self) -> pa.Table:
        """All its rows. Raises ArchiveError."""
        with readable(self.path):
            return pq.read_table(self.path, partitioning=None)


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


def write(rows: pa.Table, target: File, schema: pa.Schema, until: Sequence[Position]) -> None:
    """Put a file in its place; when this returns it is on disk. Raises ArchiveError."""
    path = target.path
    temporary = path.with_suffix(".writing")
    rows = rows.sort_by([("stream", "ascending"), ("ms", "ascending"), ("sequence", "ascending")])
    metadata = {_UNTIL: json.dumps(until).encode()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            with pq.ParquetWriter(file, schema.with_metadata(metadata), compression="zstd") as writer:
                for stream in np.unique(rows["stream"].to_numpy()).tolist():  # groups of its own: reads skip others
                    part = rows.filter(pc.equal(rows["stream"], stream)).replace_schema_metadata(metadata)
                    writer.write_table(part, row_group_size=GROUP_ROWS)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        for changed in (path.parent, path.parent.parent):
            sync(changed)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise ArchiveError(f"cannot write {path}: {error}; free disk space or mend the folder") from error


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

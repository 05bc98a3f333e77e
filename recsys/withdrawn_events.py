"""What forgotten users had done to items, without who: kept for a while, so that answers of others can be made again.

Each erasure that takes events from the item counters has a number, from 1 on. Counters of an earlier day are those in
which the erasures up to some number were in force; the events that later ones took still count there.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.archive_files import readable
from recsys.durable import put, stamp_of
from recsys.errors import ArchiveError

LOG = ""  # where the fingerprint of an import may stand
_SCHEMA = pa.schema(
    [
        pa.field("dataset", pa.string()),  # fingerprint of an import, or LOG
        pa.field("stream", pa.uint8()),
        pa.field("ms", pa.uint64()),  # position: of the log, or 0
        pa.field("sequence", pa.uint64()),  # position: of the log, or the event's place in the import
        pa.field("item_key", pa.uint64()),
        pa.field("verb", pa.uint8()),
        pa.field("ts_s", pa.uint32()),  # UTC epoch seconds
        pa.field("erasure", pa.int32()),  # which took it
    ]
)
EVENT = _SCHEMA.remove(_SCHEMA.get_field_index("erasure"))  # what an erasure takes
_ERASURES, _DESCRIBED = b"riffle.erasures", ("before", "erased_ms", "expired")
_POSITION = ["dataset", "stream", "ms", "sequence"]


class Withdrawn(NamedTuple):
    """What is kept.

    Attributes:
        before: Who had been forgotten before the first of these, by digest, and until when; None: nothing is kept.
        erased_ms: When each erasure was, UTC epoch milliseconds; the first is number 1.
        expired: Up to which number events are no longer kept.
        rows: As EVENT, with `erasure`.
    """

    before: list[tuple[str, int]] | None
    erased_ms: list[int]
    expired: int
    rows: pa.Table


class WithdrawnEvents:
    """The file; one process changes it, any may read it.

    Args:
        path: Of the file; the first erasure makes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Withdrawn:
        """All of it. Raises ArchiveError: the file is damaged."""
        with readable(self._path):
            try:
                rows = pq.read_table(pa.BufferReader(self._path.read_bytes()))
            except FileNotFoundError:
                return Withdrawn(None, [], 0, _SCHEMA.empty_table())
            return Withdrawn(*_described(rows.schema), rows.cast(_SCHEMA))

    def as_of(self) -> tuple[int, int]:
        """Another value whenever the file is another one; cheap to look at. Raises ArchiveError."""
        with readable(self._path):
            return stamp_of(self._path)

    def add(self, events: pa.Table, now_ms: int, *, before: Mapping[str, int]) -> None:
        """Keep what an erasure is about to take; when this returns it is on disk. Doing it twice is safe.

        Args:
            events: As EVENT, in any order. Without one that is new no erasure is counted.
            before: Who was forgotten so far; kept with the first.
        Raises:
            ArchiveError: the file is damaged, or the disk refuses; then it is as before.
        """
        kept = self.read()
        events = events.join(kept.rows.select(_POSITION), keys=_POSITION, join_type="left anti").select(EVENT.names)
        is_first = kept.before is None
        if is_first:
            kept = kept._replace(before=sorted(before.items()))
        if not len(events):
            if is_first:
                self._write(kept)
            return
        number = pa.array(np.full(len(events), len(kept.erased_ms) + 1, np.int32))
        rows = pa.concat_tables([kept.rows, events.append_column("erasure", number).cast(_SCHEMA)])
        self._write(kept._replace(erased_ms=[*kept.erased_ms, now_ms], rows=rows))

    def expire(self, before_ms: int) -> None:
        """Let go of what erasures before a moment took. Raises ArchiveError as `add` does."""
        if not self._path.exists():
            return
        with readable(self._path):
            _, erased_ms, gone = _described(pq.read_schema(self._path))
        expired = next((number for number, ms in enumerate(erased_ms) if ms >= before_ms), len(erased_ms))
        if expired > gone:
            kept = self.read()
            stay = pa.array(kept.rows["erasure"].to_numpy() > expired)
            self._write(kept._replace(expired=expired, rows=kept.rows.filter(stay)))

    def _write(self, kept: Withdrawn) -> None:
        described = json.dumps({name: getattr(kept, name) for name in _DESCRIBED}).encode()
        sink = pa.BufferOutputStream()
        pq.write_table(kept.rows.replace_schema_metadata({_ERASURES: described}), sink, compression="zstd")
        try:
            put(self._path, sink.getvalue().to_pybytes())
        except OSError as error:
            raise ArchiveError(f"cannot write {self._path}: {error}; free disk space or mend the folder") from error


def _described(schema: pa.Schema) -> tuple[list[tuple[str, int]], list[int], int]:
    """Of the fields of `Withdrawn` those that are no rows."""
    before, erased_ms, expired = map(json.loads(schema.metadata[_ERASURES]).__getitem__, _DESCRIBED)
    return [(str(user), int(ms)) for user, ms in before], [int(ms) for ms in erased_ms], int(expired)

"""A data set after import: interactions, catalogue and report in memory, and the folder that keeps them.

The folder holds three Parquet files, a fourth where impressions are known, and `dataset.json`, which carries the size
and hash of each of them.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.datasets.impressions import Impressions
from recsys.errors import DatasetError

FORMAT = 2
MANIFEST = "dataset.json"
_SHOWN = "impressions.parquet"
_IMPORT_AGAIN = "import the data set again"


# "exact": times are those of the clock. "order": only the order of a user's events means anything. "none": nor that.
Timing = Literal["exact", "order", "none"]


@dataclass(frozen=True, eq=False)
class Events:
    """Interactions as columns, ascending by time, equal times in their order of appearance.

    Args:
        user: int32 [e], index into `Dataset.user_id`.
        item: int32 [e], index into `Dataset.item_id`.
        ts_ms: int64 [e], UTC epoch milliseconds.
        verb: uint8 [e], `recsys.verbs.Verb`.
        value: float32 [e], a rating or amount; NaN where there is none.
        position: int32 [e], rank of the item in the list that it was taken from, from 1; 0 where none is known.
    """

    user: np.ndarray
    item: np.ndarray
    ts_ms: np.ndarray
    verb: np.ndarray
    value: np.ndarray
    position: np.ndarray

    def __len__(self) -> int:
        return len(self.ts_ms)


@dataclass(frozen=True)
class ImportReport:
    """What an import read and what it could not use.

    Args:
        rows_read: Rows of the interactions file, malformed ones included.
        rows_malformed: Those of them that were left out.
        items_read: Rows of the items file, 0 where there is none.
        items_malformed: Those of them that were left out.
        malformed: (file, line number, reason) of the first 20 per file, by file and line.
        unlisted_items: Items with interactions, but not in the items file; kept, their title is the id.
        unlisted_events: Interactions with those items.
        duplicates: What was done with repeated rows.
        notes: Sentences about everything else a reader should know.
    """

    rows_read: int
    rows_malformed: int = 0
    items_read: int = 0
    items_malformed: int = 0
    malformed: list[tuple[str, int, str]] = field(default_factory=list)
    unlisted_items: int = 0
    unlisted_events: int = 0
    duplicates: str = "a repeated row is kept as a repeated event"
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """A few lines for a person."""
        lines = [f"{self.rows_read:,} interaction rows read, {self.rows_malformed:,} malformed and left out"]
        if self.items_read:
            lines.append(f"{self.items_read:,} item rows read, {self.items_malformed:,} malformed and left out")
        lines += [f"  {file} line {line}: {reason}" for file, line, reason in self.malformed]
        if self.unlisted_items:
            lines.append(
                f"{self.unlisted_events:,} interactions with {self.unlisted_items:,} items that are not in "
                "the items file: kept, their title is the id"
            )
        return "\n".join([*lines, f"duplicates: {self.duplicates}", *self.notes])


@dataclass(frozen=True, eq=False)
class Dataset:
    """One imported data set.

    Args:
        name: Slug, `ml-100k`.
        title: For people; says so where the data are synthetic.
        synthetic: True where no person made these interactions.
        attribution: Who made the data and on what terms; empty where unknown.
        fingerprint: SHA-256, hex, of the source files' bytes, the positive threshold and the adapter version.
        user_id: In order of first appearance in the source.
        item_id: The items file in its order, then items found only in interactions.
        item_title: One per item; the id where none is known.
        categories: Sorted, unique names.
        item_category_indptr: int64 [i+1]; item i has `item_category[indptr[i]:indptr[i+1]]`.
        item_category: int32 [nnz], index into `categories`, ascending within an item.
        events: The interactions.
        report: What the import found.
        timing: What the times of the events mean.
        place: int64 [e], the place of each event among all that were imported, from 1; None where all are there.
        impressions: What was shown where; None where nothing is known of that.
        archived: (stream, milliseconds, sequence) up to which archived events are in it, for each stream that has any.
        screened_since_ms: From when on interactions that no person made were left out (`recsys.datasets.screening`),
            UTC epoch milliseconds; None where none were.
    """

    name: str
    title: str
    synthetic: bool
    attribution: str
    fingerprint: str
    user_id: list[str]
    item_id: list[str]
    item_title: list[str]
    categories: list[str]
    item_category_indptr: np.ndarray
    item_category: np.ndarray
    events: Events
    report: ImportReport
    timing: Timing = "exact"
    place: np.ndarray | None = None
    impressions: Impressions | None = None
    archived: tuple[tuple[int, int, int], ...] = ()
    screened_since_ms: int | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rows: int
    size_bytes: int
    sha256: str


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    name: str
    title: str
    synthetic: bool
    attribution: str
    fingerprint: str
    timing: Timing
    categories: list[str]
    report: ImportReport
    files: dict[str, _File]
    archived: tuple[tuple[int, int, int], ...] = ()
    screened_since_ms: int | None = None


def save(dataset: Dataset, directory: Path) -> None:
    """Write a data set; a data set already there is replaced in one rename.

    Args:
        dataset: What to write.
        directory: Made if absent, as are its parents. A crash never leaves half a data set there; between the
            two renames of a replacement it can leave none, with the old one beside it as `.NAME.replaced`.
    Raises:
        DatasetError: the disk refuses; the message names the directory.
    """
    directory = directory.resolve()
    writing = directory.with_name(f".{directory.name}.writing")
    replaced = directory.with_name(f".{directory.name}.replaced")
    try:
        for left_over in (writing, replaced):
            shutil.rmtree(left_over, ignore_errors=True)
        writing.mkdir(parents=True)
        files = {name: _write(table, writing / name) for name, table in _tables(dataset).items()}
        manifest = _Manifest(
            format=FORMAT,
            name=dataset.name,
            title=dataset.title,
            synthetic=dataset.synthetic,
            attribution=dataset.attribution,
            fingerprint=dataset.fingerprint,
            timing=dataset.timing,
            categories=dataset.categories,
            report=dataset.report,
            files=files,
            archived=dataset.archived,
            screened_since_ms=dataset.screened_since_ms,
        )
        _write_durably(writing / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        if directory.exists():
            directory.rename(replaced)
        writing.rename(directory)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        raise DatasetError(f"cannot save the data set to {directory}: {error}") from error


def load(directory: Path) -> Dataset:
    """Read a data set that `save` wrote, after checking every file's size and hash.

    Raises:
        DatasetError: a file is missing, truncated or not the one that was saved; the message names it.
    """
    path = directory / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=_Manifest)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing: {directory} holds no data set; {_IMPORT_AGAIN}") from error
    except (OSError, msgspec.DecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}; {_IMPORT_AGAIN}") from error
    if manifest.format != FORMAT:
        raise DatasetError(f"{path} has format {manifest.format}, expected {FORMAT}; {_IMPORT_AGAIN}")
    users = _read("users.parquet", directory, manifest)
    items = _read("items.parquet", directory, manifest)
    events = _read("events.parquet", directory, manifest)
    columns = {name: np.array(events[name]) for name in Events.__annotations__ if name in events.column_names}
    shown = _read(_SHOWN, directory, manifest) if _SHOWN in manifest.files else None
    category = items["category"].combine_chunks()
    return Dataset(
        name=manifest.name,
        title=manifest.title,
        synthetic=manifest.synthetic,
        attribution=manifest.attribution,
        fingerprint=manifest.fingerprint,
        user_id=users["user_id"].to_pylist(),
        item_id=items["item_id"].to_pylist(),
        item_title=items["title"].to_pylist(),
        categories=manifest.categories,
        item_category_indptr=np.array(category.offsets, dtype=np.int64),
        item_category=np.array(category.values, dtype=np.int32),
        events=Events(**({"position": np.zeros(len(events), np.int32)} | columns)),
        report=manifest.report,
        timing=manifest.timing,
        place=np.array(events["place"]) if "place" in events.column_names else None,
        impressions=None if shown is None else Impressions.of_table(shown),
        archived=manifest.archived,
        screened_since_ms=manifest.screened_since_ms,
    )


def _tables(dataset: Dataset) -> dict[str, pa.Table]:
    category = pa.LargeListArray.from_arrays(
        pa.array(dataset.item_category_indptr, pa.int64()), pa.array(dataset.item_category, pa.int32())
    )
    items = {"item_id": dataset.item_id, "title": dataset.item_title, "category": category}
    events = dataset.events
    return {
        "users.parquet": pa.table({"user_id": pa.array(dataset.user_id, pa.string())}),
        "items.parquet": pa.table(items),
        "events.parquet": pa.table(
            {
                "user": events.user,
                "item": events.item,
                "ts_ms": events.ts_ms,
                "verb": events.verb,
                "value": events.value,
            }
            | ({"position": events.position} if events.position.any() else {})
            | ({} if dataset.place is None else {"place": dataset.place})
        ),
    } | ({} if dataset.impressions is None else {_SHOWN: dataset.impressions.table()})


def _write(table: pa.Table, path: Path) -> _File:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    data = buffer.getvalue().to_pybytes()
    _write_durably(path, data)
    return _File(rows=table.num_rows, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read(name: str, directory: Path, manifest: _Manifest) -> pa.Table:
    path = directory / name
    expected = manifest.files.get(name)
    if expected is None:
        raise DatasetError(f"{directory / MANIFEST} does not list {name}; {_IMPORT_AGAIN}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error}; {_IMPORT_AGAIN}") from error
    if len(data) != expected.size_bytes:
        raise DatasetError(f"{path} has {len(data):,} bytes, {MANIFEST} says {expected.size_bytes:,}; {_IMPORT_AGAIN}")
    if hashlib.sha256(data).hexdigest() != expected.sha256:
        raise DatasetError(f"{path} is not the file that {MANIFEST} describes (SHA-256); {_IMPORT_AGAIN}")
    return pq.read_table(pa.BufferReader(data))

"""Anyone's data: interactions as CSV or Parquet with named columns, and an optional items file.

Interactions: `user_id,item_id,timestamp[,verb][,value][,position]`. Items: `item_id[,title][,categories]`, categories
separated by `|`. A timestamp is RFC 3339 text with an offset, epoch seconds (below 1e11) or milliseconds.
A Parquet timestamp without a zone is UTC. A verb is a lower-case name of `Verb`, or `impression`: shown, which is no
interaction. Without a verb column a row with a value is a rating, and one without is a view. A position is the rank
in the list in which the item was shown.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.datasets.assemble import assemble
from recsys.datasets.dataset import Dataset
from recsys.datasets.delimited import Delimited, read_delimited
from recsys.datasets.malformed import MalformedRows
from recsys.datasets.raw import RawInteractions, RawItems, Rows
from recsys.datasets.source import Source
from recsys.errors import DatasetError

_SUFFIXES = (".csv", ".csv.gz", ".parquet")
_REQUIRED = ("user_id", "item_id", "timestamp")
_OPTIONAL = ("verb", "value", "position")

LAYOUTS = (
    "interactions(.csv|.csv.gz|.parquet) with user_id,item_id,timestamp[,verb][,value][,position] "
    "[+ items(.csv|.csv.gz|.parquet) with item_id[,title][,categories]]",
    "one .csv, .csv.gz or .parquet file of such interactions",
)


def interactions_name(source: Source) -> str | None:
    """The file of interactions; None where the source holds none in this layout."""
    if source.single_file:
        return source.names[0] if source.names[0].endswith(_SUFFIXES) else None
    return _one_of(source, "interactions")


def read_generic(source: Source, name: str, *, positive_rating: float) -> Dataset:
    """Read interactions from the file `name` and, beside it, items.

    Raises:
        DatasetError: see `assemble`; also a missing column, one of an unusable type, two files for one part.
    """
    malformed = MalformedRows()
    interactions = _read_rows(source, name, _REQUIRED, _OPTIONAL, malformed)
    items_name = None if source.single_file else _one_of(source, "items")
    items = (
        RawItems(_read_rows(source, items_name, ("item_id",), ("title", "categories"), malformed), _describe)
        if items_name
        else None
    )
    notes = [
        f"{rows.file}: ignored columns: {', '.join(rows.ignored)}"
        for rows in (interactions, *([items.rows] if items else []))
        if rows.ignored
    ]
    return assemble(
        name=source.slug,
        title=source.slug,
        attribution="",
        source=source,
        interactions=RawInteractions(interactions),
        items=items,
        malformed=malformed,
        positive_rating=positive_rating,
        notes=notes,
    )


def _one_of(source: Source, stem: str) -> str | None:
    found = [f"{stem}{suffix}" for suffix in _SUFFIXES if source.has(f"{stem}{suffix}")]
    if len(found) > 1:
        raise DatasetError(f"{source.path} holds {' and '.join(found)}: keep the one that is meant")
    return found[0] if found else None


def _describe(row: Mapping[str, str]) -> tuple[str, list[str]]:
    categories = [category.strip() for category in row.get("categories", "").split("|")]
    return row.get("title", ""), [category for category in categories if category]


def _read_rows(
    source: Source, name: str, required: tuple[str, ...], optional: tuple[str, ...], malformed: MalformedRows
) -> Rows:
    data = source.read(name)
    if name.endswith(".parquet"):
        return _read_parquet(name, data, required, optional)
    columns, more = {column: column for column in required}, {column: column for column in optional}
    return read_delimited(name, data, Delimited(), columns, malformed, optional=more)


def _read_parquet(file: str, data: bytes, required: tuple[str, ...], optional: tuple[str, ...]) -> Rows:
    try:
        parquet = pq.ParquetFile(pa.BufferReader(data))
        header = parquet.schema_arrow.names
        missing = [name for name in required if name not in header]
        if missing:
            raise DatasetError(f"{file} has no column {', '.join(missing)}; its columns are {', '.join(header)}")
        wanted = [*required, *(name for name in optional if name in header)]
        table = parquet.read(columns=wanted)
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(f"cannot read {file} as Parquet: {error}; write it again") from error
    return Rows(
        file=file,
        rows_read=table.num_rows,
        line_number=np.arange(1, table.num_rows + 1, dtype=np.int64),
        columns={name: _usable(file, name, table[name]) for name in wanted},
        ignored=[name for name in header if name not in wanted],
    )


def _usable(file: str, name: str, column: pa.ChunkedArray) -> pa.Array:
    """One chunk of a type that the parsers know."""
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    kind = array.type
    if pa.types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    number = pa.types.is_integer(kind) or (pa.types.is_floating(kind) and name in ("timestamp", "value", "position"))
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
    if name == "categories" and pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return pc.binary_join(array, "|")
    if number or text or (name == "timestamp" and pa.types.is_timestamp(kind)):
        return array
    wanted = "a timestamp, numbers or text" if name == "timestamp" else "text or numbers"
    raise DatasetError(f"{file}: column {name} has the type {kind}; store it as {wanted}")

"""Delimited text into columns of bytes: one row a line, vectorised where no line needs a second look."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.csv

from recsys.datasets.malformed import MalformedRows
from recsys.datasets.raw import Rows
from recsys.errors import DatasetError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# pyarrow splits a chunk at once (0.3 s per million rows); only a chunk that holds anything unusual (quotes, a
# blank line, a wrong column count) is read line by line (3 s per million), which knows every line's number.
CHUNK_BYTES = 1 << 24
UNIT_SEPARATOR = b"\x1f"  # stands in for "::", which pyarrow cannot split on


@dataclass(frozen=True)
class Delimited:
    """How a text file is laid out.

    Args:
        delimiter: Between columns; more than one byte only where nothing is quoted.
        quoted: Values may stand in double quotes (CSV). A line break inside quotes is not supported.
        header: Column names of a file without a header line; empty: the first line names them.
    """

    delimiter: bytes = b","
    quoted: bool = True
    header: tuple[str, ...] = ()


def read_delimited(
    file: str,
    data: bytes,
    layout: Delimited,
    columns: Mapping[str, str],
    malformed: MalformedRows,
    *,
    optional: Mapping[str, str] | None = None,
) -> Rows:
    """Split a file into columns; rows with a wrong number of columns go to `malformed`.

    Args:
        file: Base name, for messages.
        data: The whole file. Blank lines are not rows.
        layout: Its form.
        columns: Our name of a column to its name in the file; every one must be there.
        malformed: Receives the rows left out.
        optional: As `columns`, read where the file has them.
    Raises:
        DatasetError: no header, a column missing or twice in it.
    """
    data = data.removeprefix(BYTE_ORDER_MARK).rstrip(b"\r\n")
    if len(layout.delimiter) > 1:
        data = data.replace(layout.delimiter, UNIT_SEPARATOR)
        layout = replace(layout, delimiter=UNIT_SEPARATOR)
    body, first_line = data, 1
    if not layout.header:
        head, _, body = data.partition(b"\n")
        layout, first_line = replace(layout, header=_header(file, head, layout.delimiter)), 2
    wanted = _wanted(file, layout.header, columns, optional or {})
    sources = list(wanted.values())
    parts, line_numbers = [[pa.array([], pa.binary()) for _ in sources]], [np.zeros(0, dtype=np.int64)]
    rejected = 0
    for line, chunk in _chunks(body, first_line):
        arrays = _split_at_once(chunk, layout, sources)
        if arrays is not None:
            numbers = np.arange(line, line + len(arrays[0]), dtype=np.int64)
        else:
            numbers, arrays, refused = _split_by_line(chunk, layout, sources, line)
            malformed.add(file, len(refused), refused)
            rejected += len(refused)
        parts.append(arrays)
        line_numbers.append(numbers)
    line_number = np.concatenate(line_numbers)
    return Rows(
        file=file,
        rows_read=len(line_number) + rejected,
        line_number=line_number,
        columns={name: pa.concat_arrays(arrays) for name, arrays in zip(wanted, zip(*parts, strict=True), strict=True)},
        ignored=[name for name in layout.header if name not in sources],
    )


def _header(file: str, line: bytes, delimiter: bytes) -> tuple[str, ...]:
    try:
        names = next(csv.reader([line.decode("utf-8")], delimiter=delimiter.decode()), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file}: the first line is not a header of column names in UTF-8: {error}") from error
    if not names:
        raise DatasetError(f"{file} is empty: its first line must name the columns")
    return tuple(name.strip() for name in names)


def _wanted(
    file: str, header: tuple[str, ...], columns: Mapping[str, str], optional: Mapping[str, str]
) -> dict[str, str]:
    missing = [source for source in columns.values() if source not in header]
    if missing:
        raise DatasetError(
            f"{file} has no column {', '.join(missing)}; its columns are {', '.join(header)}. Rename them"
        )
    wanted = {**columns, **{name: source for name, source in optional.items() if source in header}}
    twice = [source for source in wanted.values() if header.count(source) > 1]
    if twice:
        raise DatasetError(f"{file} has the column {twice[0]} twice: rename or remove one")
    return wanted


def _chunks(body: bytes, line: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines of about `CHUNK_BYTES` together, with the number of the first."""
    start = 0
    while start < len(body):
        end = body.find(b"\n", start + CHUNK_BYTES) + 1 or len(body)
        chunk = body[start:end]
        yield line, chunk
        line += chunk.count(b"\n")
        start = end


def _split_at_once(chunk: bytes, layout: Delimited, sources: list[str]) -> list[pa.Array] | None:
    """The columns, or None where some line may not be exactly one row."""
    lone_carriage_return = chunk.count(b"\r") != chunk.count(b"\r\n")  # ends a line for pyarrow, not for us
    quotes = layout.quoted and b'"' in chunk
    if lone_carriage_return or quotes or chunk.startswith(BYTE_ORDER_MARK):  # which pyarrow would strip
        return None
    irregular = False

    def skip(_: object) -> str:
        nonlocal irregular
        irregular = True
        return "skip"

    try:
        table = pa.csv.read_csv(
            pa.BufferReader(chunk),
            pa.csv.ReadOptions(column_names=layout.header),
            pa.csv.ParseOptions(
                delimiter=layout.delimiter.decode(),
                quote_char=False,
                invalid_row_handler=skip,
            ),
            pa.csv.ConvertOptions(
                column_types={name: pa.binary() for name in sources}, include_columns=sources, null_values=[]
            ),
        )
    except pa.ArrowInvalid:
        return None
    lines = chunk.count(b"\n") + (not chunk.endswith(b"\n"))
    if irregular or table.num_rows != lines:  # pyarrow skips blank lines without a word
        return None
    return [pa.concat_arrays(table.column(name).chunks) for name in sources]


def _split_by_line(
    chunk: bytes, layout: Delimited, sources: list[str], first_line: int
) -> tuple[np.ndarray, list[pa.Array], list[tuple[int, str]]]:
    """(line numbers, columns, (line number, reason) of the rows refused)."""
    positions = [layout.header.index(source) for source in sources]
    values: list[list[bytes]] = [[] for _ in positions]
    numbers: list[int] = []
    refused: list[tuple[int, str]] = []
    for number, fields in _lines(chunk, layout, first_line):
        if isinstance(fields, str):
            refused.append((number, fields))
        elif len(fields) != len(layout.header):
            refused.append((number, f"{len(fields)} columns instead of {len(layout.header)}"))
        else:
            numbers.append(number)
            for column, position in zip(values, positions, strict=True):
                column.append(fields[position])
    arrays = [pa.array(column, pa.binary()) for column in values]
    return np.array(numbers, dtype=np.int64), arrays, refused


def _lines(chunk: bytes, layout: Delimited, first_line: int) -> Iterator[tuple[int, list[bytes] | str]]:
    """(line number, its fields, or the reason why it has none) for every line that is not blank."""
    for number, line in enumerate(chunk.split(b"\n"), first_line):
        line = line.removesuffix(b"\r")
        if not line:
            continue
        if not layout.quoted or b'"' not in line:
            yield number, line.split(layout.delimiter)
            continue
        # surrogateescape keeps bytes that are not UTF-8 for the check of the value itself
        text = line.decode("utf-8", "surrogateescape")
        try:
            fields = next(csv.reader([text], delimiter=layout.delimiter.decode(), strict=True))
        except csv.Error as error:
            yield number, f"not a CSV row ({error})"
        else:
            yield number, [field.encode("utf-8", "surrogateescape") for field in fields]

"""Delimited text: the vectorised and the line-by-line split agree, and refused rows carry their line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.datasets import delimited
from recsys.datasets.delimited import Delimited, read_delimited
from recsys.datasets.malformed import MalformedRows
from recsys.datasets.raw import Rows
from recsys.errors import DatasetError

COLUMNS = {"user_id": "u", "item_id": "i", "timestamp": "t"}
CELL = st.binary(max_size=6).filter(lambda cell: not set(cell) & set(b'\r\n,"'))


def read(data: bytes, layout: Delimited | None = None) -> tuple[Rows, MalformedRows]:
    malformed = MalformedRows()
    return read_delimited("rows.csv", data, layout or Delimited(), COLUMNS, malformed), malformed


def contents(rows: Rows) -> list[list[bytes]]:
    return [column.to_pylist() for column in rows.columns.values()]


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=20))
def test_vectorised_split_equals_the_split_line_by_line(cells: list[tuple[bytes, bytes, bytes]]) -> None:
    body = b"".join(b",".join(row) + b"\n" for row in cells)
    at_once, _ = read(b"u,i,t\n" + body)
    by_line, _ = read(b"u,i,t\n" + b"\n" + body)  # a blank line forces the second
    assert contents(at_once) == contents(by_line) == [list(column) for column in zip(*cells, strict=True)]
    assert (by_line.line_number - at_once.line_number).tolist() == [1] * len(cells)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 24])
def test_line_numbers_do_not_depend_on_the_chunks(chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "CHUNK_BYTES", chunk_bytes)
    rows, malformed = read(b"u,i,t\na,b,1\n\nshort\n\n\nc,d,2\r\ne,f,3,4\ng,h,5\n\n")
    assert rows.line_number.tolist() == [2, 7, 9]
    assert contents(rows) == [[b"a", b"c", b"g"], [b"b", b"d", b"h"], [b"1", b"2", b"5"]]
    assert malformed.kept == [
        ("rows.csv", 4, "1 columns instead of 3"),
        ("rows.csv", 8, "4 columns instead of 3"),
    ]
    assert rows.rows_read == 5


def test_byte_order_mark_quotes_and_extra_columns_are_read() -> None:
    rows, malformed = read(b'\xef\xbb\xbf"u",x,i,t\n"a ""q"", b",9,i1,5\n')
    assert contents(rows) == [[b'a "q", b'], [b"i1"], [b"5"]]
    assert rows.ignored == ["x"]
    assert not malformed.kept


@pytest.mark.parametrize("line", [b'"a,b,1', b'"a"x,b,1'])
def test_broken_quotes_spoil_their_own_line_only(line: bytes) -> None:
    rows, malformed = read(b"u,i,t\n" + line + b"\nc,d,2\n")
    assert contents(rows) == [[b"c"], [b"d"], [b"2"]]
    assert malformed.kept[0][:2] == ("rows.csv", 2)
    assert malformed.kept[0][2].startswith("not a CSV row")


def test_lone_carriage_return_does_not_make_a_row() -> None:
    rows, _ = read(b"u,i,t\na\rb,c,1\n")
    assert contents(rows) == [[b"a\rb"], [b"c"], [b"1"]]


def test_columns_without_a_name_do_not_disturb_the_named_ones() -> None:
    rows, _ = read(b",u,i,,t\n0,a,b,9,1\n")
    assert contents(rows) == [[b"a"], [b"b"], [b"1"]]


def test_windows_line_ends_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "CHUNK_BYTES", 3)
    rows, malformed = read(b"u,i,t\r\na,b,1\r\nc,d,2\r\n")
    assert contents(rows) == [[b"a", b"c"], [b"b", b"d"], [b"1", b"2"]]
    assert not malformed.kept


def test_lone_carriage_return_beside_a_blank_line_does_not_hide_it() -> None:
    rows, _ = read(b"u,i,t\na,b,1\rc,d,2\n\ne,f,3\n")
    assert rows.line_number.tolist() == [4]
    assert rows.rows_read == 2


def test_quote_is_an_ordinary_character_where_nothing_is_quoted() -> None:
    rows, _ = read(b'"a::b::1\n\nc"::d::2\n', Delimited(b"::", quoted=False, header=("u", "i", "t")))
    assert contents(rows) == [[b'"a', b'c"'], [b"b", b"d"], [b"1", b"2"]]
    assert rows.line_number.tolist() == [1, 3]


def test_file_with_only_a_header_has_no_rows() -> None:
    rows, _ = read(b"u,i,t\n")
    assert (rows.rows_read, contents(rows)) == (0, [[], [], []])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"rows\.csv is empty"),
        (b"u,t\n1,2\n", r"rows\.csv has no column i; its columns are u, t"),
        (b"u,i,t,i\n1,2,3,4\n", "the column i twice"),
        (b"\xff\xfe,i,t\n1,2,3\n", "not a header of column names in UTF-8"),
    ],
)
def test_unusable_header_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(data)

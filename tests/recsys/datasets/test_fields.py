"""Values: what is understood, and what is marked as bad."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from recsys.datasets.fields import parse_ids, parse_numbers, parse_positions, parse_timestamps, parse_verbs
from recsys.verbs import Verb


def text(*values: bytes) -> pa.Array:
    return pa.array(values, pa.binary())


@pytest.mark.parametrize(
    ("value", "ts_ms"),
    [
        (b"0", 0),
        (b"978300760", 978_300_760_000),
        (b"978300760.5", 978_300_760_500),
        (b"99999999999", None),  # below 1e11 these are seconds, and after 2100
        (b"100000000000", 100_000_000_000),  # from there milliseconds
        (b"978300760123", 978_300_760_123),
        (b"4102444799999", 4_102_444_799_999),
        (b"4102444800000", None),
        (b"-1", None),
        (b"978300760123000", None),
        (b"2000-12-31T22:12:40Z", 978_300_760_000),
        (b"2000-12-31t22:12:40z", 978_300_760_000),
        (b"2000-12-31 23:12:40.123999+01:00", 978_300_760_123),
        (b"2000-12-31T22:12:40", None),  # no offset: whose time?
        (b"2000-02-30T00:00:00Z", None),
        (b"20001231T221240Z", None),
        (b"1969-12-31T23:59:59Z", None),
        (b"", None),
        (b"\xff", None),
        (b"yesterday", None),
        (b"nan", None),
        (b"1e999", None),
    ],
)
def test_timestamp_text_is_seconds_milliseconds_or_rfc_3339(value: bytes, ts_ms: int | None) -> None:
    parsed, bad = parse_timestamps(text(value, b"1"))
    assert bad.tolist() == [ts_ms is None, False]
    assert parsed.tolist() == [ts_ms or 0, 1000]


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("ns", "Asia/Tokyo"), pa.timestamp("s", "UTC")])
def test_arrow_timestamps_are_utc_instants_and_null_is_bad(kind: pa.DataType) -> None:
    instant = datetime(2000, 12, 31, 22, 12, 40, tzinfo=UTC if kind.tz else None)
    parsed, bad = parse_timestamps(pa.array([instant, None], kind))
    assert parsed.tolist() == [978_300_760_000, 0]
    assert bad.tolist() == [False, True]


def test_integer_timestamps_follow_the_same_magnitudes() -> None:
    parsed, bad = parse_timestamps(pa.array([978300760, 978300760123, None]))
    assert parsed.tolist() == [978_300_760_000, 978_300_760_123, 0]
    assert bad.tolist() == [False, False, True]


def test_numbers_are_finite_decimals_and_empty_is_not_bad() -> None:
    value, empty, bad = parse_numbers(text(b"4.5", b".5", b"-2e1", b"", b"nan", b"inf", b"1e39", b"1_0", b"\xff"))
    assert value[:3].tolist() == [4.5, 0.5, -20.0]
    assert empty.tolist() == [False] * 3 + [True] + [False] * 5
    assert bad.tolist() == [False] * 4 + [True] * 5


def test_numeric_column_takes_null_and_nan_as_empty_and_infinity_as_bad() -> None:
    _, empty, bad = parse_numbers(pa.array([1.0, None, float("nan"), float("inf")]))
    assert empty.tolist() == [False, True, True, False]
    assert bad.tolist() == [False, False, False, True]


def test_ids_keep_their_order_of_appearance_and_mark_empty_long_and_broken_ones() -> None:
    ids = parse_ids(text(b"b", b"a", b"", b"b", b"\xff\xfe", b"x" * 257, "é".encode() * 128))
    assert ids.number.tolist() == [0, 1, 2, 0, 3, 4, 5]
    assert ids.distinct[:2] == ["b", "a"]
    assert ids.bad.tolist() == [False, False, True, False, True, True, False]


@pytest.mark.parametrize(
    "column",
    [pa.array([7, None, 7]), pa.array(["7", None, "7"]), pa.array(["7", None, "7"], pa.large_string())],
)
def test_ids_may_be_integers_or_text_and_null_is_bad(column: pa.Array) -> None:
    ids = parse_ids(column)
    assert [ids.distinct[number] for number in ids.number] == ["7", "", "7"]
    assert ids.bad.tolist() == [False, True, False]


def test_verbs_are_lower_case_names_of_verb_or_impression() -> None:
    names = [*(v.name.lower().encode() for v in Verb), b"impression"]
    verb, bad = parse_verbs(text(*names, b"LIKE", b"", b"buy", b"\xff"))
    assert verb.tolist() == [*Verb, 0, 0, 0, 0, 0]
    assert bad.tolist() == [False] * (len(Verb) + 1) + [True] * 4


@pytest.mark.parametrize(
    ("value", "position", "bad"),
    [(b"1", 1, False), (b"10000", 10_000, False), (b"", 0, False), (b"2.0", 2, False)]
    + [(value, 0, True) for value in (b"0", b"-1", b"1.5", b"10001", b"first", b"inf")],
)
def test_position_is_a_rank_from_1_or_empty(value: bytes, position: int, bad: bool) -> None:
    found, wrong = parse_positions(text(value))
    assert (found.tolist(), wrong.tolist(), found.dtype.name) == ([position], [bad], "int32")


def test_empty_columns_parse_to_empty_arrays() -> None:
    none = text()
    columns = [parse_ids(none).bad, *parse_numbers(none), *parse_timestamps(none), *parse_verbs(none)]
    assert [len(column) for column in columns] == [0] * 8
    assert all(isinstance(column, np.ndarray) for column in columns)

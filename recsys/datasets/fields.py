"""Columns of raw values into ids, times, numbers and verbs; every value is either understood or marked."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.impressions import MAX_POSITION
from recsys.verbs import EVENT_TYPES

MAX_ID_BYTES = 256
NO_ID = f"empty, over {MAX_ID_BYTES} bytes or not UTF-8"
END_MS = 4_102_444_800_000  # 2100-01-01
# Epoch seconds end at 4.1e9 (2100) and epoch milliseconds below 1e11 would lie before March 1973.
FIRST_MILLISECONDS = 100_000_000_000

_DECIMAL = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
_RFC_3339 = re.compile(
    rb"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)",
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
VERB_NAMES = ", ".join(EVENT_TYPES)
NO_POSITION = f"no whole number from 1 to {MAX_POSITION}"
_BAD = 255  # is no verb's number


@dataclass(frozen=True, eq=False)
class Ids:
    """A dictionary-encoded id column.

    Args:
        number: int32 [n], position in `distinct`.
        distinct: In order of first appearance; "" where the bytes are not UTF-8.
        bad: bool [n]: empty, over 256 bytes or not UTF-8.
    """

    number: np.ndarray
    distinct: list[str]
    bad: np.ndarray


def parse_ids(column: pa.Array) -> Ids:
    """Encode ids given as UTF-8 bytes, text or integers; null counts as empty."""
    encoded = as_bytes(column).dictionary_encode()
    raw: list[bytes] = encoded.dictionary.to_pylist()
    distinct = [_decoded(value) for value in raw]
    bad = np.array([not text or len(value) > MAX_ID_BYTES for text, value in zip(distinct, raw, strict=True)])
    number = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    return Ids(number, distinct, bad[number] if len(bad) else np.zeros(0, dtype=bool))


def parse_numbers(column: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parse decimal numbers.

    Returns:
        value float32 [n], NaN where there is none; empty bool [n]: empty text, null, or NaN in a numeric
        column; bad bool [n]: a value that is not a finite number.
    """
    value = _decimals(column)
    with np.errstate(over="ignore"):
        single = value.astype(np.float32)
    if _is_number(column.type):
        empty = np.isnan(value)
    else:
        empty = pc.equal(pc.binary_length(as_bytes(column)), 0).to_numpy(zero_copy_only=False)
    return single, empty, ~empty & ~np.isfinite(single)


def parse_timestamps(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Parse epoch seconds (below 1e11), epoch milliseconds (from 1e11), RFC 3339 text or Arrow timestamps.

    Returns:
        ts_ms int64 [n] (0 where bad), bad bool [n]: not understood, or outside 1970 to 2100.
    """
    if pa.types.is_timestamp(column.type):
        milliseconds = column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False).view(pa.int64())
        ts = milliseconds.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).copy()
    else:
        number = _decimals(column)
        ts = np.rint(np.where(number < FIRST_MILLISECONDS, number * 1000, number))
        if not _is_number(column.type):
            text = np.flatnonzero(np.isnan(number))
            raw = as_bytes(column).take(pa.array(text)).to_pylist()
            ts[text] = [_rfc_3339_ms(value) for value in raw]
    bad = ~((ts >= 0) & (ts < END_MS))
    return np.where(bad, 0, ts).astype(np.int64), bad


def parse_verbs(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Parse lower-case names of EVENT_TYPES: uint8 [n] (0 for an impression, and where bad), bad bool [n]."""
    encoded = as_bytes(column).dictionary_encode()
    known = [EVENT_TYPES.get(_decoded(value), _BAD) for value in encoded.dictionary.to_pylist()]
    verb = np.array(known, dtype=np.uint8)[encoded.indices.to_numpy(zero_copy_only=False)]
    bad = verb == _BAD
    return np.where(bad, 0, verb).astype(np.uint8), bad


def parse_positions(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Parse ranks in a list: int32 [n] (0 where empty or bad), bad bool [n]: no whole number from 1 on."""
    value, empty, bad = parse_numbers(column)
    bad |= ~empty & ~((value >= 1) & (value <= MAX_POSITION) & (value % 1 == 0))
    return np.where(empty | bad, 0, value).astype(np.int32), bad


def _decimals(column: pa.Array) -> np.ndarray:
    """float64 [n]; NaN where the value is no decimal number."""
    if _is_number(column.type):
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).copy()
    text = as_bytes(column)
    decimal = pc.match_substring_regex(text, _DECIMAL)
    values = np.full(len(text), np.nan)
    values[decimal.to_numpy(zero_copy_only=False)] = (
        text.filter(decimal).cast(pa.string()).cast(pa.float64()).to_numpy(zero_copy_only=False)
    )
    return values


def _rfc_3339_ms(value: bytes) -> float:
    if not _RFC_3339.fullmatch(value):
        return np.nan
    try:
        return (datetime.fromisoformat(value.decode().upper()) - _EPOCH) // _MILLISECOND
    except ValueError:  # 30 February, 25 o'clock
        return np.nan


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return ""


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def as_bytes(column: pa.Array) -> pa.Array:
    """A column of text, bytes or integers as binary [n]; null becomes empty."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_integer(kind):
        column = column.cast(pa.string())
    return column.cast(pa.binary()).fill_null(b"")

"""User states as bytes: one fixed, checked layout, one value per user.

    offset  bytes  field
    0       4      magic "RFUS"
    4       2      layout version
    6       2      ring length r
    8       2      fingerprints s
    10      2      reserved, 0
    12      4      CRC-32 of everything else
    16      8      first 8 bytes of the feature-schema hash
    24      16     id of the last applied event (two uint64)
    40      12     activity, 3 float32
    52      4      activity_s, uint32
    56      4      events, uint32
    60      4      positives, uint32
    64      8r     item keys, uint64, newest first
            4r     times, uint32 UTC epoch seconds
            4s     fingerprints, uint32, oldest first
            r      verbs, uint8

All little-endian. A full ring and no fingerprints are 896 bytes.
"""

import struct
import zlib

import numpy as np
from numba import njit

from recsys.errors import StateError
from recsys.features.user import RING, SEEN_MAX, UserStates

LAYOUT = 2
_MAGIC = b"RFUS"
_HEAD = struct.Struct("<4sHHHHI")
_FIXED = struct.Struct("<8s2Q3f3I")
_CRC_AT = 12
_BODY = _HEAD.size + _FIXED.size
_EVENT_ID_AT = _HEAD.size + 8


def pack(states: UserStates, schema_hash: str) -> list[bytes]:
    """Encode each row."""
    schema = bytes.fromhex(schema_hash)[:8]
    return [_pack_row(states, i, schema) for i in range(len(states))]


def _pack_row(states: UserStates, i: int, schema: bytes) -> bytes:
    r, s = int(states.length[i]), int(states.seen_count[i])
    body = b"".join(
        (
            _FIXED.pack(
                schema,
                *states.event_id[i].tolist(),
                *states.activity[i].tolist(),
                int(states.activity_s[i]),
                int(states.events[i]),
                int(states.positives[i]),
            ),
            states.item_key[i, :r].astype("<u8").tobytes(),
            states.ts_s[i, :r].astype("<u4").tobytes(),
            states.seen[i, :s].astype("<u4").tobytes(),
            states.verb[i, :r].tobytes(),
        )
    )
    head = _HEAD.pack(_MAGIC, LAYOUT, r, s, 0, 0)[:_CRC_AT]
    return head + zlib.crc32(body, zlib.crc32(head)).to_bytes(4, "little") + body


def unpack(values: list[bytes | None], schema_hash: str) -> tuple[UserStates, dict[int, str]]:
    """Decode one state a value; None is a user without a state.

    Returns:
        UserStates [b], and for each row that does not decode the reason: such a row is an empty state.
    """
    schema = bytes.fromhex(schema_hash)[:8]
    problems: dict[int, str] = {}
    sound, heads = [b""] * len(values), [(0, 0)] * len(values)
    for i, value in enumerate(values):
        if value is not None:
            try:
                heads[i] = _check(value, schema)
                sound[i] = value
            except StateError as error:
                problems[i] = str(error)
    states = UserStates.empty(len(values), seen=max((s for _, s in heads), default=0))
    start = np.cumsum([0, *map(len, sound)])
    _unpack_rows(
        np.frombuffer(b"".join(sound), np.uint8),
        start,
        np.array(heads, np.int32).reshape(-1, 2),
        states.event_id,
        states.activity.view(np.uint32),
        states.activity_s,
        states.events,
        states.positives,
        states.item_key,
        states.ts_s,
        states.seen,
        states.verb,
        states.length,
        states.seen_count,
    )
    return states, problems


def _check(value: bytes, schema: bytes) -> tuple[int, int]:
    """Ring length and fingerprint count of a sound value.

    Raises:
        StateError: anything about it is wrong.
    """
    if len(value) < _BODY or value[:4] != _MAGIC:
        raise StateError(f"not a user state: {len(value)} bytes starting {value[:4]!r}")
    _, layout, r, s, _, crc = _HEAD.unpack_from(value)
    if layout != LAYOUT:
        raise StateError(f"user-state layout {layout}, this version reads {LAYOUT}; rebuild the features")
    if r > RING or s > SEEN_MAX or len(value) != _BODY + 13 * r + 4 * s:
        raise StateError(f"user state of {len(value)} bytes claims {r} interactions and {s} fingerprints")
    if zlib.crc32(memoryview(value)[_HEAD.size :], zlib.crc32(value[:_CRC_AT])) != crc:
        raise StateError("user state does not match its CRC")
    if value[_HEAD.size : _HEAD.size + 8] != schema:
        raise StateError("user state has another feature-schema hash; rebuild the features")
    return r, s


@njit(cache=True)
def _unpack_rows(
    data: np.ndarray,
    start: np.ndarray,
    head: np.ndarray,
    event_id: np.ndarray,
    activity: np.ndarray,
    activity_s: np.ndarray,
    events: np.ndarray,
    positives: np.ndarray,
    item_key: np.ndarray,
    ts_s: np.ndarray,
    seen: np.ndarray,
    verb: np.ndarray,
    length: np.ndarray,
    seen_count: np.ndarray,
) -> None:
    """Copy the values that lie one after another in `data` into the columns. head: int32 [b, 2], ring and `seen`."""
    for row in range(len(head)):
        if start[row] == start[row + 1]:
            continue
        at = start[row] + _EVENT_ID_AT
        r, s = head[row]
        length[row], seen_count[row] = r, s
        for k in range(2):
            event_id[row, k] = _word(data, at + 8 * k, 8)
        for k in range(3):
            activity[row, k] = _word(data, at + 16 + 4 * k, 4)
        activity_s[row], events[row], positives[row] = (
            _word(data, at + 28, 4),
            _word(data, at + 32, 4),
            _word(data, at + 36, 4),
        )
        at = start[row] + _BODY
        for k in range(r):
            item_key[row, k] = _word(data, at + 8 * k, 8)
            ts_s[row, k] = _word(data, at + 8 * r + 4 * k, 4)
            verb[row, k] = data[at + 12 * r + 4 * s + k]
        for k in range(s):
            seen[row, k] = _word(data, at + 12 * r + 4 * k, 4)


@njit(cache=True)
def _word(data: np.ndarray, at: int, width: int) -> np.uint64:
    """A little-endian unsigned integer."""
    value = np.uint64(0)
    for k in range(width):
        value |= np.uint64(data[at + k]) << np.uint64(8 * k)
    return value

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

from recsys.errors import StateError
from recsys.features.user import RING, SEEN_MAX, UserStates

LAYOUT = 1
_MAGIC = b"RFUS"
_HEAD = struct.Struct("<4sHHHHI")
_FIXED = struct.Struct("<8s2Q3f3I")
_CRC_AT = 12
_BODY = _HEAD.size + _FIXED.size


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
    heads: list[tuple[int, int]] = []
    for i, value in enumerate(values):
        try:
            heads.append(_check(value, schema) if value is not None else (0, 0))
        except StateError as error:
            problems[i] = str(error)
            heads.append((0, 0))
    states = UserStates.empty(len(values), seen=max((s for _, s in heads), default=0))
    for i, value in enumerate(values):
        if value is not None and i not in problems:
            _unpack_row(states, i, value, *heads[i])
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


def _unpack_row(states: UserStates, i: int, value: bytes, r: int, s: int) -> None:
    _, e0, e1, a0, a1, a2, activity_s, events, positives = _FIXED.unpack_from(value, _HEAD.size)
    states.event_id[i] = e0, e1
    states.activity[i] = a0, a1, a2
    states.activity_s[i], states.events[i], states.positives[i] = activity_s, events, positives
    states.length[i], states.seen_count[i] = r, s
    states.item_key[i, :r] = np.frombuffer(value, "<u8", r, _BODY)
    states.ts_s[i, :r] = np.frombuffer(value, "<u4", r, _BODY + 8 * r)
    states.seen[i, :s] = np.frombuffer(value, "<u4", s, _BODY + 12 * r)
    states.verb[i, :r] = np.frombuffer(value, np.uint8, r, _BODY + 12 * r + 4 * s)

"""User states survive the round trip through bytes; damaged bytes are an empty state and a reason, never an error."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.datasets.synthetic import synthetic
from recsys.features.codec import LAYOUT, pack, unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.user import RING, SEEN_MAX, UserStates
from recsys.training.log import Log

OTHER_SCHEMA = "ab" * 32
HEAD_BYTES = 16


def random_states(seed: int, lengths: list[int], seen_counts: list[int]) -> UserStates:
    """States with arbitrary bits in everything that is in use."""
    rng = np.random.default_rng(seed)
    b = len(lengths)
    states = UserStates.empty(b, seen=max(seen_counts, default=0))
    states.length[:], states.seen_count[:] = lengths, seen_counts
    ring = np.arange(RING) < states.length[:, None]
    older = np.arange(states.seen.shape[1]) < states.seen_count[:, None]
    states.item_key[ring] = rng.integers(1, 2**64 - 1, size=ring.sum(), dtype=np.uint64, endpoint=True)
    states.ts_s[ring] = rng.integers(0, 2**32, size=ring.sum(), dtype=np.uint32)
    states.verb[ring] = rng.integers(0, 256, size=ring.sum(), dtype=np.uint8)
    states.seen[older] = rng.integers(0, 2**32, size=older.sum(), dtype=np.uint32)
    states.activity[:] = rng.exponential(9, size=(b, 3)).astype(np.float32)
    for name in ("activity_s", "events", "positives"):
        getattr(states, name)[:] = rng.integers(0, 2**32, size=b, dtype=np.uint32)
    states.event_id[:] = rng.integers(0, 2**64 - 1, size=(b, 2), dtype=np.uint64, endpoint=True)
    return states


def assert_equal(found: UserStates, expected: UserStates) -> None:
    for name in UserStates.__slots__:
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=name)


def assert_refused(value: bytes, *, why: str = "") -> None:
    states, problems = unpack([value], SCHEMA_HASH)
    assert list(problems) == [0], f"accepted: {value[:20]!r}"
    assert why in problems[0]
    assert_equal(states, UserStates.empty(1))


@pytest.fixture(scope="module")
def value() -> bytes:
    """A sound value: 5 interactions, 3 fingerprints."""
    return pack(random_states(1, [5], [3]), SCHEMA_HASH)[0]


def sealed(head: tuple[int, int, int], body: bytes) -> bytes:
    """A value with this layout, ring length and fingerprint count whose CRC is right."""
    start = struct.pack("<4sHHHH", b"RFUS", *head, 0)
    return start + struct.pack("<I", zlib.crc32(body, zlib.crc32(start))) + body


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.lists(st.tuples(st.integers(0, RING), st.sampled_from([0, 1, 7, 300, SEEN_MAX])), max_size=4),
)
def test_states_survive_the_round_trip_bit_for_bit(seed: int, rows: list[tuple[int, int]]) -> None:
    states = random_states(seed, [r for r, _ in rows], [s for _, s in rows])
    found, problems = unpack(list(pack(states, SCHEMA_HASH)), SCHEMA_HASH)
    assert problems == {}
    assert_equal(found, states)


def test_layout_is_the_documented_one() -> None:
    states = random_states(2, [2], [1])
    value = pack(states, SCHEMA_HASH)[0]
    assert len(value) == 64 + 2 * 13 + 4
    assert struct.unpack_from("<4sHHHH", value) == (b"RFUS", LAYOUT, 2, 1, 0)
    assert value[16:24].hex() == SCHEMA_HASH[:16]
    assert struct.unpack_from("<2Q", value, 24) == tuple(states.event_id[0].tolist())
    assert struct.unpack_from("<3f", value, 40) == tuple(states.activity[0].tolist())
    assert struct.unpack_from("<2Q", value, 64) == tuple(states.item_key[0, :2].tolist())
    assert struct.unpack_from("<I", value, 64 + 24) == (states.seen[0, 0],)
    assert tuple(value[-2:]) == tuple(states.verb[0, :2].tolist())


def test_full_ring_without_fingerprints_is_896_bytes() -> None:
    assert len(pack(random_states(3, [RING], [0]), SCHEMA_HASH)[0]) == 896


def test_missing_value_is_an_empty_state_and_no_problem() -> None:
    states, problems = unpack([None, None], SCHEMA_HASH)
    assert problems == {}
    assert_equal(states, UserStates.empty(2))


def test_nothing_is_read_from_no_values() -> None:
    states, problems = unpack([], SCHEMA_HASH)
    assert (len(states), problems) == (0, {})


def test_damaged_value_leaves_its_neighbours_untouched() -> None:
    states = random_states(4, [3, 9, 64], [0, 4, 2])
    values: list[bytes | None] = list(pack(states, SCHEMA_HASH))
    values[1] = b"not a state"
    found, problems = unpack(values, SCHEMA_HASH)
    assert list(problems) == [1]
    for name in ("item_key", "ts_s", "verb", "activity", "events", "event_id"):
        np.testing.assert_array_equal(getattr(found, name)[[0, 2]], getattr(states, name)[[0, 2]], err_msg=name)
    assert found.length.tolist() == [3, 0, 64]
    assert found.seen_count.tolist() == [0, 0, 2]


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_flipping_any_one_byte_is_noticed(value: bytes, flip: int) -> None:
    accepted = []
    for at in range(len(value)):
        broken = value[:at] + bytes([value[at] ^ flip]) + value[at + 1 :]
        states, problems = unpack([broken], SCHEMA_HASH)
        if list(problems) != [0]:
            accepted.append(at)
        else:
            assert_equal(states, UserStates.empty(1))
    assert accepted == [], "offsets whose damage goes unnoticed"


def test_every_truncation_and_extension_is_noticed(value: bytes) -> None:
    for length in range(len(value)):
        assert_refused(value[:length])
    assert_refused(value + b"\0")


def test_moving_the_border_between_ring_and_fingerprints_is_noticed() -> None:
    """4 interactions are as long as 13 fingerprints: the length alone does not tell them apart."""
    value = pack(random_states(5, [RING], [0]), SCHEMA_HASH)[0]
    assert_refused(value[:6] + struct.pack("<HH", RING - 4, 13) + value[10:])


@settings(max_examples=200)
@given(junk=st.binary(max_size=300), magic=st.booleans())
def test_arbitrary_bytes_are_a_problem_and_never_an_error(junk: bytes, magic: bool) -> None:
    assert_refused(b"RFUS" * magic + junk)


def test_crc_covers_the_header_and_the_body(value: bytes) -> None:
    assert sealed((LAYOUT, 5, 3), value[HEAD_BYTES:]) == value
    assert_refused(value[:10] + b"\1\0" + value[12:], why="does not match its CRC")


def test_each_defect_is_named(value: bytes) -> None:
    assert_refused(b"", why="not a user state: 0 bytes")
    assert_refused(b"RFUX" + value[4:], why="not a user state")
    assert_refused(
        sealed((LAYOUT + 1, 5, 3), value[HEAD_BYTES:]), why=f"layout {LAYOUT + 1}, this version reads {LAYOUT}"
    )
    assert_refused(value[:-1] + bytes([value[-1] ^ 1]), why="does not match its CRC")
    other = pack(random_states(1, [5], [3]), OTHER_SCHEMA)[0]
    assert_refused(other, why="another feature-schema hash")


@pytest.mark.parametrize(("ring", "seen"), [(RING + 1, 0), (0, SEEN_MAX + 1), (65_535, 65_535)])
def test_claims_of_too_many_are_refused_even_with_all_their_bytes(ring: int, seen: int) -> None:
    body = bytes.fromhex(SCHEMA_HASH)[:8] + bytes(40 + 13 * ring + 4 * seen)
    assert_refused(sealed((LAYOUT, ring, seen), body), why=f"claims {ring} interactions and {seen} fingerprints")


def test_median_state_of_a_busy_synthetic_log_is_at_most_1_kb() -> None:
    dataset = synthetic(7, users=300, sessions=18)  # about 90 events a user
    users = np.arange(len(dataset.user_id), dtype=np.int32)
    states = Log.of(dataset).states_at(users, np.full(len(users), np.iinfo(np.int64).max))
    assert np.median(states.events) > 80
    assert np.median([len(value) for value in pack(states, SCHEMA_HASH)]) <= 1024

"""Recommendation ids are UUIDv7."""

import uuid

from service.identifiers import recommendation_id

TIME_MS = 1_763_895_600_123


def test_id_has_the_layout_of_uuid_version_7() -> None:
    text, seed = recommendation_id(TIME_MS)
    read = uuid.UUID(text)
    assert str(read) == text
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert read.int >> 80 == TIME_MS
    assert read.int & ((1 << 62) - 1) == seed


def test_ids_sort_by_time() -> None:
    ids = [recommendation_id(TIME_MS + step).text for step in range(2_000)]
    assert sorted(ids) == ids


def test_hundred_thousand_ids_of_one_millisecond_are_distinct_and_so_are_their_seeds() -> None:
    ids = [recommendation_id(TIME_MS) for _ in range(100_000)]
    assert len({one.text for one in ids}) == len({one.seed for one in ids}) == len(ids)


def test_every_random_bit_is_used() -> None:
    zeros = ones = 0
    for _ in range(200):
        value = uuid.UUID(recommendation_id(TIME_MS).text).int
        ones |= value
        zeros |= ~value
    fixed = (0xF << 76) | (0b11 << 62)  # version and variant
    below_time = (1 << 80) - 1
    assert ones & zeros & below_time == below_time & ~fixed


def test_seed_fits_the_column_of_a_batch() -> None:
    assert all(0 <= recommendation_id(TIME_MS).seed < 1 << 62 for _ in range(1_000))

"""A digest changes with every bit that went into it, with nothing else, and the first stage that differs is found."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys import digests
from recsys.digests import BEFORE_FEATURES, Stage, differing, packed, unpacked
from recsys.features.matrix import NAMES
from recsys.features.user import UserStates
from recsys.filtering import eligible
from recsys.recommend import Retrieved, features, rank, recommend, retrieve
from recsys.types import CandidateSet, ItemStats, QueryBatch, World
from recsys.users import Users
from tests.worlds import Ask, batch_of, likes, random_asks

WORDS = len(BEFORE_FEATURES) + len(NAMES) + 1


@pytest.fixture(scope="module")
def batch(world: World) -> QueryBatch:
    return batch_of(world, [ask for ask in random_asks(world, np.random.default_rng(3), 12) if ask.history])


@pytest.fixture(scope="module")
def retrieved(world: World, batch: QueryBatch) -> Retrieved:
    return retrieve(world, batch)


def of_retrieval(world: World, batch: QueryBatch, retrieved: Retrieved, **other: object) -> np.ndarray:
    """The digests before features; `other` replaces columns of states or candidates, or what was made of them."""
    users = retrieved.users_of(world, batch)
    given = {"eligible": eligible(world, batch, users)[0], "vector": users.vector} | other
    states, candidates = users.states, retrieved.candidates
    for name in [name for name in given if name not in ("eligible", "vector")]:
        value = given.pop(name)
        if name in {field.name for field in fields(UserStates)}:
            states = replace(states, **{name: value})
        else:
            candidates = replace(candidates, **{name: value})
    return digests.of_retrieval(states, 7, given["eligible"], given["vector"], candidates)


def one_bit_off(array: np.ndarray, rng: np.random.Generator, within: int) -> np.ndarray:
    """A copy in which one bit of the first `within` values differs."""
    changed = np.ascontiguousarray(array).copy()
    values = changed.reshape(-1)[:within].view(np.uint8)
    values[rng.integers(len(values))] ^= np.uint8(1 << rng.integers(8))
    return changed


@pytest.mark.parametrize("name", [field.name for field in fields(UserStates) if field.name not in ("event_id",)])
def test_every_bit_of_a_state_that_an_answer_can_depend_on_counts(
    world: World, name: str, rng: np.random.Generator
) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    batch = batch_of(world, [Ask(likes(*ids[:150]))])
    retrieved = retrieve(world, batch)
    before = of_retrieval(world, batch, retrieved)
    column = getattr(Users.of(world, batch).states, name)
    for _ in range(50):
        if name in ("length", "seen_count"):  # how much of the others is in use
            changed = (column - rng.integers(1, column[0])).astype(column.dtype)
        else:
            changed = one_bit_off(column, rng, column.size)
        after = of_retrieval(world, batch, retrieved, **{name: changed})
        assert (before != after).tolist() == [[True, False, False, False]]


def test_what_stands_behind_the_slots_in_use_does_not_count(world: World) -> None:
    batch = batch_of(world, [Ask(likes("item-0001", "item-0002"))])
    retrieved = retrieve(world, batch)
    states = Users.of(world, batch).states
    junk = states.item_key.copy()
    junk[:, 2:] = 99
    wider = np.full((1, 40), 5, np.uint32)
    before = of_retrieval(world, batch, retrieved)
    np.testing.assert_array_equal(of_retrieval(world, batch, retrieved, item_key=junk, seen=wider), before)


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("eligible", Stage.FILTER),
        ("vector", Stage.RETRIEVAL),
        *((field.name, Stage.RETRIEVAL) for field in fields(CandidateSet) if field.name != "indptr"),
    ],
)
def test_every_bit_of_filter_and_retrieval_counts_in_its_own_row_and_stage(
    world: World, batch: QueryBatch, retrieved: Retrieved, name: str, stage: Stage, rng: np.random.Generator
) -> None:
    before = of_retrieval(world, batch, retrieved)
    users, candidates = retrieved.users_of(world, batch), retrieved.candidates
    parts = {"eligible": eligible(world, batch, users)[0], "vector": users.vector}
    column = parts[name] if name in parts else getattr(candidates, name)
    first = column.shape[1] if name in parts else int(candidates.indptr[1])  # the first request's share of it
    for _ in range(50):
        after = of_retrieval(world, batch, retrieved, **{name: one_bit_off(column, rng, first)})
        assert np.argwhere(before != after).tolist() == [[0, BEFORE_FEATURES.index(stage)]]


def test_every_bit_of_features_and_scores_counts_in_its_own_row_and_column(
    world: World, batch: QueryBatch, retrieved: Retrieved, rng: np.random.Generator
) -> None:
    matrix, indptr = features(world, batch, retrieved), retrieved.candidates.indptr
    score = rank(world, batch, retrieved).score
    before = digests.of_ranking(matrix, score, indptr)
    for column in range(len(NAMES)):
        changed = matrix.copy(order="F")
        changed[: indptr[1], column] = one_bit_off(matrix[: indptr[1], column], rng, int(indptr[1]))
        after = digests.of_ranking(changed, score, indptr)
        assert np.argwhere(before != after).tolist() == [[0, column]]
    after = digests.of_ranking(matrix, one_bit_off(score, rng, int(indptr[1])), indptr)
    assert np.argwhere(before != after).tolist() == [[0, len(NAMES)]]


@pytest.mark.parametrize("name", ["available", "popularity", "trend", "positive_rate", "order"])
def test_every_value_of_a_snapshot_counts_and_its_name_does_not(
    world: World, name: str, rng: np.random.Generator
) -> None:
    stats: ItemStats = world.item_stats
    assert digests.of_item_stats(replace(stats, version="another name")) == world.item_stats_digest
    column = getattr(stats, name)
    for _ in range(50):
        if name == "available":
            changed = column.copy()
            changed[rng.integers(len(column))] ^= True
        else:
            changed = one_bit_off(column, rng, len(column))
        assert digests.of_item_stats(replace(stats, **{name: changed})) != world.item_stats_digest


@pytest.mark.parametrize("length", [1, 2, 1023, 1024, 1025, 5000])
def test_order_length_and_zeros_at_the_end_count_across_blocks(length: int, rng: np.random.Generator) -> None:
    def of(values: np.ndarray) -> int:
        return int(digests.of_ranking(values[:, None], np.zeros(len(values)), np.array([0, len(values)]))[0, 0])

    values = rng.random(length).astype(np.float32)
    assert of(np.append(values, np.float32(0))) != of(values)
    assert of(-values) != of(values)
    assert of(np.roll(values, 1)) != of(values) or length == 1
    assert of(values * 2) != of(values)


def test_negative_zero_and_each_nan_are_values_of_their_own() -> None:
    values = np.array([0.0, -0.0, np.nan, np.inf], np.float32)
    quiet = np.array([0x7FC00001], np.uint32).view(np.float32)
    column = np.concatenate([values, quiet])[:, None]
    made = digests.of_ranking(column, np.zeros(5), np.arange(6))[:, 0]
    assert len(set(made.tolist())) == 5


def test_digests_of_random_inputs_are_spread_evenly(rng: np.random.Generator) -> None:
    """Each of the 32 bits is set in half of 20,000 digests, within 5 standard deviations: false alarm 2e-5."""
    columns = rng.integers(0, 3, (20_000 * 8, 1)).astype(np.float32)
    made = digests.of_ranking(columns, np.zeros(len(columns)), np.arange(0, len(columns) + 1, 8))[:, 0]
    share = (made[:, None] >> np.arange(32, dtype=np.uint32) & 1).mean(axis=0)
    assert np.abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(len(np.unique(made)))


def test_slates_carry_the_digests_of_every_stage(world: World, batch: QueryBatch, retrieved: Retrieved) -> None:
    slates = recommend(world, batch)
    assert slates.digests.shape == (len(batch), WORDS)
    np.testing.assert_array_equal(slates.digests[:, : len(BEFORE_FEATURES)], retrieved.digests)
    np.testing.assert_array_equal(slates.digests[:, 1], world.item_stats_digest)
    np.testing.assert_array_equal(slates.ranked, retrieved.candidates.sizes())


@given(values=st.lists(st.integers(0, 2**32 - 1), max_size=40))
def test_packed_digests_are_read_back(values: list[int]) -> None:
    row = np.array(values, np.uint32)
    read = unpacked(packed(row))
    assert read is not None
    assert read.tolist() == values


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00" * 5, b"\x01" * 4, b"\x02" + b"\x00" * 8])
def test_bytes_of_another_layout_are_no_digests(value: bytes) -> None:
    assert unpacked(value) is None


@given(changed=st.sets(st.integers(0, WORDS - 1)))
def test_first_stage_that_differs_is_named_with_all_of_its_features(changed: set[int]) -> None:
    then = np.arange(WORDS, dtype=np.uint32)
    now = then.copy()
    now[list(changed)] ^= 1
    stage, names = differing(then, now, NAMES)
    order = [*BEFORE_FEATURES, *[Stage.FEATURES] * len(NAMES), Stage.RANKING]
    assert stage == (order[min(changed)] if changed else None)
    start = len(BEFORE_FEATURES)
    expected = [NAMES[place - start] for place in sorted(changed) if start <= place < WORDS - 1]
    assert names == (expected if stage is Stage.FEATURES else [])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(17)

"""`recommend` is one pure function of its row: same input, same bits, whoever else is in the batch."""

import random
import time
from dataclasses import fields, replace

import msgspec
import numpy as np
import pytest

from recsys.bundle import Bundle
from recsys.datasets.dataset import Dataset
from recsys.features.user import UserStates, fingerprint
from recsys.recommend import Retrieved, features, rank, recommend, retrieve, slate
from recsys.retrieval import index
from recsys.training.fit import fit
from recsys.training.log import Log
from recsys.types import QueryBatch, Slates, Source, World
from recsys.users import with_session
from recsys.verbs import Verb
from tests import worlds
from tests.worlds import Ask, batch_of, controlled_asks, likes, names, random_asks, with_unavailable

SIZES = range(1, 65)


def row_bits(slates: Slates, row: int) -> tuple[bytes, ...]:
    cells = slice(slates.indptr[row], slates.indptr[row + 1])
    return (
        slates.item[cells].tobytes(),
        slates.score[cells].tobytes(),
        slates.sources[cells].tobytes(),
        slates.personal[row].tobytes(),
        slates.propensity[row].tobytes(),
        slates.removed[row].tobytes(),
        slates.ranked[row].tobytes(),
        slates.digests[row].tobytes(),
    )


def cell_bits(world: World, batch: QueryBatch) -> list[tuple[bytes, ...]]:
    """Of each request: its user vector, its candidates and their features."""
    retrieved = retrieve(world, batch)
    matrix, found = features(world, batch, retrieved), retrieved.candidates
    return [
        (
            retrieved.users_of(world, batch).vector[row].tobytes(),
            found.item[start:end].tobytes(),
            found.retrieval_score[start:end].tobytes(),
            found.source_score[:, start:end].tobytes(),
            np.ascontiguousarray(matrix[start:end]).tobytes(),
        )
        for row, (start, end) in enumerate(zip(found.indptr[:-1], found.indptr[1:], strict=True))
    ]


def all_arrays(batch: QueryBatch) -> dict[str, np.ndarray]:
    states = {f"states.{f.name}": getattr(batch.states, f.name) for f in fields(UserStates)}
    ragged = {
        f"{name}.{part}": getattr(getattr(batch, name), part)
        for name in ("session", "excluded", "categories")
        for part in ("indptr", "values")
    }
    return states | ragged | {name: getattr(batch, name) for name in ("now_s", "seed", "count")}


def test_same_input_twice_gives_identical_bits(world: World) -> None:
    batch = batch_of(world, random_asks(world, np.random.default_rng(1), 40))
    first, again = recommend(world, batch), recommend(world, batch)
    for field in fields(Slates):
        assert getattr(first, field.name).tobytes() == getattr(again, field.name).tobytes(), field.name


def test_batch_and_world_are_left_as_they_were(world: World) -> None:
    batch = batch_of(world, random_asks(world, np.random.default_rng(2), 40))
    inside = all_arrays(batch) | {f.name: getattr(world.item_stats, f.name) for f in fields(world.item_stats)}
    inside |= {"factors": world.bundle.factors, "gram": world.bundle.gram, "key": world.bundle.vocabulary.key}
    before = {name: np.array(value, copy=True) for name, value in inside.items()}
    recommend(world, batch)
    for name, value in inside.items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_answer_needs_no_clock_and_no_global_chance(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("recommend() read a clock or drew a global random number")

    batch = batch_of(world, random_asks(world, np.random.default_rng(3), 8))
    expected = recommend(world, batch)
    with monkeypatch.context() as patch:
        for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter"):
            patch.setattr(time, name, refuse)
        for name in ("default_rng", "random", "rand", "randint", "choice", "permutation", "shuffle", "seed"):
            patch.setattr(np.random, name, refuse)
        for name in ("random", "choice", "shuffle", "randint", "sample"):
            patch.setattr(random, name, refuse)
        found = recommend(world, batch)
    np.testing.assert_array_equal(found.item, expected.item)


def test_row_equals_the_row_asked_alone_bit_for_bit_in_batches_of_1_to_64(world: World) -> None:
    rng = np.random.default_rng(11)
    asks = [*random_asks(world, rng, 50), *controlled_asks(world, rng, 50)]
    alone = [row_bits(recommend(world, batch_of(world, [ask])), 0) for ask in asks]
    for b in SIZES:
        chosen = rng.integers(0, len(asks), size=b)
        slates = recommend(world, batch_of(world, [asks[i] for i in chosen]))
        for row, i in enumerate(chosen):
            assert row_bits(slates, row) == alone[i], f"batch of {b}, row {row}: {asks[i]}"


@pytest.fixture(scope="module", params=[(2, False), (33, False), (64, False), (64, True)], ids=str)
def fitted(request: pytest.FixtureRequest, synthetic_dataset: Dataset) -> World:
    """Models of other widths, whose rows start at other alignments, and one with lists by bands."""
    factors, inverted = request.param
    log = Log.of(synthetic_dataset)
    with pytest.MonkeyPatch.context() as patch:
        if inverted:
            patch.setattr(index, "EXACT_MAX", 0)
        recipe = msgspec.structs.replace(worlds.SMALL, factors=factors, als_iterations=2)
        bundle: Bundle = fit(synthetic_dataset, log, recipe, until_s=int(log.ts_s[-1]))
    return World(bundle, bundle.item_stats)


def test_vectors_candidates_and_features_of_a_row_do_not_depend_on_its_batch(fitted: World) -> None:
    rng = np.random.default_rng(5)
    asks = random_asks(fitted, rng, 60)
    alone = [cell_bits(fitted, batch_of(fitted, [ask]))[0] for ask in asks]
    for b in (2, 3, 5, 8, 17, 31, 64):
        chosen = rng.integers(0, len(asks), size=b)
        together = cell_bits(fitted, batch_of(fitted, [asks[i] for i in chosen]))
        for row, i in enumerate(chosen):
            for part, one, other in zip(
                ("vector", "items", "fusion", "source scores", "features"), together[row], alone[i], strict=True
            ):
                assert one == other, f"{part}; batch of {b}, row {row}: {asks[i]}"


def test_empty_batch_gives_no_lists(world: World) -> None:
    slates = recommend(world, batch_of(world, []))
    assert slates.indptr.tolist() == [0]
    assert len(slates.item) == len(slates.personal) == len(slates.removed) == 0


def test_lists_hold_no_seen_excluded_unavailable_or_wrong_category_item_and_none_twice(world: World) -> None:
    rng = np.random.default_rng(6)
    world = with_unavailable(world, rng.permutation(len(world.bundle.vocabulary))[:80])
    asks = random_asks(world, rng, 120)
    batch = batch_of(world, asks)
    slates, states = recommend(world, batch), with_session(batch)
    for row, ask in enumerate(asks):
        shown = set(names(world, slates, row))
        assert len(shown) == slates.indptr[row + 1] - slates.indptr[row]
        kept = states.length[row] + states.seen_count[row]
        assert kept == len(ask.history) + len(ask.session)
        assert not shown & {item for item, *_ in ask.history}
        assert not shown & {*ask.session, *ask.excluded}
        items = slates.item[slates.indptr[row] : slates.indptr[row + 1]]
        assert world.item_stats.available[items].all()
        if ask.categories:
            assert all(set(world.bundle.categories_of(item)) & set(ask.categories) for item in items)


def eligible(world: World, ask: Ask) -> int:
    """How many items may be shown, by the definition."""
    ids = world.bundle.vocabulary.item_id.tolist()
    gone = {item for item, *_ in ask.history} | {*ask.session, *ask.excluded}
    return sum(
        bool(world.item_stats.available[row])
        and item not in gone
        and (not ask.categories or bool(set(world.bundle.categories_of(row)) & set(ask.categories)))
        for row, item in enumerate(ids)
    )


def assert_counts_are_honoured(world: World, asks: list[Ask]) -> None:
    slates = recommend(world, batch_of(world, asks))
    for row, (length, ask) in enumerate(zip(np.diff(slates.indptr), asks, strict=True)):
        assert length == min(ask.count, eligible(world, ask)), f"row {row}: {ask}"


def test_count_is_honoured_wherever_enough_items_are_eligible(world: World) -> None:
    assert_counts_are_honoured(world, random_asks(world, np.random.default_rng(8), 120))


def test_count_is_honoured_when_most_of_the_catalogue_is_unavailable(world: World) -> None:
    n = len(world.bundle.vocabulary)
    scarce = with_unavailable(world, np.random.default_rng(9).permutation(n)[: n * 3 // 4])
    ids = world.bundle.vocabulary.item_id.tolist()
    assert_counts_are_honoured(scarce, [Ask(likes(*ids[:3]), count=90), Ask(count=90)])


def test_count_is_honoured_when_most_items_were_never_trained_on() -> None:
    """Four items with a factor and 200 new ones: whoever likes one of the four can still be shown 150."""
    old = [f"old-{i}" for i in range(4)]
    new = [f"new-{i:03d}" for i in range(200)]
    events = [(f"user-{u}", old[(u + i) % 4], Verb.LIKE, worlds.START_S + 60 * i) for u in range(8) for i in range(3)]
    dataset = worlds.dataset_of(events, {item: [] for item in [*old, *new]})
    log = Log.of(dataset)
    recipe = msgspec.structs.replace(worlds.SMALL, factors=2)
    bundle = fit(dataset, log, recipe, until_s=int(log.ts_s[-1]) + 1)
    fresh = World(bundle, bundle.item_stats)
    assert_counts_are_honoured(fresh, [Ask(count=150), Ask(likes("old-0"), count=150)])


def test_user_who_likes_only_an_item_without_a_factor_is_shown_the_popular_list(tiny: World) -> None:
    """Their vector is 0 and says nothing: no item matches their taste more than another."""
    slates = recommend(tiny, batch_of(tiny, [Ask(likes("e")), Ask(excluded=["e"])]))
    assert names(tiny, slates, 0) == names(tiny, slates, 1) == ["b", "c", "a"]
    assert slates.sources.tolist() == [1 << Source.POPULAR] * 6


def test_cold_user_gets_the_popular_list(world: World) -> None:
    slates = recommend(replace(world, bundle=replace(world.bundle, ranker=None)), batch_of(world, [Ask(count=20)]))
    assert slates.item.tolist() == world.item_stats.order[:20].tolist()
    assert slates.personal.tolist() == [False]
    ranked = recommend(world, batch_of(world, [Ask(count=20)]))
    assert len(ranked.item) == 20


def test_user_known_only_by_items_of_another_bundle_is_cold(world: World) -> None:
    gone = Ask(likes("gone-1", "gone-2"))
    slates = recommend(world, batch_of(world, [Ask(), gone]))
    assert slates.personal.tolist() == [False, False]
    assert len(names(world, slates, 1)) == 10


def test_lists_follow_taste(tastes: World) -> None:
    left, right = Ask(likes("left-00", "left-01", "left-02")), Ask(likes("right-00", "right-01", "right-02"))
    slates = recommend(tastes, batch_of(tastes, [left, right]))
    assert all(name.startswith("left-") for name in names(tastes, slates, 0))
    assert all(name.startswith("right-") for name in names(tastes, slates, 1))
    assert slates.personal.all()


def test_next_step_of_a_chain_leads_the_list(chain: World) -> None:
    steps = [0, 7, 20, worlds.CHAIN_ITEMS - 1]
    asks = [Ask([(worlds.chain_item(step), Verb.CLICK, worlds.START_S + 300 * worlds.DAY_S)]) for step in steps]
    slates = recommend(chain, batch_of(chain, asks))
    assert [names(chain, slates, row)[0] for row in range(4)] == [worlds.chain_item(step + 1) for step in steps]


def test_session_changes_the_list(chain: World) -> None:
    slates = recommend(chain, batch_of(chain, [Ask(), Ask(session=[worlds.chain_item(7)])]))
    assert names(chain, slates, 1)[0] == worlds.chain_item(8)
    assert slates.personal.tolist() == [False, True]
    assert names(chain, slates, 0) != names(chain, slates, 1)


@pytest.mark.parametrize("before", [0, 10, 62, 64, 90])
def test_session_equals_the_same_clicks_in_the_state_bit_for_bit(world: World, before: int) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    ask = Ask(likes(*ids[:before]), session=ids[200:205])
    clicked = replace(ask, session=(), history=[*ask.history, *((i, Verb.CLICK, ask.now_s) for i in ask.session)])
    slates = recommend(world, batch_of(world, [ask, clicked]))
    assert row_bits(slates, 0) == row_bits(slates, 1)


def test_score_that_is_not_finite_takes_no_place_from_a_sound_one(world: World) -> None:
    batch = batch_of(world, [Ask(count=5), Ask(count=5)])
    retrieved = retrieve(world, batch)
    ranked = rank(world, batch, retrieved)
    sound = slate(world, batch, retrieved, ranked)
    broken = ranked.score.copy()
    start = int(retrieved.candidates.indptr[1])
    broken[start + np.arange(100)] = np.repeat([np.nan, np.inf], 50)
    slates = slate(world, batch, retrieved, replace(ranked, score=broken))
    assert row_bits(slates, 0) == row_bits(sound, 0)
    assert np.isfinite(slates.score).all()


def test_every_item_is_eligible_or_ruled_out_for_one_reason(world: World) -> None:
    rng = np.random.default_rng(10)
    world = with_unavailable(world, rng.permutation(len(world.bundle.vocabulary))[:60])
    asks = random_asks(world, rng, 80)
    batch = batch_of(world, asks)
    retrieved = retrieve(world, batch)
    slates = slate(world, batch, retrieved, rank(world, batch, retrieved))
    for row, ask in enumerate(asks):
        kept, shown = (
            one.item[one.indptr[row] : one.indptr[row + 1]].tolist() for one in (retrieved.candidates, slates)
        )
        assert len(world.bundle.vocabulary) == slates.removed[row].sum() + eligible(world, ask)
        assert set(shown) <= set(kept)
        assert len(kept) == len(set(kept))


def test_users_made_again_by_another_process_are_those_of_retrieval_bit_for_bit(world: World) -> None:
    batch = batch_of(world, random_asks(world, np.random.default_rng(14), 40))
    retrieved = retrieve(world, batch)
    here, there = rank(world, batch, retrieved), rank(world, batch.without_filters(), retrieved.to_send())
    assert there.score.tobytes() == here.score.tobytes()
    assert there.digests.tobytes() == here.digests.tobytes()


def test_without_a_ranker_the_order_is_that_of_retrieval(world: World) -> None:
    bare = replace(world, bundle=replace(world.bundle, ranker=None))
    batch = batch_of(world, random_asks(world, np.random.default_rng(13), 10))
    retrieved: Retrieved = retrieve(bare, batch)
    score = rank(bare, batch, retrieved).score
    assert score.dtype == np.float64
    np.testing.assert_array_equal(score, retrieved.candidates.retrieval_score)


def test_seen_reaches_what_left_the_ring(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    batch = batch_of(world, [Ask(likes(*ids[:200]), count=500)])
    assert batch.states.seen_count.tolist() == [136]
    assert set(batch.states.seen[0]) == set(fingerprint(world.bundle.vocabulary.key[:136]))
    assert set(names(world, recommend(world, batch), 0)) == set(ids[200:])

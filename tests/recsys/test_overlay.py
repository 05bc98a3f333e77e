"""A bundle with items that came after it: known items keep what they had, new ones are found before any training."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from recsys.features.item_counts import ItemCounts
from recsys.features.matrix import NAMES
from recsys.items import Item, unavailable
from recsys.overlay import described, overlaid
from recsys.ranking.linear import Linear
from recsys.ranking.ranker import Ranker
from recsys.ranking.trees import Trees
from recsys.recommend import recommend
from recsys.types import Slates, Source, World
from recsys.verbs import Verb
from tests.worlds import Ask, batch_of, likes, random_asks

NEW = {f"new-{number}": Item(title=f"New {number}", categories=("left",)) for number in range(6)}


def with_items(world: World, items: dict[str, Item]) -> World:
    """The world with these items and with counters of nothing, so that only the bundle differs."""
    bundle = overlaid(world.bundle, described(world.bundle, items))
    stats = world.item_stats
    old = bundle.vocabulary.rows(world.bundle.vocabulary.key)
    columns = {}
    for name in ("popularity", "trend", "trend_day", "trend_year", "positive_rate"):
        columns[name] = np.zeros(len(bundle.vocabulary), np.float32)
        columns[name][old] = getattr(stats, name)
    shown = ~np.isin(bundle.vocabulary.key, unavailable(items, 0))
    order = old[stats.order]
    rest = np.setdiff1d(np.arange(len(bundle.vocabulary)), order)
    order = np.concatenate([order, rest]).astype(np.int32)
    return replace(
        world, bundle=bundle, item_stats=replace(stats, available=shown, order=order[shown[order]], **columns)
    )


def ids(world: World, slates: Slates) -> list[str]:
    return [world.bundle.vocabulary.item_id[row] for row in slates.item.tolist()]


def test_without_items_it_is_the_same_bundle(tastes: World) -> None:
    assert overlaid(tastes.bundle, {}) is tastes.bundle
    withheld = {"left-03": Item(available=False), "right-01": Item(deleted=True), "unheard of": Item(deleted=True)}
    assert described(tastes.bundle, withheld) == {}


def test_known_items_keep_their_factors_neighbours_titles_and_categories(tastes: World) -> None:
    before, after = tastes.bundle, with_items(tastes, NEW).bundle
    rows = after.vocabulary.rows(before.vocabulary.key)
    assert np.all(rows >= 0)
    assert len(after.vocabulary) == len(before.vocabulary) + len(NEW)
    assert np.array_equal(after.factors[rows], before.factors)
    for table in ("transitions", "nearby", "similar", "content"):
        old, new = getattr(before, table), getattr(after, table)
        assert np.array_equal(new.item[rows], np.where(old.item >= 0, rows[old.item], -1))
        assert np.array_equal(new.weight[rows], old.weight)
    for row, moved in enumerate(rows.tolist()):
        assert after.title[moved] == before.title[row]
        assert after.categories_of(moved) == before.categories_of(row)
    for number in range(len(after.category_name)):
        members = [i for i in range(len(after.vocabulary)) if number in after.item_category[i]]
        assert after.category_item[number].tolist() == members


def test_lists_of_who_may_not_see_the_new_items_are_those_of_the_bundle(tastes: World) -> None:
    """Renumbering alone changes nothing: the same items with the same scores, whatever is asked.

    Without the ranker, some of whose features are relative to the mean item, which new items move.
    """
    tastes = replace(tastes, bundle=replace(tastes.bundle, ranker=None))
    hidden = {item_id: msgspec.structs.replace(item, available=False) for item_id, item in NEW.items()}
    world = with_items(tastes, hidden)
    asks = random_asks(tastes, np.random.default_rng(5), 60)
    plain, renumbered = recommend(tastes, batch_of(tastes, asks)), recommend(world, batch_of(world, asks))
    assert renumbered.indptr.tolist() == plain.indptr.tolist()
    for row in range(len(asks)):
        cells = slice(plain.indptr[row], plain.indptr[row + 1])
        assert np.array_equal(np.sort(renumbered.score[cells]), np.sort(plain.score[cells]))
        one, other = ids(tastes, plain)[cells], ids(world, renumbered)[cells]
        assert set(one) == set(other) or len(np.unique(plain.score[cells])) < len(one)  # ties may fall differently


def test_a_new_item_is_offered_to_those_who_like_its_category_and_not_to_the_others(tastes: World) -> None:
    """By the linear part: what trees make of counts of 0 is chance in a world where all items have some."""
    assert tastes.bundle.ranker is not None
    world = with_items(tastes, NEW)
    world = replace(world, bundle=replace(world.bundle, ranker=tastes.bundle.ranker.first(0)))
    asks = [Ask(likes(*(f"{side}-{number:02d}" for number in range(8))), count=25) for side in ("left", "right")]
    batch = batch_of(world, asks)
    slates = recommend(world, batch)
    left, right = (
        dict(zip(ids(world, slates)[own], slates.score[own], strict=True))
        for own in (slice(slates.indptr[row], slates.indptr[row + 1]) for row in (0, 1))
    )
    assert NEW.keys() <= left.keys()
    assert all(left[item_id] > right.get(item_id, 0) for item_id in NEW)


def test_titles_and_categories_of_known_items_are_replaced_and_new_categories_are_added(tastes: World) -> None:
    items = {"left-03": Item(title="Another title", categories=("right", "brand new"))}
    bundle = with_items(tastes, items).bundle
    row = int(bundle.vocabulary.rows_of(["left-03"])[0])
    assert bundle.title[row] == "Another title"
    assert sorted(bundle.categories_of(row)) == ["brand new", "right"]
    assert bundle.category_name[: len(tastes.bundle.category_name)] == tastes.bundle.category_name
    assert bundle.items_of(np.array([bundle.category_number["brand new"]])).tolist() == [row]


def test_a_new_item_without_a_known_category_is_in_the_bundle_and_in_no_index(tastes: World) -> None:
    bundle = with_items(tastes, {"odd": Item(title="Odd", categories=("unheard of",)), "plain": Item()}).bundle
    rows = bundle.vocabulary.rows_of(["odd", "plain"])
    assert np.all(bundle.factors[rows] == 0)
    assert len(bundle.index) == len(tastes.bundle.index)
    assert bundle.title[int(rows[1])] == "plain"


def test_events_of_a_new_item_count_from_the_first_on(tastes: World) -> None:
    world = with_items(tastes, NEW)
    counts = ItemCounts.empty()
    key = world.bundle.vocabulary.key[world.bundle.vocabulary.rows_of(["new-2"])]
    counts.apply(item_key=key, verb=np.array([Verb.LIKE], np.uint8), ts_s=np.array([1_700_000_000], np.uint32))
    stats = counts.stats(
        world.bundle.vocabulary.key, now_s=1_700_000_000, version="v", unavailable=np.zeros(0, np.uint64)
    )
    assert world.bundle.vocabulary.item_id[int(stats.order[0])] == "new-2"


def test_its_arrays_are_read_only_as_a_bundles_are(tastes: World) -> None:
    bundle = with_items(tastes, NEW).bundle
    for array in (bundle.factors, bundle.similar.item, bundle.transitions.weight, bundle.category_item.values):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


# --- exploration ---


def test_a_share_of_the_lists_ends_with_a_new_item_each_as_often_as_the_others(tastes: World) -> None:
    """20,000 requests: shares within four standard errors of what the propensities say."""
    hidden = {"new-5": msgspec.structs.replace(NEW["new-5"], available=False)}
    world = with_items(tastes, NEW | hidden)
    place = np.array([[NAMES.index("item_log_popularity")]], np.int32)  # who nobody has met yet is last by rank
    trees = Trees(place, np.array([[1e-6]], np.float32), np.array([[0.0, 1.0]]), 0.0)
    ranker = Ranker(NAMES, Linear.none(len(NAMES)), trees)
    world = replace(world, bundle=replace(world.bundle, ranker=ranker))
    shown = dict.fromkeys(NEW, 0)
    total = 0
    for start in range(0, 20_000, 500):
        batch = batch_of(world, [Ask(explore=0.3, count=5)] * 500)
        batch = replace(batch, seed=np.arange(start, start + 500, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        slates = recommend(world, batch)
        drawn = np.flatnonzero(slates.propensity)
        assert np.allclose(slates.propensity[drawn], 0.3 / 5)
        listed = ids(world, slates)
        for row in drawn:
            cell = slates.indptr[row + 1] - 1
            assert slates.sources[cell] >> Source.NEW & 1
            shown[listed[cell]] += 1
        total += len(drawn)
    assert abs(total / 20_000 - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 20_000)
    assert shown.pop("new-5") == 0
    for count in shown.values():
        assert abs(count / total - 0.2) < 4 * np.sqrt(0.2 * 0.8 / total)


def test_exploration_changes_nothing_but_the_last_place(tastes: World) -> None:
    world = with_items(tastes, NEW)
    rng = np.random.default_rng(8)
    asks = [replace(ask, count=12) for ask in random_asks(tastes, rng, 80)]
    plain = recommend(world, batch_of(world, asks))
    explored = recommend(world, batch_of(world, [replace(ask, explore=1.0) for ask in asks]))
    changed = 0
    for row in range(len(asks)):
        cells = slice(plain.indptr[row], plain.indptr[row + 1])
        own = slice(explored.indptr[row], explored.indptr[row + 1])
        before, after = ids(world, plain)[cells], ids(world, explored)[own]
        if explored.propensity[row]:
            changed += 1
            assert after[:-1] == before[: len(after) - 1]
            assert after[-1] not in before[: len(after) - 1]
            assert after[-1] in NEW
        assert len(set(after)) == len(after)
    assert changed > 20


def test_what_is_a_candidate_only_by_chance_takes_the_last_place_however_high_its_score(tastes: World) -> None:
    world = with_items(tastes, NEW)
    place = np.array([[NAMES.index("item_log_popularity")]], np.int32)  # what nobody has met yet is first by rank
    trees = Trees(place, np.array([[1e-6]], np.float32), np.array([[1.0, 0.0]]), 0.0)
    ranker = Ranker(NAMES, Linear.none(len(NAMES)), trees)
    world = replace(world, bundle=replace(world.bundle, ranker=ranker), candidates=8)
    for diversity in (0.0, 0.4):
        slates = recommend(world, batch_of(world, [Ask(explore=1.0, count=5, diversity=diversity)] * 50))
        assert np.allclose(slates.propensity, 1 / 6)
        listed = ids(world, slates)
        for row in range(50):
            *by_rank, last = listed[slates.indptr[row] : slates.indptr[row + 1]]
            assert last in NEW
            assert not NEW.keys() & set(by_rank)


def test_a_new_item_that_was_seen_excluded_or_filtered_is_not_drawn(tastes: World) -> None:
    world = with_items(tastes, NEW)
    others = [item_id for item_id in NEW if item_id != "new-2"]
    ask = Ask(likes(*others[:3]), excluded=others[3:], explore=1.0, count=8)
    batch = replace(batch_of(world, [ask] * 50), seed=np.arange(50, dtype=np.uint64))
    slates = recommend(world, batch)
    listed = ids(world, slates)
    assert {listed[end - 1] for end in slates.indptr[1:][slates.propensity > 0]} <= {"new-2"}
    right = Ask(likes("right-01"), categories=["right"], explore=1.0, count=8)
    assert not recommend(world, batch_of(world, [right] * 20)).propensity.any()


def test_short_lists_and_bundles_without_new_items_explore_nothing(tastes: World) -> None:
    world = with_items(tastes, NEW)
    assert not recommend(world, batch_of(world, [Ask(explore=1.0, count=4)] * 5)).propensity.any()
    assert not recommend(tastes, batch_of(tastes, [Ask(explore=1.0, count=20)] * 5)).propensity.any()


def test_what_is_drawn_depends_on_the_request_alone(tastes: World) -> None:
    world = with_items(tastes, NEW)
    asks = [replace(ask, explore=0.8, count=10) for ask in random_asks(tastes, np.random.default_rng(9), 40)]
    batch = batch_of(world, asks)
    together = recommend(world, batch)
    drawn = 0
    for row, ask in enumerate(asks):
        alone = recommend(world, replace(batch_of(world, [ask]), seed=batch.seed[row : row + 1]))
        cells = slice(together.indptr[row], together.indptr[row + 1])
        assert alone.item.tolist() == together.item[cells].tolist()
        assert alone.score.tobytes() == together.score[cells].tobytes()
        assert alone.propensity[0] == together.propensity[row]
        drawn += together.propensity[row] > 0
    assert drawn > 3

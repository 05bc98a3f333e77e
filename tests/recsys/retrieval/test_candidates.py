"""The union of the sources against a slow one that follows the definition list by list."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from recsys.filtering import eligible
from recsys.retrieval.candidates import DEPTH, POPULAR_MIN, union, wanted_candidates
from recsys.retrieval.faiss_index import FaissIndex
from recsys.retrieval.neighbours import Neighbours
from recsys.retrieval.spectral import Spectral
from recsys.text_column import TextColumn
from recsys.types import CandidateSet, ItemStats, QueryBatch, Ragged, Source, World
from recsys.users import Users
from recsys.verbs import Verb
from recsys.vocabulary import Vocabulary
from tests import worlds
from tests.worlds import START_S, Ask, batch_of, likes, random_asks

Lists = list[tuple[Source, list[int], list[float]]]
WIDE = 10_000  # items of `wide`


@pytest.fixture(scope="module")
def wide(tiny: World) -> World:
    """Items 0 to 9,999, more than any list is deep: all have a factor, all are for sale, the first sells best.

    Every tenth item is of the only category.
    """
    factors = np.random.default_rng(1).normal(size=(WIDE, 2)).astype(np.float32)
    ids = [f"{i:04d}" for i in range(WIDE)]
    vocabulary, _ = Vocabulary.from_keys(ids, np.arange(1, WIDE + 1, dtype=np.uint64) << np.uint64(32))
    tenth = np.arange(0, WIDE, 10)
    falling = np.linspace(1, 0, WIDE, dtype=np.float32)
    stats = ItemStats("wide", np.ones(WIDE, bool), *[falling] * 5, np.arange(WIDE, dtype=np.int32))
    nothing = Neighbours(np.full((WIDE, 1), -1, np.int32), np.zeros((WIDE, 1), np.float32))
    bundle = replace(
        tiny.bundle,
        vocabulary=vocabulary,
        title=TextColumn.of(ids),
        category_name=("tenth",),
        item_category=Ragged.of([np.zeros(int(i % 10 == 0)) for i in range(WIDE)], np.int32),
        category_item=Ragged.of([tenth], np.int32),
        factors=factors,
        gram=factors.T @ factors + np.eye(2, dtype=np.float32),
        index=FaissIndex.build(factors),
        transitions=nothing,
        nearby=nothing,
        similar=nothing,
        content=nothing,
        spectral=Spectral(factors, np.ones(WIDE, np.float32)),
        spectral_index=FaissIndex.build(factors),
        item_stats=stats,
    )
    return World(bundle, stats)


def with_sources(world: World, *sources: str) -> World:
    recipe = msgspec.structs.replace(world.bundle.recipe, sources=sources)
    return replace(world, bundle=replace(world.bundle, recipe=recipe))


def unite(world: World, batch: QueryBatch) -> tuple[CandidateSet, Users]:
    users = Users.of(world, batch)
    nothing = np.full(len(batch), -1, np.int32)
    return union(world, batch, users, eligible(world, batch, users)[0], nothing), users


def popular_depth(world: World, count: int, known: bool) -> int:
    """How many items the popular list gives one request."""
    return max(POPULAR_MIN, count * 3 // 2) if known else max(world.candidates, count * 3 // 2)


def lists_of(world: World, batch: QueryBatch, users: Users, row: int) -> Lists:
    """Every source's ranked list of one request, with the source's own scores."""
    bundle, recipe, history = world.bundle, world.bundle.recipe, users.history
    bits = eligible(world, batch, users)[0][row]
    mine = np.flatnonzero(np.unpackbits(bits, bitorder="little")).tolist()
    among = set(mine)
    lists: Lists = []
    for source, index, table, vector in (
        (Source.ALS, bundle.index, bundle.factors, users.vector[row]),
        (Source.SPECTRAL, bundle.spectral_index, bundle.spectral.vector, users.spectral[row]),
    ):
        if vector.any() and len(batch.categories[row]):
            score = table[mine] @ vector
            best = np.argsort(-score, kind="stable")[:DEPTH]
            lists.append((source, [mine[i] for i in best], score[best].tolist()))
        elif vector.any():
            found, score = index.search(vector, DEPTH, bits)
            lists.append((source, found[found >= 0].tolist(), score[found >= 0].tolist()))
    newest = [np.float32(recipe.recent_decay) ** np.float32(back) for back in range(recipe.recent)]
    for source, table, weights in (
        (Source.TRANSITIONS, bundle.transitions, newest),
        (Source.NEARBY, bundle.nearby, newest),
        (Source.SIMILAR, bundle.similar, newest),
        (Source.HISTORY, bundle.similar, history.weight[row].tolist()),
        (Source.CONTENT, bundle.content, newest),
    ):
        total: dict[int, float] = {}
        for item, counts in zip(history.item[row].tolist(), weights, strict=False):
            if item >= 0 and counts > 0:
                for near, weight in zip(table.item[item].tolist(), table.weight[item].tolist(), strict=True):
                    if near in among:
                        total[near] = float(np.float32(total.get(near, 0.0)) + np.float32(counts) * np.float32(weight))
        best = sorted(total, key=lambda near: (-total[near], near))[:DEPTH]
        lists.append((source, best, [total[near] for near in best]))
    depth = popular_depth(world, int(batch.count[row]), bool(history.known[row]))
    lists.append((Source.POPULAR, [i for i in world.item_stats.order.tolist() if i in among][:depth], []))
    return [one for one in lists if one[0].name in recipe.sources]


def fused(lists: Lists) -> dict[int, tuple[float, int, dict[Source, float]]]:
    """Item -> (fused score, source bits, each source's own score)."""
    found: dict[int, tuple[float, int, dict[Source, float]]] = {}
    for source, items, weights in lists:
        for position, item in enumerate(items):
            score, bits, own = found.get(item, (0.0, 0, {}))
            if weights:
                own[source] = own.get(source, 0.0) + weights[position]
            found[item] = score + 1 / (60 + position), bits | 1 << source, own
    return found


def assert_united_by_the_definition(world: World, batch: QueryBatch) -> None:
    found, users = unite(world, batch)
    for row in range(len(batch)):
        expected = fused(lists_of(world, batch, users, row))
        cells = range(found.indptr[row], found.indptr[row + 1])
        wanted = max(world.candidates, int(batch.count[row]) * 3 // 2)
        assert len(cells) == min(wanted, len(expected))
        best = sorted((score for score, *_ in expected.values()), reverse=True)[: len(cells)]
        for cell, least in zip(cells, best, strict=True):
            score, bits, own = expected[found.item[cell]]
            assert score == pytest.approx(least, rel=1e-6), "the best stay"
            assert found.retrieval_score[cell] == pytest.approx(score, rel=1e-6)
            assert found.sources[cell] == bits
            for source in Source:
                assert found.source_score[source, cell] == pytest.approx(own.get(source, 0.0), rel=1e-5)
        scores, items = found.retrieval_score[cells], found.item[cells]
        assert (np.diff(scores) <= 0).all()
        exact = np.array([expected[item][0] for item in items])
        tied = np.flatnonzero(np.diff(exact) == 0)
        assert (items[tied + 1] > items[tied]).all(), "equal scores stand by rising item row"


def test_union_is_reciprocal_rank_fusion_of_all_lists(world: World) -> None:
    batch = batch_of(world, random_asks(world, np.random.default_rng(21), 40))
    assert_united_by_the_definition(world, batch)


def test_union_of_hand_made_lists(tiny: World) -> None:
    """Who liked a has the vector (42, -24) / 129, so ALS says c, b; spectral (1, 0) says c; a leads to b and c.

    a is like c, by its last item, by its history and by its description.

    Popular are b, c, e. a is seen and d cannot be had, so nothing counts them.
    """
    batch = batch_of(tiny, [Ask(likes("a"))])
    found, _ = unite(tiny, batch)
    by_name = {"abcde"[item]: cell for cell, item in enumerate(found.item)}
    assert list(by_name) == ["c", "b", "e"]
    c = by_name["c"]
    assert found.sources[c] == 0b101101111
    assert found.retrieval_score[c] == pytest.approx(5 / 60 + 2 / 61)
    als = (3 * 42 - 4 * 24) / 129
    np.testing.assert_allclose(found.source_score[:, c], [als, 0.25, 0.75, 0, 0, 0.75, 3, 0, 0.375], rtol=1e-5)
    assert found.retrieval_score[by_name["b"]] == pytest.approx(1 / 61 + 1 / 60 + 1 / 60 + 1 / 60 + 1 / 61)
    assert found.sources[by_name["e"]] == 1 << Source.POPULAR


def test_item_related_to_several_interactions_adds_their_decayed_weights(tiny: World) -> None:
    """a leads to c with 0.25, b to c with 0.5; a is one step back."""
    batch = batch_of(tiny, [Ask([("a", Verb.LIKE, START_S), ("b", Verb.HIDE, START_S)])])
    found, _ = unite(tiny, batch)
    c = found.item.tolist().index(2)
    assert found.source_score[Source.TRANSITIONS, c] == pytest.approx(0.5 + 0.7 * 0.25)
    assert found.source_score[Source.SIMILAR, c] == pytest.approx(0.7 * 0.75)


def test_catalogue_smaller_than_the_depth_is_read_whole(tiny: World) -> None:
    batch = batch_of(tiny, [Ask(), Ask(categories=["comedy"]), Ask(likes("b"), categories=["drama"])])
    found, _ = unite(tiny, batch)
    lists = ["".join("abcde"[i] for i in found.item[found.indptr[r] : found.indptr[r + 1]]) for r in range(3)]
    assert lists == ["bcae", "ca", "c"]


def test_filtered_rows_are_united_by_the_definition(world: World) -> None:
    names = world.bundle.category_name
    ids = world.bundle.vocabulary.item_id.tolist()
    asks = [Ask(likes(*ids[:7]), categories=[name]) for name in names[:4]] + [Ask(categories=names[:2])]
    assert_united_by_the_definition(world, batch_of(world, asks))


@pytest.mark.parametrize(
    ("sources", "bits"),
    [
        (("POPULAR",), 0b1000),
        (("ALS",), 0b0001),
        (("TRANSITIONS", "SIMILAR"), 0b0110),
        (("HISTORY", "SPECTRAL"), 96),
        (("NEARBY",), 128),
    ],
)
def test_only_the_sources_of_the_recipe_are_read(chain: World, sources: tuple[str, ...], bits: int) -> None:
    some = with_sources(chain, *sources)
    found, _ = unite(some, batch_of(some, [Ask(likes(*map(worlds.chain_item, range(5))))]))
    assert len(found.item)
    assert np.bitwise_or.reduce(found.sources) == bits


def test_alone_the_popular_list_is_read_as_deep_for_everybody_as_for_a_cold_user(world: World) -> None:
    some = with_sources(world, "POPULAR")
    ids = world.bundle.vocabulary.item_id.tolist()
    found, _ = unite(some, batch_of(some, [Ask(likes(ids[0]))]))
    seen = int(some.bundle.vocabulary.rows_of([ids[0]])[0])
    assert found.item.tolist() == [i for i in world.item_stats.order.tolist() if i != seen][: some.candidates]


def test_user_whose_positives_have_no_factor_gets_popular_items_only(tiny: World) -> None:
    """Nothing matches the taste of a zero vector more than anything else, in a category no more than without one."""
    batch = batch_of(tiny, [Ask(likes("e")), Ask(likes("e"), categories=["drama"])])
    found, users = unite(tiny, batch)
    assert not users.vector.any()
    assert found.item.tolist() == [1, 2, 0, 1, 2]
    assert found.sources.tolist() == [1 << Source.POPULAR] * 5


def test_user_without_a_positive_gets_what_follows_and_what_is_popular(tiny: World) -> None:
    found, _ = unite(tiny, batch_of(tiny, [Ask([("a", Verb.HIDE, START_S)])]))
    sources = dict(zip(found.item.tolist(), found.sources.tolist(), strict=True))
    follows, near, alike, popular = (1 << Source[s] for s in ("TRANSITIONS", "NEARBY", "SIMILAR", "POPULAR"))
    described = 1 << Source.CONTENT
    assert sources == {1: follows | near | popular, 2: follows | alike | described | popular, 4: popular}


def test_wanted_candidates_are_those_of_the_world_or_half_more_than_the_count(world: World) -> None:
    batch = batch_of(world, [Ask(count=1), Ask(count=133), Ask(count=134), Ask(count=500)])
    assert wanted_candidates(world, batch).tolist() == [200, 200, 201, 750]


def read_from(world: World, source: Source, asks: list[Ask]) -> list[int]:
    """How many items each request got from a source."""
    found, _ = unite(world, batch_of(world, asks))
    return np.bincount(found.row(), weights=found.sources >> source & 1, minlength=len(asks)).astype(int).tolist()


def ids(start: int, end: int) -> list[str]:
    """Ids of `wide`, the best-selling first."""
    return [f"{i:04d}" for i in range(start, end)]


def test_als_list_is_as_deep_whatever_the_user_has_seen(wide: World) -> None:
    asks = [Ask(likes("0000")), Ask(likes(*ids(0, 2000)), excluded=ids(2000, 4000), count=500)]
    assert read_from(replace(wide, candidates=5000), Source.ALS, asks) == [DEPTH] * 2


def test_popular_list_is_read_half_more_than_the_count_beyond_what_is_known(wide: World) -> None:
    history, excluded = likes(*ids(0, 100)), ids(100, 200)
    asks = [Ask(likes("0000")), Ask(history, count=50), Ask(history, excluded=excluded, count=500)]
    assert read_from(replace(wide, candidates=5000), Source.POPULAR, asks) == [POPULAR_MIN, 75, 750]


def test_popular_list_of_a_cold_user_is_all_that_is_ranked(wide: World) -> None:
    assert read_from(wide, Source.POPULAR, [Ask(), Ask(excluded=ids(0, 50)), Ask(count=500)]) == [200, 200, 750]


def test_candidates_beyond_the_wanted_ones_are_the_worst(wide: World) -> None:
    """Half more than the count of popular items and the nearest ones are more than are ranked."""
    batch = batch_of(wide, [Ask(likes("0000"), count=120)])
    few, _ = unite(replace(wide, candidates=180), batch)
    all_, _ = unite(replace(wide, candidates=5000), batch)
    assert len(few.item) == 180 < len(all_.item)
    assert few.item.tolist() == all_.item[:180].tolist()


@pytest.mark.parametrize("sources", [("ALS", "POPULAR"), ("POPULAR",)], ids="+".join)
@pytest.mark.parametrize("categories", [(), ("tenth",)], ids=["unfiltered", "filtered"])
@pytest.mark.parametrize(("liked", "excluded"), [(0, 0), (1, 3000), (300, 300), (2000, 0), (60, 6000)])
def test_list_comes_back_short_only_where_the_catalogue_is(
    wide: World, sources: tuple[str, ...], categories: tuple[str, ...], liked: int, excluded: int
) -> None:
    """All that the user knows sells best; even so half more than the count is left."""
    some = with_sources(wide, *sources)
    known = ids(0, liked + excluded)
    asks = [
        Ask(likes(*known[:liked]), excluded=known[liked:], categories=categories, count=count)
        for count in (1, 10, 500, 5000)
    ]
    found, _ = unite(some, batch_of(some, asks))
    step = 10 if categories else 1
    left = len(range(0, WIDE, step)) - len(range(0, len(known), step))
    for row, ask in enumerate(asks):
        items = found.item[found.indptr[row] : found.indptr[row + 1]]
        assert (items >= len(known)).all()
        assert len(items) >= min(left, ask.count * 3 // 2)


def test_low_quality_ranks_its_share_without_searching_vectors_where_neighbours_are_known(world: World) -> None:
    asks = [Ask(likes(*(world.bundle.vocabulary.item_id[row] for row in range(k, k + 9)))) for k in range(12)]
    whole = batch_of(world, asks)
    vectors = np.uint16(1 << Source.ALS | 1 << Source.SPECTRAL)
    for quality, searched in ((1.0, True), (0.5, True), (0.25, False)):
        batch = replace(whole, quality=np.full(len(asks), quality, np.float32))
        found, _ = unite(world, batch)
        assert found.sizes().max() == quality * world.candidates
        assert np.any(found.sources & vectors) == searched
    mixed, _ = unite(world, replace(whole, quality=np.where(np.arange(len(asks)) % 2, 1.0, 0.25).astype(np.float32)))
    alone, _ = unite(world, whole)
    for row in range(1, len(asks), 2):
        own, same = (slice(*one.indptr[row : row + 2]) for one in (mixed, alone))
        assert mixed.item[own].tolist() == alone.item[same].tolist()


def test_low_quality_searches_vectors_where_nothing_else_is_personal_and_within_a_category(world: World) -> None:
    ids = world.bundle.vocabulary.item_id
    recipe = msgspec.structs.replace(world.bundle.recipe, sources=("ALS", "POPULAR"))
    only_als = replace(world, bundle=replace(world.bundle, recipe=recipe))
    for one, ask in (
        (only_als, Ask(likes(ids[0], ids[1]))),
        (world, Ask(likes(ids[0], ids[1]), categories=[world.bundle.category_name[0]])),
    ):
        found, _ = unite(one, replace(batch_of(one, [ask]), quality=np.array([0.25], np.float32)))
        assert np.any(found.sources & np.uint16(1 << Source.ALS | 1 << Source.SPECTRAL))

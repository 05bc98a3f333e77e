"""The union of the sources against a slow one that follows the definition list by list."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.features.frame import History
from recsys.retrieval.candidates import DEPTH_MAX, POPULAR_MIN, depth, union, wanted_candidates
from recsys.retrieval.fold_in import fold_in
from recsys.types import CandidateSet, QueryBatch, Source, World
from recsys.verbs import Verb
from tests import worlds
from tests.worlds import START_S, Ask, batch_of, likes, random_asks

Lists = list[tuple[Source, list[int], list[float]]]


def unite(world: World, batch: QueryBatch) -> tuple[CandidateSet, History, np.ndarray]:
    history, bundle = History.of(batch.states, world), world.bundle
    vector = fold_in(bundle.factors, bundle.gram, history.item, history.positive, alpha=bundle.recipe.als_alpha)
    return union(world, batch, batch.states, history, vector), history, vector


def lists_of(world: World, history: History, vector: np.ndarray, row: int, reach: int, wanted: list[int]) -> Lists:
    """Every source's ranked list of one request, with the source's own scores."""
    bundle, recipe = world.bundle, world.bundle.recipe
    allowed = [i for i in range(len(bundle.vocabulary)) if not wanted or set(bundle.item_category[i]) & set(wanted)]
    lists: Lists = []
    personal = bool(history.positive[row].any())
    if personal and wanted:
        score = bundle.factors[allowed] @ vector[row]
        best = [allowed[i] for i in np.argsort(-score, kind="stable")[:reach]]
        lists.append((Source.ALS, best, []))
    elif personal:
        lists.append((Source.ALS, [i for i in bundle.index.search(vector[[row]], reach)[0] if i >= 0], []))
    for source, table in ((Source.TRANSITIONS, bundle.transitions), (Source.SIMILAR, bundle.similar)):
        for back, item in enumerate(history.item[row, :5].tolist()):
            if item >= 0:
                near = [i for i in table.item[item].tolist() if i >= 0]
                weight = table.weight[item, : len(near)] * np.float32(recipe.recent_decay) ** np.float32(back)
                lists.append((source, near, weight.tolist()))
    popular = [i for i in world.item_stats.order.tolist() if i in set(allowed)]
    lists.append((Source.POPULAR, popular[: POPULAR_MIN if personal and not wanted else reach], []))
    return lists


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
    found, history, vector = unite(world, batch)
    reach = depth(world, batch, batch.states)
    for row in range(len(batch)):
        wanted = batch.categories[row].tolist()
        expected = fused(lists_of(world, history, vector, row, int(reach[row]), wanted))
        cells = range(found.indptr[row], found.indptr[row + 1])
        assert sorted(found.item[cells].tolist()) == sorted(expected)
        for cell in cells:
            score, bits, own = expected[found.item[cell]]
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
    """Who liked a has the vector (42, -24) / 129, so ALS says a, c, d, b; a leads to b and c and is like c.

    Popular are b, c, a, e.
    """
    batch = batch_of(tiny, [Ask(likes("a"))])
    found, _, _ = unite(tiny, batch)
    by_name = {"abcde"[item]: cell for cell, item in enumerate(found.item)}
    assert set(by_name) == set("abcde")
    c = by_name["c"]
    assert found.sources[c] == 0b1111
    assert found.retrieval_score[c] == pytest.approx(1 / 61 + 1 / 61 + 1 / 60 + 1 / 61)
    assert found.source_score[:, c].tolist() == [0, 0.25, 0.75, 0]
    assert found.sources[by_name["e"]] == 1 << Source.POPULAR
    assert found.sources[by_name["d"]] == 1 << Source.ALS
    assert found.item[0] == 2


def test_item_related_to_several_interactions_adds_their_decayed_weights(tiny: World) -> None:
    """a leads to c with 0.25, b to c with 0.5; a is one step back."""
    batch = batch_of(tiny, [Ask([("a", Verb.LIKE, START_S), ("b", Verb.HIDE, START_S)])])
    found, _, _ = unite(tiny, batch)
    c = found.item.tolist().index(2)
    assert found.source_score[Source.TRANSITIONS, c] == pytest.approx(0.5 + 0.7 * 0.25)
    assert found.source_score[Source.SIMILAR, c] == pytest.approx(0.7 * 0.75)


def test_catalogue_smaller_than_the_depth_is_read_whole(tiny: World) -> None:
    batch = batch_of(tiny, [Ask(), Ask(categories=["comedy"]), Ask(likes("b"), categories=["drama"])])
    found, _, _ = unite(tiny, batch)
    cold, comedy, drama = (
        "".join("abcde"[i] for i in found.item[found.indptr[r] : found.indptr[r + 1]]) for r in range(3)
    )
    assert cold == "bcae"
    assert comedy == "ca"
    assert set(drama) == set("bcd")


def test_filtered_rows_are_united_by_the_definition(world: World) -> None:
    names = world.bundle.category_name
    ids = world.bundle.vocabulary.item_id.tolist()
    asks = [Ask(likes(*ids[:7]), categories=[name]) for name in names[:4]] + [Ask(categories=names[:2])]
    assert_united_by_the_definition(world, batch_of(world, asks))


@pytest.mark.parametrize(
    ("sources", "bits"),
    [(("POPULAR",), 0b1000), (("ALS",), 0b0001), (("TRANSITIONS", "SIMILAR"), 0b0110)],
)
def test_only_the_sources_of_the_recipe_are_read(chain: World, sources: tuple[str, ...], bits: int) -> None:
    recipe = replace(chain.bundle.recipe, sources=sources)
    some = replace(chain, bundle=replace(chain.bundle, recipe=recipe))
    found, _, _ = unite(some, batch_of(some, [Ask(likes(*map(worlds.chain_item, range(5))))]))
    assert len(found.item)
    assert np.bitwise_or.reduce(found.sources) == bits


def test_without_als_everybody_reads_the_whole_popular_list(world: World) -> None:
    some = replace(world, bundle=replace(world.bundle, recipe=replace(world.bundle.recipe, sources=("POPULAR",))))
    ids = world.bundle.vocabulary.item_id.tolist()
    found, _, _ = unite(some, batch_of(some, [Ask(likes(ids[0]))]))
    assert found.item.tolist() == world.item_stats.order[:256].tolist()


def test_wanted_candidates_are_those_of_the_world_or_half_more_than_the_count(world: World) -> None:
    batch = batch_of(world, [Ask(count=1), Ask(count=133), Ask(count=134), Ask(count=500)])
    assert wanted_candidates(world, batch).tolist() == [200, 200, 201, 750]


def test_depth_is_a_power_of_two_that_leaves_half_more_than_the_count_after_what_is_known(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    known = {"history": likes(*ids[:100]), "excluded": ids[:100]}
    asks = [Ask(), Ask(**known, count=37), Ask(**known, count=38), Ask(count=500), Ask(**known, count=500)]
    batch = batch_of(world, asks)
    assert depth(world, batch, batch.states).tolist() == [256, 256, 512, 1024, 1024]
    many = replace(world, candidates=300)
    assert depth(many, batch, batch.states).tolist() == [512, 512, 512, 1024, 1024]


def test_depth_ends_at_its_maximum(world: World) -> None:
    batch = batch_of(world, [Ask(excluded=["gone"] * 9000)])
    assert depth(world, batch, batch.states).tolist() == [DEPTH_MAX]

"""Why an item is not on a list: each verdict, and each claim, beside the full trace."""

import re
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from recsys.datasets.detect import read_dataset
from recsys.explanations import verdict_words
from recsys.explanations.verdict_words import sentence
from recsys.explanations.why_not import Verdict, WhyNot, why_not
from recsys.explanations.words import GROUP
from recsys.features.matrix import NAMES
from recsys.filtering import Reason
from recsys.training.train import train
from recsys.types import Source, World
from tests import worlds
from tests.real_data import real_data
from tests.recsys.explanations.agreement import agreed, pairs
from tests.recsys.explanations.oracle import Stages
from tests.worlds import Ask, batch_of, likes, with_unavailable

A, B, C, D, E = range(5)


def ask_why(world: World, ask: Ask, item: int) -> WhyNot:
    return why_not(world, batch_of(world, [ask]), world.bundle.vocabulary.key[item])


def fresh(world: World) -> World:
    """With three items that came after training, so that lists may end with one drawn by chance."""
    return replace(world, bundle=replace(world.bundle, fresh=np.array([3, 50, 99], np.int32)))


@pytest.mark.parametrize("seed", [1, 2])
def test_verdicts_of_random_pairs_agree_with_the_full_trace(world: World, seed: int) -> None:
    some = with_unavailable(fresh(world), np.arange(0, 400, 29))
    counts = pairs(replace(some, candidates=80), seed, 300)
    assert set(counts) == set(Verdict) - {Verdict.NOT_IN_BUNDLE}


@pytest.fixture(scope="module")
def movielens() -> World:
    dataset = read_dataset(real_data("ml-latest-small"), positive_rating=4.0)
    recipe = msgspec.structs.replace(worlds.SMALL, factors=64, spectral_factors=64, neighbours=100, trees=100)
    trained = train(dataset, recipe)
    stats = trained.bundle.item_stats
    some = World(replace(trained.bundle, fresh=np.arange(0, 9000, 900, dtype=np.int32)), stats)
    return with_unavailable(some, np.arange(0, len(stats.available), 31))


@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_pairs_of_real_data_agree_with_the_full_trace(movielens: World, seed: int) -> None:
    counts = pairs(movielens, seed, 2_500)
    assert counts.total() == 2_500
    assert set(counts) == set(Verdict) - {Verdict.NOT_IN_BUNDLE}


def test_item_that_the_bundle_does_not_have(tiny: World) -> None:
    found = why_not(tiny, batch_of(tiny, [Ask()]), 77)
    assert found.verdict is Verdict.NOT_IN_BUNDLE
    assert "does not have it" in sentence(found)


def test_every_reason_that_rules_an_item_out_is_named_and_what_would_be_without_them(tastes: World) -> None:
    ids = tastes.bundle.vocabulary.item_id.tolist()
    item, number = ids.index("left-03"), ids.index("left-04")
    scarce = with_unavailable(tastes, np.array([item]))
    asked = Ask(history=likes("left-03", "left-04"), excluded=["left-03", "left-04"], categories=["right"])
    found = ask_why(scarce, asked, item)
    assert (found.verdict, found.reasons) == (Verdict.FILTERED, list(Reason))
    assert found.otherwise
    assert found.otherwise.verdict is Verdict.LISTED
    assert ask_why(scarce, asked, number).reasons == [Reason.CATEGORY, Reason.SEEN, Reason.EXCLUDED]
    text = sentence(found)
    assert "not available and it has none of the categories asked for and the user has met it" in text
    assert f"Without that it would be at rank {found.otherwise.rank}." in text


def test_item_known_only_by_a_fingerprint_is_filtered_as_seen(tastes: World) -> None:
    ids = tastes.bundle.vocabulary.item_id.tolist()
    history = likes("left-07", *["left-01", "left-02"] * 40)
    found = ask_why(tastes, Ask(history=history, count=5), ids.index("left-07"))
    assert (found.verdict, found.reasons) == (Verdict.FILTERED, [Reason.SEEN])
    assert found.otherwise
    assert found.otherwise.verdict is not Verdict.FILTERED


def test_item_of_a_foreign_taste_is_not_retrieved_and_each_source_says_where_it_has_it(tastes: World) -> None:
    narrow = replace(tastes, candidates=10)
    ids = tastes.bundle.vocabulary.item_id.tolist()
    found = ask_why(narrow, Ask(history=likes("left-03", "left-04"), count=5), ids.index("right-03"))
    assert found.verdict is Verdict.NOT_RETRIEVED
    by_source = {whole.source: (int(held.place[0]), int(whole.place[0])) for held, whole in found.offered}
    assert by_source[Source.TRANSITIONS] == (0, 0)
    assert found.fused > found.ranked == 10
    assert f"together they put it at {found.fused}" in sentence(found)


def test_item_without_any_tie_says_so(tastes: World) -> None:
    ids = tastes.bundle.vocabulary.item_id.tolist()
    tied = msgspec.structs.replace(tastes.bundle.recipe, sources=("TRANSITIONS", "SIMILAR"))
    world = replace(tastes, bundle=replace(tastes.bundle, recipe=tied))
    found = ask_why(world, Ask(history=likes("left-03")), ids.index("right-03"))
    assert (found.verdict, found.fused) == (Verdict.NOT_RETRIEVED, 0)
    assert sentence(found) == "No source brought it. None has any tie to it."


def test_outranked_item_has_its_rank_its_gap_and_what_cost_it_most(world: World) -> None:
    ask = Ask(history=likes(*world.bundle.vocabulary.item_id.tolist()[:20]), count=10)
    stages = Stages.of(world, ask)
    found = agreed(stages, stages.by_score[40])
    assert (found.verdict, found.rank) == (Verdict.OUTRANKED, 41)
    assert found.costs
    assert list(found.costs.values()) == sorted(found.costs.values(), reverse=True)
    assert "Ranked at 41 of" in sentence(found)
    assert not set(NAMES) & set(re.findall(r"\w+", sentence(found)))  # in words, not in names of features
    assert any(words in sentence(found) for words in verdict_words._CAUSES.values())


def test_every_group_of_features_has_words_for_what_it_costs() -> None:
    assert set(verdict_words._CAUSES) == set(GROUP.values())


def test_rule_that_keeps_an_item_off_is_named_and_the_list_without_it(world: World) -> None:
    ids, name = world.bundle.vocabulary.item_id.tolist(), world.bundle.category_name[0]
    ask = Ask(history=likes(*ids[:20]), count=20, quotas=[(name, 1)])
    stages = Stages.of(world, ask)
    off = next(item for item in stages.by_score if item not in stages.listed)
    found = agreed(stages, off)
    assert (found.verdict, [str(one) for one in found.rules]) == (Verdict.DISPLACED, ["quotas"])
    assert f"quotas kept it off: without, it is at rank {found.without['quotas'].rank}." in sentence(found)


def test_rules_that_keep_an_item_off_only_together_are_named_together(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    rng = np.random.default_rng(5)
    for _ in range(60):
        history = likes(*[ids[one] for one in rng.integers(0, len(ids), 20)])
        quotas = [(name, int(rng.integers(1, 4))) for name in world.bundle.category_name]
        ask = Ask(history=history, count=10, diversity=0.9, popularity_damping=0.5, quotas=quotas)
        stages = Stages.of(world, ask)
        for item in stages.by_score[:10]:
            if item not in stages.listed and "all" in (found := agreed(stages, item)).without and found.rules:
                assert "kept it off together" in sentence(found)
                return
    pytest.fail("no such case; widen the search")


def test_new_item_that_took_the_last_place_by_chance_is_what_displaced(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    ask = Ask(history=likes(*ids[100:120]), count=10, explore=1.0)
    stages = Stages.of(fresh(world), ask)
    off = next(item for item in stages.by_score if item not in stages.listed)
    found = agreed(stages, off)
    assert [str(one) for one in found.rules] == ["exploration"]


def test_listed_item_says_where(tiny: World) -> None:
    found = ask_why(tiny, Ask(history=likes("a"), count=2), C)
    assert (found.verdict, found.rank) == (Verdict.LISTED, 1)
    assert sentence(found) == "It is on the list, at rank 1 of 2."

"""Explanations of lists: they add up, every rank they claim is that of a list made again, and words say what holds."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from recsys.explanations.counterfactuals import DEPTH, TRIED, met
from recsys.explanations.explanation import Explanation, explanation, finished
from recsys.explanations.removal import remove
from recsys.explanations.trace import Trace
from recsys.explanations.words import GROUP, _text, falls, grouped, reasons
from recsys.features.matrix import NAMES
from recsys.recommend import Ranked, rank, recommend, retrieve, slate
from recsys.types import QueryBatch, Ragged, Source, World
from recsys.users import Users
from recsys.verbs import Verb
from tests.recsys.explanations.oracle import RULES
from tests.worlds import START_S, Ask, batch_of, chain_item, controlled_asks, likes, with_unavailable


def explain(world: World, ask: Ask) -> Explanation:
    return finished(explanation(world, batch_of(world, [ask])))


def fresh(world: World) -> World:
    return replace(world, bundle=replace(world.bundle, fresh=np.array([3, 50, 99], np.int32)))


def longer_list(world: World, batch: QueryBatch, count: int) -> list[int]:
    """The list, and who would follow: the stages by hand, the candidates those of the request as it is."""
    retrieved = retrieve(world, batch)
    ranked = rank(world, batch, retrieved)
    listed = recommend(world, batch).item.tolist()
    longest = slate(world, replace(batch, count=np.array([count], np.int32)), retrieved, ranked).item.tolist()
    return [*listed, *(item for item in longest if item not in listed)]


def rank_in(order: list[int], item: int) -> int:
    return order.index(item) + 1 if item in order else 0


@pytest.mark.parametrize("seed", range(3))
def test_every_list_that_is_explained_is_that_of_recommend_and_its_contributions_add_up(
    world: World, seed: int
) -> None:
    for ask in controlled_asks(fresh(world), np.random.default_rng(seed), 8):
        found, slates = explain(fresh(world), ask), recommend(fresh(world), batch_of(fresh(world), [ask]))
        assert found.trace.slates.item.tolist() == slates.item.tolist()
        assert np.array_equal(found.trace.slates.digests, slates.digests)
        score = found.contributions.base + found.contributions.value.sum(axis=1)
        assert np.abs(score - slates.score).max(initial=0) < 1e-6
        for place in range(len(slates.item)):
            assert sum(grouped(found.contributions.value[place]).values()) == pytest.approx(
                slates.score[place] - found.contributions.base, abs=1e-6
            )


@pytest.mark.parametrize("seed", range(3))
def test_every_claimed_rank_is_that_of_a_list_made_again(world: World, seed: int) -> None:
    some = fresh(world)
    for ask in controlled_asks(some, np.random.default_rng(10 + seed), 5):
        batch, found = batch_of(some, [ask]), explain(some, ask)
        users, listed = Users.of(some, batch), found.trace.listed(0).tolist()
        depth = max(DEPTH, ask.count)
        tried = found.counterfactuals.tried.tolist()
        assert tried == met(users.history.item[0]).tolist()[:TRIED]
        for at, item in enumerate(tried):
            order = longer_list(some, _never_met(some, batch, item), depth)
            assert found.counterfactuals.without[at].tolist() == [rank_in(order, one) for one in listed]
        for rule, other in found.counterfactuals.rules.items():
            assert other.tolist() == recommend(some, batch_of(some, [replace(ask, **RULES[rule])])).item.tolist()


def _never_met(world: World, batch: QueryBatch, item: int) -> QueryBatch:
    key = world.bundle.vocabulary.key[item]
    states = batch.states.take(np.array([0]))
    remove(states, np.array([key], np.uint64))
    session, excluded = batch.session.values, batch.excluded.values
    return replace(
        batch,
        states=states,
        session=Ragged.of([session[session != key]], np.uint64),
        excluded=Ragged.of([np.append(excluded, key)], np.uint64),
    )


def test_item_that_leads_to_the_next_is_the_cause_of_it_and_without_it_that_falls(chain: World) -> None:
    ids = chain.bundle.vocabulary.item_id.tolist()
    history = [(chain_item(one), Verb.CLICK, START_S + 60 * one) for one in (3, 20)]
    found = explain(chain, Ask(history=history, count=5))
    first = found.trace.listed(0)[0]
    assert ids[first] == chain_item(21)
    (cause, to), *_ = falls(found, 0)
    assert ids[cause] == chain_item(20)
    assert to == 0 or to > 1
    (because, *_) = reasons(found, 0)
    assert (because.code, because.items[0]) == ("because_of_items", cause)
    assert because.text.startswith("because you clicked Title of step-20")


def test_session_item_is_a_cause_as_well(chain: World) -> None:
    found = explain(chain, Ask(session=[chain_item(20)], count=5))
    ids = chain.bundle.vocabulary.item_id.tolist()
    assert ids[found.trace.listed(0)[0]] == chain_item(21)
    assert [ids[one] for one, _ in falls(found, 0)] == [chain_item(20)]
    assert found.counterfactuals.without.tolist()[0][0] == found.counterfactuals.unknown.tolist()[0]


def test_words_name_only_items_without_which_the_item_is_further_down(world: World) -> None:
    for ask in controlled_asks(world, np.random.default_rng(20), 12):
        found = explain(world, ask)
        for place in range(len(found.trace.slates.item)):
            fallen = dict(falls(found, place))
            for one in reasons(found, place):
                assert set(one.items) <= set(fallen)
            assert all(to == 0 or to > place + 1 for to in fallen.values())


def test_nobody_is_told_of_their_taste_who_has_none(world: World) -> None:
    found = explain(world, Ask(count=20))
    assert not found.trace.slates.personal[0]
    codes = {one.code for place in range(20) for one in reasons(found, place)}
    assert codes <= {"demand", "reception"}
    assert "demand" in codes


def test_demand_is_told_by_its_place_among_those_of_the_category(world: World) -> None:
    found, stats = explain(world, Ask(count=5)), world.item_stats
    told = 0
    for place, row in enumerate(found.trace.listed(0).tolist()):
        for one in reasons(found, place):
            if one.code == "demand" and one.text.startswith("trending in "):
                name, _, number = one.text.removeprefix("trending in ").partition(" (number ")
                rows = world.bundle.items_of(np.array([world.bundle.category_number[name]]))
                assert row in rows
                above = int((stats.trend[rows[stats.available[rows]]] > stats.trend[row]).sum())
                assert number == f"{above + 1} these weeks)"
                told += 1
    assert told


def test_new_item_that_was_drawn_by_chance_says_so_and_nothing_else(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    found = explain(fresh(world), Ask(history=likes(*ids[100:110]), count=10, explore=1.0))
    assert found.trace.slates.propensity[0] > 0
    (only,) = reasons(found, 9)
    assert (only.code, only.items) == ("new", ())
    assert found.counterfactuals.rules["exploration"].tolist() != found.trace.listed(0).tolist()


def test_of_a_verb_of_ones_own_it_says_met(chain: World) -> None:
    history = [(chain_item(20), Verb.CLICK, START_S)]
    batch = batch_of(chain, [Ask(history=history, count=3)])
    batch.states.verb[0, 0] = 117
    assert reasons(finished(explanation(chain, batch)), 0)[0].text == "because you met Title of step-20"


def test_categories_that_most_of_what_one_liked_has_are_named(tastes: World) -> None:
    found = explain(tastes, Ask(history=likes("left-01", "left-02", "left-03"), count=8))
    texts = {one.text for place in range(8) for one in reasons(found, place) if one.code == "categories"}
    assert texts <= {"you often choose left"}


def test_item_is_well_received_only_where_it_is_better_received_than_most(world: World) -> None:
    rates, told = world.item_stats.positive_rate, set()
    for ask in controlled_asks(world, np.random.default_rng(32), 10):
        found = explain(world, ask)
        usual = np.median(rates[found.trace.by_score(0)])
        for row in found.trace.listed(0).tolist():  # whatever the ranker makes of it: it may like a low rate
            text = _text(found, "reception", row, named=True)
            better = f"better received than most: {rates[row]:.0%} of what people did with it was positive"
            assert text == (better if rates[row] > usual else "")
            told.add(bool(text))
    assert told == {True, False}


def test_item_that_is_described_like_one_that_was_met_says_like_which(world: World, tastes: World) -> None:
    told = 0
    for shop in (world, tastes):
        ids = shop.bundle.vocabulary.item_id.tolist()
        called = [shop.bundle.title[row] or ids[row] for row in range(len(ids))]
        for ask in controlled_asks(shop, np.random.default_rng(31), 40):
            found = explain(shop, ask)
            for place, row in enumerate(found.trace.listed(0).tolist()):
                for one in reasons(found, place):
                    if one.code == "content":
                        of = called.index(one.text.removeprefix("described like "))
                        assert row in shop.bundle.content.item[of]
                        assert of in found.trace.retrieved.users_of(shop, found.trace.batch).history.item[0]
                        told += 1
    assert told


def test_sources_and_their_places_are_those_of_the_candidates(world: World) -> None:
    for ask in controlled_asks(world, np.random.default_rng(30), 10):
        found = explain(world, ask)
        for place, bits in enumerate(found.trace.slates.sources.tolist()):
            named = {one.source for one in found.places if one.place[place]}
            assert named == {source for source in Source if bits >> source & 1}
            assert all(one.place[place] <= one.length for one in found.places)


def test_every_feature_is_in_one_group() -> None:
    assert set(GROUP) == set(NAMES)
    assert set(GROUP.values()) == {
        *("last_interactions", "similar_items", "taste", "content", "categories", "demand", "reception"),
        *("sources", "user"),
    }


def test_catalogue_of_which_nothing_may_be_shown_has_an_empty_explanation(world: World) -> None:
    nothing = with_unavailable(world, np.arange(len(world.bundle.vocabulary)))
    found = explain(nothing, Ask(history=likes(*world.bundle.vocabulary.item_id.tolist()[:3])))
    assert found.trace.slates.item.tolist() == []
    assert found.contributions.value.shape == (0, len(NAMES))


def test_explanation_is_made_in_steps(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    steps = explanation(world, batch_of(world, [Ask(history=likes(*ids[:40]), count=20, diversity=0.1)]))
    assert len(list(steps)) >= 3 + TRIED // 4 + 2


def test_trace_is_that_of_its_ranker(world: World) -> None:
    batch = batch_of(world, [Ask(count=5)])
    trace = Trace.of(world, batch)
    assert isinstance(trace.ranked, Ranked)
    assert trace.by_score(0)[:5].tolist() == trace.listed(0).tolist()
    assert msgspec.to_builtins(trace.order(3)[0].tolist()) == trace.listed(0).tolist()

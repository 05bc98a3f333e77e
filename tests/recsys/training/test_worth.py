"""What positives are worth, from the setting to the lists: by kind, and by the position that they came from."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from recsys.bundle import Recipe
from recsys.datasets.dataset import Dataset
from recsys.datasets.impressions import Impressions
from recsys.errors import TrainingError
from recsys.recommend import recommend
from recsys.training.log import Log
from recsys.training.position_bias import LEAST_PROPENSITY
from recsys.training.train import Trained, train
from recsys.training.worth import valued, worth_by_verb
from recsys.verbs import Objective, Verb, event_types
from tests import worlds
from tests.conftest import world_of
from tests.worlds import DAY_S, START_S, Ask, Event, batch_of, dataset_of, names


def test_verb_is_worth_what_the_objective_says_and_one_of_ones_own_its_weight() -> None:
    own = event_types({"watch": 2.5, "glance": 0})
    worth = worth_by_verb({"purchase": 3.0, "view": 0.0})
    kinds = [Verb.VIEW, Verb.CLICK, Verb.LIKE, Verb.PURCHASE, Verb.RATING, Verb.HIDE, own["watch"], own["glance"]]
    assert worth[kinds].tolist() == [0, 1, 1, 3, 0, 0, 2.5, 0]


def test_without_impressions_and_objective_all_is_worth_the_same() -> None:
    log, bias = valued(Log.of(worlds.two_tastes()), None, {})
    assert bias is None
    assert set(log.worth.tolist()) == {1}


def test_objective_that_leaves_nothing_to_learn_is_refused_in_a_sentence() -> None:
    with pytest.raises(TrainingError, match="`objective` gives every positive that there is a worth of 0; raise one"):
        valued(Log.of(worlds.two_tastes()), None, {"like": 0.0})


def shop(seed: int = 5) -> Dataset:
    """80 users in a world of 15 goods, which are bought, and 15 posts, which are clicked and twice as often met."""
    rng = np.random.default_rng(seed)
    events: list[Event] = []
    for user in range(80):
        ts_s = START_S + int(rng.integers(0, 5 * DAY_S))
        left = {kind: rng.permutation(15).tolist() for kind in ("good", "post")}
        for _ in range(14):
            kind, verb = ("good", Verb.PURCHASE) if rng.random() < 0.35 else ("post", Verb.CLICK)
            if left[kind]:
                events.append((f"user-{user:02d}", f"{kind}-{left[kind].pop():02d}", verb, ts_s))
            ts_s += int(rng.integers(3_600, 30 * 3_600))
    return dataset_of(events, {f"{kind}-{n:02d}": [kind] for kind in ("good", "post") for n in range(15)})


def recipe(objective: Objective) -> Recipe:
    return msgspec.structs.replace(worlds.SMALL, objective=objective)


def share_in_lists(trained: Trained, kind: str) -> float:
    """Of the first 5 items of the lists of 60 users, each of whom has met two items of both kinds."""
    world, rng = world_of(trained), np.random.default_rng(1)
    now_s = START_S + 30 * DAY_S
    asks = []
    for _ in range(60):
        ids = [world.bundle.vocabulary.item_id[one] for one in rng.permutation(30)]
        known = [
            [one for one in ids if one.startswith(world.bundle.vocabulary.item_id[end][:4])][:2] for end in (0, -1)
        ]
        asks.append(Ask(history=worlds.likes(*known[0], *known[1], end_s=now_s - 60), count=5, now_s=now_s))
    slates = recommend(world, batch_of(world, asks))
    return float(np.mean([name.startswith(kind) for row in range(60) for name in names(world, slates, row)]))


def test_purchases_that_are_worth_more_move_what_is_purchased_up() -> None:
    dataset = shop()
    shares = [share_in_lists(train(dataset, recipe({"purchase": worth})), "good") for worth in (1.0, 3.0, 10.0)]
    assert shares[0] + 0.2 < shares[1] + 0.1 < shares[2]


def ranker_of(trained: Trained) -> tuple[bytes, ...]:
    ranker = trained.bundle.ranker
    assert ranker is not None
    linear, trees = ranker.linear, ranker.trees
    arrays = linear.low, linear.high, linear.plain, linear.root, trees.feature, trees.border, trees.leaf
    return tuple(array.tobytes() for array in arrays)


def test_only_ratios_count_so_equal_worths_train_the_same_ranker_to_the_bit() -> None:
    plain, named, doubled = (
        train(worlds.two_tastes(), recipe(objective)) for objective in ({}, {"like": 1.0, "click": 1.0}, {"like": 2.0})
    )
    assert ranker_of(plain) == ranker_of(named) == ranker_of(doubled)
    assert doubled.bundle.recipe.objective == {"like": 2.0}
    assert plain.learnt.position_bias is None


CURVE = np.array([1, 0.8, 0.3, 0.2])


def shelves(seed: int = 3) -> Dataset:
    """150 users look at 8 lists: two `high` items, then two `deep` ones, in a fifth of them the other way round.

    All 30 items are wanted alike; how far people look is CURVE.
    """
    rng = np.random.default_rng(seed)
    ids = [f"{kind}-{number:02d}" for kind in ("high", "deep") for number in range(15)]
    events: list[Event] = []
    shown: list[tuple[int, int, int, int]] = []
    for user in range(150):
        ts_s, taken = START_S + int(rng.integers(0, 5 * DAY_S)), set[int]()
        for _ in range(8):
            free = [[one for one in range(start, start + 15) if one not in taken] for start in (0, 15)]
            high, deep = (rng.choice(one, 2, replace=False).tolist() for one in free)
            for position, item in enumerate(deep + high if rng.random() < 0.2 else high + deep, 1):
                shown.append((user, item, ts_s * 1000, position))
                if rng.random() < 0.4 * CURVE[position - 1]:
                    events.append((f"user-{user:03d}", ids[item], Verb.CLICK, ts_s + 10 * position))
                    taken.add(item)
            ts_s += int(rng.integers(3_600, 30 * 3_600))
    user_of, item_of, ts_ms, position_of = (
        np.array(one) for one in zip(*sorted(shown, key=lambda one: one[2]), strict=True)
    )
    impressions = Impressions(
        user_of.astype(np.int32), item_of.astype(np.int32), ts_ms.astype(np.int64), position_of.astype(np.int32)
    )
    return replace(dataset_of(events, {one: [one[:4]] for one in ids}), impressions=impressions)


def test_positive_is_worth_the_inverse_of_the_propensity_of_the_position_it_came_from() -> None:
    dataset = shelves()
    log, bias = valued(Log.of(dataset), dataset.impressions, {"click": 2.0})
    assert bias is not None
    np.testing.assert_allclose(bias.propensity, CURVE, rtol=0.3)  # 700 clicks
    assert bias.clicks.sum() == len(log)
    np.testing.assert_allclose(np.unique(log.worth), np.unique(2 / bias.propensity), rtol=1e-6)
    assert log.worth.max() <= 2 / LEAST_PROPENSITY
    assert not log.position.any()


def test_position_that_the_event_names_counts_without_an_impression_of_its_own() -> None:
    dataset = shelves()
    shown, events = dataset.impressions, dataset.events
    assert shown is not None
    named = events.user >= 140
    impressions = shown.take(shown.user < 140)
    log, bias = valued(
        Log.of(replace(dataset, events=replace(events, position=np.where(named, 4, 0).astype(np.int32)))),
        impressions,
        {},
    )
    assert bias is not None
    assert bias.propensity[3] < 0.5
    assert set(log.worth[named].tolist()) == {np.float32(1 / bias.propensity[3])}


def test_impressions_after_the_end_of_the_log_are_not_known() -> None:
    dataset = shelves()
    log = Log.of(dataset)
    half = log.until(log.moment(0.5))
    assert dataset.impressions is not None
    early = dataset.impressions.until((int(half.ts_s[-1]) + 1) * 1000)
    (_, found), (_, expected) = (valued(half, shown, {}) for shown in (dataset.impressions, early))
    assert found is not None
    assert expected is not None
    assert found.to_json() == expected.to_json()
    assert found.impressions.sum() == len(early) < len(dataset.impressions)


def test_what_stood_deep_moves_up_when_it_is_known_that_few_looked_there() -> None:
    dataset = shelves()
    blind = train(replace(dataset, impressions=None), worlds.SMALL)
    aware = train(dataset, worlds.SMALL)
    assert blind.learnt.position_bias is None
    assert aware.learnt.position_bias is not None
    assert share_in_lists(aware, "deep") > share_in_lists(blind, "deep") + 0.1


def test_impressions_that_nobody_followed_change_no_bit() -> None:
    dataset = worlds.two_tastes()
    never = Impressions(*(np.ones(9, kind) for kind in (np.int32, np.int32, np.int64, np.int32)))
    beside = train(replace(dataset, impressions=never), worlds.SMALL)
    assert ranker_of(beside) == ranker_of(train(dataset, worlds.SMALL))
    assert beside.learnt.position_bias is None

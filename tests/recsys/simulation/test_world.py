"""The truth is what it says: laws of attraction, the best list, time; a recommender that listens comes nearer to it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from recsys.datasets.dataset import Dataset
from recsys.datasets.synthetic import synthetic
from recsys.features.user import UserStates, room, update
from recsys.recommend import recommend
from recsys.simulation import DAY_S
from recsys.simulation.catalogue import Catalogue
from recsys.simulation.tastes import Drift
from recsys.simulation.world import Appeal, SimulatedWorld, Surge, Turn
from recsys.types import QueryBatch, Ragged, World
from recsys.verbs import Verb
from recsys.vocabulary import item_keys
from tests.recsys.simulation.significance import FALSE_ALARM

START_S = 1_736_172_000.0
USERS, K = 240, 10
EVERYBODY = np.arange(USERS)
NOW = np.full(USERS, START_S)


@pytest.fixture(scope="module")
def simulated(synthetic_dataset: Dataset) -> SimulatedWorld:
    return SimulatedWorld.over(synthetic_dataset, users=USERS, seed=7)


@pytest.fixture(scope="module")
def truth(simulated: SimulatedWorld) -> np.ndarray:
    return simulated.attraction(EVERYBODY, NOW)


def of_lists(truth: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.take_along_axis(truth, rows, axis=1)


def test_same_seed_gives_the_same_bytes_and_another_seed_other_ones(synthetic_dataset: Dataset) -> None:
    def drawn(seed: int) -> tuple[bytes, bytes, bytes]:
        world = SimulatedWorld.over(synthetic_dataset, users=USERS, seed=seed)
        visits = world.visits(START_S, DAY_S)
        return world.attraction(EVERYBODY, NOW).tobytes(), visits.start_s.tobytes(), visits.user.tobytes()

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert first == again
    assert all(one != two for one, two in zip(first, other, strict=True))


def test_attraction_is_a_chance_and_differs_between_users(truth: np.ndarray) -> None:
    assert truth.shape == (USERS, 400)
    assert truth.min() > 0
    assert truth.max() < 1
    assert np.ptp(truth, axis=0).min() > 0.05


def test_popular_items_please_more_than_any_and_the_best_of_a_user_much_more(
    simulated: SimulatedWorld, truth: np.ndarray
) -> None:
    popular, best = (of_lists(truth, rows(truth, K)).mean() for rows in (simulated.popular, simulated.best))
    assert 0.05 < truth.mean() < popular < best / 3


def test_odds_of_equal_matches_fall_with_the_rank_of_popularity_by_zipfs_law(simulated: SimulatedWorld) -> None:
    alike = replace(simulated, appeal=Appeal(taste=0.0, popularity=0.7)).attraction(EVERYBODY[:1], NOW[:1])[0]
    law = stats.linregress(np.log(simulated.catalogue.rank), np.log(alike / (1 - alike)))
    assert law.slope == pytest.approx(-0.7)
    assert law.rvalue == pytest.approx(-1)


def test_users_of_one_row_do_not_depend_on_the_others(simulated: SimulatedWorld, truth: np.ndarray) -> None:
    np.testing.assert_allclose(simulated.attraction(EVERYBODY[5:6], NOW[5:6])[0], truth[5], rtol=1e-12)


def test_what_a_user_has_met_is_wanted_no_more_and_in_no_popular_list(
    simulated: SimulatedWorld, truth: np.ndarray
) -> None:
    met = np.zeros_like(truth, bool)
    met[0, simulated.popular(truth, K)[0, :3]] = True
    again = simulated.attraction(EVERYBODY, NOW, met=met)
    assert (again[met] == 0).all()
    np.testing.assert_array_equal(again[~met], truth[~met])
    assert not np.isin(simulated.popular(again, K)[0], np.flatnonzero(met[0])).any()


def test_popular_list_is_the_first_ranks_in_order(simulated: SimulatedWorld, truth: np.ndarray) -> None:
    ranks = simulated.catalogue.rank[simulated.popular(truth, K)]
    np.testing.assert_array_equal(ranks, np.tile(np.arange(1, K + 1), (USERS, 1)))


def test_no_list_beats_the_best_one(simulated: SimulatedWorld, truth: np.ndarray) -> None:
    expected = simulated.behaviour.expected_clicks
    best = expected(of_lists(truth, simulated.best(truth, K)))
    rng = np.random.default_rng(1)
    for _ in range(50):
        rows = np.argsort(rng.random(truth.shape) ** 0.1 * truth, axis=1)[:, -K:]  # good lists, in a poor order
        assert (expected(of_lists(truth, rows)) <= best).all()
    assert (expected(of_lists(truth, simulated.popular(truth, K))) < best).all()


def test_drift_changes_the_truth_from_its_onset_on_and_not_before(
    synthetic_dataset: Dataset, truth: np.ndarray
) -> None:
    drift = Drift(onset_s=START_S, shock=0.5)
    drifting = SimulatedWorld.over(synthetic_dataset, users=USERS, seed=7, drift=drift)
    np.testing.assert_array_equal(drifting.attraction(EVERYBODY, NOW - 1), truth)
    changed = (drifting.attraction(EVERYBODY, NOW) != truth).any(axis=1)
    np.testing.assert_array_equal(changed, drifting.tastes.shocked)
    assert changed.sum() == USERS / 2


def test_launched_items_enter_the_truth_and_retired_ones_leave_it(
    synthetic_dataset: Dataset, truth: np.ndarray
) -> None:
    turnover = Catalogue.of(synthetic_dataset).with_turnover(
        np.random.default_rng(1), start_s=START_S, days=10, launched=0.3, mean_life_days=30
    )
    world = SimulatedWorld.over(synthetic_dataset, users=USERS, seed=7, catalogue=turnover)
    for day in (0, 5, 10, 60):
        at_s = NOW + day * DAY_S
        there = turnover.available(at_s)
        now = world.attraction(EVERYBODY, at_s)
        np.testing.assert_array_equal(now[there], truth[there])
        assert (now[~there] == 0).all()
        assert np.take_along_axis(there, world.popular(now, K), axis=1).all()
    assert world.catalogue.available(np.array([START_S])).sum() == 280


def test_who_comes_is_unlike_from_day_to_day_at_the_same_rate(simulated: SimulatedWorld) -> None:
    days = [simulated.visits(START_S + day * DAY_S, DAY_S) for day in range(20)]
    assert len({visits.user.tobytes() for visits in days}) == 20
    total, mean = sum(map(len, days)), 20 * DAY_S * simulated.habits.visits_per_s
    assert FALSE_ALARM < stats.poisson.sf(total, mean) < 1 - FALSE_ALARM


# --- the loop closed: real recommendations to simulated users ---


def served(world: World, states: UserStates, catalogue_row: np.ndarray) -> np.ndarray:
    """The lists that `recommend` makes for everybody, rows of the catalogue [b, K]."""
    none = Ragged.empty(USERS, np.uint64)
    batch = QueryBatch(
        states=states.take(EVERYBODY),
        now_s=NOW.astype(np.int64),
        seed=EVERYBODY.astype(np.uint64),
        count=np.full(USERS, K, np.int32),
        session=none,
        excluded=none,
        categories=Ragged.empty(USERS, np.int32),
        explore=np.zeros(USERS, np.float32),
    )
    return catalogue_row[recommend(world, batch).item].reshape(USERS, K)


def test_lists_get_better_as_events_arrive(synthetic_dataset: Dataset, simulated: SimulatedWorld, world: World) -> None:
    """Of strangers the service knows nothing; by their reactions it comes nearer to a truth that it never sees."""
    keys = item_keys(synthetic_dataset.item_id)
    catalogue_row = np.argsort(world.bundle.vocabulary.rows(keys))
    states, rng = UserStates.empty(USERS, seen=room(400)), np.random.default_rng(1)
    met, share_of_best = np.zeros((USERS, len(keys)), bool), []
    for _ in range(12):
        rows = served(world, states, catalogue_row)
        truth = simulated.attraction(EVERYBODY, NOW, met=met)
        expected = simulated.behaviour.expected_clicks(of_lists(truth, rows))
        share_of_best.append(expected / simulated.behaviour.expected_clicks(of_lists(truth, simulated.best(truth, K))))
        done = simulated.behaviour.react(rng, of_lists(truth, rows))
        for place in range(K):
            for verb, reaction in ((Verb.CLICK, done.click), (Verb.LIKE, done.like), (Verb.HIDE, done.hide)):
                user = np.flatnonzero(reaction[:, place])
                item = rows[user, place]
                verbs, ts_s = np.full(len(user), verb, np.uint8), NOW[user].astype(np.uint32)
                update(states, user, item_key=keys[item], verb=verbs, ts_s=ts_s)
                met[user, item] |= verb != Verb.LIKE
    gain = np.mean(share_of_best[-3:], axis=0) - share_of_best[0]
    assert stats.ttest_1samp(gain, 0, alternative="greater").pvalue < FALSE_ALARM
    assert np.mean(share_of_best[-3:]) > 1.3 * np.mean(share_of_best[0])


def test_items_that_turn_are_to_everybody_from_then_on_what_others_were(simulated: SimulatedWorld) -> None:
    flat = replace(simulated, appeal=Appeal(popularity=0.0))
    turned = replace(flat, turn=Turn(np.array([3, 5]), START_S, flat.traits[[5, 3]]))
    before, after = (of.attraction(EVERYBODY, NOW) for of in (flat, turned))
    np.testing.assert_allclose(after[:, [3, 5]], before[:, [5, 3]])
    others = np.setdiff1d(np.arange(before.shape[1]), [3, 5])
    np.testing.assert_array_equal(after[:, others], before[:, others])
    np.testing.assert_array_equal(turned.attraction(EVERYBODY, NOW - 1), flat.attraction(EVERYBODY, NOW - 1))


def test_surge_lifts_the_odds_of_its_items_from_its_onset_on() -> None:
    world = SimulatedWorld.over(synthetic(1, users=60, items=60, sessions=6), users=4, seed=1)
    surging = replace(world, surge=Surge(world.catalogue.rank.argsort()[:2], 100.0, 2.0))
    before, after = (
        surging.attraction(np.arange(4), np.full(4, at)) / world.attraction(np.arange(4), np.full(4, at))
        for at in (99.0, 100.0)
    )
    assert (before == 1).all()
    assert (after[:, world.catalogue.rank > 2] == 1).all()
    assert (after[:, world.catalogue.rank <= 2] > 1).all()

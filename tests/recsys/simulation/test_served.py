"""A simulated service's log is what its people did, each list is of one bundle, one seed gives the same days."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from recsys.simulation import DAY_S
from recsys.simulation.catalogue import Catalogue
from recsys.simulation.hours import SHOWN, Lists, ServedHour, logged
from recsys.simulation.served import Served
from recsys.simulation.visits import Habits
from recsys.simulation.world import SimulatedWorld
from recsys.types import World

USERS = 60
START_S = 1_700_006_400 // DAY_S * DAY_S


def service(dataset: Dataset, world: World | None, **fields: object) -> Served:
    habits = Habits(visits_per_s=100 / DAY_S, mean_lists=3)
    simulated = SimulatedWorld.over(dataset, users=USERS, seed=3, habits=habits, **fields)  # type: ignore[arg-type]
    served = Served(simulated, 3)
    if world is not None:
        served.install(world)
    return served


def day(served: Served, number: int = 0) -> list[ServedHour]:
    return list(served.hours(START_S + number * DAY_S, 24))


def lists_of(hours: list[ServedHour]) -> Lists:
    return Lists.joined([one.lists for one in hours if one.lists is not None])


def test_everything_that_people_did_is_in_the_log_and_nothing_else(synthetic_dataset: Dataset, world: World) -> None:
    hours = day(service(synthetic_dataset, world))
    clicks = int(lists_of(hours).clicks.sum())
    found, organic = logged(synthetic_dataset, hours), logged(synthetic_dataset, hours, organic=True)
    of_lists = np.concatenate([one.position for one in hours]) > 0
    assert 0 < clicks <= of_lists.sum()
    assert len(found.events) - len(organic.events) == of_lists.sum()
    assert 0 < len(organic.events) < len(found.events)
    assert (np.diff(found.events.ts_ms) >= 0).all()
    assert {*np.concatenate([one.position for one in hours]).tolist()} <= {*range(SHOWN + 1)}


def test_the_same_seed_gives_the_same_days(synthetic_dataset: Dataset, world: World) -> None:
    one, other = (lists_of(day(service(synthetic_dataset, world))) for _ in range(2))
    for name in Lists.__annotations__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_clicks_are_those_that_were_to_be_expected(synthetic_dataset: Dataset, world: World) -> None:
    served = service(synthetic_dataset, world)
    lists = lists_of([hour for number in range(4) for hour in day(served, number)])
    surplus = lists.clicks - lists.expected
    assert abs(surplus.mean()) < 3.9 * surplus.std() / np.sqrt(len(surplus))


def test_chosen_people_have_the_lists_of_the_other_bundle_and_the_monitor_does_not_see_them(
    synthetic_dataset: Dataset, world: World
) -> None:
    served = service(synthetic_dataset, world)
    few = World(world.bundle, world.item_stats, candidates=12)
    served.canary(few, lambda user: user % 2 == 1)
    hours = day(served)
    lists = lists_of(hours)
    np.testing.assert_array_equal(lists.challenger, lists.user % 2 == 1)
    seen = sum(len(one.shown) for one in hours)
    came = [np.unique(one.lists.user) for one in hours if one.lists is not None]
    assert 0 < seen == sum(int((one % 2 == 0).sum()) for one in came) < sum(map(len, came))
    champion, challenger = (lists_of(day(service(synthetic_dataset, of))) for of in (world, few))
    first = np.flatnonzero(lists.user == lists.user[~lists.challenger][0])[0]
    np.testing.assert_array_equal(lists.items[first], champion.items[first])
    first = np.flatnonzero(lists.user == lists.user[lists.challenger][0])[0]
    np.testing.assert_array_equal(lists.items[first], challenger.items[first])
    served.install(world)
    assert not lists_of(day(served, 1)).challenger.any()


def test_other_lists_change_nothing_that_people_would_do_anyway(synthetic_dataset: Dataset, world: World) -> None:
    """Who comes, who is new and who looks where are the same under another bundle: so regimes can be compared."""
    one = service(synthetic_dataset, world)
    other = service(synthetic_dataset, World(world.bundle, world.item_stats, candidates=15))
    first, second = (lists_of(day(served)) for served in (one, other))
    np.testing.assert_array_equal(first.user, second.user)
    assert (first.items != second.items).any()
    np.testing.assert_array_equal(one.person, other.person)


def test_what_is_not_there_is_not_shown_and_not_taken(synthetic_dataset: Dataset, world: World) -> None:
    catalogue = Catalogue.of(synthetic_dataset).with_turnover(
        np.random.default_rng(1), start_s=START_S, days=30, launched=0.5, mean_life_days=5
    )
    hours = day(service(synthetic_dataset, world, catalogue=catalogue))
    for hour in hours:
        there = catalogue.available(np.array([hour.start_s, hour.start_s + 3_599]))
        if hour.lists is not None:
            assert there[0][hour.lists.items[hour.lists.items >= 0]].all()  # as known at the hour
        assert there.any(axis=0)[hour.item[hour.position == 0]].all()


def test_short_lists_get_no_reaction_where_nothing_is_shown(synthetic_dataset: Dataset, world: World) -> None:
    every = Catalogue.of(synthetic_dataset)
    gone = np.where(np.arange(len(every)) < 6, np.inf, START_S)
    served = service(synthetic_dataset, world, catalogue=replace(every, retire_s=gone))
    hours = [hour for number in range(6) for hour in day(served, number)]
    assert (lists_of(hours).items[:, 6:] == -1).all()
    of_lists = np.concatenate([one.item[one.position > 0] for one in hours])
    assert len(of_lists) > 20
    assert {*of_lists.tolist()} <= {*range(6)}


def test_asking_changes_nothing(synthetic_dataset: Dataset, world: World) -> None:
    served, other = (service(synthetic_dataset, world) for _ in range(2))
    day(served), day(other)
    place = np.arange(20)
    one, again = (served.expected(world, place, START_S + DAY_S) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert one.shape == (20,)
    for name in Lists.__annotations__:
        np.testing.assert_array_equal(*(getattr(lists_of(day(of, 1)), name) for of in (served, other)))


@pytest.mark.parametrize("organic", [True, False])
def test_bots_are_in_the_log_at_their_time_and_count_for_items(
    synthetic_dataset: Dataset, world: World, organic: bool
) -> None:
    served = service(synthetic_dataset, world)
    at_s = START_S + 5 * 3_600 + 30
    served.bring(np.full(50, -7), np.zeros(50, np.int64), np.full(50, at_s))
    hours = day(served)
    assert [int((one.user == -7).sum()) for one in hours] == [50 * (number == 5) for number in range(24)]
    found = logged(synthetic_dataset, hours, organic=organic)
    bot = found.user_id.index("person--7")
    assert (found.events.user == bot).sum() == 50
    assert (found.events.ts_ms[found.events.user == bot] == 1000 * at_s).all()
    without = service(synthetic_dataset, world)
    day(without)
    key = served._key[0]
    assert count_of(served, key) - count_of(without, key) >= 40  # some of those shown less often for it


def count_of(served: Served, key: np.uint64) -> float:
    """Demand of an item as the next hour's lists see it."""
    stats = served._stats_at(START_S + DAY_S)
    assert served.world is not None
    return float(stats.popularity[served.world.bundle.vocabulary.rows(np.array([key]))[0]])

"""A shop's log is what its visitors did, each list is of one bundle, and the same seed gives the same days."""

import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from recsys.simulation import DAY_S
from recsys.simulation.catalogue import Catalogue
from recsys.simulation.shop import COUNT, Served, Shop
from recsys.simulation.visits import Habits
from recsys.simulation.world import SimulatedWorld
from recsys.types import World
from recsys.verbs import Verb

USERS = 60


def shop_of(dataset: Dataset, **fields: object) -> tuple[Shop, float]:
    start_s = float(-(-dataset.events.ts_ms[-1] // 1000 // DAY_S) * DAY_S)
    habits = Habits(visits_per_s=100 / DAY_S, mean_lists=3)
    world = SimulatedWorld.over(dataset, users=USERS, seed=3, habits=habits, **fields)  # type: ignore[arg-type]
    return Shop(world, dataset), start_s


def first_arm(user: np.ndarray) -> np.ndarray:
    return np.zeros(len(user), np.int64)


def day(shop: Shop, world: World, start_s: float) -> Served:
    return shop.serve([world], first_arm, start_s=start_s, duration_s=DAY_S)


def test_everything_that_visitors_did_is_in_the_log_and_nothing_else(synthetic_dataset: Dataset, world: World) -> None:
    shop, start_s = shop_of(synthetic_dataset)
    assert len(shop.dataset().events) == len(synthetic_dataset.events)
    served = day(shop, world, start_s)
    clicks = int(served.clicks.sum())
    found, organic = shop.dataset(), shop.dataset(organic=True)
    added = len(found.events) - len(synthetic_dataset.events)
    assert 0 < clicks < added
    assert len(organic.events) - len(synthetic_dataset.events) == added - clicks
    assert (np.diff(found.events.ts_ms) >= 0).all()
    new = found.events.ts_ms >= 1000 * start_s
    assert {*found.events.verb[new].tolist()} <= {Verb.CLICK, Verb.LIKE}
    assert all(found.user_id[one].startswith("visitor-") for one in found.events.user[new].tolist())
    pairs = list(zip(found.events.user[new].tolist(), found.events.item[new].tolist(), strict=True))
    assert len(pairs) == len({*pairs})  # nobody wants twice what they have


def test_the_same_seed_gives_the_same_days(synthetic_dataset: Dataset, world: World) -> None:
    one, other = (day(*(shop, world, start)) for shop, start in (shop_of(synthetic_dataset) for _ in range(2)))
    for name in Served.__annotations__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_clicks_are_those_that_were_to_be_expected(synthetic_dataset: Dataset, world: World) -> None:
    shop, start_s = shop_of(synthetic_dataset)
    served = Served.joined([day(shop, world, start_s + n * DAY_S) for n in range(4)])
    surplus = served.clicks - served.expected
    assert abs(surplus.mean()) < 3.9 * surplus.std() / np.sqrt(len(surplus))


def test_each_user_has_the_list_of_an_arm(synthetic_dataset: Dataset, world: World, chain: World) -> None:
    del chain
    shop, start_s = shop_of(synthetic_dataset)
    few = World(world.bundle, world.item_stats, candidates=10)
    served = shop.serve([world, few], lambda user: user % 2, start_s=start_s, duration_s=DAY_S)
    np.testing.assert_array_equal(served.arm, served.user % 2)
    assert (served.items >= -1).all()
    assert served.items.shape[1] == COUNT


def test_what_is_not_there_is_not_shown(synthetic_dataset: Dataset, world: World) -> None:
    dataset = synthetic_dataset
    start_s = float(-(-dataset.events.ts_ms[-1] // 1000 // DAY_S) * DAY_S)
    catalogue = Catalogue.of(dataset).with_turnover(
        np.random.default_rng(1), start_s=start_s, days=30, launched=0.5, mean_life_days=5
    )
    shop, _ = shop_of(dataset, catalogue=catalogue)
    served = day(shop, world, start_s)
    there = catalogue.available(start_s + 3_600 * np.arange(24)).any(axis=0)  # as known at the hours
    assert there[served.items[served.items >= 0]].all()


def test_asking_changes_nothing(synthetic_dataset: Dataset, world: World) -> None:
    shop, start_s = shop_of(synthetic_dataset)
    users = np.arange(20)
    one, other = (shop.asked(world, users, start_s) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert len(shop.dataset().events) == len(synthetic_dataset.events)


@pytest.mark.parametrize("organic", [True, False])
def test_bots_are_in_the_log_and_count_for_items(synthetic_dataset: Dataset, world: World, organic: bool) -> None:
    shop, start_s = shop_of(synthetic_dataset)
    before = shop.live(world, start_s + 10).item_stats.popularity.sum()
    shop.taken(["bot"] * 50, np.zeros(50, np.int64), np.full(50, start_s))
    found = shop.dataset(organic=organic)
    assert found.user_id[-1] == "bot"
    assert (found.events.user == len(found.user_id) - 1).sum() == 50
    assert shop.live(world, start_s + 10).item_stats.popularity.sum() == before + 50

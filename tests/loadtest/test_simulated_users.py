"""Simulated users against a small service of the real contract: what they ask for, do and remember."""

import asyncio
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from loadtest.connection import Connections
from loadtest.simulated_users import UNKNOWN, SimulatedUsers
from loadtest.tally import Tally
from recsys.datasets.dataset import Dataset
from recsys.simulation.visits import Habits
from recsys.simulation.world import Appeal, SimulatedWorld
from tests.loadtest.server import Behaviour, server
from tests.loadtest.shop import Shop

START_S = 1_736_172_000.0
DURATION_S, SPEED, USERS, COUNT = 1.0, 600.0, 20, 8
HABITS = Habits(visits_per_s=25 / SPEED)  # 100 lists a second


@pytest.fixture(scope="module")
def world(synthetic_dataset: Dataset) -> SimulatedWorld:
    return SimulatedWorld.over(synthetic_dataset, users=USERS, seed=7, habits=HABITS)


def popular_ids(world: SimulatedWorld) -> list[str]:
    return [world.catalogue.item_id[row] for row in np.argsort(world.catalogue.rank)]


def meet(world: SimulatedWorld, behaviour: Behaviour, *, prefix: str = "sim-", connections: int = 512) -> Tally:
    """A second of visits."""
    tally = Tally(COUNT)

    async def run(port: int) -> None:
        pool = Connections("127.0.0.1", port, limit=connections)
        users = SimulatedUsers(world, pool, tally, prefix=prefix, speed=SPEED, count=COUNT)
        visits = world.visits(START_S, DURATION_S * SPEED)
        await users.come(visits, start_s=START_S, duration_s=DURATION_S)
        await pool.close()

    with server(behaviour) as port:
        asyncio.run(run(port))
    return tally


@pytest.fixture(scope="module")
def met(world: SimulatedWorld) -> tuple[Shop, Tally]:
    shop = Shop(popular_ids(world), degraded_every=10)
    return shop, meet(world, Behaviour(body_of=shop.answer))


def test_they_ask_for_lists_of_their_length_under_their_prefix(met: tuple[Shop, Tally]) -> None:
    shop, tally = met
    assert {one.count for one in shop.asked} == {COUNT}
    assert {one.user_id for one in shop.asked} <= {f"sim-{user}" for user in range(USERS)}
    assert len(shop.asked) == pytest.approx(tally.lists, abs=5)  # those under way at the end were broken off
    assert tally.errors == {}


def test_each_list_is_answered_by_one_batch_of_events_with_every_place_of_it(met: tuple[Shop, Tally]) -> None:
    shop, _ = met
    for batch in shop.events:
        (name,) = {row.recommendation_id for row in batch.events}
        assert name is not None
        shown = [row for row in batch.events if row.type == "impression"]
        assert [row.item_id for row in shown] == shop.lists[name]
        assert all(shop.lists[name][(row.position or 0) - 1] == row.item_id for row in batch.events)
        assert len({row.event_id for row in batch.events}) == len(batch.events)
    assert len({row.event_id for batch in shop.events for row in batch.events}) == sum(
        len(batch.events) for batch in shop.events
    )


def test_likes_and_purchases_come_after_the_click_and_its_impression(met: tuple[Shop, Tally]) -> None:
    shop, _ = met
    kinds: Counter[str] = Counter()
    for batch in shop.events:
        before: set[tuple[int | None, str]] = set()
        for row in batch.events:
            kinds[row.type] += 1
            if row.type in ("click", "hide"):
                assert (row.position, "impression") in before
            if row.type in ("like", "purchase"):
                assert (row.position, "click") in before
            before.add((row.position, row.type))
    assert set(kinds) <= {"impression", "click", "like", "purchase", "hide"}
    assert kinds["impression"] > kinds["click"] > kinds["like"] > 0


def test_nobody_does_anything_twice_with_an_item(met: tuple[Shop, Tally]) -> None:
    shop, _ = met
    clicks = Counter((row.user_id, row.item_id) for batch in shop.events for row in batch.events if row.type == "click")
    assert max(clicks.values()) == 1


def test_counts_are_those_of_the_service(met: tuple[Shop, Tally]) -> None:
    shop, tally = met
    sent = [row for batch in shop.events for row in batch.events]
    assert tally.events_accepted == pytest.approx(len(sent), abs=5 * 2 * COUNT)  # those under way at the end
    assert tally.clicks == pytest.approx(sum(row.type == "click" for row in sent), abs=5 * COUNT)
    assert tally.degraded == pytest.approx(len(shop.asked) / 10, abs=2)
    assert 0 < tally.personalized < tally.lists


def test_popular_lists_are_worth_what_the_truth_says_of_popular_lists(met: tuple[Shop, Tally]) -> None:
    for row in met[1].by_events():
        # what the shop serves; where two visits of a user overlap, one shows what the other has just dealt with
        assert 0.9 * row["popular"] < row["served"] <= row["popular"] + 0.001
        assert row["served"] < row["best"]


def test_same_seed_makes_the_same_first_lists_and_reactions(world: SimulatedWorld) -> None:
    def first_reactions(prefix: str) -> dict[str, list[tuple[str, str]]]:
        """What each user does with the first list of all, of which no moment of arrival decides."""
        shop = Shop(popular_ids(world))
        meet(world, Behaviour(body_of=shop.answer), prefix=prefix)
        first: dict[str, list[tuple[str, str]]] = {}
        for batch in shop.events:
            first.setdefault(
                batch.events[0].user_id.removeprefix(prefix), [(row.item_id, row.type) for row in batch.events]
            )
        return first

    one, again = first_reactions("a-"), first_reactions("b-")
    shared = set(one) & set(again)
    assert len(shared) > 10
    assert {user: one[user] for user in shared} == {user: again[user] for user in shared}


def test_refused_events_are_counted_and_are_not_what_the_service_knows(world: SimulatedWorld) -> None:
    ids = popular_ids(world)
    shop = Shop(ids, refused=frozenset(ids))
    tally = meet(world, Behaviour(body_of=shop.answer))
    assert tally.events_accepted == 0
    assert tally.errors["events refused"] > 0
    assert [row["events_from"] for row in tally.by_events()] == [0]


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (Behaviour(refuse_every=1), "/v1/recommendations status 429"),
        (Behaviour(hang_up=True), "/v1/recommendations connection lost"),
        (Behaviour(body=b'{"items":[]}'), "/v1/recommendations answers something else"),
        (Behaviour(body=b"<html>"), "/v1/recommendations answers something else"),
    ],
)
def test_what_is_no_list_is_an_error_by_its_kind_and_visits_go_on(
    world: SimulatedWorld, behaviour: Behaviour, error: str
) -> None:
    tally = meet(world, behaviour)
    assert set(tally.errors) == {error}
    assert tally.errors[error] > 30
    assert tally.lists == tally.events_accepted == 0
    assert tally.lately(DURATION_S, DURATION_S)[1]["p50"] == 2000  # a failure counts as the whole timeout


def test_events_that_are_not_taken_are_an_error(world: SimulatedWorld) -> None:
    shop = Shop(popular_ids(world))

    def without_events(path: str, body: bytes) -> bytes:
        return b"{}" if path == "/v1/events" else shop.answer(path, body)

    tally = meet(world, Behaviour(body_of=without_events))
    assert tally.lists > 30
    assert set(tally.errors) == {"/v1/events answers something else"}


def test_a_list_of_other_data_is_an_error(world: SimulatedWorld) -> None:
    tally = meet(world, Behaviour(body_of=Shop(["stranger", *popular_ids(world)]).answer))
    assert tally.lists == 0
    assert set(tally.errors) == {UNKNOWN}


def test_who_has_met_everything_gets_empty_lists_and_has_nothing_to_tell(world: SimulatedWorld) -> None:
    shop = Shop(popular_ids(world)[:1])
    tally = meet(replace(world, appeal=Appeal(base=50.0)), Behaviour(body_of=shop.answer))  # nobody resists
    assert tally.errors == {}
    assert [] in shop.lists.values()
    assert tally.clicks == pytest.approx(len(shop.met), abs=2)
    assert tally.lists > 2 * tally.clicks


def test_requests_beyond_the_connections_are_errors(world: SimulatedWorld) -> None:
    shop = Shop(popular_ids(world))
    tally = meet(world, Behaviour(delay_s=0.2, body_of=shop.answer), connections=1)
    assert tally.errors["/v1/recommendations no free connection"] > 10
    assert tally.lists > 0


def test_latency_counts_from_the_moment_a_request_was_due(world: SimulatedWorld) -> None:
    shop = Shop(popular_ids(world))
    tally = meet(world, Behaviour(stall=(0.4, 0.8), body_of=shop.answer))
    assert tally.lately(DURATION_S, DURATION_S)[1]["max"] >= 250

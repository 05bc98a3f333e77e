"""What a look holds of an hour: the first lists of some users drawn by chance, whatever comes in which order."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from recsys.monitoring.reference import HOUR_S
from recsys.types import World
from service.decisions import Decision
from service.drift_hours import SAMPLE, TOGETHER, Read
from service.logged_events import LoggedEvent
from tests.service.test_outcomes import record

START_S = 1_790_000_000 // HOUR_S * HOUR_S
USERS = 3 * SAMPLE


def read_of(world: World, records: Sequence[Decision], events: Sequence[LoggedEvent] = ()) -> Read:
    read = Read(lambda _: world, world, 0.0)
    for one in records:
        read.add(one)
    for event in events:
        read.add_event(event)
    return read


@pytest.fixture(scope="module")
def records() -> list[Decision]:
    """Three lists of each user within the first hour, none of them in the order of time."""
    found = [
        record(f"user-{user}", "control", 1000 * START_S + 1000 * turn + user, bundle="b")
        for user in range(USERS)
        for turn in range(3)
    ]
    random.Random(1).shuffle(found)
    return found


def test_of_many_users_some_are_drawn_the_same_ones_in_any_order_with_their_first_lists(
    world: World, records: list[Decision]
) -> None:
    drawn = read_of(world, records)._draw()[START_S // HOUR_S]
    again = read_of(world, sorted(records, key=lambda one: one.time_ms, reverse=True))._draw()[START_S // HOUR_S]
    assert len(drawn) == SAMPLE
    assert [one.id for one in drawn] == [one.id for one in again]
    assert all(one.time_ms < 1000 * START_S + USERS for one in drawn)
    number = [int(one.query["user_id"].removeprefix("user-")) for one in drawn]
    assert abs(np.mean(number) - USERS / 2) < 5 * USERS / np.sqrt(12 * SAMPLE)  # by chance, not by name or time


def test_no_more_records_are_held_than_twice_the_sample(world: World, records: list[Decision]) -> None:
    read = Read(lambda _: world, world, 0.0)
    for one in records:
        read.add(one)
        assert len(read._lists[START_S // HOUR_S]._first) < 2 * SAMPLE
    assert read.lists == len(records)


def test_every_hour_draws_others(world: World, records: list[Decision]) -> None:
    later = [record(one.query["user_id"], "control", one.time_ms + 1000 * HOUR_S, bundle="b") for one in records]
    drawn = read_of(world, [*records, *later])._draw()
    users = [{one.query["user_id"] for one in of} for of in drawn.values()]
    assert len(users) == 2
    assert SAMPLE / 6 < len(users[0] & users[1]) < SAMPLE / 2  # a third is expected


def test_events_are_put_to_their_hours_in_any_order(world: World) -> None:
    items = list(world.bundle.vocabulary.item_id)
    events = [
        LoggedEvent(
            1000 * START_S + 500 * n, f"user-{n % 50}", items[n % len(items)], "click", 2, 0, 1000 * START_S + 500 * n,
            None, None, None,
        )
        for n in range(TOGETHER + 100)
    ]  # fmt: skip
    random.Random(2).shuffle(events)
    hours = list(read_of(world, [], events).hours(START_S, START_S + 5 * HOUR_S))
    assert [len(one.event_verb) for one in hours] == [7200, 7200, TOGETHER + 100 - 14_400]
    assert [int(one.event_user.max()) for one in hours] == [49, 49, 49]
    first = world.bundle.vocabulary.item_id[int(hours[1].event_item[0])]
    assert first == items[7200 % len(items)]
    assert [len(one.requests) for one in hours] == [0, 0, 0]

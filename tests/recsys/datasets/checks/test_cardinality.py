"""Users and items that no shop has."""

from dataclasses import replace

import numpy as np

from recsys.datasets.checks.checks import check
from tests.recsys.datasets.checks.logs import (
    EVENTS,
    ITEMS,
    healthy,
    healthy_events,
    log_of,
    of_level,
    only,
    warned,
    with_columns,
)
from tests.worlds import START_S

HEALTHY = healthy()


def test_a_single_user_is_refused() -> None:
    alone = with_columns(HEALTHY, user=np.zeros(EVENTS, np.int32))
    assert "2 users are needed" in only(alone, "users", "failure").sentence


def test_a_single_item_is_refused() -> None:
    alone = with_columns(HEALTHY, item=np.zeros(EVENTS, np.int32))
    assert "2 items are needed" in only(alone, "items", "failure").sentence


def test_a_robot_is_a_warning_that_shows_its_id_in_the_rows_alone() -> None:
    events = healthy_events()
    robot = [("robot", item, verb, ts_s + 1) for _, item, verb, ts_s in events]
    found = warned(log_of(events + robot), "heaviest user")
    assert {row.user_id for row in found.rows} == {"robot"}
    assert "robot" not in found.sentence
    assert found.numbers["share"] == 0.5


def test_an_item_in_place_of_a_missing_id_is_a_warning_that_shows_it() -> None:
    events = healthy_events()
    missing = [(user, "null", verb, ts_s + step) for user, _, verb, ts_s in events for step in (1, 2)]
    assert {row.item_id for row in warned(log_of(events + missing), "heaviest item").rows} == {"null"}


def test_a_heavy_user_among_few_is_no_robot() -> None:
    few = with_columns(HEALTHY, user=np.where(np.arange(EVENTS) % 2 > 0, 0, HEALTHY.events.user % 8).astype(np.int32))
    assert "heaviest user" not in of_level(few, "warning")


def test_users_of_one_event_are_a_warning_where_hardly_anybody_has_more() -> None:
    events = [(f"visitor-{place}", *rest) for place, (_, *rest) in enumerate(healthy_events())]
    found = warned(log_of(events), "users of one event")  # type: ignore[arg-type]
    assert found.numbers == {"users": EVENTS, "share": 1}


def test_a_catalogue_of_which_most_was_never_touched_is_a_warning() -> None:
    more = [f"unknown-{number}" for number in range(2 * ITEMS)]
    ends = np.full(len(more), HEALTHY.item_category_indptr[-1])
    padded = replace(
        HEALTHY,
        item_id=[*HEALTHY.item_id, *more],
        item_title=[*HEALTHY.item_title, *more],
        item_category_indptr=np.append(HEALTHY.item_category_indptr, ends),
    )
    assert only(padded, "items without events", "warning").numbers["items"] == 2 * ITEMS


def test_median_percentile_and_largest_are_those_of_users_with_events() -> None:
    events = [
        (f"user-{user}", f"item-{step}", verb, START_S + 100 * user + step)
        for user, (*_, verb, _) in zip(range(100), healthy_events(), strict=False)
        for step in range(user + 1)
    ]
    (found,) = [one for one in check(log_of(events)).findings if one.name == "users"]
    assert found.numbers == {"users": 100, "median": 50, "p99": 99, "max": 100}

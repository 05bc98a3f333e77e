"""Values that no import makes, but a damaged or hand-made data set can hold: each is refused with its rows."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.datasets.checks.finding import rows_at
from recsys.datasets.dataset import Events
from recsys.datasets.fields import END_MS
from recsys.verbs import Verb, event_types
from tests.recsys.datasets.checks.logs import EVENTS, ITEMS, USERS, healthy, of_level, only, with_columns, with_value

HEALTHY = healthy()


def test_nothing_is_wrong_with_a_healthy_log() -> None:
    assert of_level(HEALTHY, "warning", "failure") == []


@pytest.mark.parametrize(
    ("column", "value", "name", "shown"),
    [
        ("user", USERS, "user numbers", f"number {USERS}"),
        ("user", -1, "user numbers", "number -1"),
        ("item", ITEMS, "item numbers", f"number {ITEMS}"),
        ("verb", 7, "known verbs", "verb 7"),
        ("verb", 0, "known verbs", "verb 0"),
        ("value", np.inf, "infinite values", "inf"),
        ("value", -np.inf, "infinite values", "-inf"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_row(column: str, value: float, name: str, shown: str) -> None:
    found = only(with_value(HEALTHY, column, 41, value), name, "failure")
    assert found.numbers["wrong"] == 1
    (row,) = found.rows
    assert row.place == 42
    assert shown in row.cells()


@pytest.mark.parametrize(("place", "ts_ms"), [(0, -1), (EVENTS - 1, END_MS), (EVENTS - 1, 1 << 62)])
def test_a_timestamp_outside_1970_to_2100_is_refused(place: int, ts_ms: int) -> None:
    (row,) = only(with_value(HEALTHY, "ts_ms", place, ts_ms), "range of timestamps", "failure").rows
    assert row.place == place + 1


def test_an_event_that_is_earlier_than_the_one_before_it_is_refused() -> None:
    earlier = int(HEALTHY.events.ts_ms[40]) - 1
    (row,) = only(with_value(HEALTHY, "ts_ms", 41, earlier), "order", "failure").rows
    assert row.place == 42


@pytest.mark.parametrize(("field", "name"), [("item_id", "item ids"), ("user_id", "user ids")])
def test_an_id_that_stands_there_twice_is_refused(field: str, name: str) -> None:
    ids = list(getattr(HEALTHY, field))
    found = only(replace(HEALTHY, **{field: [ids[1], *ids[1:]]}), name, "failure")  # type: ignore[arg-type]
    assert found.numbers["repeats"] == 1


def test_columns_of_different_lengths_are_refused() -> None:
    found = only(with_columns(HEALTHY, verb=HEALTHY.events.verb[1:]), "columns", "failure")
    assert "verb 1,999" in found.sentence


def test_a_log_without_events_is_refused() -> None:
    empty = {name: getattr(HEALTHY.events, name)[:0] for name in Events.__annotations__}
    assert only(with_columns(HEALTHY, **empty), "columns", "failure").sentence == "there is no event"


def test_a_rating_without_a_value_is_a_warning_as_those_of_merged_users_have_none() -> None:
    found = only(with_value(HEALTHY, "verb", 3, Verb.RATING), "values of ratings", "warning")
    assert [row.place for row in found.rows] == [4]


def test_verbs_of_ones_own_are_known() -> None:
    verb = event_types({"listen": 2.5})["listen"]
    assert of_level(with_value(HEALTHY, "verb", slice(0, EVENTS, 3), verb), "failure") == []


def test_rows_are_named_by_their_place_in_the_whole_import() -> None:
    kept = replace(HEALTHY, place=np.arange(1, EVENTS + 1) * 10)
    assert [row.place for row in rows_at(kept, np.array([0, 4]))] == [10, 50]
    assert len(rows_at(kept, np.ones(EVENTS, bool))) == 5

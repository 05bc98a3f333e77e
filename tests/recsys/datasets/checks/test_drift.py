"""The newest fifth of a log against the one before it."""

from collections.abc import Callable

import numpy as np
import pytest

from recsys.verbs import Verb
from tests.recsys.datasets.checks.logs import EVENTS, USERS, healthy_events, log_of, of_level, only, warned
from tests.worlds import Event

BEGIN = EVENTS - EVENTS // 5  # of the newest window


def changed(change: Callable[[int, Event], Event]) -> list[Event]:
    """A log ten times as long, of ten times as many users, whose newest fifth is another."""
    events = healthy_events(10 * EVENTS, 10 * USERS)
    return [change(place, one) if place >= 10 * BEGIN else one for place, one in enumerate(events)]


def number_of(item: str) -> int:
    return int(item.split("-")[1])


CHANGES: dict[str, Callable[[int, Event], Event]] = {
    "drift of verbs": lambda place, e: (e[0], e[1], Verb.VIEW if place % 8 else Verb.LIKE, e[3]),
    "drift of popularity": lambda _, e: (e[0], f"item-{39 - number_of(e[1])}", e[2], e[3]),
    "drift of hours": lambda _, e: (e[0], e[1], e[2], e[3] // 86_400 * 86_400 + e[3] % 43_200),
    "drift of new users": lambda place, e: (f"new-{place % 800}" if place % 2 else e[0], *e[1:]),
    "drift of new items": lambda place, e: (e[0], f"new-{place % 40}" if place % 2 else e[1], *e[2:]),
    "drift of events per user": lambda place, e: (f"user-{place % 80}-{place % 3}", *e[1:]),
    "drift of categories": lambda place, e: (e[0], f"item-{number_of(e[1]) // 2 * 2}" if place % 4 else e[1], *e[2:]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_drift_is_a_warning_that_says_what_moved(name: str) -> None:
    found = warned(log_of(changed(CHANGES[name])), name)
    assert found.numbers["psi"] >= 0.1
    assert found.numbers["psi"] > found.numbers["noise"]
    assert "drift, PSI" in found.sentence


def test_nothing_drifts_where_nothing_changes() -> None:
    assert of_level(log_of(changed(lambda _, event: event)), "warning", "failure") == []


def test_ids_of_items_that_all_changed_are_refused_with_the_first_new_ones() -> None:
    events = [(u, f"sku-{i}", v, t) if p >= BEGIN else (u, i, v, t) for p, (u, i, v, t) in enumerate(healthy_events())]
    found = only(log_of(events), "items in common", "failure")
    assert [row.place for row in found.rows] == list(range(BEGIN + 1, BEGIN + 6))
    assert all(row.item_id.startswith("sku-") for row in found.rows)


def test_ids_of_users_that_all_changed_are_a_warning() -> None:
    events = [(f"x{u}", i, v, t) if p >= BEGIN else (u, i, v, t) for p, (u, i, v, t) in enumerate(healthy_events())]
    assert warned(log_of(events), "users in common").numbers["known"] == 0


def test_windows_of_a_few_events_are_not_compared() -> None:
    events = healthy_events()[:400]
    other = [(user, f"sku-{item}", verb, ts_s) for user, item, verb, ts_s in events[320:]]
    assert of_level(log_of(events[:320] + other), "failure") == []


def test_growth_that_goes_on_as_before_is_no_drift() -> None:
    """Each user comes for some weeks and goes: half of the events of every window are of new users."""
    rng = np.random.default_rng(2)
    events = [
        (f"user-{(place + int(rng.integers(4000))) // 20}", *rest)
        for place, (_, *rest) in enumerate(healthy_events(10 * EVENTS))
    ]
    assert of_level(log_of(events), "warning", "failure") == []  # type: ignore[arg-type]

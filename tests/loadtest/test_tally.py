"""What is counted of simulated users, by hand."""

import json

import numpy as np
import pytest

from loadtest.tally import EVENTS_FROM, Tally


def test_lists_are_grouped_by_the_events_that_came_before_them() -> None:
    tally = Tally(2)
    for events in (0, 1, 4, 5, 79, 80, 5000):
        tally.compared(events, served=1.0, popular=0.5, best=2.0)
    tally.compared(0, served=2.0, popular=1.5, best=3.0)
    assert EVENTS_FROM == (0, 1, 5, 10, 20, 40, 80)
    assert {row["events_from"]: row["lists"] for row in tally.by_events()} == {0: 2, 1: 2, 5: 1, 40: 1, 80: 2}
    assert tally.by_events()[0] == {"events_from": 0, "lists": 2, "served": 1.5, "popular": 1.0, "best": 2.5}
    assert tally.lists == 8


def test_clicks_are_counted_by_place_beside_their_expectation_also_of_short_lists() -> None:
    tally = Tally(3)
    tally.looked_at(np.array([True, False, True]), np.array([0.5, 0.25, 0.1]))
    tally.looked_at(np.array([True]), np.array([0.7]))
    assert tally.clicks == 3
    assert tally.by_position() == [
        {"position": 1, "shown": 2, "ctr": 1.0, "expected_ctr": 0.6},
        {"position": 2, "shown": 1, "ctr": 0.0, "expected_ctr": 0.25},
        {"position": 3, "shown": 1, "ctr": 1.0, "expected_ctr": 0.1},
    ]


def test_rate_and_latency_are_those_of_the_last_seconds() -> None:
    tally = Tally(1)
    for at_s in np.arange(0.5, 10, 1.0):
        tally.ended(float(at_s), 0.1 if at_s < 5 else 0.02)
    assert tally.lately(10.0, 5.0) == (1.0, dict.fromkeys(("p50", "p90", "p99", "p99.9", "max"), 20.0))
    assert tally.lately(2.0, 5.0)[0] == 5  # ten in the two seconds that have passed
    assert tally.lately(30.0, 5.0) == (0.0, {})


def test_summary_holds_everything_and_is_json() -> None:
    tally = Tally(1)
    tally.ended(0.1, 0.01)
    tally.list_came(degraded=True, personalized=True)
    tally.compared(0, served=1.0, popular=0.5, best=2.0)
    tally.looked_at(np.array([True]), np.array([0.5]))
    tally.recorded(accepted=3, refused=2)
    tally.errors["/v1/events status 429"] += 1
    summary = json.loads(json.dumps(tally.summary(2.0)))
    assert summary["lists"] == summary["degraded"] == summary["personalized_share"] == summary["clicks_per_list"] == 1
    assert summary["lists_per_s"] == 0.5
    assert summary["latency_ms"]["p99"] == pytest.approx(10)
    assert summary["events_accepted"] == 3
    assert summary["errors"] == {"events refused": 2, "/v1/events status 429": 1}
    assert summary["by_position"] == tally.by_position()
    assert summary["by_events"] == tally.by_events()


def test_summary_of_nothing_is_zeros() -> None:
    summary = Tally(2).summary(1.0)
    assert (summary["lists"], summary["clicks_per_list"], summary["by_events"], summary["latency_ms"]) == (0, 0, [], {})

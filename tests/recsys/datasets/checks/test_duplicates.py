"""Repeated events: some are a habit of the source, half of the file is a mistake."""

from dataclasses import replace

import numpy as np

from tests.recsys.datasets.checks.logs import EVENTS, healthy, healthy_events, log_of, of_level, only, repeated

HEALTHY = healthy()


def test_a_file_imported_twice_is_refused_with_repeats() -> None:
    found = only(repeated(HEALTHY, np.arange(EVENTS)), "duplicates", "failure")
    assert found.numbers == {"repeats": EVENTS, "share": 0.5}
    assert [row.place for row in found.rows] == [2, 4, 6, 8, 10]


def test_some_repeats_are_a_warning_with_the_rows() -> None:
    found = only(repeated(HEALTHY, np.arange(0, EVENTS, 20)), "duplicates", "warning")
    assert found.numbers["repeats"] == EVENTS // 20
    assert len(found.rows) == 5


def test_a_few_repeats_are_none_of_our_business() -> None:
    assert of_level(repeated(HEALTHY, np.arange(EVENTS // 200)), "warning", "failure") == []


def test_another_event_at_the_same_moment_between_two_equal_ones_hides_no_repeat() -> None:
    events = healthy_events()
    for place in range(0, EVENTS, 40):
        user, item, verb, ts_s = events[place]
        events += [(user, f"{item}-other", verb, ts_s), (user, item, verb, ts_s)]
    assert only(log_of(events), "duplicates", "warning").numbers["repeats"] == EVENTS // 40


def test_repeats_are_no_mistake_for_sure_where_no_event_has_a_time() -> None:
    timeless = replace(repeated(HEALTHY, np.arange(EVENTS)), timing="none")
    assert only(timeless, "duplicates", "warning").numbers["share"] == 0.5

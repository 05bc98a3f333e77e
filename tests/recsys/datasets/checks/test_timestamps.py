"""Times that are no times of events."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.datasets.checks.timestamps import DAY_MS
from recsys.datasets.checks.windows import NEWEST
from recsys.datasets.dataset import Timing
from recsys.training import splits
from tests.recsys.datasets.checks.logs import EVENTS, healthy, of_level, only, warned, with_columns, with_value

HEALTHY = healthy()
TS_MS = HEALTHY.events.ts_ms


def test_the_newest_part_is_what_training_holds_out() -> None:
    assert NEWEST == splits.HELD_OUT


def test_one_time_for_all_events_is_refused_as_no_moment_divides_them() -> None:
    found = only(with_columns(HEALTHY, ts_ms=np.full(EVENTS, TS_MS[0])), "temporal split", "failure")
    assert "2,000 of 2,000 events" in found.sentence
    assert [row.place for row in found.rows] == [1, 2, 3, 4, 5]


def test_a_default_time_for_most_events_is_refused_as_the_past_is_empty() -> None:
    most = int(0.85 * EVENTS)
    found = only(with_value(HEALTHY, "ts_ms", slice(0, most), 0), "temporal split", "failure")
    assert found.numbers == {"past": 0, "events": EVENTS}
    assert found.rows[0].timestamp == "1970-01-01T00:00:00+00:00"


@pytest.mark.parametrize("timing", ["order", "none"])
def test_times_that_nobody_claims_are_not_checked(timing: Timing) -> None:
    one_time = replace(with_columns(HEALTHY, ts_ms=np.full(EVENTS, TS_MS[0])), timing=timing)
    assert of_level(one_time, "warning", "failure") == ["duplicates"]  # 80 users and 40 items: some pairs repeat


def test_many_events_in_one_second_are_a_warning() -> None:
    at = slice(500, 540)
    found = warned(with_value(HEALTHY, "ts_ms", at, TS_MS[500]), "busiest second")
    assert [row.place for row in found.rows] == [501, 502, 503, 504, 505]
    assert found.numbers == {"events": 40, "share": 0.02}


def test_a_third_of_the_events_on_one_day_is_a_warning() -> None:
    third = EVENTS // 3
    start_ms = TS_MS[600] // DAY_MS * DAY_MS + DAY_MS
    ts_ms = TS_MS.copy()
    ts_ms[600 : 600 + third] = start_ms + np.arange(third) * 20_000
    assert warned(with_columns(HEALTHY, ts_ms=np.sort(ts_ms)), "busiest day").numbers["share"] > 0.3


def test_dates_in_place_of_times_are_a_warning() -> None:
    assert (
        "the order within a day is not known"
        in warned(with_columns(HEALTHY, ts_ms=TS_MS // DAY_MS * DAY_MS), "dates").sentence
    )


def test_seconds_taken_for_milliseconds_are_a_warning() -> None:
    found = warned(with_columns(HEALTHY, ts_ms=TS_MS // 1000), "end of the log")
    assert found.rows[0].timestamp.startswith("1970-01-20T")


def test_a_month_without_events_in_three_is_a_warning_with_the_events_around_it() -> None:
    ts_ms = TS_MS + np.where(np.arange(EVENTS) >= 900, 40 * DAY_MS, 0)
    assert [row.place for row in only(with_columns(HEALTHY, ts_ms=ts_ms), "longest gap", "warning").rows] == [900, 901]


def test_an_event_of_the_future_is_a_warning_with_its_row() -> None:
    found = only(with_value(HEALTHY, "ts_ms", EVENTS - 1, TS_MS[-1] + 3000 * DAY_MS), "future events", "warning")
    assert [row.place for row in found.rows] == [EVENTS]


def test_an_event_long_before_all_others_is_a_warning_with_its_row() -> None:
    assert [row.place for row in only(with_value(HEALTHY, "ts_ms", 0, 0), "early events", "warning").rows] == [1]


def test_the_usual_end_of_a_log_is_none_of_the_future() -> None:
    assert of_level(with_value(HEALTHY, "ts_ms", EVENTS - 1, TS_MS[-1] + 5 * DAY_MS), "warning") == []

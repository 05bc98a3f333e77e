"""Requests by route and status, durations with what HAProxy saw, and traces of those that are sampled."""

import logging

import pytest

from service.telemetry.requests import RequestWatch
from service.telemetry.trace import Sampler, Trace, current


def test_every_status_of_a_route_is_counted_by_itself() -> None:
    watch = RequestWatch()
    for status in (200, 200, 429, 503):
        watch.ended(None, "POST", "/v1/events", status, 0.001)
    assert watch.answered() == {
        ("POST", "/v1/events", "200"): 2,
        ("POST", "/v1/events", "429"): 1,
        ("POST", "/v1/events", "503"): 1,
    }


def test_duration_begins_where_the_proxy_had_the_request() -> None:
    watch = RequestWatch()
    watch.ended(None, "POST", "/v1/similar", 200, 0.004, waited_s=0.09)
    counts = watch.took_s()["POST", "/v1/similar"].at_most()
    assert (counts["0.05"], counts["0.1"]) == (0, 1)
    assert watch.took_s()["POST", "/v1/similar"].sum == pytest.approx(0.094)


def test_methods_that_nobody_knows_are_one_series() -> None:
    watch = RequestWatch()
    for number in range(50):
        watch.ended(None, f"BREW{number}", "none", 405, 0.0)
    assert watch.answered() == {("none", "none", "405"): 50}


def test_sampled_request_is_current_until_it_ends_and_then_kept(caplog: pytest.LogCaptureFixture) -> None:
    kept: list[Trace] = []
    watch = RequestWatch(Sampler(1.0), kept.append)
    trace = watch.began({}, [])
    assert trace is not None
    assert current.get() is trace
    trace.facts["riffle.user"] = "00ff"
    with caplog.at_level(logging.INFO, "service.telemetry.requests"):
        watch.ended(trace, "POST", "/v1/recommendations", 200, 0.002, waited_s=0.5)
    assert current.get() is None
    assert kept == [trace]
    assert 0.5 <= trace.ended - trace.began < 5
    (line,) = caplog.records
    assert line.__dict__["trace_id"] == f"{trace.trace_id:032x}"
    assert line.__dict__["riffle.user"] == "00ff"


def test_request_that_is_not_sampled_leaves_no_trace_and_no_line(caplog: pytest.LogCaptureFixture) -> None:
    kept: list[Trace] = []
    watch = RequestWatch(Sampler(0.0), kept.append)
    with caplog.at_level(logging.DEBUG):
        watch.ended(watch.began({}, []), "GET", "/readyz", 200, 0.001)
    assert (kept, caplog.records, current.get()) == ([], [], None)

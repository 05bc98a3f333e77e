"""Log lines of a replica: those of the service go where Serve's go."""

import json
import logging
import logging.handlers
from collections.abc import Iterator
from io import StringIO

import pytest

from service.telemetry import logs
from service.telemetry.requests import RequestWatch
from service.telemetry.trace import Sampler

NAMES = ("ray.serve", "service", "recsys", "service.telemetry.requests")


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """What Serve's handler writes, formatted as Serve does where it is told JSON."""
    from ray._common.formatters import JSONFormatter

    before = {name: (one.handlers, one.propagate, one.level) for name in NAMES if (one := logging.getLogger(name))}
    written = StringIO()
    held = logging.handlers.MemoryHandler(100, logging.ERROR, logging.StreamHandler(written))  # type: ignore[attr-defined]
    held.target.setFormatter(JSONFormatter())
    logging.getLogger("ray.serve").handlers = [held]
    logs.attach()
    yield written
    for name, (handlers, propagate, level) in before.items():
        one = logging.getLogger(name)
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


def test_warning_of_the_service_is_one_json_object_a_line(lines: StringIO) -> None:
    logging.getLogger("service.microbatch").warning("a micro-batch of %d failed", 3)
    logs.flush()
    (line,) = lines.getvalue().splitlines()
    assert json.loads(line)["message"] == "a micro-batch of 3 failed"


def test_info_is_for_sampled_requests_alone(lines: StringIO) -> None:
    logging.getLogger("service.microbatch").info("chatter")
    watch = RequestWatch(Sampler(1.0))
    trace = watch.began({}, [])
    assert trace is not None
    trace.facts["riffle.user"] = "00ff00ff00ff00ff"
    watch.ended(trace, "POST", "/v1/recommendations", 200, 0.002)
    logs.flush()
    (line,) = map(json.loads, lines.getvalue().splitlines())
    assert line["message"] == "POST /v1/recommendations: 200"
    assert line["trace_id"] == f"{trace.trace_id:032x}"
    assert line["riffle.user"] == "00ff00ff00ff00ff"


def test_where_serve_has_no_handler_nothing_is_taken_away() -> None:
    before = logging.getLogger("ray.serve").handlers
    logging.getLogger("ray.serve").handlers = []
    try:
        logs.attach()
        assert logging.getLogger("service").propagate
    finally:
        logging.getLogger("ray.serve").handlers = before

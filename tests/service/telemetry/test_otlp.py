"""What a collector is sent, and that one that is down, slow or hostile changes nothing but counts."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from service import metrics
from service.telemetry import otlp
from service.telemetry.otlp import Collector
from service.telemetry.outbox import Outbox
from service.telemetry.trace import Batch, Sampler, Trace
from tests.service.telemetry import collectors

RESOURCE = {"service.name": "riffle-test"}


@contextmanager
def sending(endpoint: str, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector's thread that waits less than it would."""
    monkeypatch.setattr(otlp, "PAUSE_S", 0.02)
    monkeypatch.setattr(otlp, "METRICS_EVERY_S", 0.05)
    collector = Collector(endpoint, outbox, RESOURCE, timeout_s=0.4)
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()
        collector.join(10)
        assert not collector.is_alive()


def traced(route: str = "/v1/recommendations") -> Trace:
    trace = Sampler(1.0).begin({}, [])
    assert trace is not None
    trace.method, trace.route, trace.status = "POST", route, 200
    trace.ended = trace.began + 0.01
    return trace


def until(true: Callable[[], Any], within_s: float = 15.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_spans_arrive_with_their_ids_and_the_process_that_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    outbox, trace = Outbox(), traced()
    batch = Batch(3, "bundle-1", trace.began)
    batch.members.append((trace.trace_id, trace.span_id))
    trace.batch = batch
    trace.stages = [("queue", trace.began, trace.began + 0.001), ("rank", trace.began + 0.001, trace.began + 0.004)]
    with collectors.taking() as (endpoint, taken), sending(endpoint, outbox, monkeypatch) as collector:
        outbox.put(trace)
        until(lambda: collector.counts["sent"])
    names = {span.name: span for span in taken.spans}
    assert set(names) == {"POST /v1/recommendations", "queue", "rank", "micro-batch"}
    server, rank, whole = names["POST /v1/recommendations"], names["rank"], names["micro-batch"]
    assert (server.trace_id.hex(), server.span_id.hex()) == (f"{trace.trace_id:032x}", f"{trace.span_id:016x}")
    assert (rank.trace_id, rank.parent_span_id) == (server.trace_id, server.span_id)
    assert rank.end_time_unix_nano - rank.start_time_unix_nano == pytest.approx(3_000_000, abs=2_000)
    assert [link.span_id for link in server.links] == [whole.span_id]
    assert [link.trace_id for link in whole.links] == [server.trace_id]
    assert whole.trace_id != server.trace_id
    assert taken.resources[0]["service.name"] == "riffle-test"


def test_last_reading_arrives_with_the_names_and_tags_of_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    with collectors.taking() as (endpoint, taken), sending(endpoint, Outbox(), monkeypatch) as collector:
        collector.tell(
            {
                metrics.REQUESTS: {("POST", "/v1/events", "200"): 3.0},
                metrics.ROOM: {(): 7.0},
                metrics.STAGE_S.buckets: {("rank", "+Inf"): 2},
            }
        )
        until(lambda: metrics.ROOM.name in taken.metrics)
    assert taken.metrics[metrics.REQUESTS.name] == [({"method": "POST", "route": "/v1/events", "status": "200"}, 3.0)]
    assert taken.metrics[metrics.ROOM.name] == [({}, 7.0)]
    assert taken.metrics[metrics.STAGE_S.buckets.name] == [({"stage": "rank", "le": "+Inf"}, 2.0)]


@pytest.mark.parametrize("hostile", collectors.HOSTILE, ids=lambda one: one.__name__)
def test_hostile_collector_costs_only_what_was_to_be_sent(hostile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Putting never waits, the queue never grows over its limit, everything is accounted for, the thread goes on."""
    outbox = Outbox(limit=8)
    with hostile() as endpoint, sending(endpoint, outbox, monkeypatch) as collector:
        longest_s = 0.0
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            trace = traced()
            began = time.thread_time()
            outbox.put(trace)
            longest_s = max(longest_s, time.thread_time() - began)
            collector.tell({metrics.ROOM: {(): 7.0}})
            time.sleep(0.001)
        assert longest_s < 0.005
        assert len(outbox._traces) <= 8
        until(lambda: collector.counts["refused"] or collector.counts["sent"])
        assert collector.is_alive()
        memory = [thread.name for thread in threading.enumerate()]
        assert len(memory) < 30
    went = collector.counts["refused"] + collector.counts["sent"] + len(outbox._traces)
    assert went == outbox.counts["kept"]
    assert outbox.counts["dropped"] > 0 or collector.counts["sent"] + collector.counts["refused"] > 8


def test_answer_without_end_is_read_up_to_a_limit() -> None:
    with collectors.endless() as endpoint:
        session = otlp.BoundedSession(5.0)
        response = session.request("POST", f"{endpoint}/v1/traces", data=b"", timeout=5.0)
    assert len(response.content) == otlp._ANSWER_BYTES


def test_answer_that_drips_is_read_for_so_long_and_no_longer() -> None:
    with collectors.dripping() as endpoint:
        began = time.monotonic()
        otlp.BoundedSession(0.3).request("POST", f"{endpoint}/v1/traces", data=b"", timeout=5.0)
        assert time.monotonic() - began < 3


def test_event_loop_goes_on_while_a_collector_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox()

    async def serve() -> float:
        latest_s = 0.0
        for _ in range(50):
            outbox.put(traced())
            due = time.monotonic() + 0.01
            await asyncio.sleep(0.01)
            latest_s = max(latest_s, time.monotonic() - due)
        return latest_s

    with collectors.silent() as endpoint, sending(endpoint, outbox, monkeypatch):
        assert asyncio.run(serve()) < 0.3  # a send that waited here would take its time-out of 0.4 s


def test_library_that_cannot_be_set_up_ends_the_thread_with_a_line_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("a variable of OpenTelemetry in the environment")

    monkeypatch.setattr(otlp, "SpanMaker", refuse)
    outbox = Outbox(limit=1)
    with collectors.taking() as (endpoint, _), caplog.at_level(logging.ERROR):
        collector = Collector(endpoint, outbox, RESOURCE)
        collector.start()
        collector.join(10)
    assert "nothing is sent to the collector" in caplog.text
    outbox.put(traced())
    outbox.put(traced())
    assert outbox.counts == {"kept": 1, "dropped": 1}


def test_bug_in_what_is_sent_does_not_end_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox()
    broken, whole = traced(), traced()
    broken.stages = [("rank", None, None)]  # type: ignore[list-item]
    with collectors.taking() as (endpoint, taken), sending(endpoint, outbox, monkeypatch) as collector:
        outbox.put(broken)
        until(lambda: collector.counts["refused"])
        outbox.put(whole)
        until(lambda: collector.counts["sent"])
    assert f"{whole.trace_id:032x}" in {span.trace_id.hex() for span in taken.spans}

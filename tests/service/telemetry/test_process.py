"""The telemetry of one process: told again and again, whatever fails."""

import asyncio
import logging
from typing import Any

import pytest

from service import metrics
from service.settings import Settings
from service.telemetry import process
from service.telemetry.process import ProcessTelemetry
from service.telemetry.readings import Taken
from tests.free_ports import free_port

KEY = "k" * 32


async def told(telemetry: ProcessTelemetry, taken: list[Taken], look: Any = None, times: int = 2) -> None:
    """Until so many readings have been told."""
    task = asyncio.get_running_loop().create_task(telemetry.report(look))
    async with asyncio.timeout(20):
        while len(taken) < times:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "REPORT_S", 0.02)


def test_every_process_tells_its_loop_its_processor_and_its_telemetry() -> None:
    taken: list[Taken] = []
    telemetry = ProcessTelemetry(Settings(log_key=KEY), "updater", taken.append)
    asyncio.run(told(telemetry, taken))
    assert set(taken[-1]) == {*metrics.LOOP_LAG, metrics.CPU, metrics.TELEMETRY}
    assert taken[-1][metrics.CPU]["updater",] > 0
    assert {what for _, what in taken[-1][metrics.TELEMETRY]} == {"kept", "dropped"}


def test_reading_or_look_that_fails_is_logged_and_the_next_one_is_told(caplog: pytest.LogCaptureFixture) -> None:
    taken: list[Taken] = []
    failures = iter([ArithmeticError("a bug")])

    async def look() -> None:
        for failure in failures:
            raise failure

    with caplog.at_level(logging.ERROR):
        asyncio.run(told(ProcessTelemetry(Settings(log_key=KEY), "gateway", taken.append), taken, look))
    assert "metrics could not be told" in caplog.text


def test_without_a_collector_no_thread_is_started_and_nothing_is_kept() -> None:
    telemetry = ProcessTelemetry(Settings(log_key=KEY, trace_sample=1.0), "gateway", lambda _: None)
    watch = telemetry.request_watch()
    watch.ended(watch.began({}, []), "GET", "/readyz", 200, 0.001)
    assert telemetry._collector is None
    assert telemetry._outbox.counts["kept"] == 0


def test_with_one_that_is_down_sampled_requests_are_kept_for_it() -> None:
    settings = Settings(log_key=KEY, trace_sample=1.0, otlp_endpoint=f"http://127.0.0.1:{free_port()}")
    telemetry = ProcessTelemetry(settings, "gateway", lambda _: None)
    assert telemetry._collector is not None
    try:
        watch = telemetry.request_watch()
        watch.ended(watch.began({}, []), "GET", "/readyz", 200, 0.001)
        assert telemetry._outbox.counts["kept"] == 1
    finally:
        telemetry._collector.stop()


def test_without_a_key_it_says_that_nobody_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        telemetry = ProcessTelemetry(Settings(), "gateway", lambda _: None)
    assert "name no users" in caplog.text
    assert telemetry.pseudonyms.of("u1") == ""

"""The autopilot beside a running service: events that come begin a run, and whoever drives it may die."""

import os
import signal
import time
from datetime import UTC, datetime

import httpx
import psutil
import pytest

from service.autopilot.run import Run, Runs
from tests.e2e.conftest import Riffle

pytestmark = pytest.mark.e2e

EVENTS = 60
ENDS_S = 300.0
ON = {"RIFFLE_AUTOPILOT": "true", "RIFFLE_AUTOPILOT_LEAST": "50", "RIFFLE_AUTOPILOT_REST_S": "0"}
ON |= {"RIFFLE_AUTOPILOT_SHARE": "0.001"}


def wait_for(what: str, seconds: float, found: object) -> None:
    until = time.monotonic() + seconds
    while not found():  # type: ignore[operator]
        assert time.monotonic() < until, what
        time.sleep(0.2)


def driver(riffle: Riffle) -> int | None:
    """The process of the controller."""
    for process in psutil.process_iter(["cmdline", "environ"]):
        home = (process.info["environ"] or {}).get("RIFFLE_HOME")
        if "Autopilot" in " ".join(process.info["cmdline"] or []) and home == riffle.environ["RIFFLE_HOME"]:
            return int(process.pid)
    return None


def test_events_begin_a_run_that_ends_with_a_reason_though_its_driver_was_killed(
    colocated: httpx.Client, riffle: Riffle
) -> None:
    assert "off; RIFFLE_AUTOPILOT=true" in riffle.must("autopilot")
    runs = Runs(riffle.settings.home_path / "autopilot")
    try:
        riffle.must("serve", **ON)
        assert "The autopilot is on" in riffle.must("autopilot", **ON)
        told = riffle.must("autopilot")  # in a shell without the variable
        assert "The autopilot is on" in told
        assert "The setting here is false" in told
        assert "There was no run yet" in riffle.must("autopilot", **ON)
        shown = colocated.post("/v1/recommendations", json={"user_id": "somebody", "count": EVENTS}).json()["items"]
        now = datetime.now(UTC).isoformat()
        events = [
            {
                "event_id": f"like-{n}",
                "type": "like",
                "user_id": f"newcomer-{n % 7}",
                "item_id": one["item_id"],
                "ts": now,
            }
            for n, one in enumerate(shown)
        ]
        assert colocated.post("/v1/events", json={"events": events}).json()["accepted"] == EVENTS
        wait_for("no run began", 90, lambda: runs.newest() is not None)
        wait_for("no training began", 60, lambda: step_of(runs) not in ("snapshot", "check"))
        killed = driver(riffle)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        wait_for("the run did not end", ENDS_S, lambda: (runs.newest() or Run("", "", "")).outcome is not None)
        run = runs.newest()
        assert run is not None
        assert run.trigger in ("volume", "schedule")
        assert run.outcome in ("no better", "refused"), run  # sixty likes teach nothing
        assert any(row[1] == "NDCG@10 beside the champion" for row in run.report["gate"])
        assert run.reason
        assert len(runs.all()) == 1
        assert run.bundle in riffle.must("bundles", "list")
        assert colocated.get("/readyz").json()["bundle"] == run.champion
        page = riffle.must("autopilot", "show")
        assert run.outcome in page
        assert "What was done" in page
        assert run.id in riffle.must("autopilot", "runs")
    finally:
        riffle.must("serve")
    assert driver(riffle) is None


def step_of(runs: Runs) -> str:
    run = runs.newest()
    return "none" if run is None else run.step

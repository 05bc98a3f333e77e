"""What the autopilot tells: how many runs ended how, and how long ago the last one did."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service import metrics
from service.autopilot.run import Outcome, Run, Runs, Said
from service.telemetry import retraining
from service.telemetry.readings import Readings, Taken
from service.telemetry.retraining import RetrainingWatch


def run(hours_ago: float, outcome: Outcome | None, ended_hours_ago: float = 0.0) -> Run:
    """A run that began and, with an outcome, ended so many hours ago."""
    now = datetime.now(UTC)
    began = (now - timedelta(hours=hours_ago)).strftime("%Y%m%dT%H%M%SZ")
    ended = (now - timedelta(hours=ended_hours_ago)).isoformat(timespec="seconds")
    return Run(began, "age", "a day is over", outcome=outcome, said=(Said(ended, "done", "so"),) if outcome else ())


def taken(runs: Runs, looks: int = 1) -> Taken:
    watch, readings = RetrainingWatch(runs), Readings()
    watch.tell(readings)
    for _ in range(looks):
        asyncio.run(watch.look())
    return readings.take()


def test_runs_are_told_by_outcome_and_the_last_end_by_its_age(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for one in (run(50, "promoted", 49), run(30, "rolled back", 29), run(9, "failed", 8), run(1, None)):
        runs.save(one)
    told = taken(runs)
    assert told[metrics.RETRAINING] == {("promoted",): 1, ("rolled_back",): 1, ("failed",): 1, ("refused",): 0}
    assert told[metrics.RETRAINING_AGE][()] == pytest.approx(8 * 3600, abs=60)


def test_first_run_that_does_not_end_ages_from_its_beginning(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.save(run(60, None))
    assert taken(runs)[metrics.RETRAINING_AGE][()] == pytest.approx(60 * 3600, abs=60)


def test_without_a_run_the_age_is_that_of_the_watch_so_that_an_alert_can_fire(tmp_path: Path) -> None:
    assert 0 <= taken(Runs(tmp_path))[metrics.RETRAINING_AGE][()] < 60


def test_run_that_cannot_be_read_leaves_what_was_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "LOOK_S", 0.0)
    runs = Runs(tmp_path)
    runs.save(run(9, "promoted", 8))
    watch = RetrainingWatch(runs)
    asyncio.run(watch.look())
    (path,) = (tmp_path / "runs").glob("*.json")
    path.write_text("{")
    asyncio.run(watch.look())
    assert watch.ended == {"promoted": 1}
    assert time.time() - watch.last_s == pytest.approx(8 * 3600, abs=60)

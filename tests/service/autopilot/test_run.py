"""Runs are kept whole or not at all, one process leads, and a pause holds until somebody ends it."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from service.autopilot.run import STEPS, Run, Runs, new_id
from service.cli.autopilot import list_
from service.errors import AutopilotError

NOW = datetime(2026, 11, 28, 0, 15, tzinfo=UTC)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "autopilot")


def test_a_run_is_read_as_it_was_kept(runs: Runs) -> None:
    run = Run(new_id(NOW), "asked", "why not").after("data", snapshot="abc", events=3)
    runs.save(run)
    assert runs.all() == [run]
    assert runs.newest() == runs.find("2026") == run
    assert run.began_s == NOW.timestamp()
    assert (run.step, run.said[0].step, run.said[0].text) == ("check", "snapshot", "data")


def test_each_step_leads_to_the_next_and_an_end_is_the_end(runs: Runs) -> None:
    run = Run(new_id(NOW), "asked", "")
    passed = [run.step]
    while run.step != "done":
        run = run.after("so")
        passed.append(run.step)
    assert tuple(passed) == STEPS
    assert Run(new_id(NOW), "asked", "").ended("refused", "bad").step == "done"
    assert runs.newest() is None


def test_an_unknown_run_or_one_of_several_is_named(runs: Runs) -> None:
    for minute in (1, 2):
        runs.save(Run(new_id(NOW.replace(minute=minute)), "asked", ""))
    with pytest.raises(AutopilotError, match=r"no run '2030'.*20261128T000200Z"):
        runs.find("2030")
    with pytest.raises(AutopilotError, match="more than one run '2026'"):
        runs.find("2026")
    with pytest.raises(AutopilotError, match="no run ''"):
        runs.find("")


@pytest.mark.parametrize("value", [b"", b"{}", b'{"id": 3}'])
def test_a_damaged_run_is_said_and_not_passed_over(runs: Runs, value: bytes) -> None:
    runs.save(Run(new_id(NOW), "asked", ""))
    next((runs.root / "runs").glob("*.json")).write_bytes(value)
    with pytest.raises(AutopilotError, match=r"cannot be read.*move it away"):
        runs.newest()


def test_runs_are_listed_around_a_damaged_one_which_is_said(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RIFFLE_HOME", str(runs.root.parent))
    for minute in (1, 2, 3):
        runs.save(Run(new_id(NOW.replace(minute=minute)), "asked", ""))
    (runs.root / "runs" / "20261128T000200Z.json").write_bytes(b"{")
    with pytest.raises(AutopilotError, match=r"20261128T000200Z\.json cannot be read"):
        list_()
    said = capsys.readouterr().out
    assert "20261128T000100Z" in said
    assert "20261128T000300Z" in said


def test_a_disk_that_refuses_is_said(runs: Runs) -> None:
    runs.root.mkdir(parents=True)
    (runs.root / "runs").write_text("no folder")
    with pytest.raises(AutopilotError, match="cannot be written"):
        runs.save(Run(new_id(NOW), "asked", ""))


def test_a_folder_that_refuses_is_said_by_who_would_lead(runs: Runs) -> None:
    runs.root.parent.mkdir(parents=True, exist_ok=True)
    runs.root.write_text("no folder")
    with pytest.raises(AutopilotError, match="cannot be written to"), runs.led():
        pytest.fail("it leads")


def test_a_pause_holds_until_it_is_ended(runs: Runs) -> None:
    assert runs.paused() is None
    assert not runs.resume()
    runs.pause(who="ann", reason="a sale")
    paused = Runs(runs.root).paused()
    assert paused is not None
    assert (paused.who, paused.reason) == ("ann", "a sale")
    with pytest.raises(AutopilotError, match="paused already by ann: a sale"):
        runs.pause(who="bob", reason="a holiday")
    assert runs.resume()
    assert runs.paused() is None
    with pytest.raises(AutopilotError, match="say why"):
        runs.pause(who="ann", reason=" ")


def test_a_pause_that_cannot_be_read_still_holds(runs: Runs) -> None:
    runs.pause(who="ann", reason="a sale")
    (runs.root / "paused.json").write_bytes(b"?")
    paused = runs.paused()
    assert paused is not None
    assert "cannot be read" in paused.reason


def test_one_process_leads_and_where_it_dies_another_does(runs: Runs) -> None:
    code = (
        "import sys, time; from pathlib import Path; from service.autopilot.run import Runs\n"
        f"with Runs(Path({str(runs.root)!r})).led() as leads: print(leads, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        with runs.led() as leads:
            assert not leads
        other.kill()
    with runs.led() as leads:
        assert leads


def test_what_a_run_holds_survives_json(runs: Runs) -> None:
    run = Run(new_id(NOW), "drift", "clicks fall", report={"gate": [["yes", "files", "4", "as published"]]})
    assert msgspec.json.decode(msgspec.json.encode(run), type=Run) == run
    assert runs.page(run).name == f"{run.id}.md"

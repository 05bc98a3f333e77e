"""Threads are pinned and freed again, and processor time is put to the process that used it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loadtest import affinity, machine
from loadtest.one_core import costs, line
from service.errors import StackError
from service.settings import Settings
from service.stack import processes

ROOT = Path(__file__).resolve().parents[2]
TWO_CORES = hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1
needs_two_cores = pytest.mark.skipif(not TWO_CORES, reason="two cores that threads can be pinned to are needed")

_THREADS = """
import sys, threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("more", flush=True)
time.sleep(60)
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process of two threads, which starts a third when it is told to."""
    process = subprocess.Popen([sys.executable, "-c", _THREADS], stdin=-1, stdout=-1, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def masks(process: subprocess.Popen[str]) -> list[set[int]]:
    """The cores that each thread may use."""
    return [os.sched_getaffinity(thread.id) for thread in psutil.Process(process.pid).threads()]


@needs_two_cores
def test_all_threads_are_on_the_core_and_free_again_afterwards(child: subprocess.Popen[str]) -> None:
    everywhere = set(affinity.cores())
    core = max(everywhere)
    assert masks(child) == [everywhere] * 2
    with affinity.pinned(lambda: [psutil.Process(child.pid)], core):
        assert masks(child) == [{core}] * 2
    assert masks(child) == [everywhere] * 2


@needs_two_cores
def test_a_thread_that_was_started_meanwhile_is_on_the_core_and_freed_with_the_others(
    child: subprocess.Popen[str],
) -> None:
    everywhere = set(affinity.cores())
    core = min(everywhere)
    with affinity.pinned(lambda: [psutil.Process(child.pid)], core):
        child.stdin.write("\n")  # type: ignore[union-attr]
        child.stdin.flush()  # type: ignore[union-attr]
        assert child.stdout.readline() == "more\n"  # type: ignore[union-attr]
        assert masks(child) == [{core}] * 3
    assert masks(child) == [everywhere] * 3


@needs_two_cores
def test_a_measurement_that_fails_frees_all_threads_and_leaves_what_was_pinned_before(
    child: subprocess.Popen[str],
) -> None:
    first, second = affinity.cores()[:2]
    os.sched_setaffinity(child.pid, {second})
    before = masks(child)

    def fail() -> None:
        with affinity.pinned(lambda: [psutil.Process(child.pid)], first):
            raise StackError("the stack went away")

    with pytest.raises(StackError, match="went away"):
        fail()
    assert masks(child) == before


@needs_two_cores
def test_a_process_that_ends_while_it_is_pinned_keeps_the_others_from_nothing(child: subprocess.Popen[str]) -> None:
    everywhere = os.sched_getaffinity(0)
    members = [psutil.Process(child.pid), psutil.Process()]
    with affinity.pinned(lambda: members, max(everywhere)):
        child.kill()
        child.wait()
        assert os.sched_getaffinity(0) == {max(everywhere)}
    assert os.sched_getaffinity(0) == everywhere


def test_a_system_that_cannot_pin_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(StackError, match="run this on Linux"):
        affinity.cores()


def test_processor_time_of_the_stack_is_counted_by_the_kind_of_process(tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path))
    assert machine.cpu_s(machine.stack_processes(settings)) == {}
    code = "import time\nwhile time.process_time() < 0.5: pass\nprint(1, flush=True); time.sleep(60)"
    recorded = processes.spawn([sys.executable, "-c", code], log=tmp_path / "log", environ=os.environ)
    try:
        processes.save(settings.home_path / "run" / "valkey.json", recorded)
        until = time.monotonic() + 30
        while not (tmp_path / "log").read_text("utf-8"):
            assert time.monotonic() < until
            time.sleep(0.05)
        (used_s,) = machine.cpu_s(machine.stack_processes(settings)).values()
    finally:
        processes.end([psutil.Process(recorded.pid)], 5)
    assert 0.45 < used_s < 2  # told in hundredths of a second


def test_costs_are_those_of_the_events_that_were_acknowledged() -> None:
    cpu_s = {"ray::ServeReplica:riffle-features:FeatureUpdater": 2.0, "valkey-server": 5.0}
    assert costs(cpu_s, 100_000) == {
        "cpu_s_per_1000_events": {"ray::ServeReplica:riffle-features:FeatureUpdater": 0.02, "valkey-server": 0.05},
        "updater_us_per_event": 20.0,
    }


def test_run_without_an_acknowledged_event_has_no_costs() -> None:
    with pytest.raises(StackError, match="not one event was acknowledged"):
        costs({"valkey-server": 1.0}, 0)


def test_line_says_rate_backlog_and_costs() -> None:
    result = {
        "log": {"events_per_s": 6012.4, "batch": 100, "catch_up_ms": 312.0},
        "behind": {"waiting": 0, "oldest_s": 0.0, "dead": 0},
        "cpu_s_per_1000_events": {"a": 0.1, "b": 0.06},
        "updater_us_per_event": 21.4,
        "stolen_s": 0.4,
    }
    said = line(result)
    late = line(result | {"log": result["log"] | {"catch_up_ms": None}})
    assert "did not know the last one within 5 s" in late
    for part in ("6,012 events/s", "batches of 100", "0.3 s later", "0 waited", "21 us an event", "0.16 s per 1,000"):
        assert part in said


def test_measurement_without_a_stack_says_how_to_start_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest.one_core"]
    environ = {**os.environ, "RIFFLE_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "run `riffle up` first" in done.stderr

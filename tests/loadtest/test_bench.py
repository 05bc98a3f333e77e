"""What is measured of a target, and what a bench says when it cannot run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtest import wrk
from loadtest.bench_table import TITLES, markdown
from loadtest.machine import memory, stack_processes
from loadtest.peers.launch import PEERS
from loadtest.target import Load, Target, closed_loop, highest_rate, open_loop
from service.settings import Settings
from service.stack import processes
from tests.loadtest.server import Behaviour, server

ROOT = Path(__file__).resolve().parents[2]


def bench(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtest.bench", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, timeout=60)


def executable(folder: Path, script: str) -> Path:
    """A `wrk` that runs a shell script."""
    folder.mkdir(exist_ok=True)
    path = folder / "wrk"
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)
    return path


def test_bench_without_wrk_says_how_to_get_it(tmp_path: Path) -> None:
    done = bench({"PATH": "/nowhere", "RIFFLE_HOME": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr == (
        "bench: wrk is not on PATH; install it (apt-get install wrk, brew install wrk) and run this again\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", ["echo unable to connect >&2; exit 1", "true", "echo '{\"requests\": 1}'"])
def test_wrk_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    executable(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(wrk.WrkError, match=r"wrk failed: .*; check that the service answers"):
        wrk.measure("http://127.0.0.1:1/", connections=1, duration_s=1)


def test_wrk_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "bin", "exec sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(wrk, "_GRACE_S", 0.0)
    process = wrk.start("http://127.0.0.1:1/", connections=1, duration_s=0)
    with pytest.raises(wrk.WrkError, match="wrk did not end"):
        wrk.finish(process, duration_s=0)
    assert process.returncode is not None


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_posts_the_bodies_in_turn_and_counts_what_comes_back(tmp_path: Path) -> None:
    bodies = tmp_path / "bodies"
    bodies.write_text('{"user_id":"1"}\n{"user_id":"2"}\n', "utf-8")
    behaviour = Behaviour(delay_s=0.01, refuse_every=4)
    with server(behaviour) as port:
        found = wrk.measure(f"http://127.0.0.1:{port}/", connections=4, duration_s=1, bodies=bodies)
        silent = wrk.measure(f"http://127.0.0.1:{port}/livez", connections=1, duration_s=1)
    posted = [body for body in behaviour.bodies if body]
    assert set(posted) == {b'{"user_id":"1"}', b'{"user_id":"2"}'}
    assert found.requests == pytest.approx(len(posted), abs=8)
    assert found.non_2xx == pytest.approx(found.requests / 4, rel=0.1)
    assert found.socket_errors == 0
    assert 10 <= found.p50_ms <= found.p99_ms
    assert 100 < found.rps < 400
    assert silent.requests == pytest.approx(len(behaviour.bodies) - len(posted), abs=2)


def test_memory_is_summed_over_the_processes_of_the_stack(tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path))
    assert memory(stack_processes(settings))["by_name_mb"] == {}
    code = "held = bytearray(50 * 2**20); import time; print(len(held), flush=True); time.sleep(60)"
    log = tmp_path / "log"
    recorded = processes.spawn([sys.executable, "-c", code], log=log, environ=os.environ)
    try:
        processes.save(settings.home_path / "run" / "ray.json", recorded)
        while not log.read_text("utf-8"):
            assert processes.alive(recorded)
        found = memory(stack_processes(settings))
    finally:
        processes.end([psutil.Process(recorded.pid)], 5)
    (entry,) = found["by_name_mb"].values()
    assert entry["processes"] == 1
    assert 50 < found["total_mb"]["rss"] < 200
    assert found["total_mb"]["pss"] is None or 50 < found["total_mb"]["pss"] <= found["total_mb"]["rss"]


def target_at(port: int) -> Target:
    return Target("this process", f"http://127.0.0.1:{port}", lambda: [psutil.Process()])


def load_of(tmp_path: Path) -> Load:
    bodies = tmp_path / "bodies"
    bodies.write_text('{"user_id":"1"}\n{"user_id":"2"}\n', "utf-8")
    return Load(bodies, connections=4, seed=7)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_closed_loop_counts_answers_and_what_they_cost(tmp_path: Path) -> None:
    with server(Behaviour(delay_s=0.01)) as port:
        found = closed_loop(target_at(port), load_of(tmp_path), 1)
    assert found["failed"] == 0
    assert found["rps"] == pytest.approx(found["requests"], rel=0.1)
    used_s = sum(found["cpu_s_per_1000_by_process"].values())
    assert used_s == pytest.approx(found["cpu_s_per_1000"], rel=1e-3)
    assert used_s > 0
    assert found["cores_per_billion_a_day"] == pytest.approx(found["cpu_s_per_1000"] * 11.574, rel=0.01)


def test_open_loop_counts_what_is_answered_apart_from_what_is_refused(tmp_path: Path) -> None:
    with server(Behaviour(delay_s=0.01, refuse_every=5)) as port:
        found = open_loop(target_at(port), load_of(tmp_path), 100, 2)
    assert found["answered"] == pytest.approx(0.8 * found["requests"], rel=0.05)
    assert found["cpu_s_per_1000"] > 0


def outcome(p99_ms: float) -> dict[str, Any]:
    return {"latency_ms": {"p99": p99_ms}}


@pytest.mark.parametrize("capacity", [130.0, 555.0, 990.0])
def test_bisection_comes_near_the_highest_rate_that_holds(capacity: float) -> None:
    known: dict[float, dict[str, Any]] = {}
    found = highest_rate(lambda rate: outcome(20 if rate <= capacity else 2000), 100, most=1000, probes=8, known=known)
    assert found <= capacity
    assert found == pytest.approx(capacity, abs=1000 / 2**7)
    assert len(known) == 8


def test_what_is_known_is_not_sent_again_and_a_second_limit_uses_it() -> None:
    known: dict[float, dict[str, Any]] = {700.0: outcome(30)}
    sent: list[float] = []

    def probe(rate: float) -> dict[str, Any]:
        sent.append(rate)
        return outcome(rate / 10)

    high = highest_rate(probe, 100, most=1200, probes=5, known=known)
    low = highest_rate(probe, 50, most=1200, probes=5, known=known)
    assert 900 < high <= 1000
    assert low == 700  # the only one below that was sent
    assert len(sent) == len(set(sent)) == len(known) - 1


def test_where_nothing_holds_the_highest_rate_is_none() -> None:
    assert highest_rate(lambda _: outcome(2000), 100, most=1000, probes=4, known={}) == 0


def one(rps: float) -> dict[str, Any]:
    latency = {"p50": 1.0, "p99": 2.0, "p99.9": 3.0}
    return {
        "closed_loop": {"rps": rps, "failed": 7, "cpu_s_per_1000": 1.5, "cores_per_billion_a_day": 17.4},
        "open_loop": {"latency_ms": latency, "errors": {"timeout": 5}},
        "lone_client": {"p50_ms": 2.5},
        "highest": {"p99_below_100_ms_rps": 900.0, "p99_below_50_ms_rps": 800.0},
        "memory": {"total_mb": {"pss": None, "rss": 3000.0}},
        "same_lists": 1.0,
    }


def test_table_has_a_row_for_each_system_and_as_many_cells_as_names() -> None:
    cost = {"cpu_ms_per_request": 0.5}
    result = {
        "time": "2026-11-27T00:00:00+00:00",
        "commit": "abc",
        "machine": {"cores": 2, "cpu": "one"},
        "noop": {"rps": 4000.0},
        "compute": {"rps": 4000.0, "batch": {"1": cost, "32": cost}},
        "limit_rps": 2000.0,
        "systems": {name: one(1000.0 if name == "colocated" else 250.0) for name in TITLES},
    }
    lines = markdown(result).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 2 + len(TITLES)
    assert {"colocated", "distributed", *PEERS} == set(TITLES)
    assert "| 1,000 | 1.00 | 1.0 / 2.0 / 3.0 | 900 | 800 | 1.50 | 17.4 | 3,000 | 12 | 100% |" in table[2]
    assert "| 250 | 0.25 |" in table[3]
    assert "ours: 50% of it" in "\n".join(lines)

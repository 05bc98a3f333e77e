"""Who is asked for, and what the capacity run says when it cannot run."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import psutil
import pytest

from loadtest import wrk
from loadtest.capacity import row
from loadtest.crowd import Crowd, known_users, newcomers
from loadtest.machine import stack_memory
from recsys.errors import DatasetError
from service.settings import Settings
from service.stack import processes
from tests.loadtest.server import Behaviour, server

ROOT = Path(__file__).resolve().parents[2]
USERS = [f"user-{number}" for number in range(1000)]


# --- the crowd ---


def test_few_users_ask_most_and_some_are_strangers() -> None:
    asked = Counter(Crowd(USERS, seed=1, unknown_share=0.1).draw(20_000))
    known = Counter({user: times for user, times in asked.items() if user in set(USERS)})
    assert known.total() == pytest.approx(18_000, rel=0.03)
    assert sum(times for _, times in known.most_common(100)) > 0.5 * known.total()
    assert len(known) > 800
    assert known.most_common(1)[0][0] != USERS[0]  # the ranks are drawn, not the order of the file


def test_crowd_is_its_seed() -> None:
    first, again, other = (Crowd(USERS, seed=seed).draw(100) for seed in (1, 1, 2))
    assert first == again != other


def test_streams_of_a_seed_agree_on_who_is_popular_and_draw_each_its_own() -> None:
    crowds = [Crowd(USERS, seed=1, unknown_share=0.0, stream=stream) for stream in (0, 1, 2)]
    drawn = [list(islice(crowd, 5000)) for crowd in crowds]
    assert len({tuple(ids) for ids in drawn}) == 3
    assert len({Counter(ids).most_common(1)[0][0] for ids in drawn}) == 1


def test_newcomers_come_once_in_all_runs() -> None:
    first, second = (list(islice(newcomers(), 1000)) for _ in range(2))
    assert len({*first, *second}) == 2000


def test_user_ids_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    path.write_text("a\n\n b\u2028c\n", "utf-8")
    assert known_users(path) == ["a", " b\u2028c"]


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff"])
def test_file_without_user_ids_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ids"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"ids.*one"):
        known_users(path)


# --- the capacity run ---


def capacity(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtest.capacity"]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, timeout=60)


def executable(folder: Path, script: str) -> Path:
    """A `wrk` that runs a shell script."""
    folder.mkdir(exist_ok=True)
    path = folder / "wrk"
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)
    return path


def test_capacity_without_wrk_says_how_to_get_it() -> None:
    done = capacity({"PATH": "/nowhere"})
    assert done.returncode == 1
    assert done.stderr == (
        "capacity: wrk is not on PATH; install it (apt-get install wrk, brew install wrk) and run this again\n"
    )


def test_capacity_without_a_stack_says_how_to_start_one(tmp_path: Path) -> None:
    executable(tmp_path / "bin", "true")
    done = capacity({"PATH": str(tmp_path / "bin"), "RIFFLE_HOME": str(tmp_path / "home")})
    assert done.returncode == 1
    assert "no stack of" in done.stderr
    assert "run `riffle up` first" in done.stderr


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
    assert stack_memory(settings)["by_name_mb"] == {}
    code = "held = bytearray(50 * 2**20); import time; print(len(held), flush=True); time.sleep(60)"
    log = tmp_path / "log"
    recorded = processes.spawn([sys.executable, "-c", code], log=log, environ=os.environ)
    try:
        processes.save(settings.home_path / "run" / "ray.json", recorded)
        while not log.read_text("utf-8"):
            assert processes.alive(recorded)
        found = stack_memory(settings)
    finally:
        processes.end([psutil.Process(recorded.pid)], 5)
    (entry,) = found["by_name_mb"].values()
    assert entry["processes"] == 1
    assert 50 < found["total_mb"]["rss"] < 200
    assert found["total_mb"]["pss"] is None or 50 < found["total_mb"]["pss"] <= found["total_mb"]["rss"]


def test_row_is_a_table_with_as_many_cells_as_names() -> None:
    result = {
        "topology": "colocated",
        "commit": "abc",
        "closed_loop": {"rps": 1000.0, "p50_ms": 1.0, "p99_ms": 2.0, "non_2xx": 3, "socket_errors": 4},
        "open_loop": {
            "intended_rps": 600.0,
            "achieved_rps": 599.0,
            "errors": {"timeout": 5},
            "latency_ms": {"p50": 1.0, "p99": 2.0, "p99.9": 3.0},
        },
        "livez": {"rps": 5000.0},
        "stolen_s": {"closed_loop": 0.25, "open_loop": 1.5},
        "limit_rps": 2000.0,
        "memory": {"total_mb": {"pss": None, "rss": 3000.0}},
    }
    header, rule, cells = row(result).splitlines()
    assert header.count("|") == rule.count("|") == cells.count("|")
    assert "| 1,000 |" in cells
    assert "| 12 |" in cells  # everything that failed, in both loops
    assert "| 50% |" in cells
    assert "| 0.2 / 1.5 |" in cells
    assert "| 3,000 |" in cells

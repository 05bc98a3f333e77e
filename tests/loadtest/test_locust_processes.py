"""Runs of Locust over a master and its workers, and with its web UI: the same verdict, the same exit codes."""

import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.free_ports import free_port
from tests.loadtest.locust_runs import RUN, WIDE, command, environ, shop
from tests.loadtest.server import Behaviour, server

PATIENCE_S = 240.0  # three interpreters that start and end, on a machine that others use: 0.8 s of each took 14 s


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ids").write_text("somebody\nsomebody else\n", "utf-8")
    return tmp_path


@contextmanager
def master_and_workers(folder: Path, port: int, *options: str) -> Iterator[list[subprocess.Popen[str]]]:
    """One master and two workers; those that still run at the end are killed."""
    meeting = str(free_port())
    host = ["--host", f"http://127.0.0.1:{port}"]
    master = ["--headless", "--master", "--expect-workers", "2", "--master-bind-host", "127.0.0.1"]
    worker = ["--worker", "--master-host", "127.0.0.1", "--master-port", meeting]
    commands = [command(*master, "--master-bind-port", meeting, *host, *RUN, *WIDE, *options), *[command(*worker)] * 2]
    started = [
        subprocess.Popen(
            one, cwd=folder, env=environ(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for one in commands
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_master_judges_what_its_workers_saw(folder: Path) -> None:
    served = shop(degraded_every=4)
    with server(Behaviour(body_of=served.answer)) as port, master_and_workers(folder, port, "-t", "4s") as started:
        (_, said), *workers = [process.communicate(timeout=PATIENCE_S) for process in started]
    assert [process.returncode for process in started] == [1, 0, 0], workers
    found = re.search(r"(\d+) of ([\d,]+) lists degraded", said)
    assert found, said
    assert int(found[1]) == pytest.approx(len(served.asked) // 4, abs=4)
    assert int(found[2].replace(",", "")) == pytest.approx(len(served.asked) + len(served.similar), abs=4)
    assert "SLO breach" in said
    assert "ranking timeout" in said
    assert not any("SLO" in told for _, told in workers)


def test_distributed_run_within_its_limits_is_a_pass(folder: Path) -> None:
    with (
        server(Behaviour(body_of=shop().answer)) as port,
        master_and_workers(folder, port, "--shape", "spike", "-t", "4s") as started,
    ):
        said = [process.communicate(timeout=PATIENCE_S)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said[0][-2000:]
    assert "Load test passed: " in said[0]


def test_worker_that_is_killed_spoils_the_run(folder: Path) -> None:
    served = shop()
    with server(Behaviour(body_of=served.answer)) as port, master_and_workers(folder, port, "-t", "8s") as started:
        while not served.asked and started[0].poll() is None:
            time.sleep(0.05)
        started[1].kill()
        said = started[0].communicate(timeout=PATIENCE_S)[1]
    assert started[0].returncode == 1
    assert "1 of 2 processes sent no last report: what they measured is missing." in said


def test_worker_without_the_users_says_so_and_the_run_is_no_pass(folder: Path) -> None:
    with (
        server(Behaviour(body_of=shop().answer)) as port,
        master_and_workers(folder, port, "--user-ids", "elsewhere") as started,
    ):
        said = [process.communicate(timeout=PATIENCE_S)[1] for process in started]
    assert [process.returncode for process in started] == [1, 1, 1], said
    assert "locust: cannot read user ids from elsewhere" in said[1]
    assert "Nothing was measured" in said[0]


def test_web_ui_shows_the_verdict_and_its_run_has_the_same_exit_code(folder: Path) -> None:
    web = str(free_port())
    with server(Behaviour(body_of=shop(degraded_every=2).answer)) as port:
        options = ["--web-host", "127.0.0.1", "--web-port", web, "--autostart", "--autoquit", "3"]
        run = command(*options, "--host", f"http://127.0.0.1:{port}", *RUN, *WIDE)
        with subprocess.Popen(
            run, cwd=folder, env=environ(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            pages = set(polled(f"http://127.0.0.1:{web}/slo", process))
            assert process.stderr
            said = process.stderr.read()
    assert process.returncode == 1, said
    assert any(page.startswith("So far: Load test failed: ") for page in pages), pages
    assert any(page.startswith("Load test failed: ") for page in pages), pages
    assert said.count("Load test failed: ") == 1


def polled(url: str, process: subprocess.Popen[str]) -> Iterator[str]:
    """What a page shows while the process runs."""
    while process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                yield answer.read().decode()
        except OSError:
            pass
        time.sleep(0.2)

"""`riffle train --budget`: killed it leaves nothing behind and goes on later, interrupted it trains with the best.

Only the search beside a service needs the stack of the other files; the others have homes of their own.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from recsys.datasets.synthetic import synthetic
from recsys.manifest import read_manifest
from recsys.registry import Registry
from service.stack.ray_environment import runtime_folder
from tests.e2e.conftest import Riffle
from tests.service.test_cli import write_csv

PATIENCE_S = 240
# A shell starts what is in the background with Ctrl-C ignored, and so is all that is started there.
MAIN = """
import signal
from service.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@contextlib.contextmanager
def started(home: Riffle) -> Iterator[subprocess.Popen[str]]:
    """A search in a process group of its own, as a shell starts one; killed where it has not ended by itself."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "train", "--budget", "1h", "--parallel", "2"],
        env={**os.environ, **home.environ, "RAY_worker_niceness": "0"},  # at 15 trials wait for all other tests
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < PATIENCE_S
        assert process is None or process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.1)


def ended(home: Riffle) -> int:
    """How many trials have a value."""
    return len(list((home.settings.home_path / "searches").glob("*/*.npy")))


def test_killed_search_goes_on_and_an_interrupted_one_is_trained_with(tmp_path: Path) -> None:
    home = Riffle({"RIFFLE_HOME": str(tmp_path / "home")})
    home.must("import", str(write_csv(tmp_path / "shop", synthetic(7, users=60, items=150, sessions=12))))
    with started(home) as killed:
        wait_for(lambda: ended(home) >= 2, killed)
        family = psutil.Process(killed.pid).children(recursive=True)
        assert len(family) > 3
    wait_for(lambda: not any(process.is_running() for process in family))
    before = ended(home)
    with started(home) as again:
        wait_for(lambda: ended(home) >= before + 1, again)
        os.killpg(again.pid, signal.SIGINT)
        printed = again.communicate(timeout=PATIENCE_S)[0]
    assert again.returncode == 0, printed[-3000:]
    trials = ended(home)
    assert f"Best of {trials} trials" in printed
    folder = runtime_folder(home.settings)
    assert not folder.with_name(f"{folder.name}-search").exists()
    bundles = Registry(home.settings.home_path / "registry")
    bundle = bundles.path(bundles.champion() or "")
    fields = read_manifest(bundle).fields
    assert (fields["search"]["trials"], fields["search"]["parallel"], fields["search"]["failed"]) == (trials, 2, 0)
    if fields["search"]["chosen"] == "winner":
        assert fields["search"]["winner"]["values"].items() <= fields["recipe"].items()
    assert "## Hyper-parameter search" in (bundle / "report.md").read_text("utf-8")


@pytest.mark.e2e
def test_search_beside_the_service_of_its_home_leaves_it_alone(colocated: httpx.Client, riffle: Riffle) -> None:
    with started(riffle) as searching:
        wait_for(lambda: ended(riffle) >= 1, searching)
        family = psutil.Process(searching.pid).children(recursive=True)
        assert colocated.get("/readyz").status_code == 200
    wait_for(lambda: not any(process.is_running() for process in family))
    assert colocated.post("/v1/recommendations", json={"user_id": "nobody"}).json()["degraded"] == []
    folder = runtime_folder(riffle.settings)
    shutil.rmtree(folder.with_name(f"{folder.name}-search"))


def test_budget_that_is_no_duration_is_refused_before_anything_begins(tmp_path: Path) -> None:
    home = Riffle({"RIFFLE_HOME": str(tmp_path)})
    for text in ("soon", "0s", "10", "-5m"):
        done = home.run("train", f"--budget={text}")
        assert done.returncode == 2
        assert "is no duration such as 90s, 10m or 1h" in " ".join(done.stderr.replace("│", " ").split())
    with contextlib.suppress(FileNotFoundError):
        assert list(tmp_path.iterdir()) == []

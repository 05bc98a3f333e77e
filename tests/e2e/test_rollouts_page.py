"""docs/rollouts.md, done: every command in its order, and what it prints, but for ids, times and figures."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from service.stack import valkey
from service.traffic.document import Traffic
from service.traffic.table import on_table
from service.world import registry
from tests.e2e.conftest import Riffle
from tests.service.test_cli import write_csv

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "rollouts.md"
_BLOCK = re.compile(r"^```(sh)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENDS = 40.0  # seconds that a rollout may take longer on a slow machine than the page waits


def blocks() -> list[tuple[str, str]]:
    """Commands and what stands below them: "" where nothing does."""
    found: list[tuple[str, str]] = []
    for kind, text in _BLOCK.findall(PAGE.read_text("utf-8")):
        if kind:
            found.append((text.strip().replace("\\\n", " "), ""))
        else:
            found[-1] = (found[-1][0], text)
    return found


def words(line: str) -> list[str]:
    """The words of a line that do not depend on data, machine or moment."""
    kept = re.sub(r"[0-9]{8}-[0-9a-f]{12}|\S*[0-9@]\S*|[^\w\s]+", " ", line).split()
    return [word for word in kept if len(word) > 2 and word not in ("nan", "inf")]


def test_the_page_has_commands_and_what_they_print() -> None:
    commands = [command for command, _ in blocks()]
    assert len(commands) > 15
    assert sum(bool(printed) for _, printed in blocks()) > 8
    for part in ("train", "gate", "shadow report", "rollout start", "rollback", "experiments report"):
        assert any(part in command for command in commands)


@pytest.fixture
def busy(colocated: httpx.Client, riffle: Riffle, tmp_path: Path) -> Iterator[Riffle]:
    """The simulated users of the page."""
    (command,) = [command for command, _ in blocks() if "demo_traffic" in command]
    # For as long as the page needs here, which on a busy machine is longer than where it was written.
    arguments = [sys.executable, *shlex.split(command)[1:], "--duration", "1800"]
    assert colocated.get("/readyz").json()["ready"]
    said = tmp_path / "demo-traffic"
    with said.open("wb") as file:
        environ = {**os.environ, **riffle.environ}
        process = subprocess.Popen(arguments, cwd=ROOT, env=environ, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield riffle
        assert process.poll() is None, said.read_text("utf-8")[-2000:]
    finally:
        process.terminate()
        process.wait(20)


def test_every_command_does_what_the_page_says(busy: Riffle) -> None:
    for command, printed in blocks():
        if command.startswith("make up") or "demo_traffic" in command:
            continue
        if command.startswith("sleep"):
            time.sleep(float(command.split()[1]))
            continue
        environ = dict(re.findall(r"^([A-Z_]+)=(\S+) ", command))
        arguments = shlex.split(command)[len(environ) + 1 :]
        said = busy.must(*arguments, COLUMNS="240", **environ)
        if command == "riffle traffic history":
            until = time.monotonic() + ENDS
            while "is complete" not in said and "is rolled back" not in said and time.monotonic() < until:
                time.sleep(2)
                said = busy.must(*arguments, COLUMNS="240")
        every = words(said)
        for line in printed.splitlines():
            if line.startswith("Version"):
                line = line.partition(", by ")[0]  # who made the last change, and why: other tests of this stack
            missing = [word for word in words(line) if word not in every]
            assert not missing, f"{command}: {line!r} has {missing}, which was not said:\n{said}"


def test_a_bundle_that_learnt_from_noise_is_sent_back_by_itself(
    busy: Riffle, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    """Past the gate, on real users of the simulation: its lists have next to nothing that anybody wants."""
    events = synthetic_dataset.events
    shuffled = replace(events, item=np.random.default_rng(5).permutation(events.item))
    elsewhere = Riffle({"RIFFLE_HOME": str(tmp_path / "elsewhere")})
    noise = replace(synthetic_dataset, events=shuffled, place=None)
    elsewhere.must("import", str(write_csv(tmp_path / "noise", noise)))
    elsewhere.must("train")
    trained = registry(elsewhere.settings)
    shutil.copytree(trained.path("champion"), tmp_path / "bundle")
    bundles = registry(busy.settings)
    bad, champion = bundles.publish(tmp_path / "bundle"), bundles.champion()
    asked = ("--force", "--steps", "50,100", "--hold", "5s", "--hold-users", "20", "--reason", "learnt from noise")
    busy.must("rollout", "start", bad, *asked)
    until, ended = time.monotonic() + 150, Traffic(0, "", "", "", "")
    while "rollout" not in ended.reason.partition(" is ")[0]:
        assert time.monotonic() < until, busy.must("rollout", "status")
        time.sleep(2)
        ended = on_table(str(valkey.address(busy.settings)), lambda table: table.demand())
    assert re.match(r"rollout \S+ is rolled back after [\d,]+ users .*: .+", ended.reason), ended.reason
    assert ended.champion == champion == bundles.champion()

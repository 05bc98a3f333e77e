"""The command that a newcomer runs, in a process of its own: with a service, without one, interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import msgspec
import pytest

from loadtest.demo_traffic import main
from recsys.datasets import dataset as storage
from recsys.datasets.dataset import Dataset
from service.settings import Settings
from tests.free_ports import free_port
from tests.loadtest.server import Behaviour, server
from tests.loadtest.shop import Shop

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = "20261123-0123456789ab"


@pytest.fixture
def home(synthetic_dataset: Dataset, tmp_path: Path) -> Path:
    """A home with an imported data set and the record of a deployment."""
    storage.save(synthetic_dataset, tmp_path / "data" / "synthetic")
    current = {"name": "synthetic", "source": None, "positive_rating": Settings().positive_rating}
    (tmp_path / "data" / "current.json").write_text(json.dumps(current), "utf-8")
    (tmp_path / "run").mkdir()
    (tmp_path / "registry" / "bundles" / BUNDLE).mkdir(parents=True)
    deployed = {"settings": msgspec.to_builtins(Settings()), "redis_url": "redis://nowhere"}
    (tmp_path / "run" / "application.json").write_text(json.dumps(deployed), "utf-8")
    return tmp_path


def service(dataset: Dataset) -> Behaviour:
    """Ready, and with a shop behind it."""
    shop = Shop(dataset.item_id)
    ready = json.dumps({"ready": True, "reasons": [], "bundle": BUNDLE}).encode()
    return Behaviour(body_of=lambda path, body: ready if path == "/readyz" else shop.answer(path, body))


@contextmanager
def started(home: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command; it does not outlive the test, whatever became of that."""
    environ = {**os.environ, "RIFFLE_HOME": str(home), "RIFFLE_HTTP_PORT": str(port), "COLUMNS": "80"}
    command = [sys.executable, "-m", "loadtest.demo_traffic", *options]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=-1, stderr=-1, text=True, bufsize=1) as run:
        try:
            yield run
        finally:
            run.kill()


def ended(home: Path, port: int, *options: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command when it has ended by itself."""
    with started(home, port, *options) as run:
        output, errors = run.communicate(timeout=60)
        return run.returncode, output, errors


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children hear SIGINT, also where these tests do not: a shell has its background jobs ignore it, and theirs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_run_ends_with_its_summary_on_the_screen_and_in_a_file(
    home: Path, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    file = tmp_path / "summary.json"
    with server(service(synthetic_dataset)) as port:
        assert json.load(urlopen(f"http://127.0.0.1:{port}/readyz"))["ready"]  # the server of this test is right
        code, output, errors = ended(home, port, "--duration", "2", "--users", "20", "--seed", "3", "--json", str(file))
    assert (code, errors) == (0, "")
    assert "visits of 20 users, sim-" in output
    assert "Clicks by place" in output
    assert "Expected clicks of a list, by events so far" in output
    summary = json.loads(file.read_text("utf-8"))
    assert summary["bundle"] == BUNDLE
    assert summary["options"] | {"duration": 2.0, "users": 20, "seed": 3} == summary["options"]
    assert summary["lists"] > 20
    assert summary["errors"] == {}


@pytest.mark.usefixtures("interruptible")
def test_interrupt_ends_a_run_with_the_same_summary(home: Path, synthetic_dataset: Dataset) -> None:
    behaviour = service(synthetic_dataset)
    with server(behaviour) as port, started(home, port, "--duration", "600") as run:
        until = time.monotonic() + 60
        while len(behaviour.bodies) < 20 and time.monotonic() < until:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        output, errors = run.communicate(timeout=30)
    assert (run.returncode, errors) == (0, "")
    assert "Expected clicks of a list, by events so far" in output


def test_without_a_service_it_says_how_to_start_one(home: Path) -> None:
    port = free_port()
    code, output, errors = ended(home, port)
    assert (code, output) == (1, "")
    assert errors == f"demo_traffic: no stack of {home}/ answers at http://127.0.0.1:{port}; run `riffle up` first\n"


def test_a_setting_that_cannot_be_is_said(home: Path) -> None:
    code, _, errors = ended(home, 1)
    assert code == 1
    assert errors.startswith("demo_traffic: ")
    assert "http_port" in errors
    assert errors.count("\n") == 1


def test_a_service_that_makes_no_list_is_a_failure(home: Path) -> None:
    ready = json.dumps({"ready": True, "reasons": [], "bundle": BUNDLE}).encode()
    with server(Behaviour(body_of=lambda path, _: ready if path == "/readyz" else b"{}")) as port:
        code, output, errors = ended(home, port, "--duration", "1")
    assert code == 1
    assert errors == "demo_traffic: not one list came; `riffle status` says what runs\n"
    assert "/v1/recommendations answers something else" in output


def test_a_summary_that_cannot_be_written_is_said(home: Path, synthetic_dataset: Dataset, tmp_path: Path) -> None:
    with server(service(synthetic_dataset)) as port:
        code, _, errors = ended(home, port, "--duration", "1", "--json", str(tmp_path / "no" / "folder"))
    assert code == 1
    assert errors.startswith(f"demo_traffic: cannot write {tmp_path / 'no' / 'folder'}: ")


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [("--rate", "0", "0 is not between 0.1 and 10000"), ("--count", "501", "501 is not"), ("--users", "x", "'x'")],
)
def test_options_out_of_range_are_refused(
    option: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo_traffic", option, value])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert reason in capsys.readouterr().err

"""A whole stack of its own for the end-to-end tests: real Valkey, real Ray Serve, real HAProxy, on free ports."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from recsys.datasets.dataset import Dataset
from service.settings import Settings, load
from service.stack.ray_environment import runtime_folder
from tests.free_ports import free_port, ports_in_a_row
from tests.service.telemetry.collectors import Taking, taking
from tests.service.test_cli import write_csv

_PORTS = ("http", "dashboard", "valkey", "ray", "haproxy_stats", "haproxy_metrics", "metrics")


@dataclass
class Riffle:
    """The `riffle` command on a home of its own."""

    environ: dict[str, str]
    collected: Taking = field(default_factory=Taking)
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = load(environ=self.environ)

    def run(self, *arguments: str, timeout_s: float = 240, **more: str) -> subprocess.CompletedProcess[str]:
        """Run one command; its output is captured and returned whatever the exit code."""
        return subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            env={**os.environ, **self.environ, **more},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def must(self, *arguments: str, **more: str) -> str:
        """Run one command that has to succeed; returns what it printed."""
        done = self.run(*arguments, **more)
        assert done.returncode == 0, f"riffle {' '.join(arguments)}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def processes(self) -> list[str]:
        """Command lines of what runs from this home."""
        ours = (str(self.settings.home_path), str(runtime_folder(self.settings)))
        found = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if process.pid != os.getpid() and any(path in line for path in ours):
                found.append(line)
        return found

    def ports(self) -> dict[str, int]:
        """Every fixed port of this stack."""
        return {name: getattr(self.settings, f"{name}_port") for name in _PORTS}


@pytest.fixture(scope="session")
def riffle(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Riffle]:
    """The command with a small world imported and trained, nothing running yet; everything ended afterwards."""
    home: Path = tmp_path_factory.mktemp("e2e")
    environ = {"RIFFLE_HOME": str(home), "RIFFLE_REPLICA_PORT_MIN": str(ports_in_a_row())}
    environ |= {f"RIFFLE_{name.upper()}_PORT": str(free_port()) for name in _PORTS}
    with taking() as (collector, collected):
        traced = {"RIFFLE_OTLP_ENDPOINT": collector, "RIFFLE_TRACE_TRUSTED": "127.0.0.0/8"}
        yield from _trained(Riffle(environ | traced, collected), synthetic_dataset, tmp_path_factory)


def _trained(command: Riffle, synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Riffle]:
    command.must("import", str(write_csv(tmp_path_factory.mktemp("shop") / "small", synthetic_dataset)))
    command.must("train")
    yield command
    command.must("down")


@pytest.fixture(scope="session")
def colocated(riffle: Riffle) -> Iterator[httpx.Client]:
    """A client of the running service, all stages in the gateways."""
    riffle.must("serve")
    with httpx.Client(base_url=f"http://127.0.0.1:{riffle.settings.http_port}", timeout=10) as client:
        yield client

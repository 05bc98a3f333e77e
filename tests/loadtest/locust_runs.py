"""Locust in processes of its own, since importing it patches the standard library, against a small service.

Limits of the generator and of latency are wide where they are not the subject: this machine may be busy.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.loadtest.shop import Shop

ROOT = Path(__file__).resolve().parents[2]
WIDE = ["--generator-lag-ms", "100000", "--generator-cpu", "10000", "--slo-p99-ms", "100000"]
RUN = ["-u", "4", "-r", "4", "-t", "2s", "--think-s", "0.02", "--user-ids", "ids", "--only-summary"]


def shop(degraded_every: int = 0) -> Shop:
    return Shop([f"item-{number}" for number in range(2000)], degraded_every=degraded_every)


def command(*options: str, file: Path = ROOT / "loadtest" / "locustfile.py") -> list[str]:
    return [sys.executable, "-m", "locust", "-f", str(file), *options]


def environ(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "RIFFLE_HOME": str(folder / "home")}


def locust(
    folder: Path, port: int, *options: str, file: Path = ROOT / "loadtest" / "locustfile.py"
) -> subprocess.CompletedProcess[str]:
    """Two seconds of Locust."""
    run = command("--headless", "--host", f"http://127.0.0.1:{port}", *RUN, *WIDE, *options, file=file)
    return subprocess.run(run, cwd=folder, env=environ(folder), capture_output=True, text=True, timeout=240)


def verdict(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of the verdict, at the very end."""
    lines = done.stderr.strip().splitlines()
    first = max(number for number, line in enumerate(lines) if line.startswith("Load test "))
    return lines[first:]

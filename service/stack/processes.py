"""Processes of ours, on record: found again after the CLI has gone, and never mistaken for someone else's.

A process is known by its number and its birth, because numbers are reused. Every process is started as the
leader of a session of its own, and what it starts stays in that session even when the leader is killed:
the members of the session are exactly what has to end.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One session leader of ours: its process id, its birth, and a digest of what it was started with."""

    pid: int
    birth: str
    fingerprint: str = ""


def spawn(argv: Sequence[str], *, log: Path, environ: Mapping[str, str], fingerprint: str = "") -> Recorded:
    """Start `argv` in a session of its own, output appended to `log`; it outlives this process.

    `posix_spawn` rather than `Popen`: nobody here waits for the child, and `Popen` insists on that.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    pid = os.posix_spawn(
        argv[0],
        list(argv),
        dict(environ),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    return Recorded(pid=pid, birth=birth(pid) or "", fingerprint=fingerprint)


def save(path: Path, recorded: Recorded) -> None:
    """Write a record, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.encode(recorded))
    temporary.replace(path)


def load(path: Path) -> Recorded | None:
    """Read a record; None when there is none, or when it does not decode."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Recorded)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def birth(pid: int) -> str | None:
    """When process `pid` began, as a token to compare; None when it does not run (a zombie does not).

    On Linux: the boot's id and the kernel's start tick. A wall-clock time would move with the clock.
    """
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *fields = stat.rpartition(")")[2].split()
        return None if state in "ZX" else f"{_boot()}/{fields[18]}"
    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE
        return None if ended else f"{_boot()}/{process.create_time():.3f}"
    except psutil.NoSuchProcess:
        return None


def alive(recorded: Recorded) -> bool:
    """True while the recorded process itself runs."""
    return birth(recorded.pid) == recorded.birth


def session(recorded: Recorded) -> list[psutil.Process]:
    """The running members of the recorded process's session, whether or not their leader still runs."""
    now = birth(recorded.pid)
    if now is not None and now != recorded.birth:
        return []  # the number was given away, which the kernel does only after the last member has gone
    if recorded.birth.partition("/")[0] != _boot():
        return []
    return session_of(recorded.pid)


def session_of(sid: int) -> list[psutil.Process]:
    """The running members of session `sid`; never the caller's own session."""
    if sid == os.getsid(0):
        return []
    members = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == sid and birth(pid) is not None:
                members.append(psutil.Process(pid))
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue
    return members


def end(processes: Iterable[psutil.Process], grace_s: float) -> list[psutil.Process]:
    """SIGTERM, wait up to `grace_s` seconds, SIGKILL what is left; returns those that would not end."""
    waiting = list(processes)
    for process in waiting:
        _signal(process.terminate)
    _, waiting = psutil.wait_procs(waiting, timeout=grace_s)
    for process in waiting:
        _signal(process.kill)
    return psutil.wait_procs(waiting, timeout=3)[1]


def tail(log: Path, lines: int = 8) -> str:
    """The last lines of a log; empty when there is none."""
    try:
        return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def _boot() -> str:
    if sys.platform == "linux":
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return "boot"  # elsewhere the birth is a stored time of day, which no later boot repeats


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        send()

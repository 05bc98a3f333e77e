"""Something that answers recommendations over HTTP, and what one load on it gives: rates, latencies, what it costs."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from loadtest import machine, wrk
from loadtest.compute import ONE_THREAD
from loadtest.deployed import COUNT, PATH
from service.errors import StackError

REQUESTS_A_DAY = 1e9
_DAY_S = 86_400
_GRACE_S = 60.0


@dataclass(frozen=True)
class Target:
    """What is loaded.

    Attributes:
        url: Without a path.
        processes: All that run for it now, the store among them: whose CPU time and memory it costs.
    """

    name: str
    url: str
    processes: Callable[[], list[psutil.Process]]


@dataclass(frozen=True)
class Load:
    """What is sent, to every target alike.

    Attributes:
        bodies: A file of JSON bodies, one a line, sent in turn. connections: Of the closed loop.
    """

    bodies: Path
    connections: int
    seed: int


@contextmanager
def load_of(users: Iterable[str], *, connections: int, seed: int, **fields: Any) -> Iterator[Load]:
    """Requests for a list of each of these users, with further fields of the body where some are given."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps({"user_id": user, "count": COUNT, **fields}) + "\n" for user in users)
        file.flush()
        yield Load(Path(file.name), connections, seed)


def closed_loop(target: Target, load: Load, seconds: int) -> dict[str, Any]:
    """As many requests as it answers: the rate at saturation, with its cost. What is refused is no answer.

    Raises:
        WrkError: wrk is missing or failed.
    """
    with Meter(target) as meter:
        measured = wrk.measure(target.url + PATH, connections=load.connections, duration_s=seconds, bodies=load.bodies)
    answered = measured.requests - measured.non_2xx
    return {
        "seconds": seconds,
        "rps": round(answered / measured.duration_s, 1),
        "requests": measured.requests,
        "p50_ms": measured.p50_ms,
        "p99_ms": measured.p99_ms,
        "failed": measured.non_2xx + measured.socket_errors,
        **meter.cost(answered),
    }


def open_loop(
    target: Target, load: Load, rate: float | str, seconds: float, *, options: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Requests that leave when they are due (Poisson), answered or not; the outcome of `loadtest.open_loop`.

    `rate` and `options` are those of its command line.
    """
    command = ["loadtest.open_loop", target.url + PATH, "--bodies", str(load.bodies), "--rate", str(rate)]
    command += ["--duration", str(seconds), "--seed", str(load.seed), *options]
    with Meter(target) as meter:
        outcome = child(command, b"", seconds)
    return {**outcome, **meter.cost(outcome["answered"])}


class Meter:
    """CPU time of a target's processes while the context lasts, and processor time that the host took away."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def __enter__(self) -> "Meter":
        self._before, self._stolen_s = machine.cpu_s(self._target.processes()), machine.stolen_s()
        return self

    def __exit__(self, *_: object) -> None:
        after = machine.cpu_s(self._target.processes())
        self.cpu_s = {kind: used - self._before.get(kind, 0.0) for kind, used in after.items()}
        self.stolen_s = machine.stolen_s() - self._stolen_s

    def cost(self, answered: int) -> dict[str, Any]:
        """CPU seconds of a thousand answers, by kind of process, and the cores that a billion a day would keep busy."""
        each = {kind: round(1e3 * used / max(answered, 1), 4) for kind, used in sorted(self.cpu_s.items()) if used > 0}
        total = sum(each.values())
        return {
            "cpu_s_per_1000": round(total, 4),
            "cpu_s_per_1000_by_process": each,
            "cores_per_billion_a_day": round(total / 1e3 * REQUESTS_A_DAY / _DAY_S, 2),
            "stolen_s": round(self.stolen_s, 2),
        }


def highest_rate(
    probe: Callable[[float], dict[str, Any]], limit_ms: float, *, most: float, probes: int, known: dict[float, dict]
) -> float:
    """The highest rate, requests/s, whose p99 stays below a limit; bisection between 0 and `most`.

    Failed requests count as ones that took the whole timeout, so more than one in a hundred is above any limit.

    Args:
        probe: The outcome of an open loop at a rate. known: Outcomes by rate, read and added to.
    Returns:
        The highest rate that was sent and held; 0 where none was.
    """

    def holds(rate: float) -> bool:
        if rate not in known:
            known[rate] = probe(rate)
        return known[rate]["latency_ms"]["p99"] < limit_ms

    for rate in sorted(known):
        holds(rate)
    low = max((rate for rate in known if holds(rate)), default=0.0)
    high = min((rate for rate in known if not holds(rate) and rate > low), default=most)
    for _ in range(probes):
        middle = round((low + high) / 2, 1)
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def child(module: list[str], given: bytes, lasts_s: float) -> dict[str, Any]:
    """The JSON that a module of ours prints, run in a process of its own.

    Raises:
        StackError: it failed, or does not end.
    """
    command = [sys.executable, "-m", *module]
    environ = {**os.environ, **ONE_THREAD}
    try:
        done = subprocess.run(command, input=given, env=environ, capture_output=True, timeout=lasts_s + _GRACE_S)
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"{module[0]} did not end in {lasts_s + _GRACE_S:.0f} s; is the machine overloaded?"
        ) from error
    if done.returncode:
        raise StackError(f"{module[0]} failed: {done.stderr.decode('utf-8', 'replace').strip()[-600:]}")
    return json.loads(done.stdout)


def memory(target: Target) -> dict[str, Any]:
    """Memory of the target's processes; see `machine.memory`."""
    return machine.memory(target.processes())


def settle(seconds: float = 1.0) -> None:
    """Let what the last load has left behind be worked off."""
    time.sleep(seconds)

"""An open-loop load: requests leave when a Poisson process says so, whether or not earlier ones were answered.

A closed loop (wrk, Locust) sends less while the service stalls, and so forgets to measure the stall: coordinated
omission. Here each latency counts from the moment the request was due.
"""

import argparse
import asyncio
import json
import selectors
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from loadtest.connection import Answer, Connections

CONNECTIONS = 256
REFUSED = 429
TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Plan:
    """What to send where. `bodies` are sent in turn; at most `connections` requests are under way.

    `rates`, requests/s, one after the other, each for an equal part of the duration.
    """

    host: str
    port: int
    path: str
    bodies: list[bytes]
    rates: tuple[float, ...]
    duration_s: float
    seed: int = 7
    connections: int = CONNECTIONS
    timeout_s: float = TIMEOUT_S


@dataclass(frozen=True)
class Outcome:
    """What came of it. `latency_ms` is over all requests; a failed one counts as one that took the whole timeout.

    Attributes:
        answered_ms, refused_ms: Of the answered ones alone, and of those that got a 429. no_retry_after: 429s that do
            not say when to come back.
        send_delay_ms: How late the generator itself sent: a part of every latency that is not the service's.
        by_second: Of the requests that were due in each second: how many, how many answered and refused, p50 and p99.
    """

    intended_rps: float
    scheduled_rps: float
    achieved_rps: float
    requests: int
    answered: int
    degraded: int
    errors: dict[str, int]
    latency_ms: dict[str, float]
    answered_ms: dict[str, float]
    refused_ms: dict[str, float]
    no_retry_after: int
    send_delay_ms: dict[str, float]
    connections_opened: int
    cpu_share: float
    duration_s: float
    seed: int
    by_second: list[dict[str, float]]


def run(plan: Plan) -> Outcome:
    """Send the plan's load and wait for its answers, at most `timeout_s` after the last was due."""
    # select() sleeps to the microsecond, epoll to the millisecond: half of one would be added to every latency.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(_Load(plan).run())


class _Load:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        rng = np.random.default_rng(plan.seed)
        part_s = plan.duration_s / len(plan.rates)
        parts = [_poisson(rng, rate, part_s) + number * part_s for number, rate in enumerate(plan.rates)]
        self._due = np.concatenate(parts)
        self._status = np.zeros(len(self._due), np.int16)
        self._latency_s = np.full(len(self._due), plan.timeout_s)
        self._send_delay_s = np.zeros(len(self._due))
        self._errors: Counter[str] = Counter()
        self._degraded = self._under_way = self._no_retry_after = 0
        self._connections = Connections(plan.host, plan.port, limit=plan.connections)
        self._requests = [self._connections.request(plan.path, body) for body in plan.bodies]

    async def run(self) -> Outcome:
        loop = asyncio.get_running_loop()
        cpu_began, self._began = time.process_time(), loop.time()
        for number, due_s in enumerate(self._due):
            if (wait_s := self._began + due_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            self._send(number)
        await asyncio.sleep(self._began + self.plan.duration_s - loop.time())
        while self._under_way:  # each of them has a timer
            await asyncio.sleep(0.005)
        elapsed_s = loop.time() - self._began
        cpu_share = (time.process_time() - cpu_began) / elapsed_s
        await self._connections.close()
        return self._outcome(cpu_share)

    def _send(self, number: int) -> None:
        due = self._began + float(self._due[number])
        self._under_way += 1
        self._send_delay_s[number] = asyncio.get_running_loop().time() - due
        request = self._requests[number % len(self._requests)]
        self._connections.send(request, due + self.plan.timeout_s, partial(self._count, number, due))

    def _count(self, number: int, due: float, answer: Answer) -> None:
        self._under_way -= 1
        self._status[number] = answer.status
        if answer.status:
            self._latency_s[number] = asyncio.get_running_loop().time() - due
        if 200 <= answer.status < 300:
            self._degraded += b'"degraded":[{' in answer.body
        else:
            self._errors[answer.failure or f"status {answer.status}"] += 1
            self._no_retry_after += answer.status == REFUSED and not answer.retry_after

    def _outcome(self, cpu_share: float) -> Outcome:
        requests, failed = len(self._due), sum(self._errors.values())
        answered, refused = self._status // 100 == 2, self._status == REFUSED
        counted_s = np.where(answered, self._latency_s, self.plan.timeout_s)
        return Outcome(
            intended_rps=round(float(np.mean(self.plan.rates)), 1),
            scheduled_rps=round(requests / self.plan.duration_s, 1),
            achieved_rps=round((requests - failed) / self.plan.duration_s, 1),
            requests=requests,
            answered=requests - failed,
            degraded=self._degraded,
            errors=dict(self._errors),
            latency_ms=percentiles(counted_s),
            answered_ms=percentiles(self._latency_s[answered]),
            refused_ms=percentiles(self._latency_s[refused]),
            no_retry_after=self._no_retry_after,
            send_delay_ms=percentiles(self._send_delay_s),
            connections_opened=self._connections.opened,
            cpu_share=round(cpu_share, 3),
            duration_s=self.plan.duration_s,
            seed=self.plan.seed,
            by_second=self._by_second(answered, refused),
        )

    def _by_second(self, answered: np.ndarray, refused: np.ndarray) -> list[dict[str, float]]:
        second = self._due.astype(int)
        rows = []
        for at in range(int(np.ceil(self.plan.duration_s))):
            own = second == at
            found = percentiles(self._latency_s[own & answered])
            counts = {"due": int(own.sum()), "answered": int(answered[own].sum()), "refused": int(refused[own].sum())}
            rows.append({"second": at, **counts, **{name: found[name] for name in ("p50", "p99") if found}})
        return rows


def _poisson(rng: np.random.Generator, rate: float, duration_s: float) -> np.ndarray:
    """When requests are due, float64 seconds from 0 on."""
    due = np.cumsum(rng.exponential(1 / rate, int(rate * duration_s * 1.5) + 100))
    return due[due < duration_s]


def percentiles(seconds: np.ndarray) -> dict[str, float]:
    """The percentiles of durations, in ms by name; none of none."""
    if not len(seconds):
        return {}
    names = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}
    return {name: round(float(np.percentile(seconds, q)) * 1e3, 3) for name, q in names.items()}


def main() -> None:
    """Send a load; print its outcome as one JSON object."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("url", help="http://host:port/path that takes POST")
    parser.add_argument("--bodies", type=Path, required=True, help="file of JSON bodies, one a line, sent in turn")
    parser.add_argument("--rate", required=True, help="requests per second on average; or several, 100,900,100")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="requests under way, at most")
    options = parser.parse_args()
    url = urlsplit(options.url)
    bodies = [line for line in options.bodies.read_bytes().splitlines() if line]
    try:
        rates = tuple(map(float, options.rate.split(",")))
    except ValueError:
        rates = ()
    sound = bool(bodies and rates) and all(rate > 0 for rate in rates) and options.duration > 0
    if url.scheme != "http" or not url.hostname or not sound:
        sys.exit("open_loop: needs an http:// URL, at least one body, a rate and a duration above 0")
    plan = Plan(
        url.hostname,
        url.port or 80,
        url.path,
        bodies,
        rates,
        options.duration,
        options.seed,
        options.connections,
    )
    print(json.dumps(asdict(run(plan))))


if __name__ == "__main__":
    main()

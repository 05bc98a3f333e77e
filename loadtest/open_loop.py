"""An open-loop load: requests leave when a Poisson process says so, whether or not earlier ones were answered.

A closed loop (wrk, Locust) sends less while the service stalls, and so forgets to measure the stall: coordinated
omission. Here each latency counts from the moment the request was due.
"""

import argparse
import asyncio
import contextlib
import json
import selectors
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httptools
import numpy as np

CONNECTIONS = 256
TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Plan:
    """What to send where. `bodies` are sent in turn; at most `connections` requests are under way."""

    host: str
    port: int
    path: str
    bodies: list[bytes]
    rate: float
    duration_s: float
    seed: int = 7
    connections: int = CONNECTIONS
    timeout_s: float = TIMEOUT_S


@dataclass(frozen=True)
class Outcome:
    """What came of it. `latency_ms` is over all requests; a failed one counts as one that took the whole timeout.

    `send_delay_ms` is how late the generator itself sent: a part of every latency that is not the service's.
    """

    intended_rps: float
    scheduled_rps: float
    achieved_rps: float
    requests: int
    answered: int
    degraded: int
    errors: dict[str, int]
    latency_ms: dict[str, float]
    send_delay_ms: dict[str, float]
    connections_opened: int
    cpu_share: float
    duration_s: float
    seed: int


def run(plan: Plan) -> Outcome:
    """Send the plan's load and wait for its answers, at most `timeout_s` after the last was due."""
    # select() sleeps to the microsecond, epoll to the millisecond: half of one would be added to every latency.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(_Load(plan).run())


class _Load:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        rng = np.random.default_rng(plan.seed)
        gaps = rng.exponential(1 / plan.rate, int(plan.rate * plan.duration_s * 1.5) + 100)
        due = np.cumsum(gaps)
        self._due = due[due < plan.duration_s]
        self._latency_s = np.full(len(self._due), plan.timeout_s)
        self._send_delay_s = np.zeros(len(self._due))
        self._errors: Counter[str] = Counter()
        self._degraded = self._opened = self._under_way = 0
        self._opening: set[asyncio.Task[None]] = set()
        self.connections: set[_Connection] = set()
        self.idle: list[_Connection] = []
        head = f"POST {plan.path} HTTP/1.1\r\nhost: {plan.host}:{plan.port}\r\ncontent-type: application/json\r\n"
        self._requests = [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in plan.bodies]

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
        for connection in list(self.connections):
            connection.close()
        await asyncio.gather(*self._opening)
        await asyncio.sleep(0)  # the closed transports' callbacks
        return self._outcome(cpu_share)

    def succeed(self, number: int, *, degraded: bool) -> None:
        """Answered in time."""
        self._under_way -= 1
        self._latency_s[number] = asyncio.get_running_loop().time() - self.due(number)
        self._degraded += degraded

    def fail(self, kind: str) -> None:
        """Not answered, or not well."""
        self._under_way -= 1
        self._errors[kind] += 1

    def due(self, number: int) -> float:
        """When a request was to leave, on the loop's clock."""
        return self._began + float(self._due[number])

    def request(self, number: int) -> bytes:
        return self._requests[number % len(self._requests)]

    def _send(self, number: int) -> None:
        self._under_way += 1
        self._send_delay_s[number] = asyncio.get_running_loop().time() - self.due(number)
        if self.idle:
            self.idle.pop().send(number)
        elif len(self.connections) + len(self._opening) < self.plan.connections:
            task = asyncio.get_running_loop().create_task(self._send_on_new_connection(number))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self.fail("no free connection")

    async def _send_on_new_connection(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        self._opened += 1
        try:
            async with asyncio.timeout_at(self.due(number) + self.plan.timeout_s):
                where = self.plan.host, self.plan.port
                _, connection = await loop.create_connection(lambda: _Connection(self), *where)
        except TimeoutError:
            self.fail("timeout")
        except OSError:
            self.fail("not connected")
        else:
            connection.send(number)

    def _outcome(self, cpu_share: float) -> Outcome:
        requests, failed = len(self._due), sum(self._errors.values())
        return Outcome(
            intended_rps=self.plan.rate,
            scheduled_rps=round(requests / self.plan.duration_s, 1),
            achieved_rps=round((requests - failed) / self.plan.duration_s, 1),
            requests=requests,
            answered=requests - failed,
            degraded=self._degraded,
            errors=dict(self._errors),
            latency_ms=_percentiles(self._latency_s),
            send_delay_ms=_percentiles(self._send_delay_s),
            connections_opened=self._opened,
            cpu_share=round(cpu_share, 3),
            duration_s=self.plan.duration_s,
            seed=self.plan.seed,
        )


class _Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self._number: int | None = None
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._load.connections.add(self)

    def send(self, number: int) -> None:
        if self._transport.is_closing():
            self._load.fail("connection lost")
            return
        self._number, self._body = number, b""
        deadline = self._load.due(number) + self._load.plan.timeout_s
        self._timer = asyncio.get_running_loop().call_at(deadline, self._abandon, "timeout")
        self._transport.write(self._load.request(number))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._abandon("not HTTP")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._number is None:
            return
        number, self._number = self._number, None
        self._timer.cancel()
        status = self._parser.get_status_code()
        if 200 <= status < 300:
            self._load.succeed(number, degraded=b'"degraded":[{' in self._body)
        else:
            self._load.fail(f"status {status}")
        if self._parser.should_keep_alive():
            self._load.idle.append(self)
        else:
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._load.connections.discard(self)
        with contextlib.suppress(ValueError):
            self._load.idle.remove(self)
        if self._number is not None:
            self._abandon("connection lost")

    def close(self) -> None:
        self._transport.close()

    def _abandon(self, kind: str) -> None:
        """Give the request up, and the connection with it: a late answer must not be taken for the next one."""
        if self._number is not None:
            self._number = None
            self._timer.cancel()
            self._load.fail(kind)
        self._transport.abort()  # type: ignore[attr-defined]


def _percentiles(seconds: np.ndarray) -> dict[str, float]:
    if not len(seconds):
        return {}
    names = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}
    return {name: round(float(np.percentile(seconds, q)) * 1e3, 3) for name, q in names.items()}


def main() -> None:
    """Send a load; print its outcome as one JSON object."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("url", help="http://host:port/path that takes POST")
    parser.add_argument("--bodies", type=Path, required=True, help="file of JSON bodies, one a line, sent in turn")
    parser.add_argument("--rate", type=float, required=True, help="requests per second, on average")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    url = urlsplit(options.url)
    bodies = [line for line in options.bodies.read_bytes().splitlines() if line]
    if url.scheme != "http" or not url.hostname or not bodies or options.rate <= 0 or options.duration <= 0:
        sys.exit("open_loop: needs an http:// URL, at least one body, a rate and a duration above 0")
    plan = Plan(url.hostname, url.port or 80, url.path, bodies, options.rate, options.duration, options.seed)
    print(json.dumps(asdict(run(plan))))


if __name__ == "__main__":
    main()

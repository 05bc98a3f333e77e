"""What telemetry costs of a gateway's throughput: with and without it, in turns, in one process.

    python -m loadtest.telemetry_cost

The edge, the gateway and the stages of a replica, in process, on the champion and the store of what is up; no sockets
to clients in between, which would hide a difference of 2 %. `bare` has no telemetry, `counts` counts everything and
traces nothing, `traced` traces 1 % as well and sends it to a collector in a process of its own. Every round asks each
of them for the same lists, in an order that rotates. Processor seconds are those of the whole process, its sending
threads included. One JSON file in results/, one line printed for each.
"""

import argparse
import asyncio
import gc
import json
import multiprocessing
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import numpy as np

from loadtest import machine
from loadtest.crowd import Crowd, known_users
from loadtest.deployed import COUNT, PATH, RESULTS, deployed
from recsys.errors import RecsysError
from recsys.evaluation.bootstrap import mean_interval
from recsys.types import World
from service import lanes
from service.decisions import DecisionLog
from service.errors import ServiceError, StackError
from service.gateway import Gateway
from service.http import HttpEdge
from service.lookup import StateLookup
from service.round_trips import RoundTrips
from service.settings import Settings, load
from service.stages import ColocatedStages
from service.telemetry.lists import ListWatch
from service.telemetry.process import ProcessTelemetry
from service.telemetry.requests import RequestWatch
from service.warm_up import warm_up
from service.world import load_world

SAMPLE = 0.01
ARMS: dict[str, float | None] = {"bare": None, "counts": 0.0, "traced": SAMPLE}
CONCURRENCY = 32  # requests under way: a full micro-batch
WARM_UP = 640
_HEADERS = [(b"content-type", b"application/json"), (b"x-request-id", b"0" * 32)]
_KEY = "0" * 32


class NoRequests(RequestWatch):
    """Sees nothing."""

    def began(self, *_: Any) -> None:
        return None

    def ended(self, *_: Any) -> None:
        return None


class NoLists(ListWatch):
    """Sees nothing."""

    def count(self, *_: Any) -> None:
        return None


def collect(told: Connection) -> None:
    """A collector that takes everything and keeps nothing: tells its port, and once asked how many bytes came."""
    came: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(len(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.send(server.server_address[1])
    told.recv()
    told.send(sum(came))


def edge_of(arm: str, world: World, stages: ColocatedStages, decisions: DecisionLog, settings: Settings) -> HttpEdge:
    """An edge and the gateway behind it, with as much telemetry as the arm has. Needs a running event loop."""
    gateway, nobody = Gateway(world, stages, decisions, settings), None
    watch: RequestWatch = NoRequests()
    if ARMS[arm] is None:
        gateway.lists = NoLists()
        gateway._personal._run = partial(lanes.by_lane, gateway._run_personal)
    else:
        telemetry = ProcessTelemetry(settings, "gateway", lambda _: None)
        gateway.lists.pseudonyms, watch = telemetry.pseudonyms, telemetry.request_watch()
    others: list[Any] = [nobody] * 6  # backends that no list needs
    return HttpEdge(gateway, *others, watch=watch)


async def ask(edge: HttpEdge, bodies: list[bytes]) -> float:
    """All of them, CONCURRENCY at a time, as Serve's server calls the edge; processor seconds of this process.

    Raises:
        StackError: a list was not answered with 200.
    """
    waiting, failed = iter(bodies), 0

    async def send(message: Any) -> None:
        nonlocal failed
        failed += message.get("status", 200) != 200

    async def visitor() -> None:
        for body in waiting:
            scope = {"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(), "headers": _HEADERS}

            async def receive(body: bytes = body) -> dict[str, Any]:
                return {"type": "http.request", "body": body, "more_body": False}

            await edge(scope, receive, send)

    began = time.process_time()
    await asyncio.gather(*(visitor() for _ in range(CONCURRENCY)))
    took_s = time.process_time() - began
    if failed:
        raise StackError(f"{failed} of {len(bodies)} lists were not answered with 200")
    return took_s


async def measure(
    world: World, redis_url: str, settings: Settings, users: list[str], *, rounds: int, requests: int, seed: int
) -> dict[str, list[float]]:
    """Processor microseconds of a request, of each arm in each round."""
    warm_up(world, max_batch=settings.max_batch)  # or the first lists would be refused
    store = RoundTrips(redis_url, timeout_ms=1_000, connections=4)
    lookup = StateLookup(store)
    await lookup.refresh()
    stages = ColocatedStages(lookup)
    decisions = DecisionLog(store, queue=1, stream_length=100)
    told, child = multiprocessing.Pipe()
    collector = multiprocessing.get_context("spawn").Process(target=collect, args=(child,), daemon=True)
    collector.start()
    endpoint = f"http://127.0.0.1:{told.recv()}"
    plain = {"deadline_ms": 10_000, "decision_sample": 0.0, "log_key": _KEY}
    edges = {}
    for arm, share in ARMS.items():
        more = {"trace_sample": share or 0.0, "otlp_endpoint": endpoint if share else ""}
        edges[arm] = edge_of(arm, world, stages, decisions, msgspec.structs.replace(settings, **plain, **more))
    crowd = Crowd(users, seed=seed)
    gc.collect()
    gc.set_threshold(50_000, 20, 100)  # as in a replica
    try:
        for edge in edges.values():
            await ask(edge, _bodies(crowd, WARM_UP))
        took_us: dict[str, list[float]] = {arm: [] for arm in ARMS}
        for number in range(rounds):
            bodies = _bodies(crowd, requests)
            turn = number % len(ARMS)
            for arm in [*ARMS][turn:] + [*ARMS][:turn]:
                took_us[arm].append(1e6 * await ask(edges[arm], bodies) / requests)
    finally:
        told.send(None)
        collector.join(5)
        await store.close()
    if not told.recv():
        raise StackError("no trace has reached the collector; more rounds or requests")
    return took_us


def summary(took_us: dict[str, list[float]], *, seed: int) -> dict[str, dict[str, float]]:
    """Of each arm the median, and what of `bare` it costs in percent, with a 95 % interval over rounds."""
    bare = np.array(took_us["bare"])
    found = {}
    for arm, values in took_us.items():
        share = 100 * (np.array(values) / bare - 1)
        of = mean_interval(share, np.arange(len(share)), seed=seed)
        found[arm] = {
            "us_per_request": round(float(np.median(values)), 1),
            "requests_per_core_s": round(1e6 / float(np.median(values))),
            "cost_percent": round(float(np.median(share)), 2),
            **{name: round(getattr(of, name), 2) for name in ("mean", "low", "high")},
        }
    return found


def _bodies(crowd: Crowd, n: int) -> list[bytes]:
    return [json.dumps({"user_id": user, "count": COUNT}).encode() for user in crowd.draw(n)]


def main() -> int:
    """Measure on the champion and the store of what is up."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=450)
    parser.add_argument("--requests", type=int, default=640, help="of each arm in a round; few: speed drifts")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    try:
        stack = deployed(load())
        world = load_world(stack.settings, stack.bundle)
        given = {"rounds": options.rounds, "requests": options.requests, "seed": options.seed}
        stolen_s = machine.stolen_s()
        took_us = asyncio.run(measure(world, stack.redis_url, stack.settings, known_users(None), **given))
        stolen_s = machine.stolen_s() - stolen_s
    except (RecsysError, ServiceError) as error:
        print(f"telemetry_cost: {error}", file=sys.stderr)
        return 1
    found = summary(took_us, seed=options.seed)
    result = {**machine.facts(), **given, "sample": SAMPLE, "arms": found, "us": took_us, "stolen_s": stolen_s}
    path = RESULTS / f"{result['time'][:10]}-telemetry-cost.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    for arm, of in found.items():
        print(
            f"{arm:7} {of['us_per_request']:7.1f} us a request, {of['requests_per_core_s']:,} a second of a core; "
            f"costs {of['cost_percent']:+.2f} % (mean {of['mean']:+.2f}, {of['low']:+.2f} to {of['high']:+.2f})"
        )
    print(f"\nWritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

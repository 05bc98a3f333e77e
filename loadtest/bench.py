"""Ours and its peers in one run: the same bundle, states, candidates and ranker, on one machine, one after the other.

    python -m loadtest.bench            (make bench; --full: make bench-full)

For each system: wrk in a closed loop (the rate at saturation), an open loop at 70 % of it, bisection for the highest
rate with p99 below 100 and 50 ms, CPU time of all its processes, memory. For ours also what nothing costs (GET /livez)
and the compute alone in process. One JSON file in results/, one Markdown table printed.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from loadtest import compute, machine, wrk
from loadtest.bench_table import markdown
from loadtest.crowd import Crowd, known_users
from loadtest.deployed import COUNT, PATH, RESULTS, Deployed, deployed
from loadtest.peers.launch import ENVIRONMENT, PEERS, started
from loadtest.target import Load, Target, child, closed_loop, highest_rate, load_of, memory, open_loop, settle
from recsys.errors import RecsysError
from service.errors import ServiceError, StackError
from service.settings import Settings, load
from service.stack import application, ray_head

BODIES = 20_000
TAIL_SHARE = 0.7  # of the rate at saturation
LIMITS_MS = (50.0, 100.0)  # the lower one first: what holds it holds the other
COMPUTE_USERS = 512
COMPARED = 50  # users whose lists every system is asked for
PEER_PORT_AFTER = 1000  # above our HTTP port
OURS = ("colocated", "distributed")
SHORT = ("fastapi_uvicorn", "lit_batching", "bento_batching", "ray_docs", "ray_docs_throughput")


@dataclass(frozen=True)
class Options:
    """Of one run; durations in seconds."""

    systems: tuple[str, ...]
    seconds: int
    probe_s: int
    probes: int
    warm_up_s: int
    connections: int
    seed: int
    user_ids: Path | None


def measure(options: Options) -> dict[str, Any]:
    """The whole run; which system is up after it is the last one's doing.

    Raises:
        ServiceError, RecsysError: no wrk, no users, a system that does not start.
    """
    settings = load()
    if (peers := [name for name in options.systems if name in PEERS]) and not ENVIRONMENT.exists():
        raise StackError(f"{', '.join(peers)} need packages of their own; run `make bench`, which installs them")
    crowd = Crowd(known_users(options.user_ids), seed=options.seed)
    users = crowd.draw(BODIES)
    results: dict[str, Any] = {}
    stack = deployed(settings)
    with load_of(users, connections=options.connections, seed=options.seed) as given:
        expected: list[list[str]] = []
        for name in options.systems:
            with _system(name, stack, settings) as target:
                _say(f"{name}: warming up")
                wrk.measure(
                    target.url + PATH,
                    connections=options.connections,
                    duration_s=options.warm_up_s,
                    bodies=given.bodies,
                )
                settle()
                lists = _lists(target, users[:COMPARED])
                expected = expected or lists
                results[name] = _measured(target, given, options)
                same = sum(one == other for one, other in zip(lists, expected, strict=True))
                results[name]["same_lists"] = round(same / len(expected), 3)
                if name == "colocated":
                    floors = _floors(target, stack, users, options)
    return {
        **machine.facts(),
        "bundle": stack.bundle,
        "settings": _public(settings),
        "load": {
            "arrivals": "closed loop: wrk, one thread; open loop: Poisson, latency from when a request was due",
            "users": f"{len(set(users)):,} of Zipf's law, 2 % unknown",
            "count": COUNT,
            "connections": options.connections,
            "warm_up_s": options.warm_up_s,
            "closed_loop_s": options.seconds,
            "open_loop_s": options.seconds,
            "probe_s": options.probe_s,
            "probes": options.probes,
            "seed": options.seed,
        },
        **floors,
        "systems": results,
    }


@contextlib.contextmanager
def _system(name: str, stack: Deployed, settings: Settings) -> Iterator[Target]:
    """One system, up and the only one that is; a peer has the store and the bundle of the stack that was."""
    if name in OURS:
        riffle("serve", RIFFLE_TOPOLOGY=name)
        yield Target(name, application.url(settings), partial(machine.stack_processes, settings))
        return
    ray_head.stop(settings)
    port = settings.http_port + PEER_PORT_AFTER
    with started(name, stack.settings, stack.bundle, stack.redis_url, port) as peer:
        yield Target(name, peer.url, lambda: [*peer.processes(), *machine.store_processes(settings)])


def _measured(target: Target, given: Load, options: Options) -> dict[str, Any]:
    _say(f"{target.name}: closed loop, {options.seconds} s")
    closed = closed_loop(target, given, options.seconds)
    settle()
    lone = wrk.measure(target.url + PATH, connections=1, duration_s=max(2, options.seconds // 4), bodies=given.bodies)
    rate = round(TAIL_SHARE * closed["rps"], 1)
    _say(f"{target.name}: {closed['rps']:,.0f} requests/s; open loop at {rate:,}, {options.seconds} s")
    tail = open_loop(target, given, rate, options.seconds)
    settle()
    known = {rate: tail}
    highest = {}
    for limit_ms in LIMITS_MS:
        highest[f"p99_below_{limit_ms:g}_ms_rps"] = highest_rate(
            partial(open_loop, target, given, seconds=options.probe_s),
            limit_ms,
            most=1.2 * closed["rps"],
            probes=options.probes,
            known=known,
        )
    return {
        "closed_loop": closed,
        "lone_client": {"rps": round(lone.rps, 1), "p50_ms": lone.p50_ms, "p99_ms": lone.p99_ms},
        "open_loop": tail,
        "highest": highest,
        "probes": [known[rate] for rate in sorted(known)],
        "memory": memory(target),
    }


def _floors(target: Target, stack: Deployed, users: list[str], options: Options) -> dict[str, Any]:
    """A request that does nothing, through HAProxy and our edge; the compute in process; and the limit that follows."""
    floor_s = max(2, options.seconds // 2)
    _say(f"GET /livez, {floor_s} s; compute in process")
    floor = wrk.measure(f"{target.url}/livez", connections=options.connections, duration_s=floor_s)
    job = compute.Job(stack.bundle, stack.redis_url, users[:COMPUTE_USERS], 2.0)
    alone = child(["loadtest.compute"], msgspec.json.encode(job), 2.0 * len(compute.BATCHES))
    batch = max(b for b in compute.BATCHES if b <= max(1, options.connections // stack.settings.gateways))
    compute_rps = machine.describe()["cores"] * 1e3 / alone["batch"][str(batch)]["cpu_ms_per_request"]
    return {
        "noop": {"rps": round(floor.rps, 1), "p50_ms": floor.p50_ms, "p99_ms": floor.p99_ms},
        "compute": {**alone, "rps": round(compute_rps, 1), "of_batch": batch},
        "limit_rps": round(1 / (1 / floor.rps + 1 / compute_rps), 1),
    }


def _lists(target: Target, users: list[str]) -> list[list[str]]:
    """The items that each user gets."""
    found = []
    for user in users:
        answer = application.ask_at(target.url + PATH, {"user_id": user, "count": COUNT})
        found.append([item["item_id"] for item in answer["items"]])
    return found


def riffle(*arguments: str, **environ: str) -> None:
    """Our own command line, as an operator uses it."""
    command = [sys.executable, "-m", "service", *arguments]
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True)
    if done.returncode:
        raise StackError(f"`riffle {' '.join(arguments)}` failed: {(done.stderr or done.stdout).strip()[-600:]}")


def _public(settings: Settings) -> dict[str, Any]:
    """The settings that bear on speed: no address, no path."""
    private = ("home", "redis_url")
    return {name: value for name, value in msgspec.to_builtins(settings).items() if name not in private}


def _say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def _options() -> tuple[Options, Path]:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--full", action="store_true", help="every system, and longer")
    known = (*OURS, *PEERS)
    parser.add_argument("--systems", nargs="+", choices=known, help=f"default: {' '.join((*OURS, *SHORT))}")
    parser.add_argument("--seconds", type=int, help="of the closed loop, and of the open one; default: 6, full 30")
    parser.add_argument("--probe-seconds", type=int, help="of each step of the search; default: 3, full 15")
    parser.add_argument("--probes", type=int, help="steps of the search for each limit; default: 2, full 5")
    parser.add_argument("--connections", type=int, default=32, help="of the closed loop")
    parser.add_argument("--seed", type=int, default=7, help="who asks, and when")
    parser.add_argument("--user-ids", type=Path, help="file of user ids, one a line; default: the imported data set")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    given = parser.parse_args()
    full = given.full
    systems = tuple(given.systems or (known if full else (*OURS, *SHORT)))
    if "colocated" not in systems:
        systems = ("colocated", *systems)  # what all others are beside
    options = Options(
        systems=tuple(dict.fromkeys(systems)),
        seconds=given.seconds or (30 if full else 6),
        probe_s=given.probe_seconds or (15 if full else 3),
        probes=(5 if full else 2) if given.probes is None else given.probes,
        warm_up_s=10 if full else 3,
        connections=given.connections,
        seed=given.seed,
        user_ids=given.user_ids,
    )
    return options, given.results


def main() -> int:
    """Measure ours and its peers; the exit code is 1, with one sentence, where that cannot be done."""
    options, folder = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    try:
        wrk.find()
        riffle("up")
        try:
            result = measure(options)
        finally:
            riffle("serve")  # as the settings want it, whatever was measured last
    except (RecsysError, ServiceError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['time'][:10]}-bench.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(f"{markdown(result)}\nWritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

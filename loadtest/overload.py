"""What comes of more requests than can be answered: one, two, five and ten times the capacity, in an open loop.

    python -m loadtest.overload

The whole service on one core, the load on another, so that ten times the capacity can be sent at all; with
--proxy-apart HAProxy has no part of the first core, as on a machine that has cores for it. Of each step: how
many lists came (goodput, beside the capacity), their p99, how many were refused and how soon, and whether all is as
before a few seconds later. One JSON file in results/, one Markdown table printed.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from loadtest import affinity, machine
from loadtest.bench import BODIES
from loadtest.crowd import Crowd, known_users
from loadtest.deployed import RESULTS, deployed
from loadtest.target import Target, closed_loop, load_of, open_loop, settle
from recsys.errors import RecsysError
from service.errors import ServiceError, StackError
from service.settings import Settings, load
from service.stack import application

FACTORS = (1, 2, 5, 10)
CALM_SHARE = 0.5  # of the capacity, before and after
RECOVERED_AFTER_S = 5.0
CONNECTIONS = 512  # under way at most: what ten times the capacity keeps busy while each waits 20 ms
LATE_MS = 20.0  # of the generator's p99: beyond, it was the bottleneck


def measure(settings: Settings, *, seconds: int, seed: int, proxy_apart: bool) -> dict[str, Any]:
    """Overload what is up.

    Args:
        proxy_apart: HAProxy beside the load.

    Raises:
        ServiceError, RecsysError: nothing is up, no users, no wrk, fewer than two cores, or no way to pin.
    """
    stack = deployed(settings)
    usable = affinity.cores()
    if len(usable) < 2:
        raise StackError("one core is for the service and one for the load; this machine offers only one")
    users = Crowd(known_users(None), seed=seed).draw(BODIES)
    target = Target("overloaded", application.url(settings), lambda: machine.stack_processes(settings))
    options = ("--connections", str(CONNECTIONS))
    with (
        load_of(users, connections=32, seed=seed) as given,
        affinity.pinned(lambda: _members(settings, proxy=not proxy_apart), usable[0]),
        affinity.pinned(lambda: [psutil.Process()], usable[1]),
        affinity.pinned(lambda: _proxies(settings) if proxy_apart else [], usable[1]),
    ):
        closed_loop(target, given, 6)  # warm-up
        closed = closed_loop(target, given, seconds)
        calm_rate = round(CALM_SHARE * closed["rps"], 1)
        calm = open_loop(target, given, calm_rate, seconds / 2)
        steps = []
        for factor in FACTORS:
            print(f"  {factor} x {closed['rps']:,.0f} requests/s, {seconds} s", file=sys.stderr, flush=True)
            found = open_loop(target, given, round(factor * closed["rps"], 1), seconds, options=options)
            time.sleep(RECOVERED_AFTER_S)
            after = open_loop(target, given, calm_rate, seconds / 2)
            steps.append(_step(factor, closed["rps"], found) | {"after": after, "outcome": found})
            settle()
    return {
        **machine.facts(),
        "topology": stack.settings.topology,
        "gateways": stack.settings.gateways,
        "cores": {"service": usable[0], "load": usable[1], "proxy": usable[int(proxy_apart)]},
        "seconds": seconds,
        "capacity": closed,
        "calm": calm,
        "steps": steps,
    }


def _members(settings: Settings, *, proxy: bool) -> list[psutil.Process]:
    proxies = [] if proxy else _proxies(settings)
    return [process for process in machine.stack_processes(settings) if process not in proxies]


def _proxies(settings: Settings) -> list[psutil.Process]:
    return [process for process in machine.stack_processes(settings) if process.name() == "haproxy"]


def _step(factor: int, capacity_rps: float, found: dict[str, Any]) -> dict[str, Any]:
    refused = found["errors"].get("status 429", 0)
    return {
        "factor": factor,
        "goodput_rps": found["achieved_rps"],
        "of_capacity": round(found["achieved_rps"] / capacity_rps, 3),
        "answered_p99_ms": found["answered_ms"].get("p99"),
        "refused": refused,
        "refused_p99_ms": found["refused_ms"].get("p99"),
        "failed": sum(found["errors"].values()) - refused,
        "no_retry_after": found["no_retry_after"],
        "generator_late": found["send_delay_ms"]["p99"] > LATE_MS,
    }


def table(result: dict[str, Any]) -> str:
    """A row for each step."""
    rows = [
        "| load | lists/s | of capacity | their p99, ms | refused | p99 of refusals, ms | failed | 5 s later, p99 ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in result["steps"]:
        after = one["after"]
        calm = f"{after['answered_ms']['p99']:.1f}" + (
            f", {sum(after['errors'].values())} failed" if after["errors"] else ""
        )
        late = " (generator late)" if one["generator_late"] else ""
        refused_ms = "" if one["refused_p99_ms"] is None else f"{one['refused_p99_ms']:.1f}"
        rows.append(
            f"| {one['factor']} x{late} | {one['goodput_rps']:,.0f} | {one['of_capacity']:.2f} | "
            f"{one['answered_p99_ms']:.1f} | {one['refused']:,} | {refused_ms} | {one['failed']:,} | {calm} |"
        )
    return "\n".join(rows)


def main() -> int:
    """Overload what is up."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=int, default=15, help="of each step")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--proxy-apart", action="store_true", help="HAProxy on the core of the load")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    options = parser.parse_args()
    try:
        result = measure(load(), seconds=options.seconds, seed=options.seed, proxy_apart=options.proxy_apart)
    except (RecsysError, ServiceError) as error:
        print(f"overload: {error}", file=sys.stderr)
        return 1
    options.results.mkdir(parents=True, exist_ok=True)
    apart = "-proxy-apart" if options.proxy_apart else ""
    path = options.results / f"{result['time'][:10]}-overload{apart}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(f"{table(result)}\n\nWritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

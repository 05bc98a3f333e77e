"""Does it stay as it is? An open loop at a share of saturation on what is up, minute by minute.

    python -m loadtest.soak --minutes 30

Saturation is that of a closed loop of ten seconds before. Then one open loop of a minute after the other, Poisson
arrivals, latency from the moment a request was due; after each the memory of all processes. Prints a table; the JSON
file in results/ has it all. Drift is the p50 of the last minute beside that of the first.
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from loadtest import machine, wrk
from loadtest.crowd import Crowd, known_users
from loadtest.deployed import PATH, RESULTS, deployed
from loadtest.target import Target, closed_loop, load_of, memory, open_loop, settle
from recsys.errors import RecsysError
from service.errors import ServiceError
from service.settings import load
from service.stack import application

BODIES = 20_000
SATURATION_S, WARM_UP_S = 10, 5
CONNECTIONS = 32


def measure(minutes: int, share: float, seed: int) -> dict[str, Any]:
    """The whole run.

    Raises:
        ServiceError, RecsysError: nothing is up, no wrk, no users.
    """
    settings = load()
    stack = deployed(settings)
    target = Target("soak", application.url(settings), partial(machine.stack_processes, settings))
    users = Crowd(known_users(None), seed=seed).draw(BODIES)
    rows = []
    with load_of(users, connections=CONNECTIONS, seed=seed) as given:
        wrk.measure(target.url + PATH, connections=CONNECTIONS, duration_s=WARM_UP_S, bodies=given.bodies)
        settle()
        saturation = closed_loop(target, given, SATURATION_S)
        rate = round(share * saturation["rps"], 1)
        settle()
        for minute in range(1, minutes + 1):
            row = open_loop(target, given, rate, 60)
            row["memory"] = memory(target)
            rows.append(row)
            print(line(minute, row), file=sys.stderr, flush=True)
    return {
        **machine.facts(),
        "bundle": stack.bundle,
        "share": share,
        "saturation": saturation,
        "rate": rate,
        "minutes": rows,
        "p50_last_over_first": round(rows[-1]["latency_ms"]["p50"] / rows[0]["latency_ms"]["p50"], 3),
        "failed": sum(failed(row) for row in rows),
        "requests": sum(row["requests"] for row in rows),
    }


def failed(row: dict[str, Any]) -> int:
    """Requests of a minute that got no list, refused ones among them."""
    return int(row["requests"] - row["answered"])


def line(minute: int, row: dict[str, Any]) -> str:
    """One minute, for who watches."""
    latency = row["latency_ms"]
    return (
        f"minute {minute:3}: p50 {latency['p50']:7.1f}  p99 {latency['p99']:7.1f}  p99.9 {latency['p99.9']:7.1f} ms  "
        f"failed {failed(row):5}  memory {row['memory']['total_mb']['rss']:7,.0f} MB  stolen {row['stolen_s']:5.1f} s"
    )


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.7, help="of the rate at saturation")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    given = parser.parse_args()
    if given.minutes < 1 or not 0 < given.share < 1:
        parser.error("--minutes must be at least 1, --share between 0 and 1")
    try:
        found = measure(given.minutes, given.share, given.seed)
    except (ServiceError, RecsysError, wrk.WrkError) as error:
        sys.exit(f"soak: {error}")
    given.results.mkdir(parents=True, exist_ok=True)
    path = given.results / f"{datetime.now(UTC):%Y-%m-%d}-soak.json"
    path.write_text(json.dumps(found, indent=1), "utf-8")
    print(
        f"{found['requests']:,} requests at {found['rate']:,}/s, {given.share:.0%} of saturation; "
        f"{found['failed']} failed or refused; p50 of the last minute {found['p50_last_over_first']:.2f} times that of "
        f"the first; written to {path}"
    )


if __name__ == "__main__":
    main()

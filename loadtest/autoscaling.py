"""Gateways that follow the load, up and down: how many there are, the rate and the p99 over time, in one plot.

    python -m loadtest.autoscaling

Deploys the champion with one to three gateways and a short delay before one is taken away, sends a load that rises
above what one can answer and falls again, over connections that stay open, and afterwards deploys as before. What is
up is ended first. One JSON file and one PNG in results/.
"""

import argparse
import csv
import io
import json
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from loadtest import machine
from loadtest.bench import BODIES, riffle
from loadtest.crowd import Crowd, known_users
from loadtest.deployed import RESULTS
from loadtest.target import Target, closed_loop, load_of, open_loop
from recsys.errors import RecsysError
from service.errors import ServiceError, StackError
from service.settings import Settings, load
from service.stack import application

GATEWAYS, GATEWAYS_MAX, DOWNSCALE_DELAY_S = 1, 3, 20
SHARES = (0.3, 0.8, 1.25, 1.25, 1.25, 0.8, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3)  # of what one gateway answers
CALM_S = 90.0  # at most, until one is left


def measure(settings: Settings, *, seconds: float, seed: int) -> dict[str, Any]:
    """Send the load and watch.

    Raises:
        ServiceError, RecsysError: no champion, no users, no wrk, or more than one gateway stays where nothing is asked.
    """
    users = Crowd(known_users(None), seed=seed).draw(BODIES)
    target = Target("autoscaled", application.url(settings), lambda: machine.stack_processes(settings))
    with load_of(users, connections=16, seed=seed) as given:
        one = closed_loop(target, given, 4)["rps"]
        _wait_for_one(settings)
        rates = ",".join(str(round(share * one, 1)) for share in SHARES)
        print(f"  one gateway: {one:,.0f} requests/s; {rates} for {seconds:g} s each", file=sys.stderr, flush=True)
        seen: list[dict[str, float]] = []
        stop = threading.Event()
        watch = threading.Thread(target=_watch, args=(settings, seen, stop))
        watch.start()
        try:
            found = open_loop(target, given, rates, seconds * len(SHARES))
        finally:
            stop.set()
            watch.join()
    return {
        **machine.facts(),
        "gateways": {"min": GATEWAYS, "max": GATEWAYS_MAX, "downscale_delay_s": DOWNSCALE_DELAY_S},
        "one_gateway_rps": one,
        "shares": SHARES,
        "part_s": seconds,
        "changes": changes([int(row["gateways"]) for row in seen]),
        "replicas": seen,
        "outcome": found,
    }


def in_rotation(settings: Settings) -> int:
    """Gateways that HAProxy sends requests to.

    Raises:
        StackError: its statistics cannot be read.
    """
    url = f"http://127.0.0.1:{settings.haproxy_stats_port}/stats;csv"
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return servers_up(answer.read().decode("utf-8"))
    except (OSError, KeyError) as error:
        raise StackError(f"the statistics of HAProxy at {url} cannot be read: {error}") from error


def servers_up(statistics: str) -> int:
    """Servers that are up and no mere backup, in the backend with the most of them: the others serve nothing."""
    by_backend: dict[str, int] = {}
    for row in csv.DictReader(io.StringIO(statistics.removeprefix("# "))):
        if row["svname"] not in ("FRONTEND", "BACKEND") and row["status"].startswith("UP") and row["act"] == "1":
            by_backend[row["pxname"]] = by_backend.get(row["pxname"], 0) + 1
    return max(by_backend.values(), default=0)


def changes(replicas: list[int]) -> list[int]:
    """Each number of gateways once, in order of time: steady scaling rises once and falls once."""
    return [count for place, count in enumerate(replicas) if place == 0 or replicas[place - 1] != count]


def _watch(settings: Settings, seen: list[dict[str, float]], stop: threading.Event) -> None:
    began = time.monotonic()
    while not stop.wait(0.5):
        try:
            seen.append({"second": round(time.monotonic() - began, 1), "gateways": in_rotation(settings)})
        except StackError:
            continue  # HAProxy is being replaced by one with other servers


def _wait_for_one(settings: Settings) -> None:
    began = time.monotonic()
    while in_rotation(settings) > GATEWAYS:
        if time.monotonic() - began > CALM_S:
            raise StackError(f"more than {GATEWAYS} gateway is left after {CALM_S:.0f} s without load")
        time.sleep(1)


def plot(result: dict[str, Any], path: Path) -> None:
    """Rate, gateways and p99, one above the other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    seconds = result["outcome"]["by_second"]
    at = [row["second"] for row in seconds]
    figure, (rate, replicas, tail) = pyplot.subplots(3, 1, figsize=(9, 7), sharex=True, layout="constrained")
    rate.plot(at, [row["due"] for row in seconds], color="0.6", label="asked")
    rate.plot(at, [row["answered"] for row in seconds], color="tab:blue", label="answered")
    rate.set_ylabel("requests/s")
    rate.legend(frameon=False)
    replicas.step(
        [row["second"] for row in result["replicas"]], [row["gateways"] for row in result["replicas"]], where="post"
    )
    replicas.set_ylabel("gateways in rotation")
    replicas.set_yticks(range(GATEWAYS_MAX + 1))
    tail.plot(at, [row.get("p99", float("nan")) for row in seconds], color="tab:red")
    tail.axhline(100, color="0.6", linestyle=":")
    tail.set_ylabel("p99 of a second, ms")
    tail.set_yscale("log")
    tail.set_xlabel("seconds")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> int:
    """Deploy, measure, deploy as before."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=15, help="of each of the twelve parts of the load")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the two files")
    options = parser.parse_args()
    try:
        riffle("down")  # another number of gateways at most is another Ray
        riffle(
            "serve",
            RIFFLE_GATEWAYS=str(GATEWAYS),
            RIFFLE_GATEWAYS_MAX=str(GATEWAYS_MAX),
            RIFFLE_DOWNSCALE_DELAY_S=str(DOWNSCALE_DELAY_S),
        )
        try:
            result = measure(load(), seconds=options.seconds, seed=options.seed)
        finally:
            riffle("down")
            riffle("serve")
    except (RecsysError, ServiceError) as error:
        print(f"autoscaling: {error}", file=sys.stderr)
        return 1
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"{result['time'][:10]}-autoscaling.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    plot(result, path.with_suffix(".png"))
    found = result["outcome"]
    failed = {kind: count for kind, count in found["errors"].items() if kind != "status 429"}
    print(
        f"gateways {', '.join(map(str, result['changes']))}; {found['answered']:,} of {found['requests']:,} answered, "
        f"{found['errors'].get('status 429', 0):,} refused, {sum(failed.values())} failed {failed or ''}; "
        f"p50 / p99 {found['answered_ms']['p50']:.1f} / {found['answered_ms']['p99']:.1f} ms"
        f"\n\nWritten to {path} and .png"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a change of the model, or a shadow, costs those who ask meanwhile: their latency, beside calm stretches.

    python -m loadtest.hot_swaps --others CHALLENGER ANOTHER

On what is up, an open loop at a fixed rate (Poisson arrivals, latency from the moment a request was due), in rounds of
four stretches: nothing changes; a bundle makes a share of the lists as well, as a shadow; the champion and the one
before it change places; a bundle that nobody holds is loaded, warmed and promoted, one after the other in a circle of
three. The champion is afterwards what it was. Prints a table; the JSON file in results/ has it all.
"""

import argparse
import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loadtest import machine, runs
from loadtest.crowd import Crowd, known_users
from loadtest.deployed import RESULTS, deployed
from loadtest.target import Load, Target, load_of, memory, open_loop, settle
from recsys.errors import RecsysError
from recsys.experiments.buckets import BUCKETS
from service.errors import ServiceError
from service.settings import load
from service.shadow import STREAM
from service.stack import application
from service.store_client import store_client
from service.traffic import switching
from service.traffic.document import Shadow, Traffic
from service.traffic.table import TrafficTable, on_table
from service.world import registry

BODIES, CONNECTIONS = 20_000, 256
WHO = "hot_swaps"
STRETCHES = ("calm", "shadowed", "swapped", "loaded")
Meanwhile = Callable[[], AbstractContextManager[dict[str, Any]]]  # what it yields has, in the end, what was done
PERCENTILES = ("p50", "p99", "p99.9", "max")


@contextmanager
def promoting(redis_url: str, bundles: tuple[str, ...], every_s: float) -> Iterator[dict[str, Any]]:
    """Promote these bundles in turn until the context ends; the seconds from each change to the last replica."""
    took: list[float] = []
    done = threading.Event()
    failed: list[BaseException] = []

    async def work(table: TrafficTable) -> None:
        for bundle in cycle(bundles):
            if done.is_set():
                return
            took.append((await switching.promote(table, bundle, who=WHO, reason="to see what it costs"))[1])
            await asyncio.sleep(every_s)

    def run() -> None:
        try:
            on_table(redis_url, work)
        except (ServiceError, RecsysError) as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    if bundles:
        thread.start()
    try:
        yield {"promotions_s": took}
    finally:
        done.set()
        if bundles:
            thread.join()
    if failed:
        raise failed[0]


@contextmanager
def shadowing(redis_url: str, bundle: str, share: float) -> Iterator[dict[str, Any]]:
    """Have a bundle make a share of the lists, in percent, as well until the context ends; how many it made."""

    def shadowed(of: Shadow | None) -> Callable[[Traffic], Traffic]:
        return lambda now: msgspec.structs.replace(now, shadow=of).check()

    async def begin(table: TrafficTable) -> None:
        on = shadowed(Shadow(bundle, round(share * BUCKETS / 100)))
        await switching.load_and_switch(table, [bundle], on, who=WHO, reason="to see what it costs")

    def made() -> int:
        with store_client(redis_url, timeout_s=10) as client:
            return int(client.xinfo_stream(STREAM)["entries-added"]) if client.exists(STREAM) else 0

    on_table(redis_url, begin)
    found, before = {"shadow_lists": 0}, made()
    try:
        yield found
    finally:
        found["shadow_lists"] = made() - before
        on_table(redis_url, lambda table: switching.switch(table, shadowed(None), who=WHO, reason="seen"))


def stretch(target: Target, given: Load, meanwhile: Meanwhile, options: Any) -> dict[str, Any]:
    """One stretch of load, and what happens meanwhile."""
    with meanwhile() as done:
        row = open_loop(target, given, options.rate, options.seconds)
    return {**row, **done}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds.

    Raises:
        ServiceError, RecsysError: nothing is up, no users, no such bundle, or a replica cannot load one.
    """
    settings = load()
    stack = deployed(settings)
    others = [registry(settings).resolve(one) for one in options.others]
    if len({stack.bundle, *others}) < 3:
        raise ServiceError("--others has to name two bundles that are not the champion; `riffle bundles list` has them")
    url, circle = stack.redis_url, (*others, stack.bundle)
    stretches: dict[str, Meanwhile] = {
        "calm": lambda: nullcontext({}),
        "shadowed": lambda: shadowing(url, others[0], options.shadow_share),
        "swapped": lambda: promoting(url, (others[0], stack.bundle), options.every),
        "loaded": lambda: promoting(url, circle, options.every),
    }
    target = Target("hot swaps", application.url(settings), partial(machine.stack_processes, settings))
    users = Crowd(known_users(None), seed=options.seed).draw(BODIES)
    rounds = []
    with load_of(users, connections=CONNECTIONS, seed=options.seed) as given:
        open_loop(target, given, options.rate, 5)
        before = memory(target)
        try:
            for number in range(options.rounds):
                rounds.append({name: stretch(target, given, stretches[name], options) for name in STRETCHES})
                print(f"round {number + 1}: {line(rounds[-1])}", file=sys.stderr, flush=True)
        finally:
            on_table(url, partial(switching.promote, bundle=stack.bundle, who=WHO, reason="as it was"))
        settle()
    about = {
        "rate": options.rate,
        "shadow_share": options.shadow_share,
        "seconds": options.seconds,
        "every_s": options.every,
        "bundles": [stack.bundle, *others],
    }
    return {**machine.facts(), **about, "memory_before": before, "memory_after": memory(target), "rounds": rounds}


def line(one: dict[str, Any]) -> str:
    """One round, for who watches."""
    return "  ".join(
        f"{name} p50 {row['latency_ms']['p50']:.1f} p99 {row['latency_ms']['p99']:.1f}" for name, row in one.items()
    )


def markdown(found: dict[str, Any]) -> str:
    """The table: medians over the rounds, and the ratio to the calm stretch of the same round."""
    lines = [
        "| | "
        + " | ".join(f"{one} ms" for one in PERCENTILES)
        + " | p99 beside calm | shadow's lists | changes | reached all after, max | not answered |"
    ]
    lines.append("|---" * 9 + "|---|")
    for name in STRETCHES:
        rows = [one[name] for one in found["rounds"]]
        cells = [f"{np.median([row['latency_ms'][of] for row in rows]):.1f}" for of in PERCENTILES]
        beside = np.median(
            [one[name]["latency_ms"]["p99"] / one["calm"]["latency_ms"]["p99"] for one in found["rounds"]]
        )
        took = [second for row in rows for second in row.get("promotions_s", ())]
        shadowed = sum(row.get("shadow_lists", 0) for row in rows)
        reached = f"{max(took):.2f} s" if took else ""
        lost = sum(row["requests"] - row["answered"] for row in rows)
        done = f"{shadowed:,}" if shadowed else "", str(len(took) or ""), reached
        cells += [f"{beside:.2f}", *done, f"{lost} of {sum(row['requests'] for row in rows):,}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    before, after = (found[of]["total_mb"]["pss"] for of in ("memory_before", "memory_after"))
    return "\n".join(
        [*lines, "", f"{found['rate']:g} requests/s; memory (PSS) {before:,.0f} MB before, {after:,.0f} after."]
    )


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", nargs=2, required=True, metavar="BUNDLE", help="two bundles beside the champion")
    parser.add_argument("--rate", type=float, default=300.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a stretch")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between one change and the next")
    parser.add_argument("--shadow-share", type=float, default=10.0, help="percent of the lists that the shadow makes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    given = parser.parse_args()
    if not 0 < given.shadow_share <= 100:
        parser.error("--shadow-share must be above 0, 100 at most")
    if min(given.rounds, given.seconds, given.rate) <= 0:
        parser.error("--rounds, --seconds and --rate must be above 0")
    try:
        found = measure(given)
    except (ServiceError, RecsysError) as error:
        sys.exit(f"hot_swaps: {error}")
    runs.keep(found, "hot-swaps", given.results)
    print(markdown(found))


if __name__ == "__main__":
    main()

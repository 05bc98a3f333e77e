"""Simulated users with known tastes on the running stack, to watch: do the lists get better as events arrive?

    python -m loadtest.demo_traffic            (make demo-traffic)

The users are new in every run; what they like is invented, and what goes with what is read off the imported data
(recsys/simulation). So the truth is known: the clicks that a list will get on average, those of the popular items, and
those of the best list there is.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from loadtest.connection import Connections
from loadtest.deployed import Deployed, deployed
from loadtest.open_loop import CONNECTIONS
from loadtest.simulated_users import SimulatedUsers
from loadtest.tally import Tally
from loadtest.traffic_display import show, tables
from recsys.errors import RecsysError
from recsys.simulation.visits import Habits
from recsys.simulation.world import SimulatedWorld
from service.cli.console import output
from service.errors import ServiceError
from service.imports import imported
from service.settings import Settings, load

START_S = datetime(2025, 1, 6, 14, tzinfo=UTC).timestamp()  # simulated; the day is at its mean then, and rising


def traffic(settings: Settings, world: SimulatedWorld, tally: Tally, options: argparse.Namespace) -> None:
    """Send the visits and show what comes of them, until the time is over or Ctrl-C."""
    visits = world.visits(START_S, options.duration * options.speed)
    prefix = f"sim-{datetime.now(UTC):%Y%m%dT%H%M%S}-"
    output.print(f"{len(visits):,} visits of {options.users:,} users, {prefix}<n>, in {options.duration:.0f} s")

    async def run() -> None:
        connections = Connections("127.0.0.1", settings.http_port, limit=CONNECTIONS)
        users = SimulatedUsers(world, connections, tally, prefix=prefix, speed=options.speed, count=options.count)
        display = asyncio.create_task(show(tally, output))
        try:
            await users.come(visits, start_s=START_S, duration_s=options.duration)
        finally:
            display.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await display
            await connections.close()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


def main() -> int:
    """Watch simulated users meet the running stack; Ctrl-C ends it, too, with the same summary."""
    options = _options()
    tally, habits = Tally(options.count), Habits()
    habits = Habits(visits_per_s=options.rate / (options.speed * habits.mean_lists))
    try:
        settings = load()
        stack = deployed(settings)
        with output.status("Reading tastes off the imported data"):
            world = SimulatedWorld.over(imported(settings), users=options.users, seed=options.seed, habits=habits)
    except (RecsysError, ServiceError) as error:
        print(f"demo_traffic: {error}", file=sys.stderr)
        return 1
    began = time.monotonic()
    traffic(settings, world, tally, options)
    return _report(tally, time.monotonic() - began, stack, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--duration", type=_within(float, 1, 86_400), default=60.0, help="seconds")
    parser.add_argument("--rate", type=_within(float, 0.1, 10_000), default=50.0, help="lists per second, on average")
    parser.add_argument("--speed", type=_within(float, 1, 86_400), default=60.0, help="simulated seconds per second")
    parser.add_argument("--users", type=_within(int, 1, 10_000), default=300, help="simulated; a few come often")
    parser.add_argument("--count", type=_within(int, 1, 500), default=10, help="items of a list")
    parser.add_argument("--seed", type=_within(int, 0, 2**31 - 1), default=7, help="of tastes, visits and choices")
    parser.add_argument("--json", type=Path, help="file for the summary")
    return parser.parse_args()


def _report(tally: Tally, elapsed_s: float, stack: Deployed, options: argparse.Namespace) -> int:
    output.print(tables(tally, elapsed_s, window_s=elapsed_s))
    if options.json:
        chosen = {name: value for name, value in vars(options).items() if name != "json"}
        found = {"bundle": stack.bundle, "options": chosen, **tally.summary(elapsed_s)}
        try:
            options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        except OSError as error:
            print(f"demo_traffic: cannot write {options.json}: {error}", file=sys.stderr)
            return 1
    if not tally.lists:
        print("demo_traffic: not one list came; `riffle status` says what runs", file=sys.stderr)
        return 1
    return 0


def _within(kind: type, low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        if not low <= (given := kind(text)) <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return given

    return number


if __name__ == "__main__":
    sys.exit(main())

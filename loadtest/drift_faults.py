"""How soon the drift monitor notices what goes wrong and names it, and how often it cries without a reason.

    python -m loadtest.drift_faults                       # 40 quiet months and 20 runs of each fault
    python -m loadtest.drift_faults --worlds 2 --runs 2 --quiet 2
    python -m loadtest.drift_faults --page "taste drift"  # what the report shows of one

Simulated users (`recsys.simulation.served`) of a few invented worlds; in each a bundle is trained on what came of the
lists of the bundle before it. Then, from one state, months without any change, on whose day CHANGE_DAY another champion
comes that answers as the one before; and from their day ONSET_DAY on each fault, beside the month that goes on. The
monitor looks every hour. Prints a line for each run and a Markdown table; the JSON file in results/ has every run.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np

from loadtest import machine
from loadtest.deployed import RESULTS
from recsys.bundle import Recipe
from recsys.datasets.dataset import Dataset
from recsys.datasets.synthetic import synthetic
from recsys.monitoring.figures import figures_of
from recsys.monitoring.page import page
from recsys.monitoring.reference import Reference, reference_of
from recsys.monitoring.watch import ALPHA
from recsys.simulation import DAY_S
from recsys.simulation.faults import Fault, Trouble
from recsys.simulation.hours import ServedHour, logged
from recsys.simulation.served import Served
from recsys.simulation.tastes import Drift
from recsys.simulation.visits import Habits
from recsys.simulation.watched import Noticed, watch, watcher_of
from recsys.simulation.world import SimulatedWorld, Surge
from recsys.training.learn import learn
from recsys.training.log import Log
from recsys.training.splits import PROTOCOLS
from recsys.types import World

START_S = 1_700_006_400 // DAY_S * DAY_S
FIRST, SECOND = 15, 25  # days that the two bundles learn from
QUIET_DAYS, ONSET_DAY, AFTER_DAYS, CHANGE_DAY = 30, 8, 14, 20
USERS, ITEMS, CANDIDATES = 300, 300, 100
SHOCK, WALK = 0.9, 1.5  # of the users like something else; radians by which all tastes go on to wander in a day
SURGING = 5  # of the less popular items
NAMES: dict[str, str] = {  # what a fault is to be called
    "taste drift": "taste drift",
    "popularity shock": "popularity shock",
    "nulls": "broken feature",
    "unit change": "broken feature",
    "frozen item stats": "broken feature",
    "new-user wave": "new-user wave",
    "bot traffic": "bot traffic",
}
RECIPE = Recipe(
    factors=16, spectral_factors=16, als_iterations=5, neighbours=20, trees=25, choose_als=False,
    choose_popularity=False, choose_older=False, choose_ranker=False,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Beginning:
    """A service on the day that its second bundle is installed."""

    dataset: Dataset
    served: Served
    reference: Reference
    start_s: int


@lru_cache(1)
def beginning(seed: int, users: int = USERS, first: int = FIRST, second: int = SECOND) -> Beginning:
    """Two bundles, one after the other."""
    dataset = synthetic(seed, users=200, items=ITEMS, sessions=10)
    simulated = SimulatedWorld.over(
        dataset, users=users, seed=seed, habits=Habits(visits_per_s=users / 75_000, mean_lists=2.0)
    )
    served = Served(simulated, seed)
    hours: list[ServedHour] = []
    at_s = START_S
    for days in (first, second):
        hours += list(served.hours(at_s, days * 24))
        at_s += days * DAY_S
        world, reference = taught(logged(dataset, hours))
        served.install(world)
    return Beginning(dataset, served, reference, at_s)


def taught(dataset: Dataset) -> tuple[World, Reference]:
    """What `recsys.training.train` makes, without its evaluation, which takes as long again."""
    log, divide = Log.of(dataset), PROTOCOLS["temporal-next"]
    split = divide(log, seed=RECIPE.seed, held_out=RECIPE.held_out)
    bundle = learn(dataset, split.past, divide, RECIPE, candidates=CANDIDATES).bundle
    world = World(bundle, bundle.item_stats, CANDIDATES)
    return world, reference_of(world, split.questions, split.history, diversity=0.05, seed=RECIPE.seed)


def troubled(begun: Beginning, served: Served, run: int, fault: Fault, onset_s: float) -> Served:
    """The same service, to which something happens from a moment on."""
    served = served.copy()
    served.trouble = Trouble(fault, onset_s)
    simulated = served.simulated
    if fault == "taste drift":
        drift = Drift(onset_s=onset_s, shock=SHOCK, walk_per_day=WALK)
        seed, users = begun.served.simulated.seed, len(simulated.activity)
        drifting = SimulatedWorld.over(begun.dataset, users=users, seed=seed, habits=simulated.habits, drift=drift)
        served.simulated = replace(simulated, tastes=drifting.tastes)
    if fault == "popularity shock":
        ranks = np.random.default_rng([run, 3]).choice(np.arange(100, ITEMS), SURGING, replace=False)
        rows = np.flatnonzero(np.isin(simulated.catalogue.rank, ranks))
        served.simulated = replace(simulated, surge=Surge(rows, onset_s, 6.0))
    return served


def one_run(task: tuple[int, int, tuple[Fault, ...]]) -> list[dict[str, Any]]:
    """A quiet month, and what was said of each of some faults that come into it on the same day."""
    seed, run, faults = task
    begun = beginning(seed)
    served, reference = begun.served.copy(), begun.reference
    served.reseed(run)
    served.simulated = replace(served.simulated, seed=10_000 + run)
    watcher = watcher_of(reference)
    onset_s = begun.start_s + ONSET_DAY * DAY_S
    early = watch(served, reference, watcher, start_s=begun.start_s, hours=24 * ONSET_DAY)
    if early is not None:  # a false alarm, and no state in which a fault could be noticed
        return [_found(seed, run, "none", early)]
    found = []
    for fault in faults:
        other = troubled(begun, served, run, fault, onset_s)
        hours = 24 * AFTER_DAYS
        noticed = watch(other, reference, watcher.copy(reference), start_s=onset_s, hours=hours)
        found.append(_found(seed, run, fault, noticed))
    rest = watch(served, reference, watcher, start_s=onset_s, hours=24 * (CHANGE_DAY - ONSET_DAY))
    if rest is None:
        change_s, after = begun.start_s + CHANGE_DAY * DAY_S, watcher_of(reference, watcher)
        rest = watch(served, reference, after, start_s=change_s, hours=24 * (QUIET_DAYS - CHANGE_DAY))
    return [*found, _found(seed, run, "none", rest)]


def _found(seed: int, run: int, fault: Fault, noticed: Noticed | None) -> dict[str, Any]:
    found: dict[str, Any] = {"world": seed, "run": run, "fault": fault, "noticed": noticed is not None}
    if noticed is not None:
        found |= {"hours": noticed.hours, "lists": noticed.lists, "events": noticed.events}
        found["causes"] = [f"{one.name}: {one.subject}" for one in noticed.causes]
        found["alarms"] = [one.sentence() for one in noticed.alarms[:8]]
        found["named"] = bool(noticed.causes) and noticed.causes[0].name == NAMES.get(fault)
    return found


def page_of(seed: int, fault: Fault) -> str:
    """The page of plots that a run with a fault comes to, after bundles of fewer days."""
    begun = beginning(seed, USERS, FIRST // 2, SECOND // 2)
    served, reference = begun.served.copy(), begun.reference
    watcher, onset_s = watcher_of(reference), begun.start_s + ONSET_DAY * DAY_S
    watch(served, reference, watcher, start_s=begun.start_s, hours=24 * ONSET_DAY)
    other = troubled(begun, served, 0, fault, onset_s)
    noticed = watch(other, reference, watcher, start_s=onset_s, hours=24 * AFTER_DAYS)
    return page(
        f"Simulated: {fault}, from day {ONSET_DAY + 1} on",
        summary=[f"{figure.rows:,} lists compared" for figure in figures_of(watcher) if figure.kind == "users"],
        problems=[],
        causes=noticed.causes if noticed else [],
        alarms=noticed.alarms if noticed else [],
        figures=figures_of(watcher),
        days=watcher.watch().days,
    )


def measure(*, worlds: int, runs: int, quiet: int, seed: int, processes: int) -> dict[str, Any]:
    """All runs; those of one world in one process, which trains its bundles once."""
    faults: tuple[Fault, ...] = tuple(one for one in get_args(Fault) if one != "none")
    tasks: list[list[tuple[int, int, tuple[Fault, ...]]]] = [[] for _ in range(worlds)]
    for run in range(max(quiet, runs)):
        tasks[run % worlds].append((seed + run % worlds, run, faults if run < runs else ()))
    with ProcessPoolExecutor(processes) as pool:
        found = [one for of_world in pool.map(_all, tasks) for one in of_world]
    return summed_up(found)


def summed_up(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What the JSON file holds."""
    return {**machine.facts(), "alpha": ALPHA, "quiet_days": QUIET_DAYS, "runs": runs}


def _all(tasks: list[tuple[int, int, tuple[Fault, ...]]]) -> list[dict[str, Any]]:
    found = []
    for task in tasks:
        for one in one_run(task):
            found.append(one)
            print(json.dumps(one), flush=True)
    return found


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    runs = found["runs"]
    quiet = [one for one in runs if one["fault"] == "none"]
    false = sum(one["noticed"] for one in quiet)
    lines = ["| what goes wrong | noticed | named so, first | lists, median | 90 % | events, median |"]
    lines.append("|---|---|---|---|---|---|")
    for fault in NAMES:
        own = [one for one in runs if one["fault"] == fault]
        seen = [one for one in own if one["noticed"]]
        if not own:
            continue
        lists = [one["lists"] for one in seen] or [0]
        cells = [
            fault,
            f"{len(seen)} of {len(own)}",
            f"{sum(one['named'] for one in seen)} of {len(own)}",
            f"{np.median(lists):,.0f}",
            f"{np.quantile(lists, 0.9, method='higher'):,.0f}",
            f"{np.median([one['events'] for one in seen] or [0]):,.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    tail = f"Of {len(quiet)} quiet months {false} had an alarm; at most {ALPHA:.0%} should."
    return "\n".join([*lines, "", tail])


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--runs", type=int, default=20, help="of each fault")
    parser.add_argument("--quiet", type=int, default=40, help="months without any")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--page", choices=[*NAMES], help="only write what the report says of this fault, as HTML")
    parser.add_argument("--lines", type=Path, nargs="+", help="only sum up what earlier runs have printed")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    given = parser.parse_args()
    if min(given.worlds, given.processes) < 1:
        parser.error("--worlds and --processes must be at least 1")
    given.results.mkdir(parents=True, exist_ok=True)
    if given.page:
        (given.results / "drift.html").write_text(page_of(given.seed, given.page), "utf-8")
        return
    if given.lines:
        printed = [line for path in given.lines for line in path.read_text("utf-8").splitlines()]
        found = summed_up([json.loads(line) for line in printed if line.startswith("{")])
    else:
        processes = given.processes
        found = measure(worlds=given.worlds, runs=given.runs, quiet=given.quiet, seed=given.seed, processes=processes)
    path = given.results / f"{datetime.now(UTC):%Y-%m-%d}-drift-faults.json"
    path.write_text(json.dumps(found, indent=1), "utf-8")
    print(markdown(found))


if __name__ == "__main__":
    main()

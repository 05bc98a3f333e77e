"""Sixty days of a service under three regimes: never trained again, trained again and again, and under the autopilot.

    python -m loadtest.autopilot_days                      # four worlds
    python -m loadtest.autopilot_days --worlds 1 --days 20

Tastes wander, items come and go all the time; on day 15 seven in ten items come to appeal to other people than before,
and on days 40 and 41 somebody poisons the data: invented users who pick blindly, and one with 20,000 clicks on five
items. In each world all regimes (`loadtest.autopilot_regimes`) begin from the same forty days and meet the same
visitors. Prints Markdown tables; writes the JSON that they are made from, and a plot, into results/.
"""

import argparse
import copy
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from loadtest import machine
from loadtest.autopilot_regimes import CANDIDATES, POISONED, RECIPE, REGIMES, Regime, run_regime, world_of
from loadtest.deployed import RESULTS
from recsys.datasets.synthetic import synthetic
from recsys.simulation import DAY_S
from recsys.simulation.catalogue import Catalogue
from recsys.simulation.hours import ServedHour, logged
from recsys.simulation.served import Served
from recsys.simulation.tastes import Drift
from recsys.simulation.visits import Habits
from recsys.simulation.world import SimulatedWorld, Turn
from recsys.training.train import Trained, train

START_S = 1_700_006_400 // DAY_S * DAY_S
BEFORE = (15, 25)  # days that the first two bundles learn from, the second of what came of the first one's lists
TURNS, TURNED = 15, 0.7  # the day on which items come to appeal to others, and the share of them that do
ITEMS = 600


def begin(seed: int, *, users: int, days: int) -> Regime:
    """A service on the day that its second bundle is installed."""
    dataset = synthetic(seed, users=200, items=ITEMS, sessions=10)
    start_s = START_S + sum(BEFORE) * DAY_S
    catalogue = Catalogue.of(dataset).with_turnover(
        np.random.default_rng([seed, 77]), start_s=start_s, days=days, launched=0.5, mean_life_days=45
    )
    simulated = SimulatedWorld.over(
        dataset,
        users=users,
        seed=seed,
        catalogue=catalogue,
        habits=Habits(visits_per_s=users / 75_000, mean_lists=2.0),
        drift=Drift(onset_s=start_s, walk_per_day=0.1, days=days),
    )
    simulated = replace(simulated, turn=turned(simulated, start_s + TURNS * DAY_S))
    served, hours, at_s = Served(simulated, seed), list[ServedHour](), START_S
    champion: Trained | None = None
    for stretch in BEFORE:
        hours += served.hours(at_s, 24 * stretch)
        at_s += stretch * DAY_S
        champion = train(logged(dataset, hours), RECIPE, candidates=CANDIDATES)
        served.install(world_of(champion))
    assert champion is not None
    return Regime(dataset, served, hours, champion, at_s)


def turned(simulated: SimulatedWorld, onset_s: float) -> Turn:
    """Some items exchange their traits, so that there is as much for every taste as before."""
    rng = np.random.default_rng([simulated.seed, 78])
    rows = rng.permutation(len(simulated.traits))[: round(TURNED * len(simulated.traits))]
    return Turn(rows, onset_s, simulated.traits[np.roll(rows, 1)])


def one_world(seed: int, *, users: int, days: int) -> dict[str, Any]:
    """All regimes from the same beginning."""
    begun, found = begin(seed, users=users, days=days), {}
    for name in REGIMES:
        regime = replace(begun, served=begun.served.copy(), hours=copy.copy(begun.hours), watched=name == "autopilot")
        found[name] = run_regime(name, regime, days=days, seed=seed)
        print(f"world {seed}, {name}: {np.mean(found[name]['expected']):.4f} clicks a list", flush=True)
    return {"seed": seed, "regimes": found}


def measure(*, worlds: int, users: int, days: int, seed: int, processes: int) -> dict[str, Any]:
    """Several worlds."""
    with ProcessPoolExecutor(processes) as pool:
        found = list(pool.map(partial(one_world, users=users, days=days), range(seed, seed + worlds)))
    return {**machine.facts(), "users": users, "days": days, "worlds": found}


def surely(training: dict[str, Any]) -> int:
    """1 where a bundle was surely better than the one that it met, -1 where surely worse, else 0."""
    return int(np.sign(training["gain"]) * (abs(training["gain"]) > 2 * training["error"]))


def counts(of: list[dict[str, Any]]) -> dict[str, int]:
    """What trainings came to, of what is known here alone."""
    installed = [one for one in of if one["installed"]]
    return {
        "trainings": len(of),
        "champions": len(installed),
        "needless": sum(surely(one) < 1 for one in of),
        "worse": sum(surely(one) < 0 for one in installed),
        "missed": sum(surely(one) > 0 for one in of if not one["installed"]),
    }


def interval(values: list[float]) -> str:
    """A mean with its 95 % interval by Student's t."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.3f}"
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def markdown(found: dict[str, Any]) -> str:
    """The tables, and what the autopilot did in the first world."""
    worlds = found["worlds"]

    def mean(name: str, days: slice) -> list[float]:
        return [float(np.mean(one["regimes"][name]["expected"][days])) for one in worlds]

    def beside(name: str, days: slice) -> str:
        own, pilot = mean(name, days), mean("autopilot", days)
        return interval([b - a for a, b in zip(own, pilot, strict=True)])

    whole = slice(None)
    known = {"days 15 to 39": slice(TURNS, 40), "from day 42 on": slice(42, None)}
    stretches = {name: days for name, days in known.items() if found["days"] >= (days.stop or 43)}
    lines = [
        f"Clicks to expect of a list, mean of {len(worlds)} worlds and its 95 % interval:",
        "",
        f"| regime | {found['days']} days | {' | '.join(stretches)} | the autopilot's, less these |",
        "|---|---|---|" + "---|" * len(stretches),
    ]
    for name in REGIMES:
        parts = [interval(mean(name, days)) for days in (whole, *stretches.values())]
        lines.append(f"| {name} | {' | '.join(parts)} | {'' if name == 'autopilot' else beside(name, whole)} |")
    columns = ("trainings", "champions", "needless", "worse", "missed")
    lines += ["", f"| all worlds | {' | '.join(columns)} |", "|---|---|---|---|---|---|"]
    for name in REGIMES:
        of = counts([training for one in worlds for training in one["regimes"][name]["trainings"]])
        lines.append(f"| {name} | {' | '.join(str(of[column]) for column in columns)} |")
    lines += ["", "| run | began for | ended | because |", "|---|---|---|---|"]
    for run in worlds[0]["regimes"]["autopilot"]["runs"]:
        cells = (run["id"][:8], run["trigger"], run["outcome"] or "under way", (run["reason"] or "")[:160])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(found: dict[str, Any], path: Path) -> None:
    """Clicks of each day, a line for each regime, what happened; below, when the autopilot trained in each world."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    colours = {"never": "#999999", "always": "#E69F00", "autopilot": "#0072B2"}
    for name in REGIMES:
        own = [one["regimes"][name] for one in found["worlds"]]
        of = np.mean([one["expected"] for one in own], axis=0)
        smooth = [of[max(0, day - 1) : day + 2].mean() for day in range(len(of))]
        trainings = np.mean([len(one["trainings"]) for one in own])
        above.plot(smooth, color=colours[name], label=f"{name}: {trainings:.0f} trainings in each world")
    _mark_runs(below, found["worlds"])
    for day, what in ((TURNS, "items appeal to others"), (POISONED[0], "poisoned data")):
        if day < found["days"]:
            for axes in (above, below):
                axes.axvline(day, color="#999999", linewidth=1, linestyle=":")
            above.annotate(what, (day, above.get_ylim()[1]), fontsize=8, va="top")
    above.set_ylabel("clicks to expect of a list")
    above.legend(frameon=False)
    below.set_xlabel("day (above: mean of worlds and of three days)")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def _mark_runs(axes: Any, worlds: list[dict[str, Any]]) -> None:
    """The autopilot's trainings: a row for each world, filled where a new champion came of it."""
    for row, world in enumerate(worlds):
        of = world["regimes"]["autopilot"]["trainings"]
        days = [one["day"] for one in of]
        faces = ["#0072B2" if one["installed"] else "none" for one in of]
        axes.scatter(days, [row] * len(days), s=18, facecolors=faces, edgecolors="#0072B2")
    axes.set_yticks([])
    axes.set_ylabel("autopilot trains\n(full: promotes)", fontsize=8)


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--users", type=int, default=300, help="at a time; they come and go")
    parser.add_argument("--seed", type=int, default=7, help="of the first world")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file and the plot")
    given = parser.parse_args()
    if given.days < 2 or given.users < 100 or min(given.worlds, given.processes) < 1:
        parser.error("--days must be at least 2, --users 100, --worlds and --processes 1")
    found = measure(worlds=given.worlds, users=given.users, days=given.days, seed=given.seed, processes=given.processes)
    given.results.mkdir(parents=True, exist_ok=True)
    path = given.results / f"{datetime.now(UTC):%Y-%m-%d}-autopilot-days.json"
    path.write_text(json.dumps(found, indent=1), "utf-8")
    plot(found, path.with_suffix(".png"))
    print(markdown(found))


if __name__ == "__main__":
    main()

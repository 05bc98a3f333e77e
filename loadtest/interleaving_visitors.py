"""How many visitors interleaving takes to name the better of two rankers, and how many an A/B test takes.

    python -m loadtest.interleaving_visitors --seeds 20

Two rankers of known worth (`recsys.simulation.rivals`) meet the same simulated population by either way; whoever looks
at thirty moments stops at the first at which the always-valid interval of clicks leaves 0 out. Prints a Markdown table;
the JSON file in results/ is that table.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from loadtest import machine, runs
from loadtest.deployed import RESULTS
from recsys.datasets.synthetic import synthetic
from recsys.experiments.effects import Side, effect
from recsys.simulation.rivals import BATCH, Rivals
from recsys.simulation.world import SimulatedWorld

ALPHA, PLANNED = 0.05, 5_000
MOST_A_B, MOST_INTERLEAVED = 20_000, 5_000  # visitors after which either gives up
GROWTH = 4  # times as many visitors, where nobody was sure
LOOKS = np.unique(np.geomspace(100, MOST_A_B, 30).astype(int))
DIFFERENT, ALIKE = (0.5, 2.0), None
CASES: dict[str, tuple[tuple[float, float], tuple[float, float] | None]] = {
    "noise 2.0 and 1.0, visitors differ": ((2.0, 1.0), DIFFERENT),
    "noise 1.0 and 0.6, visitors differ": ((1.0, 0.6), DIFFERENT),
    "noise 2.0 and 1.0, all look at every list": ((2.0, 1.0), ALIKE),
    "no difference, visitors differ": ((1.0, 1.0), DIFFERENT),
}

Found = tuple[int, int] | None  # visitors until somebody was sure, and the winner; None: nobody was


def by_a_b(rivals: Rivals, seed: int, most: int = MOST_A_B) -> Found:
    """Visitors of both sides until the difference of clicks a list is sure, and the better side."""

    def among(visitors: int) -> Found:
        sides = rivals.a_b(np.random.default_rng([seed, 0]), visitors)
        for look in LOOKS[visitors >= LOOKS]:
            part = (Side(one.total[:n], one.weight[:n], one.before[:n]) for one in sides for n in [look // 2])
            found = effect(*part, planned=PLANNED, alpha=ALPHA)
            if found.low > 0 or found.high < 0:
                return int(look), int(found.low > 0)
        return None

    return _first(among, most)


def by_interleaving(rivals: Rivals, seed: int, most: int = MOST_INTERLEAVED) -> Found:
    """Visitors until the preference is sure, and the winner."""

    def among(visitors: int) -> Found:
        whole = rivals.interleaved(np.random.default_rng([seed, 1]), visitors)
        for look in LOOKS[visitors >= LOOKS]:
            found = whole.first(int(look)).preference("clicked", planned=PLANNED, alpha=ALPHA)
            if found.winner is not None:
                return int(look), found.winner
        return None

    return _first(among, most)


def _first(among: Callable[[int], Found], most: int) -> Found:
    """Among ever more visitors, the first of whom are always the same: batch by batch they draw from one generator."""
    for visitors in (most // GROWTH**2, most // GROWTH, most):
        if found := among(-(-visitors // BATCH) * BATCH):
            return found
    return None


def measure(seeds: int, cases: int = len(CASES)) -> dict[str, Any]:
    """The first so many cases, as often as there are seeds."""
    world = SimulatedWorld.over(synthetic(7, users=120, items=400, sessions=25), users=500, seed=1)
    rows = []
    for case, (noise, engagement) in list(CASES.items())[:cases]:
        rivals = Rivals(world, noise, engagement)
        row: dict[str, Any] = {"case": case}
        for way, found in (("a_b", by_a_b), ("interleaving", by_interleaving)):
            all_found = [found(rivals, seed) for seed in range(seeds)]
            sure = [one for one in all_found if one is not None]
            never = [one[0] if one else float("inf") for one in all_found]
            median = float(np.median(never))
            row[way] = {
                "sure": len(sure),
                "second": sum(winner for _, winner in sure),
                "visitors": median if np.isfinite(median) else None,
            }
        rows.append(row)
    return {**machine.facts(), "seeds": seeds, "looks": LOOKS.tolist(), "alpha": ALPHA, "rows": rows}


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    lines = [
        "| rankers and visitors | A/B: sure, of the second | visitors, median | interleaving: sure, of the second | "
        "visitors, median | share |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        cells = [row["case"]]
        for way in ("a_b", "interleaving"):
            one = row[way]
            cells += [f"{one['sure']} of {found['seeds']}, {one['second']}"]
            cells += ["" if one["visitors"] is None else f"{one['visitors']:,.0f}"]
        both = [row[way]["visitors"] for way in ("interleaving", "a_b")]
        cells.append("" if None in both else f"{both[0] / both[1]:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cases", type=int, default=len(CASES), help="the first so many")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error("--seeds must be at least 1")
    found = measure(given.seeds, given.cases)
    runs.keep(found, "interleaving-visitors", given.results)
    print(markdown(found))


if __name__ == "__main__":
    main()

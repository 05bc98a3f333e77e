"""How many visitors interleaving takes to name the better of two rankers, and how many an A/B test takes.

    python -m loadtest.interleaving_visitors --seeds 40

Two rankers of known worth (`recsys.simulation.rivals`) meet the same simulated population by either way; whoever looks
at thirty moments stops at the first at which the always-valid interval of clicks leaves 0 out. Prints a Markdown table;
the JSON file in results/ is that table.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from loadtest import machine
from loadtest.deployed import RESULTS
from recsys.datasets.synthetic import synthetic
from recsys.experiments.effects import Side, effect
from recsys.simulation.rivals import Rivals
from recsys.simulation.world import SimulatedWorld

ALPHA, PLANNED = 0.05, 5_000
MOST_A_B, MOST_INTERLEAVED = 40_000, 8_000  # visitors after which either gives up
LOOKS = np.unique(np.geomspace(100, MOST_A_B, 30).astype(int))
NOISE = ((2.0, 1.0), (1.0, 0.6), (1.0, 0.8), (1.0, 1.0))
ENGAGEMENT: dict[str, tuple[float, float] | None] = {"differ, Beta(0.5, 2)": (0.5, 2.0), "are alike": None}

Found = tuple[int, int] | None  # visitors until somebody was sure, and the winner; None: nobody was


def by_a_b(rivals: Rivals, seed: int, most: int = MOST_A_B) -> Found:
    """Visitors of both sides until the difference of clicks a list is sure, and the better side."""
    sides = rivals.a_b(np.random.default_rng([seed, 0]), most)
    for visitors in LOOKS[most >= LOOKS]:
        part = (Side(one.total[:n], one.weight[:n], one.before[:n]) for one in sides for n in [visitors // 2])
        found = effect(*part, planned=PLANNED, alpha=ALPHA)
        if found.low > 0 or found.high < 0:
            return int(visitors), int(found.low > 0)
    return None


def by_interleaving(rivals: Rivals, seed: int, most: int = MOST_INTERLEAVED) -> Found:
    """Visitors until the preference is sure, and the winner."""
    whole = rivals.interleaved(np.random.default_rng([seed, 1]), most)
    for visitors in LOOKS[most >= LOOKS]:
        found = whole.first(int(visitors)).preference("clicked", planned=PLANNED, alpha=ALPHA)
        if found.winner is not None:
            return int(visitors), found.winner
    return None


def measure(seeds: int) -> dict[str, Any]:
    """All pairs of rankers among both kinds of people."""
    world = SimulatedWorld.over(synthetic(7, users=120, items=400, sessions=25), users=500, seed=1)
    rows = []
    for people, engagement in ENGAGEMENT.items():
        for noise in NOISE:
            rivals = Rivals(world, noise, engagement)
            row: dict[str, Any] = {"people": people, "noise": noise}
            for way, found in (("a_b", by_a_b), ("interleaving", by_interleaving)):
                all_found = [found(rivals, seed) for seed in range(seeds)]
                sure = [one for one in all_found if one is not None]
                row[way] = {
                    "sure": len(sure),
                    "right": sum(winner for _, winner in sure),
                    "visitors": float(np.median([visitors for visitors, _ in sure])) if sure else None,
                }
            rows.append(row)
    return {**machine.facts(), "seeds": seeds, "looks": LOOKS.tolist(), "alpha": ALPHA, "rows": rows}


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    lines = [
        "| people | noise of the rankers | A/B test: right, sure | visitors, median | interleaving: right, sure | "
        "visitors, median | share |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        cells = [row["people"], " and ".join(str(one) for one in row["noise"])]
        for way in ("a_b", "interleaving"):
            one = row[way]
            cells += [f"{one['right']}, {one['sure']} of {found['seeds']}"]
            cells += ["" if one["visitors"] is None else f"{one['visitors']:,.0f}"]
        both = [row[way]["visitors"] for way in ("interleaving", "a_b")]
        cells.append("" if None in both else f"{both[0] / both[1]:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error("--seeds must be at least 1")
    found = measure(given.seeds)
    given.results.mkdir(parents=True, exist_ok=True)
    path = given.results / f"{datetime.now(UTC):%Y-%m-%d}-interleaving-visitors.json"
    path.write_text(json.dumps(found, indent=1), "utf-8")
    print(markdown(found))


if __name__ == "__main__":
    main()

"""What an experiment finds whose truth is known: how often it is wrong, and how many users a known effect takes.

    python -m loadtest.known_effect --runs 1000

Users of `recsys.simulation.outcomes` arrive in growing numbers, half of them in the treatment, and somebody looks again
and again, as with `riffle experiments report`: at all metrics, which share alpha. An experiment with an effect is over
when the interval of the clicks leaves 0 out, one without when that of any metric does. Beside it stands the test that
looks at the clicks once, at the end, with the same adjustment by what users did before. Prints a Markdown table; the
JSON file in results/ is that table.
"""

from typing import Any

import numpy as np

from loadtest import machine, runs
from recsys.experiments.effects import Effect
from recsys.experiments.outcomes import METRICS, Outcomes
from recsys.experiments.sequential import fixed_half_width, users_for
from recsys.simulation.outcomes import CLICKS, simulated_outcomes
from service.experiments import ALPHA, PLANNED

POWER = 0.8
SHARE = ALPHA / len(METRICS)  # of one metric
LOOKS = np.unique(np.geomspace(200, 40_000, 60).astype(int))
EFFECTS = {"none (A/A)": 0.0, "clicks +5 %": 0.05, "clicks +10 %": 0.10}


def run(up: float, seed: int) -> dict[str, Any]:
    """One experiment: at which look it was sure, of what, and whether the truth was inside."""
    whole = simulated_outcomes(np.random.default_rng(seed), users=int(LOOKS[-1]), clicks=(1 + up) * CLICKS)
    parts = [whole.first(int(users)) for users in LOOKS]
    looks = [part.effect("clicked", 1, planned=PLANNED, alpha=SHARE) for part in parts]
    usual = [part.effect("clicked", 1, planned=PLANNED, alpha=ALPHA) for part in parts]
    truth, last = up * CLICKS, usual[-1]
    judged = [(one,) if up else _all_metrics(part) for one, part in zip(looks, parts, strict=True)]
    sure = [one for of in judged for one in of if one.low > 0 or one.high < 0]
    return {
        "users": sure[0].users if sure else None,
        "better": bool(sure) and sure[0].low > 0,
        "inside_always": all(one.low <= truth <= one.high for one in looks),
        "inside_once": last.fixed_low <= truth <= last.fixed_high,
        "sure_by_one_look_intervals": any(one.fixed_low > 0 or one.fixed_high < 0 for one in usual),
        "deviation": (last.fixed_high - last.difference) / fixed_half_width(1.0, alpha=ALPHA) * last.users**0.5 / 2,
    }


def _all_metrics(part: Outcomes) -> tuple[Effect, ...]:
    return tuple(part.effect(metric, 1, planned=PLANNED, alpha=SHARE) for metric in METRICS)


def measure(runs: int, seed: int) -> dict[str, Any]:
    """All effects, `runs` experiments each."""
    found: dict[str, Any] = {}
    for name, up in EFFECTS.items():
        each = [run(up, seed + number) for number in range(runs)]
        took = [one["users"] for one in each if one["users"] is not None]
        deviation = float(np.mean([one["deviation"] for one in each]))
        found[name] = {
            "runs": runs,
            "sure": len(took),
            "of_better": sum(one["better"] for one in each),
            "users": {str(q): float(np.percentile(took, q)) for q in (10, 50, 80, 90)} if took else None,
            "one_look_users": users_for(up * CLICKS, deviation, alpha=SHARE, power=POWER) if up else None,
            "inside_always": float(np.mean([one["inside_always"] for one in each])),
            "inside_once": float(np.mean([one["inside_once"] for one in each])),
            "peeking_with_one_look_intervals": float(np.mean([one["sure_by_one_look_intervals"] for one in each])),
        }
    about = {"looks": LOOKS.tolist(), "alpha": ALPHA, "metrics": METRICS, "planned": PLANNED}
    return {**machine.facts(), **about, "effects": found}


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    lines = [
        "| effect | sure | users, median | 80th | one look needs | truth inside, always "
        "| 95 % of one look | sure by these |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found["effects"].items():
        median, late = (f"{one['users'][q]:,.0f}" if one["users"] else "" for q in ("50", "80"))
        once = "" if one["one_look_users"] is None else f"{one['one_look_users']:,}"
        inside = f"{one['inside_always']:.1%} | {one['inside_once']:.1%}"
        sure = f"{one['sure']} of {one['runs']}, {one['of_better']} of better"
        peeking = f"{one['peeking_with_one_look_intervals']:.1%}"
        lines.append(f"| {name} | {sure} | {median} | {late} | {once} | {inside} | {peeking} |")
    return "\n".join([*lines, "", f"alpha {ALPHA}, shared by {len(METRICS)} metrics; one look: power {POWER:.0%}."])


if __name__ == "__main__":
    runs.main(__doc__, "known-effect", measure, markdown, runs=1000)

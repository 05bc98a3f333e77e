"""How many users and lists a rollout takes to send a bad bundle back, and how often it sends a good one back.

    python -m loadtest.rollout_faults --runs 40

Users of `recsys.simulation.outcomes` arrive in growing numbers, and the guards of `recsys.experiments.guards` look
again and again. First with half of the users in the bundle, as long as it takes. Then whole rollouts as they are by
default: each step is left as soon as HOLD_USERS of the bundle were seen, the last once it is settled that it is fit.
Prints Markdown tables; the JSON file in results/ is those tables. Beside them stands what a test with one look at the
end needs for the same change of clicks.
"""

import re
from typing import Any

import numpy as np

from loadtest import machine, runs
from recsys.experiments.guards import ALPHA, judge
from recsys.experiments.sequential import users_for
from recsys.simulation.outcomes import CLICKS, simulated_outcomes

SHARES = (0.01, 0.05, 0.25, 0.5)  # then all; each has its part of alpha
STEPS = len(SHARES) + 1
HOLD_USERS = 100
LAST_LOOKS = np.unique(np.geomspace(400, 40_000, 20).astype(int))
LOOKS = np.unique(np.geomspace(200, 50_000, 20).astype(int))
ENDS = ("sent back", "champion", "held")
FAULTS: dict[str, dict[str, float]] = {
    "clicks -5 %": {"clicks": 0.95 * CLICKS},
    "clicks -20 %": {"clicks": 0.80 * CLICKS},
    "20 ms slower": {"slower_ms": 20.0},
    "2 % of lists take more than 25 ms": {"slow": 0.022},
    "a tenth of the lists with scores out of range": {"strange": 0.1},
    "1 % of lists fail": {"degraded": 0.01},
    "a broken feature (clicks and likes -50 %)": {"clicks": 0.5 * CLICKS, "likes": 0.025},
    "lists change half of the time, not four fifths": {"changed": 0.5},
    "half of the places are popular items": {"popular": 0.5},  # .153 more of the head; the guard allows .15
    "three quarters of the places are": {"popular": 0.75},
    "an index without a third of its items": {"lost_items": 1 / 3},
    "a tenth of its users never arrives": {"lost_users": 0.1},
    "no fault": {},
    "a better bundle (clicks +5 %)": {"clicks": 1.05 * CLICKS},
}


def until_sent_back(fields: dict[str, float], seed: int) -> tuple[int, int, str] | None:
    """Users and lists of both sides at the look that broke a guard, and which; None where none did by the last look."""
    whole = simulated_outcomes(np.random.default_rng(seed), users=int(LOOKS[-1]), **fields)
    for users in LOOKS:
        part = whole.first(int(users))
        verdict = judge(part, 0.5, alpha=ALPHA / STEPS)
        if verdict.broken:
            guard = verdict.broken[0].partition(":")[0]
            return sum(verdict.users), sum(verdict.lists), re.sub(r"^users .*", "users as drawn", guard)
    return None


def rolled_out(fields: dict[str, float], seed: int) -> tuple[str, int]:
    """How a rollout ends ("sent back", "champion" or "held" at the last look), and how many users had the bundle."""
    rng = np.random.default_rng([seed, 1])
    had = 0
    for share in SHARES:
        looks = LAST_LOOKS if share == SHARES[-1] else (HOLD_USERS / share * np.linspace(0.25, 2.0, 8)).astype(int)
        whole = simulated_outcomes(rng, users=int(looks[-1]), share=share, **fields)
        for users in looks:
            verdict = judge(whole.first(int(users)), share, alpha=ALPHA / STEPS)
            if verdict.broken:
                return "sent back", had + verdict.users[1]
            if verdict.users[1] >= HOLD_USERS and not (share == SHARES[-1] and verdict.unsettled):
                break
        had += verdict.users[1]
    return ("held" if verdict.unsettled else "champion"), had


def measure(runs: int, seed: int) -> dict[str, Any]:
    """All faults, `runs` times each."""
    found: dict[str, Any] = {}
    for name, fields in FAULTS.items():
        sent = [until_sent_back(fields, seed + run) for run in range(runs)]
        back = [one for one in sent if one is not None]
        found[name] = {
            "sent_back": len(back),
            "runs": runs,
            "users": float(np.median([one[0] for one in back])) if back else None,
            "lists": float(np.median([one[1] for one in back])) if back else None,
            "guards": sorted({one[2] for one in back}),
        }
        ends = [rolled_out(fields, seed + run) for run in range(runs)]
        found[name]["rollouts"] = {end: sum(one == end for one, _ in ends) for end in ENDS}
        found[name]["had_it"] = float(np.median([users for _, users in ends]))
        print(f"{name}: {found[name]['rollouts']}", flush=True)
    some = simulated_outcomes(np.random.default_rng(seed), users=20_000)
    side = some.side(0, "clicked")
    surplus = (side.total - side.rate() * side.weight) / side.weight.mean()
    one_look = users_for(0.05 * CLICKS, float(surplus.std()), alpha=0.05, power=0.8)
    about = {"looks": LOOKS.tolist(), "alpha_a_step": ALPHA / STEPS, "one_look_users": one_look}
    return {**machine.facts(), **about, "faults": found}


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    lines = ["| what is wrong | sent back | after users, median | lists | by |", "|---|---|---|---|---|"]
    for name, one in found["faults"].items():
        users, lists = ("" if one[of] is None else f"{one[of]:,.0f}" for of in ("users", "lists"))
        back = f"{one['sent_back']} of {one['runs']}"
        lines.append(f"| {name} | {back} | {users} | {lists} | {', '.join(one['guards'])} |")
    lines += [
        "",
        "| whole rollouts | sent back | champion | held | users who had it, median |",
        "|---|---|---|---|---|",
    ]
    for name, one in found["faults"].items():
        ends = " | ".join(str(one["rollouts"][end]) for end in ENDS)
        lines.append(f"| {name} | {ends} | {one['had_it']:,.0f} |")
    needed = f"{found['one_look_users']:,} users"
    tail = f"A test with one look at the end needs {needed} for clicks -5 % at a power of 80 %."
    return "\n".join([*lines, "", tail])


if __name__ == "__main__":
    runs.main(__doc__, "rollout-faults", measure, markdown, runs=40)

"""Sixty days of a shop under three regimes: never trained again, trained again and again, and under the autopilot.

    python -m loadtest.autopilot_days --days 60 --users 400

Tastes change on day 15, items come and go all the time, and on days 40 and 41 somebody poisons the data: invented users
who pick blindly, and one with 20,000 clicks on five items. All regimes meet the same visitors; the autopilot is
`service.autopilot.pilot` with its triggers, screening, gate, verdict and guards, whose steps act on this shop instead
of a home. Prints a Markdown table; writes the JSON that it is made from, and a plot, into results/.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loadtest import machine
from loadtest.deployed import RESULTS
from recsys.bundle import Recipe
from recsys.datasets.checks.checks import check
from recsys.datasets.dataset import Dataset, Events
from recsys.datasets.screening import screen, without_new
from recsys.datasets.synthetic import synthetic
from recsys.evaluation.gate import floor
from recsys.experiments.buckets import BUCKETS, bucket
from recsys.experiments.guards import ALPHA, judge
from recsys.experiments.outcomes import METRICS, Outcomes
from recsys.retraining.triggers import Policy, Seen
from recsys.retraining.worth import worth
from recsys.simulation import DAY_S
from recsys.simulation.catalogue import Catalogue
from recsys.simulation.shop import Served, Shop
from recsys.simulation.tastes import Drift
from recsys.simulation.visits import Habits
from recsys.simulation.world import SimulatedWorld
from recsys.training.train import Trained, train
from recsys.types import World
from service.autopilot.pilot import Pilot, Stop
from service.autopilot.run import Run, Runs
from service.gate import beside
from service.settings import Settings

RECIPE = Recipe(
    factors=32,
    spectral_factors=32,
    trees=60,
    choose_als=False,
    choose_older=False,
    choose_popularity=False,
    choose_ranker=False,
)
DRIFTS, POISONED = 15, (40, 41)  # days
EVERY = 3  # days between trainings of the regime that always trains, and of the autopilot's schedule
STEPS = (1_000, 5_000, BUCKETS)
JUDGED = 300  # users whose next lists tell which of two bundles is better
REGIMES = ("never", "always", "autopilot")


@dataclass
class Regime:
    """A shop, what serves there, and what was changed."""

    name: str
    shop: Shop
    champion: Trained
    day: int = 0
    start_s: float = 0.0
    clicks: list[float] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    trainings: int = 0
    changes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def now_s(self) -> float:
        return self.start_s + self.day * DAY_S

    def promote(self, challenger: Trained, why: str) -> None:
        """Change the champion, and note what is known here alone: which of the two is better now, and by how much."""
        user = np.random.default_rng(self.day).choice(len(self.shop.world.activity), JUDGED)
        old, new = (self.shop.asked(world_of(one), user, self.now_s) for one in (self.champion, challenger))
        gain = new - old
        error = float(gain.std() / np.sqrt(len(gain)))
        self.changes.append(
            {"day": self.day, "gain": float(gain.mean()), "error": error, "of": float(old.mean()), "why": why}
        )
        self.champion = challenger


@dataclass
class ShopWorks:
    """The steps of the autopilot on a shop."""

    regime: Regime
    settings: Settings
    known: int
    trained_events: int = 0
    challenger: Trained | None = None
    share: int = 0
    since_day: int = 0
    served: list[Served] = field(default_factory=list)

    def seen(self, last: Run | None) -> Seen:
        events = len(self.regime.shop.dataset().events)
        since_s = None if last is None else self.regime.now_s - last.began_s
        return Seen(since_s, self.known, events - self.known)

    def snapshot(self, run: Run) -> Run:
        self.dataset, self.asked = self.regime.shop.dataset(), self.regime.shop.dataset(organic=True)
        self.known = len(self.dataset.events)
        return run.after(f"{self.known:,} interactions", snapshot="in memory", events=self.known)

    def check(self, run: Run) -> Run:
        since_ms = self.regime.champion.window[2] * 1000 + 1000
        self.found = screen(self.dataset, since_ms=since_ms, seed=self.settings.seed)
        gone = {*self.found.flooding, *self.found.blind}
        self.asked = without_new(self.asked, gone, since_ms=since_ms)
        findings = [*check(self.found.dataset).findings, *self.found.findings]
        if failed := [f"{one.name}: {one.sentence}" for one in findings if one.level == "failure"]:
            raise Stop("refused", "; ".join(failed))
        named = [f"{one.name}: {one.sentence}" for one in self.found.findings if one.level == "warning"]
        return run.after("; ".join(named) or "nothing was found")

    def train(self, run: Run) -> Run:
        self.challenger = train(self.found.dataset, RECIPE)
        self.regime.trainings += 1
        return run.after("trained", bundle=f"day-{self.regime.day}")

    def judge(self, run: Run) -> Run:
        assert self.challenger is not None
        own, other = self.challenger, self.regime.champion
        fields = [{"data_window": {"split": _utc(one.window[1])}} for one in (own, other)]
        lines = beside(world_of(own), world_of(other), self.asked, fields[0], fields[1], self.settings)
        verdict = worth([floor(own.report), *lines])
        if verdict.outcome != "better":
            raise Stop(verdict.outcome, verdict.reason)
        return run.after(verdict.reason)

    def shadow(self, run: Run) -> Run:
        return run.after("left out: lists are compared by what users do with them, a step further")

    def canary(self, run: Run) -> Run:
        """A step a day, judged by guards on what its users did."""
        assert self.challenger is not None
        if not self.share:
            self.share, self.since_day, self.served = STEPS[0], self.regime.day, []
            return run
        if self.regime.day == self.since_day:
            return run
        verdict = judge(outcomes(self.served), self.share / BUCKETS, alpha=ALPHA / len(STEPS))
        if verdict.broken:
            self.share = 0
            raise Stop("rolled back", "; ".join(verdict.broken))
        if self.share == STEPS[-1]:
            self.share = 0
            self.regime.promote(self.challenger, run.said[-1].text)
            raise Stop("promoted", f"{verdict.users[1]:,} users, no guard broken")
        self.share, self.since_day, self.served = STEPS[STEPS.index(self.share) + 1], self.regime.day, []
        return run

    def clear(self, run: Run) -> None:
        """Nothing is left behind here."""

    def arm_of(self, user: np.ndarray) -> np.ndarray:
        """1 for users of the canary."""
        drawn = np.array([bucket("canary", f"visitor-{one}") for one in user.tolist()])
        return (drawn < self.share).astype(np.int64)


def world_of(trained: Trained) -> World:
    return World(trained.bundle, trained.bundle.item_stats)


def outcomes(served: list[Served]) -> Outcomes:
    """What users of both arms did, as guards want it."""
    one = Served.joined(served)
    users, row = np.unique(one.user, return_inverse=True)
    variant = np.zeros(len(users), np.int64)
    variant[row] = one.arm
    lists = np.bincount(row).astype(float)
    clicked, liked = (np.bincount(row, weights=np.minimum(of, 1)) for of in (one.clicks, one.likes))
    totals = np.zeros((len(METRICS), len(users)))
    totals[METRICS.index("clicked")], totals[METRICS.index("converted")] = clicked, liked
    items, owners = [], []
    for arm in (0, 1):
        rows = np.flatnonzero(one.arm == arm)
        shown = one.items[rows]
        items.append(shown[shown >= 0])
        owners.append(np.repeat(row[rows], (shown >= 0).sum(axis=1)))
    return Outcomes(("control", "canary"), variant, lists, totals, np.zeros(len(users)), tuple(items), tuple(owners))


def poison(shop: Shop, at_s: float, seed: int) -> None:
    """A day's worth of junk."""
    rng = np.random.default_rng([seed, int(at_s)])
    n = 1_000
    bots = [f"bot-{int(at_s)}-{one // 40}" for one in range(n)]
    items = len(shop.dataset().item_id)
    shop.taken(bots, rng.integers(0, items, n), at_s + rng.random(n) * DAY_S)
    flood = 20_000
    shop.taken(["flood"] * flood, rng.integers(0, 5, flood), at_s + rng.random(flood) * DAY_S)


def run_regime(name: str, dataset: Dataset, first: Trained, *, users: int, days: int, seed: int) -> dict[str, Any]:
    """One regime from the first day to the last."""
    start_s = float(-(-dataset.events.ts_ms[-1] // 1000 // DAY_S) * DAY_S + DAY_S)
    catalogue = turned_over(dataset, start_s, days, seed)
    world = SimulatedWorld.over(
        dataset,
        users=users,
        seed=seed,
        catalogue=catalogue,
        habits=Habits(visits_per_s=users / DAY_S, mean_lists=3),
        drift=Drift(onset_s=start_s + DRIFTS * DAY_S, shock=0.7, walk_per_day=0.1, days=days),
    )
    regime = Regime(name, Shop(world, dataset), first, start_s=start_s)
    with tempfile.TemporaryDirectory() as folder:
        works = ShopWorks(regime, Settings(seed=seed), len(dataset.events))
        policy = Policy(every_s=EVERY * DAY_S - 1, share=0.2, least=500, rest_s=0)
        runs = Runs(Path(folder))
        pilot = Pilot(runs, works, policy, now=lambda: datetime.fromtimestamp(regime.now_s, UTC))
        for regime.day in range(days):
            if regime.day in POISONED:
                poison(regime.shop, regime.now_s, seed)
            if name == "always" and regime.day and regime.day % EVERY == 0:
                regime.trainings += 1
                regime.promote(train(regime.shop.dataset(), RECIPE), "it was time")
            if name == "autopilot":
                _steer(pilot)
            arms = [regime.champion] + ([works.challenger] if works.share and works.challenger else [])
            served = regime.shop.serve(
                [world_of(one) for one in arms], works.arm_of, start_s=regime.now_s, duration_s=DAY_S
            )
            works.served.append(served)
            regime.clicks.append(float(served.clicks.mean()))
            regime.expected.append(float(served.expected.mean()))
        ended = [msgspec.to_builtins(one) for one in runs.all()]
    return {
        "clicks": regime.clicks,
        "expected": regime.expected,
        "trainings": regime.trainings,
        "changes": regime.changes,
        "runs": [{name: one.get(name) for name in ("id", "trigger", "detail", "outcome", "reason")} for one in ended],
    }


def _steer(pilot: Pilot) -> None:
    """As many steps as there is something to do at this moment."""
    for _ in range(20):
        run, said = pilot.step()
        if run is None or run.outcome is not None or " waits in " in said:
            return


def turned_over(dataset: Dataset, start_s: float, days: int, seed: int) -> Catalogue:
    """A third of the items come later; all of them go, after two months on average."""
    rng = np.random.default_rng([seed, 77])
    return Catalogue.of(dataset).with_turnover(rng, start_s=start_s, days=days, launched=0.33, mean_life_days=60)


def without_later(dataset: Dataset, catalogue: Catalogue) -> Dataset:
    """Nobody has met an item before it came."""
    kept = np.isneginf(catalogue.launch_s)[dataset.events.item]
    events = Events(**{name: getattr(dataset.events, name)[kept] for name in Events.__annotations__})
    return replace(dataset, events=events, place=None)


def measure(*, users: int, days: int, seed: int) -> dict[str, Any]:
    """All regimes from the same first bundle."""
    whole = synthetic(seed)
    start_s = float(-(-whole.events.ts_ms[-1] // 1000 // DAY_S) * DAY_S + DAY_S)
    dataset = without_later(whole, turned_over(whole, start_s, days, seed))
    first = train(dataset, RECIPE)
    found = {}
    for name in REGIMES:
        found[name] = run_regime(name, dataset, first, users=users, days=days, seed=seed)
        print(f"{name}: {np.mean(found[name]['expected']):.4f} clicks a list", flush=True)
    return {**machine.facts(), "users": users, "days": days, "seed": seed, "regimes": found}


def markdown(found: dict[str, Any]) -> str:
    """The table, and what the autopilot did."""
    lines = [
        "| regime | clicks a list | days 20 to 39 | from day 42 on | trainings | changes | of them worse |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found["regimes"].items():
        of = np.array(one["expected"])
        parts = [f"{part.mean():.3f}" if len(part) else "-" for part in (of, of[20:40], of[42:])]
        worse = sum(change["gain"] < -2 * change["error"] for change in one["changes"])
        lines.append(f"| {name} | {' | '.join(parts)} | {one['trainings']} | {len(one['changes'])} | {worse} |")
    lines += ["", "| run | began for | ended | because |", "|---|---|---|---|"]
    for run in found["regimes"]["autopilot"]["runs"]:
        lines.append(f"| {run['id'][:8]} | {run['trigger']} | {run['outcome']} | {(run['reason'] or '')[:160]} |")
    return "\n".join(lines)


def plot(found: dict[str, Any], path: Path) -> None:
    """Clicks of each day, a line for each regime, what happened and when champions changed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    colours = {"never": "#999999", "always": "#E69F00", "autopilot": "#0072B2"}
    for name, one in found["regimes"].items():
        of = np.array(one["expected"])
        smooth = np.array([of[max(0, day - 2) : day + 3].mean() for day in range(len(of))])
        axes.plot(smooth, color=colours[name], label=f"{name}: {one['trainings']} trainings")
        days = [change["day"] for change in one["changes"]]
        axes.plot(days, smooth[days], "o", color=colours[name], markersize=4)
    for day, what in ((DRIFTS, "tastes change"), (POISONED[0], "poisoned data")):
        if day < found["days"]:
            axes.axvline(day, color="#999999", linewidth=1, linestyle=":")
            axes.annotate(what, (day, axes.get_ylim()[1]), fontsize=8, va="top")
    axes.set_xlabel("day; dots: the champion changes")
    axes.set_ylabel("clicks to expect of a list (mean of 5 days)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def _utc(ts_s: int) -> str:
    return datetime.fromtimestamp(ts_s, UTC).isoformat()


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--users", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file and the plot")
    given = parser.parse_args()
    if given.days < 2 or given.users < 100:
        parser.error("--days must be at least 2, --users 100")
    found = measure(users=given.users, days=given.days, seed=given.seed)
    given.results.mkdir(parents=True, exist_ok=True)
    path = given.results / f"{datetime.now(UTC):%Y-%m-%d}-autopilot-days.json"
    path.write_text(json.dumps(found, indent=1), "utf-8")
    plot(found, path.with_suffix(".png"))
    print(markdown(found))


if __name__ == "__main__":
    main()

"""A simulated service that is trained again by a rule: never, always, or when the autopilot says so.

The autopilot is `service.autopilot.pilot` with its triggers, screening, gate, verdict and guards, and the monitor of
drift that watches each hour; its steps act on this service in place of a home. With a few hundred users guards have
next to no power (a side of fewer than a hundred is not judged at all): what protects here is the gate.
"""

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recsys.bundle import Recipe
from recsys.datasets.checks.checks import check
from recsys.datasets.dataset import Dataset
from recsys.datasets.junk import Junk, without_junk
from recsys.datasets.screening import screen
from recsys.evaluation.gate import floor
from recsys.experiments.buckets import BUCKETS, bucket
from recsys.experiments.guards import ALPHA, judge
from recsys.experiments.outcomes import METRICS, Outcomes
from recsys.monitoring.alarms import alarms_of
from recsys.monitoring.causes import Remedy, causes
from recsys.monitoring.watch import Watcher
from recsys.retraining.triggers import Policy, Seen
from recsys.retraining.worth import worth
from recsys.simulation import DAY_S
from recsys.simulation.hours import Lists, ServedHour, logged
from recsys.simulation.served import Served
from recsys.simulation.watched import looking, watcher_of
from recsys.training.train import Trained, train
from recsys.types import World
from service.autopilot.pilot import Pilot, Stop
from service.autopilot.run import Run, Runs
from service.gate import beside
from service.settings import Settings

RECIPE = Recipe(
    factors=16, spectral_factors=16, als_iterations=5, neighbours=20, trees=25, choose_als=False,
    choose_popularity=False, choose_older=False, choose_ranker=False, tree_seeds=1, held_out=0.05,
)  # fmt: skip
CANDIDATES = 100
POISONED = (40, 41)  # days
EVERY = 3  # days between trainings of the regime that always trains
POLICY = Policy(every_s=7 * DAY_S - 1, share=0.5, least=500, rest_s=0)
STEPS = (1_000, 5_000, BUCKETS)
REGIMES = ("never", "always", "autopilot")


@dataclass
class Regime:
    """A service, what it learnt from, and what was changed.

    Attributes:
        dataset: Its items. hours: All that has happened. champion: What answers.
        watched: Whether the monitor looks, every hour.
        trainings: Of each, what is known here alone: how much better its bundle is than the champion at that moment.
        alarms: What was on at the end of each day, where the monitor looks.
    """

    dataset: Dataset
    served: Served
    hours: list[ServedHour]
    champion: Trained
    start_s: int
    day: int = 0
    watched: bool = False
    clicks: list[float] = field(default_factory=list, init=False)
    expected: list[float] = field(default_factory=list, init=False)
    trainings: list[dict[str, Any]] = field(default_factory=list, init=False)
    alarms: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._watch(None)

    @property
    def now_s(self) -> int:
        return self.start_s + self.day * DAY_S

    def log(self, *, organic: bool = False) -> Dataset:
        """What people did; organic: without what came of lists."""
        return logged(self.dataset, self.hours, organic=organic)

    def learn(self, dataset: Dataset) -> Trained:
        """A bundle that is not installed yet, compared in truth: by clicks to expect of everybody's next list."""
        challenger = train(dataset, RECIPE, candidates=CANDIDATES)
        place = np.arange(len(self.served.simulated.activity))
        old, new = (self.served.expected(world_of(one), place, self.now_s) for one in (self.champion, challenger))
        gain = new - old
        error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
        of = {"day": self.day, "gain": float(gain.mean()), "error": error, "of": float(old.mean()), "installed": False}
        self.trainings.append(of)
        return challenger

    def promote(self, challenger: Trained) -> None:
        """The bundle that was learnt last answers everybody, and is what the monitor compares with."""
        self.trainings[-1] |= {"installed": True, "installed_on": self.day}
        self.champion = challenger
        self.served.install(world_of(challenger))
        self._watch(self._watcher)

    def live(self) -> Lists:
        """A day of it, on which somebody comes."""
        lists = []
        for hour in self.served.hours(self.now_s, 24):
            if self.watched:
                self._look(hour)
            self.hours.append(hour)
            if hour.lists is not None:
                lists.append(hour.lists)
        if self.watched:
            found = causes(alarms_of(self._watcher))
            self.alarms += [f"day {self.day}: {one.name}{', harmful' * one.harmful}" for one in found]
        made = Lists.joined(lists)
        self.clicks.append(float(made.clicks.mean()))
        self.expected.append(float(made.expected.mean()))
        return made

    def harmful(self, since_s: float) -> tuple[str, ...]:
        """What drifts so that a new bundle helps and began after a moment, in words."""
        found = causes(alarms_of(self._watcher))
        return tuple(
            f"{one.name} ({one.subject}): {one.why}"
            for one in found
            if one.harmful and one.remedy is Remedy.RETRAIN and one.since_s > since_s
        )

    def _watch(self, before: Watcher | None) -> None:
        self._watcher = watcher_of(self.champion.reference, before)
        self._look = looking(self.served, self.champion.reference, self._watcher)


@dataclass
class SimulatedWorks:
    """The steps of the autopilot on a simulated service."""

    regime: Regime
    settings: Settings
    known: int
    challenger: Trained | None = None
    share: int = 0
    since_day: int = 0
    lists: list[Lists] = field(default_factory=list)
    junk: tuple[Junk, ...] = ()

    def seen(self, last: Run | None) -> Seen:
        events = len(self.regime.log().events)
        began_s = self.regime.start_s if last is None else last.began_s
        return Seen(self.regime.now_s - began_s, self.known, events - self.known, self.regime.harmful(began_s))

    def snapshot(self, run: Run) -> Run:
        self.dataset, self.asked = self.regime.log(), self.regime.log(organic=True)
        self.known = len(self.dataset.events)
        return run.after(f"{self.known:,} interactions", snapshot="in memory", events=self.known)

    def check(self, run: Run) -> Run:
        since_ms = self.regime.champion.window[2] * 1000 + 1000
        self.found = screen(self.dataset, since_ms=since_ms, seed=self.settings.seed, before=self.junk)
        self.asked = without_junk(self.asked, self.found.junk)
        findings = [*check(self.found.dataset).findings, *self.found.findings]
        if failed := [f"{one.name}: {one.sentence}" for one in findings if one.level == "failure"]:
            raise Stop("refused", "; ".join(failed))
        named = [f"{one.name}: {one.sentence}" for one in self.found.findings if one.level == "warning"]
        return run.after("; ".join(named) or "nothing was found")

    def train(self, run: Run) -> Run:
        self.challenger = self.regime.learn(self.found.dataset)
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
            return self._step(run, STEPS[0])
        if self.regime.day == self.since_day:
            return run
        verdict = judge(outcomes(self.lists), self.share / BUCKETS, alpha=ALPHA / len(STEPS))
        if verdict.broken:
            self.share = 0
            self.regime.served.install(world_of(self.regime.champion))
            raise Stop("rolled back", "; ".join(verdict.broken))
        if self.share == STEPS[-1]:
            self.share = 0
            self.regime.promote(self.challenger)
            self.junk = self.found.junk
            judged = next(one.text for one in run.said if one.step == "judge")
            raise Stop("promoted", f"{verdict.users[1]:,} users, no guard broken; {judged}")
        return self._step(run, STEPS[STEPS.index(self.share) + 1])

    def clear(self, run: Run) -> None:
        """Nothing is left behind here."""

    def _step(self, run: Run, share: int) -> Run:
        assert self.challenger is not None
        self.share, self.since_day, self.lists = share, self.regime.day, []
        self.regime.served.canary(world_of(self.challenger), self._chosen)
        return run

    def _chosen(self, user: np.ndarray) -> np.ndarray:
        return np.array([bucket("canary", f"person-{one}") for one in user.tolist()]) < self.share


def world_of(trained: Trained) -> World:
    return World(trained.bundle, trained.bundle.item_stats, CANDIDATES)


def outcomes(lists: list[Lists]) -> Outcomes:
    """What users of both bundles did, as guards want it."""
    one = Lists.joined(lists)
    users, first, row = np.unique(one.user, return_index=True, return_inverse=True)
    variant = np.zeros(len(users), np.int64)
    variant[row] = one.challenger
    made = np.bincount(row).astype(float)
    totals = np.zeros((len(METRICS), len(users)))
    for name, of in (("clicked", one.clicks), ("converted", one.likes)):
        totals[METRICS.index(name)] = np.bincount(row, weights=np.minimum(of, 1))
    items, owners = [], []
    for arm in (False, True):
        rows = first[one.challenger[first] == arm]
        shown = one.items[rows]
        items.append(shown[shown >= 0])
        owners.append(np.repeat(row[rows], (shown >= 0).sum(axis=1)))
    return Outcomes(("control", "canary"), variant, made, totals, np.zeros(len(users)), tuple(items), tuple(owners))


def poison(regime: Regime, seed: int) -> None:
    """A day's worth of junk: a thousand blind picks of invented users, and 20,000 clicks of one on five items."""
    rng = np.random.default_rng([seed, regime.day])
    n, flood = 1_000, 20_000
    bots = -1_000 * (1 + regime.day) - np.arange(n) // 40
    user = np.concatenate([bots, np.full(flood, -999)])
    item = np.concatenate([rng.integers(0, len(regime.dataset.item_id), n), rng.integers(0, 5, flood)])
    regime.served.bring(user, item, regime.now_s + rng.integers(0, DAY_S, n + flood))


def run_regime(name: str, regime: Regime, *, days: int, seed: int) -> dict[str, Any]:
    """From the first day to the last."""
    with tempfile.TemporaryDirectory() as folder:
        works = SimulatedWorks(regime, Settings(seed=seed), len(regime.log().events))
        runs = Runs(Path(folder))
        pilot = Pilot(runs, works, POLICY, now=lambda: datetime.fromtimestamp(regime.now_s, UTC))
        for regime.day in range(days):
            if regime.day in POISONED:
                poison(regime, seed)
            if name == "always" and regime.day and regime.day % EVERY == 0:
                regime.promote(regime.learn(regime.log()))
            if name == "autopilot":
                _steer(pilot)
            works.lists.append(regime.live())
        ended = runs.all()
    return {
        "clicks": regime.clicks,
        "expected": regime.expected,
        "trainings": regime.trainings,
        "alarms": regime.alarms,
        "runs": [_in_short(one) for one in ended],
    }


def _in_short(run: Run) -> dict[str, Any]:
    """What began it, what screening said, and how it ended."""
    screened = [one.text for one in run.said if one.step == "check"]
    return {
        "id": run.id,
        "trigger": run.trigger,
        "detail": run.detail,
        "screened": "; ".join(screened),
        "outcome": run.outcome,
        "reason": run.reason,
    }


def _steer(pilot: Pilot) -> None:
    """As many steps as there is something to do at this moment."""
    for _ in range(20):
        run, said = pilot.step()
        if run is None or run.outcome is not None or " waits in " in said:
            return


def _utc(ts_s: int) -> str:
    return datetime.fromtimestamp(ts_s, UTC).isoformat()

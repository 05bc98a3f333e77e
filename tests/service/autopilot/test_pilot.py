"""A run goes from step to step, ends with a reason, and goes on where whoever drove it has died."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from recsys.errors import TrainingError
from recsys.retraining.triggers import Policy, Seen
from service.autopilot.pilot import AGAIN_S, TRIES, Pilot, Stop
from service.autopilot.run import STEPS, Run, Runs
from service.errors import StackError

START = datetime(2026, 11, 28, tzinfo=UTC)
DOING = STEPS[:-1]


class Killed(BaseException):
    """What no step survives."""


@dataclass
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Recorded:
    """Steps that say that they were made; a step may fail, stop, wait or die a number of times first."""

    due: bool = True
    before: dict[str, list[BaseException | str]] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)

    def seen(self, last: Run | None) -> Seen:
        return Seen(None if last is None else 7 * 86_400.0, 10_000, 999 if self.due else 0)

    def _make(self, run: Run, **fields: object) -> Run:
        self.made.append(run.step)
        if queue := self.before.get(run.step):
            first = queue.pop(0)
            if isinstance(first, BaseException):
                raise first
            return run  # it waits
        if run.step == "canary":
            raise Stop("promoted", "no guard broken", canary="auto-1")
        return run.after(f"{run.step} is made", **fields)

    snapshot = check = judge = shadow = canary = _make

    def clear(self, run: Run) -> None:
        self.cleared.append(run.id)

    def train(self, run: Run) -> Run:
        return self._make(run, bundle="20261128-0123456789ab")


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def pilot(runs: Runs, works: Recorded, clock: Clock | None = None) -> Pilot:
    return Pilot(runs, works, Policy(rest_s=0, least=999), clock or Clock())


def driven(runs: Runs, works: Recorded, clock: Clock, *, steps: int = 60) -> Run:
    """A run to its end, time passing; each step by a pilot of its own, as if the one before had ended."""
    for _ in range(steps):
        run, _ = pilot(runs, works, clock).step()
        if run is not None and run.outcome is not None:
            return run
        clock.passes(AGAIN_S)
    raise AssertionError(f"still at {runs.newest()}")


def test_a_run_passes_every_step_once_and_leaves_a_page(runs: Runs) -> None:
    works = Recorded()
    run = driven(runs, works, Clock())
    assert works.made == list(DOING)
    assert works.cleared == [run.id]
    assert (run.outcome, run.reason, run.canary) == ("promoted", "no guard broken", "auto-1")
    text = runs.page(run).read_text()
    assert "**promoted**: no guard broken" in text
    assert "schedule: there was none before; 999 new events" in text
    assert all(f"{step} is made" in text for step in DOING[:-1])
    assert "riffle bundles card 20261128-0123456789ab" in text


def test_nothing_begins_where_nothing_is_due(runs: Runs) -> None:
    run, said = pilot(runs, Recorded(due=False)).step()
    assert run is None
    assert "0 new events" in said
    assert runs.all() == []


def test_outlook_begins_nothing(runs: Runs) -> None:
    assert pilot(runs, Recorded()).outlook().startswith("due (schedule)")
    assert pilot(runs, Recorded(due=False)).outlook().startswith("not due: ")
    assert runs.all() == []


@pytest.mark.parametrize("step", DOING)
def test_a_crash_at_any_step_is_resumed_at_that_step(runs: Runs, step: str) -> None:
    works, clock = Recorded(before={step: [Killed(), Killed()]}), Clock()
    crashes = 0
    for _ in range(60):
        try:
            run, _ = pilot(runs, works, clock).step()
        except Killed:
            crashes += 1
            continue
        if run is not None and run.outcome is not None:
            break
    assert crashes == 2
    assert run is not None
    assert run.outcome == "promoted"
    assert works.made == sorted([*DOING, step, step], key=DOING.index)
    assert len(runs.all()) == 1


@pytest.mark.parametrize("step", DOING)
def test_a_step_that_always_kills_is_not_tried_for_ever(runs: Runs, step: str) -> None:
    works = Recorded(before={step: [Killed() for _ in range(100)]})
    for _ in range(60):
        try:
            run, _ = pilot(runs, works).step()
        except Killed:
            continue
        if run is not None and run.outcome is not None:
            break
    assert run is not None
    assert (run.outcome, works.made.count(step)) == ("failed", TRIES)
    assert f"{step} was begun {TRIES} times and never finished" in run.reason


@pytest.mark.parametrize("error", [StackError("no store"), OSError("no disk"), MemoryError(), KeyError("a bug")])
def test_a_step_that_fails_is_tried_again_later_and_not_for_ever(runs: Runs, error: Exception) -> None:
    clock = Clock()
    works = Recorded(before={"train": [error]})
    run = driven(runs, works, clock)
    assert run.outcome == "promoted"
    assert any("failed, try 1 of 3" in one.text for one in run.said)
    works = Recorded(before={"train": [error] * 100})
    clock.passes(86_400)
    run = driven(runs, works, clock)
    assert (run.outcome, works.made.count("train")) == ("failed", TRIES)


def test_a_second_try_waits(runs: Runs) -> None:
    clock, works = Clock(), Recorded(before={"snapshot": [OSError("disk full")]})
    pilot(runs, works, clock).step()
    pilot(runs, works, clock).step()
    _, said = pilot(runs, works, clock).step()
    assert "tries snapshot again in 60 s" in said
    assert works.made == ["snapshot"]
    clock.passes(-1e6)  # a clock that went back does not hold it for ever
    pilot(runs, works, clock).step()
    assert works.made == ["snapshot", "snapshot"]


def test_data_that_cannot_be_trained_on_are_refused_at_once(runs: Runs) -> None:
    works = Recorded(before={"check": [TrainingError("a table of junk")]})
    run = driven(runs, works, Clock())
    assert (run.outcome, run.reason, works.made.count("check")) == ("refused", "a table of junk", 1)


def test_what_a_stop_knows_is_kept(runs: Runs) -> None:
    stop = Stop("no better", "+0.001 [-0.004, +0.006]", champion="20261101-0123456789ab")
    run = driven(runs, Recorded(before={"judge": [stop]}), Clock())
    assert (run.outcome, run.reason) == ("no better", "+0.001 [-0.004, +0.006]")
    assert run.champion == "20261101-0123456789ab"


def test_waiting_is_no_try(runs: Runs) -> None:
    works = Recorded(before={"canary": ["wait"] * 20})
    assert driven(runs, works, Clock()).outcome == "promoted"
    assert works.made.count("canary") == 21


def test_of_two_autopilots_one_leads(runs: Runs) -> None:
    other = Runs(runs.root)
    with runs.led() as leads:
        assert leads
        run, said = pilot(other, Recorded()).step()
        with pytest.raises(Stop, match="another autopilot leads"):
            pilot(other, Recorded()).begin("now")
    assert (run, said) == (None, "another autopilot leads")


def test_who_leads_a_whole_run_goes_on_to_lead_between_its_steps(runs: Runs) -> None:
    works, other = Recorded(), Runs(runs.root)
    with runs.led():
        while (run := pilot(runs, works).step()[0]) is not None and run.outcome is None:
            assert pilot(other, works).step() == (None, "another autopilot leads")
    assert run is not None
    assert run.outcome == "promoted"
    with other.led() as leads:
        assert leads


def test_step_whose_process_was_killed_says_so_on_the_page(runs: Runs) -> None:
    works, clock = Recorded(before={DOING[1]: [Killed()]}), Clock()
    pilot(runs, works, clock).step()
    pilot(runs, works, clock).step()
    with pytest.raises(Killed):
        pilot(runs, works, clock).step()
    driven(runs, works, clock)
    (run,) = runs.all()
    killed = [one.step for one in run.said if one.text.startswith("its process had ended in the middle of it; try 2")]
    assert killed == [DOING[1]]
    assert "its process had ended" in runs.page(run).read_text("utf-8")


def test_a_human_holds_it_and_lets_it_go_on(runs: Runs) -> None:
    works = Recorded()
    pilot(runs, works).step()
    runs.pause(who="ann", reason="a sale")
    run, said = pilot(runs, works).step()
    assert run is None
    assert "paused by ann" in said
    with pytest.raises(Stop, match="paused by ann"):
        pilot(runs, works).begin("now")
    runs.resume()
    assert driven(runs, works, Clock()).outcome == "promoted"
    assert len(runs.all()) == 1


def test_somebody_who_asks_need_not_wait_until_it_is_due(runs: Runs) -> None:
    works = Recorded(due=False)
    run = pilot(runs, works).begin("a new catalogue")
    assert (run.trigger, run.detail) == ("asked", "a new catalogue")
    with pytest.raises(Stop, match="is under way, at snapshot"):
        pilot(runs, works).begin("again")
    assert driven(runs, works, Clock()).outcome == "promoted"


def test_runs_are_in_their_order_though_the_clock_goes_back(runs: Runs) -> None:
    clock = Clock()
    first = driven(runs, Recorded(), clock)
    clock.passes(-3_600)
    second = pilot(runs, Recorded(), clock).begin("again")
    assert runs.newest() == second
    assert [one.id for one in runs.all()] == [first.id, second.id]


def test_a_run_that_has_ended_is_not_touched_again(runs: Runs) -> None:
    clock = Clock()
    run = driven(runs, Recorded(), clock)
    pilot(runs, Recorded(due=False), clock).step()
    assert runs.find(run.id) == msgspec.json.decode(msgspec.json.encode(run), type=Run)

"""Takes runs from step to step: begins one when it is due, ends it with a reason, goes on where another has died.

A step may be begun again at any time: what it did before is found, or done anew with the same result. That it is begun
is kept before it is, so that one which kills the process is not tried for ever.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from recsys.errors import RecsysError, TrainingError
from recsys.retraining.triggers import Policy, Seen, Trigger, due, not_due
from service.autopilot.page import page
from service.autopilot.run import Outcome, Run, Runs, new_id
from service.errors import ServiceError

TRIES = 3  # of one step, then the run has failed
AGAIN_S = 60.0  # before the second try; twice as long before the third
_log = logging.getLogger("ray.serve")


class Stop(Exception):
    """A run is over, and that is no failure: an outcome, its reason for people, and fields of the run to be kept."""

    def __init__(self, outcome: Outcome, reason: str, **known: Any) -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.known = outcome, reason, known


class Works(Protocol):
    """What the steps do, in a home or in a simulation. Each gets the run and gives it at its next step.

    The same run back: there is nothing to do yet but wait. Raises Stop; any other error is a try that failed.
    """

    def seen(self, last: Run | None) -> Seen:
        """What there is to judge by whether a run is due."""

    def snapshot(self, run: Run) -> Run: ...
    def check(self, run: Run) -> Run: ...
    def train(self, run: Run) -> Run: ...
    def judge(self, run: Run) -> Run: ...
    def shadow(self, run: Run) -> Run: ...
    def canary(self, run: Run) -> Run: ...

    def clear(self, run: Run) -> None:
        """Take away what a run that has ended leaves behind."""


class Pilot:
    """One step at a time.

    Args:
        now: The moment, UTC. A clock that goes back makes it wait longer, never act twice.
    """

    def __init__(
        self, runs: Runs, works: Works, policy: Policy, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._runs, self._works, self._policy, self._now = runs, works, policy, now

    def step(self) -> tuple[Run | None, str]:
        """Do what is to be done next; the run that it was done in, if any, and what was done, for people.

        Raises:
            AutopilotError: what is known of runs cannot be read or kept. ServiceError, RecsysError: whether a run is
                due cannot be told.
        """
        with self._runs.led() as leads:
            if not leads:
                return None, "another autopilot leads"
            if paused := self._runs.paused():
                return None, f"paused by {paused.who} since {paused.time}: {paused.reason}"
            run = self._runs.newest()
            if run is not None and run.outcome is None:
                return self._go_on(run)
            seen = self._works.seen(run)
            trigger = due(self._policy, seen)
            if trigger is None:
                return None, not_due(self._policy, seen)
            return self._begin(trigger)

    def outlook(self) -> str:
        """Whether a run is due now, for people; nothing is begun. Errors as of `step`."""
        seen = self._works.seen(self._runs.newest())
        trigger = due(self._policy, seen)
        return f"due ({trigger.kind}): {trigger.detail}" if trigger else f"not due: {not_due(self._policy, seen)}"

    def begin(self, reason: str) -> Run:
        """Begin a run because somebody asks for it.

        Raises:
            Stop: one is under way, another autopilot leads, or everything is paused.
        """
        with self._runs.led() as leads:
            if not leads:
                raise Stop("stopped", "another autopilot leads; `riffle autopilot` shows what it does")
            if paused := self._runs.paused():
                raise Stop("stopped", f"paused by {paused.who}: {paused.reason}; `riffle autopilot resume` goes on")
            run = self._runs.newest()
            if run is not None and run.outcome is None:
                raise Stop("stopped", f"run {run.id} is under way, at {run.step}")
            return self._begin(Trigger("asked", reason))[0]

    def _begin(self, trigger: Trigger) -> tuple[Run, str]:
        last, now = self._runs.newest(), self._now()
        if last is not None:  # runs are in the order of their ids, also where the clock has gone back
            now = max(now, datetime.fromtimestamp(last.began_s + 1, UTC))
        run = Run(new_id(now), trigger.kind, trigger.detail)
        self._keep(run)
        return run, f"run {run.id} begins ({trigger.kind}): {trigger.detail}"

    def _go_on(self, run: Run) -> tuple[Run, str]:
        now_s = self._now().timestamp()
        if 0 < run.not_before_s - now_s <= AGAIN_S * 2**TRIES:  # farther ahead: the clock has gone back
            return run, f"run {run.id} tries {run.step} again in {run.not_before_s - now_s:.0f} s"
        if run.tries >= TRIES:
            return self._ended(run, "failed", f"{run.step} was begun {run.tries} times and never finished")
        begun = msgspec.structs.replace(run, tries=run.tries + 1, not_before_s=0.0)
        if run.tries and not run.not_before_s:  # what failed says when it is tried again; what was killed says nothing
            begun = begun.saying(f"its process had ended in the middle of it; try {begun.tries} of {TRIES}")
        self._runs.save(begun)
        try:
            after: Run = getattr(self._works, run.step)(begun)
        except Stop as stop:
            return self._ended(begun, stop.outcome, stop.reason, **stop.known)
        except TrainingError as error:  # the data are what they are: no second try makes them better
            return self._ended(begun, "refused", str(error))
        except Exception as error:  # whatever it is, its words are what a person needs
            if not isinstance(error, (ServiceError, RecsysError, OSError)):
                _log.exception("run %s, %s", run.id, run.step)
            return self._failed(begun, error)
        if after.step == run.step:  # it waits, and waiting is no try
            self._runs.save(msgspec.structs.replace(after, tries=0))
            return run, f"run {run.id} waits in {run.step}"
        self._keep(after)
        return after, f"run {run.id}, {run.step}: {after.said[-1].text}"

    def _failed(self, run: Run, error: Exception) -> tuple[Run, str]:
        why = f"{type(error).__name__}: {error}"
        if run.tries >= TRIES:
            return self._ended(run, "failed", f"{run.step} failed {run.tries} times, the last time with {why}")
        again_s = self._now().timestamp() + AGAIN_S * 2 ** (run.tries - 1)
        later = run.saying(f"failed, try {run.tries} of {TRIES}: {why}", not_before_s=again_s)
        self._keep(later)
        return later, f"run {run.id}, {run.step}: {later.said[-1].text}"

    def _ended(self, run: Run, outcome: Outcome, reason: str, **known: Any) -> tuple[Run, str]:
        done = run.ended(outcome, reason, **known)
        self._keep(done)
        try:
            self._works.clear(done)
        except (ServiceError, RecsysError, OSError) as error:
            _log.warning("what run %s has left cannot be cleared: %s", run.id, error)
        return done, f"run {run.id} ends, {outcome}: {reason}"

    def _keep(self, run: Run) -> None:
        self._runs.save(run)
        self._runs.save_page(run, page(run))

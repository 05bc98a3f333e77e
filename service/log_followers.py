"""The deployments that follow the event log: supervised by Serve, apart from the requests."""

import asyncio
import logging
import os
from collections.abc import Coroutine
from functools import partial
from typing import Any

from ray import serve

from service import metrics
from service.archived_streams import CatalogueStream, DecisionStreams, EventStreams
from service.archiver import Archiver
from service.archiver import run as run_archiver
from service.archives import catalogue_archive, decision_archive, erased_users, event_archive
from service.autopilot.controller import AutopilotController
from service.autopilot.pilot import Pilot
from service.autopilot.run import Runs
from service.autopilot.tasks import as_task
from service.autopilot.works import HomeWorks, policy_of
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.drift import worth_retraining
from service.drift_watch import DriftWatch
from service.eraser import Eraser
from service.errors import HttpError
from service.event_ids import IdCleaner
from service.experiment_guard import ExperimentGuard
from service.forgetting import Forgetting
from service.item_updater import ItemUpdater
from service.item_updater import run as run_item_updater
from service.junk import forget_in_junk
from service.live_experiments import Reported, rehearsed, reported
from service.outcomes import outcome_reader
from service.promotion import tell
from service.ray_metrics import RayMetrics
from service.rebuild import count_items_anew
from service.rehearsal import Rehearsal
from service.rollouts import RolloutController
from service.rollouts import run as run_rollouts
from service.round_trips import RoundTrips
from service.settings import Settings
from service.stack.application import ROLLOUTS
from service.telemetry import logs
from service.telemetry.process import ProcessTelemetry
from service.telemetry.retraining import RetrainingWatch
from service.traffic.document import Traffic
from service.traffic.lease import Lease
from service.traffic.table import LEASE_KEY, TrafficTable
from service.updater import Updater, run
from service.updater import warm_up as warm_up_updater
from service.withdrawal import let_go, withdraw
from service.world import load_world, registry

LOG_TIMEOUT_MS = 3_000  # the updater waits up to a second for events
ARCHIVER_NICENESS = 5  # of the thread that works: it took two thirds of a core while lists waited
_log = logging.getLogger("ray.serve")
_QUIET = logs.SERVE


def _followed(work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
    """A task that runs for ever; if it ends, the log says why: Serve's own shows the last line of it alone."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            _log.error("the %s has ended", what, exc_info=task.exception())

    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(ended)
    return task


@serve.deployment(name="FeatureUpdater", logging_config=_QUIET)
class FeatureUpdaterDeployment:
    """Applies events of some shards to user states. Two with the same shards do no harm."""

    async def __init__(self, settings: Settings, redis_url: str, shards: list[int]) -> None:  # type: ignore[misc]
        self._updater = Updater(RoundTrips(redis_url, timeout_ms=LOG_TIMEOUT_MS, connections=1), shards=shards)
        warm_up_updater()
        telemetry = ProcessTelemetry(settings, "updater", RayMetrics().tell)
        telemetry.readings.counts(metrics.UPDATER, lambda: dict(self._updater.counts))
        telemetry.readings.distribution(metrics.EFFECT, lambda: {(): self._updater.effect_s})
        self._tasks = [_followed(run(self._updater), "updater"), _followed(telemetry.report(), "updater's report")]

    async def __call__(self) -> dict[str, int]:
        """What it has done so far."""
        return dict(self._updater.counts)

    def check_health(self) -> None:
        """Serve restarts an updater whose loop has ended: a bug, since a failing store is waited for."""
        for task in self._tasks:
            if task.done():
                raise RuntimeError("the updater has ended") from task.exception()


@serve.deployment(name="ItemUpdater", logging_config=_QUIET)
class ItemUpdaterDeployment:
    """Publishes item stats. One is enough; two do no harm."""

    async def __init__(self, redis_url: str) -> None:  # type: ignore[misc]  # Serve awaits it
        self._updater = ItemUpdater(RoundTrips(redis_url, timeout_ms=LOG_TIMEOUT_MS, connections=1))
        self._task = _followed(run_item_updater(self._updater), "item updater")

    async def __call__(self) -> dict[str, float]:
        """What it has done so far."""
        return dict(self._updater.counts)

    def check_health(self) -> None:
        """Serve restarts an updater whose loop has ended: a bug, since a failing store is waited for."""
        if self._task.done():
            raise RuntimeError("the item updater has ended") from self._task.exception()


@serve.deployment(name="RolloutController", logging_config=_QUIET)
class RolloutControllerDeployment:
    """Takes rollouts forward and back, halts experiments, looks for drift. One acts at a time, by a lease."""

    async def __init__(self, settings: Settings, redis_url: str) -> None:  # type: ignore[misc]  # Serve awaits it
        os.nice(ARCHIVER_NICENESS)
        store = RoundTrips(redis_url, timeout_ms=LOG_TIMEOUT_MS, connections=1)

        async def register(traffic: Traffic) -> str:
            return await asyncio.to_thread(tell, registry(settings), traffic)

        lease = Lease(store, LEASE_KEY)
        self._outcomes, self._table = outcome_reader(settings, store), TrafficTable(store)
        records = DecisionRecords(DecisionStream(store), decision_archive(settings))
        self._rehearsal = Rehearsal(settings, store, records, partial(load_world, settings))
        controller = RolloutController(store, self._outcomes, lease, register)
        guard = ExperimentGuard(store, self._outcomes, lease)
        self._task = _followed(run_rollouts(controller, guard), "rollout controller")
        drift = DriftWatch(settings, redis_url, as_task)
        telemetry = ProcessTelemetry(settings, "rollouts", RayMetrics().tell)
        telemetry.readings.counts(metrics.SHARE_MISMATCH, lambda: guard.lopsided)
        drift.tell(telemetry.readings)
        self._others = [_followed(drift.run(), "watch for drift"), _followed(telemetry.report(), "rollouts' report")]

    async def __call__(self) -> str:
        """Nothing to tell: all that is known of a rollout is in the traffic table."""
        return "runs"

    async def rehearse(self, name: str) -> HttpError | None:
        """Why an experiment is not to be started, if it is not: tried here, since gateways have lists to make."""
        return await rehearsed(self._table, self._rehearsal, name)

    async def report(self, name: str) -> Reported:
        """What came of an experiment, or why nobody can say: read here, where records are read on already."""
        return await reported(self._table, self._outcomes, name)

    def check_health(self) -> None:
        """Serve restarts a controller whose loop has ended: a bug, since a failing store is waited for."""
        if self._task.done():
            raise RuntimeError("the rollout controller has ended") from self._task.exception()


@serve.deployment(name="Autopilot", logging_config=_QUIET)
class AutopilotDeployment:
    """Trains, judges and rolls out by itself. One leads at a time, by a lock in the home."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        os.nice(ARCHIVER_NICENESS)
        runs = Runs(settings.home_path / "autopilot")
        harmful = partial(as_task, worth_retraining, settings)
        works = HomeWorks(settings, compute=as_task, harmful=harmful, supervised=True)
        pilot = Pilot(runs, works, policy_of(settings))
        self._controller = AutopilotController(pilot)
        telemetry, watch = ProcessTelemetry(settings, "autopilot", RayMetrics().tell), RetrainingWatch(runs)
        watch.tell(telemetry.readings)
        self._reporter = _followed(telemetry.report(watch.look), "autopilot's report")
        self._task = _followed(self._controller.run(), "autopilot")

    async def __call__(self) -> str:
        """What it did or found last."""
        return self._controller.said

    def check_health(self) -> None:
        """Serve restarts a controller whose loop has ended: a bug, since what fails is waited for."""
        if self._task.done():
            raise RuntimeError("the autopilot has ended") from self._task.exception()


async def ask_rehearsal(name: str) -> HttpError | None:
    """Have the controller try an experiment out."""
    return await serve.get_app_handle(ROLLOUTS).rehearse.remote(name)


async def ask_report(name: str) -> Reported:
    """Have the controller, an application of its own, report on an experiment."""
    return await serve.get_app_handle(ROLLOUTS).report.remote(name)


@serve.deployment(name="Archiver", logging_config=_QUIET)
class ArchiverDeployment:
    """Moves what is in the streams to their archives, and forgets users. One is enough; two do no harm."""

    async def __init__(self, settings: Settings, redis_url: str) -> None:  # type: ignore[misc]  # Serve awaits it
        os.nice(ARCHIVER_NICENESS)
        store = RoundTrips(redis_url, timeout_ms=LOG_TIMEOUT_MS, connections=1)
        erased = erased_users(settings)
        events = Archiver(store, event_archive(settings), EventStreams(store, kept=settings.event_kept))
        decisions = Archiver(
            store, decision_archive(settings), DecisionStreams(store, erased, kept=settings.decision_kept)
        )
        catalogue = Archiver(store, catalogue_archive(settings), CatalogueStream(store, kept=settings.catalogue_kept))
        eraser = Eraser(
            store,
            Forgetting(store, refuse_s=settings.forget_refuse_s),
            events,
            decisions,
            erased,
            data=settings.home_path / "data",
            withdraw=partial(withdraw, settings),
            let_go=partial(let_go, settings),
            forget_junk=partial(forget_in_junk, settings),
            recount=partial(count_items_anew, settings, redis_url),
        )
        archivers = {"events": events, "decisions": decisions, "catalogue": catalogue}
        self._counts = {name: one.counts for name, one in archivers.items()} | {"users": eraser.counts}
        then = (eraser.step, IdCleaner(store).step)
        work = run_archiver(list(archivers.values()), every_s=settings.archive_every_s, then=then)
        self._task = _followed(work, "archiver")

    async def __call__(self) -> dict[str, float]:
        """What it has done so far."""
        return {f"{of}.{what}": n for of, counts in self._counts.items() for what, n in counts.items()}

    def check_health(self) -> None:
        """Serve restarts an archiver whose loop has ended: a bug, since a failing store or disk is waited for."""
        if self._task.done():
            raise RuntimeError("the archiver has ended") from self._task.exception()

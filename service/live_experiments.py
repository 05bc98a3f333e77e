"""Experiments over HTTP: the same operations as of the command line, on the store and the registry of what runs.

Reports are read in the controller's process, which reads on from where it was; gateways have lists to make.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import RedisError

from recsys.errors import ArchiveError, RegistryError
from service import experiments
from service.errors import (
    HttpError,
    NotFound,
    RecordsUnavailable,
    StoreUnavailable,
    TrafficConflict,
    TrafficError,
    Unprocessable,
)
from service.experiment_schemas import ExperimentChange, ExperimentRequest, ExperimentsResponse
from service.experiments import Resolve
from service.outcomes import OutcomeReader
from service.rehearsal import Rehearsal
from service.round_trips import RoundTrips
from service.settings import Settings
from service.traffic.document import Experiment, Traffic
from service.traffic.table import TrafficTable


class Reported(NamedTuple):
    """A report as it crosses processes. report: As `ExperimentReport`; None: `error` says why there is none."""

    report: dict[str, Any] | None
    error: HttpError | None = None


class LiveExperiments:
    """What answers the routes of experiments.

    Args:
        store: Of the traffic table. resolve: Of the registry.
        ask_rehearsal, ask_report: Have the controller try an experiment of this name out, or report on it; raise where
            it does not answer.
    """

    def __init__(
        self,
        store: RoundTrips,
        settings: Settings,
        resolve: Resolve,
        ask_rehearsal: Callable[[str], Awaitable[HttpError | None]],
        ask_report: Callable[[str], Awaitable[Reported]],
    ) -> None:
        self._table, self._settings = TrafficTable(store), settings
        self._resolve, self._ask_rehearsal, self._ask_report = resolve, ask_rehearsal, ask_report

    async def list(self) -> dict[str, Any]:
        """All of them, shaped as `ExperimentsResponse`. Raises StoreUnavailable, TrafficConflict."""

        async def all_() -> ExperimentsResponse:
            now = await self._table.demand()
            return ExperimentsResponse(experiments=[experiments.state_of(now, one.name) for one in now.experiments])

        return msgspec.to_builtins(await _answered(all_()))

    async def create(self, asked: ExperimentRequest) -> dict[str, Any]:
        """Describe one; shaped as `ExperimentState`. Raises Unprocessable: no such bundle; and as `list`."""

        async def created() -> Traffic:
            return await experiments.create(self._table, self._settings, self._resolve, asked)

        return msgspec.to_builtins(experiments.state_of(await _answered(created()), asked.name))

    async def start(self, name: str, change: ExperimentChange) -> dict[str, Any]:
        """Answered once every replica obeys; shaped as `ExperimentState`. Raises NotFound, and as `create`."""

        async def started() -> Traffic:
            await self._known(name)
            who, reason = change.who, change.reason
            begun = await experiments.start(self._table, self._settings, self._rehearse, name, who=who, reason=reason)
            return begun[0]

        return msgspec.to_builtins(experiments.state_of(await _answered(started()), name))

    async def stop(self, name: str, change: ExperimentChange) -> dict[str, Any]:
        """Answered once every replica obeys; shaped as `ExperimentState`. Raises NotFound, and as `create`."""

        async def stopped() -> Traffic:
            await self._known(name)
            return await experiments.stop(self._table, name, who=change.who, reason=change.reason)

        return msgspec.to_builtins(experiments.state_of(await _answered(stopped()), name))

    async def report(self, name: str) -> dict[str, Any]:
        """What came of one; shaped as `ExperimentReport`.

        Raises:
            NotFound: there is none of this name. TrafficConflict: it has not been started. StoreUnavailable,
                RecordsUnavailable: not all can be read, or the controller does not answer.
        """
        try:
            found = await self._ask_report(name)
        except Exception as error:  # whatever a remote process raised, Ray wraps in types of its own
            raise StoreUnavailable(f"the controller does not report: {type(error).__name__}; try again") from error
        if found.report is None:
            raise found.error or StoreUnavailable("the controller reports nothing")
        return found.report

    async def _rehearse(self, _: Traffic, experiment: Experiment) -> None:
        try:
            refused = await self._ask_rehearsal(experiment.name)
        except Exception as error:  # whatever a remote process raised, Ray wraps in types of its own
            raise StoreUnavailable(f"the controller tries nothing: {type(error).__name__}; try again") from error
        if refused is not None:
            raise refused

    async def _known(self, name: str) -> None:
        _find(await self._table.demand(), name)


async def rehearsed(table: TrafficTable, rehearsal: Rehearsal, name: str) -> HttpError | None:
    """Why an experiment is not to be started, as it crosses processes; None where nothing speaks against it."""
    try:
        now = await _answered(table.demand())
        await _answered(rehearsal.demand_difference(now, now.experiment(name)))
    except HttpError as error:
        return error
    except TrafficError as error:
        return TrafficConflict(str(error))
    return None


async def reported(table: TrafficTable, outcomes: OutcomeReader, name: str) -> Reported:
    """A report, or why there is none; for the process that reads outcomes."""

    async def read() -> dict[str, Any]:
        now = await table.demand()
        _find(now, name)
        return msgspec.to_builtins(await experiments.report(now, outcomes, name))

    try:
        return Reported(await _answered(read()))
    except HttpError as error:
        return Reported(None, error)


def _find(traffic: Traffic, name: str) -> None:
    if name not in [one.name for one in traffic.experiments]:
        raise NotFound(f"no experiment {name[:100]!r}; GET /v1/experiments lists them")


async def _answered(work: Awaitable[Any]) -> Any:
    """What comes of it, or an error that has an answer."""
    try:
        return await work
    except TrafficError as error:
        raise TrafficConflict(str(error)) from error
    except RegistryError as error:
        raise Unprocessable(str(error)) from error
    except ArchiveError as error:
        raise RecordsUnavailable(f"what came of it cannot be read: {error}") from error
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"the store does not answer: {str(error) or type(error).__name__}") from error

"""The Serve application: which stage runs where. The only file that binds deployments together.

`colocated`: each Gateway replica holds all stages. `distributed`: FeatureLookup, CandidateRetrieval and Ranking are
deployments of their own, called once per micro-batch.
"""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.util import get_node_ip_address
from redis.exceptions import RedisError

from recsys.errors import StateError
from recsys.recommend import Ranked, Retrieved, rank, retrieve
from recsys.types import QueryBatch
from service.archives import decision_archive
from service.autoscaling import LOOK_BACK_S, METRIC, UPSCALE_DELAY_S, LoadMeter
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.decisions import DecisionLog
from service.errors import TrafficError
from service.event_backlog import BacklogWatch
from service.event_log import EventLog
from service.events import EventIntake
from service.forgetting import Forgetting
from service.gateway import Gateway
from service.http import HttpEdge
from service.items import ItemCatalogue
from service.live_experiments import LiveExperiments
from service.log_followers import (
    ArchiverDeployment,
    AutopilotDeployment,
    FeatureUpdaterDeployment,
    ItemUpdaterDeployment,
    RolloutControllerDeployment,
    ask_rehearsal,
    ask_report,
)
from service.lookup import StateLookup, States
from service.merging import Merging
from service.ray_metrics import RayMetrics
from service.recorded_answers import RecordedAnswers
from service.round_trips import RoundTrips
from service.settings import Settings
from service.shadow import Shadow
from service.stages import ColocatedStages, DistributedStages, Named, Stages
from service.state_keys import SHARDS
from service.telemetry import logs
from service.telemetry.gateway import tell_gateway
from service.telemetry.process import ProcessTelemetry
from service.traffic.residents import LOOK_S, Residents
from service.traffic.table import TELL_S
from service.warm_up import warm_up, warm_up_gateway
from service.world import load_world, recorded_worlds, registry

REFRESH_S = 0.5  # between looks at which states are live, and for newer item stats
_TASKS: set[asyncio.Task[None]] = set()  # a loop keeps only weak references to its tasks
LOG_TIMEOUT_MS = 3_000  # of the event log and of reading records; the updater waits up to a second for events
STAGE_CALLS = 16  # micro-batches under way in one replica of a stage; each gateway has one at a time
_log = logging.getLogger("ray.serve")
_HEAD = "node:__internal_head__"  # a resource that Ray gives to the head alone
_ONE_IN_THE_BACKGROUND = {
    "num_replicas": 1,
    "ray_actor_options": {"num_cpus": 0},
    "health_check_period_s": 2,
    "health_check_timeout_s": 10,
}
_QUIET = logs.SERVE


@serve.deployment(name="FeatureLookup", logging_config=_QUIET)
class FeatureLookup:
    """Reads packed user states from Redis."""

    async def __init__(self, settings: Settings, redis_url: str) -> None:  # type: ignore[misc]  # Serve awaits it
        self._lookup = await _state_lookup(settings, redis_url)

    async def __call__(self, user_ids: list[str]) -> States:
        return await self._lookup.fetch(user_ids)


@serve.deployment(name="CandidateRetrieval", logging_config=_QUIET)
class CandidateRetrieval:
    """Finds and filters candidates."""

    async def __init__(self, settings: Settings, redis_url: str, bundle_id: str) -> None:  # type: ignore[misc]
        self._residents = await _residents(settings, redis_url, bundle_id)

    async def __call__(self, named: Named, batch: QueryBatch) -> Retrieved:
        return retrieve(await self._residents.of(named, "retrieval"), batch).to_send()


@serve.deployment(name="Ranking", logging_config=_QUIET)
class Ranking:
    """Scores candidates."""

    async def __init__(self, settings: Settings, redis_url: str, bundle_id: str) -> None:  # type: ignore[misc]
        self._residents = await _residents(settings, redis_url, bundle_id)

    async def __call__(self, named: Named, batch: QueryBatch, retrieved: Retrieved) -> Ranked:
        return rank(await self._residents.of(named, "ranking"), batch, retrieved)


@serve.deployment(name="Gateway", logging_config=_QUIET)
@serve.ingress()
class GatewayDeployment:
    """The HTTP edge and the gateway behind it; with the stages in process, or handles to theirs."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, settings: Settings, redis_url: str, bundle_id: str, handles: tuple[DeploymentHandle, ...] = ()
    ) -> None:
        residents = await _residents(settings, redis_url, bundle_id, computes=not handles)
        world = residents.champion.world
        if handles:
            timeout_s = 4 * settings.redis_timeout_ms / 1000  # the stage's own timeout and two hops
            # Plain pickle: cloudpickle, the default, runs in Python; whether it is slower here was not measured alone.
            plain = [one.options(request_serialization="pickle", response_serialization="pickle") for one in handles]
            stages: Stages = DistributedStages(*plain, lookup_timeout_s=timeout_s)
        else:
            stages = ColocatedStages(await _state_lookup(settings, redis_url))
        written = RoundTrips(redis_url, timeout_ms=10 * settings.redis_timeout_ms, connections=1)
        decisions = DecisionLog(written, queue=settings.decision_queue, stream_length=settings.decision_stream_length)
        self._gateway = Gateway(world, stages, decisions, settings)
        self._gateway.troubles = residents.troubles
        shadow = Shadow(self._gateway.lanes, settings, self._gateway.is_busy, written)
        self._gateway.sent = shadow.offer
        for one in await warm_up_gateway(lambda: residents.champion.world, stages, decisions, settings):
            _log.warning("ready, but degraded: %s", one)
        # Answers leave no reference cycles: look for them less often than every 700 objects, Python's default.
        gc.set_threshold(50_000, 20, 100)
        log = RoundTrips(redis_url, timeout_ms=LOG_TIMEOUT_MS, connections=settings.redis_connections)
        events = EventLog(log, limit=settings.event_limit, replicas=settings.event_replicas)
        intake = EventIntake(events, world.bundle.vocabulary, settings)
        merging = Merging(log, events, world.bundle.vocabulary)
        stream = DecisionStream(RoundTrips(redis_url, timeout_ms=LOG_TIMEOUT_MS, connections=1))
        records = DecisionRecords(stream, decision_archive(settings))
        recorded = RecordedAnswers(
            world.bundle.vocabulary, records, recorded_worlds(settings, redis_url, residents.built)
        )
        catalogue = ItemCatalogue(log, residents.champion.built.bundle.vocabulary, limit=settings.catalogue_limit)
        forgetting = Forgetting(log, refuse_s=settings.forget_refuse_s)
        experiments = LiveExperiments(log, settings, registry(settings).resolve, ask_rehearsal, ask_report)
        telemetry = ProcessTelemetry(settings, "gateway", RayMetrics().tell)
        self._gateway.lists.pseudonyms = telemetry.pseudonyms
        watch, most = telemetry.request_watch(), settings.max_body_bytes
        backends = (intake, recorded, catalogue, merging, forgetting, experiments)
        self._edge = HttpEdge(self._gateway, *backends, max_body_bytes=most, watch=watch)
        residents.follow(self._gateway.lanes, intake, merging, recorded, catalogue)
        self._load = LoadMeter(self._gateway.wait_share, lambda: self._gateway.asked, lambda: self._gateway.shed)
        backlog = BacklogWatch(log)
        tell_gateway(telemetry.readings, self._gateway, watch, decisions, shadow, backlog)
        self._reporter = asyncio.get_running_loop().create_task(telemetry.report(backlog.look))

    def __serve_build_asgi_app__(self) -> HttpEdge:
        return self._edge

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve hands to `autoscaling.policy`; the name is Serve's."""
        return {METRIC: self._load.load()}


def build_item_updater(*, redis_url: str) -> Any:
    """The application that keeps item stats up to date."""
    return ItemUpdaterDeployment.options(**_ONE_IN_THE_BACKGROUND).bind(redis_url)  # type: ignore[attr-defined]


def build_archiver(settings: Settings, *, redis_url: str) -> Any:
    """The application that keeps the archive, on the head's disk; a busy updater does not wait for it."""
    on_the_head = {**_ONE_IN_THE_BACKGROUND, "ray_actor_options": {"num_cpus": 0, "resources": {_HEAD: 0.001}}}
    return ArchiverDeployment.options(**on_the_head).bind(settings, redis_url)  # type: ignore[attr-defined]


def build_rollouts(settings: Settings, *, redis_url: str) -> Any:
    """The application that takes rollouts forward and back, on the head, where the archive is."""
    on_the_head = {**_ONE_IN_THE_BACKGROUND, "ray_actor_options": {"num_cpus": 0, "resources": {_HEAD: 0.001}}}
    return RolloutControllerDeployment.options(**on_the_head).bind(settings, redis_url)  # type: ignore[attr-defined]


def build_autopilot(settings: Settings) -> Any:
    """The application that trains and rolls out by itself, on the head, where data and registry are."""
    on_the_head = {**_ONE_IN_THE_BACKGROUND, "ray_actor_options": {"num_cpus": 0, "resources": {_HEAD: 0.001}}}
    return AutopilotDeployment.options(**on_the_head).bind(settings)  # type: ignore[attr-defined]


def build_updaters(settings: Settings, *, redis_url: str) -> list[Any]:
    """The applications that keep user states up to date; beside the other, so that none restarts another."""
    updaters: Any = FeatureUpdaterDeployment
    return [
        updaters.options(**_ONE_IN_THE_BACKGROUND).bind(
            settings, redis_url, list(range(number, SHARDS, settings.updaters))
        )
        for number in range(settings.updaters)
    ]


def build(settings: Settings, *, redis_url: str, bundle_id: str) -> Any:
    """The application for `serve.run`: everything pinned to one bundle."""
    waiting = settings.max_waiting + settings.max_batch
    gateway = GatewayDeployment.options(  # type: ignore[attr-defined]
        autoscaling_config=None
        if settings.gateways == settings.gateways_max
        else {
            "min_replicas": settings.gateways,
            "max_replicas": settings.gateways_max,
            "policy": {"policy_function": "service.autoscaling:policy"},
            "look_back_period_s": LOOK_BACK_S,
            "upscale_delay_s": UPSCALE_DELAY_S,
            "downscale_delay_s": settings.downscale_delay_s,
        },
        **({"num_replicas": settings.gateways} if settings.gateways == settings.gateways_max else {}),
        # The gateway sheds by itself, with Retry-After; Serve's own limit stands behind it.
        max_ongoing_requests=2 * waiting,
        max_queued_requests=waiting,
        ray_actor_options={"num_cpus": 1},
        health_check_period_s=2,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=10,
    )
    if settings.topology == "colocated":
        return gateway.bind(settings, redis_url, bundle_id)
    handles = (
        _placed(FeatureLookup).bind(settings, redis_url),
        _placed(CandidateRetrieval).bind(settings, redis_url, bundle_id),
        _placed(Ranking).bind(settings, redis_url, bundle_id),
    )
    return gateway.bind(settings, redis_url, bundle_id, handles)


def _placed(stage: Any) -> Any:
    """A stage deployment with its size."""
    return stage.options(max_ongoing_requests=STAGE_CALLS, num_replicas=1, ray_actor_options={"num_cpus": 1})


async def _state_lookup(settings: Settings, redis_url: str) -> StateLookup:
    """A lookup that knows which namespace is live, and goes on looking."""
    store = RoundTrips(redis_url, timeout_ms=settings.redis_timeout_ms, connections=settings.redis_connections)
    lookup = StateLookup(store)
    await _again_and_again(lookup.refresh, REFRESH_S)
    return lookup


async def _residents(settings: Settings, redis_url: str, bundle_id: str, *, computes: bool = True) -> Residents:
    """The bundles that the traffic table names, with the item stats of now; it goes on looking for newer of both.

    Args:
        computes: Whether this process retrieves and ranks, and so has code and pages to warm up.
    """
    here = serve.get_replica_context()
    residents = Residents(
        lambda one: load_world(settings, one),
        partial(warm_up, max_batch=settings.max_batch) if computes else lambda *_: None,
        RoundTrips(redis_url, timeout_ms=LOG_TIMEOUT_MS, connections=2),
        deployed=bundle_id,
        kept=settings.home_path / "run" / "traffic.json",
        replica=here.replica_id.unique_id,
        role=here.deployment,
        node=get_node_ip_address(),
    )
    await residents.begin()
    await _again_and_again(residents.refresh, REFRESH_S)
    await _again_and_again(residents.look, LOOK_S)
    await _again_and_again(residents.report, TELL_S)
    return residents


async def _again_and_again(step: Callable[[], Awaitable[None]], every_s: float) -> None:
    """Do it now, and from now on in the background."""

    async def once() -> None:
        try:
            await step()
        except (RedisError, OSError, TimeoutError, StateError):
            pass  # what is known stays
        except TrafficError as error:
            _log.error("%s; what was known before stays", error)
        except Exception:  # a bug: what is known stays, and the next time may do better
            _log.exception("%s failed", step)

    async def go_on() -> None:
        while True:
            await asyncio.sleep(every_s)
            await once()

    await once()
    _TASKS.add(asyncio.get_running_loop().create_task(go_on()))

"""The stages in deployments of their own: the same bits as in one process, and every failure by its name."""

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import orjson
import pytest
from ray.exceptions import RayTaskError

from recsys.recommend import Ranked, Retrieved, rank, retrieve
from recsys.types import QueryBatch, World
from service.gateway import Gateway
from service.live_world import LiveWorld
from service.lookup import StateLookup, States
from service.round_trips import RoundTrips
from service.schemas import RecommendationRequest, SimilarRequest
from service.settings import Settings
from service.stages import ColocatedStages, DistributedStages, Named, StageUnavailable
from tests.service.gateways import KeptDecisions, colocated
from tests.worlds import batch_of, random_asks


@dataclass
class Handle:
    """A handle whose deployment runs here; arguments and answers, and what it raises, are pickled on their way."""

    deployment: Callable[..., Awaitable[Any]]
    calls: list[int] = field(default_factory=list)

    async def remote(self, *arguments: object) -> Any:
        sent = pickle.dumps(arguments)
        self.calls.append(len(sent))
        try:
            answer = pickle.dumps(await self.deployment(*pickle.loads(sent)))  # noqa: S301 - made a line above
        except Exception as error:
            # As Ray does it: the type that arrives is both its own and the cause's.
            raise RayTaskError("remote", "traceback", error).as_instanceof_cause() from None
        return pickle.loads(answer)  # noqa: S301


@dataclass
class Remote:
    """Deployments as `service/app.py` has them, over one world."""

    world: World

    def __post_init__(self) -> None:
        self.live = LiveWorld(self.world, RoundTrips("redis://127.0.0.1:1/0", timeout_ms=1, connections=1))

    async def retrieve(self, named: Named, batch: QueryBatch) -> Retrieved:
        return retrieve(await self.live.of(named, "retrieval"), batch).to_send()

    async def rank(self, named: Named, batch: QueryBatch, retrieved: Retrieved) -> Ranked:
        return rank(await self.live.of(named, "ranking"), batch, retrieved)


async def no_states(user_ids: list[str]) -> States:
    return [None] * len(user_ids), [None] * len(user_ids)


async def sleeping(*_: object) -> None:
    await asyncio.sleep(30)


async def failing(*_: object) -> None:
    raise ArithmeticError("deep in a stage")


def distributed(world: World, **deployments: Any) -> DistributedStages:
    remote = Remote(world)
    return DistributedStages(
        Handle(deployments.get("lookup", no_states)),
        Handle(deployments.get("retrieve", remote.retrieve)),
        Handle(deployments.get("rank", remote.rank)),
        lookup_timeout_s=0.05,
    )


def local() -> ColocatedStages:
    return ColocatedStages(StateLookup(RoundTrips("redis://127.0.0.1:1/0", timeout_ms=1, connections=1)))


def requests_of(world: World, b: int = 24) -> QueryBatch:
    return batch_of(world, random_asks(world, np.random.default_rng(3), b))


async def test_distributed_stages_give_the_bits_of_colocated_ones(served: World) -> None:
    batch = requests_of(served)
    here, there = local(), distributed(served)
    retrieved, from_there = (
        await here.retrieve(served, batch, timeout_s=10),
        await there.retrieve(served, batch, timeout_s=10),
    )
    for array in fields(retrieved.candidates):
        one, other = getattr(retrieved.candidates, array.name), getattr(from_there.candidates, array.name)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    for part in ("removed", "personal", "digests"):
        assert getattr(retrieved, part).tobytes() == getattr(from_there, part).tobytes()
    ranked, from_there = (
        await here.rank(served, batch, retrieved, timeout_s=10),
        await there.rank(served, batch, from_there, timeout_s=10),
    )
    assert ranked.score.dtype == from_there.score.dtype == np.float64
    assert ranked.score.tobytes() == from_there.score.tobytes()
    assert ranked.digests.tobytes() == from_there.digests.tobytes()


@pytest.mark.valkey
async def test_gateway_answers_alike_over_both_topologies_with_one_call_a_stage_and_batch(
    served: World, store_url: str
) -> None:
    users = [f"user-{number:04d}" for number in range(12)] + ["nobody"]
    store = RoundTrips(store_url, timeout_ms=1000, connections=2)
    remote, lookup = Remote(served), StateLookup(store)
    handles = [Handle(lookup.fetch), Handle(remote.retrieve), Handle(remote.rank)]
    there = DistributedStages(*handles, lookup_timeout_s=1)
    answers = []
    try:
        for stages in (ColocatedStages(lookup), there):
            kept = KeptDecisions()
            gateway = Gateway(served, stages, kept, Settings(deadline_ms=10_000))
            bodies = await asyncio.gather(
                *(gateway.recommend(RecommendationRequest(user_id=user_id)) for user_id in users)
            )
            assert all(body["degraded"] == [] for body in bodies)
            answers.append([record.items for record in kept.records])
    finally:
        await store.close()
    assert answers[0] == answers[1]
    assert [len(handle.calls) for handle in handles] == [1, 1, 1]


@pytest.mark.parametrize(
    ("deployment", "cause"), [(sleeping, "timeout"), (failing, "unavailable")], ids=["sleeping", "failing"]
)
async def test_stage_that_does_not_answer_is_unavailable_with_its_cause(
    served: World, deployment: Callable[..., Awaitable[Any]], cause: str
) -> None:
    batch = requests_of(served, 2)
    retrieved = retrieve(served, batch)
    stages = distributed(served, lookup=deployment, retrieve=deployment, rank=deployment)
    assert await stages.lookup(["a", "b"]) == ([None, None], [cause, cause])
    with pytest.raises(StageUnavailable) as without_candidates:
        await stages.retrieve(served, batch, timeout_s=0.05)
    with pytest.raises(StageUnavailable) as without_scores:
        await stages.rank(served, batch, retrieved, timeout_s=0.05)
    assert [(one.value.stage, one.value.reason) for one in (without_candidates, without_scores)] == [
        ("retrieval", cause),
        ("ranking", cause),
    ]


async def test_time_that_is_up_before_a_stage_is_called_is_a_timeout(served: World) -> None:
    batch = requests_of(served, 2)
    retrieved = retrieve(served, batch)
    for stages in (local(), distributed(served, rank=sleeping)):
        with pytest.raises(StageUnavailable, match="ranking: timeout"):
            await stages.rank(served, batch, retrieved, timeout_s=-1.0)


@pytest.mark.parametrize("what", ["bundle", "item_stats"])
async def test_stage_with_another_bundle_or_other_item_stats_refuses_by_that_name(served: World, what: str) -> None:
    other = elsewhere(served, what)
    batch, stages = requests_of(served, 2), distributed(other)
    with pytest.raises(StageUnavailable) as refused:
        await stages.retrieve(served, batch, timeout_s=10)
    assert (refused.value.stage, refused.value.reason) == ("retrieval", f"other_{what}")
    with pytest.raises(StageUnavailable) as refused:
        await stages.rank(served, batch, retrieve(served, batch), timeout_s=10)
    assert (refused.value.stage, refused.value.reason) == ("ranking", f"other_{what}")


def elsewhere(world: World, what: str) -> World:
    if what == "bundle":
        return replace(world, bundle=replace(world.bundle, id="20250101-0123456789ab"))
    return replace(world, item_stats=replace(world.item_stats, version="another"))


@pytest.mark.parametrize("what", ["bundle", "item_stats"])
async def test_stage_in_another_world_degrades_the_answer_and_the_answer_is_json(served: World, what: str) -> None:
    stages = distributed(elsewhere(served, what))
    gateway = Gateway(served, stages, KeptDecisions(), Settings(deadline_ms=10_000))
    body = orjson.loads(orjson.dumps(await gateway.recommend(RecommendationRequest(user_id="nobody"))))
    assert [(one["stage"], one["cause"]) for one in body["degraded"]] == [("retrieval", f"other_{what}")]
    assert len(body["items"]) == 20


async def test_related_items_need_retrieval_alone(served: World) -> None:
    stages = distributed(served, lookup=failing, rank=failing)
    gateway = Gateway(served, stages, KeptDecisions(), Settings(deadline_ms=10_000))
    body = await gateway.similar(SimilarRequest(item_ids=["item-0001"]))
    assert body["degraded"] == []
    assert body["items"]


def test_stage_unavailable_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(StageUnavailable("ranking", "timeout")))  # noqa: S301
    assert (type(error), error.stage, error.reason, str(error)) == (
        StageUnavailable,
        "ranking",
        "timeout",
        "ranking: timeout",
    )


@pytest.mark.valkey
async def test_colocated_lookup_is_the_stores(store_url: str) -> None:
    async with colocated(store_url) as stages:
        values, causes = await stages.lookup(["user-0001", "nobody"])
    assert causes == [None, None]
    assert values[0] is not None
    assert values[1] is None

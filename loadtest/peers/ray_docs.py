"""Ray Serve as its docs compose an application: a deployment for each stage, an ingress that calls them per request.

The ingress hands the response of one stage to the next call without waiting for it, as the docs advise.
"""

from typing import Any

import redis.asyncio as aioredis
from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from loadtest.peers import job
from loadtest.peers.bodies import Query, Recommendations
from loadtest.peers.job import Job
from loadtest.peers.pipeline import Ask, Items, Pipeline
from recsys.recommend import Retrieved, rank, retrieve, slate
from service.state_keys import state_key

DEPLOYMENTS = 4
REPLICA_CPUS = 0.5  # so that a replica of each fits on two cores
_ASYNC_CALLS = 1000  # `max_ongoing_requests` that the docs advise for async code; by default 5

app = FastAPI()


@serve.deployment
class FeatureLookup:
    """Reads packed user states."""

    def __init__(self) -> None:
        mine = job.of_environment()
        self._namespace = mine.namespace
        self._store = aioredis.Redis.from_url(mine.redis_url)

    async def __call__(self, user_id: str) -> bytes | None:
        return await self._store.get(state_key(self._namespace, user_id))


@serve.deployment
class CandidateRetrieval:
    """Finds and filters candidates."""

    def __init__(self) -> None:
        self._pipeline = Pipeline.of_environment()

    async def __call__(self, ask: Ask, packed: bytes | None) -> Retrieved:
        return retrieve(self._pipeline.world, self._pipeline.batch([ask], [packed])).to_send()


@serve.deployment
class Ranking:
    """Scores candidates and makes the list."""

    def __init__(self) -> None:
        self._pipeline = Pipeline.of_environment()

    async def __call__(self, ask: Ask, packed: bytes | None, retrieved: Retrieved) -> Items:
        world, batch = self._pipeline.world, self._pipeline.batch([ask], [packed])
        (items,) = self._pipeline.items(slate(world, batch, retrieved, rank(world, batch, retrieved)))
        return items


@serve.deployment
@serve.ingress(app)
class Ingress:
    """The HTTP side."""

    def __init__(self, lookup: DeploymentHandle, retrieval: DeploymentHandle, ranking: DeploymentHandle) -> None:
        self._lookup, self._retrieval, self._ranking = lookup, retrieval, ranking

    @app.post("/v1/recommendations", response_model=Recommendations)
    async def recommend(self, query: Query) -> Any:
        ask = Ask.now(query.count)
        packed = self._lookup.remote(query.user_id)
        retrieved = self._retrieval.remote(ask, packed)
        return {"items": await self._ranking.remote(ask, packed, retrieved)}


def application(mine: Job) -> Any:
    """The deployments, bound to each other; one replica of each for every two workers."""
    options: dict[str, Any] = {"num_replicas": mine.replicas, "ray_actor_options": {"num_cpus": REPLICA_CPUS}}
    if mine.throughput:
        quiet = {"enable_access_log": False, "log_level": "WARNING"}
        options |= {"max_ongoing_requests": _ASYNC_CALLS, "logging_config": quiet}

    def of(deployment: Any) -> Any:
        return deployment.options(**options)

    stages = [of(one).bind() for one in (FeatureLookup, CandidateRetrieval, Ranking)]
    return of(Ingress).bind(*stages)

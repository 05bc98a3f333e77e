"""BentoML: one service whose workers have the whole recommender, or with adaptive batching, as its docs compose it.

A batchable API takes one list, so that a body of several fields needs a service before it that takes one request and
calls the batching one: `Batched` before `Batches`.
"""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml
import redis.asyncio as aioredis

from loadtest.peers import job
from loadtest.peers.bodies import Count, Query, Recommendations, UserId
from loadtest.peers.pipeline import MAX_BATCH, Ask, Pipeline

ROOT = Path(__file__).resolve().parents[2]
PATH = "/v1/recommendations"
MAX_LATENCY_MS = 1000  # that of the example in the docs; a batch waits far less, by what the last ones took
# By default the connections to another service are closed after 100 requests and 300 s, and requests under way on them
# fail with "Server disconnected": at 170 requests/s ten a second did.
_KEPT: dict[str, Any] = {"runner_connection": {"max_requests": 2**31, "max_age": 86_400.0}}
_QUIET: dict[str, Any] = {"logging": {"access": {"enabled": False}}}
_WORKERS = job.of_environment().workers


class _Recommender:
    """The recommender and its connections in a worker."""

    def __init__(self) -> None:
        self._pipeline = Pipeline.of_environment()
        self._store = aioredis.Redis.from_url(job.of_environment().redis_url)

    async def lists(self, queries: list[Query]) -> list[Recommendations]:
        """The list of each request; their states are one round trip."""
        packed = await self._store.mget([self._pipeline.key(one.user_id) for one in queries])
        lists = self._pipeline.recommend([Ask.now(one.count) for one in queries], packed)
        return [Recommendations.model_validate({"items": items}) for items in lists]


@bentoml.service(workers=_WORKERS, **_QUIET)
class Single:
    """One request at a time."""

    def __init__(self) -> None:
        self._recommender = _Recommender()

    @bentoml.api(route=PATH)
    async def recommend(self, user_id: UserId, count: Count = 20) -> Recommendations:
        """A personal list."""
        (answer,) = await self._recommender.lists([Query.model_construct(user_id=user_id, count=count)])
        return answer


@bentoml.service(workers=_WORKERS, **_QUIET, **_KEPT)
class Batches:
    """Lists for the requests that came while the last batch ran."""

    def __init__(self) -> None:
        self._recommender = _Recommender()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS)
    async def recommend(self, queries: list[Query]) -> list[Recommendations]:
        """One list a request."""
        return await self._recommender.lists(queries)


@bentoml.service(workers=_WORKERS, **_QUIET, **_KEPT)
class Batched:
    """Takes single requests for `Batches`."""

    batches = bentoml.depends(Batches)

    @bentoml.api(route=PATH)
    async def recommend(self, user_id: UserId, count: Count = 20) -> Recommendations:
        """A personal list."""
        (answer,) = await self.batches.recommend([Query.model_construct(user_id=user_id, count=count)])
        return answer


def main() -> None:
    """Become `bentoml serve`."""
    mine = job.of_environment()
    service = f"loadtest.peers.bento:{'Batched' if mine.batching else 'Single'}"
    command = [sys.executable, "-m", "bentoml", "serve", service, "--working-dir", str(ROOT)]
    command += ["--host", "127.0.0.1", "--port", str(mine.port)]
    os.execve(sys.executable, command, {**os.environ, "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": mine.folder})


if __name__ == "__main__":
    main()

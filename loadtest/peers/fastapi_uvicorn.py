"""FastAPI on uvicorn with several worker processes, each with the whole recommender; one request at a time.

The endpoint is `async`: the store is waited for in the loop. What is computed is computed there as well, since the
workers fill the cores, and a thread for it would be a hop that frees nothing.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio as aioredis
import uvicorn
from fastapi import FastAPI, Request

from loadtest.peers import job
from loadtest.peers.bodies import Query, Recommendations
from loadtest.peers.pipeline import Ask, Pipeline


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The recommender and its connections, from a worker's start to its end."""
    app.state.pipeline = Pipeline.of_environment()
    async with aioredis.Redis.from_url(job.of_environment().redis_url) as store:
        app.state.store = store
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/recommendations", response_model=Recommendations)
async def recommendations(query: Query, request: Request) -> Any:
    """A personal list; the declared model is what Pydantic encodes, as FastAPI's docs advise for speed."""
    pipeline, store = request.app.state.pipeline, request.app.state.store
    packed = await store.get(pipeline.key(query.user_id))
    (items,) = pipeline.recommend([Ask.now(query.count)], [packed])
    return {"items": items}


def main() -> None:
    """Serve until the process is ended."""
    mine = job.of_environment()
    uvicorn.run(
        "loadtest.peers.fastapi_uvicorn:app",
        host="127.0.0.1",
        port=mine.port,
        workers=mine.workers,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()

"""First requests as fast as the thousandth: every code path runs before the replica says it is ready."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from recsys.features.user import UserStates, update
from recsys.plain_batch import plain_batch
from recsys.recommend import recommend
from recsys.types import Controls, QueryBatch, World
from recsys.verbs import Verb
from service.answers import popular_answer
from service.asked import Asked
from service.decisions import DecisionLog
from service.errors import Overloaded
from service.gateway import Gateway
from service.queries import resolve
from service.schemas import RecommendationRequest, Return, Session
from service.settings import Settings
from service.stages import Stages

ROUNDS = 5  # the first takes 0.7 s of CPU, most of it to load compiled code; from the second on all cost the same
HISTORY = 40  # interactions of each invented user
STAGES_WAIT_S = 60.0


def warm_up(world: World, beside: bool = False, *, max_batch: int) -> None:
    """Touch the mapped pages and run `recommend` over batches of the usual sizes, with invented histories.

    Args:
        beside: Others are in service in this process, so its code is loaded: what is left is done in a tenth of the
            time (20 ms), which they have to share the process with.
    """
    for b in sorted({1, 8, max_batch} if beside else {1, 2, 4, 8, 16, max_batch}):
        batch = _batch(world, b)
        for _ in range(1 if beside else ROUNDS):
            recommend(world, batch)
    fresh = np.zeros(1, np.int32)
    fresh.flags.writeable = False
    recommend(replace(world, bundle=replace(world.bundle, fresh=fresh)), _batch(world, 2))


async def warm_up_gateway(
    now: Callable[[], World], stages: Stages, decisions: DecisionLog, settings: Settings
) -> list[dict[str, Any]]:
    """Send requests through a gateway of its own, which records nothing, until its stages answer in full.

    Args:
        now: Gives the world of the moment: stages that come late know no item stats but the newest.
    Returns:
        What is still degraded: a store that is down does not keep a replica from serving.
    Raises:
        TimeoutError: stages in other deployments do not answer within STAGES_WAIT_S.
    """
    silent = msgspec.structs.replace(settings, decision_sample=0.0, deadline_ms=5_000)
    world = now()
    gateway = Gateway(world, stages, decisions, silent)
    known = [world.bundle.vocabulary.item_id[row] for row in range(min(HISTORY, len(world.bundle.vocabulary)))]
    request = RecommendationRequest(
        user_id="riffle:warm-up", session=Session(item_ids=known), return_=Return(reasons=True)
    )
    async with asyncio.timeout(STAGES_WAIT_S):
        while any(one["stage"] != "features" for one in (await gateway.recommend(request))["degraded"]):
            await asyncio.sleep(0.2)
            gateway.lanes.use(now())
    # What answers at a deadline is compiled code of its own; loading it then would miss the next deadlines.
    query = resolve(world.bundle, count=20, session_ids=[], excluded_ids=[], filter_=None, seed=0, now_s=0)
    popular_answer(Asked("", query, True, gateway.lanes.champion), [])
    degraded: list[dict[str, Any]] = []
    for _ in range(ROUNDS):
        gateway.lanes.use(now())
        for b in {min(size, settings.max_waiting) for size in (1, 4, settings.max_batch)}:
            answers = await asyncio.gather(*(_unless_shed(gateway, request) for _ in range(b)))
            degraded = next(answer["degraded"] for answer in answers if answer is not None)
    await gateway.recommend(msgspec.structs.replace(request, return_=Return(explain=True)))
    return degraded


async def _unless_shed(gateway: Gateway, request: RecommendationRequest) -> dict[str, Any] | None:
    """An answer; none where the first batches, whose code is being loaded, let the next ones expect too long a wait."""
    try:
        return await gateway.recommend(request)
    except Overloaded:
        return None


def _batch(world: World, b: int) -> QueryBatch:
    rng = np.random.default_rng(b)
    states = UserStates.empty(b, seen=1)
    rows = np.arange(b)
    now_s = 1_700_000_000
    for step in range(HISTORY):
        item_key = rng.choice(world.bundle.vocabulary.key, b)
        ts_s = np.full(b, now_s - 60 * (HISTORY - step), np.uint32)
        update(states, rows, item_key=item_key, verb=np.full(b, Verb.LIKE, np.uint8), ts_s=ts_s)
    plain = plain_batch(states, now_s=np.full(b, now_s), seed=rows, count=20)
    every = Controls.without_quotas(b, diversity=0.5, popularity_damping=0.5)
    return replace(plain, explore=np.ones(b, np.float32), controls=every)

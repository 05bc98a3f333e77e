"""Gateways for tests: the real one over real stages, decision records kept in a list, deadlines that do not pass."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.recommend import Ranked, Retrieved, recommend
from recsys.types import QueryBatch, Slates, World
from service.decisions import Decision
from service.gateway import Gateway
from service.lookup import StateLookup, States
from service.queries import batch_of
from service.replay import query_of
from service.round_trips import RoundTrips
from service.settings import Settings
from service.stages import ColocatedStages, Stages


@dataclass
class KeptDecisions:
    """Takes records as a `DecisionLog` does."""

    records: list[Decision] = field(default_factory=list)

    def put(self, decision: Decision) -> None:
        self.records.append(decision)


@dataclass
class SlowStages:
    """Real stages, one of which first sleeps."""

    stages: Stages
    stage: str
    delay_s: float

    async def lookup(self, user_ids: Sequence[str]) -> States:
        await self._delay("lookup")
        return await self.stages.lookup(user_ids)

    async def retrieve(self, world: World, batch: QueryBatch, *, timeout_s: float) -> Retrieved:
        await self._delay("retrieve")
        return await self.stages.retrieve(world, batch, timeout_s=timeout_s)

    async def rank(self, world: World, batch: QueryBatch, retrieved: Retrieved, *, timeout_s: float) -> Ranked:
        await self._delay("rank")
        return await self.stages.rank(world, batch, retrieved, timeout_s=timeout_s)

    async def _delay(self, stage: str) -> None:
        if stage == self.stage:
            await asyncio.sleep(self.delay_s)


@dataclass
class ElsewhereStages:
    """Real stages, which run in another world than they are asked to."""

    stages: Stages
    world: World

    async def lookup(self, user_ids: Sequence[str]) -> States:
        return await self.stages.lookup(user_ids)

    async def retrieve(self, _: World, batch: QueryBatch, *, timeout_s: float) -> Retrieved:
        return await self.stages.retrieve(self.world, batch, timeout_s=timeout_s)

    async def rank(self, _: World, batch: QueryBatch, retrieved: Retrieved, *, timeout_s: float) -> Ranked:
        return await self.stages.rank(self.world, batch, retrieved, timeout_s=timeout_s)


@asynccontextmanager
async def colocated(url: str) -> AsyncIterator[ColocatedStages]:
    """Stages in this process that read states at `url`."""
    store = RoundTrips(url, timeout_ms=1000, connections=4)
    try:
        lookup = StateLookup(store)
        with suppress(RedisError):  # some tests have no store
            await lookup.refresh()
        yield ColocatedStages(lookup)
    finally:
        await store.close()


@asynccontextmanager
async def gateway_at(
    world: World, url: str, *, stage_world: World | None = None, **settings: object
) -> AsyncIterator[tuple[Gateway, list[Decision]]]:
    """A gateway and the list of what it recorded.

    Args:
        stage_world: What the stages run on, where it is not the gateway's world.
        settings: Unless said otherwise the deadline is 10 s: these machines are slow and shared.
    """
    decisions = KeptDecisions()
    async with colocated(url) as found:
        stages = found if stage_world is None else ElsewhereStages(found, stage_world)
        yield Gateway(world, stages, decisions, Settings(**{"deadline_ms": 10_000, **settings})), decisions.records


def again(world: World, record: Decision) -> Slates:
    """The recorded request once more, alone, through the pure function and nothing but the record."""
    query = query_of(record, world.bundle)
    states, undecodable = unpack([record.user_state], SCHEMA_HASH)
    assert not undecodable
    return recommend(world, batch_of([query], states))


def item_ids(world: World, slates: Slates) -> list[str]:
    """The ids of a single list, best first."""
    return [world.bundle.vocabulary.item_id[row] for row in slates.item]

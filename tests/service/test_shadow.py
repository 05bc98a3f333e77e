"""A shadow is compared list by list, is in nobody's way, and gives way first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from recsys.types import World
from service.gateway import Gateway
from service.round_trips import RoundTrips
from service.schemas import RecommendationRequest
from service.settings import Settings
from service.shadow import QUEUE, STREAM, Compared, Shadow, compared
from service.traffic import document
from service.traffic.document import Traffic
from service.traffic.table import TrafficTable
from tests.service.gateways import KeptDecisions, colocated
from tests.service.traffic.tables import A, B, table

pytestmark = pytest.mark.valkey


@asynccontextmanager
async def shadowed(
    two: dict[str, World], url: str, traffic: Traffic
) -> AsyncIterator[tuple[Gateway, Shadow, RoundTrips]]:
    store = RoundTrips(url, timeout_ms=3000, connections=2)
    settings = Settings(deadline_ms=10_000, explore=0.0)
    try:
        await store.demand([("DEL", STREAM)])
        async with colocated(url) as stages:
            gateway = Gateway(two[A], stages, KeptDecisions(), settings)
            gateway.lanes.serve(traffic, two)
            shadow = Shadow(gateway.lanes, settings, gateway.is_busy, store)
            gateway.sent = shadow.offer
            yield gateway, shadow, store
    finally:
        await store.close()


async def ask(gateway: Gateway, users: range, **fields: Any) -> list[dict[str, Any]]:
    return [await gateway.recommend(RecommendationRequest(user_id=f"user-{n:04d}", count=10, **fields)) for n in users]


async def on_record(store: RoundTrips) -> list[Compared]:
    return await compared(TrafficTable(store))


async def test_the_champion_as_its_own_shadow_is_alike_to_the_bit(two: dict[str, World], store_url: str) -> None:
    async with shadowed(two, store_url, table(shadow=document.Shadow(A, 10_000))) as (gateway, shadow, store):
        for diversity in (None, 0.0, 0.7):
            await ask(gateway, range(30), diversity=diversity, exclude_item_ids=["item-1"])
            await shadow.settled()
        found = await on_record(store)
        assert len(found) == 90 == shadow.counts["compared"]
        assert {(one.distance, one.overlap, one.stage, *one.entered, *one.left) for one in found} == {(0.0, 1.0, "")}


async def test_another_bundle_differs_from_the_stage_on_that_is_another(two: dict[str, World], store_url: str) -> None:
    async with shadowed(two, store_url, table(shadow=document.Shadow(B, 10_000))) as (gateway, shadow, store):
        bodies = await ask(gateway, range(20))
        await shadow.settled()
        found = await on_record(store)
    assert {(one.bundle, one.shadow) for one in found} == {(A, B)}
    assert {one.stage for one in found} == {"retrieval"}
    assert sum(one.distance > 0 for one in found) > 10
    assert all(body["bundle"] == A for body in bodies)
    for one in found:
        assert len(one.entered) == len(one.left) == round(10 * (1 - one.overlap))


async def test_a_share_of_the_lists_is_compared_and_none_without_a_shadow(
    two: dict[str, World], store_url: str
) -> None:
    async with shadowed(two, store_url, table(shadow=document.Shadow(B, 2500))) as (gateway, shadow, _):
        for start in range(0, 200, 40):
            await ask(gateway, range(start, start + 40))
            await shadow.settled()
        assert 25 < shadow.counts["compared"] < 80
        gateway.lanes.serve(table(), two)
        before = shadow.counts.copy()
        await ask(gateway, range(40))
        await shadow.settled()
        assert shadow.counts == before


async def test_while_anybody_waits_nothing_is_compared_and_what_grows_old_is_dropped(
    two: dict[str, World], store_url: str
) -> None:
    async with shadowed(two, store_url, table(shadow=document.Shadow(B, 10_000))) as (gateway, shadow, _):
        busy = True
        shadow._is_busy = lambda: busy
        await ask(gateway, range(QUEUE + 10))
        assert shadow.counts["dropped"] == 10
        await asyncio.sleep(0.2)
        assert shadow.counts["compared"] == 0
        await asyncio.wait_for(shadow.settled(), 10)
        assert (shadow.counts["compared"], shadow.counts["dropped"]) == (0, QUEUE + 10)
        busy = False
        await ask(gateway, range(3))
        await shadow.settled()
        assert shadow.counts["compared"] == 3


async def test_item_stats_that_are_newer_than_the_answer_are_no_difference_of_the_bundle(
    two: dict[str, World], store_url: str
) -> None:
    def as_of(world: World, version: str) -> World:
        return replace(world, item_stats=replace(world.item_stats, version=version))

    early = {name: as_of(world, "s.1") for name, world in two.items()}
    for shadow_of, compared_ in ((A, 5), (B, 0)):
        traffic = table(shadow=document.Shadow(shadow_of, 10_000))
        async with shadowed(early, store_url, traffic) as (gateway, shadow, store):
            gateway.lanes.use(as_of(two[B], "s.2"))  # this bundle heard first
            await ask(gateway, range(5))
            gateway.lanes.use(as_of(two[A], "s.2"))
            await shadow.settled()
            assert (shadow.counts["compared"], shadow.counts["dropped"]) == (compared_, 5 - compared_)
            assert {(one.distance, one.stage) for one in await on_record(store)} <= {(0.0, "")}


async def test_a_shadow_that_fails_fails_alone(two: dict[str, World], store_url: str) -> None:
    broken = {**two, B: replace(two[B], bundle=replace(two[B].bundle, factors=two[B].bundle.factors[:1]))}
    async with shadowed(broken, store_url, table(shadow=document.Shadow(B, 10_000))) as (gateway, shadow, store):
        bodies = await ask(gateway, range(5))
        await shadow.settled()
        assert shadow.counts["failed"] == 5
        assert all(not body["degraded"] and body["items"] for body in bodies)
        assert await on_record(store) == []


async def test_a_store_that_is_away_costs_what_was_compared_and_nothing_else(
    two: dict[str, World], store_url: str
) -> None:
    async with shadowed(two, store_url, table(shadow=document.Shadow(B, 10_000))) as (gateway, shadow, _):
        shadow._store = RoundTrips("redis://127.0.0.1:1/0", timeout_ms=50, connections=1)
        await ask(gateway, range(4))
        await shadow.settled()
        assert shadow.counts["dropped"] == 4

"""The world in service follows the snapshots in the store, between micro-batches and never within one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import redis

from recsys.datasets.dataset import Dataset
from recsys.errors import StateError
from recsys.items import Item
from recsys.types import World
from service.gateway import Gateway
from service.item_snapshot import snapshot_key
from service.item_updater import ItemUpdater
from service.live_world import KEPT, LiveWorld
from service.lookup import StateLookup
from service.rebuild import rebuild
from service.round_trips import RoundTrips
from service.schemas import RecommendationRequest
from service.settings import Settings
from service.stages import ColocatedStages, StageUnavailable
from service.state_keys import live_key, live_name
from tests.service.conftest import BreakableStore
from tests.service.gateways import KeptDecisions, SlowStages
from tests.service.test_archiver import archive_in, log_at
from tests.service.test_item_updater import put, settle
from tests.service.test_updater import some_events

pytestmark = pytest.mark.valkey


@asynccontextmanager
async def live_at(url: str, world: World) -> AsyncIterator[tuple[LiveWorld, ItemUpdater]]:
    store = RoundTrips(url, timeout_ms=5000, connections=2)
    try:
        yield LiveWorld(world, store), ItemUpdater(store)
    finally:
        await store.close()


@pytest.fixture
def filled(breakable_store: BreakableStore, synthetic_dataset: Dataset, tmp_path: Path) -> BreakableStore:
    """A store with states and item stats of all that was imported."""
    rebuild(breakable_store.url, synthetic_dataset, archive_in(tmp_path))
    return breakable_store


async def test_without_a_snapshot_the_stats_of_the_bundle_hold(served: World, breakable_store: BreakableStore) -> None:
    async with live_at(breakable_store.url, served) as (live, _):
        await live.refresh()
    assert live.world is served


async def test_item_stats_are_those_of_all_events_so_far(served: World, filled: BreakableStore) -> None:
    heard: list[World] = []
    async with live_at(filled.url, served) as (live, updater), log_at(filled.url) as log:
        live.follow(heard.append)
        await live.refresh()
        before = live.world.item_stats
        assert before.popularity.sum() > served.item_stats.popularity.sum()  # the bundle has not seen the newest fifth
        item_id = served.bundle.vocabulary.item_id[5]
        events = [msgspec.structs.replace(one, item_id=item_id, verb=2) for one in some_events(30, seed=1)]
        await log.append(events)
        await settle(updater)
        await live.refresh()
        after = live.world.item_stats
        assert after.popularity[5] - before.popularity[5] == 30
        assert after.trend[5] == pytest.approx(before.trend[5] + 30, rel=1e-3)
        assert after.version > before.version
        await live.refresh()
    assert [one.item_stats.version for one in heard] == [before.version, after.version]
    assert live.world.bundle is served.bundle


async def test_an_item_made_unavailable_is_in_no_list_of_any_kind_and_comes_back(
    served: World, filled: BreakableStore
) -> None:
    async with live_at(filled.url, served) as (live, updater):
        gateway = gateway_of(live)
        asked = RecommendationRequest(user_id="user-0007", count=10)
        first = [item["item_id"] for item in (await gateway.recommend(asked))["items"]]
        for available in (False, True):
            for item_id in first[:3]:
                put(filled.url, item_id, Item(available=available))
            await settle(updater)
            await live.refresh()
            body = await gateway.recommend(asked)
            shown = {item["item_id"] for item in body["items"]}
            assert shown.isdisjoint(first[:3]) is not available
            popular = await gateway.recommend(RecommendationRequest(user_id="nobody", deadline_ms=1, count=500))
            assert {item["item_id"] for item in popular["items"]}.isdisjoint(first[:3]) is not available


async def test_a_micro_batch_ends_in_the_world_that_it_began_in(served: World, filled: BreakableStore) -> None:
    async with live_at(filled.url, served) as (live, updater):
        await live.refresh()
        kept = KeptDecisions()
        gateway = gateway_of(live, kept, slow="rank")
        began = live.world.item_stats.version
        asking = asyncio.create_task(gateway.recommend(RecommendationRequest(user_id="user-0007")))
        await asyncio.sleep(0.1)
        put(filled.url, served.bundle.vocabulary.item_id[5], Item(available=False))
        await settle(updater)
        await live.refresh()
        assert live.world.item_stats.version != began
        assert (await asking)["degraded"] == []
        await gateway.recommend(RecommendationRequest(user_id="user-0007"))
    assert [record.item_stats for record in kept.records] == [began, live.world.item_stats.version]


async def test_other_processes_find_the_versions_of_the_last_seconds(served: World, filled: BreakableStore) -> None:
    async with live_at(filled.url, served) as (live, updater), live_at(filled.url, served) as (late, _):
        versions = []
        for number in range(KEPT + 2):
            put(filled.url, served.bundle.vocabulary.item_id[number], Item(available=False))
            await settle(updater)
            await live.refresh()
            versions.append(live.world.item_stats.version)
        for number, version in enumerate(versions):
            world = await late.of((served.bundle.id, version), "ranking")
            assert (~world.item_stats.available).sum() == number + 1
        with redis.Redis.from_url(filled.url) as server:
            server.delete(*server.scan_iter(match="riffle:features:item-stats:*"))
        with pytest.raises(StageUnavailable, match="ranking: other_item_stats"):
            await late.of((served.bundle.id, versions[0]), "ranking")
        assert await late.of((served.bundle.id, versions[-1]), "ranking")
        assert await late.of((served.bundle.id, served.item_stats.version), "ranking") is served


async def test_a_damaged_snapshot_and_a_dead_store_leave_the_world_as_it_is(
    served: World, filled: BreakableStore
) -> None:
    async with live_at(filled.url, served) as (live, _):
        await live.refresh()
        before = live.world
        with redis.Redis.from_url(filled.url) as server:
            key = snapshot_key(live_name(server.get(live_key())))
            server.set(key, b"other".ljust(32) + b"rubbish")
        with pytest.raises(StateError):
            await live.refresh()
        filled.end()
        with pytest.raises((redis.ConnectionError, OSError)):
            await live.refresh()
    assert live.world is before


def gateway_of(live: LiveWorld, kept: KeptDecisions | None = None, *, slow: str = "", explore: float = 0.3) -> Gateway:
    stages = ColocatedStages(StateLookup(live._store))
    waiting = SlowStages(stages, slow, 0.5)
    gateway = Gateway(live.world, waiting, kept or KeptDecisions(), Settings(deadline_ms=10_000, explore=explore))
    live.follow(gateway.lanes.use)
    return gateway

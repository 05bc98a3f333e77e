"""From the log to one snapshot of item counters: each event once, the same bytes whoever makes it, and again."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis

from recsys.archive import Archive
from recsys.datasets.dataset import Dataset
from recsys.errors import StateError
from recsys.features.item_counts import ItemCounts
from recsys.items import Item
from recsys.vocabulary import Vocabulary, item_key
from service.item_history import ItemHistory
from service.item_snapshot import CATALOGUE, Snapshot, decode, encode, head, snapshot_key
from service.item_updater import ItemUpdater, run
from service.rebuild import live_source, rebuild
from service.round_trips import RoundTrips
from service.state_keys import live_key, live_name
from tests import worlds
from tests.service.conftest import BreakableStore
from tests.service.test_archiver import archive_in, archiver_at, log_at
from tests.service.test_updater import catch_up, some_events, updater_at

pytestmark = pytest.mark.valkey


@asynccontextmanager
async def item_updater_at(url: str, **given: object) -> AsyncIterator[ItemUpdater]:
    store = RoundTrips(url, timeout_ms=5000, connections=1)
    try:
        yield ItemUpdater(store, **given)
    finally:
        await store.close()


def stored(url: str) -> bytes:
    with redis.Redis.from_url(url) as server:
        value = server.get(snapshot_key(live_name(server.get(live_key()))))
    assert isinstance(value, bytes)
    return value


def made_again(url: str, dataset: Dataset | None, archive: Archive, horizon_ms: int) -> Snapshot:
    source = live_source(url)
    assert source is not None
    with redis.Redis.from_url(url) as server:
        history = ItemHistory.read(server, dataset, source[1].imported_s, archive, horizon_ms + 10)
    return history.at(horizon_ms)


def put(url: str, item_id: str, item: Item) -> None:
    with redis.Redis.from_url(url) as server:
        server.xadd(CATALOGUE, {"id": item_id, "item": msgspec.msgpack.encode(item)})


async def settle(updater: ItemUpdater) -> None:
    """What was logged in the millisecond that is just passing is counted in the next step."""
    await asyncio.sleep(0.005)
    while await updater.step():
        pass


async def test_where_nothing_was_rebuilt_there_is_no_snapshot(breakable_store: BreakableStore) -> None:
    async with log_at(breakable_store.url) as log, item_updater_at(breakable_store.url) as updater:
        await log.append(some_events(10, seed=1))
        await settle(updater)
    assert updater.counts["published"] == 0


async def test_an_import_counts_as_if_it_had_ended_when_it_was_made_known(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, dataset = breakable_store.url, worlds.two_tastes()
    await asyncio.to_thread(rebuild, url, dataset, archive_in(tmp_path))
    snapshot = decode(stored(url))
    stats = snapshot.stats(Vocabulary.build(dataset.item_id)[0])
    assert stats.popularity.sum() == len(dataset.events)
    assert stats.trend.sum() > 0.8 * len(dataset.events)  # 12 days of history, years ago
    assert stats.version == snapshot.version


async def test_events_change_counters_and_the_version(breakable_store: BreakableStore, tmp_path: Path) -> None:
    url, dataset = breakable_store.url, worlds.two_tastes()
    await asyncio.to_thread(rebuild, url, dataset, archive_in(tmp_path))
    before = decode(stored(url))
    events = [msgspec.structs.replace(event, item_id="left-03", verb=2) for event in some_events(7, seed=2)]
    async with log_at(url) as log, item_updater_at(url) as updater:
        await settle(updater)
        assert stored(url)[:32] == head(before.version)  # nothing happened: nothing is published
        await log.append(events)
        await settle(updater)
    after = decode(stored(url))
    row = int(np.searchsorted(after.counts.key, np.uint64(item_key("left-03"))))
    assert after.counts.positives[row] - before.counts.positives[row] == 7
    assert after.horizon_ms > before.horizon_ms
    assert updater.counts["counted"] == 7


async def test_snapshots_of_two_updaters_are_those_that_archive_and_log_give_to_the_bit(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    """While events arrive, are archived and trimmed, and one of the two is thrown away now and then."""
    url, dataset, archive, chance = breakable_store.url, worlds.chain(), archive_in(tmp_path), random.Random(3)
    await asyncio.to_thread(rebuild, url, dataset, archive)
    seen: dict[int, bytes] = {}
    acting = 0
    async with (
        log_at(url) as log,
        updater_at(url) as states,
        archiver_at(url, archive, kept=100) as archiver,
        item_updater_at(url) as one,
    ):
        for number in range(40):
            events = some_events(chance.randrange(1, 80), seed=number)
            acting += sum(event.verb > 0 for event in events)
            await log.append(events)
            async with item_updater_at(url) as other:
                await asyncio.gather(one.step(), other.step())
            await catch_up(states)
            if number % 4 == 0:
                await archiver.step()
            value = stored(url)
            seen[decode(value).horizon_ms] = value
        await settle(one)
        seen[decode(stored(url)).horizon_ms] = stored(url)
    assert len(seen) > 10
    for horizon_ms, value in seen.items():
        assert encode(made_again(url, dataset, archive, horizon_ms)) == value
    assert decode(value).counts.interactions.sum() == len(dataset.events) + acting


async def test_a_rebuild_begins_where_its_own_counts_end(breakable_store: BreakableStore, tmp_path: Path) -> None:
    url, dataset, archive = breakable_store.url, worlds.chain(), archive_in(tmp_path)
    await asyncio.to_thread(rebuild, url, dataset, archive)
    async with log_at(url) as log, item_updater_at(url) as updater:
        await log.append(some_events(50, seed=1))
        await settle(updater)
        await asyncio.to_thread(rebuild, url, dataset, archive)
        await log.append(some_events(50, seed=2))
        await settle(updater)
    again = made_again(url, dataset, archive, decode(stored(url)).horizon_ms)
    assert encode(again) == stored(url)


async def test_a_withheld_item_is_unavailable_until_it_is_let_go(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, dataset = breakable_store.url, worlds.two_tastes()
    await asyncio.to_thread(rebuild, url, dataset, archive_in(tmp_path))
    vocabulary, rows = Vocabulary.build(dataset.item_id)
    row = rows[dataset.item_id.index("left-03")]
    async with item_updater_at(url) as updater:
        for available in (False, True):
            put(url, "left-03", Item(available=available))
            await settle(updater)
            stats = decode(stored(url)).stats(vocabulary)
            assert stats.available[row] == available
            assert (row in stats.order) == available
        with redis.Redis.from_url(url) as server:
            server.xadd(CATALOGUE, {"id": "left-04", "item": b"rubbish"})
            server.xadd(CATALOGUE, {"nothing": "of the kind"})
        put(url, "left-05", Item(deleted=True))
        await settle(updater)
    assert set(decode(stored(url)).items) == {"left-03", "left-05"}


async def test_an_item_expires_though_nothing_else_happens(breakable_store: BreakableStore, tmp_path: Path) -> None:
    url, dataset = breakable_store.url, worlds.two_tastes()
    await asyncio.to_thread(rebuild, url, dataset, archive_in(tmp_path))
    vocabulary, rows = Vocabulary.build(dataset.item_id)
    row = rows[dataset.item_id.index("left-03")]
    with redis.Redis.from_url(url) as server:
        seconds, micros = server.time()
    now_ms = seconds * 1000 + micros // 1000
    put(url, "left-03", Item(expire_ms=now_ms + 400))
    async with item_updater_at(url) as updater:
        await settle(updater)
        assert decode(stored(url)).stats(vocabulary).available[row]
        await asyncio.sleep(0.5)
        await settle(updater)
    assert not decode(stored(url)).stats(vocabulary).available[row]


async def test_a_damaged_snapshot_is_waited_for_until_it_is_rebuilt(
    breakable_store: BreakableStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, dataset, archive = breakable_store.url, worlds.two_tastes(), archive_in(tmp_path)
    await asyncio.to_thread(rebuild, url, dataset, archive)
    with redis.Redis.from_url(url) as server:
        server.setrange(snapshot_key(live_name(server.get(live_key()))), 100, b"xxxx")
    async with item_updater_at(url) as updater, log_at(url) as log:
        working = asyncio.create_task(run(updater))
        while "does not match its CRC" not in caplog.text:
            await asyncio.sleep(0.01)
        await log.append(some_events(5, seed=1))
        await asyncio.to_thread(rebuild, url, dataset, archive)
        while updater.counts["published"] == 0:
            await log.append(some_events(1, seed=random.randrange(10**9)))
            await asyncio.sleep(0.1)
        working.cancel()
    assert updater.counts["published"] > 0


@pytest.mark.parametrize("damage", [lambda b: b[:40], lambda b: b[:-1], bytes.upper, lambda b: b[:36] + b"x" + b[37:]])
def test_damaged_bytes_are_refused(damage: object) -> None:
    value = encode(Snapshot("base", 5, two_items(), {"a": Item(title="A")}))
    assert decode(value).items == {"a": Item(title="A")}
    with pytest.raises(StateError, match="rebuild the features"):
        decode(damage(value))  # type: ignore[operator]


def two_items() -> ItemCounts:
    counts = ItemCounts.empty()
    counts.apply(
        item_key=np.array([3, 1], np.uint64), verb=np.array([2, 3], np.uint8), ts_s=np.array([5, 6], np.uint32)
    )
    return counts

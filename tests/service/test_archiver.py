"""From the log to the archive, each event once; what leaves Redis is on disk and in the states."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import redis

from recsys.archive import START, Archive
from recsys.verbs import Verb
from service.archived_streams import CatalogueStream, EventStreams
from service.archiver import READ, Archiver, run
from service.archives import event_archive
from service.event_log import stream_key
from service.log_entries import text_of
from service.round_trips import RoundTrips
from service.settings import Settings
from service.state_keys import SHARDS, shard
from tests.service.conftest import BreakableStore
from tests.service.test_event_log import newest_position, positions
from tests.service.test_updater import catch_up, entries_in, log_at, some_events, updater_at
from tests.workers import end, start

pytestmark = pytest.mark.valkey
KILLS = 12


def work(url: str, home: str) -> None:
    """An archiver, until it is killed."""
    store = RoundTrips(url, timeout_ms=5000, connections=1)
    archiver = Archiver(store, event_archive(Settings(home=home)), EventStreams(store, kept=100))
    asyncio.run(run([archiver], every_s=0.01))


def archive_in(folder: Path) -> Archive:
    return event_archive(Settings(home=str(folder)))


@asynccontextmanager
async def archiver_at(
    url: str,
    archive: Archive,
    *,
    kept: int = 1_000_000,
    streams: type[EventStreams] | type[CatalogueStream] = EventStreams,
) -> AsyncIterator[Archiver]:
    store = RoundTrips(url, timeout_ms=5000, connections=1)
    try:
        yield Archiver(store, archive, streams(store, kept=kept))
    finally:
        await store.close()


def archived_positions(archive: Archive) -> list[tuple[int, str]]:
    rows = archive.read(columns=["stream", "ms", "sequence"]).to_pylist()
    return sorted((one["stream"], text_of((one["ms"], one["sequence"]))) for one in rows)


async def test_an_event_is_archived_with_every_field(breakable_store: BreakableStore, tmp_path: Path) -> None:
    event = msgspec.structs.replace(
        some_events(1, seed=1)[0],
        verb=int(Verb.PURCHASE),
        recommendation_id="r",
        position=3,
        value=9.5,
        properties={"colour": "blue", "size": 4, "gift": True},
    )
    archive = archive_in(tmp_path)
    async with log_at(breakable_store.url) as log, archiver_at(breakable_store.url, archive) as archiver:
        await log.append([event])
        position = newest_position(breakable_store.url, event)
        assert not await archiver.step()
    (row,) = archive.read().to_pylist()
    assert (row.pop("stream"), text_of((row.pop("ms"), row.pop("sequence")))) == (shard(event.user_id), position)
    assert msgspec.json.decode(row.pop("properties")) == event.properties
    assert row == {name: getattr(event, name) for name in row}
    assert set(row) == {field.name for field in msgspec.structs.fields(event)} - {"properties"}


async def test_nothing_in_the_log_makes_no_file(breakable_store: BreakableStore, tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    async with archiver_at(breakable_store.url, archive) as archiver:
        assert not await archiver.step()
    assert archive.until() == [START] * SHARDS


async def test_streams_are_trimmed_only_of_what_is_archived_and_applied(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, archive = breakable_store.url, archive_in(tmp_path)
    events = some_events(600, seed=4, users=1)
    number = shard(events[0].user_id)
    async with log_at(url) as log, updater_at(url) as updater, archiver_at(url, archive, kept=50) as archiver:
        await log.append(events)
        with redis.Redis.from_url(url) as server:
            await catch_up(updater)
            assert server.xlen(stream_key(number)) == 600
            await archiver.step()
            assert server.xlen(stream_key(number)) == 1  # MINID keeps the position itself
            await log.append(some_events(100, seed=5, users=1))
            await archiver.step()
            assert server.xlen(stream_key(number)) == 101  # archived, but in no state yet
            await catch_up(updater)
            await archiver.step()
            assert server.xlen(stream_key(number)) == 1
    assert len(archive.read()) == 700


async def test_a_read_that_is_full_says_that_there_is_more(breakable_store: BreakableStore, tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    async with log_at(breakable_store.url) as log, archiver_at(breakable_store.url, archive) as archiver:
        await log.append(some_events(READ + 1, seed=6, users=1))
        assert await archiver.step()
        assert not await archiver.step()
    assert len(archive.read()) == READ + 1


async def test_poisoned_entries_are_passed_over_however_many(breakable_store: BreakableStore, tmp_path: Path) -> None:
    event, archive = some_events(1, seed=7)[0], archive_in(tmp_path)
    with redis.Redis.from_url(breakable_store.url) as server:
        for _ in range(READ + 5):
            server.xadd(stream_key(shard(event.user_id)), {"e": b"rubbish"})
    async with log_at(breakable_store.url) as log, archiver_at(breakable_store.url, archive) as archiver:
        await log.append([event])
        assert await archiver.step()
        assert not await archiver.step()
    assert archive.read()["event_id"].to_pylist() == [event.event_id]


async def test_a_disk_that_refuses_leaves_the_log_as_it_is_until_it_is_mended(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    archive = archive_in(tmp_path)
    archive.root.parent.write_text("in the way")
    async with log_at(breakable_store.url) as log, archiver_at(breakable_store.url, archive, kept=0) as archiver:
        await log.append(some_events(20, seed=8))
        working = asyncio.create_task(run([archiver], every_s=0.01))
        await asyncio.sleep(0.1)
        assert not working.done()
        with redis.Redis.from_url(breakable_store.url) as server:
            assert len(entries_in(server)) == 20
        archive.root.parent.unlink()
        while archiver.counts["archived"] < 20:
            await asyncio.sleep(0.01)
        working.cancel()
    assert len(archive.read()) == 20


async def test_an_archive_that_cannot_be_merged_holds_up_no_other(
    breakable_store: BreakableStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = archive_in(tmp_path / "broken"), archive_in(tmp_path / "sound")
    event, looks = some_events(1, seed=8)[0], 0

    async def look() -> int:
        nonlocal looks
        looks += 1
        return 0

    async with log_at(breakable_store.url) as log:
        await log.append([event])
        async with archiver_at(breakable_store.url, broken) as first, archiver_at(breakable_store.url, sound) as second:
            await first.drain()
            for number in range(2, 4):  # of a day that is over, to be merged
                damaged = broken.root / "day=2020-01-01" / f"{number:010d}-{number:010d}.parquet"
                damaged.parent.mkdir(exist_ok=True)
                damaged.write_bytes(b"PAR1 and then nothing")
            working = asyncio.create_task(run([first, second], every_s=0.01, then=[look]))
            try:
                async with asyncio.timeout(10):
                    while looks < 3:
                        await asyncio.sleep(0.01)
            finally:
                working.cancel()
    assert len(sound.read()) == 1
    assert "the archiver waits" in caplog.text
    assert "0000000003-0000000003.parquet cannot be read" in caplog.text


async def test_each_event_is_archived_once_however_often_archivers_are_killed(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    """Two at a time, each killed at a random moment and started again, while events arrive and are trimmed."""
    url, chance, archive = breakable_store.url, random.Random(11), archive_in(tmp_path)
    workers, sent, expected = [start(work, url, str(tmp_path)) for _ in range(2)], 0, set[tuple[int, str]]()
    try:
        async with log_at(url) as log, updater_at(url) as updater:
            for kill in range(KILLS):
                until = time.monotonic() + chance.uniform(0.1, 0.5)
                while time.monotonic() < until:
                    events = some_events(100, seed=5000 + sent)
                    await log.append(events)
                    shards = [shard(event.user_id) for event in events]  # nothing leaves the log before it is applied
                    expected |= set(zip(shards, positions(url, events), strict=True))
                    sent += 1
                    await catch_up(updater)
                    await asyncio.sleep(0.01)
                end(workers[kill % 2])
                workers[kill % 2] = start(work, url, str(tmp_path))
        until = time.monotonic() + 60
        while len(archive.read(columns=["ms"])) < len(expected):
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
    finally:
        for worker in workers:
            end(worker)
    assert archived_positions(archive) == sorted(expected)
    with redis.Redis.from_url(url) as server:
        assert sum(server.xlen(stream_key(number)) for number in range(SHARDS)) < len(expected)

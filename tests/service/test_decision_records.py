"""Records are found in the stream and, when it has dropped them, in the archive: each once, whoever dies."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import redis

from recsys.archive import DAY_MS, Archive
from service.archived_streams import DecisionStreams
from service.archiver import READ, Archiver, run
from service.archives import decision_archive, decision_rows, erased_users
from service.decision_records import DecisionRecords
from service.decision_stream import WRITTEN_WITHIN_MS, DecisionStream
from service.decisions import STREAM, Decision, Erased
from service.errors import NotFound, RecordsUnavailable
from service.identifiers import recommendation_id
from service.round_trips import RoundTrips
from service.settings import Settings
from tests.service.conftest import BreakableStore
from tests.service.test_decision_stream import START_MS, answered, write
from tests.service.test_decisions import decision
from tests.workers import end, start

pytestmark = pytest.mark.valkey
KILLS = 8


def work(url: str, home: str) -> None:
    """An archiver, until it is killed."""
    store, settings = RoundTrips(url, timeout_ms=5000, connections=1), Settings(home=home)
    streams = DecisionStreams(store, erased_users(settings), kept=1_000_000)
    archiver = Archiver(store, decision_archive(settings), streams)
    asyncio.run(run([archiver], every_s=0.01))


def archive_in(folder: Path) -> Archive:
    return decision_archive(Settings(home=str(folder)))


@asynccontextmanager
async def records_at(
    url: str, folder: Path, *, kept: int = 1_000_000
) -> AsyncIterator[tuple[DecisionRecords, Archiver]]:
    store = RoundTrips(url, timeout_ms=5000, connections=1)
    archive = archive_in(folder)
    try:
        streams = DecisionStreams(store, erased_users(Settings(home=str(folder))), kept=kept)
        yield DecisionRecords(DecisionStream(store), archive), Archiver(store, archive, streams)
    finally:
        await store.close()


async def archive_all(archiver: Archiver) -> None:
    while await archiver.step():
        pass


def drop(url: str, *, kept: int) -> None:
    with redis.Redis.from_url(url) as server:
        server.xtrim(STREAM, maxlen=kept, approximate=False)


async def test_record_that_the_stream_has_dropped_is_found_in_the_archive_as_it_was(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    records = [answered(10 * n) for n in range(50)]
    write(breakable_store.url, records)
    async with records_at(breakable_store.url, tmp_path) as (found, archiver):
        await archive_all(archiver)
        drop(breakable_store.url, kept=20)
        for record in (records[0], records[29], records[30], records[49]):
            assert await found.find(record.id) == record
            assert await found.find(record.id.upper()) == record
        with pytest.raises(NotFound, match="no record of"):
            await found.find(recommendation_id(START_MS).text)
        with pytest.raises(NotFound, match="is no recommendation id"):
            await found.find("seven")
    assert archiver.counts == {"archived": 50}


async def test_record_that_was_written_after_midnight_is_found_by_the_id_of_before(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    to_midnight_ms = DAY_MS - START_MS % DAY_MS
    record = answered(to_midnight_ms - 5)
    write(breakable_store.url, [record], late_ms=WRITTEN_WITHIN_MS)
    async with records_at(breakable_store.url, tmp_path) as (found, archiver):
        await archive_all(archiver)
        drop(breakable_store.url, kept=0)
        assert await found.find(record.id) == record


async def test_newest_go_on_into_the_archive_without_a_gap_and_none_twice(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    records = [answered(1000 * n) for n in range(250)]
    async with records_at(breakable_store.url, tmp_path) as (found, archiver):
        for start in range(0, 200, 50):  # several files; the last 50 are in the stream only
            write(breakable_store.url, records[start : start + 50])
            await archive_all(archiver)
        write(breakable_store.url, records[200:])
        with redis.Redis.from_url(breakable_store.url) as server:
            server.xadd(STREAM, {"d": b"no record"})
        drop(breakable_store.url, kept=120)
        newest = list(reversed(records))
        for count in (1, 120, 121, 250, None):
            assert [one async for one in found.newest(count)] == newest[:count]
        assert [one async for one in found.newest(since_ms=START_MS + 30_000)] == newest[:220]
        assert [one async for one in found.newest(3, since_ms=START_MS + 30_000)] == newest[:3]
        drop(breakable_store.url, kept=0)
        assert [one async for one in found.newest()] == newest[50:]


async def test_what_was_archived_a_move_ago_leaves_a_long_stream_and_is_found_all_the_same(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    records = [answered(1000 * n) for n in range(60)]
    lengths = []
    async with records_at(breakable_store.url, tmp_path, kept=15) as (found, archiver):
        for start in range(0, 60, 10):
            write(breakable_store.url, records[start : start + 10])
            await archive_all(archiver)
            with redis.Redis.from_url(breakable_store.url) as server:
                lengths.append(server.xlen(STREAM))
        assert [one async for one in found.newest()] == list(reversed(records))
        for record in records:
            assert await found.find(record.id) == record
    # Of the move before, the newest entry stays: by it the next move sees that nothing is missing.
    assert lengths == [10, 11, 11, 11, 11, 11]
    assert archiver.counts == {"archived": 60, "trimmed": 49}


async def test_what_is_left_of_an_erased_record_is_that_there_was_one(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    left = Erased(id=recommendation_id(START_MS).text, time_ms=START_MS)
    archive = archive_in(tmp_path)
    archive.append(decision_rows([((START_MS, 0), left, None)]), after=archive.until(), until=[(START_MS, 0)])
    async with records_at(breakable_store.url, tmp_path) as (found, _):
        assert await found.find(left.id) == left
        assert [one async for one in found.newest()] == [left]


async def test_record_that_another_version_wrote_is_archived_under_its_user_and_read_by_that_version_alone(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    left = recommendation_id(START_MS).text
    query = {"user_id": "ann"}
    later = {"id": left, "kind": "recommendations", "time_ms": START_MS, "query": query, "items": "packed otherwise"}
    with redis.Redis.from_url(breakable_store.url) as server:
        server.xadd(STREAM, {"d": msgspec.msgpack.encode(later)})
        server.xadd(STREAM, {"d": msgspec.msgpack.encode(later | {"query": {"user_id": 7}})})  # of no version
        server.xadd(STREAM, {"d": msgspec.msgpack.encode(later | {"query": {"who": "ann"}})})  # whom could one forget?
    async with records_at(breakable_store.url, tmp_path) as (found, archiver):
        await archive_all(archiver)
        drop(breakable_store.url, kept=0)
        assert archiver.counts["passed_over"] == 2
        rows = archiver.archive.read(columns=("user_id", "record"))
        assert rows.to_pylist() == [{"user_id": "ann", "record": msgspec.msgpack.encode(later)}]
        assert [one async for one in found.newest()] == []


async def test_archive_that_cannot_be_read_and_a_store_that_is_gone_are_said(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    record = answered(1)
    write(breakable_store.url, [record])
    async with records_at(breakable_store.url, tmp_path) as (found, archiver):
        await archive_all(archiver)
        drop(breakable_store.url, kept=0)
        (file,) = archive_in(tmp_path).root.glob("*/*.parquet")
        file.write_bytes(b"PAR1 rubbish")
        with pytest.raises(RecordsUnavailable, match="restore the file"):
            await found.find(record.id)
        with pytest.raises(RecordsUnavailable, match="restore the file"):
            _ = [one async for one in found.newest()]
        breakable_store.end()
        with pytest.raises(RecordsUnavailable, match="cannot be read"):
            await found.find(record.id)


async def test_records_that_left_the_stream_before_they_were_archived_are_noticed(
    breakable_store: BreakableStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = [answered(n) for n in range(30)]
    async with records_at(breakable_store.url, tmp_path) as (_, archiver):
        write(breakable_store.url, records[:10])
        await archive_all(archiver)
        drop(breakable_store.url, kept=5)  # archived
        write(breakable_store.url, records[10:15])
        await archive_all(archiver)
        assert "gaps" not in archiver.counts
        write(breakable_store.url, records[15:])
        drop(breakable_store.url, kept=3)
        await archive_all(archiver)
    assert archiver.counts == {"archived": 18, "gaps": 1}
    assert [one.levelname for one in caplog.records] == ["WARNING"]


async def test_entries_that_are_no_records_are_passed_over_however_many(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    with redis.Redis.from_url(breakable_store.url) as server:
        for number in range(READ + 5):
            server.xadd(STREAM, {"d": b"rubbish"} if number % 2 else {"x": "y"}, id=f"1-{number}")
    record = answered(1)
    write(breakable_store.url, [record])
    async with records_at(breakable_store.url, tmp_path) as (_, archiver):
        assert await archiver.step()
        assert not await archiver.step()
    assert archive_in(tmp_path).read()["id"].to_pylist() == [record.id]


async def test_each_record_is_archived_once_however_often_archivers_are_killed(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    """Two at a time, each killed at a random moment and started again, while records come."""
    url, chance, archive = breakable_store.url, random.Random(3), archive_in(tmp_path)

    def archived() -> list[str]:
        return archive.read(columns=["id"])["id"].to_pylist()

    workers, written = [start(work, url, str(tmp_path)) for _ in range(2)], []
    try:
        with redis.Redis.from_url(url) as server:
            for kill in range(KILLS):
                until = time.monotonic() + chance.uniform(0.1, 0.4)
                while time.monotonic() < until:
                    now_ms = time.time_ns() // 1_000_000
                    record = decision(0, id=recommendation_id(now_ms).text, time_ms=now_ms)
                    server.xadd(STREAM, {"d": msgspec.msgpack.encode(record)})
                    written.append(record.id)
                    await asyncio.sleep(0.001)
                end(workers[kill % 2])
                workers[kill % 2] = start(work, url, str(tmp_path))
        deadline = time.monotonic() + 60
        while len(archived()) < len(written):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    finally:
        for worker in workers:
            end(worker)
    assert archived() == written
    drop(url, kept=0)
    async with records_at(url, tmp_path) as (found, _):
        for identity in (written[0], written[len(written) // 2], written[-1]):
            record = await found.find(identity)
            assert isinstance(record, Decision)
            assert record.id == identity


async def test_records_after_a_position_come_oldest_first_from_archive_and_stream_each_once(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    async with records_at(breakable_store.url, tmp_path) as (records, archiver):
        seen: list[str] = []
        position = (0, 0)
        for step in range(4):
            write(breakable_store.url, [answered(START_MS + 10 * step + n) for n in range(3)])
            async for at, one in records.after(position):
                assert at > position
                position = at
                assert one is not None
                seen.append(one.id)
            if step % 2:
                await archive_all(archiver)
        assert len(seen) == len({*seen}) == 12
        fresh = [one.id async for _, one in records.after((0, 0)) if one]
        assert fresh == seen
        breakable_store.end()
        with pytest.raises(RecordsUnavailable):
            [one async for one in records.after((0, 0))]

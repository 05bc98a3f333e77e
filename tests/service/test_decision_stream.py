"""Records are found in the stream by id and by time, among others and among what is no record."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import redis

from service.decision_stream import PAGE, WRITTEN_WITHIN_MS, DecisionStream
from service.decisions import STREAM, Decision
from service.errors import NotFound, RecordsUnavailable
from service.identifiers import recommendation_id
from service.round_trips import RoundTrips
from tests.service.conftest import BreakableStore
from tests.service.test_decisions import decision

pytestmark = pytest.mark.valkey

START_MS = 1_700_000_000_000


@asynccontextmanager
async def stream_at(url: str) -> AsyncIterator[DecisionStream]:
    store = RoundTrips(url, timeout_ms=1000, connections=1)
    try:
        yield DecisionStream(store)
    finally:
        await store.close()


def answered(ms: int) -> Decision:
    """A record of an answer so long after the start."""
    at_ms = START_MS + ms
    return decision(0, id=recommendation_id(at_ms).text, time_ms=at_ms, query={"user_id": "u"})


def write(url: str, records: list[Decision], *, late_ms: int = 0) -> None:
    """Put records into the stream, so long after their answers."""
    with redis.Redis.from_url(url) as server:
        for number, record in enumerate(records):
            at = f"{record.time_ms + late_ms}-{number}"
            server.xadd(STREAM, {"d": msgspec.msgpack.encode(record)}, id=at)


async def test_each_record_is_found_by_its_id_across_pages(breakable_store: BreakableStore) -> None:
    records = [answered(n // 50) for n in range(3 * PAGE + 7)]
    write(breakable_store.url, records)
    async with stream_at(breakable_store.url) as stream:
        for record in (records[0], records[PAGE - 1], records[PAGE], records[-1]):
            assert await stream.find(record.id) == record
            assert await stream.find(record.id.upper()) == record


async def test_record_that_was_written_late_is_found_within_a_minute(breakable_store: BreakableStore) -> None:
    late, too_late = answered(0), answered(5)
    write(breakable_store.url, [late], late_ms=WRITTEN_WITHIN_MS)
    write(breakable_store.url, [too_late], late_ms=WRITTEN_WITHIN_MS + 1)
    async with stream_at(breakable_store.url) as stream:
        assert await stream.find(late.id) == late
        with pytest.raises(NotFound, match="no record of"):
            await stream.find(too_late.id)


async def test_id_that_another_record_mentions_is_not_that_record(breakable_store: BreakableStore) -> None:
    wanted = answered(1)
    mentions = msgspec.structs.replace(answered(1), query={"user_id": wanted.id})
    write(breakable_store.url, [mentions])
    async with stream_at(breakable_store.url) as stream:
        with pytest.raises(NotFound):
            await stream.find(wanted.id)
        write(breakable_store.url, [answered(2), msgspec.structs.replace(wanted, time_ms=wanted.time_ms + 5)])
        assert (await stream.find(wanted.id)).id == wanted.id


@pytest.mark.parametrize("given", ["seven", "", "a/b", "019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c1", "\0", "x" * 10_000])
async def test_what_is_no_recommendation_id_is_not_found(breakable_store: BreakableStore, given: str) -> None:
    async with stream_at(breakable_store.url) as stream:
        with pytest.raises(NotFound, match="is no recommendation id") as refused:
            await stream.find(given)
    assert len(str(refused.value)) < 300


async def test_newest_come_first_as_many_as_wanted_and_what_is_no_record_is_passed_over(
    breakable_store: BreakableStore,
) -> None:
    records = [answered(n) for n in range(2 * PAGE + 3)]
    write(breakable_store.url, records)
    with redis.Redis.from_url(breakable_store.url) as server:
        server.xadd(STREAM, {"x": "y"})
        server.xadd(STREAM, {"d": b"\xc1"})
    newest = [record.id for record in reversed(records)]
    async with stream_at(breakable_store.url) as stream:
        for count in (1, PAGE, len(records), None):
            assert [record.id async for record in stream.newest(count)] == newest[:count]


async def test_since_counts_from_the_answer_and_not_from_when_it_was_written(breakable_store: BreakableStore) -> None:
    records = [answered(10 * n) for n in range(20)]
    write(breakable_store.url, records, late_ms=35)
    async with stream_at(breakable_store.url) as stream:
        found = [record.time_ms async for record in stream.newest(since_ms=START_MS + 100)]
        assert found == [START_MS + 10 * n for n in range(19, 9, -1)]
        assert [record.time_ms async for record in stream.newest(3, since_ms=START_MS + 100)] == found[:3]
        assert [record async for record in stream.newest(since_ms=START_MS + 191)] == []


async def test_store_that_does_not_answer_is_said_and_one_that_is_back_is_read(
    breakable_store: BreakableStore,
) -> None:
    record = answered(1)
    write(breakable_store.url, [record])
    async with stream_at(breakable_store.url) as stream:
        assert await stream.find(record.id) == record
        breakable_store.end()
        with pytest.raises(RecordsUnavailable, match="cannot be read"):
            await stream.find(record.id)
        with pytest.raises(RecordsUnavailable, match="cannot be read"):
            _ = [one async for one in stream.newest()]
        breakable_store.start()
        with redis.Redis.from_url(breakable_store.url) as server:
            server.set(STREAM, "no stream")
        with pytest.raises(RecordsUnavailable, match="WRONGTYPE"):
            await stream.find(record.id)

"""Decision records: enough to answer again, written beside the request path; those that are lost are counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

import msgspec
import pytest
import redis

from recsys.types import World
from service.decisions import FLUSH, STREAM, Decision, DecisionLog
from service.gateway import Gateway
from service.round_trips import RoundTrips
from service.schemas import CategoryFilter, Filter, RecommendationRequest, Session
from service.settings import Settings
from tests.free_ports import free_port
from tests.service.conftest import BreakableStore
from tests.service.gateways import again, colocated, item_ids

pytestmark = pytest.mark.valkey


@asynccontextmanager
async def log_at(url: str, *, queue: int = 2048, stream_length: int = 50_000) -> AsyncIterator[DecisionLog]:
    store = RoundTrips(url, timeout_ms=200, connections=1)
    try:
        yield DecisionLog(store, queue=queue, stream_length=stream_length)
    finally:
        await store.close()


@dataclass
class Stream:
    """The stream as a reader of it sees it."""

    url: str

    def records(self) -> list[Decision]:
        with redis.Redis.from_url(self.url) as server:
            return [msgspec.msgpack.decode(fields[b"d"], type=Decision) for _, fields in server.xrange(STREAM)]

    def __len__(self) -> int:
        with redis.Redis.from_url(self.url) as server:
            return server.xlen(STREAM)


def decision(number: int, **given: object) -> Decision:
    return Decision(
        **{
            "id": f"id-{number}",
            "kind": "recommendations",
            "time_ms": 1_700_000_000_000 + number,
            "bundle": "20250101-0123456789ab",
            "item_stats": "v1",
            "candidates": 200,
            "variants": {},
            "propensity": 1.0,
            "query": RecommendationRequest(user_id="ü", context={"big": 2**63 - 1, "x": 0.5}),
            "user_state": bytes(range(256)),
            "seed": (1 << 62) - 1,
            "now_s": 1_700_000_000,
            "items": ["a", "用户"],
            "scores": [0.1 + 0.2, -1e-300],
            "degraded": [{"stage": "s", "cause": "c", "fallback": "f"}],
            "timing_ms": {"total": 1.5},
            **given,
        }
    )


# --- what a record is good for ---


async def test_record_of_a_served_answer_makes_the_same_answer_again_bit_for_bit(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    shown = [served.bundle.vocabulary.item_id[row] for row in served.item_stats.order[:12]]
    requests = [
        RecommendationRequest(user_id="user-0011"),
        RecommendationRequest(user_id="nobody", count=100),
        RecommendationRequest(user_id="visitor", session=Session(item_ids=shown[:3]), context={"device": "tv"}),
        RecommendationRequest(
            user_id="user-0012",
            count=30,
            exclude_item_ids=shown,
            filter=Filter(categories=CategoryFilter(any_of=[served.bundle.category_name[0]])),
        ),
    ]
    async with colocated(store_url) as stages, log_at(breakable_store.url) as log:
        gateway = Gateway(served, stages, log, Settings(deadline_ms=10_000))
        bodies = [await gateway.recommend(request) for request in requests]
        await log.flush()
    records = Stream(breakable_store.url).records()
    assert [record.id for record in records] == [body["recommendation_id"] for body in bodies]
    for record, body in zip(records, bodies, strict=True):
        alone = again(served, record)
        assert item_ids(served, alone) == record.items == [item["item_id"] for item in body["items"]]
        assert alone.score.tolist() == record.scores == [item["score"] for item in body["items"]]
    assert [record.user_state is None for record in records] == [False, True, True, False]


async def test_record_survives_the_stream_unchanged(breakable_store: BreakableStore) -> None:
    sent = decision(1)
    async with log_at(breakable_store.url) as log:
        log.put(sent)
        await log.flush()
        assert log.counts == {"written": 1}
    (read,) = Stream(breakable_store.url).records()
    request = msgspec.convert(read.query, RecommendationRequest)
    assert msgspec.structs.replace(read, query=request) == sent


async def test_records_keep_their_order_over_many_round_trips(breakable_store: BreakableStore) -> None:
    async with log_at(breakable_store.url) as log:
        for number in range(5 * FLUSH + 1):
            log.put(decision(number))
        await log.flush()
    assert [record.id for record in Stream(breakable_store.url).records()] == [
        f"id-{number}" for number in range(5 * FLUSH + 1)
    ]


async def test_lone_record_is_written_without_another_one_behind_it(breakable_store: BreakableStore) -> None:
    async with log_at(breakable_store.url) as log:
        for number in range(3):
            log.put(decision(number))
            await log.flush()
            assert len(Stream(breakable_store.url)) == number + 1


# --- what is lost, and counted ---


async def test_full_queue_drops_the_newest_records_and_counts_them(breakable_store: BreakableStore) -> None:
    async with log_at(breakable_store.url, queue=10) as log:
        for number in range(25):
            log.put(decision(number))
        assert log.counts["dropped_full"] == 15
        await log.flush()
        assert log.counts == {"dropped_full": 15, "written": 10}
    assert [record.id for record in Stream(breakable_store.url).records()] == [f"id-{number}" for number in range(10)]


async def test_without_a_server_records_are_dropped_counted_and_never_in_the_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with log_at(f"redis://127.0.0.1:{free_port()}/0") as log:
        for _ in range(3):
            for number in range(2 * FLUSH):
                log.put(decision(number))
            await log.flush()
        assert log.counts == {"dropped_error": 6 * FLUSH}
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # one line, not one a record


async def test_records_are_written_again_when_the_server_is_back(breakable_store: BreakableStore) -> None:
    async with log_at(breakable_store.url) as log:
        breakable_store.end()
        log.put(decision(1))
        await log.flush()
        breakable_store.start()
        log.put(decision(2))
        await log.flush()
        assert log.counts == {"dropped_error": 1, "written": 1}
    assert [record.id for record in Stream(breakable_store.url).records()] == ["id-2"]


async def test_put_does_not_wait_for_a_server_that_hangs(breakable_store: BreakableStore) -> None:
    async with log_at(breakable_store.url) as log:
        log.put(decision(0))
        await log.flush()
        breakable_store.pause()
        try:
            began = monotonic()
            for number in range(500):
                log.put(decision(number))
                if number % 50 == 0:
                    await asyncio.sleep(0)
            assert monotonic() - began < 0.1
            await log.flush()
        finally:
            breakable_store.resume()
        assert log.counts == {"written": 1, "dropped_error": 500}


async def test_stream_forgets_its_oldest_records(breakable_store: BreakableStore) -> None:
    async with log_at(breakable_store.url, queue=10_000, stream_length=300) as log:
        for number in range(3_000):
            log.put(decision(number))
        await log.flush()
        assert log.counts == {"written": 3_000}
    assert 300 <= len(Stream(breakable_store.url)) <= 500
    assert Stream(breakable_store.url).records()[-1].id == "id-2999"

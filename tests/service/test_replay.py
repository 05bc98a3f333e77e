"""Recorded answers are made again from their records, and what differs is named."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace as changed
from typing import Any

import msgspec
import numpy as np
import pytest
import redis

from recsys.errors import RegistryError
from recsys.types import World
from service.decisions import STREAM, Decision, DecisionLog
from service.errors import StackError
from service.gateway import Gateway
from service.replay import Outcome, find, newest, replay
from service.round_trips import RoundTrips
from service.schemas import CategoryFilter, Filter, RecommendationRequest, Session, SimilarRequest
from service.settings import Settings
from service.stack import ports
from tests.service.conftest import BreakableStore
from tests.service.gateways import SlowStages, colocated

pytestmark = pytest.mark.valkey


@asynccontextmanager
async def recording(world: World, states_url: str, url: str, **given: Any) -> AsyncIterator[Gateway]:
    """A gateway that reads states at one store and records its decisions in another."""
    store = RoundTrips(url, timeout_ms=2000, connections=1)
    log = DecisionLog(store, queue=2048, stream_length=50_000)
    try:
        async with colocated(world, states_url) as stages:
            slow = SlowStages(stages, given.pop("slow", ""), 0.3)
            yield Gateway(world, slow, log, Settings(**{"deadline_ms": 10_000, **given}))
            await log.flush()
    finally:
        await store.close()


def requests(world: World) -> list[RecommendationRequest]:
    shown = [world.bundle.vocabulary.item_id[row] for row in world.item_stats.order[:12]]
    only = Filter(categories=CategoryFilter(any_of=[world.bundle.category_name[0]]))
    known = [RecommendationRequest(user_id=f"user-{n:04d}", count=1 + 7 * n) for n in range(30)]
    return [
        *known,
        RecommendationRequest(user_id="nobody", exclude_item_ids=shown),
        RecommendationRequest(user_id="visitor", session=Session(item_ids=shown[:3]), context={"device": "tv"}),
        RecommendationRequest(user_id="user-0012", count=30, filter=only),
    ]


async def test_every_recorded_list_is_made_again_bit_for_bit(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    async with recording(changed(served, candidates=77), store_url, breakable_store.url) as gateway:
        bodies = await asyncio.gather(*(gateway.recommend(request) for request in requests(served)))
    records = list(newest(breakable_store.url, 1000))
    assert {record.id for record in records} == {body["recommendation_id"] for body in bodies}
    verdicts = [replay(record, lambda _, candidates: changed(served, candidates=candidates)) for record in records]
    assert {verdict.outcome for verdict in verdicts} == {Outcome.IDENTICAL}, verdicts
    assert {record.candidates for record in records} == {77}


async def one_record(world: World, states_url: str, url: str, **given: Any) -> Decision:
    async with recording(world, states_url, url, **given) as gateway:
        body = await gateway.recommend(RecommendationRequest(user_id="user-0003", count=10))
    return find(url, body["recommendation_id"])


async def test_altered_model_list_and_score_are_named_with_their_rank(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    record = await one_record(served, store_url, breakable_store.url)
    ranker = served.bundle.ranker
    assert ranker is not None
    shaken = changed(ranker, leaf=ranker.leaf + np.random.default_rng(1).normal(0, 1, ranker.leaf.shape))
    other = changed(served, bundle=changed(served.bundle, ranker=shaken))
    assert replay(record, lambda *_: other).outcome is Outcome.DIFFERENT
    swapped = msgspec.structs.replace(record, items=[*record.items[:4], "something else", *record.items[5:]])
    outcome, detail = replay(swapped, lambda *_: served)[1:]
    assert outcome is Outcome.DIFFERENT
    assert detail.startswith("rank 5: 'something else'")
    assert repr(record.items[4]) in detail
    higher = msgspec.structs.replace(record, scores=[np.nextafter(record.scores[0], 9), *record.scores[1:]])
    assert replay(higher, lambda *_: served).detail.startswith("rank 1: ")
    shorter = msgspec.structs.replace(record, items=record.items[:-1], scores=record.scores[:-1])
    assert replay(shorter, lambda *_: served).detail == "9 items served, 10 now"


async def test_what_cannot_be_made_again_says_why(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    record = await one_record(served, store_url, breakable_store.url)

    def gone(*_: object) -> World:
        raise RegistryError("no bundle 'x'")

    change = msgspec.structs.replace
    cases = [
        (replay(record, gone), "no bundle 'x'"),
        (replay(change(record, item_stats="old"), lambda *_: served), "item stats 'old' are gone"),
        (replay(change(record, user_state=b"rubbish"), lambda *_: served), "user state: not a user state"),
        (replay(change(record, query={"user_id": 7}), lambda *_: served), "Expected `str`"),
        (replay(change(record, kind="similar"), lambda *_: served), "answers of kind 'similar'"),
    ]
    for verdict, reason in cases:
        assert verdict.outcome is Outcome.NOT_REPLAYABLE
        assert reason in verdict.detail


async def test_answer_of_a_deadline_is_not_replayable_and_one_without_its_store_is(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    late = await one_record(served, store_url, breakable_store.url, slow="rank", deadline_ms=20)
    assert replay(late, lambda *_: served)[1:] == (Outcome.NOT_REPLAYABLE, "degraded: deadline")
    nowhere = f"redis://127.0.0.1:{ports.free_port()}/0"
    blind = await one_record(served, nowhere, breakable_store.url)
    assert [one["stage"] for one in blind.degraded] == ["features"]
    assert replay(blind, lambda *_: served).outcome is Outcome.IDENTICAL


async def test_similar_lists_are_recorded_and_left_alone(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    async with recording(served, store_url, breakable_store.url) as gateway:
        body = await gateway.similar(SimilarRequest(item_ids=[served.bundle.vocabulary.item_id[0]]))
    record = find(breakable_store.url, body["recommendation_id"])
    assert replay(record, lambda *_: served).outcome is Outcome.NOT_REPLAYABLE


async def test_records_are_found_among_others_and_what_is_no_record_is_passed_over(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    url = breakable_store.url
    with redis.Redis.from_url(url) as server:
        server.xadd(STREAM, {"x": "y"})
        first = await one_record(served, store_url, url)
        server.xadd(STREAM, {"d": b"\xc1"})
        second = await one_record(served, store_url, url)
    assert [record.id for record in newest(url, 10)] == [second.id, first.id]
    assert [record.id for record in newest(url, 1)] == [second.id]
    assert find(url, first.id) == first
    with pytest.raises(StackError, match="no record of 019ab1f2"):
        find(url, "019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11")
    with pytest.raises(StackError, match="is no recommendation id"):
        find(url, "seven")
    breakable_store.end()
    with pytest.raises(StackError, match="cannot be read"):
        list(newest(url, 1))

"""Micro-batches and lists as the gateway really makes them, and that a sampled request is found in its micro-batch."""

import asyncio

import pytest

from recsys.types import World
from service.gateway import Gateway
from service.histogram import INFINITY, Histogram
from service.schemas import RecommendationRequest, SimilarRequest
from service.telemetry.batches import STAGES
from service.telemetry.pseudonyms import Pseudonyms
from service.telemetry.trace import Sampler, Trace, current
from tests.free_ports import free_port
from tests.service.gateways import gateway_at

pytestmark = pytest.mark.valkey
KEY = "k" * 32


def seen(histogram: Histogram) -> int:
    return histogram.at_most()[INFINITY]


async def sampled(gateway: Gateway, user_id: str) -> Trace:
    """Ask as the edge does for a request that is sampled."""
    trace = Sampler(1.0).begin({}, [])
    assert trace is not None
    current.set(trace)  # of this task alone
    await gateway.recommend(RecommendationRequest(user_id=user_id))
    return trace


def test_batch_is_counted_once_and_its_stages_once_for_each_request(world: World, valkey_url: str) -> None:
    async def ask() -> Gateway:
        async with gateway_at(world, valkey_url) as (gateway, _):
            users = [f"user-{number:04d}" for number in range(5)]
            await asyncio.gather(*(gateway.recommend(RecommendationRequest(user_id=user)) for user in users))
            return gateway

    batches = asyncio.run(ask()).batches
    size = batches.size["recommendations",]
    assert size.sum == 5
    assert 1 <= seen(size) <= 5
    assert {stage: seen(batches.stage_s[stage,]) for stage in STAGES} == dict.fromkeys(STAGES, 5)
    assert all(batches.stage_s[stage,].sum > 0 for stage in STAGES)


def test_every_item_is_ruled_out_by_a_reason_or_goes_in(world: World, valkey_url: str) -> None:
    async def ask() -> tuple[Gateway, list[int]]:
        async with gateway_at(world, valkey_url) as (gateway, records):
            first = await gateway.recommend(RecommendationRequest(user_id="user-0007"))
            await gateway.recommend(
                RecommendationRequest(user_id="user-0008", exclude_item_ids=[first["items"][0]["item_id"]])
            )
            return gateway, [record.ranked for record in records]

    gateway, ranked = asyncio.run(ask())
    counts = gateway.batches.candidates
    out = sum(count for what, count in counts.items() if what.startswith("out."))
    assert out + counts["in"] == 2 * len(world.bundle.vocabulary)
    assert counts["out.excluded"] == 1
    assert counts["ranked"] == sum(ranked)
    assert counts["served"] == 40


def test_lists_are_counted_by_kind_and_bundle(world: World, valkey_url: str) -> None:
    async def ask() -> Gateway:
        async with gateway_at(world, valkey_url) as (gateway, _):
            body = await gateway.recommend(RecommendationRequest(user_id="user-0007"))
            await gateway.similar(SimilarRequest(item_ids=[body["items"][0]["item_id"]]))
            return gateway

    assert asyncio.run(ask()).lists.made == {
        ("recommendations", world.bundle.id): 1,
        ("similar", world.bundle.id): 1,
    }


def test_sampled_requests_are_found_in_their_batch_and_others_leave_nothing(world: World, valkey_url: str) -> None:
    async def ask() -> list[Trace]:
        async with gateway_at(world, valkey_url) as (gateway, _):
            gateway.lists.pseudonyms = Pseudonyms(KEY)
            plain = [gateway.recommend(RecommendationRequest(user_id=f"user-{number:04d}")) for number in range(3)]
            answers = await asyncio.gather(sampled(gateway, "user-0007"), *plain, sampled(gateway, "user-0008"))
            return [one for one in answers if isinstance(one, Trace)]

    first, last = asyncio.run(ask())
    for trace in (first, last):
        assert [stage for stage, _, _ in trace.stages] == list(STAGES)
        ends = [ended for _, _, ended in trace.stages]
        assert ends == sorted(ends)
        assert all(trace.began <= began <= ended for _, began, ended in trace.stages)
        assert trace.batch is not None
        assert (trace.trace_id, trace.span_id) in trace.batch.members
        assert trace.facts["riffle.bundle"] == world.bundle.id
        assert trace.facts["riffle.items"] == 20
    together = {id(trace.batch): trace.batch for trace in (first, last)}
    assert sum(len(batch.members) for batch in together.values() if batch) == 2


def test_trace_names_the_user_by_a_keyed_hash_and_not_at_all_without_a_key(world: World, valkey_url: str) -> None:
    async def ask(key: str) -> Trace:
        async with gateway_at(world, valkey_url) as (gateway, _):
            gateway.lists.pseudonyms = Pseudonyms(key)
            return await sampled(gateway, "user-0007")

    named, unnamed = asyncio.run(ask(KEY)), asyncio.run(ask(""))
    assert named.facts["riffle.user"] == Pseudonyms(KEY).of("user-0007")
    assert "riffle.user" not in unnamed.facts
    assert not [value for trace in (named, unnamed) for value in trace.facts.values() if "user-0007" in str(value)]


def test_degraded_list_says_so_in_its_trace(world: World) -> None:
    async def ask() -> Trace:
        async with gateway_at(world, f"redis://127.0.0.1:{free_port()}") as (gateway, _):
            return await sampled(gateway, "user-0007")

    assert str(asyncio.run(ask()).facts["riffle.degraded"]).startswith("features.")


def test_request_without_a_trace_leaves_the_next_one_of_its_task_none(world: World, valkey_url: str) -> None:
    async def ask() -> int:
        async with gateway_at(world, valkey_url) as (gateway, _):
            trace = await sampled(gateway, "user-0007")
            current.set(None)
            await gateway.recommend(RecommendationRequest(user_id="user-0008"))
            return len(trace.stages)

    assert asyncio.run(ask()) == len(STAGES)

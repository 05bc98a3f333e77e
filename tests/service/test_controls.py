"""Diversity, popularity damping and quotas from the request to the record and its replay."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import httpx
import msgspec
import numpy as np
import pytest

from recsys.features.user import UserStates
from recsys.recommend import recommend
from recsys.types import World
from service.decisions import Decision
from service.gateway import Gateway
from service.http import HttpEdge
from service.queries import batch_of
from service.record_schemas import Outcome
from service.replay import query_of, replay
from service.schemas import Quota, RecommendationRequest, SimilarRequest
from service.settings import Settings
from service.stages import DistributedStages
from tests.service.gateways import ElsewhereStages, KeptDecisions, SlowStages, colocated, gateway_at
from tests.service.test_gateway import Failing, popular, through_json
from tests.service.test_stages import Handle, Remote

pytestmark = pytest.mark.valkey

Body = dict[str, Any]
change = msgspec.structs.replace


def ask(user_id: str = "user-0002", **given: object) -> RecommendationRequest:
    return RecommendationRequest(user_id=user_id, **given)


def ids(body: Body) -> list[str]:
    return [item["item_id"] for item in body["items"]]


def quotas_of(world: World, most: int) -> list[Quota]:
    """One for every category."""
    return [Quota(category=name, max=most) for name in world.bundle.category_name]


def most_of_a_category(body: Body) -> int:
    held = [name for item in body["items"] for name in item["metadata"]["categories"]]
    return max((held.count(name) for name in held), default=0)


def asked(world: World) -> list[RecommendationRequest]:
    """Each control alone, all together, and none, of known users and strangers, short lists and long."""
    quotas = quotas_of(world, 3)
    controls: list[dict[str, Any]] = [
        {},
        {"diversity": 0.0},
        {"diversity": 0.3},
        {"diversity": 1.0},
        {"popularity_damping": 0.5},
        {"quotas": quotas},
        {"quotas": quotas[:1], "diversity": 0.5, "popularity_damping": 1.0},
    ]
    return [
        ask(user_id, count=count, **one)
        for user_id in ("user-0002", "user-0003", "nobody")
        for count in (5, 20, 300)
        for one in controls
    ]


async def records_of(world: World, url: str, topology: str) -> list[Decision]:
    kept = KeptDecisions()
    async with colocated(url) as stages:
        if topology == "distributed":
            remote = Remote(world)
            handles = [Handle(stages.lookup), Handle(remote.retrieve), Handle(remote.rank)]
            stages = DistributedStages(*handles, lookup_timeout_s=5)
        gateway = Gateway(world, stages, kept, Settings(deadline_ms=10_000, diversity=0.2))
        await asyncio.gather(*(gateway.recommend(request) for request in asked(world)))
    return [msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Decision) for record in kept.records]


@pytest.mark.parametrize("topology", ["colocated", "distributed"])
async def test_lists_under_every_control_are_made_again_bit_for_bit(
    served: World, store_url: str, topology: str
) -> None:
    records = await records_of(served, store_url, topology)
    assert len(records) == len(asked(served))
    verdicts = [replay(record, lambda _: served) for record in records]
    assert {verdict.outcome for verdict in verdicts} == {Outcome.IDENTICAL}, verdicts
    assert {record.diversity for record in records} == {0.0, 0.2, 0.3, 0.5, 1.0}


@pytest.mark.parametrize("control", ["diversity", "popularity_damping", "quotas"])
async def test_list_made_with_another_control_is_named_selection(served: World, store_url: str, control: str) -> None:
    records = [
        record
        for record in await records_of(served, store_url, "colocated")
        if len(record.items) > 1 and record.query["count"] == 20
    ]
    differing = 0
    for record in records:
        if control == "diversity":
            other = change(record, diversity=1.0 - record.diversity)
        else:
            value = {"popularity_damping": 1.0, "quotas": [{"category": served.bundle.category_name[1], "max": 1}]}
            other = change(record, query={**record.query, control: value[control]})
        verdict = replay(other, lambda _: served)
        differing += verdict.outcome is Outcome.DIFFERENT
        assert verdict.outcome is Outcome.IDENTICAL or verdict.stage == "selection"
    assert differing > len(records) / 2


async def test_record_from_before_there_were_controls_is_made_again(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url, diversity=0.0) as (gateway, records):
        await gateway.recommend(ask())
    old = msgspec.to_builtins(records[0])
    del old["diversity"]
    for name in ("diversity", "popularity_damping", "quotas"):
        del old["query"][name]
    record = msgspec.convert(msgspec.msgpack.decode(msgspec.msgpack.encode(old)), Decision)
    assert (record.diversity, "quotas" in record.query) == (0.0, False)
    assert replay(record, lambda _: served).outcome is Outcome.IDENTICAL


async def test_request_that_names_no_diversity_gets_that_of_the_settings(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url, diversity=0.6) as (gateway, records):
        by_setting, named, none = [
            ids(await gateway.recommend(one)) for one in (ask(), ask(diversity=0.6), ask(diversity=0.0))
        ]
        await gateway.similar(SimilarRequest(item_ids=popular(served)[:1]))
    assert by_setting == named != none
    assert [record.diversity for record in records] == [0.6, 0.6, 0.0, 0.0]


async def test_quotas_hold_and_the_answer_says_how_much_of_the_list_is_filled(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        for count in (10, 500):
            body = through_json(await gateway.recommend(ask(count=count, quotas=quotas_of(served, 2))))
            assert most_of_a_category(body) <= 2
            assert body["filled"] == {"requested": count, "returned": len(body["items"])}
        assert len(body["items"]) < 500


async def test_quotas_hold_in_degraded_answers_whose_order_is_not_changed(served: World, store_url: str) -> None:
    limited = ask("nobody", quotas=quotas_of(served, 2), diversity=1.0, popularity_damping=1.0)
    async with colocated(store_url) as stages:
        slow = Gateway(served, SlowStages(stages, "lookup", 0.2), KeptDecisions(), Settings(deadline_ms=20))
        at_deadline = through_json(await slow.recommend(limited))
        await asyncio.sleep(0.25)
        elsewhere = replace(served, bundle=replace(served.bundle, index=Failing(), spectral_index=Failing()))
        broken = Gateway(served, ElsewhereStages(stages, elsewhere), KeptDecisions(), Settings(deadline_ms=10_000))
        known = change(limited, user_id="user-0002")
        of_popular = through_json(await broken.recommend(known))
    for body, stage in ((at_deadline, "deadline"), (of_popular, "retrieval")):
        assert [one["stage"] for one in body["degraded"]] == [stage]
        assert most_of_a_category(body) <= 2
        places = [popular(served).index(one) for one in ids(body)]
        assert places == sorted(places)


async def test_unknown_category_of_a_quota_is_a_422_that_points_at_it(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, records):
        nobody = cast(Any, None)
        transport = httpx.ASGITransport(app=HttpEdge(gateway, *[nobody] * 6))
        async with httpx.AsyncClient(transport=transport, base_url="http://riffle") as client:
            good = {"category": served.bundle.category_name[0], "max": 1}
            sent = {"user_id": "u", "diversity": 0.5, "quotas": [good, {"category": "Nonsense", "max": 1}]}
            refused = await client.post("/v1/recommendations", json=sent)
            checked = await client.post("/v1/recommendations", json={**sent, "validate_only": True})
            listed = await client.post("/v1/recommendations", json={**sent, "quotas": [good]})
    for one in (refused, checked):
        assert one.status_code == 422
        assert [(error["pointer"], error["code"]) for error in one.json()["errors"]] == [
            ("/quotas/1/category", "unknown_category")
        ]
    assert listed.status_code == 200
    assert len(records) == 1


async def test_recorded_list_is_that_of_the_pure_function(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, records):
        body = await gateway.recommend(ask("nobody", diversity=0.5, quotas=quotas_of(served, 4)))
    slates = recommend(served, batch_of([query_of(records[0], served.bundle)], UserStates.empty(1)))
    assert ids(body) == [served.bundle.vocabulary.item_id[row] for row in slates.item]
    assert np.array_equal(slates.score, records[0].scores)

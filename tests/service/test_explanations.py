"""Lists that explain themselves: what they say, that others do not wait for them, and what is said if they cannot."""

import asyncio
from dataclasses import replace
from time import monotonic
from typing import Any

import msgspec
import orjson
import pytest

from recsys.types import World
from service import explanations
from service.gateway import Gateway
from service.record_schemas import Outcome
from service.replay import replay
from service.schemas import RecommendationRequest, RecommendationResponse, Return, Session
from service.settings import Settings
from tests.free_ports import free_port
from tests.service.gateways import KeptDecisions, SlowStages, colocated, gateway_at

pytestmark = pytest.mark.valkey

KNOWN = "user-0007"


def ask(user_id: str = KNOWN, **given: Any) -> RecommendationRequest:
    return RecommendationRequest(user_id=user_id, return_=Return(explain=True), **given)


def through_json(body: dict[str, Any]) -> dict[str, Any]:
    return orjson.loads(orjson.dumps(body))


def plainly(request: RecommendationRequest) -> RecommendationRequest:
    return msgspec.structs.replace(request, return_=Return())


async def test_explained_list_has_the_documented_shape_and_explains_its_own_items(
    served: World, store_url: str
) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        body = through_json(await gateway.recommend(ask(count=12, diversity=0.3)))
    answer = msgspec.convert(body, RecommendationResponse, strict=True)
    assert msgspec.to_builtins(answer) == body
    assert answer.degraded == []
    explained = answer.explanation
    assert explained
    assert [(one.item_id, one.rank, one.score) for one in explained.items] == [
        (one.item_id, one.rank, one.score) for one in answer.items
    ]
    for item, one in zip(answer.items, explained.items, strict=True):
        assert set(one.sources) == set(item.sources or [])
        total = explained.base + sum(group.value for group in one.contributions)
        assert total == pytest.approx(one.score, abs=1e-6)
        for group in one.contributions:
            assert sum(group.features.values()) == pytest.approx(group.value, abs=1e-9)
    assert [one.rule for one in explained.rules] == ["diversity"]
    assert explained.removed["seen"] > 0
    assert body["timing_ms"]["explain"] > 0
    assert body["timing_ms"]["total"] >= body["timing_ms"]["explain"]


async def test_list_is_the_same_with_and_without_its_explanation(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, records):
        explained = await gateway.recommend(ask(session=Session(item_ids=[served.bundle.vocabulary.item_id[5]])))
    (record,) = records
    assert record.degraded == []
    assert "explain" not in record.timing_ms
    assert [one["item_id"] for one in explained["items"]] == record.items
    assert replay(record, lambda _: served).outcome is Outcome.IDENTICAL


async def test_list_that_is_not_to_be_explained_runs_nothing_of_it(
    served: World, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(explanations, "explained", never)
    monkeypatch.setattr(explanations.Explainer, "add", never)
    async with gateway_at(served, store_url) as (gateway, _):
        body = await gateway.recommend(plainly(ask()))
    assert "explanation" not in body
    assert set(body["timing_ms"]) == {"total", "queue", "features", "retrieve", "rank", "select"}


async def test_other_lists_are_answered_while_one_is_being_explained(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        await gateway.recommend(ask())
        order: list[str] = []

        async def noted(name: str, request: RecommendationRequest) -> None:
            await gateway.recommend(request)
            order.append(name)

        first = asyncio.create_task(noted("explained", ask("user-0003", count=50)))
        await asyncio.sleep(0.005)
        await asyncio.gather(*(noted("plain", plainly(ask(f"user-{n:04d}"))) for n in range(5)))
        await first
    assert order == ["plain"] * 5 + ["explained"]


async def test_deadline_that_passes_leaves_the_list_without_its_explanation_and_says_so(
    served: World, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def long(_: explanations.Explainer) -> None:
        await asyncio.sleep(0.5)

    monkeypatch.setattr(explanations.Explainer, "_turn", long)
    async with gateway_at(served, store_url) as (gateway, records):
        began = monotonic()
        body = await gateway.recommend(ask(deadline_ms=1_000))
        assert monotonic() - began < 3
        assert gateway.counts["degraded.explanation.timeout"] == 1
    assert len(body["items"]) == 20
    assert "explanation" not in body
    assert body["degraded"] == [{"stage": "explanation", "cause": "timeout", "fallback": "no explanation"}]
    assert records[0].degraded == []  # of the list itself nothing is


async def test_explanation_that_fails_leaves_the_list(
    served: World, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ArithmeticError("broken")

    monkeypatch.setattr(explanations, "explained", broken)
    async with gateway_at(served, store_url) as (gateway, _):
        body = await gateway.recommend(ask())
    assert len(body["items"]) == 20
    assert body["degraded"] == [{"stage": "explanation", "cause": "error", "fallback": "no explanation"}]


async def test_list_of_a_failed_stage_is_not_explained_and_one_without_a_store_is(
    served: World, store_url: str
) -> None:
    async with colocated(store_url) as stages:
        slow = SlowStages(stages, "lookup", 0.3)
        gateway = Gateway(served, slow, KeptDecisions(), Settings(deadline_ms=50))
        body = await gateway.recommend(ask())
    assert [(one["stage"], one["cause"]) for one in body["degraded"]] == [
        ("deadline", "timeout"),
        ("explanation", "degraded"),
    ]
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    async with gateway_at(served, nowhere) as (gateway, _):
        body = through_json(await gateway.recommend(ask()))
    assert [one["stage"] for one in body["degraded"]] == ["features"]
    assert len(body["explanation"]["items"]) == 20


async def test_explained_list_of_fewer_candidates_under_load_is_that_list(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, records):
        await gateway.recommend(plainly(ask()))
        gateway._personal.backlog_s = lambda: 10.0  # type: ignore[method-assign]
        body = through_json(await gateway.recommend(ask()))
    assert body["quality"] < 1
    assert body["explanation"]["ranked"] == records[1].ranked < records[0].ranked


async def test_explanations_are_made_one_after_the_other(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        bodies = await asyncio.gather(*(gateway.recommend(ask(f"user-{n:04d}")) for n in range(4)))
    assert all("explanation" in body for body in bodies)
    told = [through_json(body)["explanation"] for body in bodies]
    for body, one in zip(bodies, told, strict=True):
        assert [item["item_id"] for item in one["items"]] == [item["item_id"] for item in body["items"]]


async def test_a_step_waits_for_lists_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = True
    explainer = explanations.Explainer(lambda: busy, lambda *_: {})
    began = monotonic()
    await explainer._turn()
    assert explanations.PATIENCE_S <= monotonic() - began < 5
    busy = False
    monkeypatch.setattr(explanations, "PATIENCE_S", 1_000.0)
    await asyncio.wait_for(explainer._turn(), 5)


async def test_cold_start_is_explained_by_demand_and_names_nothing_met(served: World, store_url: str) -> None:
    async with gateway_at(replace(served), store_url) as (gateway, _):
        body = through_json(await gateway.recommend(ask("nobody has this id")))
    explained = body["explanation"]
    assert explained["tried"] == []
    assert all(one["counterfactuals"] == [] for one in explained["items"])
    assert all("because_of_items" not in {word["code"] for word in one["because"]} for one in explained["items"])


async def test_list_too_long_to_be_explained_says_so(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        body = await gateway.recommend(ask(count=explanations.MOST + 1))
    assert len(body["items"]) == explanations.MOST + 1
    assert "explanation" not in body
    assert [(one["stage"], one["cause"]) for one in body["degraded"]] == [("explanation", "too_long")]

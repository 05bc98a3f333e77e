"""Earlier lists explained over HTTP and in pure calls: from the record alone, refused with the reason of replay."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from recsys.errors import RegistryError
from recsys.explanations.why_not import Verdict
from recsys.types import World
from service.decisions import Decision, Erased
from service.gateway import Gateway
from service.record_schemas import Outcome, RecordedExplanation, RecordedWhyNot
from service.recorded_explanations import explain, why_not
from service.replay import replay
from service.schemas import RecommendationRequest, SimilarRequest
from service.settings import Settings
from tests.service.conftest import BreakableStore
from tests.service.gateways import KeptDecisions, SlowStages, colocated, gateway_at
from tests.service.test_recorded_answers import RECOMMEND, service
from tests.worlds import with_unavailable

pytestmark = pytest.mark.valkey


async def test_earlier_list_is_explained_as_the_explained_list_was(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    async with service(served, store_url, breakable_store.url) as here:
        body = await here.ask(user_id="user-0003", count=9, **{"return": {"explain": True}})
        response = await here.client.post(f"{RECOMMEND}/{body['recommendation_id']}:explain")
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    told = msgspec.json.decode(response.content, type=RecordedExplanation)
    assert (told.recommendation_id, told.outcome) == (body["recommendation_id"], Outcome.IDENTICAL)
    assert response.json()["explanation"] == body["explanation"]


async def test_why_not_answers_for_items_of_each_fate(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    ids = served.bundle.vocabulary.item_id.tolist()
    async with service(served, store_url, breakable_store.url) as here:
        body = await here.ask(user_id="user-0003", count=5, exclude_item_ids=ids[:3])
        shown = [one["item_id"] for one in body["items"]]
        told: dict[str, RecordedWhyNot] = {}
        for item in [shown[0], ids[0], "never heard of", *ids[10:60]]:
            url = f"{RECOMMEND}/{body['recommendation_id']}:why-not"
            response = await here.client.post(url, json={"item_id": item})
            assert response.status_code == 200, response.text
            told[item] = msgspec.json.decode(response.content, type=RecordedWhyNot)
    verdicts = {item: one.why_not.verdict for item, one in told.items() if one.why_not}
    assert verdicts[shown[0]] is Verdict.LISTED
    assert verdicts[ids[0]] is Verdict.FILTERED
    assert verdicts["never heard of"] is Verdict.NOT_IN_BUNDLE
    assert {Verdict.OUTRANKED, Verdict.FILTERED} <= set(verdicts.values())
    filtered = told[ids[0]].why_not
    assert filtered
    assert "excluded" in filtered.filters
    assert filtered.without_filters
    assert all(one.why_not and one.why_not.text for one in told.values())


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/item_id", "missing"),
        ({"item_id": ""}, "/item_id", "length"),
        ({"item_id": "a\0b"}, "/item_id", "character"),
        ({"item_id": "é" * 200}, "/item_id", "length"),
        ({"item_id": 7}, "/item_id", "type"),
        ({"item_id": "1", "k": 3}, "/k", "unknown_field"),
    ],
)
async def test_malformed_question_is_refused_with_a_pointer(
    served: World, store_url: str, breakable_store: BreakableStore, body: dict[str, Any], pointer: str, code: str
) -> None:
    async with service(served, store_url, breakable_store.url) as here:
        identity = (await here.ask(user_id="nobody"))["recommendation_id"]
        response = await here.client.post(f"{RECOMMEND}/{identity}:why-not", json=body)
    assert response.status_code == 400
    assert [(one["pointer"], one["code"]) for one in response.json()["errors"]] == [(pointer, code)]


@pytest.mark.parametrize("identity", ["seven", "019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11"])
async def test_unknown_record_is_404(
    served: World, store_url: str, breakable_store: BreakableStore, identity: str
) -> None:
    async with service(served, store_url, breakable_store.url) as here:
        for response in (
            await here.client.post(f"{RECOMMEND}/{identity}:explain"),
            await here.client.post(f"{RECOMMEND}/{identity}:why-not", json={"item_id": "1"}),
        ):
            assert (response.status_code, response.json()["type"]) == (404, "urn:riffle:problem:not-found")


async def test_dead_store_is_503_and_a_second_question_at_a_time_is_429(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    async with service(served, store_url, breakable_store.url) as here:
        identity = (await here.ask(user_id="user-0003"))["recommendation_id"]
        url = f"{RECOMMEND}/{identity}"
        answers = await asyncio.gather(
            here.client.post(f"{url}:explain"),
            here.client.post(f"{url}:why-not", json={"item_id": "1"}),
            here.client.post(f"{url}:replay"),
        )
        assert sorted(one.status_code for one in answers) == [200, 429, 429]
        breakable_store.end()
        for response in (
            await here.client.post(f"{url}:explain"),
            await here.client.post(f"{url}:why-not", json={"item_id": "1"}),
        ):
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")


async def test_return_explain_is_no_field_of_similar(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    async with service(served, store_url, breakable_store.url) as here:
        body = {"item_ids": [served.bundle.vocabulary.item_id[0]], "return": {"explain": True}}
        response = await here.client.post("/v1/similar", json=body)
    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == "/return/explain"


# --- what cannot be explained ---


Both = tuple[RecordedExplanation, RecordedWhyNot]


def both(record: Decision | Erased, world_of: Callable[[Decision], World]) -> Both:
    return explain(record, world_of), why_not("an item", record, world_of)


async def some_record(world: World, url: str) -> Decision:
    async with gateway_at(world, url) as (gateway, records):
        await gateway.recommend(RecommendationRequest(user_id="user-0003"))
    return records[0]


async def test_refusal_is_that_of_replay_word_for_word(served: World, store_url: str) -> None:
    record = await some_record(served, store_url)
    async with gateway_at(served, store_url) as (gateway, kept):
        await gateway.similar(SimilarRequest(item_ids=[served.bundle.vocabulary.item_id[0]]))
    async with colocated(store_url) as stages:
        late = KeptDecisions()
        gateway = Gateway(served, SlowStages(stages, "lookup", 0.3), late, Settings(deadline_ms=50))
        await gateway.recommend(RecommendationRequest(user_id="user-0003"))

    def gone(_: Decision) -> World:
        raise RegistryError("no bundle 'x'")

    other_stats = with_unavailable(served, np.array([3]))
    cases: list[tuple[Decision | Erased, Callable[[Decision], World], Outcome]] = [
        (kept[0], lambda _: served, Outcome.NOT_REPLAYABLE),
        (late.records[0], lambda _: served, Outcome.NOT_REPLAYABLE),
        (record, gone, Outcome.NOT_REPLAYABLE),
        (record, lambda _: other_stats, Outcome.NOT_REPLAYABLE),
        (Erased(id=record.id, time_ms=record.time_ms), lambda _: served, Outcome.ERASED),
        (msgspec.structs.replace(record, items=["x", *record.items[1:]]), lambda _: served, Outcome.DIFFERENT),
    ]
    for one, world_of, outcome in cases:
        verdict = replay(one, world_of)
        assert verdict.outcome is outcome
        for told in both(one, world_of):
            assert (told.outcome, told.detail, told.stage) == (verdict.outcome, verdict.detail, verdict.stage)
            assert not getattr(told, "explanation", None)
            assert not getattr(told, "why_not", None)

"""The gateway over a trained world and a real store: what it answers, and what it answers when something fails."""

import asyncio
from collections import Counter
from dataclasses import replace
from time import monotonic
from typing import Any, cast

import httpx
import msgspec
import numpy as np
import orjson
import pytest
import redis

from recsys.datasets.dataset import Dataset
from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.recommend import Ranked, retrieve, slate
from recsys.types import World
from service.decisions import Decision
from service.errors import BatchFailed, FieldError, NotFound, Overloaded, Unprocessable
from service.gateway import Gateway
from service.http import HttpEdge
from service.queries import batch_of, resolve
from service.schemas import (
    CategoryFilter,
    Filter,
    RecommendationRequest,
    RecommendationResponse,
    Return,
    Session,
    SimilarRequest,
    SimilarResponse,
)
from service.settings import Settings
from service.state_keys import live_key, live_name, state_key
from tests.free_ports import free_port
from tests.service.gateways import KeptDecisions, SlowStages, again, colocated, gateway_at, item_ids

pytestmark = pytest.mark.valkey

KNOWN = "user-0007"
Body = dict


class Failing:
    """Stands where a ranker or an index should be."""

    def score(self, *_: np.ndarray) -> np.ndarray:
        raise ArithmeticError("the ranker is broken")

    def search(self, _vectors: np.ndarray, _k: int) -> np.ndarray:
        raise ArithmeticError("the index is broken")


def ask(user_id: str = KNOWN, **given: object) -> RecommendationRequest:
    return RecommendationRequest(user_id=user_id, **given)


def any_of(*names: str) -> Filter:
    return Filter(categories=CategoryFilter(any_of=list(names)))


def ids(body: Body) -> list[str]:
    return [item["item_id"] for item in body["items"]]


def lists(body: Body) -> list[tuple[str, float]]:
    return [(item["item_id"], item["score"]) for item in body["items"]]


def history_of(dataset: Dataset, user_id: str) -> set[str]:
    rows = dataset.events.user == dataset.user_id.index(user_id)
    return {dataset.item_id[item] for item in dataset.events.item[rows]}


def popular(world: World) -> list[str]:
    return [world.bundle.vocabulary.item_id[row] for row in world.item_stats.order]


def through_json(body: Body) -> Body:
    return orjson.loads(orjson.dumps(body))


# --- what is answered ---


@pytest.mark.parametrize("wanted", [Return(), Return(reasons=True), Return(metadata=False, scores=False)])
async def test_answers_have_exactly_the_documented_shape(served: World, store_url: str, wanted: Return) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        personal = through_json(await gateway.recommend(ask(return_=wanted)))
        related = through_json(await gateway.similar(SimilarRequest(item_ids=ids(personal)[:2], return_=wanted)))
    for body, shape in ((personal, RecommendationResponse), (related, SimilarResponse)):
        assert msgspec.to_builtins(msgspec.convert(body, shape, strict=True)) == body


async def test_known_user_gets_a_personal_list_of_unseen_items(
    served: World, store_url: str, synthetic_dataset: Dataset
) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        body = await gateway.recommend(ask(placement="home", count=50, diversity=0.0))
    assert (body["strategy"], body["placement"]) == ("personalized", "home")
    assert body["bundle"] == served.bundle.id != ""
    assert body["degraded"] == []
    assert body["filled"] == {"requested": 50, "returned": 50}
    assert [item["rank"] for item in body["items"]] == list(range(1, 51))
    assert len(set(ids(body))) == 50
    assert not set(ids(body)) & history_of(synthetic_dataset, KNOWN)
    scores = [item["score"] for item in body["items"]]
    assert scores == sorted(scores, reverse=True)
    assert set(body["timing_ms"]) == {"total", "queue", "features", "retrieve", "rank", "select"}


async def test_lists_of_two_users_differ(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        one, other = await gateway.recommend(ask("user-0001")), await gateway.recommend(ask("user-0002"))
    assert ids(one) != ids(other)


async def test_unknown_user_gets_a_cold_start_list(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        body = await gateway.recommend(ask("nobody has this id"))
        assert gateway.counts["cold_starts"] == gateway.counts["answers"] == 1
    assert body["strategy"] == "cold_start"
    assert body["degraded"] == []
    assert len(body["items"]) == 20
    assert all(item["sources"] == ["popular"] for item in body["items"])


async def test_session_makes_the_first_list_of_a_new_visitor_personal(served: World, store_url: str) -> None:
    clicked = popular(served)[5]
    async with gateway_at(served, store_url) as (gateway, _):
        body = await gateway.recommend(
            ask("new", session=Session(item_ids=[clicked]), return_=Return(reasons=True), count=50)
        )
    assert body["strategy"] == "personalized"
    assert clicked not in ids(body)
    assert any(reason.endswith(f":{clicked}") for item in body["items"] for reason in item["reasons"])
    assert all(item["reasons"] for item in body["items"])


async def test_excluded_items_are_not_in_the_list(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        before = ids(await gateway.recommend(ask()))
        after = ids(await gateway.recommend(ask(exclude_item_ids=before[:10])))
    assert len(after) == 20
    assert not set(after) & set(before[:10])
    assert len(set(before[10:]) & set(after)) >= 8  # shares are those of other candidates now


async def test_filter_lets_only_items_of_the_wanted_categories_through(served: World, store_url: str) -> None:
    wanted = set(served.bundle.category_name[:2])
    async with gateway_at(served, store_url) as (gateway, _):
        for user_id in (KNOWN, "nobody"):
            body = through_json(await gateway.recommend(ask(user_id, filter=any_of(*wanted))))
            assert len(body["items"]) == 20
            assert all(wanted & set(item["metadata"]["categories"]) for item in body["items"])


async def test_unknown_category_is_refused_with_a_pointer_and_nothing_is_recorded(
    served: World, store_url: str
) -> None:
    async with gateway_at(served, store_url) as (gateway, records):
        for refused in (gateway.recommend, gateway.validate):
            with pytest.raises(Unprocessable) as error:
                await refused(ask(filter=any_of(served.bundle.category_name[0], "Nonsense")))
            assert [one.pointer for one in error.value.errors] == ["/filter/categories/any/1"]
    assert records == []


async def test_unknown_ids_of_a_request_are_reported_and_change_nothing(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        body = await gateway.recommend(
            ask(session=Session(item_ids=["gone"]), exclude_item_ids=["never was", popular(served)[0]])
        )
    assert body["unknown_ids"] == ["gone", "never was"]
    assert len(body["items"]) == 20


@pytest.mark.parametrize("user_id", [KNOWN, "nobody"])
async def test_count_of_500_gives_every_item_that_may_be_shown(
    served: World, store_url: str, synthetic_dataset: Dataset, user_id: str
) -> None:
    seen = history_of(synthetic_dataset, KNOWN) if user_id == KNOWN else set()
    async with gateway_at(served, store_url) as (gateway, _):
        body = await gateway.recommend(ask(user_id, count=500))
    assert set(ids(body)) == set(synthetic_dataset.item_id) - seen
    assert body["filled"] == {"requested": 500, "returned": len(synthetic_dataset.item_id) - len(seen)}


async def test_optional_parts_are_there_only_when_asked_for(served: World, store_url: str) -> None:
    parts = ("metadata", "score", "reasons")
    async with gateway_at(served, store_url) as (gateway, _):
        for wanted in (Return(), Return(metadata=False), Return(scores=False), Return(reasons=True)):
            body = await gateway.recommend(ask(return_=wanted))
            expected = dict(zip(parts, (wanted.metadata, wanted.scores, wanted.reasons), strict=True))
            assert all({part: part in item for part in parts} == expected for item in body["items"])


async def test_reasons_are_each_requests_own_choice_within_a_batch(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        with_them, without = await asyncio.gather(
            gateway.recommend(ask(return_=Return(reasons=True))), gateway.recommend(ask("user-0003"))
        )
    assert all(item["reasons"] for item in with_them["items"])
    assert not any("reasons" in item for item in without["items"])


async def test_request_that_is_only_validated_makes_no_list_and_leaves_no_record(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, records):
        assert await gateway.validate(ask(filter=any_of(served.bundle.category_name[0]))) == {"valid": True}
        assert gateway.counts == {}
    assert records == []


async def test_ready_gateway_names_its_bundle(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        assert gateway.readiness() == (True, {"reasons": [], "bundle": served.bundle.id, "traffic": 1})


async def test_edge_and_gateway_answer_over_http_together(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        nobody = cast(Any, None)
        transport = httpx.ASGITransport(app=HttpEdge(gateway, *[nobody] * 6))
        async with httpx.AsyncClient(transport=transport, base_url="http://riffle") as client:
            listed = await client.post("/v1/recommendations", json={"user_id": KNOWN, "return": {"reasons": True}})
            checked = await client.post("/v1/recommendations", json={"user_id": KNOWN, "validate_only": True})
            unknown = await client.post("/v1/similar", json={"item_ids": ["nothing"]})
            refused = await client.post(
                "/v1/recommendations", json={"user_id": KNOWN, "filter": {"categories": {"any": ["Nonsense"]}}}
            )
    assert listed.status_code == 200
    assert msgspec.convert(listed.json(), RecommendationResponse).strategy == "personalized"
    assert (checked.status_code, checked.json()) == (200, {"valid": True})
    assert unknown.status_code == 404
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/filter/categories/any/0")


# --- similar items ---


async def test_similar_items_are_others_and_fillers_stand_at_the_end(served: World, store_url: str) -> None:
    given = popular(served)[:2]
    async with gateway_at(served, store_url) as (gateway, _):
        body = await gateway.similar(SimilarRequest(item_ids=given, count=130, return_=Return(reasons=True)))
    assert not set(ids(body)) & set(given)
    assert len(set(ids(body))) == 130
    is_filler = [item["sources"] == ["popular"] for item in body["items"]]
    assert is_filler == sorted(is_filler)
    assert not is_filler[0]
    assert body["degraded"] == []


async def test_similar_items_are_the_same_whoever_asks_and_whenever(served: World, store_url: str) -> None:
    request = SimilarRequest(item_ids=popular(served)[3:4])
    async with gateway_at(served, store_url) as (gateway, _):
        one, _, other = await asyncio.gather(
            gateway.similar(request), gateway.similar(SimilarRequest(item_ids=["item-0001"])), gateway.similar(request)
        )
    assert lists(one) == lists(other)


async def test_unknown_item_beside_a_known_one_is_reported(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, _):
        body = await gateway.similar(SimilarRequest(item_ids=["gone", popular(served)[0]]))
    assert body["unknown_ids"] == ["gone"]


async def test_similar_to_unknown_items_only_is_not_found(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, records):
        with pytest.raises(NotFound, match=served.bundle.id) as error:
            await gateway.similar(SimilarRequest(item_ids=["gone", "never was"]))
    assert error.value.errors == (FieldError("/item_ids", "unknown_item", "no such item"),)
    assert records == []


# --- what fails and is answered all the same ---


async def test_without_a_store_the_list_is_a_degraded_cold_start(served: World) -> None:
    async with gateway_at(served, f"redis://127.0.0.1:{free_port()}/0") as (gateway, records):
        body = await gateway.recommend(ask())
        assert gateway.counts["degraded.features.unavailable"] == 1
    (degraded,) = body["degraded"]
    assert (degraded["stage"], degraded["cause"]) == ("features", "unavailable")
    assert degraded["fallback"]
    assert body["strategy"] == "cold_start"
    assert len(body["items"]) == 20
    assert records[0].degraded == [degraded]


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"RF" + b[2:20] + b"\0" + b[21:], lambda _: b"", bytes.lower]
)
async def test_undecodable_state_degrades_its_own_row_only(served: World, store_url: str, damage: object) -> None:
    with redis.Redis.from_url(store_url) as server:
        live = live_name(server.get(live_key()))
        server.set(state_key(live, "damaged"), damage(server.get(state_key(live, KNOWN))))
    async with gateway_at(served, store_url) as (gateway, records):
        one, damaged, other = await asyncio.gather(
            gateway.recommend(ask()), gateway.recommend(ask("damaged")), gateway.recommend(ask("user-0003"))
        )
        assert gateway.counts["degraded.features.undecodable_state"] == 1
    assert one["degraded"] == other["degraded"] == []
    assert (one["strategy"], other["strategy"]) == ("personalized", "personalized")
    assert [(d["stage"], d["cause"]) for d in damaged["degraded"]] == [("features", "undecodable_state")]
    assert damaged["strategy"] == "cold_start"
    assert len(damaged["items"]) == 20
    assert lists(one) == list(zip(item_ids(served, again(served, records[0])), records[0].scores, strict=True))


async def test_broken_ranker_leaves_the_order_of_retrieval(
    served: World, store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = replace(served, bundle=replace(served.bundle, ranker=Failing()))
    async with gateway_at(served, store_url, stage_world=broken) as (gateway, records):
        body = await gateway.recommend(ask())
        assert gateway.counts["degraded.ranking.error"] == 1
    assert [(d["stage"], d["cause"], d["fallback"]) for d in body["degraded"]] == [
        ("ranking", "error", "order of retrieval")
    ]
    query = resolve(
        served.bundle, count=20, session_ids=[], excluded_ids=[], filter_=None, seed=0, now_s=records[0].now_s
    )
    batch = batch_of([query], unpack([records[0].user_state], SCHEMA_HASH)[0])
    retrieved = retrieve(served, batch)
    by_retrieval = Ranked.by(retrieved.candidates.retrieval_score, retrieved)
    assert ids(body) == item_ids(served, slate(served, batch, retrieved, by_retrieval))
    assert body["strategy"] == "personalized"
    assert any(isinstance(one.exc_info[1], ArithmeticError) for one in caplog.records if one.exc_info)


async def test_broken_retrieval_leaves_the_unseen_popular_items(
    served: World, store_url: str, synthetic_dataset: Dataset
) -> None:
    broken = replace(served, bundle=replace(served.bundle, index=Failing(), spectral_index=Failing()))
    async with gateway_at(served, store_url, stage_world=broken) as (gateway, _):
        body = await gateway.recommend(ask())
        related = await gateway.similar(SimilarRequest(item_ids=popular(served)[:1]))
    for one in (body, related):
        assert [(d["stage"], d["cause"], d["fallback"]) for d in one["degraded"]] == [
            ("retrieval", "error", "popular items")
        ]
    seen = history_of(synthetic_dataset, KNOWN)
    assert ids(body) == [one for one in popular(served) if one not in seen][:20]
    assert ids(related) == popular(served)[1:21]


async def test_batch_in_which_even_the_popular_list_fails_is_an_error_and_not_an_empty_answer(
    served: World, store_url: str
) -> None:
    broken = replace(served, item_stats=replace(served.item_stats, order=None), bundle=served.bundle)
    async with gateway_at(broken, store_url) as (gateway, records):
        with pytest.raises(BatchFailed):
            await gateway.recommend(ask())
    assert records == []


@pytest.mark.parametrize("stage", ["lookup", "retrieve", "rank"])
async def test_slow_stage_is_answered_at_the_deadline_with_popular_items(
    served: World, store_url: str, stage: str
) -> None:
    over_ms = []
    async with colocated(store_url) as stages:
        gateway = Gateway(served, SlowStages(stages, stage, 0.4), KeptDecisions(), Settings())
        for _ in range(3):
            began = monotonic()
            body = await gateway.recommend(ask("nobody", deadline_ms=50, exclude_item_ids=popular(served)[:1]))
            over_ms.append((monotonic() - began) * 1000 - 50)
            assert [(d["stage"], d["cause"]) for d in body["degraded"]] == [("deadline", "timeout")]
            assert ids(body) == popular(served)[1:21]
            assert msgspec.convert(through_json(body), RecommendationResponse).strategy == "cold_start"
            await asyncio.sleep(0.45)  # the batch runs to its end
        assert gateway.counts["degraded.deadline.timeout"] == 3
    assert min(over_ms) >= 0
    assert sorted(over_ms)[1] < 30


async def test_popular_list_at_the_deadline_honours_filter_and_count(served: World, store_url: str) -> None:
    name = served.bundle.category_name[1]
    async with colocated(store_url) as stages:
        gateway = Gateway(served, SlowStages(stages, "lookup", 0.2), KeptDecisions(), Settings(deadline_ms=20))
        body = through_json(await gateway.recommend(ask(filter=any_of(name), count=7)))
        await asyncio.sleep(0.25)
    assert len(body["items"]) == 7
    assert all(name in item["metadata"]["categories"] for item in body["items"])


async def test_popular_list_at_the_deadline_gives_its_reasons(served: World, store_url: str) -> None:
    async with colocated(store_url) as stages:
        gateway = Gateway(served, SlowStages(stages, "lookup", 0.2), KeptDecisions(), Settings(deadline_ms=20))
        body = through_json(await gateway.recommend(ask(count=3, return_=Return(reasons=True))))
        await asyncio.sleep(0.25)
    assert [item["reasons"] for item in body["items"]] == [["popular"]] * 3


async def test_each_request_of_a_batch_has_its_own_deadline(served: World, store_url: str) -> None:
    async with colocated(store_url) as stages:
        gateway = Gateway(served, SlowStages(stages, "lookup", 0.1), KeptDecisions(), Settings())
        hasty, patient = await asyncio.gather(
            gateway.recommend(ask(deadline_ms=20)), gateway.recommend(ask("user-0003", deadline_ms=10_000))
        )
    assert [one["stage"] for one in hasty["degraded"]] == ["deadline"]
    assert (patient["degraded"], patient["strategy"]) == ([], "personalized")


async def test_cancelled_request_leaves_batch_neighbours_untouched(served: World, store_url: str) -> None:
    decisions = KeptDecisions()
    async with colocated(store_url) as stages:
        gateway = Gateway(served, SlowStages(stages, "retrieve", 0.1), decisions, Settings(deadline_ms=10_000))
        tasks = [asyncio.create_task(gateway.recommend(ask(f"user-000{n}"))) for n in range(4)]
        await asyncio.sleep(0.03)
        tasks[1].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert [record.query.user_id for record in decisions.records] == ["user-0000", "user-0002", "user-0003"]
    for answer, record in zip((answers[0], *answers[2:]), decisions.records, strict=True):
        alone = again(served, record)
        assert lists(answer) == list(zip(item_ids(served, alone), alone.score.tolist(), strict=True))
        assert answer["degraded"] == []


async def test_requests_beyond_max_waiting_are_shed_and_counted(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url, max_waiting=8) as (gateway, records):
        answers = await asyncio.gather(*(gateway.recommend(ask()) for _ in range(12)), return_exceptions=True)
        assert gateway.shed == 4
    assert [type(answer) for answer in answers] == [dict] * 8 + [Overloaded] * 4
    assert len(records) == 8


async def test_under_pressure_fewer_candidates_are_ranked_the_answer_says_so_and_can_be_made_again(
    served: World, store_url: str
) -> None:
    async with gateway_at(served, store_url, max_waiting=400, max_batch=8, deadline_ms=2_000) as (gateway, records):
        for _ in range(40):  # the first batch of a process loads what is compiled, and would be the predicted pace
            calm = await gateway.recommend(ask())
        requests = [ask(f"user-{n % 120:04d}", deadline_ms=10_000, priority="high") for n in range(300)]
        gateway._settings = msgspec.structs.replace(gateway._settings, deadline_ms=20)  # what a backlog is held against
        bodies = await asyncio.gather(*(gateway.recommend(request) for request in requests))
    assert calm["quality"] == 1
    assert {body["quality"] for body in bodies} >= {0.25, 1.0}
    assert gateway.counts["shrunk"] == sum(body["quality"] < 1 for body in bodies)
    by_id = {record.id: record for record in records}
    for body in bodies:
        record = by_id[body["recommendation_id"]]
        assert (record.quality, record.candidates) == (body["quality"], served.candidates)
        made = again(served, record)
        assert lists(body) == list(zip(item_ids(served, made), made.score.tolist(), strict=True))


async def test_low_priority_is_shed_before_the_rest(served: World, store_url: str) -> None:
    kinds = ("high", "normal", "low")
    async with gateway_at(served, store_url, max_waiting=4_000, max_batch=4, deadline_ms=1_000) as (gateway, _):
        requests = [ask(f"user-{n % 120:04d}", priority=kinds[n % 3]) for n in range(3_000)]
        for _ in range(5):  # a machine that stops for a moment makes the predicted pace one at which all are refused
            for _ in range(40):
                await gateway.recommend(ask())
            answers = await asyncio.gather(*(gateway.recommend(one) for one in requests), return_exceptions=True)
            if any(isinstance(one, dict) for one in answers):
                break
    served_of = {kind: sum(isinstance(one, dict) for one in answers[n::3]) for n, kind in enumerate(kinds)}
    assert {type(one) for one in answers} == {dict, Overloaded}
    assert served_of["low"] < served_of["normal"] < served_of["high"]


async def test_what_is_answered_at_the_deadline_has_ranked_nothing(served: World, store_url: str) -> None:
    async with colocated(store_url) as stages:
        gateway = Gateway(served, SlowStages(stages, "retrieve", 0.2), KeptDecisions(), Settings(deadline_ms=50))
        assert (await gateway.recommend(ask()))["quality"] == 0
        await asyncio.sleep(0.2)


# --- concurrency ---


def mixed_requests(world: World, n: int) -> list[RecommendationRequest]:
    """Requests of every kind; user `k mod 120` asks request `k`."""
    rng = np.random.default_rng(11)
    catalogue, names = popular(world), world.bundle.category_name

    def some(most: int) -> list[str]:
        return [catalogue[row] for row in rng.integers(0, len(catalogue), size=rng.integers(0, most + 1))]

    return [
        ask(
            f"user-{number % 120:04d}" if number % 5 else f"stranger-{number}",
            count=int(rng.choice([1, 5, 20, 100, 500])),
            session=Session(item_ids=some(6)) if number % 3 == 0 else None,
            exclude_item_ids=some(30) if number % 4 == 0 else [],
            filter=any_of(names[int(rng.integers(len(names)))]) if number % 7 == 0 else None,
            return_=Return(reasons=number % 2 == 0),
        )
        for number in range(n)
    ]


async def test_of_200_concurrent_requests_each_gets_the_answer_it_gets_alone_bit_for_bit(
    served: World, store_url: str
) -> None:
    requests = mixed_requests(served, 200)
    async with gateway_at(served, store_url, max_waiting=200) as (gateway, records):
        bodies = await asyncio.gather(*(gateway.recommend(request) for request in requests))
    by_id: dict[str, Decision] = {record.id: record for record in records}
    assert len(by_id) == 200
    with redis.Redis.from_url(store_url) as server:
        live = live_name(server.get(live_key()))
        stored = server.mget([state_key(live, request.user_id) for request in requests])
    for request, body, state in zip(requests, bodies, stored, strict=True):
        record = by_id[body["recommendation_id"]]
        assert record.query == request
        assert record.user_state == state
        alone = again(served, record)
        assert lists(body) == list(zip(item_ids(served, alone), alone.score.tolist(), strict=True))
        assert body["degraded"] == []


async def test_personal_and_similar_requests_do_not_meet(served: World, store_url: str) -> None:
    item = popular(served)[2]
    async with gateway_at(served, store_url, max_waiting=200) as (gateway, records):
        alone = await gateway.similar(SimilarRequest(item_ids=[item]))
        mixed = await asyncio.gather(
            *(
                gateway.similar(SimilarRequest(item_ids=[item])) if n % 2 else gateway.recommend(ask(f"user-{n:04d}"))
                for n in range(60)
            )
        )
    assert all(lists(body) == lists(alone) for body in mixed[1::2])
    assert [record.kind for record in records].count("similar") == 31


# --- records ---


async def test_record_says_what_was_answered(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, records):
        body = await gateway.recommend(ask(return_=Return(scores=False, metadata=False)))
    (record,) = records
    assert (record.id, record.kind, record.bundle) == (body["recommendation_id"], "recommendations", served.bundle.id)
    assert record.items == ids(body)
    assert len(record.scores) == 20
    assert record.item_stats == served.item_stats.version
    assert record.now_s == record.time_ms // 1000
    assert record.seed == int(record.id.replace("-", ""), 16) & ((1 << 62) - 1)
    assert (record.degraded, record.timing_ms) == (body["degraded"], body["timing_ms"])


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.5, 60, 140), (1.0, 200, 200)])
async def test_share_of_answers_that_is_recorded_is_the_setting(
    served: World, store_url: str, share: float, low: int, high: int
) -> None:
    async with gateway_at(served, store_url, max_waiting=200, decision_sample=share) as (gateway, records):
        await asyncio.gather(*(gateway.recommend(ask(f"nobody-{n % 100}", count=1)) for n in range(200)))
        assert gateway.counts["answers"] == 200
    assert low <= len(records) <= high
    assert set(Counter(record.query.user_id for record in records).values()) <= {2}  # all of a user, or none

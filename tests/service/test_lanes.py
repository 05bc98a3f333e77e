"""Several bundles answer at the same time: each list is of one of them, and a bad one spoils no other's."""

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from recsys.types import World
from service import gateway as gateway_module
from service.errors import BatchFailed, Unprocessable
from service.gateway import Gateway
from service.lanes import Lane, Lanes, by_lane
from service.schemas import CategoryFilter, Filter, Quota, RecommendationRequest, SimilarRequest
from service.serving import Serving
from service.settings import Settings
from service.traffic.document import Arm, Rollout
from tests.service.gateways import KeptDecisions, SlowStages, again, colocated, gateway_at, item_ids
from tests.service.traffic.tables import A, B, C, experiment, table

pytestmark = pytest.mark.valkey


@pytest.fixture(scope="module")
def two(served: World) -> dict[str, World]:
    """The same model, and one that lists in the order of retrieval: their lists differ."""
    return {
        A: replace(served, bundle=replace(served.bundle, id=A)),
        B: replace(served, bundle=replace(served.bundle, id=B, ranker=None)),
    }


def asked(number: int, **fields: Any) -> RecommendationRequest:
    return RecommendationRequest(user_id=f"user-{number:04d}", count=5, **fields)


async def test_a_hundred_swaps_under_load_leave_no_list_failed_or_of_two_bundles(
    two: dict[str, World], store_url: str
) -> None:
    async with gateway_at(two[A], store_url) as (gateway, records):
        done = asyncio.Event()

        async def ask_on(number: int) -> list[dict[str, Any]]:
            answers = []
            while not done.is_set():
                answers.append(await gateway.recommend(asked(number)))
            return answers

        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(ask_on(number)) for number in range(12)]
            for swap in range(100):
                before = len(records)
                gateway.lanes.serve(table([A, B][swap % 2], version=swap + 1), two)
                while len(records) < before + 6:
                    await asyncio.sleep(0.001)
            done.set()
        answers = [one for client in clients for one in client.result()]
    served_by = Counter(one["bundle"] for one in answers)
    assert min(served_by[A], served_by[B]) > 100
    assert not any(one["degraded"] for one in answers)
    for record in records[:: max(1, len(records) // 300)]:
        slates = again(two[record.bundle], record)
        assert item_ids(two[record.bundle], slates) == record.items
        assert slates.score.tolist() == record.scores


async def test_a_bundle_that_nobody_needs_is_gone_at_once_without_a_collection(two: dict[str, World]) -> None:
    gc.disable()
    try:
        other = replace(two[B], bundle=replace(two[B].bundle, id=C))
        lanes = Lanes(two[A])
        lanes.serve(table(A, previous=B), two)
        lanes.serve(table(C, previous=A), {**two, C: other})
        lanes.champion.serving.encoder.items([0], [1.0], [1], None, metadata=True, with_scores=True)
        held = weakref.ref(lanes.champion.serving.world.bundle)
        assert held() is other.bundle
        lanes.serve(table(A, previous=B), two)
        del other
        assert held() is None
    finally:
        gc.enable()


async def test_requests_stay_in_the_lane_that_they_came_in(two: dict[str, World], store_url: str) -> None:
    async with colocated(store_url) as stages:
        gateway = Gateway(two[A], SlowStages(stages, "lookup", 0.2), KeptDecisions(), Settings(deadline_ms=10_000))
        before = asyncio.create_task(gateway.recommend(asked(1)))
        await asyncio.sleep(0.05)
        gateway.lanes.serve(table(B), two)
        after = asyncio.create_task(gateway.recommend(asked(2)))
        assert [(await one)["bundle"] for one in (before, after)] == [A, B]
        assert gateway.readiness()[1]["bundle"] == B


async def test_a_variant_has_rules_for_requests_that_give_none_and_they_are_on_record(
    two: dict[str, World], store_url: str
) -> None:
    bundle = two[A].bundle
    category = bundle.category_name[int(np.argmax(bundle.category_item.lengths()))]
    names = bundle.vocabulary.item_id.tolist()
    arms = [Arm(), Arm(popularity_damping=0.8, quotas=((category, 1),))]
    async with gateway_at(two[A], store_url) as (gateway, records):
        gateway.lanes.serve(table(experiments=(experiment(arms=arms),)), two)
        for number in range(20):
            await gateway.recommend(asked(number))
        for record in records:
            rules = record.query
            of_category = sum(category in bundle.categories_of(names.index(item)) for item in record.items)
            assert (rules.popularity_damping > 0, bool(rules.quotas)) == (record.variants["closer"] == "b",) * 2
            assert of_category <= 1 or record.variants["closer"] == "control"
            assert item_ids(two[A], again(two[A], record)) == record.items
        assert {record.variants["closer"] for record in records} == {"control", "b"}
        user = next(number for number, one in enumerate(records) if one.variants["closer"] == "b")
        await gateway.recommend(asked(user, popularity_damping=0.1, quotas=[Quota(category=category, max=9)]))
        assert (records[-1].query.popularity_damping, records[-1].query.quotas[0].max) == (0.1, 9)
        # A rule that the bundle knows nothing of is nobody's error but the experiment's.
        arms = [Arm(quotas=(("nowhere", 1),)), Arm(quotas=(("nowhere", 2),))]
        gateway.lanes.serve(table(experiments=(experiment(arms=arms),)), two)
        answer = await gateway.recommend(asked(1))
        assert [one["stage"] for one in answer["degraded"]] == ["bundle"]
        assert records[-1].query.quotas == []
        assert await gateway.validate(asked(1, validate_only=True)) == {"valid": True}
        wrong = asked(1, quotas=[Quota(category="elsewhere", max=1)])
        for ask in (gateway.validate, gateway.recommend):
            with pytest.raises(Unprocessable, match="unknown categories"):
                await ask(wrong)


async def test_one_batch_answers_each_user_from_their_own_bundle(two: dict[str, World], store_url: str) -> None:
    async with gateway_at(two[A], store_url) as (gateway, records):
        gateway.lanes.serve(table(rollout=Rollout("r1", B, 5000)), two)
        answers = await asyncio.gather(*(gateway.recommend(asked(number)) for number in range(32)))
        told = [gateway.lanes.of(f"user-{number:04d}", "default")[1] for number in range(32)]
    assert [one["bundle"] for one in answers] == [one.bundle for one in told]
    assert [one["variants"] for one in answers] == [one.variants for one in told]
    assert {one["variants"]["r1"] for one in answers} == {"canary", "control"}
    for record in records:
        assert item_ids(two[record.bundle], again(two[record.bundle], record)) == record.items
        assert (record.variants["r1"], record.propensity) in (("canary", 0.5), ("control", 0.5))


async def test_a_variant_has_its_own_settings_and_a_request_its_own_above_them(
    two: dict[str, World], store_url: str
) -> None:
    async with gateway_at(two[A], store_url) as (gateway, records):
        arms = [Arm(diversity=0.5, candidates=40), Arm(diversity=0.7, candidates=60, explore=0.0)]
        gateway.lanes.serve(table(experiments=(experiment(arms=arms),)), two)
        for number in range(20):
            await gateway.recommend(asked(number))
        by = {record.variants["closer"]: record for record in records}
        assert {name: (one.diversity, one.candidates) for name, one in by.items()} == {
            "control": (pytest.approx(0.5), 40),
            "b": (pytest.approx(0.7), 60),
        }
        assert by["b"].explore == 0.0
        await gateway.recommend(asked(1, diversity=0.0))
        assert records[-1].diversity == 0.0
        for record in records:
            world = two[A].with_candidates(record.candidates)
            assert item_ids(world, again(world, record)) == record.items


async def test_similar_items_are_those_of_the_champion(two: dict[str, World], store_url: str) -> None:
    async with gateway_at(two[A], store_url) as (gateway, _):
        gateway.lanes.serve(table(B, rollout=Rollout("r1", A, 10_000)), two)
        item = two[A].bundle.vocabulary.item_id[0]
        answer = await gateway.similar(SimilarRequest(item_ids=[item]))
        assert (answer["bundle"], answer["variants"]) == (B, {})


async def test_newer_item_stats_reach_every_lane_of_their_bundle_and_no_other(two: dict[str, World]) -> None:
    lanes = Lanes(two[A])
    wider = experiment(arms=[Arm(), Arm(candidates=60)])
    lanes.serve(table(previous=B, experiments=(wider,)), two)
    newer = replace(two[A], item_stats=replace(two[A].item_stats, version="newer"))
    lanes.use(newer)
    of = [lanes.of(f"user-{number}", "home")[0].serving.world for number in range(40)]
    assert {(one.candidates, one.item_stats.version) for one in of} == {(200, "newer"), (60, "newer")}
    lanes.use(replace(two[B], item_stats=replace(two[B].item_stats, version="other")))
    assert lanes.champion.serving.world is newer
    assert of[0].popular is newer.popular  # computed once for all lanes of a bundle


@dataclass
class Waiting:
    asked: Any
    number: int


@dataclass
class InLane:
    lane: Lane


async def test_a_lane_that_fails_fails_its_own_requests_alone(two: dict[str, World]) -> None:
    good, bad = (Lane(Serving.of(two[one])) for one in (A, B))

    async def run(serving: Serving, waiters: Sequence[Waiting], prepared: Sequence[int]) -> list[int]:
        if serving is bad.serving:
            raise ArithmeticError("deep in a bundle")
        return [one.number + other for one, other in zip(waiters, prepared, strict=True)]

    mixed = [Waiting(InLane(bad if number % 3 == 1 else good), number) for number in range(9)]
    answers = await by_lane(run, mixed, list(range(0, 90, 10)))
    assert [one for one in answers if not isinstance(one, Exception)] == [0, 22, 33, 55, 66, 88]
    assert all(isinstance(answers[number], BatchFailed) for number in (1, 4, 7))

    async def refuse(serving: Serving, waiters: Sequence[Waiting], prepared: Sequence[int]) -> list[int]:
        if serving is bad.serving:
            raise Unprocessable("said by the lane itself")
        return await run(serving, waiters, prepared)

    answers = await by_lane(refuse, mixed, list(range(0, 90, 10)))
    assert {type(answers[number]) for number in (1, 4, 7)} == {Unprocessable}
    with pytest.raises(ArithmeticError):
        await by_lane(run, mixed[1:2], [0])


async def test_who_meets_a_broken_bundle_gets_the_list_of_the_champion_and_the_record_says_so(
    two: dict[str, World], store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = gateway_module.slate

    def slate(world: World, *rest: Any) -> Any:
        if world.bundle.id == B:
            raise ArithmeticError("deep in a bundle")
        return real(world, *rest)

    monkeypatch.setattr(gateway_module, "slate", slate)
    async with gateway_at(two[A], store_url) as (gateway, records):
        gateway.lanes.serve(table(rollout=Rollout("r1", B, 5000)), two)
        answers = await asyncio.gather(*(gateway.recommend(asked(number)) for number in range(24)))
        canaries = [one for one in answers if one["variants"]["r1"] == "canary"]
        assert 4 < len(canaries) < 20
        wanted = [{"stage": "bundle", "cause": "error", "fallback": "the champion's list"}]
        assert all(one["bundle"] == A and one["degraded"] == wanted and len(one["items"]) == 5 for one in canaries)
        assert all(not one["degraded"] for one in answers if one not in canaries)
        assert sum(record.degraded == wanted for record in records) == len(canaries)
        gateway.lanes.serve(table(B), two)
        with pytest.raises(BatchFailed):
            await gateway.recommend(asked(1))


async def test_what_a_bundle_on_trial_refuses_the_champion_answers(two: dict[str, World], store_url: str) -> None:
    """A filter by a category that only the champion knows."""
    category = two[A].bundle.category_name[0]
    names = tuple(f"other-{name}" for name in two[A].bundle.category_name)
    other = replace(two[A], bundle=replace(two[A].bundle, id=B, category_name=names))
    async with gateway_at(two[A], store_url) as (gateway, _):
        gateway.lanes.serve(table(rollout=Rollout("r1", B, 5000)), {A: two[A], B: other})
        wanted = Filter(categories=CategoryFilter(any_of=[category]))
        answers = [await gateway.recommend(asked(number, filter=wanted)) for number in range(12)]
        degraded = {one["variants"]["r1"]: bool(one["degraded"]) for one in answers}
        assert degraded == {"canary": True, "control": False}
        assert {one["bundle"] for one in answers} == {A}
        with pytest.raises(Unprocessable):
            await gateway.recommend(asked(1, filter=Filter(categories=CategoryFilter(any_of=["nobody has it"]))))


def test_lanes_of_an_experiment_that_has_ended_are_let_go_of(two: dict[str, World]) -> None:
    lanes = Lanes(two[A])
    lanes.serve(table(experiments=(experiment(arms=[Arm(), Arm(candidates=60)]),)), two)
    assert (A, 60) in lanes._lanes
    lanes.serve(table(), two)
    assert set(lanes._lanes) == {(A, None)}


def test_a_world_with_other_candidates_shares_what_was_computed(two: dict[str, World]) -> None:
    world = two[A]
    columns = world.item_columns
    other = world.with_candidates(17)
    assert (other.candidates, world.candidates) == (17, 200)
    assert other.item_columns is columns

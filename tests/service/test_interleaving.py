"""Two bundles make one list: each its own in its lane, drafted by a pure function, reproducible, and safe to fail."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from recsys.experiments.interleaving import BOTH, interleave
from recsys.types import World
from service import gateway as gateway_module
from service.decisions import Decision
from service.errors import BatchFailed, HttpError, Overloaded, Unprocessable
from service.interleaving import ask_both
from service.record_schemas import Outcome
from service.replay import places, replay
from service.schemas import CategoryFilter, Filter, RecommendationRequest
from service.traffic.assignment import Assignment, Side
from service.traffic.document import INTERLEAVED, Arm, Experiment, Rollout
from tests.service.gateways import again, gateway_at, item_ids
from tests.service.traffic.tables import A, B, C, experiment, table

pytestmark = pytest.mark.valkey


@pytest.fixture(scope="module")
def two(served: World) -> dict[str, World]:
    """The same model, and one that has fewer sources of candidates: their lists differ."""
    few = msgspec.structs.replace(served.bundle.recipe, sources=("POPULAR", "SIMILAR"))
    return {
        A: replace(served, bundle=replace(served.bundle, id=A)),
        B: replace(served, bundle=replace(served.bundle, id=B, recipe=few)),
    }


def mix(name: str = "mix", **fields: Any) -> Experiment:
    return experiment(name, **{"arms": [Arm(), Arm(bundle=B)], "kind": "interleaving", **fields})


def asked(number: int, **fields: Any) -> RecommendationRequest:
    return RecommendationRequest(user_id=f"user-{number:04d}", **{"count": 9, **fields})


def read_back(record: Decision) -> Decision:
    """As it comes back from the stream."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Decision)


async def test_a_list_is_drafted_of_what_each_bundle_would_have_answered_alone(
    two: dict[str, World], store_url: str
) -> None:
    async with gateway_at(two[A], store_url) as (gateway, records):
        gateway.lanes.serve(table(experiments=(mix(),)), two)
        answers = await asyncio.gather(*(gateway.recommend(asked(number)) for number in range(30)))
        assert gateway.counts["answers"] == 30 == len(records)
    teams: Counter[int] = Counter()
    for answer, kept in zip(answers, records, strict=True):
        record = read_back(kept)
        of = record.interleaved
        assert of is not None
        assert (answer["variants"], answer["degraded"], record.counts("mix")) == ({"mix": INTERLEAVED}, [], True)
        assert (record.id, of.experiment, of.variants) == (answer["recommendation_id"], "mix", ["control", "b"])
        lists = []
        for one, bundle in zip(record.alone(), (A, B), strict=True):
            slates = again(two[bundle], one)
            assert (one.bundle, one.items, one.scores) == (bundle, item_ids(two[bundle], slates), slates.score.tolist())
            lists.append(one.items)
        draft = interleave(*lists, count=9, seed=record.seed)
        assert [item["item_id"] for item in answer["items"]] == record.items == draft.items
        assert (of.team, of.propensities) == (draft.team, draft.propensity)
        assert [item["rank"] for item in answer["items"]] == list(range(1, 10))
        named = [item.get("variant") for item in answer["items"]]
        assert named == [None if team == BOTH else of.variants[team] for team in of.team]
        assert [item["score"] for item in answer["items"]] == record.scores
        teams.update(of.team)
        shown = places(record)
        assert [place.propensity for place in shown] == of.propensities
    assert min(teams[0], teams[1]) > 20


async def test_a_drafted_list_is_made_again_and_what_differs_is_named(two: dict[str, World], store_url: str) -> None:
    async with gateway_at(two[A], store_url) as (gateway, records):
        gateway.lanes.serve(table(experiments=(mix(),)), two)
        await gateway.recommend(asked(3))
    record = read_back(records[0])
    worlds = lambda one: two[one.bundle]  # noqa: E731
    assert replay(record, worlds).outcome is Outcome.IDENTICAL
    assert record.interleaved is not None
    other = msgspec.structs.replace(record, items=record.items[::-1])
    verdict = replay(other, worlds)
    assert (verdict.outcome, verdict.detail) == (
        Outcome.DIFFERENT,
        "both lists are the same, what was drafted of them is not",
    )
    lists = [record.interleaved.lists[0], msgspec.structs.replace(record.interleaved.lists[1], now_s=1)]
    lists[1] = msgspec.structs.replace(lists[1], items=lists[1].items[::-1])
    of = msgspec.structs.replace(record.interleaved, lists=lists)
    verdict = replay(msgspec.structs.replace(record, interleaved=of), worlds)
    assert verdict.outcome is Outcome.DIFFERENT
    assert verdict.detail.startswith("the list of b: ")


async def test_settings_are_interleaved_as_bundles_are_and_no_list_ends_by_chance(
    two: dict[str, World], store_url: str
) -> None:
    arms = [Arm(candidates=40), Arm(candidates=60, diversity=0.9)]
    async with gateway_at(two[A], store_url, explore=1.0) as (gateway, records):
        gateway.lanes.serve(table(experiments=(mix(arms=arms),)), two)
        for number in range(5):
            await gateway.recommend(asked(number))
    for record in records:
        assert record.interleaved is not None
        made = [(one.candidates, round(one.diversity, 3), one.explore) for one in record.interleaved.lists]
        assert made == [(40, 0.05, 0.0), (60, 0.9, 0.0)]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Ids of bundles that fail from now on."""
    real, failing = gateway_module.slate, set[str]()

    def slate(world: World, *rest: Any) -> Any:
        if world.bundle.id in failing:
            raise ArithmeticError("deep in a bundle")
        return real(world, *rest)

    monkeypatch.setattr(gateway_module, "slate", slate)
    return failing


@pytest.mark.parametrize(("fails", "stays"), [(B, "control"), (A, "b")])
async def test_when_one_side_fails_the_list_is_the_others_says_so_and_does_not_count(
    two: dict[str, World], store_url: str, broken: set[str], fails: str, stays: str
) -> None:
    broken.add(fails)
    async with gateway_at(two[A], store_url) as (gateway, records):
        gateway.lanes.serve(table(experiments=(mix(),)), two)
        answers = await asyncio.gather(*(gateway.recommend(asked(number)) for number in range(8)))
    wanted = [{"stage": "interleaving", "cause": "error", "fallback": f"the list of {stays} alone"}]
    for answer, kept in zip(answers, records, strict=True):
        record = read_back(kept)
        assert (answer["degraded"], answer["variants"], len(answer["items"])) == (wanted, {"mix": INTERLEAVED}, 9)
        assert not any("variant" in item for item in answer["items"])
        assert answer["bundle"] == record.bundle == ({A, B} - {fails}).pop()
        assert record.interleaved is not None
        assert (record.interleaved.variants, record.counts("mix")) == ([stays], False)
        assert replay(record, lambda one: two[one.bundle]).outcome is Outcome.IDENTICAL


async def test_when_both_fail_the_champion_answers_and_when_it_is_one_of_them_nobody_does(
    two: dict[str, World], store_url: str, broken: set[str]
) -> None:
    worlds = {**two, C: replace(two[A], bundle=replace(two[A].bundle, id=C))}
    broken |= {B, C}
    async with gateway_at(two[A], store_url) as (gateway, records):
        gateway.lanes.serve(table(experiments=(mix(arms=[Arm(bundle=C), Arm(bundle=B)]),)), worlds)
        answer = await gateway.recommend(asked(1))
        assert (answer["bundle"], answer["degraded"][0]["fallback"]) == (A, "the champion's list")
        assert not read_back(records[0]).counts("mix")
        broken.add(A)
        gateway.lanes.serve(table(experiments=(mix(),)), worlds)
        with pytest.raises(BatchFailed):
            await gateway.recommend(asked(1))


async def test_a_filter_that_one_side_does_not_know_leaves_the_other_alone(
    two: dict[str, World], store_url: str
) -> None:
    category = two[A].bundle.category_name[0]
    names = tuple(f"other-{name}" for name in two[A].bundle.category_name)
    other = replace(two[A], bundle=replace(two[A].bundle, id=B, category_name=names))
    async with gateway_at(two[A], store_url) as (gateway, _):
        gateway.lanes.serve(table(experiments=(mix(),)), {A: two[A], B: other})
        answer = await gateway.recommend(asked(1, filter=Filter(categories=CategoryFilter(any_of=[category]))))
        assert answer["degraded"][0]["fallback"] == "the list of control alone"
        with pytest.raises(Unprocessable):
            await gateway.recommend(asked(1, filter=Filter(categories=CategoryFilter(any_of=["nobody has it"]))))


SIDES = (Side("control", A, Arm()), Side("b", B, Arm(bundle=B)))


async def test_overload_of_both_sides_is_overload_and_of_one_leaves_the_other() -> None:
    made = (None, msgspec.defstruct("Answer", [("degraded", list, [])])())

    def asking(**errors: HttpError) -> Any:
        async def ask(side: Side) -> Any:
            if error := errors.get(side.name):
                raise error
            return made

        return ask

    with pytest.raises(Overloaded):
        await ask_both(SIDES, asking(control=BatchFailed("bad"), b=Overloaded("busy")))
    found, missing = await ask_both(SIDES, asking(b=Overloaded("busy")))
    assert ([one.side.name for one in found], missing) == (["control"], "overload")
    found, missing = await ask_both(SIDES, asking())
    assert ([one.side.name for one in found], missing) == (["control", "b"], "")


async def test_a_degraded_list_is_not_drafted() -> None:
    answer = msgspec.defstruct("Answer", [("degraded", list[dict[str, str]])])
    late = [{"stage": "deadline", "cause": "timeout", "fallback": "popular items"}]

    def asking(*degraded: list[dict[str, str]]) -> Any:
        async def ask(side: Side) -> Any:
            return None, answer(degraded[SIDES.index(side)])

        return ask

    found, missing = await ask_both(SIDES, asking(late, []))
    assert ([one.side.name for one in found], missing) == (["b"], "timeout")
    found, missing = await ask_both(SIDES, asking(late, late))
    assert ([one.side.name for one in found], missing) == (["control"], "timeout")
    blind = [{"stage": "features", "cause": "timeout", "fallback": "no history"}]
    assert len((await ask_both(SIDES, asking(blind, blind)))[0]) == 2  # of nobody's history, alike for both


async def test_an_error_that_nobody_foresaw_is_not_hidden() -> None:
    async def ask(_: Side) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ask_both(SIDES, ask)


def test_who_is_in_it_and_who_gets_one_side_alone() -> None:
    from recsys.erased_users import user_digest

    overrides = {user_digest("ann"): {"mix": "b"}}
    wide = experiment("wide", layer="width", arms=[Arm(), Arm(candidates=50)])
    of = Assignment(table(experiments=(mix(share=5000), wide), overrides=overrides))
    ann = of.of("ann", "home")
    assert (ann.variants["mix"], ann.bundle, ann.sides) == ("b", B, ())
    met = [of.of(f"user-{number}", "home") for number in range(4000)]
    drafted = [one for one in met if one.sides]
    assert 0.46 < len(drafted) / len(met) < 0.54
    assert {one.propensity for one in drafted} == {0.25}
    assert {tuple((side.name, side.bundle, side.arm.candidates) for side in one.sides) for one in drafted} == {
        (("control", A, wide), ("b", B, wide)) for wide in (None, 50)
    }
    assert {(side.bundle, side.arm.candidates) for one in drafted for side in one.sides} <= of.arms()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "three": (
        {"experiments": (mix(shares=(5000, 2500, 2500), arms=[Arm(), Arm(bundle=B), Arm(bundle=C)]),)},
        "50 % each",
    ),
    "a share": ({"experiments": (mix(shares=(9000, 1000)),)}, "50 % each"),
    "chance": ({"experiments": (mix(arms=[Arm(), Arm(explore=0.5)]),)}, "no variant has explore="),
    "alike": ({"experiments": (mix(arms=[Arm(), Arm()]),)}, "are alike"),
    "two of them": (
        {"experiments": (mix(), mix("other", layer="other", arms=[Arm(), Arm(diversity=0.3)]))},
        "would both interleave the same lists",
    ),
    "chance elsewhere": (
        {"experiments": (mix(), experiment("other", layer="other", arms=[Arm(), Arm(explore=0.3)]))},
        "would both change explore",
    ),
    "a rollout beside bundles": ({"experiments": (mix(),), "rollout": Rollout("r1", C, 100)}, "both choose the bundle"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_interleavings_that_cannot_be_are_refused(case: str) -> None:
    from service.errors import TrafficError

    fields, said = REFUSED[case]
    with pytest.raises(TrafficError, match=said):
        table(**fields).check()

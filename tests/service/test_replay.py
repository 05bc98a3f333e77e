"""Recorded answers are made again from their records, and the first stage that differs is named, every time."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace as changed
from typing import Any

import msgspec
import numpy as np
import pytest

from recsys import filtering, recommend, users
from recsys.digests import Stage
from recsys.errors import RegistryError
from recsys.features import cross, frame, item, user
from recsys.features.codec import pack, unpack
from recsys.features.matrix import NAMES, SCHEMA_HASH
from recsys.retrieval import candidates
from recsys.types import CandidateSet, Controls, Source, World
from service.decisions import Decision
from service.gateway import Gateway
from service.queries import batch_of
from service.record_schemas import Outcome, Replay
from service.replay import query_of, replay
from service.schemas import CategoryFilter, Filter, RecommendationRequest, Session, SimilarRequest
from service.settings import Settings
from service.stages import DistributedStages
from tests.free_ports import free_port
from tests.service.gateways import KeptDecisions, SlowStages, colocated, gateway_at
from tests.service.test_stages import Handle, Remote
from tests.worlds import with_unavailable

pytestmark = pytest.mark.valkey

Alter = Callable[[World, pytest.MonkeyPatch], World]
change = msgspec.structs.replace


def requests(world: World) -> list[RecommendationRequest]:
    """Known users with lists of 1 to 500, a stranger, visitors with sessions, filters and exclusions."""
    shown = [world.bundle.vocabulary.item_id[row] for row in world.item_stats.order[:12]]
    only = Filter(categories=CategoryFilter(any_of=[world.bundle.category_name[0]]))
    known = [RecommendationRequest(user_id=f"user-{n:04d}", count=1 + n * n % 500) for n in range(60)]
    return [
        *known,
        RecommendationRequest(user_id="nobody", exclude_item_ids=shown),
        RecommendationRequest(user_id="user-0012", count=30, filter=only),
        *(RecommendationRequest(user_id="visitor", session=Session(item_ids=shown[n : n + 3])) for n in range(9)),
        RecommendationRequest(user_id="user-0013", session=Session(item_ids=shown[:5]), context={"device": "tv"}),
    ]


async def served_by(world: World, url: str, topology: str) -> list[Decision]:
    """What a gateway records of `requests`, as it comes back from the stream."""
    kept = KeptDecisions()
    async with colocated(url) as stages:
        if topology == "distributed":
            remote = Remote(world)
            handles = [Handle(stages.lookup), Handle(remote.retrieve), Handle(remote.rank)]
            stages = DistributedStages(*handles, lookup_timeout_s=5)
        gateway = Gateway(world, stages, kept, Settings(deadline_ms=10_000))
        await asyncio.gather(*(gateway.recommend(request) for request in requests(world)))
    return [msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Decision) for record in kept.records]


@pytest.fixture(scope="module")
def records(served: World, store_url: str) -> list[Decision]:
    """Of both topologies, ranked over 77 candidates, which is not the default."""
    narrow = changed(served, candidates=77)
    return [record for one in ("colocated", "distributed") for record in asyncio.run(served_by(narrow, store_url, one))]


def replays(records: list[Decision], world: World) -> list[Replay]:
    fitting = {number: changed(world, candidates=number) for number in {record.candidates for record in records}}
    return [replay(record, lambda record: fitting[record.candidates]) for record in records]


def test_every_recorded_list_of_both_topologies_is_made_again_bit_for_bit(
    served: World, records: list[Decision]
) -> None:
    assert len(records) == 2 * len(requests(served))
    verdicts = replays(records, served)
    assert {verdict.outcome for verdict in verdicts} == {Outcome.IDENTICAL}, verdicts
    assert [verdict.recommendation_id for verdict in verdicts] == [record.id for record in records]


# --- deliberate alterations ---


def has_history(record: Decision) -> bool:
    return record.user_state is not None or record.query["session"] is not None


def every(_: Decision) -> bool:
    return True


def assert_named(
    records: list[Decision], world: World, stage: Stage, *, features: Sequence[str] = (), of: Callable[[Decision], bool]
) -> None:
    """Each record that the alteration can touch names the stage; the others are identical."""
    verdicts = replays(records, world)
    for record, verdict in zip(records, verdicts, strict=True):
        if of(record):
            assert (verdict.outcome, verdict.stage, verdict.features) == (Outcome.DIFFERENT, stage, [*features]), (
                verdict
            )
        else:
            assert verdict.outcome is Outcome.IDENTICAL, verdict
    assert sum(map(of, records)) >= 2


def test_session_that_is_left_out_is_named_state(
    served: World, records: list[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "with_session", lambda batch: batch.states)
    assert_named(records, served, Stage.STATE, of=lambda record: record.query["session"] is not None)


def test_state_of_other_content_is_named_state(served: World, records: list[Decision]) -> None:
    def shortened(value: bytes) -> bytes:
        states, _ = unpack([value], SCHEMA_HASH)
        states.length -= 1
        return pack(states, SCHEMA_HASH)[0]

    known = [record for record in records if record.user_state is not None]
    others = [change(record, user_state=shortened(record.user_state or b"")) for record in known]
    assert_named(others, served, Stage.STATE, of=every)


@pytest.mark.parametrize("column", ["popularity", "trend", "positive_rate"])
def test_altered_number_of_an_item_is_named_item_stats(served: World, records: list[Decision], column: str) -> None:
    values = getattr(served.item_stats, column).copy()
    values[7] = np.nextafter(values[7], np.float32(9))
    stats = changed(served.item_stats, **{column: values})
    assert_named(records, changed(served, item_stats=stats), Stage.ITEM_STATS, of=every)


def test_altered_availability_is_named_item_stats(served: World, records: list[Decision]) -> None:
    other = with_unavailable(served, np.array([3])).item_stats
    same_name = changed(other, version=served.item_stats.version)
    assert_named(records, changed(served, item_stats=same_name), Stage.ITEM_STATS, of=every)


def test_altered_rule_is_named_filter_with_the_counts(
    served: World, records: list[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    rule_out = filtering._rule_out

    def stricter(*given: Any) -> tuple[np.ndarray, np.ndarray]:
        bits, removed = rule_out(*given)
        for row in range(len(bits)):
            first = np.flatnonzero(np.unpackbits(bits[row], bitorder="little"))[0]
            removed[row, filtering.Reason.EXCLUDED] += filtering._clear(bits[row], first)
        return bits, removed

    monkeypatch.setattr(filtering, "_rule_out", stricter)
    assert_named(records, served, Stage.FILTER, of=every)
    for verdict in replays(records, served):
        assert verdict.now.removed["excluded"] == verdict.served.removed["excluded"] + 1


def sources_of(record: Decision, world: World) -> set[Source]:
    """The sources that brought any candidate of an answer."""
    states, _ = unpack([record.user_state], SCHEMA_HASH)
    batch = batch_of([query_of(record, world.bundle)], states)
    bits = np.bitwise_or.reduce(recommend.retrieve(world, batch).candidates.sources)
    return {source for source in Source if bits >> source & 1}


@pytest.mark.parametrize(
    ("name", "read_by"),
    [("transitions", {Source.TRANSITIONS}), ("similar", {Source.SIMILAR, Source.HISTORY})],
)
def test_altered_neighbours_are_named_retrieval_wherever_they_bring_a_candidate(
    served: World, records: list[Decision], name: str, read_by: set[Source]
) -> None:
    table = getattr(served.bundle, name)
    heavier = changed(table, weight=table.weight * np.float32(1.001))
    other = changed(served, bundle=changed(served.bundle, **{name: heavier}))
    narrow = changed(served, candidates=77)
    assert_named(records, other, Stage.RETRIEVAL, of=lambda record: bool(read_by & sources_of(record, narrow)))


def other_factors(world: World, _: pytest.MonkeyPatch) -> World:
    return changed(world, bundle=changed(world.bundle, factors=world.bundle.factors * np.float32(1.001)))


def other_depth(world: World, patch: pytest.MonkeyPatch) -> World:
    patch.setattr(candidates, "DEPTH", 40)
    return world


@pytest.mark.parametrize("alter", [other_factors, other_depth])
def test_altered_factors_and_depth_are_named_retrieval(
    served: World, records: list[Decision], alter: Alter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_named(records, alter(served, monkeypatch), Stage.RETRIEVAL, of=has_history)


def shift(values: np.ndarray) -> np.ndarray:
    return values * np.float32(1.001) + np.float32(0.01)


def redefine(name: str, patch: pytest.MonkeyPatch) -> None:
    """Another definition of one feature, wherever features of its grain are defined."""
    if name.startswith("user_"):
        place, values = [one.name for one in user.FEATURES].index(name), frame.values

        def other_values(*columns: np.ndarray) -> np.ndarray:
            made = values(*columns)
            made[place] = shift(made[place])
            return made

        patch.setattr(frame, "values", other_values)
        return
    module = item if name.startswith("item_") else cross
    patch.setattr(module, "FEATURES", tuple(shifted(one) if one.name == name else one for one in module.FEATURES))


def shifted(feature: Any) -> Any:
    return changed(feature, value=lambda given: shift(feature.value(given)))


@pytest.mark.parametrize("name", NAMES)
def test_altered_feature_is_named(
    served: World, records: list[Decision], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    redefine(name, monkeypatch)
    assert_named(records, served, Stage.FEATURES, features=[name], of=every)


def test_all_altered_features_are_named(
    served: World, records: list[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ["user_positive_rate", "cross_similar"]
    for name in both:
        redefine(name, monkeypatch)
    assert_named(records, served, Stage.FEATURES, features=both, of=every)


def test_altered_default_is_named_where_it_counts(
    served: World, records: list[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = frame.values

    def other_default(length: np.ndarray, *columns: np.ndarray) -> np.ndarray:
        made = values(length, *columns)
        made[2, length == 0] = 0
        return made

    monkeypatch.setattr(frame, "values", other_default)
    strangers = [record for record in records if not has_history(record)]
    assert_named(records, served, Stage.FEATURES, features=["user_log_idle_s"], of=lambda record: record in strangers)


@pytest.mark.parametrize("part", ["leaf", "bias"])
def test_altered_model_is_named_ranking(served: World, records: list[Decision], part: str) -> None:
    ranker = served.bundle.ranker
    assert ranker is not None
    by = np.random.default_rng(1).normal(0, 1e-6, ranker.trees.leaf.shape) if part == "leaf" else 1e-6
    shaken = changed(ranker, trees=changed(ranker.trees, **{part: getattr(ranker.trees, part) + by}))
    assert_named(records, changed(served, bundle=changed(served.bundle, ranker=shaken)), Stage.RANKING, of=every)


def test_altered_choice_is_named_selection(
    served: World, records: list[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    select, controlled = recommend.select, recommend.controlled

    def reversed_order(
        world: World, controls: Controls, candidates: CandidateSet, score: np.ndarray, *rest: Any
    ) -> Any:
        return controlled(world, controls, candidates, -score, *rest)

    monkeypatch.setattr(recommend, "select", lambda indptr, score, count: select(indptr, -score, count))
    monkeypatch.setattr(recommend, "controlled", reversed_order)
    assert_named(records, served, Stage.SELECTION, of=every)


# --- the values ---


def test_first_place_that_differs_is_told_with_both_items_and_scores(served: World, records: list[Decision]) -> None:
    record = next(record for record in records if len(record.items) == 10 or len(record.items) > 10)
    swapped = change(record, items=[*record.items[:4], "something else", *record.items[5:]])
    (verdict,) = replays([swapped], served)
    assert verdict.stage is Stage.SELECTION
    assert verdict.served.place.rank == verdict.now.place.rank == 5
    assert (verdict.served.place.item_id, verdict.now.place.item_id) == ("something else", record.items[4])
    assert f"rank 5: 'something else' with score {record.scores[4]!r} served, {record.items[4]!r}" in verdict.detail
    higher = change(record, scores=[float(np.nextafter(record.scores[0], 9)), *record.scores[1:]])
    (verdict,) = replays([higher], served)
    assert (verdict.served.place.score, verdict.now.place.score) == (higher.scores[0], record.scores[0])
    shorter = change(record, items=record.items[:3], scores=record.scores[:3])
    (verdict,) = replays([shorter], served)
    assert not verdict.served.place
    assert (verdict.now.place.rank, verdict.now.place.item_id) == (4, record.items[3])
    assert "rank 4: nothing served" in verdict.detail


def test_stage_that_differs_without_effect_on_the_list_is_told_too(
    served: World, records: list[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound that the linear part holds a feature to, it may be anything."""
    products = cross.FEATURES[0]
    assert served.bundle.ranker is not None
    bound = served.bundle.ranker.linear.high[NAMES.index(products.name)]

    def beyond_the_bound_off(given: Any) -> np.ndarray:
        made = products.value(given).copy()
        return np.where(made > bound, np.nextafter(made, np.float32(99)), made)

    monkeypatch.setattr(cross, "FEATURES", (changed(products, value=beyond_the_bound_off), *cross.FEATURES[1:]))
    verdicts = [one for one in replays(records, served) if one.outcome is Outcome.DIFFERENT]
    assert verdicts
    for verdict in verdicts:
        assert (verdict.stage, verdict.features) == (Stage.FEATURES, [products.name])
        assert verdict.detail.endswith("the list is the same")


def test_record_from_before_digests_is_compared_by_its_list(served: World, records: list[Decision]) -> None:
    old = change(records[0], digests=b"", removed=[], ranked=0)
    assert replays([old], served)[0].outcome is Outcome.IDENTICAL
    (verdict,) = replays([change(old, items=["x", *old.items[1:]])], served)
    assert verdict.outcome is Outcome.DIFFERENT
    assert not verdict.stage
    assert "no digests" in verdict.detail


async def test_scores_are_compared_by_their_bits(served: World, store_url: str) -> None:
    ranker = served.bundle.ranker
    assert ranker is not None
    trees = changed(ranker.trees, leaf=np.zeros_like(ranker.trees.leaf))

    async def record_of(world: World) -> Decision:
        async with gateway_at(world, store_url) as (gateway, kept):
            await gateway.recommend(RecommendationRequest(user_id="user-0003"))
        return kept[0]

    for bias in (np.nan, np.inf, 0.0):
        world = changed(served, bundle=changed(served.bundle, ranker=changed(ranker, trees=changed(trees, bias=bias))))
        assert replays([await record_of(world)], world)[0].outcome is Outcome.IDENTICAL
    record = await record_of(world)
    one_bit_off = change(record, scores=[float(np.nextafter(score, 1)) for score in record.scores])
    assert replays([one_bit_off], world)[0].stage is Stage.SELECTION


# --- states that do not decode, and what cannot be made again ---


def test_state_that_no_longer_decodes_is_named_state(served: World, records: list[Decision]) -> None:
    broken = [change(record, user_state=b"rubbish") for record in records]
    for verdict in replays(broken, served):
        assert (verdict.outcome, verdict.stage) == (Outcome.DIFFERENT, Stage.STATE)
        assert "does not decode: not a user state" in verdict.detail


def test_state_that_did_not_decode_then_is_missing_again_and_one_that_does_now_is_named(
    served: World, records: list[Decision]
) -> None:
    stranger = next(record for record in records if record.user_state is None)
    cause = [{"stage": "features", "cause": "undecodable_state", "fallback": ""}]
    then_broken = change(stranger, user_state=b"rubbish", degraded=cause)
    assert replays([then_broken], served)[0].outcome is Outcome.IDENTICAL
    known = next(record for record in records if record.user_state is not None)
    (verdict,) = replays([change(known, degraded=cause)], served)
    assert verdict.stage is Stage.STATE
    assert "decodes now and did not" in verdict.detail


def test_what_cannot_be_made_again_says_why(served: World, records: list[Decision]) -> None:
    record = records[0]

    def gone(_: Decision) -> World:
        raise RegistryError("no bundle 'x'")

    cases = [
        (replay(record, gone), "no bundle 'x'"),
        (replays([change(record, item_stats="old")], served)[0], "item stats 'old' are gone"),
        (replays([change(record, query={"user_id": 7})], served)[0], "Expected `str`"),
        (replays([change(record, kind="similar")], served)[0], "answers of kind 'similar'"),
    ]
    filtered = {**record.query, "filter": {"categories": {"any": ["no such"]}}}
    cases.append((replays([change(record, query=filtered)], served)[0], "unknown categories"))
    for verdict, reason in cases:
        assert verdict.outcome is Outcome.NOT_REPLAYABLE
        assert reason in verdict.detail


async def test_answer_of_a_deadline_is_not_replayable_and_one_without_its_store_is(
    served: World, store_url: str
) -> None:
    kept = KeptDecisions()
    async with colocated(store_url) as stages:
        gateway = Gateway(served, SlowStages(stages, "rank", 0.3), kept, Settings(deadline_ms=20))
        await gateway.recommend(RecommendationRequest(user_id="user-0003"))
    (verdict,) = replays(kept.records, served)
    assert (verdict.outcome, verdict.detail) == (Outcome.NOT_REPLAYABLE, "degraded: deadline")
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    async with gateway_at(served, nowhere) as (gateway, blind):
        await gateway.recommend(RecommendationRequest(user_id="user-0003"))
    assert [one["stage"] for one in blind[0].degraded] == ["features"]
    assert replays(blind, served)[0].outcome is Outcome.IDENTICAL


async def test_similar_lists_are_recorded_and_left_alone(served: World, store_url: str) -> None:
    async with gateway_at(served, store_url) as (gateway, records):
        await gateway.similar(SimilarRequest(item_ids=[served.bundle.vocabulary.item_id[0]]))
    assert replays(records, served)[0].outcome is Outcome.NOT_REPLAYABLE

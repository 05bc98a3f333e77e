"""An experiment is tried out on what was asked last, before anybody is in it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from recsys.errors import BundleError
from recsys.types import World
from service.archives import decision_archive
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.decisions import STREAM, Decision
from service.errors import TrafficError
from service.gateway import Gateway
from service.rehearsal import ENOUGH, LISTS, Rehearsal
from service.round_trips import RoundTrips
from service.schemas import RecommendationRequest
from service.settings import Settings
from service.traffic.document import Arm, Experiment, Traffic
from tests.service.conftest import BreakableStore
from tests.service.gateways import KeptDecisions, colocated
from tests.service.traffic.tables import A, B, experiment, table

pytestmark = pytest.mark.valkey

CONTROL = Arm()
FRESH = np.arange(3, dtype=np.int32)
FRESH.flags.writeable = False
ODD = Decision(
    id="019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11", time_ms=1, kind="recommendations", bundle=A, item_stats="s",
    candidates=200, propensity=1.0, query={"user_id": "u"}, user_state=None, seed=0, now_s=0, items=[], scores=[],
    degraded=[], timing_ms={},
)  # fmt: skip


@asynccontextmanager
async def rehearsed(
    two: dict[str, World],
    url: str,
    home: Path,
    asked: Sequence[dict[str, Any]] = (),
    traffic: Traffic | None = None,
) -> AsyncIterator[Rehearsal]:
    """Over a store in which what was asked for is on record."""
    store = RoundTrips(url, timeout_ms=3000, connections=1)
    settings = Settings(home=str(home), deadline_ms=10_000, diversity=0.0, explore=0.05)
    kept = KeptDecisions()
    try:
        async with colocated(url) as stages:
            gateway = Gateway(two[A], stages, kept, settings)
            if traffic is not None:
                gateway.lanes.serve(traffic, two)
            for number, fields in enumerate(asked):
                asked_for = {"user_id": f"user-{number % 60:04d}", **fields}
                await gateway.recommend(msgspec.convert(asked_for, RecommendationRequest))
        for record in kept.records:
            await store.demand([("XADD", STREAM, "*", "d", msgspec.msgpack.encode(record))])
        records = DecisionRecords(DecisionStream(store), decision_archive(settings))
        yield Rehearsal(settings, store, records, two.__getitem__)
    finally:
        await store.close()


def of(*arms: Arm, **fields: Any) -> Experiment:
    return experiment(shares=(10_000 // len(arms),) * len(arms), arms=arms, **fields)


async def test_settings_that_make_other_lists_pass_and_those_that_do_not_are_named(
    two: dict[str, World], breakable_store: BreakableStore, tmp_path: Path
) -> None:
    items = len(two[A].bundle.vocabulary)
    async with rehearsed(two, breakable_store.url, tmp_path) as rehearsal:
        for arm in (Arm(diversity=0.5), Arm(candidates=10), Arm(bundle=B)):
            await rehearsal.demand_difference(table(), of(CONTROL, arm))
        for one, other, what in (
            (Arm(candidates=items), Arm(candidates=items + 9), f"candidates {items} beside {items + 9} has no effect"),
            (CONTROL, Arm(explore=0.5), "explore as usual beside 0.5 has no effect"),  # no item is new
            (CONTROL, Arm(diversity=0.0), "diversity as usual beside 0.0 has no effect"),
        ):
            told = rf"'control' and 'b' .*\(0 on record, {LISTS} invented\): here {what}"
            with pytest.raises(TrafficError, match=told):
                await rehearsal.demand_difference(table(), of(one, other))
            await rehearsal.demand_difference(table(), of(one, other, same=True))
        mixed = [Arm(diversity=0.5, candidates=items), Arm(diversity=0.5, candidates=items + 9)]
        with pytest.raises(TrafficError, match="'b' and 'c'"):
            await rehearsal.demand_difference(table(), of(CONTROL, *mixed))


async def test_a_setting_that_every_client_gives_by_itself_has_no_effect(
    two: dict[str, World], breakable_store: BreakableStore, tmp_path: Path
) -> None:
    session = {"item_ids": list(two[A].bundle.vocabulary.item_id)[:9]}
    own = [{"placement": "home", "diversity": 0.2, "session": session}] * (LISTS + 5) + [{"placement": "search"}] * 3
    async with rehearsed(two, breakable_store.url, tmp_path, own) as rehearsal:
        with pytest.raises(TrafficError, match=rf"\({LISTS} on record, 0 invented\): here diversity"):
            await rehearsal.demand_difference(table(), of(CONTROL, Arm(diversity=0.6), placements=("home",)))
        await rehearsal.demand_difference(table(), of(CONTROL, Arm(diversity=0.6), placements=("search",)))
        await rehearsal.demand_difference(table(), of(CONTROL, Arm(diversity=0.6)))
        await rehearsal.demand_difference(table(), of(CONTROL, Arm(bundle=B), placements=("home",)))


async def test_rules_are_tried_as_well_and_one_of_a_category_that_is_not_there_does_nothing(
    two: dict[str, World], breakable_store: BreakableStore, tmp_path: Path
) -> None:
    category = two[A].bundle.category_name[0]
    async with rehearsed(two, breakable_store.url, tmp_path) as rehearsal:
        for arm in (Arm(popularity_damping=0.5), Arm(quotas=((category, 1),))):
            await rehearsal.demand_difference(table(), of(CONTROL, arm))
        with pytest.raises(TrafficError, match="quotas as usual beside nowhere:1 has no effect"):
            await rehearsal.demand_difference(table(), of(CONTROL, Arm(quotas=(("nowhere", 1),))))


async def test_rules_of_earlier_variants_are_not_what_clients_ask_for(
    two: dict[str, World], breakable_store: BreakableStore, tmp_path: Path
) -> None:
    category = "Crime"  # of which the popular list has three
    rules = Arm(popularity_damping=0.3, quotas=((category, 3),))
    earlier = of(rules, rules, name="earlier", same=True)
    async with rehearsed(two, breakable_store.url, tmp_path, [{}] * ENOUGH, table(experiments=(earlier,))) as rehearsal:
        now = table(experiments=(msgspec.structs.replace(earlier, state="stopped"),))
        await rehearsal.demand_difference(now, of(CONTROL, Arm(popularity_damping=0.9)))
        await rehearsal.demand_difference(now, of(CONTROL, Arm(quotas=((category, 1),))))
        with pytest.raises(TrafficError, match="has no effect"):
            await rehearsal.demand_difference(table(), of(CONTROL, Arm(popularity_damping=0.9)))


async def test_what_nobody_asks_for_is_no_effect_once_enough_is_on_record(
    two: dict[str, World], breakable_store: BreakableStore, tmp_path: Path
) -> None:
    own = [{"placement": "home", "diversity": 0.2}] * ENOUGH
    async with rehearsed(two, breakable_store.url, tmp_path, own) as rehearsal:
        with pytest.raises(TrafficError, match=rf"{ENOUGH} requests \({ENOUGH} on record, 0 invented\)"):
            await rehearsal.demand_difference(table(), of(CONTROL, Arm(diversity=0.6)))


async def test_one_is_tried_at_a_time(two: dict[str, World], breakable_store: BreakableStore, tmp_path: Path) -> None:
    async with rehearsed(two, breakable_store.url, tmp_path) as rehearsal:
        tried = [rehearsal.demand_difference(table(), of(CONTROL, Arm(diversity=0.5))) for _ in range(3)]
        ended = await asyncio.gather(*tried, return_exceptions=True)
        assert [type(one) for one in ended].count(TrafficError) == 2
        assert "another experiment is being tried" in str(next(one for one in ended if one is not None))
        await rehearsal.demand_difference(table(), of(CONTROL, Arm(diversity=0.5)))


async def test_a_chance_in_a_hundred_is_an_effect_where_there_are_new_items(
    two: dict[str, World], breakable_store: BreakableStore, tmp_path: Path
) -> None:
    fresh = {name: replace(world, bundle=replace(world.bundle, fresh=FRESH)) for name, world in two.items()}
    async with rehearsed(fresh, breakable_store.url, tmp_path) as rehearsal:
        await rehearsal.demand_difference(table(), of(Arm(explore=0.01), Arm(explore=0.02)))
        await rehearsal.demand_difference(table(), of(Arm(explore=0.02), Arm(explore=0.01)))


async def test_what_one_of_the_bundles_cannot_be_asked_says_nothing(
    two: dict[str, World], breakable_store: BreakableStore, tmp_path: Path
) -> None:
    category = next(iter(two[A].bundle.category_number))
    own = [{"filter": {"categories": {"any": [category]}}}] * LISTS
    renamed = tuple(f"other {name}" for name in two[A].bundle.category_name)
    worlds = {**two, B: replace(two[B], bundle=replace(two[B].bundle, category_name=renamed))}
    async with rehearsed(worlds, breakable_store.url, tmp_path, own) as rehearsal:
        with pytest.raises(TrafficError, match=r"bundle as usual beside .* has no effect"):
            await rehearsal.demand_difference(table(), of(CONTROL, Arm(bundle=B)))


async def test_a_bundle_that_cannot_be_loaded_begins_nothing_and_other_records_are_passed_over(
    two: dict[str, World], breakable_store: BreakableStore, tmp_path: Path
) -> None:
    async with rehearsed(two, breakable_store.url, tmp_path, [{}]) as rehearsal:
        store = RoundTrips(breakable_store.url, timeout_ms=3000, connections=1)
        for odd in ({"kind": "similar"}, {"query": {"user_id": 5}}):
            record = msgspec.structs.replace(ODD, **odd)
            await store.demand([("XADD", STREAM, "*", "d", msgspec.msgpack.encode(record))])
        await store.close()
        with pytest.raises(TrafficError, match=rf"\(1 on record, {LISTS - 1} invented\)"):
            await rehearsal.demand_difference(table(), of(Arm(candidates=1000), Arm(candidates=2000)))

        def damaged(_: str) -> World:
            raise BundleError("ranker.cbm: damaged")

        rehearsal._load = damaged
        with pytest.raises(TrafficError, match=r"cannot be loaded: ranker\.cbm: damaged"):
            await rehearsal.demand_difference(table(), of(CONTROL, Arm(candidates=10)))

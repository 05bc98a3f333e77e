"""Experiments over HTTP: described, begun, reported, halted and ended by the very code of the command line."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from recsys.errors import ArchiveError, BundleError, RegistryError
from recsys.experiments.buckets import BUCKETS
from service.archives import decision_archive
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.errors import HttpError, RecordsUnavailable, StoreUnavailable, TrafficConflict
from service.experiment_guard import ExperimentGuard
from service.experiment_schemas import ExperimentChange, ExperimentReport, ExperimentsResponse, ExperimentState
from service.http import HttpEdge
from service.live_experiments import LiveExperiments, Reported, rehearsed, reported
from service.outcomes import OutcomeReader, outcome_reader
from service.rehearsal import Rehearsal
from service.round_trips import RoundTrips
from service.settings import Settings
from service.traffic import changes
from service.traffic.document import Arm, Experiment
from service.traffic.lease import Lease
from service.traffic.table import LEASE_KEY, TrafficTable
from tests.service.conftest import BreakableStore
from tests.service.test_outcomes import START_MS, World, event, record
from tests.service.traffic.tables import A, B, experiment

pytestmark = pytest.mark.valkey

WHY = {"who": "ann", "reason": "to see it"}
CLOSER: dict[str, Any] = {
    "name": "closer",
    "variants": [{"name": "control", "share": 50}, {"name": "b", "share": 50, "diversity": 0.3}],
    **WHY,
}


def resolve(reference: str) -> str:
    if reference not in ("challenger", B):
        raise RegistryError(f"no bundle {reference!r}")
    return B


async def rehearse(name: str) -> HttpError | None:
    return TrafficConflict("they make the same lists") if name == "idle" else None


@asynccontextmanager
async def shop(url: str, home: Path) -> AsyncIterator[tuple[httpx.AsyncClient, TrafficTable]]:
    """The HTTP edge over a table that no replica follows; reports are read in this process."""
    store = RoundTrips(url, timeout_ms=3000, connections=2)
    settings = Settings(home=str(home))
    try:
        table = TrafficTable(store)
        await table.begin(A, who="test", reason="first")
        outcomes = outcome_reader(settings, store)

        async def ask_report(name: str) -> Reported:
            return await reported(table, outcomes, name)

        nobody: Any = None
        edge = HttpEdge(*[nobody] * 6, LiveExperiments(store, settings, resolve, rehearse, ask_report))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=edge), base_url="http://riffle") as client:
            yield client, table
    finally:
        await store.close()


async def test_an_experiment_lives_through_its_states(breakable_store: BreakableStore, tmp_path: Path) -> None:
    world = World(breakable_store.url, tmp_path)
    async with shop(breakable_store.url, tmp_path) as (client, table):
        assert (await client.get("/v1/experiments")).json() == {"experiments": []}
        made = await client.post("/v1/experiments", json={**CLOSER, "placements": ["home"], "share": 12.5})
        assert made.status_code == 200
        state = msgspec.convert(made.json(), ExperimentState)
        assert (state.state, state.share, state.variants[1].diversity, state.started) == ("draft", 12.5, 0.3, None)
        assert (await table.demand()).experiment("closer").variants[0].share == BUCKETS // 2
        refused = await client.get("/v1/experiments/closer/report")
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:riffle:problem:traffic-conflict")
        begun = msgspec.convert((await client.post("/v1/experiments/closer:start", json=WHY)).json(), ExperimentState)
        assert begun.state == "running"
        assert begun.started is not None
        one = record("ann", "b", time.time_ns() // 1_000_000 + 60_000, variants={"closer": "b"})
        world.answer(one)
        world.log(event("ann", "click", one))
        report = msgspec.convert((await client.get("/v1/experiments/closer/report")).json(), ExperimentReport)
        assert (report.users, report.lists, report.sound) == (1, 1, True)
        assert report.variants[1].rates["clicked"] == 1.0
        assert report.effects[0].difference is None
        stopped = await client.post("/v1/experiments/closer:stop", json={"who": "bob", "reason": "seen"})
        assert stopped.json()["state"] == "stopped"
        assert [(one.who, one.reason) for one in (await table.history(10))[1:]] == [
            ("ann", "to see it"),
            ("ann", "to see it"),
            ("bob", "seen"),
        ]
        listed = msgspec.convert((await client.get("/v1/experiments")).json(), ExperimentsResponse)
        assert [one.state for one in listed.experiments] == ["stopped"]


async def test_two_bundles_are_interleaved_and_the_report_says_which_wins(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    variants = [{"name": "control", "share": 50}, {"name": "new", "share": 50, "bundle": "challenger"}]
    async with shop(breakable_store.url, tmp_path) as (client, table):
        mix = {**CLOSER, "name": "mix", "kind": "interleaving", "variants": variants}
        assert (await client.post("/v1/experiments", json=mix)).json()["variants"][1]["bundle"] == B
        one = (await table.demand()).experiment("mix")
        running = msgspec.structs.replace(one, state="running", started="2026-06-01T00:00:00+00:00")
        await table.change(lambda now: changes.with_experiment(now, running), who="t", reason="no replica loads it")
        report = (await client.get("/v1/experiments/mix/report")).json()
        found = msgspec.convert(report, ExperimentReport)
        assert [one.winner for one in found.preferences] == [None, None]
        assert (found.drawn, found.alone) == (None, {"control": 0, "new": 0})


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "over 100 percent": (
        {"variants": [CLOSER["variants"][0], {"name": "b", "share": 101, "diversity": 0.3}]}, 400, "/variants/1/share"
    ),
    "a hundred and one in all": (
        {"variants": [CLOSER["variants"][0], {"name": "b", "share": 51, "diversity": 0.3}]}, 409, "101 % of its users"
    ),
    "a thousandth": ({"share": 0.001}, 409, "in steps of 0.01"),
    "without effect": (
        {"variants": [CLOSER["variants"][0], {"name": "b", "share": 50, "diversity": 0.05}]}, 409, "would do the same"
    ),
    "an unknown bundle": (
        {"variants": [CLOSER["variants"][0], {"name": "b", "share": 50, "bundle": "nope"}]}, 422, "no bundle 'nope'"
    ),
    "out of range": (
        {"variants": [CLOSER["variants"][0], {"name": "b", "share": 50, "candidates": 3}]}, 409, "variant 'b': Expected"
    ),
    "an unknown field": ({"speed": 3}, 400, "unknown field"),
    "nobody": ({"who": ""}, 400, "/who"),
    "what would move a terminal": ({"reason": "fine\x1b[2J"}, 400, "/reason"),
    "no name": ({"name": "No Name"}, 409, "is no name"),
    "one variant": ({"variants": CLOSER["variants"][:1]}, 400, "variants"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_experiments_that_cannot_be_are_refused_and_change_nothing(
    breakable_store: BreakableStore, tmp_path: Path, case: str
) -> None:
    fields, status, said = REFUSED[case]
    async with shop(breakable_store.url, tmp_path) as (client, table):
        answer = await client.post("/v1/experiments", json={**CLOSER, **fields})
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert said in answer.json()["detail"]
        assert (await table.demand()).experiments == ()


async def test_what_is_not_there_twice_or_in_another_state_is_refused(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    async with shop(breakable_store.url, tmp_path) as (client, table):
        for path in ("further:start", "further:stop"):
            assert (await client.post(f"/v1/experiments/{path}", json=WHY)).status_code == 404
        assert (await client.get("/v1/experiments/further/report")).status_code == 404
        await client.post("/v1/experiments", json=CLOSER)
        again = await client.post("/v1/experiments", json=CLOSER)
        assert (again.status_code, "already" in again.json()["detail"]) == (409, True)
        idle = [await client.post("/v1/experiments/closer:stop", json=WHY) for _ in range(2)]
        assert [one.status_code for one in idle] == [200, 409]
        assert "is stopped already" in idle[1].json()["detail"]
        assert (await client.post("/v1/experiments", json=CLOSER)).status_code == 200  # it never ran: its name is free
        assert (await client.post("/v1/experiments", json={**CLOSER, "name": "idle"})).status_code == 200
        alike = await client.post("/v1/experiments/idle:start", json=WHY)
        assert (alike.status_code, alike.json()["detail"]) == (409, "they make the same lists")
        assert (await table.demand()).experiment("idle").state == "draft"
        await client.post("/v1/experiments/closer:start", json=WHY)
        other = {**CLOSER, "name": "other", "layer": "other"}
        await client.post("/v1/experiments", json=other)
        both = await client.post("/v1/experiments/other:start", json=WHY)
        assert (both.status_code, "would both change diversity" in both.json()["detail"]) == (409, True)
        breakable_store.end()
        assert (await client.get("/v1/experiments")).status_code == 503
        assert (await client.get("/v1/experiments/closer/report")).status_code == 503


async def test_a_report_that_cannot_be_read_or_asked_for_is_a_503(
    breakable_store: BreakableStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RoundTrips(breakable_store.url, timeout_ms=3000, connections=1)

    async def dead(_: str) -> Reported:
        raise RuntimeError("the actor died")

    live = LiveExperiments(store, Settings(home=str(tmp_path)), resolve, dead, dead)
    draft = experiment("described", state="draft")
    with pytest.raises(Exception, match="does not report: RuntimeError"):
        await live.report("closer")
    await TrafficTable(store).begin(A, who="t", reason="r")
    await TrafficTable(store).change(lambda now: changes.with_experiment(now, draft), who="t", reason="r")
    with pytest.raises(StoreUnavailable, match="the controller tries nothing: RuntimeError"):
        await live.start("described", ExperimentChange(who="t", reason="r"))
    running = experiment(started="2026-06-01T00:00:00+00:00")
    await TrafficTable(store).change(lambda now: changes.with_experiment(now, running), who="t", reason="r")
    reader = outcome_reader(Settings(home=str(tmp_path)), store)

    async def damaged(*_: object, **__: object) -> None:
        raise ArchiveError("a file is damaged")

    monkeypatch.setattr(reader, "read", damaged)
    found = await reported(TrafficTable(store), reader, "closer")
    assert isinstance(found.error, RecordsUnavailable)
    await store.close()


async def test_what_the_controller_refuses_is_an_answer(breakable_store: BreakableStore, tmp_path: Path) -> None:
    def damaged(_: str) -> Any:
        raise BundleError("ranker.cbm is damaged")

    store = RoundTrips(breakable_store.url, timeout_ms=3000, connections=1)
    settings = Settings(home=str(tmp_path))
    table = TrafficTable(store)
    await table.begin(A, who="t", reason="r")
    await table.change(lambda now: changes.with_experiment(now, experiment(state="draft")), who="t", reason="r")
    await table.change(
        lambda now: changes.with_experiment(now, experiment("wanted", state="draft", same=True)), who="t", reason="r"
    )
    records = DecisionRecords(DecisionStream(store), decision_archive(settings))
    rehearsal = Rehearsal(settings, store, records, damaged)
    assert await rehearsed(table, rehearsal, "wanted") is None
    for name, why in (("closer", "ranker.cbm is damaged"), ("nobody", "no experiment 'nobody'")):
        refused = await rehearsed(table, rehearsal, name)
        assert isinstance(refused, TrafficConflict)
        assert why in str(refused)
    breakable_store.end()
    assert isinstance(await rehearsed(table, rehearsal, "closer"), StoreUnavailable)
    await store.close()


@asynccontextmanager
async def guard_at(
    url: str, home: Path, *experiments: Experiment
) -> AsyncIterator[tuple[ExperimentGuard, TrafficTable]]:
    store = RoundTrips(url, timeout_ms=3000, connections=1)
    table = TrafficTable(store)
    try:
        await table.begin(A, who="test", reason="first")
        for one in experiments:
            await table.change(lambda now, one=one: changes.with_experiment(now, one), who="ann", reason="try")  # type: ignore[misc]
        outcomes: OutcomeReader = outcome_reader(Settings(home=str(home)), store)
        yield ExperimentGuard(store, outcomes, Lease(store, LEASE_KEY)), table
    finally:
        await store.close()


def arrivals(world: World, name: str, counts: tuple[int, int], *, first: int = 0) -> None:
    """Users of both variants, one list each."""
    pairs = [(variant, n) for variant, count in zip(("control", "b"), counts, strict=True) for n in range(count)]
    world.answer(
        *(
            record(f"{name}-{variant}-{first + n}", variant, START_MS + first * 10 + place, variants={name: variant})
            for place, (variant, n) in enumerate(pairs)
        )
    )


async def test_an_experiment_that_loses_users_of_one_side_is_halted_with_the_numbers_and_others_are_not(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    world = World(breakable_store.url, tmp_path)
    began = "2026-06-01T00:00:00+00:00"
    lost, kept = (experiment(name, share=5000, started=began) for name in ("lost", "kept"))
    arms = [Arm(), Arm(candidates=50)]
    drafting = experiment("mix", layer="other", arms=arms, kind="interleaving", started=began)
    arrivals(world, "lost", (300, 295))
    arrivals(world, "kept", (305, 290), first=1000)
    async with guard_at(breakable_store.url, tmp_path, lost, kept, drafting) as (guard, table):
        assert await guard.step() is None
        arrivals(world, "lost", (320, 150), first=2000)
        said = await guard.step() or ""
        assert said.startswith("experiment lost is halted: 620 users of control (50 %), 445 users of b (50 %)")
        now = await table.demand()
        assert {one.name: one.state for one in now.experiments} == {
            "lost": "stopped", "kept": "running", "mix": "running",
        }  # fmt: skip
        assert now.experiment("lost").stopped
        assert (now.who, now.reason) == ("experiment guard", said)
        assert await guard.step() is None
    async with guard_at(breakable_store.url, tmp_path) as (second, _):
        assert await second.step() is None  # the first one's lease holds


async def test_what_was_changed_while_it_was_looked_at_stays_as_it_is(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    arrivals(World(breakable_store.url, tmp_path), "closer", (500, 100))
    one = experiment(started="2026-06-01T00:00:00+00:00")
    async with guard_at(breakable_store.url, tmp_path, one) as (guard, table):
        stale = msgspec.structs.replace(one, share=5000)
        assert await guard._look(stale)
        assert (await table.demand()).experiment("closer") == msgspec.structs.replace(one, slots=((0, 10_000),))
        await asyncio.sleep(0)
        assert "is halted" in (await guard.step() or "")

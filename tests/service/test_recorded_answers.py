"""Earlier answers over HTTP: shown as they were served, made again beside the service, never in its way."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from dataclasses import replace as changed
from typing import Any, cast

import httpx
import msgspec
import numpy as np
import pytest
import redis

from recsys.errors import RegistryError
from recsys.types import World
from service.archives import decision_archive
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.decisions import STREAM, Decision, DecisionLog
from service.gateway import Gateway
from service.http import HttpEdge
from service.record_schemas import RecordedAnswer, Replay
from service.recorded_answers import RECENT, RecordedAnswers
from service.round_trips import RoundTrips
from service.settings import Settings
from service.state_keys import live_key, live_name, state_key
from tests.service.conftest import BreakableStore
from tests.service.gateways import colocated

pytestmark = pytest.mark.valkey

RECOMMEND = "/v1/recommendations"


@dataclass
class Service:
    """A gateway behind its edge that records into a store, and a client of it."""

    client: httpx.AsyncClient
    log: DecisionLog

    async def ask(self, **body: Any) -> dict[str, Any]:
        """A list, on record."""
        answer = await self.client.post(RECOMMEND, json=body)
        assert answer.status_code == 200, answer.text
        await self.log.flush()
        return answer.json()

    async def show(self, identity: str) -> httpx.Response:
        return await self.client.get(f"{RECOMMEND}/{identity}")

    async def replay(self, identity: str) -> httpx.Response:
        return await self.client.post(f"{RECOMMEND}/{identity}:replay")


@asynccontextmanager
async def service(
    world: World,
    states_url: str,
    url: str,
    world_of: Callable[[Decision], World] | None = None,
    home: str = "a home without an archive",
) -> AsyncIterator[Service]:
    """`world_of` gives the worlds of replays; without it, the one in service."""
    written, read = (RoundTrips(url, timeout_ms=2000, connections=1) for _ in range(2))
    log = DecisionLog(written, queue=100, stream_length=1000)
    records = DecisionRecords(DecisionStream(read), decision_archive(Settings(home=home)))
    recorded = RecordedAnswers(world.bundle.vocabulary, records, world_of or (lambda _: world))
    try:
        async with colocated(states_url) as stages:
            gateway = Gateway(world, stages, log, Settings(deadline_ms=10_000))
            nobody = cast(Any, None)
            transport = httpx.ASGITransport(app=HttpEdge(gateway, nobody, recorded, *[nobody] * 4))
            async with httpx.AsyncClient(transport=transport, base_url="http://riffle") as client:
                yield Service(client, log)
    finally:
        await written.close()
        await read.close()


async def test_record_shows_what_was_served_and_what_was_known(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    async with service(served, store_url, breakable_store.url) as here:
        body = await here.ask(user_id="user-0003", count=7, context={"device": "tv"})
        response = await here.show(body["recommendation_id"])
    assert response.headers["cache-control"] == "no-store"
    shown = msgspec.json.decode(response.content, type=RecordedAnswer)
    assert [(one.rank, one.item_id, one.score) for one in shown.items] == [
        (one["rank"], one["item_id"], one["score"]) for one in body["items"]
    ]
    assert (shown.bundle, shown.timing_ms, shown.degraded) == (body["bundle"], body["timing_ms"], [])
    assert shown.item_stats == served.item_stats.version
    assert (shown.query["user_id"], shown.query["context"]) == ("user-0003", {"device": "tv"})
    assert 7 < shown.ranked <= served.candidates
    state = shown.user_state
    assert state
    assert not state.problem
    assert sum(shown.removed.values()) == shown.removed["seen"] > 0
    assert len(state.recent) == min(RECENT, state.interactions)
    assert [one.time for one in state.recent] == sorted((one.time for one in state.recent), reverse=True)
    assert all(one.item_id in served.bundle.vocabulary.item_id.tolist() for one in state.recent)
    assert shown.time.endswith("Z")


async def test_stranger_has_no_state_and_one_that_does_not_decode_says_why(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    with redis.Redis.from_url(store_url) as server:
        server.set(state_key(live_name(server.get(live_key())), "user of rubbish"), b"rubbish")
    async with service(served, store_url, breakable_store.url) as here:
        stranger = (await here.show((await here.ask(user_id="nobody"))["recommendation_id"])).json()
        broken = (await here.show((await here.ask(user_id="user of rubbish"))["recommendation_id"])).json()
    assert "user_state" not in stranger
    assert broken["user_state"] == {"bytes": 7, "problem": "not a user state: 7 bytes starting b'rubb'"}
    assert broken["degraded"][0]["cause"] == "undecodable_state"


async def test_replay_is_identical_and_of_another_model_names_stage_and_first_place(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    ranker = served.bundle.ranker
    assert ranker is not None
    linear = changed(ranker.linear, plain=-ranker.linear.plain, root=-ranker.linear.root)
    trees = changed(ranker.trees, leaf=-ranker.trees.leaf)
    opposite = changed(ranker, linear=linear, trees=trees)
    upside_down = changed(served, bundle=changed(served.bundle, ranker=opposite))
    worlds = iter([served, upside_down])
    async with service(served, store_url, breakable_store.url, lambda _: next(worlds)) as here:
        body = await here.ask(user_id="user-0003")
        same, other = [await here.replay(body["recommendation_id"]) for _ in range(2)]
    assert same.json() == {
        "recommendation_id": body["recommendation_id"],
        "outcome": "identical",
        "features": [],
        "detail": "",
    }
    verdict = msgspec.json.decode(other.content, type=Replay)
    assert (verdict.outcome, verdict.stage) == ("different", "ranking")
    assert verdict.served
    assert verdict.now
    first = verdict.served.place
    assert first
    assert (first.item_id, first.score) == tuple(body["items"][first.rank - 1][key] for key in ("item_id", "score"))
    assert verdict.now.place != first


async def test_record_whose_bundle_is_gone_says_so(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    def gone(_: Decision) -> World:
        raise RegistryError("no bundle 'x'")

    async with service(served, store_url, breakable_store.url, gone) as here:
        verdict = (await here.replay((await here.ask(user_id="nobody"))["recommendation_id"])).json()
    assert (verdict["outcome"], verdict["detail"]) == ("not_replayable", "no bundle 'x'")


@pytest.mark.parametrize("identity", ["seven", "a%2Fb", "019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11", "%00", "%ff"])
async def test_unknown_and_malformed_ids_are_404(
    served: World, store_url: str, breakable_store: BreakableStore, identity: str
) -> None:
    async with service(served, store_url, breakable_store.url) as here:
        for response in (await here.show(identity), await here.replay(identity)):
            assert (response.status_code, response.json()["type"]) == (404, "urn:riffle:problem:not-found")


async def test_dead_store_is_503_with_a_time_to_retry(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    async with service(served, store_url, breakable_store.url) as here:
        identity = (await here.ask(user_id="nobody"))["recommendation_id"]
        breakable_store.end()
        for response in (await here.show(identity), await here.replay(identity)):
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            assert response.json()["type"] == "urn:riffle:problem:records-unavailable"


async def test_one_replay_at_a_time_others_are_shed_and_lists_go_on(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(_: Decision) -> World:
        entered.set()
        assert go_on.wait(30)
        return served

    async with service(served, store_url, breakable_store.url, slow) as here:
        identity = (await here.ask(user_id="user-0003"))["recommendation_id"]
        first = asyncio.create_task(here.replay(identity))
        try:
            while not entered.is_set():
                await asyncio.sleep(0.01)
            refused = await here.replay(identity)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert (await here.ask(user_id="user-0004"))["degraded"] == []
            assert (await here.show(identity)).status_code == 200
            assert not first.done()
        finally:
            go_on.set()
        assert (await first).json()["outcome"] == "identical"
        assert (await here.replay(identity)).status_code == 200


async def test_one_record_is_read_at_a_time_and_others_are_shed(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    async with service(served, store_url, breakable_store.url) as here:
        identity = (await here.ask(user_id="user-0003"))["recommendation_id"]
        statuses = [response.status_code for response in await asyncio.gather(*(here.show(identity) for _ in range(5)))]
        assert sorted(statuses) == [200, 429, 429, 429, 429]
        assert (await here.show(identity)).status_code == 200


async def test_every_answer_of_a_busy_gateway_is_identical_when_asked_for(
    served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    users = [f"user-{number:04d}" for number in np.random.default_rng(2).integers(0, 120, 30)]
    async with service(served, store_url, breakable_store.url) as here:
        bodies = await asyncio.gather(*(here.ask(user_id=user) for user in users))
        with redis.Redis.from_url(breakable_store.url) as server:
            assert server.xlen(STREAM) == len(users)
        for body in bodies:
            assert (await here.replay(body["recommendation_id"])).json()["outcome"] == "identical"

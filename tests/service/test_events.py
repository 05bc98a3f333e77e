"""`POST /v1/events` through the edge into a real log, and from there into the next list."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest
import redis

from recsys.types import World
from recsys.verbs import IS_POSITIVE, WEIGHT, Verb
from service.archived_streams import EventStreams
from service.archiver import Archiver
from service.archives import event_archive
from service.event_log import Event, EventLog, stream_key
from service.events import EventIntake
from service.forgetting import Forgetting
from service.gateway import Gateway
from service.http import HttpEdge
from service.lookup import StateLookup
from service.merging import Merging
from service.round_trips import RoundTrips
from service.schemas import EventsResponse
from service.settings import Settings
from service.stages import ColocatedStages
from service.state_keys import SHARDS
from service.updater import Updater
from tests.service.conftest import BreakableStore
from tests.service.gateways import KeptDecisions

pytestmark = pytest.mark.valkey


@asynccontextmanager
async def api(world: World, url: str, **given: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Updater]]:
    """A client of the whole edge, and the updater of its store."""
    settings = Settings(**{"deadline_ms": 10_000, **given})
    store = RoundTrips(url, timeout_ms=3000, connections=4)
    try:
        gateway = Gateway(world, ColocatedStages(StateLookup(store)), KeptDecisions(), settings)
        log = EventLog(store, limit=settings.event_limit)
        intake = EventIntake(log, world.bundle.vocabulary, settings)
        merging, nobody = Merging(store, log, world.bundle.vocabulary), cast(Any, None)
        edge = HttpEdge(gateway, intake, nobody, nobody, merging, Forgetting(store, refuse_s=60), nobody)
        transport = httpx.ASGITransport(app=edge)
        async with httpx.AsyncClient(transport=transport, base_url="http://riffle") as client:
            yield client, Updater(store)
    finally:
        await store.close()


def row(world: World, **given: object) -> dict[str, Any]:
    plain = {"event_id": "e1", "type": "click", "user_id": "ann", "item_id": world.bundle.vocabulary.item_id[3]}
    return {**plain, "ts": datetime.now(UTC).isoformat(), **given}


async def send(client: httpx.AsyncClient, *rows: dict[str, Any]) -> dict[str, Any]:
    response = await client.post("/v1/events", json={"events": rows})
    assert response.status_code == 200, response.text
    msgspec.convert(response.json(), EventsResponse)
    return response.json()


def logged(url: str) -> list[Event]:
    with redis.Redis.from_url(url) as server:
        entries = [one for number in range(SHARDS) for one in server.xrange(stream_key(number))]
    return [msgspec.msgpack.decode(fields[b"e"], type=Event) for _, fields in entries]


async def test_acknowledged_event_is_in_the_log_as_sent(served: World, breakable_store: BreakableStore) -> None:
    sent = row(
        served, type="rating", value=2.0, position=3, recommendation_id="r-1", properties={"device": "tv", "n": 1},
        ts="2026-11-23T12:00:00.250+02:00",
    )  # fmt: skip
    async with api(served, breakable_store.url, event_late_s=10**9) as (client, _):
        before_ms = time.time_ns() // 1_000_000
        assert await send(client, sent) == {
            "accepted": 1,
            "refused": 0,
            "results": [{"event_id": "e1", "status": 202}],
        }
    (event,) = logged(breakable_store.url)
    noon_ms = int(datetime(2026, 11, 23, 10, tzinfo=UTC).timestamp() * 1000)
    assert (event.ts_ms, event.verb) == (noon_ms + 250, Verb.RATING)
    assert before_ms <= event.received_ms <= time.time_ns() // 1_000_000
    for name in ("event_id", "type", "user_id", "item_id", "recommendation_id", "position", "value", "properties"):
        assert getattr(event, name) == sent[name]


@pytest.mark.parametrize(
    ("kind", "value", "verb"),
    [
        ("impression", None, 0), ("view", None, Verb.VIEW), ("click", None, Verb.CLICK), ("like", None, Verb.LIKE),
        ("purchase", 9.99, Verb.PURCHASE), ("hide", None, Verb.HIDE), ("rating", 3.9, Verb.RATING),
        ("rating", 4.0, Verb.LIKE),
    ],
)  # fmt: skip
async def test_types_become_the_verbs_of_the_import(
    served: World, breakable_store: BreakableStore, kind: str, value: float | None, verb: int
) -> None:
    async with api(served, breakable_store.url) as (client, _):
        await send(client, row(served, type=kind, value=value))
    assert [event.verb for event in logged(breakable_store.url)] == [verb]


async def test_verbs_of_ones_own_are_logged_with_what_they_weigh_and_others_are_refused_in_their_row(
    served: World, breakable_store: BreakableStore
) -> None:
    own = {"add_to_cart": 3.0, "skip": 0.0}
    rows = [row(served, event_id=name, type=name) for name in (*own, "share", "merged")]
    async with api(served, breakable_store.url, verbs=own) as (client, _):
        results = (await send(client, *rows))["results"]
    assert [result["status"] for result in results] == [202, 202, 422, 422]
    error = results[2]["error"]
    assert (error["pointer"], error["code"]) == ("/events/2/type", "unknown_type")
    assert error["detail"].endswith("rating, hide, add_to_cart, skip")
    in_log = {event.type: event.verb for event in logged(breakable_store.url)}
    assert {name: (WEIGHT[verb], bool(IS_POSITIVE[verb])) for name, verb in in_log.items()} == {
        "add_to_cart": (3, True),
        "skip": (0, False),
    }


async def test_same_event_again_is_answered_the_same_and_another_body_is_a_conflict_of_its_row(
    served: World, breakable_store: BreakableStore
) -> None:
    first, other = row(served), row(served, event_id="e2")
    async with api(served, breakable_store.url) as (client, _):
        answer = await send(client, first)
        assert await send(client, first) == answer
        mixed = await send(client, other, {**first, "user_id": "bob"})
    assert [result["status"] for result in mixed["results"]] == [202, 409]
    error = mixed["results"][1]["error"]
    assert (error["pointer"], error["code"]) == ("/events/1/event_id", "conflict")
    assert (mixed["accepted"], mixed["refused"]) == (1, 1)
    assert sorted(event.event_id for event in logged(breakable_store.url)) == ["e1", "e2"]


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"item_id": "nothing like it"}, "/events/1/item_id", "unknown_item"),
        ({"type": "rating"}, "/events/1/value", "missing"),
        ({"ts": (datetime.now(UTC) - timedelta(days=8)).isoformat()}, "/events/1/ts", "too_late"),
        ({"ts": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, "/events/1/ts", "too_early"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_row_that_is_not_acceptable_is_refused_alone(
    served: World, breakable_store: BreakableStore, change: dict[str, Any], pointer: str, code: str
) -> None:
    async with api(served, breakable_store.url) as (client, _):
        answer = await send(client, row(served), row(served, event_id="e2", **change), row(served, event_id="e3"))
    assert [result["status"] for result in answer["results"]] == [202, 422, 202]
    error = answer["results"][1]["error"]
    assert (error["pointer"], error["code"]) == (pointer, code)
    assert sorted(event.event_id for event in logged(breakable_store.url)) == ["e1", "e3"]


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"event_id": ""}, "/events/1/event_id", "length"),
        ({"event_id": "\0"}, "/events/1/event_id", "character"),
        ({"user_id": "é" * 200}, "/events/1/user_id", "length"),
        ({"item_id": 7}, "/events/1/item_id", "type"),
        ({"type": ""}, "/events/1/type", "length"),
        ({"ts": "yesterday"}, "/events/1/ts", "timestamp"),
        ({"ts": "2026-11-23T12:00:00"}, "/events/1/ts", "timestamp"),
        ({"ts": 1_700_000_000}, "/events/1/ts", "type"),
        ({"position": 0}, "/events/1/position", "range"),
        ({"value": "4"}, "/events/1/value", "type"),
        ({"properties": {"a": [1]}}, "/events/1/properties", "type"),
        ({"colour": "red"}, "/events/1/colour", "unknown_field"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_malformed_row_refuses_the_whole_and_is_pointed_at(
    served: World, breakable_store: BreakableStore, change: dict[str, Any], pointer: str, code: str
) -> None:
    async with api(served, breakable_store.url) as (client, _):
        response = await client.post("/v1/events", json={"events": [row(served), row(served, **change)]})
    assert response.status_code == 400, response.text
    assert [(error["pointer"], error["code"]) for error in response.json()["errors"]] == [(pointer, code)]
    assert logged(breakable_store.url) == []


@pytest.mark.parametrize("number", [0, 1001])
async def test_no_event_and_too_many_are_refused(served: World, breakable_store: BreakableStore, number: int) -> None:
    rows = [row(served, event_id=str(i)) for i in range(number)]
    async with api(served, breakable_store.url) as (client, _):
        response = await client.post("/v1/events", json={"events": rows})
    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == "/events"


async def test_thousand_events_at_once_are_taken(served: World, breakable_store: BreakableStore) -> None:
    async with api(served, breakable_store.url) as (client, _):
        answer = await send(client, *(row(served, event_id=str(i), user_id=f"u{i % 97}") for i in range(1000)))
    assert answer["accepted"] == len(logged(breakable_store.url)) == 1000


async def test_full_log_is_a_429_with_retry_after(
    served: World, breakable_store: BreakableStore, tmp_path: Path
) -> None:
    archive, store = (
        event_archive(Settings(home=str(tmp_path))),
        RoundTrips(breakable_store.url, timeout_ms=3000, connections=1),
    )
    archiver = Archiver(store, archive, EventStreams(store, kept=50))
    async with api(served, breakable_store.url, event_limit=100, event_kept=50) as (client, updater):
        rows = [row(served, event_id=str(i)) for i in range(101)]
        response = await client.post("/v1/events", json={"events": rows})
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        while await updater.step(block_ms=1):
            pass
        await archiver.step()
        answer = await send(client, *rows)  # updater and archiver have caught up and let go
    await store.close()
    assert answer["accepted"] == 101


async def test_log_that_is_down_is_a_503_with_retry_after(served: World, breakable_store: BreakableStore) -> None:
    async with api(served, breakable_store.url) as (client, _):
        breakable_store.end()
        response = await client.post("/v1/events", json={"events": [row(served)]})
    assert response.status_code == 503
    assert response.json()["type"] == "urn:riffle:problem:log-unavailable"
    assert "retry-after" in response.headers


async def test_click_changes_the_next_list_and_the_clicked_item_is_gone_from_it(
    served: World, breakable_store: BreakableStore
) -> None:
    async with api(served, breakable_store.url) as (client, updater):
        before = (await client.post("/v1/recommendations", json={"user_id": "ann"})).json()
        assert before["strategy"] == "cold_start"
        clicked = before["items"][0]["item_id"]
        await send(client, row(served, item_id=clicked))
        await updater.step(block_ms=1)
        after = (await client.post("/v1/recommendations", json={"user_id": "ann"})).json()
    assert after["strategy"] == "personalized"
    assert clicked not in [item["item_id"] for item in after["items"]]
    assert [item["item_id"] for item in after["items"]] != [item["item_id"] for item in before["items"]]


async def test_impression_leaves_the_list_as_it_is(served: World, breakable_store: BreakableStore) -> None:
    async with api(served, breakable_store.url) as (client, updater):
        before = (await client.post("/v1/recommendations", json={"user_id": "ann"})).json()
        await send(client, row(served, item_id=before["items"][0]["item_id"], type="impression"))
        assert await updater.step(block_ms=1) == 1
        after = (await client.post("/v1/recommendations", json={"user_id": "ann"})).json()
    assert [item["item_id"] for item in after["items"]] == [item["item_id"] for item in before["items"]]

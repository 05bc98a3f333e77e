"""What one user did given to another, through the edge and the real log."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.user import RING
from recsys.types import World
from recsys.verbs import Verb
from recsys.vocabulary import item_key, item_keys
from service.archives import event_archive
from service.item_history import ItemHistory
from service.item_snapshot import decode, snapshot_key
from service.item_updater import ItemUpdater
from service.rebuild import rebuild
from service.round_trips import RoundTrips
from service.settings import Settings
from service.state_keys import FIRST, live_key, live_name, shard, state_key
from tests.service.conftest import BreakableStore
from tests.service.test_events import api, logged, row, send
from tests.service.test_updater import catch_up

pytestmark = pytest.mark.valkey
VISITOR, USER = "session-1", "ann"


def ring_of(url: str, user: str) -> list[tuple[int, int]]:
    """Item keys and verbs, newest first."""
    with redis.Redis.from_url(url) as server:
        value: Any = server.get(state_key(live_name(server.get(live_key())), user))
    states, undecodable = unpack([value], SCHEMA_HASH)
    assert not undecodable
    length = states.length[0]
    return list(zip(states.item_key[0, :length].tolist(), states.verb[0, :length].tolist(), strict=True))


async def merge(client: httpx.AsyncClient, user: str = USER, given: str = VISITOR) -> httpx.Response:
    return await client.post(f"/v1/users/{user}:merge", json={"from_user_id": given})


async def visit(client: httpx.AsyncClient, world: World, *, first: int = 0, count: int = 3) -> None:
    items = [world.bundle.vocabulary.item_id[place % 40] for place in range(first, first + count)]
    rows = [
        row(world, event_id=f"e{first + n}", user_id=VISITOR, item_id=item, type="like" if n % 2 else "view")
        for n, item in enumerate(items)
    ]
    await send(client, *rows)


async def test_a_user_has_from_then_on_what_the_visitor_did(served: World, breakable_store: BreakableStore) -> None:
    url = breakable_store.url
    assert shard(VISITOR) != shard(USER)
    async with api(served, url) as (client, updater):
        await send(client, row(served, event_id="mine", item_id=served.bundle.vocabulary.item_id[30]))
        await visit(client, served)
        await catch_up(updater)
        answer = await merge(client)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"user_id": USER, "from_user_id": VISITOR, "merged": 3, "unknown_items": 0}
        await catch_up(updater)
        theirs = ring_of(url, VISITOR)
        assert ring_of(url, USER) == [*theirs, (item_key(served.bundle.vocabulary.item_id[30]), Verb.CLICK)]
        of_both = [
            await client.post("/v1/recommendations", json={"user_id": one, "count": 50}) for one in (USER, VISITOR)
        ]
    met = set(item_keys(served.bundle.vocabulary.item_id[place] for place in range(3)).tolist())
    for one in of_both:
        assert not met & set(item_keys(item["item_id"] for item in one.json()["items"]).tolist())
    copies = [event for event in logged(url) if event.user_id == USER and event.type == "merged"]
    originals = [event for event in logged(url) if event.user_id == VISITOR]
    assert [(one.item_id, one.verb, one.ts_ms // 1000) for one in copies] == [
        (one.item_id, one.verb, one.ts_ms // 1000) for one in originals
    ]
    assert VISITOR not in str(copies)


async def test_merging_again_adds_what_came_since_and_nothing_twice(
    served: World, breakable_store: BreakableStore
) -> None:
    async with api(served, breakable_store.url) as (client, updater):
        await visit(client, served)
        await catch_up(updater)
        assert [(await merge(client)).json()["merged"] for _ in range(2)] == [3, 0]
        await visit(client, served, first=3, count=2)
        await catch_up(updater)
        assert (await merge(client)).json()["merged"] == 2
        await catch_up(updater)
    assert len(ring_of(breakable_store.url, USER)) == 5


async def test_the_same_thing_done_twice_in_a_second_is_given_twice(
    served: World, breakable_store: BreakableStore
) -> None:
    async with api(served, breakable_store.url) as (client, updater):
        now = row(served, user_id=VISITOR)
        await send(client, now, {**now, "event_id": "e2"})
        await catch_up(updater)
        assert [(await merge(client)).json()["merged"] for _ in range(2)] == [2, 0]


async def test_the_newest_interactions_are_given_and_a_visitor_without_any_gives_none(
    served: World, breakable_store: BreakableStore
) -> None:
    async with api(served, breakable_store.url) as (client, updater):
        assert (await merge(client)).json()["merged"] == 0
        await visit(client, served, count=RING + 9)
        await catch_up(updater)
        assert (await merge(client)).json()["merged"] == RING
        await catch_up(updater)
    assert ring_of(breakable_store.url, USER) == ring_of(breakable_store.url, VISITOR)


async def test_events_acknowledged_before_are_merged_though_no_state_has_them_yet(
    served: World, breakable_store: BreakableStore
) -> None:
    async with api(served, breakable_store.url) as (client, updater):
        await visit(client, served)

        async def late() -> None:
            await asyncio.sleep(0.2)
            await catch_up(updater)

        answer, _ = await asyncio.gather(merge(client), late())
    assert answer.json()["merged"] == 3


async def test_states_that_stay_behind_are_a_503(served: World, breakable_store: BreakableStore) -> None:
    async with api(served, breakable_store.url) as (client, _):
        await visit(client, served)
        answer = await merge(client)
    assert answer.status_code == 503
    assert "behind the events" in answer.json()["detail"]


async def test_a_store_that_does_not_answer_is_a_503(served: World, breakable_store: BreakableStore) -> None:
    async with api(served, breakable_store.url) as (client, _):
        breakable_store.end()
        assert (await merge(client)).status_code == 503


async def test_a_state_that_does_not_decode_is_a_503(served: World, breakable_store: BreakableStore) -> None:
    with redis.Redis.from_url(breakable_store.url) as server:
        server.set(state_key(FIRST, VISITOR), b"no state")
    async with api(served, breakable_store.url) as (client, _):
        answer = await merge(client)
    assert answer.status_code == 503
    assert "cannot be read" in answer.json()["detail"]


async def test_a_user_cannot_be_merged_into_itself_nor_into_one_who_was_forgotten(
    served: World, breakable_store: BreakableStore
) -> None:
    async with api(served, breakable_store.url) as (client, updater):
        await visit(client, served)
        await catch_up(updater)
        itself = await merge(client, VISITOR, VISITOR)
        assert (await client.delete(f"/v1/users/{USER}")).status_code == 202
        forgotten = await merge(client)
        malformed = await client.post(f"/v1/users/{USER}:merge", json={"from_user_id": ""})
    assert (itself.status_code, itself.json()["errors"][0]["pointer"]) == (422, "/from_user_id")
    assert (forgotten.status_code, forgotten.json()["errors"][0]["code"]) == (422, "forgotten_user")
    assert (malformed.status_code, malformed.json()["errors"][0]["pointer"]) == (400, "/from_user_id")
    assert [event.user_id for event in logged(breakable_store.url)] == [VISITOR] * 3


async def test_items_that_are_no_longer_known_are_left_out_and_counted(
    served: World, tiny: World, breakable_store: BreakableStore
) -> None:
    async with api(served, breakable_store.url) as (client, updater):
        await visit(client, served)
        await catch_up(updater)
    async with api(tiny, breakable_store.url) as (client, _):
        answer = await merge(client)
    assert answer.json() == {"user_id": USER, "from_user_id": VISITOR, "merged": 0, "unknown_items": 3}


async def test_item_stats_count_what_was_merged_once(
    served: World, breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, archive = breakable_store.url, event_archive(Settings(home=str(tmp_path / "home")))
    await asyncio.to_thread(rebuild, url, None, archive)
    store = RoundTrips(url, timeout_ms=3000, connections=1)
    async with api(served, url) as (client, updater):
        await visit(client, served)
        await catch_up(updater)
        await merge(client)
        await catch_up(updater)
        await asyncio.sleep(0.01)  # a snapshot has what came before its millisecond
        while await ItemUpdater(store).step():
            pass
    await store.close()
    with redis.Redis.from_url(url) as server:
        live: Any = server.get(live_key())
        value: Any = server.get(snapshot_key(live.decode()))
        snapshot = decode(value)
        again = ItemHistory.read(server, None, 0, archive, snapshot.horizon_ms).at(snapshot.horizon_ms)
    for one in (snapshot, again):
        assert one.counts.interactions.sum() == 3

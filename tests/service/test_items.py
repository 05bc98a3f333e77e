"""Items described over HTTP: on record at once, in lists or out of them within a refresh."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest
import redis

from recsys.datasets.dataset import Dataset
from recsys.items import Item
from recsys.types import World
from service.archives import catalogue_beside
from service.event_log import EventLog
from service.events import EventIntake
from service.http import HttpEdge
from service.item_schemas import ItemsResponse, ItemState
from service.item_snapshot import CATALOGUE
from service.item_updater import ItemUpdater
from service.items import ITEMS, ItemCatalogue
from service.live_world import LiveWorld
from service.rebuild import rebuild
from service.round_trips import RoundTrips
from service.settings import Settings
from tests.service.conftest import BreakableStore
from tests.service.test_archived_streams import catalogue_archiver_at
from tests.service.test_archiver import archive_in
from tests.service.test_item_updater import settle
from tests.service.test_live_world import gateway_of

pytestmark = pytest.mark.valkey
NEW = "brand new"


class Api:
    """A client of the whole edge over a store, and what follows that store."""

    def __init__(self, client: httpx.AsyncClient, live: LiveWorld, updater: ItemUpdater) -> None:
        self.client, self._live, self._updater = client, live, updater

    async def follow(self) -> None:
        """What happens twice a second."""
        await settle(self._updater)
        await self._live.refresh()

    async def ok(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        response = await self.client.request(method, path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    async def listed(self, user: str = "user-0007", count: int = 500, **more: Any) -> list[str]:
        body = await self.ok("POST", "/v1/recommendations", {"user_id": user, "count": count, **more})
        assert body["degraded"] == []
        return [item["item_id"] for item in body["items"]]


@asynccontextmanager
async def api(world: World, url: str, **given: Any) -> AsyncIterator[Api]:
    store = RoundTrips(url, timeout_ms=5000, connections=4)
    settings = Settings(deadline_ms=10_000, **given)
    try:
        live, updater = LiveWorld(world, store), ItemUpdater(store)
        await live.refresh()
        gateway = gateway_of(live, explore=given.get("explore", 0.0))
        intake = EventIntake(EventLog(store, limit=1000), world.bundle.vocabulary, settings)
        live.follow(lambda newer: intake.know(newer.bundle.vocabulary))
        catalogue = ItemCatalogue(store, world.bundle.vocabulary, limit=settings.catalogue_limit)
        nobody = cast(Any, None)
        edge = HttpEdge(gateway, intake, nobody, catalogue, nobody, nobody, nobody)
        transport = httpx.ASGITransport(app=edge)
        async with httpx.AsyncClient(transport=transport, base_url="http://riffle") as client:
            yield Api(client, live, updater)
    finally:
        await store.close()


@pytest.fixture
def filled(breakable_store: BreakableStore, synthetic_dataset: Dataset, tmp_path: Path) -> BreakableStore:
    rebuild(breakable_store.url, synthetic_dataset, archive_in(tmp_path))
    return breakable_store


def in_catalogue(url: str) -> list[tuple[str, Item]]:
    with redis.Redis.from_url(url) as server:
        entries = server.xrange(CATALOGUE)
        for _, fields in entries:
            assert server.hget(ITEMS, fields[b"id"])
        return [(fields[b"id"].decode(), msgspec.msgpack.decode(fields[b"item"], type=Item)) for _, fields in entries]


async def test_an_item_goes_out_of_all_lists_and_comes_back(served: World, filled: BreakableStore) -> None:
    async with api(served, filled.url) as one:
        item_id = (await one.listed(count=5))[0]
        state = await one.ok("PATCH", f"/v1/items/{item_id}", {"available": False})
        msgspec.convert(state, ItemState)
        await one.follow()
        assert item_id not in await one.listed()
        assert item_id not in await one.listed("nobody")
        await one.ok("PATCH", f"/v1/items/{item_id}", {"available": True})
        await one.follow()
        assert (await one.listed(count=5))[0] == item_id
        await one.ok("DELETE", f"/v1/items/{item_id}")
        await one.follow()
        assert item_id not in await one.listed()


async def test_publishing_and_expiry_hold_to_their_moments(served: World, filled: BreakableStore) -> None:
    async with api(served, filled.url) as one:
        first, second = (await one.listed(count=5))[:2]
        soon = (datetime.now(UTC) + timedelta(seconds=0.6)).isoformat()
        await one.ok("PATCH", f"/v1/items/{first}", {"expires_at": soon})
        await one.ok("PATCH", f"/v1/items/{second}", {"publish_at": soon})
        await one.follow()
        now = await one.listed()
        assert (first in now, second in now) == (True, False)
        await asyncio.sleep(0.7)
        await one.follow()
        now = await one.listed()
        assert (first in now, second in now) == (False, True)


async def test_a_new_item_is_listed_before_any_training_and_takes_events(served: World, filled: BreakableStore) -> None:
    async with api(served, filled.url, explore=1.0) as one:
        category = served.bundle.category_name[0]
        event = {"event_id": "e", "type": "like", "user_id": "ann", "item_id": NEW, "ts": datetime.now(UTC).isoformat()}
        refused = await one.ok("POST", "/v1/events", {"events": [event]})
        assert refused["results"][0]["error"]["code"] == "unknown_item"
        await one.ok("PUT", f"/v1/items/{NEW}", {"title": "Brand New", "categories": [category]})
        await one.follow()
        body = await one.ok(
            "POST", "/v1/recommendations", {"user_id": "user-0003", "count": 10, "return": {"reasons": True}}
        )
        last = body["items"][-1]
        assert (last["item_id"], last["rank"], last["propensity"]) == (NEW, 10, 1.0)
        assert "new" in last["sources"]
        assert "new" in last["reasons"]
        assert last["metadata"] == {"title": "Brand New", "categories": [category]}
        assert all("propensity" not in item for item in body["items"][:-1])
        assert (await one.ok("POST", "/v1/events", {"events": [event]}))["accepted"] == 1
        filtered = await one.listed("nobody", filter={"categories": {"any": [category]}})
        assert NEW in filtered


async def test_metadata_of_a_known_item_is_replaced_in_answers(served: World, filled: BreakableStore) -> None:
    async with api(served, filled.url) as one:
        item_id = (await one.listed(count=5))[0]
        await one.ok("PUT", f"/v1/items/{item_id}", {"title": "Renamed", "categories": ["another shelf"]})
        await one.follow()
        body = await one.ok("POST", "/v1/recommendations", {"user_id": "user-0007", "count": 500})
        shown = {item["item_id"]: item["metadata"] for item in body["items"]}
        assert shown[item_id] == {"title": "Renamed", "categories": ["another shelf"]}
        assert await one.listed(filter={"categories": {"any": ["another shelf"]}}) == [item_id]


async def test_an_item_is_shown_as_it_was_described(served: World, filled: BreakableStore) -> None:
    async with api(served, filled.url) as one:
        assert (await one.client.get(f"/v1/items/{NEW}")).status_code == 404
        known = served.bundle.vocabulary.item_id[0]
        assert (await one.ok("GET", f"/v1/items/{known}"))["available"]
        put = {"title": "T", "categories": ["a", "b"], "available": False, "publish_at": "2026-01-01T02:00:00+02:00"}
        state = await one.ok("PUT", "/v1/items/a%2Fb", put)
        assert state == await one.ok("GET", "/v1/items/a%2Fb")
        assert state["item_id"] == "a/b"
        assert state["publish_at"] == "2026-01-01T00:00:00Z"
        patched = await one.ok("PATCH", "/v1/items/a%2Fb", {"available": True, "publish_at": None})
        assert patched == {**state, "available": True, "publish_at": None}
        for _ in range(2):
            assert (await one.ok("DELETE", "/v1/items/a%2Fb"))["deleted"]
        assert (await one.client.get("/v1/items/a%2Fb")).status_code == 404
        assert (await one.client.patch("/v1/items/a%2Fb", json={"available": True})).status_code == 404
        assert not (await one.ok("PUT", "/v1/items/a%2Fb", {}))["deleted"]
        assert [item_id for item_id, _ in in_catalogue(filled.url)] == ["a/b"] * 5


async def test_many_items_are_described_together_or_not_at_all(served: World, filled: BreakableStore) -> None:
    async with api(served, filled.url) as one:
        rows = [{"item_id": f"i{n}", "title": f"T{n}", "categories": ["x"]} for n in range(1000)]
        answer = await one.ok("POST", "/v1/items:batch", {"items": rows})
        assert msgspec.convert(answer, ItemsResponse).accepted == 1000
        assert len(in_catalogue(filled.url)) == 1000
        await one.follow()
        assert len(set(await one.listed("nobody", filter={"categories": {"any": ["x"]}}))) == 500
        for refused, pointer in (
            ([*rows[:1], {**rows[1], "title": ""}], "/items/1/title"),
            ([rows[0], rows[1], rows[0]], "/items/2/item_id"),
            ([{**rows[0], "item_id": "a\0b"}], "/items/0/item_id"),
            ([], "/items"),
        ):
            response = await one.client.post("/v1/items:batch", json={"items": refused})
            assert response.status_code == 400
            assert response.json()["errors"][0]["pointer"] == pointer
        assert len(in_catalogue(filled.url)) == 1000


@pytest.mark.parametrize(
    ("method", "body", "pointer"),
    [
        ("PUT", {"title": 3}, "/title"),
        ("PUT", {"colour": "red"}, "/colour"),
        ("PUT", {"publish_at": "2026-01-01T00:00:00"}, "/publish_at"),
        ("PUT", {"categories": ["x"] * 51}, "/categories"),
        ("PATCH", {"available": None}, "/available"),
        ("PATCH", {"expires_at": "tomorrow"}, "/expires_at"),
    ],
)
async def test_a_malformed_description_is_refused_with_the_field(
    served: World, filled: BreakableStore, method: str, body: dict[str, Any], pointer: str
) -> None:
    async with api(served, filled.url) as one:
        response = await one.client.request(method, "/v1/items/x", json=body)
        assert response.status_code == 400
        assert response.json()["errors"][0]["pointer"] == pointer
        long = await one.client.put("/v1/items/" + "x" * 257, json={})
        assert long.status_code == 400
        assert in_catalogue(filled.url) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "pointer"),
    [
        ("PUT", "/v1/items/x", {"publish_at": "2030-01-02T00:00:00Z", "expires_at": "2030-01-01T00:00:00Z"}, ""),
        ("PUT", "/v1/items/x", {"publish_at": "2030-01-02T00:00:00Z", "expires_at": "2030-01-02T01:00:00+01:00"}, ""),
        ("PATCH", "/v1/items/published", {"expires_at": "2030-01-01T00:00:00Z"}, ""),
        (
            "POST",
            "/v1/items:batch",
            {
                "items": [
                    {"item_id": "w"},
                    {"item_id": "x", "publish_at": "2030-01-02T00:00:00Z", "expires_at": "2030-01-01T00:00:00Z"},
                ]
            },
            "/items/1",
        ),
    ],
)
async def test_an_item_that_would_expire_before_it_is_published_is_refused(
    served: World, filled: BreakableStore, method: str, path: str, body: dict[str, Any], pointer: str
) -> None:
    async with api(served, filled.url) as one:
        before = await one.ok("PUT", "/v1/items/published", {"publish_at": "2030-01-02T00:00:00Z"})
        response = await one.client.request(method, path, json=body)
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == f"{pointer}/expires_at"
        assert await one.ok("GET", "/v1/items/published") == before
        assert len(in_catalogue(filled.url)) == 1


async def test_changes_of_one_item_at_the_same_time_are_all_in_it(served: World, filled: BreakableStore) -> None:
    fields = [{"title": "T"}, {"categories": ["c"]}, {"available": False}, {"expires_at": "2030-01-01T00:00:00Z"}]
    async with api(served, filled.url) as one:
        await one.ok("PUT", "/v1/items/x", {})
        await asyncio.gather(*(one.ok("PATCH", "/v1/items/x", body) for body in fields))
        state = await one.ok("GET", "/v1/items/x")
    assert state["title"] == "T"
    assert state["categories"] == ["c"]
    assert not state["available"]
    assert state["expires_at"] == "2030-01-01T00:00:00Z"


async def test_without_the_store_it_is_a_503_that_may_be_sent_again(served: World, filled: BreakableStore) -> None:
    async with api(served, filled.url) as one:
        filled.end()
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            response = await one.client.request(method, "/v1/items/x", json={} if method in ("PUT", "PATCH") else None)
            assert response.status_code == 503
            assert response.json()["type"] == "urn:riffle:problem:catalogue-unavailable"
            assert response.headers["retry-after"] == "1"


async def test_a_store_without_memory_refuses_a_change_whole_and_still_shows_items(
    served: World, filled: BreakableStore
) -> None:
    async with api(served, filled.url) as one:
        await one.ok("PUT", "/v1/items/x", {"title": "X"})
        with redis.Redis.from_url(filled.url) as server:
            server.config_set("maxmemory", "1")
            for method, path, body in (
                ("PATCH", "/v1/items/x", {"title": "Y"}),
                ("DELETE", "/v1/items/x", None),
                ("POST", "/v1/items:batch", {"items": [{"item_id": f"i{n}"} for n in range(100)]}),
            ):
                response = await one.client.request(method, path, json=body)
                assert (response.status_code, response.headers["retry-after"]) == (503, "1")
                assert response.json()["type"] == "urn:riffle:problem:catalogue-unavailable"
                assert "the store has no memory left" in response.json()["detail"]
            assert (await one.ok("GET", "/v1/items/x"))["title"] == "X"
            assert [item_id for item_id, _ in in_catalogue(filled.url)] == ["x"]
            assert server.hlen(ITEMS) == 1
            server.config_set("maxmemory", "0")
        assert (await one.ok("PATCH", "/v1/items/x", {"title": "Y"}))["title"] == "Y"


async def test_items_are_described_again_from_the_archive_to_a_store_that_lost_them(
    served: World, filled: BreakableStore, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    archive = archive_in(tmp_path)
    async with api(served, filled.url) as one, catalogue_archiver_at(filled.url, catalogue_beside(archive)) as archiver:
        for item_id in ("kept", "gone", "changed"):
            await one.ok("PUT", f"/v1/items/{item_id}", {"title": item_id, "categories": ["shelf"]})
        await one.ok("DELETE", "/v1/items/gone")
        await archiver.step()
        before = await one.ok("GET", "/v1/items/kept")
        with redis.Redis.from_url(filled.url) as server:
            server.flushdb()
        await one.ok("PUT", "/v1/items/changed", {"title": "since then", "categories": ["shelf"]})
        await asyncio.to_thread(rebuild, filled.url, synthetic_dataset, archive)
        assert await one.ok("GET", "/v1/items/kept") == before
        assert (await one.client.get("/v1/items/gone")).status_code == 404
        assert (await one.ok("GET", "/v1/items/changed"))["title"] == "since then"
        await one.follow()
        shelf = {"categories": {"any": ["shelf"]}}
        assert set(await one.listed("nobody", filter=shelf)) == {"kept", "changed"}
        await one.ok("DELETE", "/v1/items/kept")
        await one.follow()
        assert await one.listed("nobody", filter=shelf) == ["changed"]


async def test_a_full_catalogue_sheds_changes_until_some_have_left_it(served: World, filled: BreakableStore) -> None:
    rows = [{"item_id": f"i{n}"} for n in range(1000)]
    async with api(served, filled.url, catalogue_limit=2000, catalogue_kept=1000) as one:
        for _ in range(2):
            await one.ok("POST", "/v1/items:batch", {"items": rows})
        response = await one.client.put("/v1/items/x", json={})
        assert (response.status_code, response.json()["type"]) == (429, "urn:riffle:problem:overloaded")
        assert "2000 changes of items wait already" in response.json()["detail"]
        assert "retry-after" in response.headers
        assert (await one.client.get("/v1/items/x")).status_code == 404
        with redis.Redis.from_url(filled.url) as server:
            server.xtrim(CATALOGUE, maxlen=1000, approximate=False)
        await one.ok("PUT", "/v1/items/x", {})

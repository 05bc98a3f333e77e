"""Lists and what came of them are joined wherever they lie, and put down to the right variant."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from recsys.experiments.outcomes import METRICS
from service.archives import event_archive, event_rows
from service.decisions import STREAM, Decision
from service.event_log import Event, stream_key
from service.identifiers import recommendation_id
from service.outcomes import outcome_reader
from service.round_trips import RoundTrips
from service.settings import Settings
from service.state_keys import SHARDS, shard
from tests.service.conftest import BreakableStore

pytestmark = pytest.mark.valkey

START_MS = 1_790_000_000_000
NAMES = ("control", "canary")


def record(user: str, variant: str, at_ms: int, **fields: Any) -> Decision:
    usual = {
        "kind": "recommendations", "bundle": "b", "item_stats": "s", "candidates": 200, "propensity": 0.5,
        "user_state": None, "seed": 0, "now_s": 0, "items": ["i1", "i2"], "scores": [1.0, 0.5], "degraded": [],
        "timing_ms": {"total": 50.0, "retrieve": 2.0, "rank": 2.5, "select": 0.5}, "variants": {"r1": variant},
    }  # fmt: skip
    identity = recommendation_id(at_ms).text
    return Decision(id=identity, time_ms=at_ms, query={"user_id": user}, **{**usual, **fields})


def event(user: str, kind: str, of: Decision | None, after_s: float = 10, **fields: Any) -> Event:
    at = (of.time_ms if of else START_MS) + int(after_s * 1000)
    usual = {"event_id": f"{user}-{kind}-{at}", "item_id": "i1", "verb": 1, "recommendation_id": of.id if of else None}
    return Event(type=kind, user_id=user, ts_ms=at, received_ms=at, **{**usual, **fields})


class World:
    """A store and archives, filled by hand."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.settings = url, Settings(home=str(home))
        self.client = redis.Redis.from_url(url)

    def answer(self, *records: Decision) -> None:
        for one in records:
            self.client.xadd(STREAM, {"d": msgspec.msgpack.encode(one)}, id=f"{one.time_ms + 50}-*")

    def log(self, *events: Event) -> None:
        for one in sorted(events, key=lambda one: one.received_ms):
            self.client.xadd(
                stream_key(shard(one.user_id)), {"e": msgspec.msgpack.encode(one)}, id=f"{one.received_ms}-*"
            )

    def archive(self, *events: Event) -> None:
        rows = [(shard(one.user_id), (one.received_ms, n), one) for n, one in enumerate(events)]
        store = event_archive(self.settings)
        reached = store.until()
        until = [max([reached[n], *(at for number, at, _ in rows if number == n)]) for n in range(SHARDS)]
        assert store.append(event_rows(rows), after=reached, until=until)

    async def read(self, **arguments: Any) -> Any:
        store = RoundTrips(self.url, timeout_ms=5000, connections=1)
        try:
            reader = outcome_reader(self.settings, store)
            return await reader.read("r1", NAMES, **{"since_ms": START_MS, **arguments})
        finally:
            await store.close()


@pytest.fixture
def world(breakable_store: BreakableStore, tmp_path: Path) -> World:
    return World(breakable_store.url, tmp_path / "home")


async def test_what_happens_to_a_list_is_put_down_to_its_users_variant(world: World) -> None:
    ann, ann_again = record("ann", "control", START_MS), record("ann", "control", START_MS + 60_000)
    bob = record(
        "bob",
        "canary",
        START_MS + 1,
        degraded=[{"stage": "ranking"}],
        timing_ms={"total": 90.0, "rank": 9.0},
        items=["i3"],
    )
    world.answer(ann, bob, ann_again)
    world.log(
        event("ann", "click", ann),
        event("ann", "click", ann, 20),
        event("bob", "purchase", bob, value=7.5),
        event("bob", "impression", bob),
    )
    found = await world.read()
    assert found.names == NAMES
    assert (found.users(), found.shown()) == ([1, 1], [2, 1])
    by_user = dict(zip(found.variant.tolist(), found.totals.T.tolist(), strict=True))
    assert dict(zip(METRICS, by_user[0], strict=True)) == {
        "clicked": 1, "converted": 0, "value": 0, "degraded": 0, "latency_ms": 10.0,
    }  # fmt: skip
    assert dict(zip(METRICS, by_user[1], strict=True)) == {
        "clicked": 1, "converted": 1, "value": 7.5, "degraded": 1, "latency_ms": 9.0,
    }  # fmt: skip
    assert [len(one) for one in found.items] == [2, 1] == [len(one) for one in found.owners]  # of the first list
    assert found.variant[found.owners[0]].tolist() == [0] * 2


async def test_events_count_once_wherever_they_lie_and_only_within_the_window(world: World) -> None:
    lists = [record(f"u{n}", "canary", START_MS + n) for n in range(4)]
    world.answer(*lists)
    archived = [event("u0", "click", lists[0]), event("u1", "click", lists[1], 5000)]
    world.archive(*archived)
    world.log(*archived, event("u2", "like", lists[2], value=1.0), event("u3", "hide", lists[3]))
    found = await world.read()
    assert found.side(1, "clicked").total.sum() == 2
    assert found.side(1, "value").total.sum() == 1.0
    assert (await world.read(window_s=6000)).side(1, "clicked").total.sum() == 3


async def test_other_answers_and_users_who_were_moved_do_not_count(world: World) -> None:
    world.answer(
        record("early", "control", START_MS - 1),
        record("other", "control", START_MS, variants={"r2": "canary"}),
        record("third", "b", START_MS),
        record("moved", "control", START_MS),
        record("moved", "canary", START_MS + 1),
        record("stays", "canary", START_MS + 2),
    )
    found = await world.read()
    assert (found.users(), found.shown()) == ([0, 1], [0, 1])


async def test_what_a_user_did_before_is_known(world: World) -> None:
    world.answer(record("ann", "control", START_MS + 10), record("bob", "canary", START_MS + 10))
    before = [event("ann", "click", None, -3600 - n, event_id=f"e{n}") for n in range(5, 0, -1)]
    world.archive(*before[:3])
    world.log(*before[3:], event("ann", "click", None, 30))
    found = await world.read()
    assert dict(zip(found.variant.tolist(), found.before.tolist(), strict=True)) == {0: 5.0, 1: 0.0}
    began = await world.read(began_ms=START_MS - 3_602_500)  # the first step; what came after it is no "before"
    assert dict(zip(began.variant.tolist(), began.before.tolist(), strict=True)) == {0: 3.0, 1: 0.0}


async def test_nobody_is_nobody(world: World) -> None:
    found = await world.read()
    assert (found.users(), found.shown(), found.totals.shape) == ([0, 0], [0, 0], (len(METRICS), 0))

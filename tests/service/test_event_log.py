"""Events get into the log once, whatever is sent again, against a real Valkey."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
import redis

from recsys.verbs import Verb
from service.errors import LogUnavailable, Overloaded
from service.event_log import Event, EventLog, Outcome, stream_key
from service.round_trips import RoundTrips
from service.state_keys import SHARDS, shard
from tests.free_ports import free_port
from tests.service.conftest import BreakableStore

pytestmark = pytest.mark.valkey
DAY_S = 86_400


@asynccontextmanager
async def log_at(url: str, *, limit: int = 1000, timeout_ms: int = 2000) -> AsyncIterator[EventLog]:
    store = RoundTrips(url, timeout_ms=timeout_ms, connections=2)
    try:
        yield EventLog(store, limit=limit)
    finally:
        await store.close()


def event(event_id: str, user_id: str = "ann", **given: object) -> Event:
    plain = {"type": "click", "item_id": "a", "ts_ms": 1_000, "received_ms": 2_000, "verb": int(Verb.CLICK)}
    return Event(**{"event_id": event_id, "user_id": user_id, **plain, **given})


def logged(url: str) -> list[Event]:
    """All events in the log, by shard and position."""
    with redis.Redis.from_url(url) as server:
        entries = [one for number in range(SHARDS) for one in server.xrange(stream_key(number))]
    return [msgspec.msgpack.decode(fields[b"e"], type=Event) for _, fields in entries]


def positions(url: str, events: Sequence[Event]) -> list[str]:
    """Where each event lies in its shard."""
    with redis.Redis.from_url(url) as server:
        entries = [one for number in range(SHARDS) for one in server.xrange(stream_key(number))]
    at = {msgspec.msgpack.decode(one[b"e"], type=Event).event_id: position.decode() for position, one in entries}
    return [at[event.event_id] for event in events]


def newest_position(url: str, event: Event) -> str:
    """Where the last event of a user's shard lies."""
    with redis.Redis.from_url(url) as server:
        ((position, _),) = server.xrevrange(stream_key(shard(event.user_id)), count=1)
    return position.decode()


async def test_event_lies_in_the_stream_of_its_users_shard_as_it_was_sent(breakable_store: BreakableStore) -> None:
    sent = event("1", "用户", recommendation_id="r", position=3, value=0.5, properties={"device": "tv"})
    async with log_at(breakable_store.url) as log:
        assert await log.append([sent]) == [Outcome.ACCEPTED]
    with redis.Redis.from_url(breakable_store.url) as server:
        ((_, fields),) = server.xrange(stream_key(shard("用户")))
    assert msgspec.msgpack.decode(fields[b"e"], type=Event) == sent


async def test_same_id_with_the_same_body_is_answered_the_same_and_logged_once(breakable_store: BreakableStore) -> None:
    async with log_at(breakable_store.url) as log:
        await log.append([event("1"), event("2")])
        again = await log.append([event("2", received_ms=9_000), event("1"), event("3"), event("3")])
    assert again == [Outcome.DUPLICATE, Outcome.DUPLICATE, Outcome.ACCEPTED, Outcome.DUPLICATE]
    assert sorted(one.event_id for one in logged(breakable_store.url)) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "bob"}, {"item_id": "b"}, {"ts_ms": 1_001}, {"type": "view"}, {"value": 0.0}, {"position": 1},
        {"recommendation_id": "r"}, {"properties": {"a": 1}},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
async def test_same_id_with_another_body_is_a_conflict(
    breakable_store: BreakableStore, change: dict[str, object]
) -> None:
    async with log_at(breakable_store.url) as log:
        await log.append([event("1")])
        assert await log.append([event("1", **change)]) == [Outcome.CONFLICT]
    assert len(logged(breakable_store.url)) == 1


async def test_id_is_remembered_over_midnight(breakable_store: BreakableStore) -> None:
    async with log_at(breakable_store.url) as log:
        outcomes = [(await log.append([event("1")], now_s=at))[0] for at in (DAY_S - 1, DAY_S, 2 * DAY_S - 1)]
        assert outcomes == [Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.DUPLICATE]
        assert await log.append([event("1", user_id="bob")], now_s=DAY_S) == [Outcome.CONFLICT]


async def test_many_writers_of_the_same_events_log_each_once(breakable_store: BreakableStore) -> None:
    events = [event(f"e{i}", f"user-{i % 50}") for i in range(400)]
    async with log_at(breakable_store.url) as log:
        answers = await asyncio.gather(*(log.append(events[start : start + 200]) for start in (0, 100, 200) * 4))
    accepted = sum(outcome is Outcome.ACCEPTED for answer in answers for outcome in answer)
    assert accepted == len(logged(breakable_store.url)) == 400


async def test_full_shard_refuses_and_what_was_sent_can_be_sent_again(breakable_store: BreakableStore) -> None:
    events = [event(str(i)) for i in range(7)]
    async with log_at(breakable_store.url, limit=5) as log:
        with pytest.raises(Overloaded, match="5 events of one shard"):
            await log.append(events)
        assert len(logged(breakable_store.url)) == 5
        with redis.Redis.from_url(breakable_store.url) as server:
            server.xtrim(stream_key(shard("ann")), maxlen=0)
        outcomes = await log.append(events)
    assert outcomes == [Outcome.DUPLICATE] * 5 + [Outcome.ACCEPTED] * 2


async def test_store_without_memory_is_backpressure(breakable_store: BreakableStore) -> None:
    with redis.Redis.from_url(breakable_store.url) as server:
        server.config_set("maxmemory", "1")
    async with log_at(breakable_store.url) as log:
        with pytest.raises(Overloaded, match="memory"):
            await log.append([event("1")])


async def test_store_that_is_not_there_and_one_that_refuses_are_unavailable(breakable_store: BreakableStore) -> None:
    async with log_at(f"redis://127.0.0.1:{free_port()}/0", timeout_ms=200) as log:
        with pytest.raises(LogUnavailable, match="send the events again"):
            await log.append([event("1")])
    with redis.Redis.from_url(breakable_store.url) as server:
        server.acl_setuser("default", enabled=True, nopass=True, commands=["-eval"], keys=["*"])
    async with log_at(breakable_store.url) as log:
        with pytest.raises(LogUnavailable, match="refuses"):
            await log.append([event("1")])

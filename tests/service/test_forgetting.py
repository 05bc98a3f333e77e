"""Orders to forget: put on record at once, refused from then on, and nothing brings the user back."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from recsys.erased_users import user_digest
from recsys.verbs import Verb
from service.errors import NotFound, RequestError, StoreUnavailable
from service.event_log import EventLog, Outcome
from service.forgetting import ORDERS, Forgetting, Order
from service.rebuild import rebuild
from service.round_trips import Command, RoundTrips
from service.schemas import Erasure
from service.state_keys import FIRST, live_key, live_name, rebuilt_key, refused_key, shard, state_key
from service.updater import Updater
from tests import worlds
from tests.service.conftest import BreakableStore
from tests.service.test_archiver import archive_in
from tests.service.test_updater import catch_up, some_events

pytestmark = pytest.mark.valkey
USER = "somebody to forget"


@asynccontextmanager
async def forgetting_at(url: str, refuse_s: int = 60) -> AsyncIterator[tuple[Forgetting, RoundTrips]]:
    store = RoundTrips(url, timeout_ms=3000, connections=2)
    try:
        yield Forgetting(store, refuse_s=refuse_s), store
    finally:
        await store.close()


def forget(url: str, user_id: str) -> dict[str, Any]:
    async def go() -> dict[str, Any]:
        async with forgetting_at(url) as (forgetting, _):
            return await forgetting.forget(user_id)

    return asyncio.run(go())


async def test_an_order_deletes_the_live_state_and_that_being_rebuilt_at_once(breakable_store: BreakableStore) -> None:
    names = ["0123abcd.4", "0123abcd.5", FIRST]
    with redis.Redis.from_url(breakable_store.url) as server:
        server.mset({state_key(name, user): b"x" for name in names for user in (USER, "other")})
        server.mset({live_key(): names[0], rebuilt_key(): names[1]})
        async with forgetting_at(breakable_store.url) as (forgetting, _):
            receipt = await forgetting.forget(USER)
        assert msgspec.convert(receipt, Erasure).status == "pending"
        assert receipt["user"] == user_digest(USER)
        assert server.mget([state_key(name, USER) for name in names]) == [None, None, b"x"]  # the last is the eraser's
        assert all(server.mget([state_key(name, "other") for name in names]))
        assert 59_000 < server.pttl(refused_key(USER)) <= 60_000
        assert server.hkeys(ORDERS) == [receipt["receipt_id"].encode()]


async def test_ordered_again_there_is_one_order_and_one_receipt(breakable_store: BreakableStore) -> None:
    async with forgetting_at(breakable_store.url) as (forgetting, _):
        receipts = await asyncio.gather(*(forgetting.forget(USER) for _ in range(20)))
        assert all(one == receipts[0] for one in receipts)
        assert await forgetting.receipt(receipts[0]["receipt_id"]) == receipts[0]
        assert (await forgetting.forget("another"))["receipt_id"] != receipts[0]["receipt_id"]
    with redis.Redis.from_url(breakable_store.url) as server:
        assert server.hlen(ORDERS) == 2


async def test_what_cannot_be_is_refused(breakable_store: BreakableStore) -> None:
    async with forgetting_at(breakable_store.url) as (forgetting, _):
        for user in ("ü" * 129, "a\0b"):
            with pytest.raises(RequestError, match="at most 256"):
                await forgetting.forget(user)
        assert (await forgetting.forget("ü" * 128))["status"] == "pending"
        with pytest.raises(NotFound, match="no receipt 'seven'"):
            await forgetting.receipt("seven")


async def test_without_a_store_nothing_is_promised(breakable_store: BreakableStore) -> None:
    breakable_store.end()
    async with forgetting_at(breakable_store.url) as (forgetting, _):
        for asked in (forgetting.forget(USER), forgetting.receipt("seven")):
            with pytest.raises(StoreUnavailable, match="does not answer"):
                await asked


class Interrupted(RoundTrips):
    """A store at which other states become live, with one of the user among them, just before the user is refused."""

    url = ""

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        if commands[0][:2] == ("SET", refused_key(USER)):
            with redis.Redis.from_url(self.url) as server:
                server.mset({state_key("0123abcd.7", USER): b"x", live_key(): "0123abcd.7"})
        return await super().call(commands)


async def test_states_that_become_live_under_an_order_do_not_escape_it(breakable_store: BreakableStore) -> None:
    store = Interrupted(breakable_store.url, timeout_ms=3000, connections=1)
    store.url = breakable_store.url
    await Forgetting(store, refuse_s=60).forget(USER)
    await store.close()
    with redis.Redis.from_url(breakable_store.url) as server:
        assert live_name(server.get(live_key())) == "0123abcd.7"
        assert not server.exists(state_key("0123abcd.7", USER))


class Dies(RoundTrips):
    """A store that is gone once an order is on record, before its user is refused."""

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        if commands[0][:2] == ("SET", refused_key(USER)):
            raise ConnectionError("gone")
        return await super().call(commands)


async def test_an_order_whose_taker_died_is_on_record_and_can_be_taken_up(breakable_store: BreakableStore) -> None:
    store = Dies(breakable_store.url, timeout_ms=3000, connections=1)
    with pytest.raises(StoreUnavailable):
        await Forgetting(store, refuse_s=60).forget(USER)
    await store.close()
    with redis.Redis.from_url(breakable_store.url) as server:
        server.set(state_key(FIRST, USER), b"x")
        (waiting,) = server.hvals(ORDERS)
        assert not server.exists(refused_key(USER))
        async with forgetting_at(breakable_store.url) as (forgetting, _):
            for _ in range(2):
                await forgetting.resume(msgspec.json.decode(waiting, type=Order))
        assert not server.exists(state_key(FIRST, USER))
        assert 55_000 < server.pttl(refused_key(USER)) <= 60_000


async def test_events_of_the_user_are_refused_also_those_sent_before_and_others_are_not(
    breakable_store: BreakableStore,
) -> None:
    events = [msgspec.structs.replace(one, user_id=USER) for one in some_events(3, seed=1)]
    other = some_events(1, seed=2)[0]
    async with forgetting_at(breakable_store.url) as (forgetting, store):
        log = EventLog(store, limit=1000)
        await log.append(events[:2])
        await forgetting.forget(USER)
        outcomes = await log.append([*events, other])
        assert outcomes == [Outcome.REFUSED] * 3 + [Outcome.ACCEPTED]
        with redis.Redis.from_url(breakable_store.url) as server:
            server.delete(refused_key(USER))  # as if the time were over
        assert await log.append(events[2:]) == [Outcome.ACCEPTED]


class ForgetsBeforeCommit(RoundTrips):
    """A store at which, between the updater's reading of states and its commit, somebody orders to forget."""

    forgetting: Forgetting | None = None

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        if commands[0][0] == "EVAL" and self.forgetting:
            forgetting, self.forgetting = self.forgetting, None
            await forgetting.forget(USER)
        return await super().call(commands)


async def test_a_state_that_an_updater_had_read_before_does_not_come_back(breakable_store: BreakableStore) -> None:
    events = [
        msgspec.structs.replace(one, user_id=user, verb=int(Verb.CLICK))
        for one, user in zip(some_events(40, seed=1), [USER, "other"] * 20, strict=True)
    ]
    store = ForgetsBeforeCommit(breakable_store.url, timeout_ms=3000, connections=1)
    async with forgetting_at(breakable_store.url) as (forgetting, plain):
        log, updater = EventLog(plain, limit=1000), Updater(store)
        await log.append(events[:20])
        await catch_up(updater)
        await log.append(events[20:])
        with redis.Redis.from_url(breakable_store.url) as server:
            assert server.exists(state_key(FIRST, USER))
            store.forgetting = forgetting
            assert await catch_up(updater) == 20
            assert not server.exists(state_key(FIRST, USER))
            assert server.exists(state_key(FIRST, "other"))
    await store.close()


def test_a_rebuild_under_way_does_not_bring_users_back(breakable_store: BreakableStore, tmp_path: Path) -> None:
    """One whose shard was written already, and one whose shard is read before the order and written after it."""
    url, dataset = breakable_store.url, worlds.two_tastes()
    first, *_, last = sorted(dataset.user_id, key=shard)
    assert shard(first) < shard(last)
    done: list[int] = []

    def progress(_: int) -> None:
        done.append(1)
        if len(done) == shard(last):  # every shard before the last one's is written
            forget(url, first)
            forget(url, last)

    rebuild(url, dataset, archive_in(tmp_path), progress=progress)
    with redis.Redis.from_url(url) as server:
        name = live_name(server.get(live_key()))
        found = {user for user in dataset.user_id if server.exists(state_key(name, user))}
    assert found == set(dataset.user_id) - {first, last}

"""The table in a real store: swapped whole, by one at a time, with its history and what replicas say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import redis

from service.errors import StackError, TrafficError
from service.round_trips import RoundTrips
from service.traffic import changes
from service.traffic.document import Traffic
from service.traffic.table import FRESH_S, GONE_S, KEY, REPORTS, Report, TrafficTable, on_table
from tests.service.conftest import BreakableStore
from tests.service.traffic.tables import A, B, C, experiment

pytestmark = pytest.mark.valkey


@asynccontextmanager
async def table_at(url: str) -> AsyncIterator[TrafficTable]:
    store = RoundTrips(url, timeout_ms=3000, connections=4)
    try:
        yield TrafficTable(store)
    finally:
        await store.close()


def promote(bundle: str) -> object:
    return lambda traffic: changes.promoted(traffic, bundle)


async def test_the_first_table_is_made_once(breakable_store: BreakableStore) -> None:
    async with table_at(breakable_store.url) as table:
        assert await table.read() is None
        with pytest.raises(TrafficError, match="no traffic table yet"):
            await table.demand()
        with pytest.raises(TrafficError, match="no traffic table yet"):
            await table.change(promote(B), who="ann", reason="better")  # type: ignore[arg-type]
        first = await table.begin(A, who="ann", reason="the first")
        assert (first.version, first.champion, first.who, first.reason) == (1, A, "ann", "the first")
        assert await table.begin(B, who="bob", reason="too late") == first == await table.read()


async def test_every_change_is_a_version_and_stays_in_the_history(breakable_store: BreakableStore) -> None:
    async with table_at(breakable_store.url) as table:
        await table.begin(A, who="ann", reason="the first")
        await table.change(promote(B), who="bob", reason="better")  # type: ignore[arg-type]
        await table.change(changes.rolled_back, who="eve", reason="was not")
        said = [(one.version, one.champion, one.who, one.reason) for one in await table.history(10)]
        assert said == [(1, A, "ann", "the first"), (2, B, "bob", "better"), (3, A, "eve", "was not")]
        assert [one.version for one in await table.history(2)] == [2, 3]
        assert await table.history(1) == [await table.read()]


async def test_of_many_who_change_at_once_nobody_is_lost(breakable_store: BreakableStore) -> None:
    async with table_at(breakable_store.url) as table:
        await table.begin(A, who="ann", reason="the first")

        def with_one(name: str) -> object:
            one = experiment(name, share=100)
            return lambda traffic: changes.with_experiment(traffic, one)

        names = [f"e{number}" for number in range(12)]
        await asyncio.gather(*(table.change(with_one(name), who=name, reason="mine") for name in names))  # type: ignore[arg-type]
        now = await table.demand()
        assert sorted(one.name for one in now.experiments) == sorted(names)
        assert now.version == 13
        assert [one.version for one in await table.history(50)] == list(range(1, 14))


async def test_a_change_that_cannot_be_made_leaves_the_table_as_it_is(breakable_store: BreakableStore) -> None:
    async with table_at(breakable_store.url) as table:
        first = await table.begin(A, who="ann", reason="the first")
        with pytest.raises(TrafficError, match="none to go back to"):
            await table.change(changes.rolled_back, who="ann", reason="was not")
        for who, reason in (("", "why"), ("ann", " ")):
            with pytest.raises(TrafficError, match="needs a reason"):
                await table.change(promote(B), who=who, reason=reason)  # type: ignore[arg-type]
        assert await table.change(lambda traffic: traffic, who="ann", reason="nothing") == first
        assert await table.read() == first
        assert len(await table.history(9)) == 1


async def test_whoever_is_always_late_is_told_so(breakable_store: BreakableStore) -> None:
    async with table_at(breakable_store.url) as table:
        await table.begin(A, who="ann", reason="the first")
        client = redis.Redis.from_url(breakable_store.url)

        def meanwhile(traffic: Traffic) -> Traffic:
            client.append(KEY, b" ")  # JSON all the same, but other bytes
            return changes.promoted(traffic, B)

        with pytest.raises(TrafficError, match="other changes came first"):
            await table.change(meanwhile, who="ann", reason="late")
        assert (await table.demand()).champion == A


async def test_a_damaged_table_is_refused_by_name_and_not_written_over(breakable_store: BreakableStore) -> None:
    async with table_at(breakable_store.url) as table:
        await table.begin(A, who="ann", reason="the first")
        with redis.Redis.from_url(breakable_store.url) as client:
            client.set(KEY, b'{"version": 2}')
        with pytest.raises(TrafficError, match="cannot be read"):
            await table.read()
        with pytest.raises(TrafficError, match="cannot be read"):
            await table.change(promote(B), who="ann", reason="better")  # type: ignore[arg-type]
        assert await table.value() == b'{"version": 2}'
        assert [one.champion for one in await table.history(9)] == [A]


def report(replica: str, **fields: object) -> Report:
    usual = {"role": "Gateway", "node": "n", "version": 1, "champion": A, "loaded": [A], "failed": {}}
    return Report(replica, **{**usual, **fields})  # type: ignore[arg-type]


async def test_replicas_that_reported_lately_are_there_and_others_are_not(breakable_store: BreakableStore) -> None:
    async with table_at(breakable_store.url) as table:
        await table.report(report("two", role="Ranking", failed={C: "gone"}))
        await table.report(report("one", version=3))
        await table.report(report("one", version=4))
        assert [(one.replica, one.version, one.failed) for one in await table.reports()] == [
            ("one", 4, {}),
            ("two", 1, {C: "gone"}),
        ]
        with redis.Redis.from_url(breakable_store.url) as client:
            now_s = client.time()[0]
            for replica, age_s in (("late", FRESH_S + 2), ("gone", GONE_S + 2)):
                client.hset(REPORTS, replica, b"%d " % (now_s - age_s) + msgspec.json.encode(report(replica)))
            assert {one.replica for one in await table.reports()} == {"one", "two"}
            assert set(client.hkeys(REPORTS)) == {b"one", b"two", b"late"}


def test_a_command_says_that_there_is_no_store(breakable_store: BreakableStore) -> None:
    assert on_table(breakable_store.url, lambda table: table.read()) is None
    breakable_store.end()
    with pytest.raises(StackError, match="the store does not answer"):
        on_table(breakable_store.url, lambda table: table.read())

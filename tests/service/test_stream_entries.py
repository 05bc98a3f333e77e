"""Entries leave a stream for good, and nobody who uses it notices."""

import asyncio

import pytest
import redis

from service.round_trips import RoundTrips
from service.stream_entries import PAGE, remove_entries
from tests.service.conftest import BreakableStore

pytestmark = pytest.mark.valkey
STREAM = "riffle:{s03}:events"
COPY = f"{STREAM}:copy"


async def remove(url: str, gone: list[bytes]) -> None:
    store = RoundTrips(url, timeout_ms=5000, connections=1)
    try:
        await remove_entries(store, STREAM, gone)
    finally:
        await store.close()


def fill(server: redis.Redis, n: int) -> list[bytes]:
    return [server.xadd(STREAM, {"e": f"entry {number}", "more": "x"}) for number in range(n)]


@pytest.mark.parametrize("n", [1, 7, PAGE, PAGE + 1, 3 * PAGE - 1])
async def test_what_stays_is_as_it_was_and_what_goes_is_not_even_among_the_bytes(
    breakable_store: BreakableStore, n: int
) -> None:
    with redis.Redis.from_url(breakable_store.url) as server:
        positions = fill(server, n)
        gone = positions[:: max(1, n // 5)]
        before, told = dict(server.xrange(STREAM)), server.xinfo_stream(STREAM)
        await remove(breakable_store.url, gone)
        assert dict(server.xrange(STREAM)) == {at: entry for at, entry in before.items() if at not in gone}
        after = server.xinfo_stream(STREAM)
        for same in ("last-generated-id", "entries-added"):
            assert after[same] == told[same]
        assert b"entry 0" not in (server.dump(STREAM) or b"")
        assert not server.exists(COPY)
        assert server.xadd(STREAM, {"e": "next"}) > positions[-1]


async def test_marking_alone_would_leave_the_bytes(breakable_store: BreakableStore) -> None:
    """Why there is a copy at all."""
    with redis.Redis.from_url(breakable_store.url) as server:
        first, _ = fill(server, 2)
        server.xdel(STREAM, first)
        assert b"entry 0" in server.dump(STREAM)


async def test_who_waits_for_entries_gets_the_next_one_and_what_comes_meanwhile_stays(
    breakable_store: BreakableStore,
) -> None:
    url = breakable_store.url
    with redis.Redis.from_url(url) as server:
        positions = fill(server, 3 * PAGE)
        waiter = RoundTrips(url, timeout_ms=9000, connections=1)
        waiting = asyncio.create_task(waiter.demand([("XREAD", "BLOCK", "8000", "STREAMS", STREAM, positions[-1])]))
        await asyncio.sleep(0.1)
        added: list[bytes] = []

        async def add() -> None:
            while len(added) < 200:
                added.append(server.xadd(STREAM, {"e": "meanwhile"}))
                await asyncio.sleep(0)

        await asyncio.gather(remove(url, positions[:10]), add())
        ((((_, ((first, _), *_)),),)) = await waiting
        assert first == added[0]
        assert [at for at, _ in server.xrange(STREAM)] == positions[10:] + added
        await waiter.close()


async def test_what_the_stream_drops_meanwhile_does_not_come_back(breakable_store: BreakableStore) -> None:
    url = breakable_store.url

    class Trimming(RoundTrips):
        async def demand(self, commands):  # type: ignore[no-untyped-def]
            replies = await super().demand(commands)
            if commands[0][0] == "EVAL":
                await super().demand([("XTRIM", STREAM, "MINID", positions[20])])
            return replies

    with redis.Redis.from_url(url) as server:
        positions = fill(server, PAGE + 50)
        store = Trimming(url, timeout_ms=5000, connections=1)
        await remove_entries(store, STREAM, positions[-1:])
        assert [at for at, _ in server.xrange(STREAM)] == positions[20:-1]
        await store.close()


async def test_all_entries_may_go_and_a_stream_that_is_not_there_stays_so(breakable_store: BreakableStore) -> None:
    with redis.Redis.from_url(breakable_store.url) as server:
        await remove(breakable_store.url, [b"1-1"])
        assert not server.exists(STREAM, COPY)
        positions = fill(server, PAGE + 3)
        await remove(breakable_store.url, positions)
        assert server.xlen(STREAM) == 0
        assert server.xinfo_stream(STREAM)["last-generated-id"] == positions[-1]


async def test_a_copy_that_a_death_has_left_is_begun_anew(breakable_store: BreakableStore) -> None:
    with redis.Redis.from_url(breakable_store.url) as server:
        positions = fill(server, 5)
        server.xadd(COPY, {"e": "half of an earlier one"}, id="1-1")
        await remove(breakable_store.url, positions[:1])
        assert [at for at, _ in server.xrange(STREAM)] == positions[1:]

"""Where user states live and how they are read, against a real Valkey that is also paused and killed."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic, sleep

import pytest
import redis

from service.lookup import StateLookup
from service.round_trips import RoundTrips
from service.state_keys import FIRST, SHARDS, live_key, namespace, shard, state_key
from tests.free_ports import free_port
from tests.service.conftest import BreakableStore

TIMEOUT_MS = 100
GOLDEN_SHARDS = {"1": 7, "user-0001": 2, "müller": 9, "用户": 13, "a b": 3, "{x}": 12}  # CRC-32("1") is 0x83dcefb7
STRANGE_IDS = [
    "a b",
    "{s00}",
    "}{",
    "x{y}z",
    "müller",
    "用户",
    "🙂",
    "a:b:c",
    "line\nbreak",
    "tab\t",
    "é" * 128,
    "*?[]",
]


@asynccontextmanager
async def lookup_at(url: str, *, timeout_ms: int = TIMEOUT_MS, connections: int = 2) -> AsyncIterator[StateLookup]:
    store = RoundTrips(url, timeout_ms=timeout_ms, connections=connections)
    try:
        yield StateLookup(store)
    finally:
        await store.close()


async def looked_up(lookup: StateLookup, user_ids: Sequence[str]) -> tuple[list[bytes | None], str | None]:
    """What a single server answers: the values, and None or why none could be read."""
    values, causes = await lookup.fetch(user_ids)
    (cause,) = set(causes)
    assert cause is None or values == [None] * len(user_ids)
    return values, cause


# --- keys ---


def test_shards_and_keys_never_change() -> None:
    """Golden values: other ones would orphan every stored state."""
    assert SHARDS == 16
    assert {user_id: shard(user_id) for user_id in GOLDEN_SHARDS} == GOLDEN_SHARDS
    assert state_key(FIRST, "user-0001") == f"riffle:{{s{GOLDEN_SHARDS['user-0001']:02d}}}:{FIRST}:user:user-0001"


def test_keys_are_the_same_in_every_process() -> None:
    code = (
        "from service.state_keys import FIRST, state_key; "
        f"print(ascii([state_key(FIRST, one) for one in {STRANGE_IDS!a}]))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {ascii([state_key(FIRST, one) for one in STRANGE_IDS]) + "\n"}


def test_users_spread_over_all_shards() -> None:
    counts = [0] * SHARDS
    for number in range(16_000):
        counts[shard(f"user-{number}")] += 1
    assert min(counts) > 800
    assert max(counts) < 1200


@pytest.mark.parametrize("user_id", ["user-0001", *STRANGE_IDS])
def test_hash_tag_is_the_shard_whatever_the_id(user_id: str) -> None:
    """Redis Cluster hashes what stands between the first brace and the next closing one."""
    tag = re.search(r"\{(.*?)\}", state_key(FIRST, user_id), re.DOTALL)
    assert tag is not None
    assert tag[1] == f"s{shard(user_id):02d}"


# --- reading ---


@pytest.mark.valkey
async def test_states_are_read_from_the_namespace_that_was_live_at_the_last_look(
    breakable_store: BreakableStore,
) -> None:
    with redis.Redis.from_url(breakable_store.url) as server:
        server.mset({state_key(FIRST, "a"): "old", state_key(namespace(1), "a"): "new"})
        async with lookup_at(breakable_store.url, timeout_ms=1000) as lookup:
            await lookup.refresh()
            assert await looked_up(lookup, ["a"]) == ([b"old"], None)
            server.set(live_key(), namespace(1))
            assert await looked_up(lookup, ["a"]) == ([b"old"], None)
            await lookup.refresh()
            assert await looked_up(lookup, ["a"]) == ([b"new"], None)
            server.delete(live_key())
            server.lpush(live_key(), "not a name")
            with pytest.raises(redis.ResponseError):
                await lookup.refresh()
            assert lookup.namespace == namespace(1)


@pytest.mark.valkey
async def test_states_come_in_the_order_asked_for_and_missing_ones_are_none(store_url: str) -> None:
    with redis.Redis.from_url(store_url) as server:
        for number in range(3):
            server.set(state_key(FIRST, f"order-{number}"), f"state {number}")
    async with lookup_at(store_url, timeout_ms=1000) as lookup:
        asked = ["order-2", "nobody", "order-0", "order-2", "order-1"]
        values, cause = await looked_up(lookup, asked)
    assert values == [b"state 2", None, b"state 0", b"state 2", b"state 1"]
    assert cause is None


@pytest.mark.valkey
async def test_strange_ids_keep_their_states_apart(store_url: str) -> None:
    with redis.Redis.from_url(store_url) as server:
        for user_id in STRANGE_IDS:
            server.set(state_key(FIRST, user_id), user_id)
    async with lookup_at(store_url, timeout_ms=1000) as lookup:
        values, _ = await looked_up(lookup, STRANGE_IDS)
    assert values == [user_id.encode() for user_id in STRANGE_IDS]


@pytest.mark.valkey
async def test_batch_costs_one_round_trip(breakable_store: BreakableStore) -> None:
    async with lookup_at(breakable_store.url, timeout_ms=1000) as lookup:
        await looked_up(lookup, ["the handshake is over"])
        with redis.Redis.from_url(breakable_store.url) as server:
            server.config_resetstat()
            await looked_up(lookup, [f"user-{number}" for number in range(256)])
            calls = {name: stats["calls"] for name, stats in server.info("commandstats").items()}
    assert calls.pop("cmdstat_mget") == 1
    assert {name for name in calls if name not in ("cmdstat_config|resetstat", "cmdstat_info")} == set()


# --- stores that fail ---


async def test_store_that_is_not_there_is_unavailable_at_once() -> None:
    async with lookup_at(f"redis://127.0.0.1:{free_port()}/0") as lookup:
        began = monotonic()
        answer = await looked_up(lookup, ["a", "b"])
        assert monotonic() - began < 0.15
    assert answer == ([None, None], "unavailable")


@pytest.mark.valkey
async def test_killed_store_is_unavailable_and_the_same_lookup_reads_again_after_its_restart(
    breakable_store: BreakableStore,
) -> None:
    async with lookup_at(breakable_store.url) as lookup:
        with redis.Redis.from_url(breakable_store.url) as server:
            server.set(state_key(FIRST, "a"), "kept")
        # Two at a time: every connection has been used and is dead afterwards.
        for values, cause in await asyncio.gather(looked_up(lookup, ["a"]), looked_up(lookup, ["a"])):
            assert (values, cause) == ([b"kept"], None)
        breakable_store.end()
        for _ in range(3):
            began = monotonic()
            assert await looked_up(lookup, ["a"]) == ([None], "unavailable")
            assert monotonic() - began < 0.15
        breakable_store.start()
        answers = [await looked_up(lookup, ["a"]) for _ in range(4)]
    # Without retries a dead connection is found by the batch that uses it: one batch each, at most.
    assert answers[2:] == [([b"kept"], None)] * 2
    assert all(answer in (([b"kept"], None), ([None], "unavailable")) for answer in answers)


@pytest.mark.valkey
async def test_restart_between_two_batches_costs_at_most_one_batch_its_states(breakable_store: BreakableStore) -> None:
    async with lookup_at(breakable_store.url) as lookup:
        await looked_up(lookup, ["a"])
        breakable_store.end()
        breakable_store.start()
        first, second = await looked_up(lookup, ["a"]), await looked_up(lookup, ["a"])
    assert first in (([None], None), ([None], "unavailable"))
    assert second == ([None], None)


@pytest.mark.valkey
async def test_paused_store_times_out_in_time_and_a_late_reply_is_nobodys_answer(
    breakable_store: BreakableStore,
) -> None:
    with redis.Redis.from_url(breakable_store.url) as server:
        server.mset({state_key(FIRST, "a"): "of a", state_key(FIRST, "b"): "of b"})
    async with lookup_at(breakable_store.url) as lookup:
        assert await looked_up(lookup, ["a"]) == ([b"of a"], None)
        breakable_store.pause()
        try:
            for _ in range(2):  # on a connection that was open before, and on a new one
                began = monotonic()
                assert await looked_up(lookup, ["a"]) == ([None], "timeout")
                assert monotonic() - began < 2 * TIMEOUT_MS / 1000
        finally:
            breakable_store.resume()
        assert await looked_up(lookup, ["b"]) == ([b"of b"], None)


@pytest.mark.valkey
async def test_store_that_refuses_the_command_is_an_error(breakable_store: BreakableStore) -> None:
    with redis.Redis.from_url(breakable_store.url) as server:
        server.acl_setuser("default", enabled=True, nopass=True, commands=["-mget"], keys=["*"])
    async with lookup_at(breakable_store.url) as lookup:
        assert await looked_up(lookup, ["a"]) == ([None], "error")


@pytest.mark.valkey
async def test_more_batches_than_connections_wait_for_one_or_time_out_never_an_exception(
    breakable_store: BreakableStore,
) -> None:
    async with lookup_at(breakable_store.url, connections=1) as lookup:
        answers = await asyncio.gather(*(looked_up(lookup, ["a"]) for _ in range(8)))
        assert answers == [([None], None)] * 8
        breakable_store.pause()
        try:
            causes = {cause for _, cause in await asyncio.gather(*(looked_up(lookup, ["a"]) for _ in range(8)))}
        finally:
            breakable_store.resume()
        assert causes == {"timeout"}


@pytest.mark.valkey
async def test_cancelled_batch_leaves_no_reply_for_the_next_one(breakable_store: BreakableStore) -> None:
    with redis.Redis.from_url(breakable_store.url) as server:
        server.mset({state_key(FIRST, "a"): "of a", state_key(FIRST, "b"): "of b"})
    async with lookup_at(breakable_store.url, timeout_ms=5000, connections=1) as lookup:
        assert await looked_up(lookup, ["a"]) == ([b"of a"], None)
        breakable_store.pause()
        try:
            waiting = asyncio.create_task(looked_up(lookup, ["a"]))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        finally:
            breakable_store.resume()
        assert await looked_up(lookup, ["b"]) == ([b"of b"], None)


async def test_a_reply_that_came_while_the_process_had_to_wait_is_read(breakable_store: BreakableStore) -> None:
    store = RoundTrips(breakable_store.url, timeout_ms=50, connections=1)
    await store.demand([("PING",)])
    asked = asyncio.create_task(store.demand([("ECHO", "here")]))
    await asyncio.sleep(0)  # it is sent
    sleep(0.2)
    assert await asked == [b"here"]
    await store.close()

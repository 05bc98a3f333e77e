"""From the log to states, each event once: whoever dies, and however many work at the same time."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import numpy as np
import pytest
import redis

from recsys.features.apply import apply
from recsys.features.codec import pack, unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.user import UserStates
from recsys.verbs import Verb
from recsys.vocabulary import item_key, item_keys
from service.errors import LogUnavailable, StackError
from service.event_backlog import Backlog, BacklogWatch, backlog
from service.event_log import Event, EventLog, stream_key
from service.histogram import INFINITY
from service.round_trips import RoundTrips
from service.state_keys import FIRST, SHARDS, live_key, namespace, position_key, shard, state_key
from service.updater import Updater, dead_key, run
from tests.service.conftest import BreakableStore
from tests.service.test_event_log import newest_position
from tests.workers import end, start

pytestmark = pytest.mark.valkey
KILLS = 30
USERS = 200


def work(url: str) -> None:
    """An updater, until it is killed."""
    asyncio.run(run(Updater(RoundTrips(url, timeout_ms=5000, connections=1))))


@asynccontextmanager
async def updater_at(url: str, **given: object) -> AsyncIterator[Updater]:
    store = RoundTrips(url, timeout_ms=5000, connections=1)
    try:
        yield Updater(store, **given)
    finally:
        await store.close()


@asynccontextmanager
async def log_at(url: str) -> AsyncIterator[EventLog]:
    store = RoundTrips(url, timeout_ms=5000, connections=2)
    try:
        yield EventLog(store, limit=1_000_000)
    finally:
        await store.close()


def some_events(n: int, *, seed: int, users: int = USERS) -> list[Event]:
    chance = random.Random(seed)
    now_ms = time.time_ns() // 1_000_000
    return [
        Event(
            event_id=f"{seed}-{number}",
            type="click",
            user_id=f"user-{int(users * chance.random() ** 3)}",
            item_id=f"item-{chance.randrange(500)}",
            ts_ms=now_ms - chance.randrange(100_000),
            received_ms=now_ms,
            verb=chance.choice([0, *Verb]),
        )
        for number in range(n)
    ]


async def catch_up(updater: Updater) -> int:
    total = 0
    while committed := await updater.step(block_ms=1):
        total += committed
    return total


def by_the_log(entries: Sequence[tuple[bytes, Event]]) -> dict[str, bytes]:
    """What each user's state must be, from the log's entries alone, in one run."""
    acting = [(position, event) for position, event in entries if event.verb]
    users = sorted({event.user_id for _, event in acting})
    row = {user: i for i, user in enumerate(users)}
    states = UserStates.empty(len(users))
    apply(
        states,
        np.array([row[event.user_id] for _, event in acting]),
        item_key=item_keys(event.item_id for _, event in acting),
        verb=np.array([event.verb for _, event in acting], np.uint8),
        ts_s=np.array([event.ts_ms // 1000 for _, event in acting], np.uint32),
        event_id=np.array([position.split(b"-") for position, _ in acting]).astype(np.uint64),
    )
    return dict(zip(users, pack(states, SCHEMA_HASH), strict=True))


def entries_in(server: redis.Redis) -> list[tuple[bytes, Event]]:
    return [
        (position, msgspec.msgpack.decode(fields[b"e"], type=Event))
        for number in range(SHARDS)
        for position, fields in server.xrange(stream_key(number))
    ]


def assert_states_are_those_of_the_log(server: redis.Redis, entries: Sequence[tuple[bytes, Event]]) -> None:
    expected = by_the_log(entries)
    found = server.mget([state_key(FIRST, user) for user in expected])
    for (user, state), value in zip(expected.items(), found, strict=True):
        assert value == state, user


# --- what an event does ---


async def test_click_is_in_the_state_and_the_position_behind_it(breakable_store: BreakableStore) -> None:
    (event,) = some_events(1, seed=1)
    event = msgspec.structs.replace(event, verb=int(Verb.CLICK))
    async with log_at(breakable_store.url) as log, updater_at(breakable_store.url) as updater:
        await log.append([event])
        position = newest_position(breakable_store.url, event)
        assert await catch_up(updater) == 1
        assert updater.counts["applied"] == 1
    with redis.Redis.from_url(breakable_store.url) as server:
        states, problems = unpack([server.get(state_key(FIRST, event.user_id))], SCHEMA_HASH)
        assert server.get(position_key(FIRST, shard(event.user_id))).decode() == position
    assert not problems
    assert states.item_key[0, 0] == item_key(event.item_id)
    assert (states.verb[0, 0], states.ts_s[0, 0], states.events[0]) == (Verb.CLICK, event.ts_ms // 1000, 1)
    assert "-".join(map(str, states.event_id[0].tolist())) == position


async def test_impression_moves_the_position_and_makes_no_state(breakable_store: BreakableStore) -> None:
    event = msgspec.structs.replace(some_events(1, seed=1)[0], verb=0, type="impression")
    async with log_at(breakable_store.url) as log, updater_at(breakable_store.url) as updater:
        await log.append([event])
        assert await catch_up(updater) == 1
    with redis.Redis.from_url(breakable_store.url) as server:
        assert server.get(state_key(FIRST, event.user_id)) is None
        assert server.get(position_key(FIRST, shard(event.user_id))) is not None


async def test_states_are_those_that_one_run_over_the_log_gives(breakable_store: BreakableStore) -> None:
    async with log_at(breakable_store.url) as log, updater_at(breakable_store.url) as updater:
        for seed in range(6):
            await log.append(some_events(700, seed=seed))
            await catch_up(updater)
    with redis.Redis.from_url(breakable_store.url) as server:
        assert_states_are_those_of_the_log(server, entries_in(server))


async def test_shards_can_be_divided_among_updaters(breakable_store: BreakableStore) -> None:
    url = breakable_store.url
    async with (
        log_at(url) as log,
        updater_at(url, shards=range(5)) as few,
        updater_at(url, shards=range(5, 16)) as many,
    ):
        await log.append(some_events(800, seed=3))
        assert await catch_up(few) + await catch_up(many) == 800
    with redis.Redis.from_url(url) as server:
        assert_states_are_those_of_the_log(server, entries_in(server))


async def test_updater_goes_over_to_other_states_when_they_become_live(breakable_store: BreakableStore) -> None:
    url, events = breakable_store.url, some_events(400, seed=9)
    other = namespace(1)
    async with log_at(url) as log, updater_at(url) as updater, updater_at(url, namespace=other) as fixed:
        await log.append(events[:200])
        assert await catch_up(updater) == 200
        with redis.Redis.from_url(url) as server:
            server.set(live_key(), other)
        await log.append(events[200:])
        assert await updater.step(block_ms=1) == 400  # the new ones are made from the beginning
        assert await fixed.step(block_ms=1) == 0
    with redis.Redis.from_url(url) as server:
        expected = by_the_log(entries_in(server))
        assert server.mget([state_key(other, user) for user in expected]) == list(expected.values())


async def test_backlog_counts_what_no_state_knows_yet_and_what_was_set_aside(breakable_store: BreakableStore) -> None:
    url = breakable_store.url
    assert backlog(url) == Backlog(0, 0.0, 0)
    async with log_at(url) as log, updater_at(url) as updater:
        await log.append(some_events(300, seed=8))
        with redis.Redis.from_url(url) as server:
            server.xadd(stream_key(3), {"x": "y"})
        assert (backlog(url).waiting, backlog(url).dead) == (301, 0)
        assert 0 <= backlog(url).oldest_s < 60
        await catch_up(updater)
        assert backlog(url) == Backlog(0, 0.0, 1)
    breakable_store.end()
    with pytest.raises(StackError, match="does not answer"):
        backlog(url)


async def test_time_from_arrival_to_commit_is_counted_for_every_event(breakable_store: BreakableStore) -> None:
    now_ms = time.time_ns() // 1_000_000
    arrived_ms = [now_ms - 20_000, now_ms - 400, now_ms + 60_000]  # the last by a clock that is ahead
    events = [
        msgspec.structs.replace(event, received_ms=at)
        for event, at in zip(some_events(3, seed=21), arrived_ms, strict=True)
    ]
    async with log_at(breakable_store.url) as log, updater_at(breakable_store.url) as updater:
        await log.append(events)
        await catch_up(updater)
        at_most = updater.effect_s.at_most()
        assert (at_most["0.005"], at_most["0.25"], at_most["10"], at_most["30"], at_most[INFINITY]) == (1, 1, 2, 3, 3)
        assert 20.4 <= updater.effect_s.sum < 30


async def test_watch_sees_what_an_updater_that_stands_still_leaves_waiting(breakable_store: BreakableStore) -> None:
    url = breakable_store.url
    store = RoundTrips(url, timeout_ms=500, connections=1)
    watch = BacklogWatch(store)
    async with log_at(url) as log, updater_at(url) as updater:
        await watch.look()
        assert (watch.oldest_s, watch.dead) == (0.0, 0)
        await log.append(some_events(300, seed=22))
        await asyncio.sleep(0.3)
        await log.append(some_events(300, seed=23))
        await watch.look()
        assert 0.3 <= watch.oldest_s < 60
        with redis.Redis.from_url(url) as server:
            server.xadd(stream_key(3), {"x": "y"})
        await catch_up(updater)
        await watch.look()
        assert (watch.oldest_s, watch.dead) == (0.0, 1)
    await store.close()


async def test_time_in_which_the_store_does_not_answer_counts_as_waiting(breakable_store: BreakableStore) -> None:
    store = RoundTrips(breakable_store.url, timeout_ms=200, connections=1)
    watch = BacklogWatch(store)
    await watch.look()
    breakable_store.pause()
    await watch.look()
    first_s = watch.oldest_s
    assert first_s >= 0.2
    breakable_store.resume()
    breakable_store.end()
    await asyncio.sleep(0.1)
    await watch.look()
    assert watch.oldest_s >= first_s + 0.1
    breakable_store.start()
    await watch.look()
    assert watch.oldest_s == 0
    await store.close()


# --- what is no event ---


async def test_poisoned_entries_are_set_aside_with_their_reason_and_stop_nobody(
    breakable_store: BreakableStore,
) -> None:
    good = msgspec.structs.replace(some_events(1, seed=5)[0], verb=int(Verb.LIKE))
    number = shard(good.user_id)
    encode = msgspec.msgpack.encode
    stranger = next(f"u{i}" for i in range(100) if shard(f"u{i}") != number)
    poison: list[dict[bytes, bytes]] = [
        {b"x": b"y"},
        {b"e": b"\xc1"},
        {b"e": encode({"event_id": "a map"})},
        {b"e": encode(good)[:-1]},
        {b"e": encode(msgspec.structs.replace(good, verb=999))},
        {b"e": encode(msgspec.structs.replace(good, ts_ms=-1))},
        {b"e": encode(msgspec.structs.replace(good, user_id=stranger))},
    ]
    async with log_at(breakable_store.url) as log, updater_at(breakable_store.url) as updater:
        with redis.Redis.from_url(breakable_store.url) as server:
            for fields in poison:
                server.xadd(stream_key(number), fields)
            await log.append([good])
            assert await catch_up(updater) == len(poison) + 1
            assert updater.counts["dead"] == len(poison)
            dead = [fields for _, fields in server.xrange(dead_key(number))]
            assert [one[b"entry"] for one in dead] == [fields.get(b"e", b"") for fields in poison]
            assert all(one[b"reason"] and one[b"position"] for one in dead)
            states, _ = unpack([server.get(state_key(FIRST, good.user_id))], SCHEMA_HASH)
            assert states.events.tolist() == [1]


async def test_state_that_does_not_decode_is_begun_anew_and_counted(breakable_store: BreakableStore) -> None:
    event = msgspec.structs.replace(some_events(1, seed=6)[0], verb=int(Verb.LIKE))
    async with log_at(breakable_store.url) as log, updater_at(breakable_store.url) as updater:
        with redis.Redis.from_url(breakable_store.url) as server:
            server.set(state_key(FIRST, event.user_id), b"rubbish")
            await log.append([event])
            await catch_up(updater)
            assert updater.counts["undecodable_states"] == 1
            assert_states_are_those_of_the_log(server, entries_in(server))


# --- who dies, and who is too many ---


async def test_second_updater_that_reads_the_same_entries_commits_nothing_twice(
    breakable_store: BreakableStore,
) -> None:
    url = breakable_store.url
    async with log_at(url) as log, updater_at(url) as first, updater_at(url) as second:
        for seed in range(4):
            await log.append(some_events(300, seed=seed))
            await asyncio.gather(*(catch_up(one) for one in (first, second)))
        assert await catch_up(first) == await catch_up(second) == 0
        assert first.counts["lost_commits"] + second.counts["lost_commits"] > 0
        told = first.effect_s.at_most()[INFINITY] + second.effect_s.at_most()[INFINITY]
        assert told == 1200  # by the one that committed, not by the one that was refused
        assert first.counts["applied"] + second.counts["applied"] == 1200
    with redis.Redis.from_url(url) as server:
        assert_states_are_those_of_the_log(server, entries_in(server))


async def test_store_that_goes_away_is_waited_for(breakable_store: BreakableStore) -> None:
    async with log_at(breakable_store.url) as log, updater_at(breakable_store.url) as updater:
        working = asyncio.create_task(run(updater))
        try:
            await log.append(some_events(50, seed=1))
            breakable_store.end()
            await asyncio.sleep(0.3)
            breakable_store.start()
            with pytest.raises(LogUnavailable):  # the kept connection is dead; the next one is new
                await log.append(some_events(50, seed=2))
            await log.append(some_events(50, seed=2))
            async with asyncio.timeout(20):
                with redis.Redis.from_url(breakable_store.url) as server:
                    while True:
                        entries = entries_in(server)
                        at = server.mget([position_key(FIRST, n) for n in range(SHARDS)])
                        last = {shard(event.user_id): position for position, event in entries}
                        if all(at[n] == position for n, position in last.items()):
                            break
                        await asyncio.sleep(0.05)
                    assert_states_are_those_of_the_log(server, entries)
        finally:
            working.cancel()


async def test_no_event_is_lost_or_applied_twice_when_the_updater_is_killed_30_times_under_load(
    breakable_store: BreakableStore,
) -> None:
    """Two updaters at a time, each killed at a random moment and started again, while events arrive."""
    url, chance = breakable_store.url, random.Random(7)
    workers, sent = [start(work, url), start(work, url)], 0
    try:
        async with log_at(url) as log:
            for kill in range(KILLS):
                until = time.monotonic() + chance.uniform(0.05, 0.35)
                while time.monotonic() < until:
                    await log.append(some_events(100, seed=1000 + sent))
                    sent += 1
                    await asyncio.sleep(0.01)
                end(workers[kill % 2])
                workers[kill % 2] = start(work, url)
        with redis.Redis.from_url(url) as server:
            entries = entries_in(server)
            assert len(entries) == 100 * sent
            last = {shard(event.user_id): position for position, event in entries}
            until = time.monotonic() + 60
            while any(server.get(position_key(FIRST, n)) != position for n, position in last.items()):
                assert time.monotonic() < until
                await asyncio.sleep(0.1)
            assert_states_are_those_of_the_log(server, entries)
    finally:
        for worker in workers:
            end(worker)

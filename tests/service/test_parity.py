"""Recorded answers beside the events: no false finding, and each classic fault found and named where it began."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis

from recsys.archive import Archive
from recsys.datasets.dataset import Dataset
from recsys.digests import Stage
from recsys.errors import RegistryError
from recsys.features import apply as applying
from recsys.features import cross, frame
from recsys.features.codec import pack, unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.parity import Difference
from recsys.types import World
from recsys.verbs import Verb
from service import updater as updating
from service.decisions import Decision
from service.event_log import Event
from service.log_entries import position_of
from service.parity import Finding, Parity, verify
from service.rebuild import rebuild
from service.schemas import RecommendationRequest, Session, SimilarRequest
from service.state_keys import live_key, live_name, shard, state_key
from service.user_history import user_histories
from tests.service.conftest import BreakableStore
from tests.service.gateways import gateway_at
from tests.service.test_archiver import archive_in, archiver_at, log_at
from tests.service.test_event_log import positions
from tests.service.test_updater import catch_up, some_events, updater_at

pytestmark = pytest.mark.valkey

FRESH_MS = 20  # of tests that do not wait
NEW = ("visitor-1", "visitor-2", "visitor-3")
OF_TIME = {"user_log_idle_s", "user_log_activity_1h"}
change = msgspec.structs.replace
apply = applying.apply
Applies = Callable[..., None]


@dataclass
class Shop:
    """A store with the states of an import, a log, an archive, and what gateways recorded."""

    url: str
    dataset: Dataset
    archive: Archive
    world: World
    sent: list[tuple[Event, tuple[int, int]]]  # with its position
    records: list[Decision]

    async def happen(self, users: Sequence[str], n: int, *, seed: int) -> list[Event]:
        """Each user does `n` things, seconds apart, later with each seed; the states know when this returns."""
        newest_s = 10 + 1_000 * (3 - seed)
        events = [
            change(
                event,
                event_id=f"{seed}-{number}",
                user_id=users[number % len(users)],
                item_id=self.dataset.item_id[(7 * seed + number) % len(self.dataset.item_id)],
                ts_ms=event.received_ms - 1_000 * (newest_s + 2 * (len(users) * n - number)),
                verb=int(Verb.CLICK) if number % 3 else int(Verb.RATING),
            )
            for number, event in enumerate(some_events(len(users) * n, seed=seed))
        ]
        async with log_at(self.url) as log, updater_at(self.url) as updater:
            await log.append(events)
            appended = positions(self.url, events)
            self.sent += [(event, position_of(at.encode())) for event, at in zip(events, appended, strict=True)]
            await catch_up(updater)
        return events

    async def move_to_archive(self) -> None:
        async with archiver_at(self.url, self.archive, kept=1) as archiver:
            while await archiver.step():
                pass

    async def serve(self, *requests: RecommendationRequest) -> None:
        async with gateway_at(self.world, self.url) as (gateway, records):
            await asyncio.gather(*map(gateway.recommend, requests))
        self.records += [msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Decision) for one in records]

    async def serve_users(self, users: Sequence[str]) -> None:
        await self.serve(*(RecommendationRequest(user_id=user) for user in users))

    def verify(self, **given: Any) -> Parity:
        worlds = given.pop("worlds", lambda record: changed(self.world, candidates=record.candidates))
        return verify(self.records, worlds, partial(user_histories, self.url, self.dataset, self.archive), **given)

    async def verified(self, **given: Any) -> Parity:
        return await asyncio.to_thread(partial(self.verify, **given))

    def first(self, user: str, events: Sequence[Event]) -> tuple[Event, tuple[int, int]]:
        """The first of these that a user did, and its position."""
        wanted = next(event for event in events if event.user_id == user)
        return next((event, at) for event, at in self.sent if event is wanted)


@pytest.fixture
def shop(breakable_store: BreakableStore, synthetic_dataset: Dataset, served: World, tmp_path: Path) -> Shop:
    archive = archive_in(tmp_path)
    rebuild(breakable_store.url, synthetic_dataset, archive)
    return Shop(breakable_store.url, synthetic_dataset, archive, served, [], [])


def faulty(patch: pytest.MonkeyPatch, applies: Applies) -> None:
    """Let updaters apply events like that."""
    patch.setattr(updating, "apply", applies)


def features_of(one: Finding) -> set[str]:
    return {value.feature for value in one.values}


def user_of(one: Finding | Decision) -> str:
    return (one.record if isinstance(one, Finding) else one).query["user_id"]


def assert_named(
    shop: Shop,
    parity: Parity,
    difference: Difference,
    expected: dict[str, Event],
    *,
    features: set[str],
    at_least: bool = False,
) -> None:
    """Just the answers to these users are findings, and each names its first event, where it lies, and the features."""
    assert parity.verified == len(shop.records)
    affected = [record.id for record in shop.records if user_of(record) in expected]
    assert sorted(one.record.id for one in parity.findings) == sorted(affected)
    assert len(affected) >= len(expected) > 0
    for one in parity.findings:
        event, position = shop.first(user_of(one), [expected[user_of(one)]])
        assert one.difference is difference, one
        assert one.event is not None
        assert (one.event.item_id, one.event.position) == (event.item_id, position), one
        assert (one.event.ts_s, one.event.verb) == (event.ts_ms // 1000, Verb(event.verb).name.lower())
        assert one.event.lies_in in ("archive", "log")
        assert one.stage is None
        found = features_of(one)
        assert features <= found if at_least else features == found, one
        for value in one.values:
            assert value.served is not None
            assert np.float32(value.served).tobytes() != np.float32(value.now).tobytes()
            assert value.item_id in shop.dataset.item_id


# --- no fault, no finding ---


async def test_answers_of_all_kinds_of_histories_are_verified_to_the_bit(shop: Shop) -> None:
    """Users of the import, the archive, the log and all of them, of none, with sessions; before and after each move."""
    known = shop.dataset.user_id
    shown = shop.dataset.item_id[:6]
    requests = [
        *(RecommendationRequest(user_id=user, count=1 + n) for n, user in enumerate([*known, *NEW, "nobody"])),
        *(
            RecommendationRequest(user_id=user, session=Session(item_ids=shown))
            for user in (known[0], known[50], NEW[0])
        ),
        RecommendationRequest(user_id="somebody", session=Session(item_ids=shown[:1])),
    ]
    await shop.serve(*requests)
    await shop.happen([*known[:40], *NEW[:2]], 9, seed=1)
    await shop.serve(*requests)
    await shop.move_to_archive()
    await shop.serve(*requests)
    await shop.happen([*known[20:60], *NEW[1:]], 9, seed=2)
    await shop.serve(*requests)
    with redis.Redis.from_url(shop.url) as server:
        assert 0 < sum(server.xlen(key) for key in server.scan_iter(match="riffle:*:events")) < len(shop.sent)
    done: list[int] = []
    parity = await shop.verified(fresh_ms=FRESH_MS, progress=done.append)
    assert parity == Parity(verified=4 * len(requests))
    assert sum(done) == 2 * 4 * len(requests)
    await asyncio.to_thread(rebuild, shop.url, shop.dataset, shop.archive)
    await shop.serve(*requests)
    assert await shop.verified(fresh_ms=FRESH_MS) == Parity(verified=5 * len(requests))


async def test_state_of_more_events_than_it_can_remember_is_verified(shop: Shop) -> None:
    for seed in range(4):
        await shop.happen(NEW[:1], 900, seed=seed)
        await shop.serve_users(NEW)
    assert await shop.verified() == Parity(verified=12)


async def test_events_that_no_state_knows_yet_are_counted_as_freshness(shop: Shop) -> None:
    await shop.happen(NEW, 2, seed=1)
    async with log_at(shop.url) as log:
        event = change(some_events(1, seed=2)[0], user_id=NEW[0], item_id=shop.dataset.item_id[0], verb=int(Verb.VIEW))
        await log.append([event])
    await asyncio.sleep(4 * FRESH_MS / 1000)
    await shop.serve_users(NEW)
    parity = await shop.verified(fresh_ms=FRESH_MS)
    assert (parity.verified, parity.findings, parity.behind) == (3, [], 1)
    assert 4 * FRESH_MS <= parity.oldest_ms < 60_000
    assert await shop.verified(fresh_ms=60_000) == Parity(verified=3)


# --- the classic faults ---


async def test_unit_change_is_named_with_the_first_event_whose_time_it_spoilt(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def milliseconds(*given: Any, ts_s: np.ndarray, **more: Any) -> None:
        apply(*given, ts_s=(ts_s.astype(np.uint64) * 1000).astype(np.uint32), **more)

    known = shop.dataset.user_id
    await shop.happen([*known[:9], *NEW], 3, seed=1)
    await shop.serve_users([*known[:20], *NEW])
    faulty(monkeypatch, milliseconds)
    spoilt = await shop.happen([*known[5:12], *NEW], 4, seed=2)
    await shop.move_to_archive()
    first = {user: next(one for one in spoilt if one.user_id == user) for user in [*known[5:12], *NEW]}
    assert (await shop.verified()).findings == []
    before, shop.records = shop.records, []
    await shop.serve_users([*known[:20], *NEW])
    parity = await shop.verified()
    assert_named(shop, parity, Difference.OTHER_TIME, first, features=OF_TIME)
    for one in parity.findings:
        assert one.event is not None
        assert one.shown is not None
        assert one.shown.ts_s == one.event.ts_s * 1000 % 2**32
    shop.records += before
    assert {one.record.id for one in (await shop.verified()).findings} == {one.record.id for one in parity.findings}


@pytest.mark.parametrize("hours", [-5, 2])
async def test_time_zone_that_changes_at_a_moment_is_named_with_the_first_event_after_it(
    shop: Shop, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.happen(NEW, 5, seed=1)
    faulty(monkeypatch, lambda *given, ts_s, **more: apply(*given, ts_s=ts_s + np.uint32(hours * 3600 % 2**32), **more))
    shifted = await shop.happen(NEW[1:], 3, seed=2)
    await shop.serve_users([*NEW, *NEW])
    first = {user: next(one for one in shifted if one.user_id == user) for user in NEW[1:]}
    assert_named(shop, await shop.verified(), Difference.OTHER_TIME, first, features=OF_TIME)


async def test_event_that_was_dropped_is_named_missing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    known = shop.dataset.user_id

    def without_second(states: Any, row: np.ndarray, **columns: np.ndarray) -> None:
        turn = np.array([(row[:place] == row[place]).sum() for place in range(len(row))])
        apply(states, row[turn != 1], **{name: column[turn != 1] for name, column in columns.items()})

    faulty(monkeypatch, without_second)
    events = await shop.happen([*known[:30], *NEW], 3, seed=1)
    await shop.serve_users([*known[:40], *NEW])
    of = {user: [one for one in events if one.user_id == user] for user in [*known[:30], *NEW]}
    expected = {user: own[1] for user, own in of.items()}
    assert_named(shop, await shop.verified(), Difference.MISSING, expected, features={"user_log_events"}, at_least=True)
    await shop.move_to_archive()
    assert_named(shop, await shop.verified(), Difference.MISSING, expected, features={"user_log_events"}, at_least=True)


async def test_newest_event_that_was_dropped_is_named_by_what_other_states_of_the_shard_knew(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the user's own state nobody could tell it from one that is a moment behind."""
    known = shop.dataset.user_id
    neighbour = next(user for user in known if shard(user) == shard(NEW[0]))

    def without_visitor(states: Any, row: np.ndarray, **columns: np.ndarray) -> None:
        other = row != row[0]
        apply(states, row[other], **{name: column[other] for name, column in columns.items()})

    await shop.happen(NEW, 2, seed=1)
    faulty(monkeypatch, without_visitor)
    (dropped, *_) = await shop.happen([NEW[0], neighbour], 1, seed=2)
    await shop.serve_users([*NEW, neighbour])
    assert (await shop.verified(fresh_ms=FRESH_MS)).findings == []
    shop.records.clear()
    await shop.serve_users([neighbour])
    await asyncio.sleep(10 * FRESH_MS / 1000)
    await shop.serve_users([*NEW, neighbour])
    parity = await shop.verified(fresh_ms=FRESH_MS)
    assert_named(shop, parity, Difference.MISSING, {NEW[0]: dropped}, features={"user_log_events"}, at_least=True)
    assert parity.behind == 0


async def test_events_applied_out_of_their_order_are_named_displaced(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def newest_first(states: Any, row: np.ndarray, **columns: np.ndarray) -> None:
        apply(states, row[::-1], **{name: column[::-1] for name, column in columns.items()})

    await shop.happen(NEW, 2, seed=1)
    faulty(monkeypatch, newest_first)
    events = await shop.happen(NEW[:2], 3, seed=2)
    await shop.serve_users(NEW)
    expected = {user: next(one for one in events if one.user_id == user) for user in NEW[:2]}
    parity = await shop.verified()
    assert_named(shop, parity, Difference.DISPLACED, expected, features={"user_log_events"}, at_least=True)


async def test_late_event_that_is_applied_after_later_ones_is_named_displaced(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[dict[str, Any]] = []

    def holding(states: Any, row: np.ndarray, **columns: np.ndarray) -> None:
        """Keep back each user's first event, and bring it with the position of the newest one."""
        for user in np.unique(row).tolist():
            own = np.flatnonzero(row == user)
            order = np.array([*own[1:], own[0]])
            late = {name: column[order] for name, column in columns.items()} | {"event_id": columns["event_id"][own]}
            held.append(late)
            apply(states, row[order], **late)

    await shop.happen(NEW, 2, seed=1)
    faulty(monkeypatch, holding)
    events = await shop.happen(NEW[1:], 4, seed=2)
    await shop.serve_users([*NEW, "nobody"])
    assert len(held) == 2
    expected = {user: next(one for one in events if one.user_id == user) for user in NEW[1:]}
    parity = await shop.verified()
    assert_named(shop, parity, Difference.DISPLACED, expected, features={"user_log_idle_s"}, at_least=True)


async def test_duplicated_event_is_named_doubled(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    known = shop.dataset.user_id

    def twice(states: Any, row: np.ndarray, **columns: np.ndarray) -> None:
        apply(states, np.repeat(row, 2), **{name: np.repeat(column, 2, axis=0) for name, column in columns.items()})

    await shop.happen([*known[:30], *NEW], 2, seed=1)
    faulty(monkeypatch, twice)
    events = await shop.happen([*known[10:40], *NEW[:2]], 1, seed=2)
    faulty(monkeypatch, apply)
    await shop.happen([*known[10:20], *NEW[:2]], 2, seed=3)
    await shop.serve_users([*known[:50], *NEW])
    expected = {event.user_id: event for event in events}
    parity = await shop.verified()
    assert_named(shop, parity, Difference.DOUBLED, expected, features={"user_log_events"}, at_least=True)


async def test_other_verb_and_other_item_are_named(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty(monkeypatch, lambda *given, verb, **more: apply(*given, verb=np.full_like(verb, Verb.HIDE), **more))
    events = await shop.happen(NEW[:1], 2, seed=1)
    await shop.serve_users(NEW[:1])
    parity = await shop.verified()
    assert_named(shop, parity, Difference.OTHER_VERB, {NEW[0]: events[0]}, features=set(), at_least=True)
    assert "user_positive_rate" in features_of(parity.findings[0])
    shop.records.clear()
    faulty(monkeypatch, lambda *given, item_key, **more: apply(*given, item_key=item_key + np.uint64(1), **more))
    events = await shop.happen(NEW[1:2], 2, seed=2)
    await shop.serve_users(NEW[1:2])
    parity = await shop.verified()
    assert_named(shop, parity, Difference.OTHER_ITEM, {NEW[1]: events[0]}, features={"cross_als"}, at_least=True)
    assert parity.findings[0].shown is not None
    assert parity.findings[0].shown.item_id.startswith("key ")


async def test_changed_default_is_named_and_no_event_is(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.happen(NEW, 2, seed=1)
    await shop.serve_users([*shop.dataset.user_id[:20], *NEW, "nobody", "no one"])
    values = frame.values

    def other_default(length: np.ndarray, *columns: np.ndarray) -> np.ndarray:
        made = values(length, *columns)
        made[2, length == 0] = 0
        return made

    monkeypatch.setattr(frame, "values", other_default)
    parity = await shop.verified()
    assert parity.verified == 25
    assert {user_of(one) for one in parity.findings} == {"nobody", "no one"}
    for one in parity.findings:
        assert (one.difference, one.event, one.stage) == (None, None, Stage.FEATURES)
        ((feature, item_id, then, now),) = one.values
        assert (feature, then, now) == ("user_log_idle_s", None, 0.0)
        assert item_id in shop.dataset.item_id


async def test_changed_definition_is_named_beside_a_fault_of_the_state(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty(monkeypatch, lambda *given, ts_s, **more: apply(*given, ts_s=ts_s - np.uint32(7200), **more))
    await shop.happen(NEW[:1], 2, seed=1)
    await shop.serve_users(NEW[:2])
    als = cross.FEATURES[0]
    other = changed(als, value=lambda given: als.value(given) + np.float32(1))
    monkeypatch.setattr(cross, "FEATURES", (other, *cross.FEATURES[1:]))
    parity = await shop.verified()
    by_user = {user_of(one): one for one in parity.findings}
    assert {user: features_of(one) for user, one in by_user.items()} == {
        NEW[0]: {"cross_als", *OF_TIME},
        NEW[1]: {"cross_als"},
    }
    assert by_user[NEW[0]].difference is Difference.OTHER_TIME
    assert by_user[NEW[1]].difference is None
    assert [value.served for value in by_user[NEW[1]].values] == [None]


# --- states that no event explains ---


async def test_lost_state_is_named_with_the_first_event_of_the_import(shop: Shop) -> None:
    user = shop.dataset.user_id[3]
    with redis.Redis.from_url(shop.url) as server:
        server.delete(state_key(live_name(server.get(live_key())), user))
    await shop.serve_users([user, shop.dataset.user_id[4]])
    ((one,), verified) = (parity := await shop.verified()).findings, parity.verified
    assert (verified, user_of(one), one.difference) == (2, user, Difference.MISSING)
    first = np.flatnonzero(shop.dataset.events.user == 3)[0]
    assert one.event is not None
    assert (one.event.lies_in, one.event.position) == ("import", (0, first + 1))
    assert one.event.item_id == shop.dataset.item_id[shop.dataset.events.item[first]]


async def test_counters_and_positions_that_no_event_explains_are_named_without_one(shop: Shop) -> None:
    await shop.happen(NEW, 3, seed=1)
    with redis.Redis.from_url(shop.url) as server:
        name = live_name(server.get(live_key()))
        for user, column in ((NEW[0], "activity"), (NEW[1], "event_id")):
            states, _ = unpack([server.get(state_key(name, user))], SCHEMA_HASH)
            getattr(states, column)[0] += 1
            server.set(state_key(name, user), pack(states, SCHEMA_HASH)[0])
    await shop.serve_users(NEW)
    findings = {user_of(one): one for one in (await shop.verified()).findings}
    counters, position = findings[NEW[0]], findings[NEW[1]]
    assert (counters.difference, counters.columns, counters.event) == (Difference.COUNTERS, ("activity",), None)
    assert features_of(counters) == {"user_log_activity_1h"}
    assert (position.difference, position.event, position.values) == (Difference.POSITION, None, [])
    assert len(findings) == 2


# --- what cannot be verified ---


async def test_what_cannot_be_verified_says_why(shop: Shop) -> None:
    await shop.serve_users(NEW[:1])
    (record,) = shop.records

    def gone(_: Decision) -> World:
        raise RegistryError("no bundle 'x'")

    async def reasons(other: Decision, **given: Any) -> dict[str, int]:
        shop.records = [other]
        parity = await shop.verified(**given)
        assert (parity.verified, parity.findings) == (0, [])
        return dict(parity.not_verified)

    assert await reasons(record, worlds=gone) == {"no bundle 'x'": 1}
    assert await reasons(change(record, item_stats="old")) == {"item stats 'old' are gone": 1}
    assert await reasons(change(record, kind="similar")) == {"answers of kind 'similar' read no user state": 1}
    assert await reasons(change(record, query={})) == {"the record does not say whom it is of": 1}
    assert "Expected `int`" in "".join(await reasons(change(record, query={"user_id": "x", "count": "7"})))
    late = [{"stage": "deadline", "cause": "timeout", "fallback": ""}]
    assert await reasons(change(record, degraded=late)) == {"degraded: deadline": 1}
    assert "not a user state" in "".join(await reasons(change(record, user_state=b"rubbish")))


async def test_similar_lists_are_left_alone(shop: Shop) -> None:
    async with gateway_at(shop.world, shop.url) as (gateway, records):
        await gateway.similar(SimilarRequest(item_ids=shop.dataset.item_id[:1]))
    shop.records = [msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Decision) for one in records]
    assert (await shop.verified()).not_verified.total() == 1


async def test_record_without_digests_is_compared_by_its_state(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty(monkeypatch, lambda *given, ts_s, **more: apply(*given, ts_s=ts_s - np.uint32(7200), **more))
    await shop.happen(NEW[:1], 2, seed=1)
    await shop.serve_users(NEW[:2])
    shop.records = [change(record, digests=b"", removed=[], ranked=0) for record in shop.records]
    parity = await shop.verified()
    assert [(user_of(one), one.difference) for one in parity.findings] == [(NEW[0], Difference.OTHER_TIME)]


async def test_other_candidates_are_named_by_their_stage(shop: Shop) -> None:
    await shop.serve_users(shop.dataset.user_id[:3])
    factors = shop.world.bundle.factors * np.float32(1.001)
    other = changed(shop.world, bundle=changed(shop.world.bundle, factors=factors))
    parity = await shop.verified(worlds=lambda _: other)
    assert [(one.stage, one.values) for one in parity.findings] == [(Stage.RETRIEVAL, [])] * 3

"""Lists and what came of them are joined wherever they lie, and put down to the right variant."""

import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis

from recsys.erased_users import user_digest
from recsys.experiments.outcomes import METRICS, Outcomes
from recsys.monitoring.reference import Reference
from recsys.monitoring.series import SCORE
from service.archives import erased_users, event_archive, event_rows
from service.decisions import STREAM, Decision, Interleaved
from service.event_log import Event, stream_key
from service.identifiers import recommendation_id
from service.outcomes import OutcomeReader, outcome_reader
from service.round_trips import RoundTrips
from service.settings import Settings
from service.state_keys import SHARDS, shard
from service.world import registry
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
    return Event(type=kind, user_id=user, **{"ts_ms": at, "received_ms": at, **usual, **fields})


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

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[OutcomeReader]:
        store = RoundTrips(self.url, timeout_ms=5000, connections=1)
        try:
            yield outcome_reader(self.settings, store)
        finally:
            await store.close()

    async def read(self, **arguments: Any) -> Any:
        async with self.reader() as reader:
            return await reader.read("r1", NAMES, **{"since_ms": START_MS, **arguments})


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
        event("bob", "purchase", bob, value=7.5, item_id="i3"),
        event("bob", "purchase", bob, value=1e9, item_id="i1"),  # which was not on the list
        event("bob", "impression", bob, item_id="i3"),
    )
    found = await world.read()
    assert found.names == NAMES
    assert (found.users(), found.shown()) == ([1, 1], [2, 1])
    by_user = dict(zip(found.variant.tolist(), found.totals.T.tolist(), strict=True))
    assert dict(zip(METRICS, by_user[0], strict=True)) == {
        "clicked": 1, "converted": 0, "value": 0, "changed": 0, "degraded": 0, "latency_ms": 10.0, "slow": 0,
        "strange": 0,
    }  # fmt: skip
    assert dict(zip(METRICS, by_user[1], strict=True)) == {
        "clicked": 1, "converted": 1, "value": 7.5, "changed": 0, "degraded": 1, "latency_ms": 9.0, "slow": 0,
        "strange": 0,
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
        record("by hand", "canary", START_MS + 3, overridden=["r1"]),
        record("by hand elsewhere", "canary", START_MS + 4, overridden=["closer"]),
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


def as_rows(found: Outcomes) -> list[tuple[object, ...]]:
    """All that is known of each user, in whatever order they came."""
    shown = [
        sorted(items[owners == row].tolist() for items, owners in zip(found.items, found.owners, strict=True))
        for row in range(len(found.variant))
    ]
    columns = found.variant.tolist(), found.lists.tolist(), found.totals.T.tolist(), found.before.tolist(), shown
    return list(zip(*columns, strict=True))


async def test_reading_on_finds_what_reading_all_finds_and_holds_open_lists_alone(world: World) -> None:
    rng = np.random.default_rng(3)
    hour = 3_600_000
    start = time.time_ns() // 1_000_000 - 7 * hour
    who = rng.integers(30, size=240)
    variant = np.where(who == 7, rng.integers(2, size=240), who % 2)  # one is moved
    lists = [
        record(f"u{user}", NAMES[of], start + n * 90_000, items=[f"i{rng.integers(9)}", "i1"])
        for n, (user, of) in enumerate(zip(who, variant, strict=True))
    ]
    happened = [
        event(f"u{number}", "click", None, item_id="i1", event_id=f"before-{number}", received_ms=start - 1000 * number,
              ts_ms=start - 1000 * number)
        for number in range(30)
    ]  # fmt: skip
    for one in lists:
        for _ in range(rng.poisson(1.5)):
            after_ms = int(rng.choice([100, 30_000, hour - 1000, hour + 1000]))
            late_ms = int(rng.choice([0, 0, 50_000, hour - 5000, hour + 90_000]))
            kind = str(rng.choice(["click", "like", "purchase", "impression"]))
            at = one.time_ms + after_ms
            happened.append(
                event(one.query["user_id"], kind, one, ts_ms=at, received_ms=at + late_ms, value=1.5,
                      event_id=f"e{len(happened)}")
            )  # fmt: skip
    happened.sort(key=lambda one: one.received_ms)
    ends = [start + n * hour // 2 for n in range(1, 24)]
    held = []
    async with world.reader() as reader:
        for before, end in zip([0, *ends], ends, strict=False):
            reader._store.now_ms = _at(end)  # type: ignore[method-assign]
            world.log(*(one for one in happened if before <= one.received_ms < end))
            world.answer(*(one for one in lists if before <= one.time_ms + 40_000 < end))  # records come a bit later
            found = await reader.read("r1", NAMES, since_ms=start)
            held.append(reader.held())
    async with world.reader() as fresh:
        whole = await fresh.read("r1", NAMES, since_ms=start)
    assert as_rows(found) == as_rows(whole)
    assert whole.totals[:3].sum(axis=1).min() > 10
    assert whole.before.sum() > 10
    assert max(held) < len(lists)
    assert held[-1] < 0.7 * len(lists)  # those of the last two hours, and their events


def _at(now_ms: int) -> Callable[[], Awaitable[int]]:
    async def moment() -> int:
        return now_ms

    return moment


async def test_what_has_moved_to_the_archive_meanwhile_counts_once(world: World) -> None:
    lists = [record(f"u{n}", "canary", START_MS + n) for n in range(6)]
    world.answer(*lists)
    clicks = [event(f"u{n}", "click", lists[n]) for n in range(6)]
    async with world.reader() as reader:
        world.log(*clicks[:3])
        assert (await reader.read("r1", NAMES, since_ms=START_MS)).side(1, "clicked").total.sum() == 3
        world.archive(*clicks[:3])
        assert (await reader.read("r1", NAMES, since_ms=START_MS)).side(1, "clicked").total.sum() == 3


async def test_of_who_was_forgotten_nothing_is_known_any_more(world: World) -> None:
    base = time.time_ns() // 1_000_000 - 60_000
    ann, bob = record("ann", "canary", base), record("bob", "canary", base)
    world.answer(ann, bob)
    world.log(event("ann", "click", ann), event("bob", "click", bob))
    async with world.reader() as reader:
        assert (await reader.read("r1", NAMES, since_ms=base)).users() == [0, 2]
        erased_users(world.settings).add({user_digest("ann"): base + 3_600_000})
        found = await reader.read("r1", NAMES, since_ms=base)
        assert (found.users(), found.side(1, "clicked").total.sum()) == ([0, 1], 1)


async def test_each_side_is_credited_with_its_own_items_once_and_degraded_lists_with_nothing(world: World) -> None:
    def drafted(user: str, at_ms: int, *variants: str, **fields: Any) -> Decision:
        of = Interleaved(experiment="r1", variants=list(variants or ("a", "b")), team=[0, 1, -1])
        return record(user, "interleaved", at_ms, items=["i1", "i2", "i3"], interleaved=of, **fields)

    ann, again, bob = drafted("ann", START_MS), drafted("ann", START_MS + 5), drafted("bob", START_MS)
    late = [{"stage": "features", "cause": "timeout", "fallback": "none"}]
    blind, alone = drafted("cid", START_MS, degraded=late), drafted("dan", START_MS, "b", degraded=late)
    world.answer(ann, bob, blind, alone, again)
    world.log(
        *(event("ann", "click", ann, n, item_id="i2") for n in range(1, 4)),
        event("ann", "like", ann, 5, item_id="i1"),
        event("ann", "click", ann, 6, item_id="i3"),
        event("ann", "click", again, 8, item_id="i2"),
        event("bob", "click", bob, 7, item_id="elsewhere"),
        event("cid", "click", blind, 7, item_id="i2"),
        event("dan", "click", alone, 7, item_id="i2"),
    )
    async with world.reader() as reader:
        found = await reader.preferences("r1", ("a", "b"), since_ms=START_MS)
    assert found.lists.tolist() == [2, 1]
    assert found.credit.tolist() == [[[1, 0], [2, 0]], [[1, 0], [0, 0]]]
    assert found.alone == (0, 1)
    assert found.preference("clicked", planned=10, alpha=0.05).credit == (1.0, 2.0)


async def test_a_bundle_whose_scores_nobody_can_tell_of_is_asked_for_again_later(world: World) -> None:
    asked: list[str] = []

    def usual(bundle: str) -> tuple[float, float] | None:
        asked.append(bundle)
        return None if len(asked) == 1 else (0.0, 0.9)

    world.answer(record("eve", "other", START_MS, bundle="of nobody's"), record("ann", "control", START_MS + 1))
    async with world.reader() as reader:
        reader._usual = usual
        for at, strange in ((2, 0), (3, 0), (4, 1)):
            found = await reader.read("r1", NAMES, since_ms=START_MS)
            assert found.totals[METRICS.index("strange")].sum() == strange
            if at == 3:
                reader._unknown.clear()  # a minute later
            world.answer(record("ann", "control", START_MS + at))
    assert asked == ["b", "b"]


async def test_scores_that_a_bundle_never_had_in_its_validation_are_strange(
    breakable_store: BreakableStore, published_home: Settings, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(published_home.home_path / "registry", home / "registry")
    world = World(breakable_store.url, home)
    bundle = str(registry(world.settings).champion())
    low, high = Reference.load(registry(world.settings).path(bundle)).bins[SCORE].range
    assert -np.inf < low < high < np.inf
    middle, width = (low + high) / 2, high - low
    world.answer(
        record("ann", "control", START_MS, bundle=bundle, scores=[middle, middle - 10 * width]),
        record("bob", "canary", START_MS + 1, bundle=bundle, scores=[high + width, middle]),
        record("eve", "canary", START_MS + 2, bundle=bundle, scores=[low - width]),
        record("joe", "canary", START_MS + 3, bundle=bundle, scores=[]),
        record("tim", "canary", START_MS + 4, bundle="20250101-000000000000", scores=[1e12]),  # of which nobody knows
    )
    found = await world.read()
    assert found.totals[METRICS.index("strange")].tolist() == [0, 1, 1, 0, 0]

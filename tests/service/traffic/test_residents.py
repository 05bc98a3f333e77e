"""A replica loads beside, takes versions whole, keeps the last one known, and lets go of what nobody needs."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
from redis.exceptions import RedisError

from recsys.datasets.dataset import Dataset
from recsys.errors import BundleError
from recsys.types import World
from recsys.vocabulary import Vocabulary
from service.errors import TrafficError
from service.lanes import Lanes
from service.rebuild import rebuild
from service.round_trips import RoundTrips
from service.stages import StageUnavailable
from service.traffic import changes, residents, switching
from service.traffic.document import Rollout, Traffic, decode, encode
from service.traffic.residents import Residents
from service.traffic.table import TrafficTable
from tests.service.conftest import BreakableStore
from tests.service.test_archiver import archive_in
from tests.service.traffic.tables import A, B, C, experiment, table

pytestmark = pytest.mark.valkey


@dataclass
class Shelf:
    """Bundles by id, some of which cannot be loaded, or only once a gate is opened."""

    world: World
    damaged: dict[str, str] = field(default_factory=dict)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    warmed: list[tuple[str, bool]] = field(default_factory=list)

    def load(self, bundle_id: str) -> World:
        if bundle_id in self.gates:
            assert self.gates[bundle_id].wait(30)
        if why := self.damaged.get(bundle_id):
            raise BundleError(why)
        self.loaded.append(bundle_id)
        return replace(self.world, bundle=replace(self.world.bundle, id=bundle_id))

    def warm(self, world: World, beside: bool) -> None:
        self.warmed.append((world.bundle.id, beside))


@dataclass
class Knowing:
    heard: list[int] = field(default_factory=list)

    def know(self, *vocabularies: Vocabulary) -> None:
        self.heard.append(len(vocabularies))


@pytest.fixture
def shelf(served: World) -> Shelf:
    return Shelf(served)


@asynccontextmanager
async def replica_at(
    url: str, shelf: Shelf, tmp_path: Path, *, name: str = "one", begun: bool = True
) -> AsyncIterator[tuple[Residents, TrafficTable]]:
    store = RoundTrips(url, timeout_ms=2000, connections=2)
    try:
        one = Residents(
            shelf.load, shelf.warm, store, deployed=A, kept=tmp_path / "run" / "traffic.json", replica=name,
            role="Gateway", node="here",
        )  # fmt: skip
        if begun:
            await one.begin()
        yield one, TrafficTable(store)
    finally:
        await store.close()


async def better(one: Residents, traffic: TrafficTable) -> Traffic:
    """A first table, and the next one with another champion, which the replica has taken."""
    await traffic.begin(A, who="ann", reason="first")
    after = await traffic.change(lambda now: changes.promoted(now, B), who="ann", reason="better")
    await until(lambda: one.traffic == after, one)
    return after


async def until(done: Callable[[], bool], one: Residents) -> None:
    """Look until something is so."""
    async with asyncio.timeout(20):
        while not done():
            await one.look()
            await asyncio.sleep(0.01)


async def test_item_stats_that_came_while_a_replica_was_being_made_are_those_it_answers_with(
    breakable_store: BreakableStore, shelf: Shelf, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    async with replica_at(breakable_store.url, shelf, tmp_path) as (one, _):
        lanes = Lanes(one.champion.world)  # whoever has these warms up now, for seconds
        await asyncio.to_thread(rebuild, breakable_store.url, synthetic_dataset, archive_in(tmp_path))
        await one.refresh()
        assert one.champion.world is not one.champion.built
        one.follow(lanes)
        assert lanes.champion.serving.world is one.champion.world


async def test_without_a_table_a_replica_serves_what_was_deployed_and_makes_it_the_table(
    breakable_store: BreakableStore, shelf: Shelf, tmp_path: Path
) -> None:
    async with replica_at(breakable_store.url, shelf, tmp_path) as (one, traffic):
        await one.look()
        assert (one.traffic.version, one.traffic.champion, list(one.worlds)) == (1, A, [A])
        assert one.champion.world.bundle.id == A
        assert await traffic.read() == one.traffic


async def test_a_promotion_is_taken_when_the_bundle_is_there_and_the_one_before_stays(
    breakable_store: BreakableStore, shelf: Shelf, tmp_path: Path
) -> None:
    knowing = Knowing()
    async with replica_at(breakable_store.url, shelf, tmp_path) as (one, traffic):
        lanes = Lanes(one.champion.world)
        one.follow(lanes, knowing)
        await traffic.begin(A, who="ann", reason="first")
        await until(lambda: one.traffic.version == 1, one)
        shelf.gates[B] = threading.Event()
        await traffic.change(lambda now: changes.promoted(now, B), who="ann", reason="better")
        for _ in range(5):
            await one.look()
        assert (one.traffic.version, lanes.champion.serving.world.bundle.id) == (1, A)
        shelf.gates[B].set()
        await until(lambda: one.traffic.version == 2, one)
        assert lanes.champion.serving.world.bundle.id == B
        assert lanes.of("ann", "home")[1].bundle == B
        assert set(one.worlds) == {A, B}
        assert shelf.warmed == [(A, False), (B, True)]
        assert knowing.heard[-1] == 2
        assert [(r.version, r.champion, r.loaded) for r in await traffic.reports()] == [(2, B, [A, B])]


async def test_a_rollback_needs_no_loading_and_waits_for_none_that_is_under_way(
    breakable_store: BreakableStore, shelf: Shelf, tmp_path: Path
) -> None:
    async with replica_at(breakable_store.url, shelf, tmp_path) as (one, traffic):
        await traffic.begin(A, who="ann", reason="first")
        await traffic.change(lambda now: changes.promoted(now, B), who="ann", reason="better")
        await until(lambda: one.traffic.champion == B, one)
        shelf.gates[C] = threading.Event()
        await traffic.change(lambda now: changes.promoted(now, C), who="ann", reason="better still")
        await one.look()
        shelf.damaged[A] = "gone from the disk meanwhile"
        back = msgspec.structs.replace(one.traffic, champion=A, previous=B)
        await traffic.change(lambda _: back, who="ann", reason="back")
        await one.look()
        assert one.traffic.champion == A
        shelf.gates[C].set()


async def test_a_bundle_that_cannot_be_loaded_is_reported_and_nothing_is_switched(
    breakable_store: BreakableStore, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residents, "RETRY_S", 0.2)
    shelf.damaged[B] = "index.faiss: 12 bytes are missing"
    async with replica_at(breakable_store.url, shelf, tmp_path) as (one, traffic):
        await traffic.begin(A, who="ann", reason="first")
        rollout = Rollout("r1", B, 5000)
        await traffic.change(lambda now: msgspec.structs.replace(now, rollout=rollout), who="ann", reason="try")
        await until(lambda: bool(one.failed), one)
        assert one.traffic.rollout is None
        assert one.troubles() == [f"{B} could not be loaded: index.faiss: 12 bytes are missing"]
        await one.report()
        assert (await traffic.reports())[0].failed == {B: "index.faiss: 12 bytes are missing"}
        del shelf.damaged[B]  # restored: it is tried again by itself
        await until(lambda: one.traffic.rollout == rollout, one)
        assert one.troubles() == []


async def test_what_is_not_needed_is_released_after_a_while(
    breakable_store: BreakableStore, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residents, "RELEASE_S", 0.1)
    async with replica_at(breakable_store.url, shelf, tmp_path) as (one, traffic):
        await traffic.begin(A, who="ann", reason="first")
        for bundle in (B, C):
            await traffic.change(lambda now, to=bundle: changes.promoted(now, to), who="ann", reason="next")  # type: ignore[misc]
            await until(lambda to=bundle: one.traffic.champion == to, one)  # type: ignore[misc]
        await until(lambda: set(one.worlds) == {B, C}, one)


async def test_a_table_that_is_damaged_or_out_of_reach_changes_nothing_and_a_lost_one_is_put_back(
    breakable_store: BreakableStore, shelf: Shelf, tmp_path: Path
) -> None:
    async with replica_at(breakable_store.url, shelf, tmp_path) as (one, traffic):
        after = await better(one, traffic)
        store = one._store
        await store.demand([("SET", "riffle:{traffic}", "{}")])
        with pytest.raises(TrafficError):
            await one.look()
        assert one.traffic == after
        assert "the traffic table cannot be read" in one.troubles()[0]
        await store.demand([("DEL", "riffle:{traffic}")])
        await one.look()
        assert await traffic.read() == one.traffic == after
        assert one.troubles() == []
        breakable_store.end()
        with pytest.raises((RedisError, OSError, TimeoutError)):
            await one.look()
        assert one.traffic == after
    # Who starts while the store is away goes by the copy on this machine, not by what was deployed once.
    async with replica_at(breakable_store.url, shelf, tmp_path, name="two") as (two, _):
        assert (two.traffic, two.champion.world.bundle.id) == (after, B)


async def test_an_old_copy_of_the_store_does_not_undo_a_rollback(
    breakable_store: BreakableStore, shelf: Shelf, tmp_path: Path
) -> None:
    async with replica_at(breakable_store.url, shelf, tmp_path) as (one, traffic):
        await traffic.begin(A, who="ann", reason="first")
        await traffic.change(lambda now: changes.promoted(now, B), who="ann", reason="better")
        old = await traffic.value()
        back = await traffic.change(changes.rolled_back, who="ann", reason="was not")
        await until(lambda: one.traffic == back, one)
        await one._store.demand([("SET", "riffle:{traffic}", old)])
        await one.look()
        assert one.traffic == back
        assert await traffic.read() == back


async def test_a_replica_that_starts_beside_a_table_it_cannot_read_goes_by_the_copy_and_says_so(
    breakable_store: BreakableStore, shelf: Shelf, tmp_path: Path
) -> None:
    async with replica_at(breakable_store.url, shelf, tmp_path) as (one, traffic):
        after = await better(one, traffic)
        await one._store.demand([("SET", "riffle:{traffic}", '{"of a later version": true}')])
    async with replica_at(breakable_store.url, shelf, tmp_path, name="two") as (two, _):
        for _ in range(2):
            assert (two.traffic, two.champion.world.bundle.id) == (after, B)
            assert "the traffic table cannot be read" in two.troubles()[0]
            with pytest.raises(TrafficError):
                await two.look()


async def test_a_copy_that_cannot_be_read_gives_way_to_what_was_deployed(
    breakable_store: BreakableStore, shelf: Shelf, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "traffic.json").write_bytes(b"{")
    async with replica_at(breakable_store.url, shelf, tmp_path) as (one, _):
        assert one.traffic.champion == A


async def test_a_replica_begins_with_all_that_the_table_names_or_with_the_champion_alone(
    breakable_store: BreakableStore, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residents, "RETRY_S", 0.1)
    shelf.damaged[C] = "gone"
    async with replica_at(breakable_store.url, shelf, tmp_path, begun=False) as (one, traffic):
        await traffic.begin(B, who="ann", reason="first")
        await traffic.change(
            lambda now: msgspec.structs.replace(now, rollout=Rollout("r", C, 5000)), who="ann", reason="try"
        )
        await one.begin()
        assert (one.traffic.champion, one.traffic.rollout, one.traffic.version) == (B, None, 0)
        assert A not in shelf.loaded
        del shelf.damaged[C]
        await until(lambda: one.traffic.version == 2, one)
        assert one.traffic.rollout == Rollout("r", C, 5000)
    shelf.damaged[B] = "gone"
    async with replica_at(breakable_store.url, shelf, tmp_path, begun=False) as (one, traffic):
        with pytest.raises(BundleError, match="gone"):
            await one.begin()


async def test_other_processes_are_answered_from_any_bundle_that_is_held(
    breakable_store: BreakableStore, shelf: Shelf, tmp_path: Path
) -> None:
    async with replica_at(breakable_store.url, shelf, tmp_path) as (one, traffic):
        await traffic.begin(A, who="ann", reason="first")
        await traffic.change(lambda now: changes.prepared(now, B), who="ann", reason="soon")
        await until(lambda: B in one.worlds, one)
        version = one.champion.world.item_stats.version
        assert {(await one.of((of, version), "ranking")).bundle.id for of in (A, B)} == {A, B}
        with pytest.raises(StageUnavailable, match="other_bundle"):
            await one.of((C, version), "ranking")


async def test_a_switch_is_done_when_every_replica_obeys(
    breakable_store: BreakableStore, shelf: Shelf, tmp_path: Path
) -> None:
    url, (first, second) = breakable_store.url, (tmp_path / "1", tmp_path / "2")
    async with replica_at(url, shelf, first) as (one, traffic), replica_at(url, shelf, second, name="two") as (two, _):
        await traffic.begin(A, who="ann", reason="first")
        async with asyncio.TaskGroup() as group:
            looking = [group.create_task(look_on(replica)) for replica in (one, two)]
            await asyncio.sleep(0.1)
            after, seconds = await switching.promote(traffic, B, who="ann", reason="better")
            assert (one.traffic, two.traffic) == (after, after)
            assert (after.champion, after.previous, after.prepared) == (B, A, ())
            assert 0 <= seconds < 2
            assert (await switching.promote(traffic, B, who="ann", reason="again"))[0] == after
            shelf.damaged[C] = "damaged"
            with pytest.raises(TrafficError, match=f"{C} could not be loaded by Gateway .* damaged; nothing was"):
                await switching.promote(traffic, C, who="ann", reason="worse")
            now = await traffic.demand()
            assert (now.champion, now.prepared) == (B, ())
            back, seconds = await switching.switch(traffic, changes.rolled_back, who="ann", reason="back")
            assert (one.traffic.champion, two.traffic.champion, back.champion) == (A, A, A)
            for task in looking:
                task.cancel()


async def look_on(one: Residents) -> None:
    while True:
        await one.look()
        await one.report()
        await asyncio.sleep(0.02)


async def test_a_replica_that_does_not_follow_is_named(
    breakable_store: BreakableStore, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "REACHED_S", 0.3)
    monkeypatch.setattr(switching, "LOADED_S", 0.3)
    async with replica_at(breakable_store.url, shelf, tmp_path) as (one, traffic):
        await traffic.begin(A, who="ann", reason="first")
        await one.report()
        with pytest.raises(TrafficError, match=f"Gateway one on here did not load {B}"):
            await switching.promote(traffic, B, who="ann", reason="better")
        assert (await traffic.demand()).bundles() == {A}
        with pytest.raises(TrafficError, match="is not obeyed by Gateway one on here"):
            await switching.switch(
                traffic, lambda now: changes.with_experiment(now, experiment()), who="ann", reason="try"
            )


def test_the_copy_is_the_document(tmp_path: Path) -> None:
    path = tmp_path / "run" / "traffic.json"
    for one in (table(A), table(B, previous=A)):
        residents._replace(path, encode(one))
        assert decode(path.read_bytes()) == one
    assert list(path.parent.iterdir()) == [path]

"""States made anew: the same to the byte, beside the live ones, then in their place."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import redis

from recsys.archive import Archive
from recsys.datasets.dataset import Dataset
from recsys.datasets.leave_out import without_users
from recsys.errors import ArchiveError
from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.items import Item
from recsys.verbs import Verb
from service.archives import event_archive
from service.errors import StackError
from service.event_log import Event, stream_key
from service.item_snapshot import CATALOGUE, decode, snapshot_key
from service.rebuild import is_live, live_source, rebuild
from service.settings import Settings
from service.state_keys import FIRST, SHARDS, live_key, live_name, namespace, position_key, shard, state_key
from tests import worlds
from tests.service.conftest import BreakableStore
from tests.service.test_archiver import archive_in, archiver_at, log_at
from tests.service.test_item_updater import put
from tests.service.test_updater import catch_up, some_events, updater_at

pytestmark = pytest.mark.valkey


def events_of(dataset: Dataset, n: int, *, seed: int) -> list[Event]:
    """Clicks and more of imported users and of others."""
    known = dataset.user_id
    return [
        msgspec.structs.replace(event, user_id=known[i % len(known)]) if i % 3 else event
        for i, event in enumerate(some_events(n, seed=seed))
    ]


def states_in(server: redis.Redis, name: str) -> dict[bytes, bytes]:
    keys = sorted(server.scan_iter(match=f"riffle:*:{name}:user:*"))
    return {key.split(b":user:")[1]: server.get(key) for key in keys}


async def test_rebuilt_states_are_those_of_the_updater_byte_for_byte(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    """Of an import, of what is archived and no longer in the log, and of what is only in the log yet."""
    url, archive, dataset = breakable_store.url, archive_in(tmp_path), worlds.two_tastes()
    await asyncio.to_thread(rebuild, url, dataset, archive)
    async with log_at(url) as log, updater_at(url) as updater, archiver_at(url, archive, kept=1) as archiver:
        await log.append(events_of(dataset, 1500, seed=1))
        await catch_up(updater)
        while await archiver.step():
            pass
        await log.append(events_of(dataset, 300, seed=2))
        await catch_up(updater)
        with redis.Redis.from_url(url) as server:
            before = states_in(server, namespace(1))
            rebuilt = await asyncio.to_thread(rebuild, url, dataset, archive)
            assert rebuilt.namespace == live_name(server.get(live_key())) == namespace(2)
            assert states_in(server, namespace(2)) == before
            assert rebuilt.source.dataset == dataset.fingerprint
            assert rebuilt.source.events == len(dataset.events) + archived(archive)
            assert states_in(server, namespace(1)) == {}
            assert not server.exists(*(position_key(namespace(1), number) for number in range(SHARDS)))
        await log.append(events_of(dataset, 200, seed=3))
        assert await catch_up(updater) == 200  # each once, from where the rebuild has left off


def archived(archive: Archive) -> int:
    """Archived events that change a state."""
    return sum(verb > 0 for verb in archive.read(columns=["verb"])["verb"].to_pylist())


async def test_events_that_arrive_during_a_rebuild_are_in_the_new_states_once(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, archive, dataset = breakable_store.url, archive_in(tmp_path), worlds.two_tastes()
    await asyncio.to_thread(rebuild, url, dataset, archive)
    user, sent, done = "somebody new", 0, threading.Event()
    async with log_at(url) as log, updater_at(url) as updater, archiver_at(url, archive, kept=10) as archiver:

        async def work() -> None:
            nonlocal sent
            while not done.is_set():
                events = some_events(20, seed=100 + sent)
                await log.append([msgspec.structs.replace(e, user_id=user, verb=int(Verb.CLICK)) for e in events])
                sent += len(events)
                await updater.step(block_ms=1)
                await archiver.step()

        working = asyncio.create_task(work())
        for _ in range(3):
            await asyncio.to_thread(rebuild, url, dataset, archive)
        done.set()
        await working
        await catch_up(updater)
    with redis.Redis.from_url(url) as server:
        states, _ = unpack([server.get(state_key(live_name(server.get(live_key())), user))], SCHEMA_HASH)
    assert states.events[0] == sent > 100


def test_states_of_users_that_only_an_earlier_import_had_are_gone(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, archive = breakable_store.url, archive_in(tmp_path)
    rebuild(url, worlds.chain(), archive)
    assert is_live(url, worlds.chain())
    rebuild(url, worlds.two_tastes(), archive)
    assert not is_live(url, worlds.chain())
    assert is_live(url, worlds.two_tastes())
    with redis.Redis.from_url(url) as server:
        users = states_in(server, live_name(server.get(live_key())))
    assert {one.decode() for one in users} == set(worlds.two_tastes().user_id)


def test_states_of_an_import_all_of_whose_users_were_forgotten_are_live(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    dataset = worlds.chain()
    rebuild(breakable_store.url, dataset, archive_in(tmp_path))
    nobody = without_users(dataset, dataset.user_id)
    assert is_live(breakable_store.url, nobody)
    assert not is_live(breakable_store.url, replace(nobody, fingerprint="of another import"))


def test_what_a_rebuild_that_died_has_left_is_cleared_away(breakable_store: BreakableStore, tmp_path: Path) -> None:
    url, archive = breakable_store.url, archive_in(tmp_path)
    with redis.Redis.from_url(url) as server:
        server.set(state_key(namespace(7), "left over"), b"x")
        server.set(state_key(FIRST, "live until now"), b"x")
        server.set("riffle:{s01}:0123abcd.1:user:of another schema", b"x")
        rebuild(url, None, archive)
        left = set(server.scan_iter(match="riffle:{*"))
    assert left == {b"riffle:{s01}:0123abcd.1:user:of another schema"} | {
        position_key(namespace(1), number).encode() for number in range(SHARDS)
    }


def test_one_rebuild_at_a_time(breakable_store: BreakableStore, tmp_path: Path) -> None:
    refused: list[str] = []

    def second(_: int) -> None:
        try:
            rebuild(breakable_store.url, None, archive_in(tmp_path))
        except StackError as error:
            refused.append(str(error))

    rebuild(breakable_store.url, None, archive_in(tmp_path), progress=second)
    assert len(refused) == SHARDS
    assert "another rebuild is under way" in refused[0]


async def test_a_log_that_lost_what_is_not_archived_is_refused_and_the_live_states_stay(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, events = breakable_store.url, some_events(50, seed=1, users=1)
    async with log_at(url) as log:
        await log.append(events)
    with redis.Redis.from_url(url) as server:
        server.xtrim(stream_key(shard(events[0].user_id)), maxlen=10, approximate=False)
        with pytest.raises(StackError, match="has lost events that are not archived"):
            await asyncio.to_thread(rebuild, url, None, archive_in(tmp_path))
        assert server.get(live_key()) is None
        await asyncio.to_thread(rebuild, url, None, archive_in(tmp_path), accept_loss=True)
        assert live_name(server.get(live_key())) == namespace(2)


async def test_a_catalogue_that_lost_what_is_not_archived_is_refused_and_the_live_states_stay(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, archive = breakable_store.url, archive_in(tmp_path)
    for number in range(5):
        put(url, f"i{number}", Item())
    with redis.Redis.from_url(url) as server:
        server.xtrim(CATALOGUE, maxlen=2, approximate=False)
        with pytest.raises(StackError, match=r"lost changes of items that are not archived.*--accept-loss"):
            await asyncio.to_thread(rebuild, url, None, archive)
        assert server.get(live_key()) is None
        await asyncio.to_thread(rebuild, url, None, archive, accept_loss=True)
        name = live_name(server.get(live_key()))
        assert list(decode(server.get(snapshot_key(name))).items) == ["i3", "i4"]


def test_a_damaged_archive_is_named_and_the_live_states_stay(breakable_store: BreakableStore, tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    folder = archive.root / "day=2026-11-23"
    folder.mkdir(parents=True)
    (folder / "0000000000-0000000000.parquet").write_bytes(b"rubbish")
    with pytest.raises(ArchiveError, match=r"0000000000-0000000000\.parquet cannot be read"):
        rebuild(breakable_store.url, None, archive)
    assert live_source(breakable_store.url) is None


def test_a_store_that_is_down_is_one_sentence(breakable_store: BreakableStore, tmp_path: Path) -> None:
    breakable_store.end()
    url, archive = breakable_store.url, event_archive(Settings(home=str(tmp_path)))
    with pytest.raises(StackError, match="could not be rebuilt"):
        rebuild(url, None, archive)
    with pytest.raises(StackError, match="does not answer"):
        live_source(url)


def test_states_of_unknown_source_or_layout_are_not_taken_for_live(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, dataset = breakable_store.url, worlds.two_tastes()
    assert not is_live(url, dataset)
    rebuild(url, dataset, archive_in(tmp_path))
    with redis.Redis.from_url(url) as server:
        server.set(state_key(namespace(1), dataset.user_id[0]), b"of another layout")
        assert not is_live(url, dataset)
        server.set(f"riffle:features:{namespace(1)}:source", b"rubbish")
        assert live_source(url) is None

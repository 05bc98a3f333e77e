"""The catalogue on its way from its stream to its archive: each change once, and none leaves that somebody still needs.

So it is with events and the item stats. The rest about them is in test_archiver, decision records in
test_decision_records.
"""

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from recsys.archive import Archive, Position
from recsys.items import Item
from service.archived_streams import CatalogueStream, EventStreams
from service.archiver import Archiver, run
from service.archives import archived_changes, catalogue_archive, catalogue_beside, event_archive
from service.event_log import EventLog, stream_key
from service.item_snapshot import CATALOGUE, decode, encode, snapshot_key
from service.item_updater import ItemUpdater
from service.log_entries import position_of
from service.rebuild import rebuild
from service.round_trips import Command, RoundTrips
from service.settings import Settings
from service.state_keys import live_key, live_name, namespace, rebuilt_key, shard
from service.updater import Updater
from tests import worlds
from tests.service.conftest import BreakableStore
from tests.service.test_archiver import archive_in, archiver_at, log_at
from tests.service.test_item_updater import item_updater_at, made_again, put, settle, stored
from tests.service.test_rebuild import states_in
from tests.service.test_updater import catch_up, some_events, updater_at
from tests.workers import end, start

pytestmark = pytest.mark.valkey
EVERYTHING = (2**63, 0)
KILLS = 8


class DiesBeforeItTrims(CatalogueStream):
    """What was archived stays in the stream, and the process is gone."""

    async def release(self, _: Sequence[Position], __: Sequence[Position]) -> Counter[str]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def work(url: str, home: str, streams: type[CatalogueStream] = CatalogueStream) -> None:
    """An archiver, until it is killed."""
    store = RoundTrips(url, timeout_ms=5000, connections=1)
    asyncio.run(run([Archiver(store, catalogue_in(Path(home)), streams(store, kept=20))], every_s=0.01))


def work_once(url: str, home: str) -> None:
    """An archiver that is killed between archive and trimming."""
    work(url, home, DiesBeforeItTrims)


def catalogue_in(folder: Path) -> Archive:
    return catalogue_archive(Settings(home=str(folder)))


catalogue_archiver_at = partial(archiver_at, kept=1, streams=CatalogueStream)


@asynccontextmanager
async def followers_at(url: str, archive: Archive) -> AsyncIterator[tuple[EventLog, Updater, ItemUpdater, Archiver]]:
    """The log, and what follows it but by hand; of a shard the archiver keeps 400 entries."""
    async with (
        log_at(url) as log,
        updater_at(url) as states,
        item_updater_at(url) as items,
        archiver_at(url, archive, kept=400) as archiver,
    ):
        yield log, states, items, archiver


def in_stream(url: str) -> list[bytes]:
    with redis.Redis.from_url(url) as server:
        return [fields[b"id"] for _, fields in server.xrange(CATALOGUE) if b"id" in fields]


async def test_a_change_is_archived_as_it_was_described_and_where_it_lay(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, archive = breakable_store.url, catalogue_in(tmp_path)
    items = {
        "ä/1": Item(title="Ä", categories=("a", "b"), available=False, publish_ms=5, expire_ms=2**40),
        "2": Item(categories=()),
        "3": Item(deleted=True),
    }
    for item_id, item in items.items():
        put(url, item_id, item)
    async with catalogue_archiver_at(url, archive) as archiver:
        assert not await archiver.step()
    with redis.Redis.from_url(url) as server:
        positions = [position_of(position) for position, _ in server.xrange(CATALOGUE)]
    assert archived_changes(archive, EVERYTHING)[-1].position == positions[-1] == archive.until()[0]
    assert [one[1:] for one in archived_changes(archive, EVERYTHING)] == list(items.items())
    assert archive.root == catalogue_beside(event_archive(Settings(home=str(tmp_path)))).root
    assert archive.root.relative_to(tmp_path).as_posix() == "archive/catalogue"


async def test_a_short_stream_keeps_what_is_archived(breakable_store: BreakableStore, tmp_path: Path) -> None:
    url = breakable_store.url
    async with catalogue_archiver_at(url, catalogue_in(tmp_path), kept=10) as archiver:
        for length in (10, 11):
            while len(in_stream(url)) < length:
                put(url, "i", Item())
            await archiver.step()
            assert len(in_stream(url)) == (10 if length == 10 else 1)  # MINID keeps the position itself
    assert archiver.counts["trimmed"] == 10


async def test_what_the_live_item_stats_do_not_have_yet_stays(breakable_store: BreakableStore, tmp_path: Path) -> None:
    url, archive = breakable_store.url, catalogue_in(tmp_path)
    await asyncio.to_thread(rebuild, url, worlds.chain(), archive_in(tmp_path))
    async with catalogue_archiver_at(url, archive) as archiver, item_updater_at(url) as updater:
        for number in range(5):
            put(url, f"i{number}", Item())
        await archiver.step()
        assert len(archived_changes(archive, EVERYTHING)) == 5
        assert in_stream(url) == [b"i0", b"i1", b"i2", b"i3", b"i4"]
        await settle(updater)
        await archiver.step()
        assert in_stream(url) == [b"i4"]
        assert set(decode(stored(url)).items) == {"i0", "i1", "i2", "i3", "i4"}


async def test_what_is_described_while_states_are_rebuilt_stays_until_their_item_stats_have_it(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    """Their snapshot is of an earlier moment than the live one, and the item updater goes on from it."""
    url, archive = breakable_store.url, catalogue_in(tmp_path)
    await asyncio.to_thread(rebuild, url, worlds.chain(), archive_in(tmp_path))
    rebuilt = namespace(9)
    with redis.Redis.from_url(url) as server:
        async with catalogue_archiver_at(url, archive) as archiver, item_updater_at(url) as updater:
            server.set(rebuilt_key(), rebuilt)
            put(url, "1", Item())
            put(url, "2", Item())
            await settle(updater)
            await archiver.step()
            assert in_stream(url) == [b"1", b"2"]  # what the snapshot will be of is not known yet
            server.set(snapshot_key(rebuilt), stored(url))
            put(url, "3", Item())
            put(url, "4", Item())
            await settle(updater)
            await archiver.step()
            assert in_stream(url) == [b"3", b"4"]
            server.set(live_key(), rebuilt)
            server.delete(rebuilt_key())
            await settle(updater)
            await archiver.step()
            assert in_stream(url) == [b"4"]
    assert list(decode(stored(url)).items) == ["1", "2", "3", "4"]


class Interrupted(RoundTrips):
    """A store at which something happens between the look at who needs what and the trimming."""

    def __init__(self, url: str, meanwhile: Callable[[], object]) -> None:
        super().__init__(url, timeout_ms=5000, connections=1)
        self.meanwhile: Callable[[], object] | None = meanwhile

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        if (commands[0][0] == "XTRIM" or "XTRIM" in str(commands[0][1])) and self.meanwhile:
            meanwhile, self.meanwhile = self.meanwhile, None
            await asyncio.to_thread(meanwhile)
        return await super().call(commands)


class HalfARebuild:
    """A rebuild that has named its states and made those of one shard, and goes on when it is told to."""

    def __init__(self, url: str, home: Path) -> None:
        self._url, self._home = url, home
        self._begun, self._go_on = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work)

    def begin(self) -> None:
        self._thread.start()
        assert self._begun.wait(30)

    def finish(self) -> None:
        self._go_on.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        def wait(_: int) -> None:
            self._begun.set()
            assert self._go_on.wait(30)

        rebuild(self._url, worlds.chain(), archive_in(self._home), progress=wait)


async def trim_under_a_rebuild(url: str, home: Path, archive: Archive, streams: Callable[[RoundTrips], Any]) -> int:
    """How many entries left that were trimmed after a rebuild had begun, by who had looked for rebuilds before that."""
    half = HalfARebuild(url, home)
    store = Interrupted(url, half.begin)
    try:
        archiver = Archiver(store, archive, streams(store))
        await archiver.step()
    finally:
        await store.close()
        await asyncio.to_thread(half.finish)
    return archiver.counts["trimmed"]


async def test_a_rebuild_that_has_begun_meanwhile_has_what_leaves_the_catalogue_from_the_archive(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url = breakable_store.url
    await asyncio.to_thread(rebuild, url, worlds.chain(), archive_in(tmp_path))
    for number in range(5):
        put(url, f"i{number}", Item())
    async with item_updater_at(url) as updater:
        await settle(updater)
    left = await trim_under_a_rebuild(url, tmp_path, catalogue_in(tmp_path), lambda at: CatalogueStream(at, kept=1))
    assert left == 4
    assert sorted(decode(stored(url)).items) == [f"i{number}" for number in range(5)]


async def test_a_rebuild_that_has_begun_meanwhile_has_what_leaves_the_log_from_the_archive(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, archive = breakable_store.url, archive_in(tmp_path)
    await asyncio.to_thread(rebuild, url, worlds.chain(), archive)
    async with log_at(url) as log, updater_at(url) as updater, item_updater_at(url) as items:
        await log.append(some_events(1500, seed=1))
        await catch_up(updater)
        await settle(items)
    with redis.Redis.from_url(url) as server:
        before = states_in(server, live_name(server.get(live_key())))
    left = await trim_under_a_rebuild(url, tmp_path, archive, lambda at: EventStreams(at, kept=1))
    assert left > 1000
    with redis.Redis.from_url(url) as server:
        assert states_in(server, live_name(server.get(live_key()))) == before


async def test_damaged_entries_are_passed_over_and_counted(breakable_store: BreakableStore, tmp_path: Path) -> None:
    url, archive = breakable_store.url, catalogue_in(tmp_path)
    put(url, "before", Item())
    with redis.Redis.from_url(url) as server:
        server.xadd(CATALOGUE, {"id": "x", "item": b"rubbish"})
        server.xadd(CATALOGUE, {"id": b"\xff", "item": b"\x80"})
        server.xadd(CATALOGUE, {"nothing": "of the kind"})
    put(url, "after", Item())
    async with catalogue_archiver_at(url, archive) as archiver:
        await archiver.step()
    assert [one.item_id for one in archived_changes(archive, EVERYTHING)] == ["before", "after"]
    assert (archiver.counts["archived"], archiver.counts["passed_over"]) == (2, 3)


async def test_one_that_dies_between_archive_and_trimming_leaves_each_change_once(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, archive = breakable_store.url, catalogue_in(tmp_path)
    for number in range(50):
        put(url, f"i{number}", Item())
    worker = start(work_once, url, str(tmp_path))
    await asyncio.to_thread(worker.join, 30)
    assert worker.exitcode == -signal.SIGKILL
    assert len(in_stream(url)) == len(archived_changes(archive, EVERYTHING)) == 50
    put(url, "later", Item())
    async with catalogue_archiver_at(url, archive) as archiver:
        await archiver.step()
    assert [one.item_id for one in archived_changes(archive, EVERYTHING)] == [*(f"i{n}" for n in range(50)), "later"]
    assert in_stream(url) == [b"later"]


async def test_each_change_is_archived_once_however_often_archivers_are_killed(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    """Two at a time, each killed at a random moment and started again, while items change and the stream is trimmed."""
    url, chance, archive = breakable_store.url, random.Random(7), catalogue_in(tmp_path)
    workers, sent = [start(work, url, str(tmp_path)) for _ in range(2)], 0
    try:
        for kill in range(KILLS):
            until = time.monotonic() + chance.uniform(0.3, 1.5)
            while time.monotonic() < until:
                put(url, f"i{sent}", Item(title=f"T{sent}"))
                sent += 1
            end(workers[kill % 2])
            workers[kill % 2] = start(work, url, str(tmp_path))
        until = time.monotonic() + 60
        while len(archived_changes(archive, EVERYTHING)) < sent or len(in_stream(url)) > 20:
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
    finally:
        for worker in workers:
            end(worker)
    changes = archived_changes(archive, EVERYTHING)
    assert [one.item_id for one in changes] == [f"i{n}" for n in range(sent)]
    assert sorted(one.position for one in changes) == [one.position for one in changes]


async def test_events_that_the_live_item_stats_do_not_have_yet_stay_in_the_log(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    """The archiver may come within the half second before the item updater looks."""
    url, dataset, archive = breakable_store.url, worlds.chain(), archive_in(tmp_path)
    await asyncio.to_thread(rebuild, url, dataset, archive)
    events = some_events(500, seed=1, users=1)
    stream = stream_key(shard(events[0].user_id))
    with redis.Redis.from_url(url) as server:
        async with followers_at(url, archive) as (log, states, items, archiver):
            await log.append(events)
            await catch_up(states)
            await archiver.step()
            assert (archiver.counts["archived"], server.xlen(stream)) == (500, 500)
            await settle(items)
            await archiver.step()
            assert (archiver.counts["trimmed"], server.xlen(stream)) == (499, 1)
            assert archiver.counts["uncounted"] == 0
    value = stored(url)
    assert encode(made_again(url, dataset, archive, decode(value).horizon_ms)) == value


async def test_an_item_updater_that_stands_still_does_not_fill_the_log_and_it_is_said(
    breakable_store: BreakableStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, dataset, archive = breakable_store.url, worlds.chain(), archive_in(tmp_path)
    await asyncio.to_thread(rebuild, url, dataset, archive)
    events = some_events(601, seed=1, users=1)
    async with followers_at(url, archive) as (log, states, items, archiver):
        await log.append(events)
        await archiver.step()
        assert archiver.counts["trimmed"] == 0  # no state has them either
        await catch_up(states)
        await archiver.step()
        assert archiver.counts["trimmed"] == archiver.counts["uncounted"] == 600
        assert "600 events left the log that no item stats have" in caplog.text
        await settle(items)
        await asyncio.to_thread(rebuild, url, dataset, archive)
    acting = sum(event.verb > 0 for event in events)
    assert decode(stored(url)).counts.interactions.sum() == len(dataset.events) + acting

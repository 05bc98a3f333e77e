"""Item snapshots of the past from import, archives and streams: the same bytes, wherever what they are made of lies."""

import asyncio
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import redis

from recsys.archive import START, Archive, Position
from recsys.datasets.dataset import Dataset
from recsys.errors import ArchiveError
from recsys.items import Item
from recsys.withdrawn_events import EVENT
from service.archives import catalogue_beside, catalogue_rows, event_archive, withdrawn_beside
from service.catalogue_entries import Change
from service.event_log import stream_key
from service.item_history import ItemHistory
from service.item_snapshot import CATALOGUE, decode, encode
from service.rebuild import count_items_anew, live_source, rebuild
from service.settings import Settings
from service.state_keys import SHARDS
from service.store_client import now_ms
from service.withdrawal import let_go, withdraw
from tests import worlds
from tests.service.conftest import BreakableStore
from tests.service.test_archived_streams import catalogue_archiver_at, in_stream
from tests.service.test_archiver import archive_in, archiver_at, log_at
from tests.service.test_item_updater import item_updater_at, made_again, put, settle, stored
from tests.service.test_updater import catch_up, some_events, updater_at

pytestmark = pytest.mark.valkey


def past(url: str, dataset: Dataset | None, archive: Archive) -> ItemHistory:
    """Everything until now."""
    source = live_source(url)
    assert source is not None
    with redis.Redis.from_url(url) as server:
        return ItemHistory.read(server, dataset, source[1].imported_s, archive, now_ms(server))


def changed(chance: random.Random, number: int) -> tuple[str, Item]:
    """An item that comes, goes or is named anew: some of the import, some new, some again and again."""
    item_id = chance.choice([f"new-{number}", f"new-{chance.randrange(20)}", f"item-{chance.randrange(10):02d}"])
    return item_id, Item(title=f"T{number}", available=chance.random() < 0.7, deleted=chance.random() < 0.2)


async def test_an_archived_and_trimmed_catalogue_gives_every_version_as_it_was_to_the_byte(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    """While items change, are archived and trimmed; and what the rebuild after that begins with is the same, too."""
    url, dataset, archive, chance = breakable_store.url, worlds.chain(), archive_in(tmp_path), random.Random(5)
    await asyncio.to_thread(rebuild, url, dataset, archive)
    seen: dict[int, bytes] = {}
    async with item_updater_at(url) as updater, catalogue_archiver_at(url, catalogue_beside(archive), kept=3) as one:
        for number in range(60):
            for change in range(chance.randrange(4)):
                put(url, *changed(chance, 10 * number + change))
            await updater.step()
            seen[decode(stored(url)).horizon_ms] = stored(url)
            if number % 5 == 0:
                await one.step()
        await settle(updater)
        last = decode(stored(url))
        seen[last.horizon_ms] = stored(url)
        before = {horizon_ms: encode(made_again(url, dataset, archive, horizon_ms)) for horizon_ms in seen}
        await one.step()
        assert len(in_stream(url)) <= 3
        assert before == seen
        assert {at: encode(made_again(url, dataset, archive, at)) for at in seen} == seen
        assert len(seen) > 30
        await asyncio.to_thread(rebuild, url, dataset, archive)
        rebuilt = decode(stored(url))
        assert list(rebuilt.items.items()) == list(last.items.items())
        put(url, "after", Item(title="after the rebuild"))
        await settle(updater)
    again = made_again(url, dataset, archive, decode(stored(url)).horizon_ms)
    assert encode(again) == stored(url)
    assert list(again.items) == [*last.items, "after"]


async def test_what_forgotten_users_did_counts_before_and_once_where_nothing_was_imported(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, home = breakable_store.url, Settings(home=str(tmp_path))
    archive = event_archive(home)
    await asyncio.to_thread(rebuild, url, None, archive)
    async with log_at(url) as log, item_updater_at(url) as items, archiver_at(url, archive) as archiver:
        events = some_events(120, seed=3, users=4)
        await log.append(events)
        await settle(items)
        await archiver.step()
    before, users = decode(stored(url)), sorted({one.user_id for one in events})
    for _ in range(2):  # the second finds nothing new
        withdraw(home, users[:2], 1_000)
    archive.rewrite(lambda rows: rows.filter(pc.is_in(rows["user_id"], pa.array(users[2:]))))
    history = await asyncio.to_thread(past, url, None, archive)
    assert list(history.bases) == [before.base, history.base]
    assert encode(history.at(before.horizon_ms, before.base)) == encode(before)
    left = history.at(before.horizon_ms).counts
    assert 0 < left.interactions.sum() < before.counts.interactions.sum()
    await asyncio.to_thread(count_items_anew, home, url)
    assert decode(stored(url)).base == history.base
    withdrawn_beside(archive).add(EVENT.empty_table(), 1_001, before={"later": 1})
    assert list((await asyncio.to_thread(past, url, None, archive)).bases) == list(history.bases)
    let_go(home, 1_001 + home.withdrawn_kept_s * 1000)
    assert list((await asyncio.to_thread(past, url, None, archive)).bases) == [history.base]


async def test_a_version_is_the_same_where_everything_is_archived_and_nothing_is_in_the_store(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, dataset, archive = breakable_store.url, worlds.chain(), archive_in(tmp_path)
    await asyncio.to_thread(rebuild, url, dataset, archive)
    async with item_updater_at(url) as updater, catalogue_archiver_at(url, catalogue_beside(archive)) as one:
        for number in range(10):
            put(url, f"i{number}", Item())
        await settle(updater)
        await one.step()
    with redis.Redis.from_url(url) as server:
        server.delete(CATALOGUE)
    value = stored(url)
    assert encode(made_again(url, dataset, archive, decode(value).horizon_ms)) == value


async def test_what_is_archived_and_trimmed_while_it_is_read_is_read_once(
    breakable_store: BreakableStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of log and catalogue: between the first look at how far an archive reaches and the reading of its stream."""
    url, dataset, archive = breakable_store.url, worlds.chain(), archive_in(tmp_path)
    catalogue = catalogue_beside(archive)
    await asyncio.to_thread(rebuild, url, dataset, archive)

    async def move(root: Path) -> None:
        at = archiver_at(url, archive, kept=1) if root == archive.root else catalogue_archiver_at(url, catalogue)
        async with at as archiver:
            await archiver.step()

    async with log_at(url) as log, updater_at(url) as states, item_updater_at(url) as items:
        for number in range(2):
            await log.append(some_events(300, seed=number, users=1))
            put(url, f"a{number}", Item())
            put(url, f"b{number}", Item())
            await catch_up(states)
            await settle(items)
            if number == 0:
                await move(archive.root)
                await move(catalogue.root)
    looked: list[Path] = []
    until = Archive.until

    def followed_by_the_archiver(self: Archive) -> list[Position]:
        found = until(self)
        if self.root not in looked:
            looked.append(self.root)
            asyncio.run(move(self.root))
        return found

    monkeypatch.setattr(Archive, "until", followed_by_the_archiver)
    value = stored(url)
    history = await asyncio.to_thread(past, url, dataset, archive)
    assert {one.name for one in looked} == {"catalogue", "events"}
    assert len(in_stream(url)) == 1
    with redis.Redis.from_url(url) as server:
        assert sum(server.xlen(stream_key(number)) for number in range(SHARDS)) == 1
    assert [one.item_id for one in history.changes] == ["a0", "b0", "a1", "b1"]
    assert encode(history.at(decode(value).horizon_ms)) == value


async def test_item_stats_counted_anew_go_on_from_what_was_trimmed_a_moment_ago(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    """The moment that they are of is no earlier than that of the stats by which the catalogue was trimmed."""
    url, archive = breakable_store.url, archive_in(tmp_path)
    await asyncio.to_thread(rebuild, url, None, archive)
    async with item_updater_at(url) as updater, catalogue_archiver_at(url, catalogue_beside(archive)) as archiver:
        for number in range(5):
            put(url, f"i{number}", Item())
            put(url, f"j{number}", Item())
            await settle(updater)
            await archiver.step()
            await asyncio.to_thread(count_items_anew, Settings(home=str(tmp_path)), url)
            assert len(in_stream(url)) == 1
            put(url, f"k{number}", Item())
            await settle(updater)
            value = stored(url)
            assert encode(made_again(url, None, archive, decode(value).horizon_ms)) == value
    assert len(decode(stored(url)).items) == 15


async def test_an_archived_change_that_is_no_item_is_named(breakable_store: BreakableStore, tmp_path: Path) -> None:
    catalogue = catalogue_beside(archive_in(tmp_path))
    rows = catalogue_rows([Change((5, 1), "a", Item())])
    damaged = rows.set_column(rows.column_names.index("item"), "item", pa.array([b"rubbish"]))
    catalogue.append(damaged, after=[START], until=[(5, 1)])
    with pytest.raises(ArchiveError, match="catalogue has what is no item"):
        rebuild(breakable_store.url, None, archive_in(tmp_path))

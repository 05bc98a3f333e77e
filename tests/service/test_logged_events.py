"""Every event once, wherever it lies, also while the archive takes some over."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.archives import event_archive
from service.logged_events import LoggedEvent, LoggedEvents
from service.round_trips import RoundTrips
from tests.service.conftest import BreakableStore
from tests.service.test_outcomes import START_MS, World, event

pytestmark = pytest.mark.valkey


async def read(world: World, events: LoggedEvents | None = None, since_ms: int = START_MS) -> list[LoggedEvent]:
    store = RoundTrips(world.url, timeout_ms=5000, connections=1)
    try:
        reader = events or LoggedEvents(store, event_archive(world.settings))
        reader._store = store
        return [one async for one in reader.since(datetime.fromtimestamp(since_ms / 1000, UTC))]
    finally:
        await store.close()


async def test_archive_and_log_are_one(breakable_store: BreakableStore, tmp_path: Path) -> None:
    world = World(breakable_store.url, tmp_path / "home")
    many = [event(f"user-{n}", "click", None, n, value=0.5 * n) for n in range(40)]
    world.log(*many)
    world.archive(*many[:25])
    found = await read(world)
    assert sorted(one.user_id for one in found) == sorted(one.user_id for one in many)
    by_user = {one.user_id: one for one in found}
    for one in many:
        got = by_user[one.user_id]
        assert (got.item_id, got.type, got.ts_ms, got.value) == (one.item_id, one.type, one.ts_ms, one.value)
    later = await read(world, since_ms=START_MS + 86_400_000)  # whole parts that are older are not read
    assert sorted(one.user_id for one in later) == sorted(one.user_id for one in many[25:])


async def test_what_is_archived_while_it_is_read_comes_once(breakable_store: BreakableStore, tmp_path: Path) -> None:
    world = World(breakable_store.url, tmp_path / "home")
    many = [event(f"user-{n}", "click", None, n) for n in range(30)]
    world.log(*many)
    world.archive(*many[:10])
    archive = event_archive(world.settings)
    reached = archive.until()
    world.archive(*many[10:20])  # between the first look at the archive and reading it
    archive.until = lambda: reached  # type: ignore[method-assign]
    found = await read(world, LoggedEvents(None, archive))  # type: ignore[arg-type]
    assert sorted(one.user_id for one in found) == sorted(one.user_id for one in many)

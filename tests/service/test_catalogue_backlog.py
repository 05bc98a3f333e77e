"""How many changes of items no list knows yet, and how many the store keeps."""

import asyncio
from pathlib import Path

import pytest
import redis

from recsys.items import Item
from service.catalogue_backlog import CatalogueBacklog, catalogue_backlog
from service.errors import StackError
from service.item_snapshot import CATALOGUE
from service.rebuild import rebuild
from tests.service.conftest import BreakableStore
from tests.service.test_archiver import archive_in
from tests.service.test_item_updater import item_updater_at, put, settle

pytestmark = pytest.mark.valkey


async def test_changes_wait_until_the_item_stats_have_them_and_are_kept_until_they_leave_the_store(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url = breakable_store.url
    assert catalogue_backlog(url) == CatalogueBacklog(0, 0.0, 0)
    put(url, "before anything is live", Item())
    assert catalogue_backlog(url)[::2] == (1, 1)
    await asyncio.to_thread(rebuild, url, None, archive_in(tmp_path))
    async with item_updater_at(url) as updater:
        await settle(updater)
        assert catalogue_backlog(url) == CatalogueBacklog(0, 0.0, 1)
        for number in range(5):
            put(url, f"i{number}", Item())
        await asyncio.sleep(0.02)
        assert catalogue_backlog(url)[::2] == (5, 6)
        assert 0.01 < catalogue_backlog(url).oldest_s < 60
        await settle(updater)
        assert catalogue_backlog(url) == CatalogueBacklog(0, 0.0, 6)
    with redis.Redis.from_url(url) as server:
        server.xtrim(CATALOGUE, maxlen=1, approximate=False)
    assert catalogue_backlog(url).kept == 1
    breakable_store.end()
    with pytest.raises(StackError, match="the catalogue does not answer"):
        catalogue_backlog(url)

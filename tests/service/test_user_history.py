"""The events of a shard: each once, wherever it lies, and whatever is archived and trimmed while it is read."""

import asyncio
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from recsys.archive import Archive
from recsys.verbs import Verb
from recsys.vocabulary import item_key
from service import user_history
from service.errors import StackError
from service.log_entries import position_of
from service.rebuild import live_source, rebuild
from service.state_keys import SHARDS, shard
from service.user_history import SETTLED_S, UserHistory, live_import, user_histories
from tests import worlds
from tests.service.conftest import BreakableStore
from tests.service.test_archiver import archive_in, archiver_at, log_at
from tests.service.test_event_log import positions as logged_at
from tests.service.test_updater import catch_up, some_events, updater_at

pytestmark = pytest.mark.valkey


def positions(history: UserHistory, user: str) -> list[tuple[int, int]]:
    return [(int(ms), int(sequence)) for ms, sequence in history.events.event_id[history.places(user)].tolist()]


async def test_events_of_a_user_come_in_order_from_import_archive_and_log(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, archive, dataset = breakable_store.url, archive_in(tmp_path), worlds.two_tastes()
    user, expected = dataset.user_id[5], []
    async with log_at(url) as log, updater_at(url) as updater, archiver_at(url, archive, kept=1) as archiver:
        for seed, where in ((1, "archive"), (2, "log")):
            events = [
                msgspec.structs.replace(event, user_id=user, verb=int(Verb.CLICK) if place % 3 else 0)
                for place, event in enumerate(some_events(9, seed=seed))
            ]
            await log.append(events)
            for event, at in zip(events, logged_at(url, events), strict=True):
                expected += [(position_of(at.encode()), event, where)] if event.verb else []
            await catch_up(updater)
            if where == "archive":
                await archiver.step()
    ((number, history),) = user_histories(url, dataset, archive, [shard(user)])
    assert number == shard(user)
    imported = np.flatnonzero(dataset.events.user == 5)
    assert positions(history, user) == [(0, row + 1) for row in imported] + [at for at, _, _ in expected]
    places = history.places(user)
    assert [history.lies_in(place) for place in places] == ["import"] * len(imported) + [one[2] for one in expected]
    for place, (_, event, _) in zip(places[len(imported) :], expected, strict=True):
        assert history.events.item_key[place] == item_key(event.item_id)
        assert history.events.ts_s[place] == event.ts_ms // 1000
    assert len(history.places("nobody")) == 0


async def test_each_event_is_there_once_though_it_is_archived_and_trimmed_meanwhile(
    breakable_store: BreakableStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, archive = breakable_store.url, archive_in(tmp_path)
    monkeypatch.setattr(user_history, "_PAGE", 7)
    events = [msgspec.structs.replace(event, verb=int(Verb.VIEW)) for event in some_events(500, seed=1)]
    async with log_at(url) as log, updater_at(url) as updater, archiver_at(url, archive, kept=1) as archiver:
        await log.append(events)
        appended = logged_at(url, events)
        await catch_up(updater)

        class MovedMeanwhile(Archive):
            def read(self, **given: object) -> object:
                asyncio.run_coroutine_threadsafe(archiver.step(), loop).result()
                return super().read(**given)

        loop = asyncio.get_running_loop()
        moved = MovedMeanwhile(archive.root, streams=SHARDS, columns=list(archive.schema)[3:])
        histories = dict(await asyncio.to_thread(lambda: list(user_histories(url, None, moved, range(SHARDS)))))
    assert len(archive.read()) == 500
    for user in {event.user_id for event in events}:
        own = [at for event, at in zip(events, appended, strict=True) if event.user_id == user]
        assert positions(histories[shard(user)], user) == [position_of(at.encode()) for at in own]


def test_live_import_is_the_current_one_and_since_when_it_is_live(
    breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, dataset = breakable_store.url, worlds.two_tastes()
    assert live_import(url, dataset) == (None, 0)
    rebuild(url, None, archive_in(tmp_path))
    assert live_import(url, dataset)[0] is None
    rebuild(url, dataset, archive_in(tmp_path))
    live = live_source(url)
    assert live is not None
    assert live_import(url, dataset) == (dataset, (live[1].imported_s + SETTLED_S) * 1000)


def test_states_of_another_import_are_refused(breakable_store: BreakableStore, tmp_path: Path) -> None:
    rebuild(breakable_store.url, worlds.chain(), archive_in(tmp_path))
    other = replace(worlds.two_tastes(), fingerprint="1" * 64)
    for dataset in (other, None):
        with pytest.raises(StackError, match="from another import"):
            live_import(breakable_store.url, dataset)


def test_a_store_that_is_down_is_one_sentence(breakable_store: BreakableStore, tmp_path: Path) -> None:
    breakable_store.end()
    with pytest.raises(StackError, match="event log does not answer"):
        list(user_histories(breakable_store.url, None, archive_in(tmp_path), [0]))

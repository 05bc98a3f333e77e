"""What training reads of a home: the import, what is archived since, and what was shown meanwhile."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from recsys.archive import START
from recsys.datasets.content import content_hash
from recsys.datasets.dataset import save
from recsys.erased_users import user_digest
from recsys.training.log import Log
from recsys.training.worth import valued
from recsys.verbs import EVENT_TYPES
from service.archives import erased_users, event_archive, event_rows
from service.event_log import Event
from service.imports import folder_of, history, history_until
from service.settings import Settings
from service.state_keys import SHARDS
from tests import worlds
from tests.service.test_cli import write_csv


def event(number: int, kind: str, user: str, item: str, ts_s: int, position: int | None) -> Event:
    return Event(
        event_id=str(number),
        type=kind,
        user_id=user,
        item_id=item,
        ts_ms=1000 * ts_s,
        received_ms=1000 * ts_s,
        verb=EVENT_TYPES[kind],
        recommendation_id="list" if position else None,
        position=position,
    )


def test_archived_impressions_teach_how_far_people_look_and_are_no_interactions(tmp_path: Path) -> None:
    settings, dataset = Settings(home=str(tmp_path)), worlds.two_tastes()
    save(dataset, folder_of(settings) / dataset.name)
    current = {"name": dataset.name, "source": None, "positive_rating": settings.positive_rating}
    (folder_of(settings) / "current.json").write_text(json.dumps(current), "utf-8")
    rng, end_s = np.random.default_rng(1), int(dataset.events.ts_ms[-1]) // 1000 + 60
    events = []
    for visit in range(600):  # three positions, of which the last is looked at a fifth as often as the first
        ts_s = end_s + 10 * visit
        for position, item in enumerate(rng.choice(dataset.item_id[:20], 3, replace=False).tolist(), 1):
            events.append(event(len(events), "impression", f"visitor {visit}", item, ts_s, position))
            if rng.random() < 0.5 * (1, 0.5, 0.2)[position - 1]:
                taken_from = position if visit % 2 else None
                events.append(event(len(events), "click", f"visitor {visit}", item, ts_s + 5, taken_from))
    archive = event_archive(settings)
    logged = [(0, (1000 * end_s + number, 0), one) for number, one in enumerate(events)]
    until = [logged[-1][1], *[START] * (SHARDS - 1)]
    assert archive.append(event_rows(logged), after=[START] * SHARDS, until=until)
    found = history(settings)
    clicks = sum(one.type == "click" for one in events)
    assert found.impressions is not None
    assert len(found.impressions) == 1800
    assert len(found.events) == len(dataset.events) + clicks
    log, bias = valued(Log.of(found), found.impressions, {})
    assert bias is not None
    assert bias.clicks.sum() == clicks
    np.testing.assert_allclose(bias.propensity, [1, 0.5, 0.2], rtol=0.3)
    old = np.arange(len(log)) < len(dataset.events)
    assert set(log.worth[old].tolist()) == {1}
    np.testing.assert_allclose(np.unique(log.worth[~old]), 1 / bias.propensity, rtol=1e-6)


def test_data_that_are_not_imported_are_read_without_who_was_forgotten(tmp_path: Path) -> None:
    settings, shop = Settings(home=str(tmp_path / "home")), write_csv(tmp_path / "shop", worlds.two_tastes())
    whole = history(settings, shop)
    erased_users(settings).add({user_digest("user-07"): 0})
    left = history(settings, shop)
    assert set(whole.user_id) - set(left.user_id) == {"user-07"}
    assert len(left.events) == len(whole.events) - 12
    assert not (folder_of(settings) / "current.json").exists()


def imported_home(home: Path) -> Settings:
    settings, dataset = Settings(home=str(home)), worlds.two_tastes()
    save(dataset, folder_of(settings) / dataset.name)
    current = {"name": dataset.name, "source": None, "positive_rating": settings.positive_rating}
    (folder_of(settings) / "current.json").write_text(json.dumps(current), "utf-8")
    return settings


def archive(settings: Settings, *logged: tuple[int, int, Event]) -> None:
    """Append (stream, milliseconds of arrival, event)."""
    events = event_archive(settings)
    before = events.until()
    until = list(before)
    for stream, ms, _ in logged:
        until[stream] = max(until[stream], (ms, 0))
    rows = event_rows([(stream, (ms, 0), one) for stream, ms, one in logged])
    assert events.append(rows, after=before, until=until)


def test_history_of_a_moment_is_found_again_among_what_came_later(tmp_path: Path) -> None:
    settings = imported_home(tmp_path)
    end_s = int(worlds.two_tastes().events.ts_ms[-1]) // 1000
    day_ms = 86_400_000
    archive(settings, (2, 5, event(1, "click", "new", "left-01", end_s + 9, None)))
    archive(settings, (7, 6, event(2, "like", "other", "left-02", end_s + 9, None)))
    then = history(settings)
    assert then.archived == ((2, 5, 0), (7, 6, 0))
    late = event(3, "click", "new", "left-03", end_s - 500, None)  # before what was known, and arrived after it
    archive(settings, (2, 9, late), (3, 6, event(4, "click", "third", "left-02", end_s + 1, None)))
    event_archive(settings).merge(today=datetime.fromtimestamp(2 * day_ms / 1000, UTC).date())
    assert len(history(settings).events) == len(then.events) + 2
    again = history_until(settings, then.archived)
    assert again.archived == then.archived
    assert content_hash(again) == content_hash(then) != content_hash(history(settings))
    assert content_hash(history_until(settings, ())) == content_hash(worlds.two_tastes())

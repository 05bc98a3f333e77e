"""`riffle features verify`: which records it takes, what it prints, and what its exit code says."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis

from recsys.datasets import dataset as storage
from recsys.datasets.dataset import Dataset
from recsys.features import frame
from recsys.features.apply import apply
from recsys.features.codec import pack, unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.types import World
from recsys.verbs import Verb
from service import updater as updating
from service.archives import event_archive
from service.cli import parity
from service.decisions import DecisionLog
from service.event_log import Event
from service.gateway import Gateway
from service.log_entries import position_of, text_of
from service.rebuild import Source, live_source, rebuild
from service.round_trips import RoundTrips
from service.schemas import RecommendationRequest, SimilarRequest
from service.settings import Settings
from service.stack import application
from service.state_keys import live_key, live_name, state_key
from service.user_history import SETTLED_S
from tests.service.conftest import BreakableStore
from tests.service.gateways import colocated
from tests.service.test_archiver import log_at
from tests.service.test_cli import Home, refused
from tests.service.test_event_log import positions
from tests.service.test_updater import catch_up, some_events, updater_at

pytestmark = pytest.mark.valkey


@pytest.fixture
def deployed(
    tmp_path: Path, published_home: Settings, breakable_store: BreakableStore, synthetic_dataset: Dataset
) -> Home:
    """A home with an import, its bundle, and a store whose states have been of this import for a minute."""
    home, url = Home(tmp_path), breakable_store.url
    settings = Settings(home=str(tmp_path / "state"))
    record = application._record(settings)
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"redis_url": url}), "utf-8")
    (settings.home_path / "registry").symlink_to(Path(published_home.home) / "registry")
    data = settings.home_path / "data"
    storage.save(synthetic_dataset, data / synthetic_dataset.name)
    current = {"name": synthetic_dataset.name, "source": None, "positive_rating": settings.positive_rating}
    (data / "current.json").write_text(json.dumps(current), "utf-8")
    rebuild(url, synthetic_dataset, event_archive(settings))
    imported(url, since_s=60)
    return home


def imported(url: str, *, since_s: int) -> None:
    """Let the import have been live for so long."""
    name, source = live_source(url) or ("", None)
    assert isinstance(source, Source)
    earlier = msgspec.structs.replace(source, imported_s=source.imported_s - since_s)
    with redis.Redis.from_url(url) as server:
        server.set(f"riffle:features:{name}:source", msgspec.json.encode(earlier))


async def serve(world: World, url: str, users: list[str]) -> None:
    store = RoundTrips(url, timeout_ms=2000, connections=1)
    log = DecisionLog(store, queue=100, stream_length=1000)
    async with colocated(url) as stages:
        gateway = Gateway(world, stages, log, Settings(deadline_ms=10_000))
        for user in users:
            await gateway.recommend(RecommendationRequest(user_id=user))
        await gateway.similar(SimilarRequest(item_ids=[world.bundle.vocabulary.item_id[0]]))
        await log.flush()
    await store.close()


async def happen(url: str, world: World, user: str, n: int) -> list[tuple[Event, str]]:
    """Clicks, and their positions."""
    events = [
        msgspec.structs.replace(
            event, user_id=user, item_id=world.bundle.vocabulary.item_id[place], verb=int(Verb.CLICK)
        )
        for place, event in enumerate(some_events(n, seed=1))
    ]
    async with log_at(url) as log, updater_at(url) as updater:
        await log.append(events)
        await catch_up(updater)
    return list(zip(events, positions(url, events), strict=True))


def test_answers_are_verified_by_number_by_time_and_by_user(
    deployed: Home, served: World, breakable_store: BreakableStore
) -> None:
    asyncio.run(happen(breakable_store.url, served, "visitor", 3))
    asyncio.run(serve(served, breakable_store.url, ["user-0001", "user-0002", "visitor", "nobody"]))
    everything = deployed.riffle("features", "verify")
    assert (everything.code, everything.out.splitlines()[-1]) == (
        0,
        "4 verified to the bit, 0 without parity, 1 not verified",
    )
    assert "not verified 1: answers of kind 'similar' read no user state" in everything.out
    for arguments, count in (
        (("--sample", "3"), "2 verified to the bit, 0 without parity, 1 not verified"),
        (("--since", "1h"), "4 verified to the bit, 0 without parity, 1 not verified"),
        (("--user", "visitor"), "1 verified to the bit, 0 without parity, 0 not verified"),
    ):
        assert deployed.riffle("features", "verify", *arguments).out.splitlines()[-1] == count


def test_fault_of_the_updater_is_named_with_feature_user_values_and_first_event(
    deployed: Home, served: World, breakable_store: BreakableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_hours_off(*given: Any, ts_s: np.ndarray, **more: Any) -> None:
        apply(*given, ts_s=ts_s - np.uint32(7_200), **more)

    monkeypatch.setattr(updating, "apply", two_hours_off)
    ((event, at), *_) = asyncio.run(happen(breakable_store.url, served, "visitor [1]", 3))
    asyncio.run(serve(served, breakable_store.url, ["visitor [1]", "visitor [1]", "user-0001"]))
    run = deployed.riffle("features", "verify")
    assert run.code == 1
    assert run.out.count("differs user 'visitor [1]', answer ") == 1
    assert " and 1 later ones" in run.out
    assert f"click of '{event.item_id}' at 20" in run.out
    assert f", log {text_of(position_of(at.encode()))}: the served state has another time of it" in run.out
    assert "user_log_idle_s" in run.out
    assert "user_log_activity_1h differs in 2" in run.out
    assert "1 verified to the bit, 2 without parity, 1 not verified" in run.out
    monkeypatch.setattr(parity, "SHOWN", 0)
    few = deployed.riffle("features", "verify")
    assert "differs user" not in few.out
    assert "1 more users or events are not shown" in few.out


def test_definition_that_changed_is_told_from_a_fault_of_the_state(
    deployed: Home, served: World, breakable_store: BreakableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(serve(served, breakable_store.url, ["user-0001"]))
    values = frame.values

    def other(*columns: np.ndarray) -> np.ndarray:
        return values(*columns) + np.float32(1)

    monkeypatch.setattr(frame, "values", other)
    run = deployed.riffle("features", "verify")
    assert run.code == 1
    assert "the recorded state gives other values now: definitions or defaults have changed" in run.out
    assert run.out.count("another digest") == 4
    assert "user_positive_rate differs in 1" in run.out


def test_state_whose_difference_no_candidate_shows_is_told(
    deployed: Home, served: World, breakable_store: BreakableStore
) -> None:
    with redis.Redis.from_url(breakable_store.url) as server:
        key = state_key(live_name(server.get(live_key())), "user-0001")
        states, _ = unpack([server.get(key)], SCHEMA_HASH)
        states.activity[0, 2] += 1
        server.set(key, pack(states, SCHEMA_HASH)[0])
    asyncio.run(serve(served, breakable_store.url, ["user-0001"]))
    run = deployed.riffle("features", "verify")
    assert run.code == 1
    assert "the served state has the same events, but its counters differ: activity" in run.out
    assert "no feature of this answer's candidates differs" in run.out


def test_states_behind_the_log_are_counted_and_no_failure(
    deployed: Home, served: World, breakable_store: BreakableStore
) -> None:
    url = breakable_store.url

    async def logged_only() -> None:
        async with log_at(url) as log:
            event = msgspec.structs.replace(some_events(1, seed=1)[0], user_id="visitor", verb=int(Verb.CLICK))
            await log.append([event])
        await asyncio.sleep(2.2)

    asyncio.run(logged_only())
    asyncio.run(serve(served, url, ["visitor", "nobody"]))
    run = deployed.riffle("features", "verify")
    assert run.code == 0
    assert "1 served states were behind the log, the oldest of them by 2." in run.out


def test_answers_from_before_the_import_are_left_out(
    deployed: Home, served: World, breakable_store: BreakableStore
) -> None:
    asyncio.run(serve(served, breakable_store.url, ["user-0001"]))
    imported(breakable_store.url, since_s=-60 - SETTLED_S)
    run = deployed.riffle("features", "verify")
    assert run.code == 0
    assert "not verified 2: answered before the present import was live" in run.out


def test_states_that_grew_without_an_import_are_verified_against_the_log(
    deployed: Home, served: World, breakable_store: BreakableStore
) -> None:
    with redis.Redis.from_url(breakable_store.url) as server:
        server.flushall()
    asyncio.run(happen(breakable_store.url, served, "visitor", 3))
    asyncio.run(serve(served, breakable_store.url, ["visitor", "user-0001"]))
    run = deployed.riffle("features", "verify")
    assert (run.code, "2 verified to the bit, 0 without parity" in run.out) == (0, True)


def test_what_cannot_be_done_is_one_sentence(deployed: Home, breakable_store: BreakableStore, tmp_path: Path) -> None:
    assert "nothing is deployed" in refused(Home(tmp_path / "state").riffle("features", "verify"))
    wrong = deployed.riffle("features", "verify", "--since", "yesterday")
    assert wrong.code == 2
    assert "yesterday" in wrong.err
    (tmp_path / "state" / "data" / "current.json").unlink()
    assert "from another import" in refused(deployed.riffle("features", "verify"))
    breakable_store.end()
    assert "does not answer" in refused(deployed.riffle("features", "verify"))

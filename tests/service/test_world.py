"""The worlds of earlier answers: that in service is used as it is, others are loaded once."""

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import redis

from recsys.datasets import dataset as storage
from recsys.datasets.dataset import Dataset
from recsys.errors import RegistryError
from recsys.items import Item
from recsys.types import World
from service.archives import event_archive, user_of
from service.decisions import Decision
from service.errors import StackError
from service.forgetting import Forgetting
from service.imports import current_dataset, folder_of
from service.rebuild import rebuild
from service.record_schemas import Outcome
from service.replay import replay
from service.round_trips import RoundTrips
from service.schemas import RecommendationRequest
from service.settings import Settings
from service.state_keys import refused_key
from service.store_client import now_ms
from service.withdrawal import let_go
from service.world import recorded_worlds, registry
from tests.service.conftest import BreakableStore
from tests.service.gateways import KeptDecisions
from tests.service.test_archiver import archiver_at, log_at
from tests.service.test_decisions import decision
from tests.service.test_eraser import eraser_in
from tests.service.test_item_updater import put, settle
from tests.service.test_live_world import gateway_of, live_at
from tests.service.test_updater import catch_up, some_events, updater_at

NO_STORE = "redis://127.0.0.1:1/0"


def test_world_in_service_is_not_loaded_again(published_home: Settings, served: World) -> None:
    world_of = recorded_worlds(published_home, NO_STORE, {served.bundle.id: served}.get)
    assert world_of(decision(1, bundle=served.bundle.id, candidates=served.candidates)) is served
    narrow = world_of(decision(2, bundle=served.bundle.id, candidates=50))
    assert narrow.candidates == 50
    assert narrow.bundle is served.bundle
    assert world_of(decision(3, bundle=served.bundle.id, candidates=50)) is narrow


def test_other_bundle_is_loaded_once_from_the_registry(published_home: Settings, served: World) -> None:
    in_service = replace(served, bundle=replace(served.bundle, id="20250101-0123456789ab"))
    world_of = recorded_worlds(published_home, NO_STORE, {in_service.bundle.id: in_service}.get)
    first, second = (world_of(decision(1, bundle=served.bundle.id, candidates=n)) for n in (200, 77))
    assert first.bundle.id == served.bundle.id
    assert first.bundle is second.bundle is not served.bundle
    assert (first.candidates, second.candidates) == (200, 77)


def test_bundle_that_is_gone_is_an_error_each_time(published_home: Settings) -> None:
    world_of = recorded_worlds(published_home, NO_STORE)
    for _ in range(2):
        with pytest.raises(RegistryError):
            world_of(decision(1, bundle="20250101-0123456789ab"))


def test_item_stats_of_a_version_that_needs_the_store_are_an_error_without_it(published_home: Settings) -> None:
    world_of = recorded_worlds(published_home, NO_STORE)
    champion = registry(published_home).resolve("champion")
    with pytest.raises(StackError, match="does not answer"):
        world_of(decision(1, bundle=champion, item_stats="0123abcd.1700000000000"))


def verdicts_of(records: list[Decision], world_of: Callable[[Decision], World]) -> dict[str, list[str]]:
    """What came of making some answers again, by outcome: the detail of each."""
    found: dict[str, list[str]] = {}
    for record in records:
        verdict = replay(record, world_of)
        found.setdefault(verdict.outcome.value, []).append(str(verdict.detail))
    return found


def home_with(dataset: Dataset, published: Settings, folder: Path) -> Settings:
    """A home of its own, with the bundles of another and a data set imported."""
    home = Settings(home=str(folder))
    shutil.copytree(published.home_path / "registry", folder / "registry")
    storage.save(dataset, folder_of(home) / dataset.name)
    current = {"name": dataset.name, "source": None, "positive_rating": home.positive_rating}
    (folder_of(home) / "current.json").write_text(json.dumps(current))
    return home


@pytest.mark.valkey
async def test_answers_of_others_are_made_again_after_users_were_forgotten_and_for_as_long_as_is_set(
    published_home: Settings, served: World, breakable_store: BreakableStore, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    """Of before, between and after three erasures; that of a user who never was changes nothing."""
    home, url, kept = home_with(synthetic_dataset, published_home, tmp_path), breakable_store.url, KeptDecisions()
    archive, users = event_archive(home), [f"user-{number:04d}" for number in range(9)]
    await asyncio.to_thread(rebuild, url, synthetic_dataset, archive)
    item_ids, bases = served.bundle.vocabulary.item_id.tolist(), []
    store, server = RoundTrips(url, timeout_ms=5000, connections=1), redis.Redis.from_url(url)
    async with live_at(url, served) as (live, items), log_at(url) as log, updater_at(url) as states:
        gateway, forgetting = gateway_of(live, kept), Forgetting(store, refuse_s=3600)
        for number, gone in enumerate(["user-0003", "a visitor who never was", "user-0005", "visitor", None]):
            for half in range(2):
                events = [
                    msgspec.structs.replace(event, user_id=[*users, "visitor"][n % 10], item_id=item_ids[n % 7])
                    for n, event in enumerate(some_events(60, seed=2 * number + half))
                ]
                await log.append([one for one in events if not server.exists(refused_key(one.user_id))])
                await catch_up(states)
                await settle(items)
                await live.refresh()
                for user in users:
                    await gateway.recommend(RecommendationRequest(user_id=user, count=100))
            bases.append(kept.records[-1].item_stats.partition(".")[0])
            if gone:
                await forgetting.forget(gone)
                assert await eraser_in(store, home, url).step() == 1
    await store.close()
    assert bases[1] == bases[2]
    assert len(set(bases)) == 4
    others = [one for one in kept.records if user_of(one) not in ("user-0003", "user-0005")]
    assert len({one.item_stats for one in others}) == 10
    world_of = recorded_worlds(home, url)
    assert verdicts_of(others, world_of).keys() == {"identical"}
    await asyncio.to_thread(rebuild, url, current_dataset(home), archive)
    assert verdicts_of(others, world_of).keys() == {"identical"}
    let_go(msgspec.structs.replace(home, withdrawn_kept_s=0), now_ms(server) + 1)
    found = verdicts_of(others, world_of)
    assert len(found["identical"]) == len([one for one in others if one.item_stats.startswith(bases[-1])])
    assert {"are gone" in detail for outcome in found if outcome != "identical" for detail in found[outcome]} == {True}
    server.close()


@pytest.mark.valkey
async def test_answers_of_many_versions_are_made_again_identical_new_items_and_withheld_ones_included(
    published_home: Settings, served: World, breakable_store: BreakableStore, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    """While events arrive, are archived, and items come and go; and after a rebuild as well."""
    home = home_with(synthetic_dataset, published_home, tmp_path)
    url, archive, kept = breakable_store.url, event_archive(home), KeptDecisions()
    await asyncio.to_thread(rebuild, url, synthetic_dataset, archive)
    item_ids = served.bundle.vocabulary.item_id.tolist()
    async with (
        live_at(url, served) as (live, items),
        log_at(url) as log,
        updater_at(url) as states,
        archiver_at(url, archive, kept=50) as archiver,
    ):
        gateway = gateway_of(live, kept)
        for number in range(12):
            events = [
                msgspec.structs.replace(event, user_id=f"user-{n % 9:04d}", item_id=item_ids[n % 50])
                for n, event in enumerate(some_events(60, seed=number))
            ]
            await log.append(events)
            category = served.bundle.category_name[number % len(served.bundle.category_name)]
            put(url, f"new-{number}", Item(title=f"New {number}", categories=(category, f"own-{number}")))
            put(url, item_ids[number], Item(available=False))
            await catch_up(states)
            await settle(items)
            await live.refresh()
            if number % 3 == 0:
                await archiver.step()
            for user in range(9):
                await gateway.recommend(RecommendationRequest(user_id=f"user-{user:04d}", count=100))
            await gateway.recommend(RecommendationRequest(user_id="nobody"))
    assert len({record.item_stats for record in kept.records}) == 12
    assert any(item.startswith("new-") for record in kept.records for item in record.items)
    for rebuilt in (False, True):
        if rebuilt:
            await asyncio.to_thread(rebuild, url, synthetic_dataset, archive)
        world_of = recorded_worlds(home, url)
        verdicts = [await asyncio.to_thread(replay, record, world_of) for record in kept.records]
        assert {one.outcome for one in verdicts} == {Outcome.IDENTICAL}, [one.detail for one in verdicts if one.detail][
            :3
        ]
    other = msgspec.structs.replace(kept.records[0], item_stats="0123abcd.1700000000000")
    assert "are gone" in str((await asyncio.to_thread(replay, other, world_of)).detail)

"""From a served item back to the events that trained it: every link is found, or says why it is missing."""

import asyncio
import json
from dataclasses import replace as changed
from pathlib import Path

import msgspec
import pytest

from recsys.datasets.content import content_hash
from recsys.datasets.dataset import Dataset, save
from recsys.erased_users import user_digest
from recsys.manifest import Manifest, read_manifest
from recsys.training.train import train, write
from recsys.types import World
from recsys.verbs import Verb
from service.archives import erased_users, event_archive, event_rows
from service.autopilot import snapshots
from service.causes import sources_of
from service.cli.lineage import _of_sources, data_of, records_of
from service.decisions import Decision, DecisionLog, Erased
from service.errors import NotFound, Unknown
from service.event_log import Event
from service.gateway import Gateway
from service.imports import folder_of, history
from service.junk import keep_junk
from service.lineage import Link, lineage
from service.rebuild import rebuild
from service.round_trips import RoundTrips
from service.schemas import RecommendationRequest, Session, SimilarRequest
from service.settings import Settings
from service.stack import application
from service.state_keys import shard
from tests import worlds
from tests.service.conftest import BreakableStore
from tests.service.gateways import KeptDecisions, colocated
from tests.service.test_archiver import log_at
from tests.service.test_cli import Home, refused
from tests.service.test_updater import catch_up, some_events, updater_at

pytestmark = pytest.mark.valkey

USER = "user-0007"


def import_into(settings: Settings, dataset: Dataset) -> None:
    save(dataset, folder_of(settings) / dataset.name)
    current = {"name": dataset.name, "source": None, "positive_rating": settings.positive_rating}
    (folder_of(settings) / "current.json").write_text(json.dumps(current), "utf-8")


@pytest.fixture
def home(tmp_path: Path, published_home: Settings, synthetic_dataset: Dataset, breakable_store: BreakableStore) -> Home:
    """A home with an import, a bundle trained on it, and states of all its users in a store of its own."""
    state = tmp_path / "state"
    settings = Settings(home=str(state))
    record = application._record(settings)
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"redis_url": breakable_store.url}), "utf-8")
    (state / "registry").symlink_to(Path(published_home.home) / "registry")
    import_into(settings, synthetic_dataset)
    rebuild(breakable_store.url, synthetic_dataset, event_archive(settings))
    return Home(tmp_path)


def settings_of(home: Home) -> Settings:
    return Settings(home=str(home.path / "state"))


async def served_to(
    world: World, url: str, *asked: RecommendationRequest | SimilarRequest, events: int = 0
) -> list[Decision]:
    """What is recorded of these requests, in the stream as well; before them the user does something, live."""
    if events:
        async with log_at(url) as log, updater_at(url) as updater:
            ids = world.bundle.vocabulary.item_id
            done = [
                msgspec.structs.replace(one, user_id=USER, item_id=ids[number], verb=int(Verb.CLICK))
                for number, one in enumerate(some_events(events, seed=1))
            ]
            await log.append(done)
            await catch_up(updater)
    store, kept = RoundTrips(url, timeout_ms=2000, connections=1), KeptDecisions()
    log = DecisionLog(store, queue=100, stream_length=1000)
    async with colocated(url) as stages:
        gateway = Gateway(world, stages, kept, Settings(deadline_ms=10_000))
        for one in asked:
            await (gateway.similar(one) if isinstance(one, SimilarRequest) else gateway.recommend(one))
        for record in kept.records:
            log.put(record)
        await log.flush()
    await store.close()
    return [msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Decision) for one in kept.records]


def walk(home: Home, url: str, record: Decision | Erased, item: str | None = None, events: int = 3) -> dict[str, Link]:
    return {one.name: one for one in lineage(record, item, records_of(settings_of(home), url), events=events)}


def missing(links: dict[str, Link]) -> dict[str, str]:
    return {name: one.missing for name, one in links.items() if one.missing}


def test_walk_reaches_the_events_behind_an_item(
    home: Home, served: World, synthetic_dataset: Dataset, breakable_store: BreakableStore
) -> None:
    (record,) = asyncio.run(served_to(served, breakable_store.url, RecommendationRequest(user_id=USER), events=4))
    links = walk(home, breakable_store.url, record)
    assert list(links) == ["decision", "bundle", "data", "sources", "item", "user"]
    assert missing(links) == {}
    item = record.items[0]
    assert links["decision"].found["item_id"] == item
    assert links["bundle"].found["id"] == served.bundle.id
    assert links["data"].found["content_hash"] == content_hash(synthetic_dataset)
    assert links["data"].found["same_as_trained_on"] is True
    assert links["sources"].found["replay"] == "identical"
    tables = [one for one in links["sources"].found["sources"] if one["source"] in ("transitions", "nearby", "similar")]
    assert tables
    liked = {synthetic_dataset.item_id[row] for row in synthetic_dataset.events.item.tolist()}
    for source in links["sources"].found["sources"]:
        for cause in source["because_of"]:
            if source["source"] == "content":  # no event made it
                continue
            evidence = cause["evidence"]
            assert evidence["same_weight"] in (True, None)
            assert len(evidence["newest"]) <= 3
            for events in evidence["newest"]:
                assert (events["of"]["item_id"], events["to"]["item_id"]) == (cause["item_id"], item)
                assert events["of"]["user_id"] == events["to"]["user_id"] in synthetic_dataset.user_id
    assert item in liked
    assert links["item"].found["positives"] >= len(links["item"].found["newest"]) == 3
    user = links["user"].found
    assert user["same_state"] is True
    assert [one["lies_in"] for one in user["newest"]] == ["log"] * 3
    own = synthetic_dataset.user_id.index(USER)
    assert user["events"] == int((synthetic_dataset.events.user == own).sum()) + 4


def test_what_is_described_alike_is_tied_by_what_is_in_both(served: World, breakable_store: BreakableStore) -> None:
    recipe = msgspec.structs.replace(served.bundle.recipe, sources=("CONTENT", "POPULAR"))
    world = changed(served, bundle=changed(served.bundle, recipe=recipe))
    ask = RecommendationRequest(user_id=USER)
    (record,) = asyncio.run(served_to(world, breakable_store.url, ask, events=4))
    found = [sources_of(record, world, item, None, events=3) for item in record.items]
    sources = [source for one in found for source in one["sources"] if source["source"] == "content"]
    causes = [cause for source in sources for cause in source["because_of"]]
    assert causes
    assert all(cause["evidence"] is None and cause["weight"] > 0 for cause in causes)
    categories = set(world.bundle.category_name)
    assert all(cause["in_common"] for cause in causes)
    assert any(categories & set(cause["in_common"]) for cause in causes)
    said = [line for one in found for line in _of_sources(one)]
    assert f"    both are described with {', '.join(causes[0]['in_common'])}" in said


def test_item_of_the_list_is_walked_from_and_another_is_refused(
    home: Home, served: World, breakable_store: BreakableStore
) -> None:
    (record,) = asyncio.run(served_to(served, breakable_store.url, RecommendationRequest(user_id=USER)))
    links = walk(home, breakable_store.url, record, record.items[5])
    assert links["decision"].found["rank"] == 6
    assert missing(links) == {}
    with pytest.raises(NotFound, match="'elsewhere' is not in"):
        walk(home, breakable_store.url, record, "elsewhere")
    with pytest.raises(NotFound, match="had no items"):
        walk(home, breakable_store.url, msgspec.structs.replace(record, items=[], scores=[]))


def test_stranger_with_a_session_has_no_state_and_a_visit(
    home: Home, served: World, breakable_store: BreakableStore
) -> None:
    visit = [served.bundle.vocabulary.item_id[row] for row in (3, 5)]
    asked = RecommendationRequest(user_id="nobody", session=Session(item_ids=visit))
    (record,) = asyncio.run(served_to(served, breakable_store.url, asked))
    links = walk(home, breakable_store.url, record)
    assert missing(links) == {}
    assert (links["user"].found["note"], links["user"].found["session"]) == ("no state", visit)
    causes = {cause["item_id"] for one in links["sources"].found["sources"] for cause in one["because_of"]}
    assert causes <= set(visit)


def test_erased_record_says_that_its_user_was_forgotten(home: Home, breakable_store: BreakableStore) -> None:
    links = walk(home, breakable_store.url, Erased(id="019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11", time_ms=5))
    assert list(links) == ["decision"]
    assert "its user was forgotten" in links["decision"].missing


def test_forgotten_user_takes_their_events_with_them_and_the_walk_says_so(
    home: Home, served: World, synthetic_dataset: Dataset, breakable_store: BreakableStore
) -> None:
    (record,) = asyncio.run(served_to(served, breakable_store.url, RecommendationRequest(user_id=USER)))
    others = [one for one in synthetic_dataset.user_id if one != USER][:60]
    erased_users(settings_of(home)).add({user_digest(one): 0 for one in others})
    links = walk(home, breakable_store.url, record)
    assert missing(links) == {}
    data = links["data"].found
    assert data["same_as_trained_on"] is False
    assert "not the data that it was trained on" in data["note"]
    assert "users less" in data["note"]
    shown = json.dumps([links[name].found for name in ("sources", "item")])
    assert not any(f'"{one}"' in shown for one in others)
    erased_users(settings_of(home)).add({user_digest(USER): 0})
    assert "no event of 'user-0007' is there any more" in walk(home, breakable_store.url, record)["user"].missing


def test_another_import_takes_the_training_events_and_leaves_the_rest(
    home: Home, served: World, breakable_store: BreakableStore
) -> None:
    (record,) = asyncio.run(served_to(served, breakable_store.url, RecommendationRequest(user_id=USER)))
    import_into(settings_of(home), worlds.two_tastes())
    links = walk(home, breakable_store.url, record)
    assert set(missing(links)) == {"data", "item", "user"}
    assert "another import than the current one: synthetic, not" in links["data"].missing
    assert links["item"].missing == "the data are missing, see there"
    assert "another import" in links["user"].missing
    causes = [cause for one in links["sources"].found["sources"] for cause in one["because_of"]]
    assert causes
    assert all(cause["evidence"] is None for cause in causes)


def test_without_an_import_there_are_no_data(home: Home, served: World, breakable_store: BreakableStore) -> None:
    (record,) = asyncio.run(served_to(served, breakable_store.url, RecommendationRequest(user_id=USER)))
    (folder_of(settings_of(home)) / "current.json").unlink()
    assert "no data set is imported" in walk(home, breakable_store.url, record)["data"].missing


def test_pruned_bundle_takes_all_but_the_record_and_the_user(
    home: Home, served: World, breakable_store: BreakableStore
) -> None:
    (record,) = asyncio.run(served_to(served, breakable_store.url, RecommendationRequest(user_id=USER)))
    gone = msgspec.structs.replace(record, bundle="20200101-0123456789ab")
    links = walk(home, breakable_store.url, gone)
    assert set(missing(links)) == {"bundle", "data", "sources", "item"}
    assert "no bundle '20200101-0123456789ab'" in links["bundle"].missing
    assert links["user"].found["same_state"] is True


def test_similar_items_are_nobodys_and_not_made_again(
    home: Home, served: World, breakable_store: BreakableStore
) -> None:
    asked = SimilarRequest(item_ids=[served.bundle.vocabulary.item_id[0]])
    (record,) = asyncio.run(served_to(served, breakable_store.url, asked))
    links = walk(home, breakable_store.url, record)
    assert set(missing(links)) == {"sources", "user"}
    assert "answers of kind 'similar' are not made by recommend() alone" in links["sources"].missing
    assert "are nobody's" in links["user"].missing


def test_state_that_the_events_do_not_give_is_said(home: Home, served: World, breakable_store: BreakableStore) -> None:
    one, other = asyncio.run(
        served_to(
            served,
            breakable_store.url,
            RecommendationRequest(user_id=USER),
            RecommendationRequest(user_id="user-0008"),
        )
    )
    swapped = msgspec.structs.replace(one, user_state=other.user_state)
    links = walk(home, breakable_store.url, swapped)
    assert links["user"].missing or links["user"].found["same_state"] is False
    broken = msgspec.structs.replace(one, user_state=b"no state")
    links = walk(home, breakable_store.url, broken)
    assert "does not decode" in links["user"].missing


def test_bundle_of_before_walks_over_all_that_is_there(
    home: Home, served: World, breakable_store: BreakableStore
) -> None:
    (record,) = asyncio.run(served_to(served, breakable_store.url, RecommendationRequest(user_id=USER)))
    records = records_of(settings_of(home), breakable_store.url)

    def old(bundle_id: str) -> Manifest:
        manifest = records.manifest_of(bundle_id)
        kept = ("name", "title", "synthetic", "fingerprint", "attribution")
        dataset = {name: manifest.fields["dataset"][name] for name in kept}
        return msgspec.structs.replace(manifest, fields=manifest.fields | {"dataset": dataset, "learnt_from": None})

    links = lineage(record, None, changed(records, manifest_of=old), events=1)
    (data,) = (one for one in links if one.name == "data")
    assert data.found["same_as_trained_on"] is None
    assert "did not record what the data held" in data.found["note"]

    def bare(bundle_id: str) -> Manifest:
        manifest = old(bundle_id)
        fields = {name: one for name, one in manifest.fields.items() if name != "protocol"}
        return msgspec.structs.replace(manifest, fields=fields)

    links = lineage(record, None, changed(records, manifest_of=bare), events=1)
    assert {one.name for one in links if one.missing} == {"data", "item"}
    assert "the bundle's manifest has no 'protocol'" in next(one.missing for one in links if one.name == "data")


def test_data_of_which_junk_was_left_out_are_found_without_it(home: Home) -> None:
    """As the autopilot does: a flood is left out, on a snapshot that was kept as files."""
    settings, tastes = settings_of(home), worlds.two_tastes()
    import_into(settings, tastes)
    end_ms = int(tastes.events.ts_ms[-1])
    flood = [
        Event(
            event_id=str(number),
            type="click",
            user_id="robot",
            item_id=tastes.item_id[number % 40],
            ts_ms=end_ms + 1000 * (1 + number),
            received_ms=end_ms,
            verb=int(Verb.CLICK),
        )
        for number in range(3_000)
    ]
    events, shard_of_robot = event_archive(settings), shard("robot")
    until = events.until()
    until[shard_of_robot] = (9_000, 0)
    rows = event_rows([(shard_of_robot, (1 + number, 0), one) for number, one in enumerate(flood)])
    assert events.append(rows, after=events.until(), until=until)
    whole = history(settings)
    name, *_ = snapshots.take(settings)
    found = snapshots.screened(settings, name, since_ms=end_ms + 1)
    assert found.flooding == ("robot",)
    folder = home.path / "bundle"
    write(train(found.dataset, worlds.SMALL), found.dataset, folder, code_commit="0" * 12, parent=None)
    manifest = read_manifest(folder)
    with pytest.raises(Unknown, match="as junk is not known in this home"):
        data_of(settings, manifest)
    keep_junk(settings, manifest.id, found.junk)
    again = data_of(settings, manifest)
    assert content_hash(again) == manifest.fields["dataset"]["content_hash"] != content_hash(whole)
    assert len(again.events) == len(tastes.events)


# --- the command ---


def test_command_prints_every_link_and_its_json_twin_has_the_same(
    home: Home, served: World, breakable_store: BreakableStore
) -> None:
    (record,) = asyncio.run(served_to(served, breakable_store.url, RecommendationRequest(user_id=USER)))
    text = home.riffle("lineage", record.id)
    assert (text.code, text.err) == (0, ""), text
    for name in ("decision", "bundle", "data", "sources", "item", "user"):
        assert f"✓ {name}" in text.out
    assert "which give that weight" in text.out
    plain = home.riffle("lineage", record.id, "--json", "--item", record.items[1], "--events", "1")
    links = json.loads(plain.out)["links"]
    assert [one["name"] for one in links] == ["decision", "bundle", "data", "sources", "item", "user"]
    assert links[0]["found"]["item_id"] == record.items[1]
    assert len(links[4]["found"]["newest"]) == 1


def test_command_ends_with_1_where_a_link_is_missing(
    home: Home, served: World, breakable_store: BreakableStore
) -> None:
    (record,) = asyncio.run(served_to(served, breakable_store.url, RecommendationRequest(user_id=USER)))
    import_into(settings_of(home), worlds.two_tastes())
    run = home.riffle("lineage", record.id)
    assert run.code == 1
    assert "✗ data" in run.out
    assert "no record of" in refused(home.riffle("lineage", "019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11"))
    assert "no bundle 'nothing'" in refused(home.riffle("lineage", "nothing"))


def test_command_shows_the_parents_of_a_bundle(home: Home) -> None:
    text, plain = home.riffle("lineage", "champion"), home.riffle("lineage", "champion", "--json")
    assert (text.code, plain.code) == (0, 0)
    assert "it has no parent" in text.out
    assert [one["id"] for one in json.loads(plain.out)] == [home.registry.champion()]

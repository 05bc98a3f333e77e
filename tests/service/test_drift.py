"""A look at real records and events in a real store: what it says, what it counts once, what it cannot see."""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis

from recsys.datasets.dataset import Dataset
from recsys.durable import put
from recsys.errors import RegistryError
from recsys.features.codec import pack
from recsys.features.matrix import SCHEMA_HASH
from recsys.manifest import MANIFEST_NAME, read_manifest, write_manifest
from recsys.monitoring.causes import Remedy
from recsys.monitoring.reference import FILE, openings
from recsys.monitoring.watch import LAYOUT_OF_WATCH, Watch, Watched
from recsys.registry import Registry
from recsys.training.log import Log
from recsys.training.train import Trained, write
from recsys.types import World
from service.decisions import STREAM, Decision
from service.drift import Look, _before, _is_aged, look, worth_retraining
from service.drift_memory import remembered
from service.errors import StackError
from service.event_log import Event, stream_key
from service.identifiers import recommendation_id
from service.settings import Settings
from service.state_keys import shard
from service.world import load_world
from tests.recsys.test_registry import make_bundle
from tests.service.conftest import BreakableStore

pytestmark = pytest.mark.valkey

HOUR_MS = 3_600_000
START_MS = 1_790_000_000_000 // HOUR_MS * HOUR_MS
HOURS = 6


class Served:
    """A home with one bundle, and lists that were asked for where its validation questions open an hour."""

    def __init__(self, settings: Settings, url: str, dataset: Dataset) -> None:
        self.settings, self.url = settings, url
        self.world: World = load_world(settings)
        self.client = redis.Redis.from_url(url)
        log = Log.of(dataset)
        asked = openings(log, log.moment(0.8)).limited(240, seed=1)
        self.states = pack(asked.known(log).states, SCHEMA_HASH)
        self.asked, self.users = asked, [dataset.user_id[user] for user in asked.user]
        self.items = self.world.bundle.vocabulary.item_id.tolist()

    def records(self, hours: int = HOURS, **fields: Any) -> list[Decision]:
        """The questions, spread over some hours; the moment of each is as long ago for its state as it was."""
        found = []
        for place, (user, state) in enumerate(zip(self.users, self.states, strict=True)):
            at_ms = START_MS + place * hours * HOUR_MS // len(self.users)
            usual: dict[str, Any] = {
                "id": recommendation_id(at_ms).text, "kind": "recommendations", "time_ms": at_ms,
                "bundle": self.world.bundle.id, "item_stats": self.world.item_stats.version, "candidates": 200,
                "propensity": 1.0, "query": {"user_id": f"{user}-{place}"}, "user_state": state, "seed": place,
                "now_s": int(self.asked.now_s[place]), "items": self.items[:10], "scores": [0.5] * 10, "degraded": [],
                "timing_ms": {},
            }  # fmt: skip
            found.append(Decision(**usual | fields))
        return found

    def answer(self, *records: Decision) -> None:
        for one in sorted(records, key=lambda one: one.time_ms):
            self.client.xadd(STREAM, {"d": msgspec.msgpack.encode(one)}, id=f"{one.time_ms + 50}-*")

    def log(self, *events: Event, late_ms: int = 0) -> None:
        for one in sorted(events, key=lambda one: one.received_ms):
            at = f"{one.received_ms + late_ms}-*"
            self.client.xadd(stream_key(shard(one.user_id)), {"e": msgspec.msgpack.encode(one)}, id=at)

    def look(self, after_hours: float = HOURS + 1, **arguments: Any) -> Look:
        return look(self.settings, self.url, now_ms=START_MS + int(after_hours * HOUR_MS), **arguments)


def click(record: Decision, place: int = 1) -> Event:
    at_ms = record.time_ms + 5_000
    return Event(
        event_id=f"{record.id}-{place}", type="click", user_id=record.query["user_id"], item_id=record.items[place - 1],
        ts_ms=at_ms, received_ms=at_ms, verb=2, recommendation_id=record.id, position=place,
    )  # fmt: skip


@pytest.fixture
def served(breakable_store: BreakableStore, trained: Trained, synthetic_dataset: Dataset, tmp_path: Path) -> Served:
    folder = tmp_path / "finished"
    write(trained, synthetic_dataset, folder, code_commit="0" * 12, parent=None)
    bundles = Registry(tmp_path / "registry")
    bundles.promote(bundles.publish(folder), reason="the only one", who="test")
    return Served(Settings(home=str(tmp_path)), breakable_store.url, synthetic_dataset)


def figure(found: Look, kind: str, subject: str, segment: str = "all") -> Any:
    return next(one for one in found.figures if (one.kind, one.subject, one.segment) == (kind, subject, segment))


def test_lists_as_those_of_validation_have_the_distributions_of_the_reference(served: Served) -> None:
    served.answer(*served.records())
    found = served.look()
    assert found.compared
    assert (found.alarms, found.causes, found.problems) == ([], [], [])
    assert found.rows == found.lists == len(served.users)
    for one in found.figures:
        if one.kind == "feature" and one.subject.startswith("cross_") and one.segment == "all":
            assert one.psi < 0.02, one
    assert found.distinct["lists"] == len(served.users)


def test_second_look_at_the_same_hours_says_the_same_and_counts_nothing_again(served: Served) -> None:
    served.answer(*served.records())
    first = served.look()
    document = (served.settings.home_path / "drift" / f"{first.bundle}.json").read_bytes()
    second = served.look()
    assert (second.hours, second.lists, second.rows) == (0, 0, first.rows)
    assert second.figures == first.figures
    assert (served.settings.home_path / "drift" / f"{first.bundle}.json").read_bytes() == document


def test_looks_hour_by_hour_come_to_what_one_look_at_all_hours_does(
    served: Served,
) -> None:
    served.answer(*served.records())
    rows = [served.look(after_hours=hour).rows for hour in range(1, HOURS + 2)]
    assert rows == sorted(rows)
    assert len(set(rows)) == HOURS + 1  # none of them is over at the first
    by_the_hour = served.look().figures
    (served.settings.home_path / "drift" / f"{served.world.bundle.id}.json").unlink()
    at_once = served.look().figures
    assert [one.rows for one in by_the_hour] == [one.rows for one in at_once]
    np.testing.assert_allclose([one.evidence for one in by_the_hour], [one.evidence for one in at_once])


def test_hour_under_way_is_looked_at_only_if_asked_and_is_not_remembered(served: Served) -> None:
    served.answer(*served.records(hours=1))
    (problem,) = served.look(after_hours=1.05).problems
    assert problem == "nothing was looked at yet: no hour with lists of this bundle is over"
    assert served.look(after_hours=1.05, remember=False).rows > 0
    assert served.look(after_hours=1.05).rows == 0


def test_clicks_are_put_down_to_the_lists_that_they_name(served: Served) -> None:
    records = served.records()
    served.answer(*records)
    served.log(*(click(one) for one in records[::4]))
    found = served.look()
    assert found.events == len(records[::4])
    day = next(iter(found.days.values()))
    assert day["lists clicked"] == [len(records[::4]), len(records)]


def test_unit_of_an_input_that_changes_is_named_a_broken_feature(served: Served) -> None:
    """The recorded moments are a thousand times as late: seconds that somebody takes for milliseconds."""
    records = served.records()
    late = [msgspec.structs.replace(one, now_s=one.now_s + 10**8 * 5) for one in records]
    served.answer(*late)
    found = served.look()
    assert found.causes[0].name == "broken feature"
    assert "user_log_idle_s" in found.causes[0].subject
    assert found.causes[0].remedy is Remedy.REPAIR
    assert any(one.harmful and one.subject == "user_log_idle_s" and one.since_s for one in found.alarms)


def test_people_who_come_back_to_old_data_are_named_so_in_every_look(served: Served) -> None:
    """Their newest interaction is in the import, whose data end 21 months before the lists."""
    served.answer(*(msgspec.structs.replace(one, now_s=one.time_ms // 1000) for one in served.records()))
    for _ in range(2):
        found = served.look()
        (old,) = [one for one in found.causes if one.name == "old data"]
        assert (old.subject, old.remedy) == ("user_log_idle_s", Remedy.RETRAIN)
        assert "ends 6" in old.why
        assert not any("user_log_idle_s" in one.subject for one in found.causes if one is not old)


@pytest.mark.parametrize(
    ("days_ago", "newest_days_ago", "aged"),
    [
        (100, [101, 150, 1], True),
        (100, [101, 1, 1], False),  # most came back
        (29, [40, 40, 40], False),  # the data are not old
        (100, [5_000, 5_000, 110], False),  # before all data
    ],
)
def test_data_are_old_where_most_did_nothing_since(days_ago: int, newest_days_ago: list[int], aged: bool) -> None:
    now_s = 1_790_000_000
    window = (now_s - 86_400.0 * (days_ago + 100), now_s - 86_400.0 * days_ago)
    assert _is_aged(now_s, window, [now_s - 86_400 * one for one in newest_days_ago]) is aged


def test_score_that_is_not_a_number_is_an_alarm(served: Served) -> None:
    records = served.records()
    records[7] = msgspec.structs.replace(records[7], scores=[math.nan] * 10)
    served.answer(*records)
    found = served.look()
    assert [(one.kind, one.subject, one.harmful) for one in found.alarms] == [("data", "scores", True)]
    assert found.causes[0].subject == "scores"
    assert "1 lists hold a score that is not a number" in found.problems
    later = served.look(HOURS + 3)  # whoever looked first has not swallowed it
    assert [(one.kind, one.subject) for one in later.alarms if one.kind == "data"] == [("data", "scores")]
    assert later.causes[0].subject == "scores"


def test_records_of_which_most_lists_cannot_be_made_again_are_an_alarm(served: Served) -> None:
    records = served.records()
    most = len(records) * 2 // 3
    served.answer(*(msgspec.structs.replace(one, item_stats="gone.1") for one in records[:most]), *records[most:])
    found = served.look()
    assert ("data", "records") in [(one.kind, one.subject) for one in found.alarms]
    assert any("lists could not be made again" in one for one in found.problems)
    assert ("data", "records") in [(one.kind, one.subject) for one in served.look(HOURS + 3).alarms]


def test_looks_of_a_clock_that_was_ahead_are_said_and_do_not_stop_later_ones(served: Served) -> None:
    served.answer(*served.records())
    assert served.look().until_s > START_MS // 1000 + 3 * 3600
    found = served.look(4)  # by a clock that is right, those before were hours ahead
    assert any("a clock was wrong; looks go on from now" in one for one in found.problems)
    assert ("data", "clocks") in [(one.kind, one.subject) for one in found.alarms]
    assert found.until_s <= START_MS // 1000 + 4 * 3600
    assert not any("a clock was wrong" in one for one in served.look(5).problems)


def test_older_bundle_without_reference_serves_and_the_look_says_that_nothing_was_compared(served: Served) -> None:
    assert_not_compared(served, None, "has no reference distributions")


def test_reference_of_another_version_is_named(served: Served) -> None:
    assert_not_compared(served, b'{"layout": 99}', "has layout 99, this version reads 1")


def test_reference_that_is_none_is_named(served: Served) -> None:
    assert_not_compared(served, b"[]", "holds no reference distributions")


def test_reference_without_a_distribution_of_a_feature_is_named(served: Served) -> None:
    reference = msgspec.json.decode(
        (Registry(served.settings.home_path / "registry").path("champion") / FILE).read_bytes()
    )
    assert_not_compared(
        served, msgspec.json.encode(reference | {"shapes": reference["shapes"][:1]}), "knows nothing of"
    )


@pytest.mark.parametrize(
    "change", [{"mean": [-5.0]}, {"mean": [1e308]}, {"error": [-1.0]}, {"components": ["a"]}, {"rows": -1}]
)
def test_reference_of_which_a_distribution_is_none_is_named(served: Served, change: dict[str, Any]) -> None:
    reference = msgspec.json.decode(
        (Registry(served.settings.home_path / "registry").path("champion") / FILE).read_bytes()
    )
    first = reference["shapes"][0]
    for name, value in change.items():
        first[name] = value * len(first[name]) if name in ("mean", "error") else value
    assert_not_compared(served, msgspec.json.encode(reference), "what no shares are")


def test_reference_that_was_deleted_is_a_damaged_bundle_and_no_older_one(served: Served) -> None:
    (Registry(served.settings.home_path / "registry").path("champion") / FILE).unlink()
    found = served.look()
    assert not found.compared
    assert "the manifest lists it, the folder lacks it" in found.problems[0]


def test_bundle_that_has_answered_nothing_raises_no_alarm_over_what_others_did(served: Served) -> None:
    records = served.records()
    served.answer(*(msgspec.structs.replace(one, bundle="another") for one in records))
    served.log(*(click(one) for one in records))
    found = served.look(remember=False)
    assert found.alarms == []
    assert found.not_measured == {"lists of other bundles": len(records)}
    assert found.problems == ["nothing was looked at yet: no hour with lists of this bundle is over"]


def test_a_bundle_is_looked_at_from_its_first_list_on(served: Served) -> None:
    records = served.records()
    middle = START_MS + 3 * HOUR_MS
    served.answer(
        *(one if one.time_ms >= middle else msgspec.structs.replace(one, bundle="another") for one in records)
    )
    served.log(*(click(one) for one in records))
    found = served.look()
    assert found.began_s == middle // 1000
    assert found.hours == 3


def test_home_that_cannot_be_written_to_is_said_and_a_look_that_remembers_nothing_needs_no_writing(
    served: Served,
) -> None:
    served.answer(*served.records())
    (served.settings.home_path / "drift").write_text("no folder")
    with pytest.raises(StackError, match="cannot be written to"):
        served.look()
    assert served.look(remember=False).rows > 0


def assert_not_compared(served: Served, content: bytes | None, why: str) -> None:
    bundles = Registry(served.settings.home_path / "registry")
    folder = served.settings.home_path / "older"
    folder.mkdir()
    for path in bundles.path("champion").iterdir():
        if path.name not in (FILE, MANIFEST_NAME):
            (folder / path.name).write_bytes(path.read_bytes())
    if content is not None:
        (folder / FILE).write_bytes(content)
    write_manifest(folder, fields=read_manifest(bundles.path("champion")).fields | {"created": "2025-01-01T00:00:00Z"})
    bundles.promote(bundles.publish(folder), reason="older", who="test")
    assert load_world(served.settings).bundle.ranker is not None
    found = served.look()
    assert not found.compared
    assert why in found.problems[0]
    assert [(one.kind, one.subject) for one in found.alarms] == [("data", "reference")]


def test_records_of_other_bundles_kinds_and_from_the_future_are_counted_and_not_compared(served: Served) -> None:
    one, *records = served.records()
    later = START_MS + 20 * HOUR_MS
    served.answer(
        *records,
        msgspec.structs.replace(one, bundle="another"),
        msgspec.structs.replace(one, kind="similar"),
        msgspec.structs.replace(one, time_ms=later, id=recommendation_id(later).text),
    )
    found = served.look()
    assert found.rows == len(records)
    assert found.not_measured == {
        "answers of kind 'similar' are not made for a user": 1,
        "lists of other bundles": 1,
        "records from the future: a clock is wrong": 1,
    }
    assert found.problems == ["1 records are from the future: the clock of a gateway is wrong"]


def test_gateway_whose_clock_is_not_the_stores_is_told(served: Served) -> None:
    records = served.records()
    served.answer(*records)
    served.log(*(click(one) for one in records), late_ms=30_000)
    found = served.look()
    assert ("data", "clocks") in [(one.kind, one.subject) for one in found.alarms]
    assert any("whose clock is not the store's" in one for one in found.problems)


def test_day_without_any_list_is_an_alarm(served: Served) -> None:
    served.answer(*served.records())
    assert served.look().alarms == []
    found = served.look(after_hours=HOURS + 26)
    assert [(one.kind, one.subject) for one in found.alarms] == [("data", "lists")]
    assert "no list and no event for 25 hours" in found.causes[0].why


def test_first_look_at_a_champion_takes_over_how_the_one_before_began(
    served: Served, trained: Trained, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    """Half of its lists were clicked; of those of the new one, which came in a drift, none are."""
    before, folder, bundles = served.world.bundle.id, tmp_path / "second", Registry(tmp_path / "registry")
    began = Watched(["lists clicked"], 0, baseline=[[3_000.0], [1_500.0], [1_500.0]])
    known = Watch(LAYOUT_OF_WATCH, before, series={"quality|clicks|all": began})
    put(tmp_path / "drift" / f"{before}.json", msgspec.json.encode(known))
    write(trained, synthetic_dataset, folder, code_commit="1" * 12, parent=before)
    bundles.promote(bundles.publish(folder), reason="in a drift", who="test")
    assert bundles.champion() != before
    records = served.records(bundle=bundles.champion())
    served.answer(*records)
    served.log(click(records[0]))
    (tmp_path / "drift" / f"{before}.json").rename(tmp_path / "kept")
    assert [one for one in served.look(remember=False).figures if one.subject == "clicks_before"] == []
    (tmp_path / "drift" / f"{before}.json").write_text("?")
    assert "not compared with how the bundle before began" in served.look(remember=False).problems[0]
    (tmp_path / "kept").rename(tmp_path / "drift" / f"{before}.json")
    seen = figure(served.look(), "quality", "clicks_before")
    assert (seen.usual, seen.rows) == ([0.5], len(records))
    assert seen.now[0] < 0.1


def test_what_served_before_is_of_the_first_time_that_a_bundle_was_champion(tmp_path: Path) -> None:
    bundles = Registry(tmp_path / "registry")
    one, two, three, never = (bundles.publish(make_bundle(tmp_path / f"{day}", day=day)) for day in (1, 2, 3, 4))
    for bundle in (one, two, three, two):
        bundles.promote(bundle, reason="why not", who="test")
    assert [_before(bundles, bundle) for bundle in (one, two, three, never)] == [None, one, two, two]


def test_where_nobody_can_say_what_served_before_that_is_told(tmp_path: Path) -> None:
    def unknown() -> str | None:
        raise RegistryError("change 7 does not decode")

    problems: list[str] = []
    assert remembered(tmp_path, "b", problems, before=unknown).before == {}
    assert "change 7 does not decode" in problems[0]


@pytest.mark.parametrize(
    ("content", "why"), [(b"{", "cannot be read"), (b'{"layout": 9, "bundle": "x"}', "is of another version")]
)
def test_damaged_state_of_earlier_looks_is_told_and_begun_anew(served: Served, content: bytes, why: str) -> None:
    served.answer(*served.records())
    first = served.look()
    (served.settings.home_path / "drift" / f"{first.bundle}.json").write_bytes(content)
    again = served.look()
    assert why in again.problems[0]
    assert again.rows == first.rows


def test_item_stats_that_stand_still_while_events_come_are_named_frozen(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = f"base.{START_MS - 5 * HOUR_MS}"
    monkeypatch.setattr("service.drift.recorded_worlds", lambda *_: lambda _: renamed(served.world, old))
    records = [msgspec.structs.replace(one, item_stats=old) for one in served.records()]
    served.answer(*records)
    served.log(*(click(one) for one in records))
    found = served.look()
    assert found.causes[0].name == "broken feature"
    assert found.causes[0].subject.startswith("item_stats")
    assert found.causes[0].why.startswith("frozen")


def renamed(world: World, version: str) -> World:
    from dataclasses import replace

    return replace(world, item_stats=replace(world.item_stats, version=version))


def test_store_that_does_not_answer_is_an_error(served: Served, breakable_store: BreakableStore) -> None:
    breakable_store.end()
    with pytest.raises(StackError, match="what was served cannot be read"):
        served.look()


def test_nothing_is_worth_retraining_where_nothing_runs_or_nothing_can_be_read(
    served: Served, breakable_store: BreakableStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert worth_retraining(Settings(home=str(tmp_path / "empty"))) == []
    at = msgspec.structs.replace(served.settings, redis_url=breakable_store.url)
    assert worth_retraining(at) == []
    breakable_store.end()
    assert worth_retraining(at) == []
    assert "drift cannot be looked at" in caplog.text


def test_quality_that_falls_is_worth_retraining_and_says_since_when(
    served: Served, breakable_store: BreakableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the lists are clicked, then few: the beginning is what they are compared with."""
    monkeypatch.setattr("recsys.monitoring.watch.BASELINE", 100)
    records = served.records(hours=24)
    served.answer(*records)
    half = len(records) // 2
    clicked = [one for one in records[:half] if one.seed % 10] + records[half::30]
    served.log(*(msgspec.structs.replace(click(one), verb=0) for one in clicked))  # of which states say nothing
    monkeypatch.setattr("service.drift.time.time_ns", lambda: (START_MS + 26 * HOUR_MS) * 1_000_000)
    ((said, since_s),) = worth_retraining(msgspec.structs.replace(served.settings, redis_url=breakable_store.url))
    assert said.startswith("taste drift")
    assert START_MS / 1000 + 12 * 3_600 < since_s <= START_MS / 1000 + 24 * 3_600

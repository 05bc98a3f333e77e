"""The steps in a real home: data that arrived, training, the gate, and traffic that is changed by a rollout alone."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from recsys.datasets.dataset import Dataset, Events, save
from recsys.datasets.leave_out import rewrite_without
from recsys.erased_users import user_digest
from recsys.errors import ArchiveError, TrainingError
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.gate import Line
from recsys.manifest import read_manifest, write_manifest
from recsys.retraining.triggers import due
from recsys.training.train import train, write
from recsys.verbs import EVENT_TYPES, Verb
from service.archives import erased_users, event_archive, event_rows
from service.autopilot import snapshots, works
from service.autopilot.learning import bundle_of
from service.autopilot.pilot import Pilot, Stop
from service.autopilot.run import Run, Runs
from service.autopilot.works import SHADOWED, HomeWorks, policy_of
from service.cli.lineage import data_of
from service.errors import TrafficError
from service.event_log import Event
from service.imports import folder_of
from service.junk import drop_junk, junk_of
from service.settings import Settings
from service.shadow import STREAM, Compared
from service.traffic import changes
from service.traffic.document import Shadow, Traffic
from service.traffic.table import TrafficTable, on_table
from service.world import registry
from tests import worlds
from tests.service.conftest import BreakableStore

DAY_MS = 86_400_000
RUN = Run("20261128T001500Z", "asked", "why not")
TYPE_OF = {verb: name for name, verb in EVENT_TYPES.items() if verb}


def part(dataset: Dataset, rows: slice) -> Events:
    return part_of(dataset.events, rows)


def part_of(events: Events, rows: slice) -> Events:
    return Events(*(getattr(events, name)[rows] for name in Events.__annotations__))


def archived(settings: Settings, dataset: Dataset, events: Events) -> None:
    """Events that came a moment after everything else, of no list."""
    archive = event_archive(settings)
    after = archive.until()
    now_ms = max(int(datetime.now(UTC).timestamp() * 1000), after[0][0]) + 1000
    logged = []
    for number in range(len(events)):
        logged.append(
            (
                0,
                (now_ms + number // 100, number),
                Event(
                    event_id=str(number),
                    type=TYPE_OF[int(events.verb[number])],
                    user_id=dataset.user_id[events.user[number]],
                    item_id=dataset.item_id[events.item[number]],
                    ts_ms=int(events.ts_ms[number]),
                    received_ms=now_ms,
                    verb=int(events.verb[number]),
                ),
            )
        )
    assert archive.append(event_rows(logged), after=after, until=[logged[-1][1], *after[1:]])


def imported_home(path: Path, dataset: Dataset, **fields: object) -> Settings:
    settings = Settings(home=str(path), autopilot_least=100, **fields)  # type: ignore[arg-type]
    save(dataset, folder_of(settings) / dataset.name)
    current = {"name": dataset.name, "source": None, "positive_rating": settings.positive_rating}
    (folder_of(settings) / "current.json").write_text(json.dumps(current), "utf-8")
    return settings


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.training.base_recipe", lambda _: worlds.SMALL)


def written(dataset: Dataset, share: float, folder: Path) -> tuple[Dataset, Path]:
    """The first part of the events, and a bundle that was trained on it."""
    early = replace(dataset, events=part(dataset, slice(0, int(share * len(dataset.events)))), place=None)
    write(train(early, worlds.SMALL), early, folder, code_commit="0" * 12, parent=None)
    return early, folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, synthetic_dataset: Dataset) -> Path:
    """A home whose champion knows two fifths of the events; three fifths came since."""
    folder = tmp_path_factory.mktemp("original")
    early, bundle = written(synthetic_dataset, 0.4, folder / "first")
    settings = imported_home(folder / "home", early)
    bundles = registry(settings)
    bundles.promote(bundles.publish(bundle), reason="first", who="test")
    archived(settings, synthetic_dataset, part(synthetic_dataset, slice(len(early.events), None)))
    return settings.home_path


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, synthetic_dataset: Dataset) -> Path:
    """A bundle that knows half of the events, not yet published."""
    return written(synthetic_dataset, 0.5, tmp_path_factory.mktemp("second") / "bundle")[1]


@pytest.fixture
def home(tmp_path: Path, original: Path) -> Settings:
    """`original`, to be changed."""
    shutil.copytree(original, tmp_path / "home")
    return Settings(home=str(tmp_path / "home"), autopilot_least=100)


def test_a_run_in_a_home_where_nothing_serves_promotes_what_is_surely_better(home: Settings) -> None:
    runs, before = Runs(home.home_path / "autopilot"), registry(home).champion()
    pilot = Pilot(runs, HomeWorks(home), policy_of(home))
    assert pilot.begin("half a year of events").step == "snapshot"
    run = None
    while run is None or run.outcome is None:
        run, _ = pilot.step()
    assert run.outcome == "promoted", run
    assert registry(home).champion() == run.bundle != before == run.champion
    audit = registry(home).audit()[-1]
    assert audit.who == "autopilot"
    assert f"run {run.id}" in audit.reason
    page = runs.page(run).read_text()
    assert "## The gate" in page
    assert "NDCG@10 beside the champion" in page
    assert "## What checks found in the data" in page


def test_events_that_came_are_counted_and_a_run_makes_them_known(home: Settings, synthetic_dataset: Dataset) -> None:
    seen = HomeWorks(home).seen(None)
    cut = 2 * len(synthetic_dataset.events) // 5
    assert (seen.known, seen.new) == (cut, len(synthetic_dataset.events) - cut)
    assert seen.since_s is not None
    trigger = due(policy_of(home), replace(seen, since_s=7_200.0))
    assert trigger is not None
    assert trigger.kind == "volume"
    future = msgspec.structs.replace(RUN, id="20990101T000000Z", events=len(synthetic_dataset.events))
    seen = HomeWorks(home).seen(future)
    assert (seen.known, seen.new) == (len(synthetic_dataset.events), 0)


def test_drift_is_a_reason_until_a_run_has_answered_it(home: Settings) -> None:
    at_s = RUN.began_s
    assert HomeWorks(home, harmful=lambda: [("clicks fall", at_s + 1)]).seen(RUN).harmful == ("clicks fall",)
    assert HomeWorks(home, harmful=lambda: [("clicks fall", at_s - 1)]).seen(RUN).harmful == ()
    assert HomeWorks(home, harmful=lambda: [("clicks fall", at_s - 1)]).seen(None).harmful == ("clicks fall",)


def test_a_snapshot_is_the_same_for_the_same_data_and_is_kept_with_a_few_others(home: Settings) -> None:
    first, events, users = snapshots.take(home)
    again, *_ = snapshots.take(home)
    assert first == again
    found = snapshots.screened(home, first, since_ms=0)
    assert (len(found.dataset.events), len(found.dataset.user_id)) == (events, users)
    asked = snapshots.asked(home, first)
    assert asked is not None
    assert len(asked.events) == events
    for number in range(snapshots.KEPT + 2):
        save(found.dataset, folder_of(home) / f"snapshot-old{number}")
    snapshots.take(home)
    left = [one.name for one in folder_of(home).glob("snapshot-*") if not one.name.endswith("-asked")]
    assert len(left) <= snapshots.KEPT + 1
    assert f"snapshot-{first[:16]}" in left


def test_who_is_forgotten_is_forgotten_in_snapshots_too(home: Settings) -> None:
    name, *_ = snapshots.take(home)
    gone, other = snapshots.screened(home, name, since_ms=0).dataset.user_id[:2]
    remains = folder_of(home) / "snapshot-half"  # of one that was being removed, and of one that was being written
    remains.mkdir()
    (remains / "users.parquet").write_text(gone)
    (folder_of(home) / ".snapshot-writing.writing").mkdir()
    rewrite_without(folder_of(home), lambda _: {gone})
    assert gone not in snapshots.screened(home, name, since_ms=0).dataset.user_id
    assert not remains.exists()
    assert not (folder_of(home) / ".snapshot-writing.writing").exists()
    erased_users(home).add({user_digest(other): 1})
    assert other not in snapshots.screened(home, name, since_ms=0).dataset.user_id  # forgotten while it was written


def test_junk_is_refused_before_it_trains_and_named(home: Settings) -> None:
    """Two thirds of what came since are noise under the names of people."""
    settings, rng = home, np.random.default_rng(1)
    run = HomeWorks(settings).snapshot(RUN)
    newest = snapshots.screened(settings, str(run.snapshot), since_ms=0).dataset.events.ts_ms
    run = msgspec.structs.replace(run, trusted_ms=int(np.quantile(newest, 0.7)))  # where less is new than known
    folder = folder_of(settings) / f"snapshot-{str(run.snapshot)[:16]}"
    dataset = snapshots.screened(settings, str(run.snapshot), since_ms=0).dataset
    new = np.flatnonzero(dataset.events.ts_ms >= run.trusted_ms)
    item = dataset.events.item.copy()
    junk = rng.choice(new, 2 * len(new) // 3, replace=False)
    item[junk] = rng.integers(0, len(dataset.item_id), len(junk))
    save(replace(dataset, events=replace(dataset.events, item=item)), folder)
    with pytest.raises(Stop, match="look drawn from the catalogue") as stopped:
        HomeWorks(settings).check(run)
    assert stopped.value.outcome == "refused"
    assert ["failure", "blind interactions"] in [row[:2] for row in stopped.value.known["report"]["checks"]]


def flood(dataset: Dataset, since_ms: int) -> tuple[Dataset, Events]:
    """3,000 clicks of one user within an hour, on five items."""
    n, user = 3_000, len(dataset.user_id)
    events = Events(
        user=np.full(n, user, np.int32),
        item=(np.arange(n) % 5).astype(np.int32),
        ts_ms=since_ms + 1_000 * np.arange(n, dtype=np.int64),
        verb=np.full(n, Verb.CLICK, np.uint8),
        value=np.full(n, np.nan, np.float32),
        position=np.zeros(n, np.int32),
    )
    return replace(dataset, user_id=[*dataset.user_id, "robot"]), events


def test_what_was_left_out_of_one_champion_stays_out_of_the_next(home: Settings, synthetic_dataset: Dataset) -> None:
    """Also where the next look trusts it: what it looks at begins event_late_s before the end of what is known."""
    last_ms = int(synthetic_dataset.events.ts_ms[-1])
    archived(home, *flood(synthetic_dataset, last_ms - 9 * DAY_MS))
    first = HomeWorks(home)
    run = first.train(first.check(first.snapshot(RUN)))
    assert "floods: 1 users made more than 2,000" in run.said[-2].text
    bundles, bundle = registry(home), str(run.bundle)
    (look,) = junk_of(home, bundle)
    assert look.flooding == (user_digest("robot"),)
    assert len(data_of(home, read_manifest(bundles.path(bundle))).events) == len(synthetic_dataset.events)
    bundles.promote(bundle, reason="better", who="test")

    newest, robot = part(synthetic_dataset, slice(-300, None)), replace(synthetic_dataset, user_id=["robot"])
    archived(home, synthetic_dataset, replace(newest, ts_ms=newest.ts_ms - newest.ts_ms[0] + last_ms))
    archived(
        home, robot, replace(part_of(newest, slice(10)), user=np.zeros(10, np.int32), ts_ms=last_ms + 1 + np.arange(10))
    )
    second = HomeWorks(home)
    run = second.train(second.check(second.snapshot(msgspec.structs.replace(RUN, id="20261129T001500Z"))))
    assert (run.trusted, run.trusted_ms > look.since_ms) == (bundle, True)
    checks = {name: (level, said) for level, name, said in run.report["checks"]}
    assert checks["floods"] == ("ok", "none")
    level, said = checks["left out before"]
    assert (level, said[:53]) == ("ok", "earlier looks have left out 3,000 interactions of 1 u")
    assert junk_of(home, str(run.bundle)) == (look,)
    learnt_from = data_of(home, read_manifest(bundles.path(str(run.bundle))))
    assert len(learnt_from.events) == len(synthetic_dataset.events) + 310  # with what the user did since
    assert junk_of(home, bundle) == (look,)

    drop_junk(home, [bundle])  # as in a home that the champion does not come from
    lost = HomeWorks(home).snapshot(RUN)
    assert lost.trusted_ms == look.since_ms < run.trusted_ms
    assert "floods: 1 users made more than 2,000" in HomeWorks(home).check(lost).said[-1].text


def test_a_run_without_a_bundle_says_so_where_one_is_needed() -> None:
    with pytest.raises(TrainingError, match="is at judge and has no bundle"):
        bundle_of(msgspec.structs.replace(RUN, step="judge"))


def test_data_that_cannot_be_read_fail_the_try(home: Settings) -> None:
    next((home.home_path / "archive" / "events").rglob("*.parquet")).write_bytes(b"?")
    with pytest.raises(ArchiveError):
        HomeWorks(home).snapshot(RUN)


LINES = {
    "better": Line("NDCG@10", True, "+.02 [+.01, +.03]", "no loss", Interval(0.02, 0.01, 0.03)),
    "no better": Line("NDCG@10", True, "+.001 [-.004, +.006]", "no loss", Interval(0.001, -0.004, 0.006)),
    "refused": Line("files", False, "2 damaged", "as published"),
}


@pytest.mark.parametrize("outcome", LINES)
def test_a_challenger_goes_on_only_if_it_is_surely_better(
    home: Settings, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(works, "lines_of", lambda *_: [LINES[outcome]])
    run = msgspec.structs.replace(RUN, step="judge", bundle="20261128-0123456789ab", snapshot="s")
    if outcome == "better":
        assert HomeWorks(home).judge(run).step == "shadow"
        return
    with pytest.raises(Stop) as stopped:
        HomeWorks(home).judge(run)
    assert stopped.value.outcome == outcome
    assert LINES[outcome].found in stopped.value.reason
    assert stopped.value.known["report"]["gate"][0][0] == ("no" if outcome == "refused" else "yes")


# --- where something serves ---


class Running:
    """A home and a store with a traffic table that no replica follows; a second bundle is published."""

    def __init__(self, home: Settings, url: str, second: Path) -> None:
        self.settings = msgspec.structs.replace(home, redis_url=url, autopilot_steps="5,100", autopilot_hold_s=0)
        self.champion = str(registry(home).champion())
        self.bundle = registry(home).publish(second)
        on_table(url, lambda table: table.begin(self.champion, who="test", reason="first"))
        self.works = HomeWorks(self.settings)
        self.run = RUN.saying("better by .02", bundle=self.bundle, champion=self.champion)

    def at(self, step: str, **fields: object) -> Run:
        return msgspec.structs.replace(self.run, step=step, **fields)

    @property
    def table(self) -> Traffic:
        return on_table(self.settings.redis_url, lambda table: table.demand())

    def change(self, by: object, reason: str = "why not") -> None:
        on_table(self.settings.redis_url, lambda table: table.change(by, who="ann", reason=reason))  # type: ignore[arg-type]


@pytest.fixture
def running(home: Settings, breakable_store: BreakableStore, second: Path, tmp_path: Path) -> Running:
    shutil.copytree(second, tmp_path / "second")
    return Running(home, breakable_store.url, tmp_path / "second")


@pytest.mark.valkey
def test_a_shadow_is_begun_seen_and_ended(running: Running) -> None:
    run = running.works.shadow(running.at("shadow"))
    assert run.step == "shadow"
    assert running.table.shadow == Shadow(running.bundle, 2_000)
    assert running.works.shadow(run) is run
    one = Compared(running.champion, running.bundle, True, 0.3, 0.7, "retrieval", ["a"], ["b"])

    async def told(table: TrafficTable) -> None:
        await table._store.demand([("XADD", STREAM, "*", "c", msgspec.msgpack.encode(one))] * SHADOWED)

    on_table(running.settings.redis_url, told)
    after = running.works.shadow(run)
    assert after.step == "canary"
    assert "200 lists, mean overlap of the first ten 0.70" in after.said[-1].text
    assert running.table.shadow is None


@pytest.mark.valkey
def test_a_shadow_that_shares_nothing_with_what_is_served_is_refused(running: Running) -> None:
    run = running.works.shadow(running.at("shadow"))
    one = Compared(running.champion, running.bundle, True, 0.99, 0.01, "retrieval", ["a"], ["b"])

    async def told(table: TrafficTable) -> None:
        await table._store.demand([("XADD", STREAM, "*", "c", msgspec.msgpack.encode(one))] * SHADOWED)

    on_table(running.settings.redis_url, told)
    with pytest.raises(Stop, match="next to nothing in common"):
        running.works.shadow(run)


@pytest.mark.valkey
def test_a_shadow_without_visitors_or_of_somebody_else_is_not_waited_for(running: Running) -> None:
    run = running.works.shadow(running.at("shadow"))
    old = msgspec.structs.replace(run, shadow_s=run.shadow_s - 601)
    assert "no list was compared" in running.works.shadow(old).said[-1].text
    running.change(lambda now: msgspec.structs.replace(now, shadow=Shadow(running.champion, 100)))
    assert "shadows already, and ann wanted that" in running.works.shadow(running.at("shadow")).said[-1].text
    assert running.table.shadow == Shadow(running.champion, 100)


@pytest.mark.valkey
def test_a_canary_is_a_rollout_and_its_end_is_that_of_the_run(running: Running) -> None:
    run = running.works.canary(running.at("canary"))
    rollout = running.table.rollout
    assert rollout is not None
    assert (rollout.bundle, rollout.share, rollout.steps) == (running.bundle, 500, (500, 10_000))
    assert run.canary == rollout.name == "auto-20261128t001500z"
    again = running.works.canary(running.at("canary"))  # by a successor that knows nothing of it
    assert again.canary == run.canary
    assert running.table.rollout == rollout
    running.change(lambda now: changes.promoted(now, running.bundle), "rollout is complete: no guard broken")
    with pytest.raises(Stop, match="no guard broken") as stopped:
        running.works.canary(run)
    assert stopped.value.outcome == "promoted"


@pytest.mark.valkey
def test_a_canary_that_guards_send_back_ends_the_run_with_their_evidence(running: Running) -> None:
    run = running.works.canary(running.at("canary"))
    running.change(changes.rolled_back, "rolled back after 900 users: clicks -0.05 [-0.08, -0.02]")
    for successor in (run, running.at("canary")):
        with pytest.raises(Stop, match=r"clicks -0\.05") as stopped:
            running.works.canary(successor)
        assert stopped.value.outcome == "rolled back"
    assert running.table.rollout is None


@pytest.mark.valkey
def test_a_canary_that_too_few_users_meet_is_ended(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    run = running.works.canary(running.at("canary"))
    monkeypatch.setattr(works, "CANARY_S", -1.0)
    with pytest.raises(Stop, match=r"too few for 100 users of each step; nobody gets") as stopped:
        running.works.canary(run)
    assert stopped.value.outcome == "stopped"
    assert running.table.rollout is None


@pytest.mark.valkey
def test_a_store_that_is_away_holds_a_canary_under_way(running: Running, breakable_store: BreakableStore) -> None:
    run = running.works.canary(running.at("canary"))
    breakable_store.end()
    assert running.works.canary(run) is run
    for step in ("shadow", "canary"):
        waiting = running.at(step)
        assert getattr(running.works, step)(waiting) is waiting


@pytest.mark.valkey
def test_an_embedded_store_that_is_away_promotes_nobody(running: Running) -> None:
    """Without an address nobody can tell whether guards are broken."""
    embedded = msgspec.structs.replace(running.settings, redis_url="")
    beside = HomeWorks(embedded, supervised=True)
    for step in ("shadow", "canary"):
        waiting = running.at(step)
        assert getattr(beside, step)(waiting) is waiting
    begun = running.at("canary", canary="auto-1")
    assert HomeWorks(embedded).canary(begun) is begun
    assert registry(embedded).champion() == running.champion


@pytest.mark.valkey
def test_the_shadow_of_a_run_that_has_ended_is_taken_away_and_nobody_elses(running: Running) -> None:
    run = running.works.shadow(running.at("shadow"))
    assert running.table.shadow is not None
    running.works.clear(run.ended("failed", "no disk"))
    assert running.table.shadow is None
    running.change(lambda now: msgspec.structs.replace(now, shadow=Shadow(running.champion, 100)))
    running.works.clear(run.ended("failed", "no disk"))
    assert running.table.shadow == Shadow(running.champion, 100)


@pytest.mark.valkey
def test_somebodys_own_rollout_goes_first_and_another_champion_ends_the_run(running: Running) -> None:
    on_table(
        running.settings.redis_url,
        lambda table: works.begin(
            table,
            running.bundle,
            name="anns",
            steps=(100,),
            hold_s=0,
            hold_users=1,
            margin=0.05,
            who="ann",
            reason="mine",
        ),
    )
    run = running.at("canary")
    assert running.works.canary(run) is run
    running.change(lambda now: changes.promoted(now, running.bundle), "mine is good")
    with pytest.raises(Stop, match=f"ann made {running.bundle} champion meanwhile") as stopped:
        running.works.canary(run)
    assert stopped.value.outcome == "stopped"


@pytest.mark.valkey
def test_a_store_without_a_table_fails_the_try(home: Settings, breakable_store: BreakableStore) -> None:
    settings = msgspec.structs.replace(home, redis_url=breakable_store.url)
    run = msgspec.structs.replace(RUN, step="shadow", bundle="20261128-0123456789ab")
    with pytest.raises(TrafficError, match="no traffic table"):
        HomeWorks(settings).shadow(run)


@pytest.mark.valkey
def test_bundles_that_nothing_needs_go_when_a_run_has_ended(running: Running, second: Path, tmp_path: Path) -> None:
    bundles, newest = registry(running.settings), tmp_path / "newest"
    shutil.copytree(second, newest)
    fields = read_manifest(newest).fields
    (newest / "manifest.json").unlink()
    write_manifest(newest, fields={**fields, "created": "2099-01-01T00:00:00Z"})
    last = bundles.publish(newest)
    run = running.at("judge").ended("no better", "+.001 [-.01, .01]")

    def left(**settings: int) -> set[str]:
        HomeWorks(msgspec.structs.replace(running.settings, **settings)).clear(run)
        return {one.id for one in bundles.list()}

    everything = {running.champion, running.bundle, last}
    assert left(autopilot_keep=0) == left(autopilot_keep=3) == everything
    shared = msgspec.structs.replace(running.settings, autopilot_keep=1, registry_url="s3://shared/registry")
    HomeWorks(shared).clear(run)  # knows not what other homes need, and asks for nothing
    running.change(lambda now: msgspec.structs.replace(now, shadow=Shadow(running.bundle, 100)))
    assert left(autopilot_keep=1) == everything
    running.change(lambda now: msgspec.structs.replace(now, shadow=None))
    assert left(autopilot_keep=1) == {running.champion, last}

"""`riffle traffic`, `rollback`, `rollout`, `experiments` and `shadow`, on a table that no replica follows."""

import asyncio
import re
import shutil
from functools import partial
from pathlib import Path

import msgspec
import pytest
import redis

from recsys.errors import RegistryError
from recsys.experiments.buckets import rising_shares
from recsys.manifest import BESIDE, read_manifest, write_manifest
from service import promotion, retention
from service.errors import TrafficError
from service.experiment_schemas import ExperimentRequest, VariantRequest
from service.experiments import basis_points, create
from service.promotion import settle
from service.settings import Settings
from service.shadow import STREAM, Compared
from service.stack import ray_head
from service.traffic import changes
from service.traffic.document import Arm, Traffic, Variant
from service.traffic.table import TrafficTable, on_table
from tests.service.conftest import BreakableStore
from tests.service.test_cli import Home, make_bundle_of, refused

pytestmark = pytest.mark.valkey

WHY = ("--reason", "why not")


class Shop:
    """The command on a home with a champion, and a store with its traffic table; another bundle is published."""

    def __init__(self, home: Home, url: str) -> None:
        self.home, self.url = home, url
        self._environ = {"redis_url": url}
        self.champion = str(home.registry.champion())
        self.other = make_bundle_of(home, day=1)
        on_table(url, lambda table: table.begin(self.champion, who="test", reason="first"))

    def says(self, *words: str) -> str:
        run = self.home.riffle(*words, **self._environ)
        assert run.code == 0, run
        return run.out

    def refuses(self, *words: str) -> str:
        return refused(self.home.riffle(*words, **self._environ))

    @property
    def table(self) -> Traffic:
        return on_table(self.url, lambda table: table.demand())


@pytest.fixture
def home(tmp_path: Path, published_home: Settings) -> Home:
    """A home with a champion, where nothing runs."""
    shutil.copytree(published_home.home_path / "registry", tmp_path / "state" / "registry")
    return Home(tmp_path)


@pytest.fixture
def running(home: Home, breakable_store: BreakableStore) -> Shop:
    return Shop(home, breakable_store.url)


def test_the_table_its_history_and_the_way_back_are_shown(running: Shop) -> None:
    assert re.search(rf"Version 1 of .*, by test: first\n +champion +{running.champion}", running.says("traffic"))
    assert "No replica has reported" in running.says("traffic")
    assert "is the first champion" in running.refuses("rollback", *WHY)
    on_table(
        running.url, lambda table: table.change(lambda now: changes.promoted(now, running.other), who="t", reason="r")
    )
    running.says("experiments", "create", "two", "--variant", "a=50", "--variant", "b=50,bundle=champion", *WHY)
    with_experiment = msgspec.structs.replace(running.table.experiment("two"), state="running")
    on_table(
        running.url,
        lambda table: table.change(lambda now: changes.with_experiment(now, with_experiment), who="t", reason="r"),
    )
    said = running.says("rollback", "--reason", "no good")
    assert f"everybody gets {running.champion} again" in said
    assert "Experiments on bundles ended with it: two" in said
    assert (running.table.champion, running.table.unregistered) == (running.champion, False)
    history = running.says("traffic", "history")
    assert [reason for reason in ("first", "r", "no good") if reason in history] == ["first", "r", "no good"]


def test_a_rollout_is_started_paused_resumed_and_aborted(running: Shop) -> None:
    assert "No rollout is under way" in running.says("rollout", "status")
    for command in ("pause", "resume", "abort"):
        assert "no rollout is under way" in running.refuses("rollout", command, *WHY)
    start = ("rollout", "start", running.other, "--steps", "0.5,50,100", "--hold", "90s", "--hold-users", "7")
    assert "does not pass the gate: files" in running.refuses(*start, *WHY)
    assert "0.5 % of all users get" in running.says(*start, "--force", *WHY)
    one = running.table.rollout
    assert one is not None
    assert (one.bundle, one.share, one.steps, one.hold_s, one.hold_users) == (
        running.other,
        50,
        (50, 5000, 10_000),
        90,
        7,
    )
    assert one.since_ms > 0
    assert running.table.reason == "past the gate: why not"
    status = running.says("rollout", "status")
    assert "under way: 0.5 % of all users" in status
    assert "next: 50 %, after 90 s and 7 users at least" in status
    assert "is under way" in running.refuses(*start, "--force", *WHY)
    running.says("rollout", "pause", *WHY)
    assert "paused" in running.says("rollout", "status")
    running.says("rollout", "resume", *WHY)
    assert running.table.rollout == one
    running.says("experiments", "override", one.name, "--user", "ann", "--variant", "canary", *WHY)
    assert list(running.table.overrides.values()) == [{one.name: "canary"}]
    running.says("rollout", "abort", *WHY)
    assert running.table.overrides == {}
    assert (running.table.rollout, running.table.champion) == (None, running.champion)
    assert "the champion already" in running.refuses("rollout", "start", "champion", "--force", *WHY)


@pytest.mark.parametrize("steps", ["", "a", "0,100", "5,1", "1,1", "50,101", "-1", "inf", "1,5"])
def test_steps_that_do_not_rise_to_a_hundred_are_refused(steps: str) -> None:
    with pytest.raises(ValueError, match="steps"):
        rising_shares(steps)
    assert rising_shares("0.01,1,100") == (1, 100, 10_000)


def test_an_experiment_lives_through_its_states(running: Shop) -> None:
    assert "There is none" in running.says("experiments", "list")
    create = ("experiments", "create", "closer", "--variant", "control=50", "--variant", "b=50,diversity=0.3")
    running.says(*create, "--placement", "home", *WHY)
    assert "there is an experiment 'closer' already" in running.refuses(*create, *WHY)
    assert "has not been started" in running.refuses("experiments", "report", "closer")
    running.says("experiments", "stop", "closer", *WHY)  # it never ran: its name is free
    assert "is stopped already" in running.refuses("experiments", "stop", "closer", *WHY)
    running.says(*create, "--placement", "home", *WHY)
    running.says("experiments", "start", "closer", *WHY)
    one = running.table.experiment("closer")
    assert (one.state, one.placements, one.variants[1].arm) == ("running", ("home",), Arm(diversity=0.3))
    assert "is running; create another one" in running.refuses("experiments", "start", "closer", *WHY)
    report = running.says("experiments", "report", "closer", "--report", "out")
    assert "probability 1" in report
    assert "not sure yet" in report
    assert (running.home.path / "out" / "experiment-closer.png").read_bytes().startswith(b"\x89PNG")
    running.says("experiments", "override", "closer", "--user", "ann", "--variant", "b", *WHY)
    assert list(running.table.overrides.values()) == [{"closer": "b"}]
    assert "has no variant 'x'" in running.refuses(
        "experiments", "override", "closer", "--user", "a", "--variant", "x", *WHY
    )
    running.says("experiments", "override", "closer", "--user", "ann", "--variant", "none", *WHY)
    assert running.table.overrides == {}
    running.says("experiments", "holdout", "2.5", *WHY)
    assert running.table.holdout == 250
    assert "101 % is not 0 to 100" in running.refuses("experiments", "holdout", "101", *WHY)
    running.says("experiments", "holdout", "100", *WHY)
    other = ("experiments", "create", "nobody", "--variant", "control=50", "--variant", "b=50,diversity=0.3")
    assert "the holdout is 100 % of all users" in running.refuses(*other, *WHY)
    running.says("experiments", "stop", "closer", *WHY)
    assert running.table.experiment("closer").state == "stopped"
    assert "closer" in running.says("experiments", "list")
    assert "no experiment 'further'" in running.refuses("experiments", "report", "further")


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "without effect": (("control=50", "b=50,diversity=0.05"), "would do the same: diversity 0.05"),
    "the champion": (("control=50", "b=50,bundle=champion"), "would do the same: bundle"),
    "99 percent": (("control=50", "b=49,diversity=0.3"), "99 % of its users together"),
    "a bundle that is not there": (("control=50", "b=50,bundle=nope"), "no bundle 'nope'"),
    "no setting": (("control=50", "b=50,speed=3"), "'speed=3' is no setting"),
    "quotas of nothing": (("control=50", "b=50,quotas=Drama"), "quotas are CATEGORY:MOST"),
    "a setting twice": (("control=50", "b=50,diversity=.5,diversity=.05"), "diversity is given twice"),
    "no value": (("control=50", "b=50,diversity=high"), "--variant"),
    "out of range": (("control=50", "b=50,diversity=2"), "variant 'b': Expected `float` <= 1.0"),
    "more than everybody": (("control=50", "b=101,diversity=0.3"), "--variant 'b=101,diversity=0.3': Expected"),
    "101 percent": (("control=50", "b=51,diversity=0.3"), "101 % of its users together"),
    "candidates as usual": (("control=50", "b=50,candidates=200"), "would do the same: candidates 200"),
    "explore as usual": (("control=50", "b=50,explore=0.1"), "would do the same: explore 0.1"),
    "two settings as usual": (("control=50,diversity=0.05", "b=50,candidates=200"), "would do the same"),
    "no share": (("control", "b=50,diversity=0.3"), "is no percentage"),
    "a thousandth": (("control=50.001", "b=49.999,diversity=0.3"), "in steps of 0.01"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_experiments_that_cannot_be_are_refused_in_a_sentence(running: Shop, case: str) -> None:
    variants, said = REFUSED[case]
    words = [word for one in variants for word in ("--variant", one)]
    assert said in running.refuses("experiments", "create", "e", *words, *WHY)
    assert running.table.experiments == ()


def test_variants_are_read_with_their_bundles(running: Shop) -> None:
    given = ("--variant", "a=87.66", "--variant", f"b=12.34,bundle={running.other[:14]},candidates=400,explore=0")
    running.says("experiments", "create", "read", *given, *WHY)
    assert running.table.experiment("read").variants[1] == Variant("b", 1234, Arm(running.other, 400, None, 0.0))
    assert basis_points(0.01) == 1


def test_a_shadow_is_started_reported_and_stopped(running: Shop) -> None:
    assert "no bundle shadows" in running.refuses("shadow", "stop", *WHY)
    running.says("shadow", "start", running.other, "--share", "12.5", *WHY)
    assert running.table.shadow is not None
    assert (running.table.shadow.bundle, running.table.shadow.share) == (running.other, 1250)
    assert "has shadowed nothing yet" in running.refuses("shadow", "report", running.other)
    assert f"{running.other} shadows already" in running.refuses("shadow", "start", running.champion, *WHY)
    rows = [
        Compared(
            running.champion, running.other, n % 4 > 0, 0.5 * (n % 2), 0.9, "retrieval" if n % 2 else "", ["x"], ["y"]
        )
        for n in range(40)
    ]
    with redis.Redis.from_url(running.url) as client:
        for row in rows:
            client.xadd(STREAM, {"c": msgspec.msgpack.encode(row)})
        client.xadd(STREAM, {"c": b"\xc1"})
    report = running.says("shadow", "report", running.other)
    assert re.search(r"all +40 +50% +0\.900 +0\.250 +(none 50%, retrieval 50%|retrieval 50%, none 50%)", report)
    assert re.search(r"cold starts +10 ", report)
    assert "enter the first 10 most often: x (100% of the lists)" in report
    running.says("shadow", "stop", *WHY)
    assert running.table.shadow is None


@pytest.mark.parametrize(
    "words",
    [
        ("traffic",), ("traffic", "history"), ("rollback", *WHY), ("rollout", "status"), ("rollout", "abort", *WHY),
        ("experiments", "list"), ("shadow", "report", "champion"), ("experiments", "start", "e", *WHY),
    ],
    ids=" ".join,
)  # fmt: skip
def test_where_nothing_runs_the_sentence_says_so(home: Home, words: tuple[str, ...]) -> None:
    assert "nothing runs" in refused(home.riffle(*words))


@pytest.mark.parametrize("words", [("traffic",), ("rollback", *WHY), ("experiments", "list")], ids=" ".join)
def test_where_the_store_alone_is_away_the_sentence_says_so(
    home: Home, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_head, "running", lambda _: True)
    assert "the store is away" in refused(home.riffle(*words))


def test_what_comes_up_in_the_middle_of_a_rollout_goes_on_with_it(running: Shop) -> None:
    running.says("rollout", "start", running.other, "--force", *WHY)
    before = running.table
    settings = Settings(home=str(running.home.path / "state"))
    assert settle(settings, running.url, running.champion, who="test") == running.champion
    assert running.table == before


def test_of_two_who_roll_back_at_once_the_second_is_told_and_undoes_nothing(
    running: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def promoted(now: Traffic) -> Traffic:
        return changes.promoted(now, running.other)

    on_table(running.url, lambda table: table.change(promoted, who="t", reason="r"))
    settings = Settings(home=str(running.home.path / "state"), redis_url=running.url)
    real = promotion.switching.switch

    async def late(table: TrafficTable, *rest: object, **more: object) -> object:
        await table.change(changes.rolled_back, who="bob", reason="was quicker")
        return await real(table, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(promotion.switching, "switch", late)
    with pytest.raises(TrafficError, match=r"bob changed it just now \(was quicker\)"):
        promotion.roll_back(settings, reason="mine", who="ann")
    assert running.table.champion == running.champion


def test_a_rollback_that_cannot_tell_the_registry_has_happened_and_says_so(running: Shop, tmp_path: Path) -> None:
    on_table(
        running.url, lambda table: table.change(lambda now: changes.promoted(now, running.other), who="t", reason="r")
    )
    keys = str(tmp_path / "nowhere.pem")
    run = running.home.riffle("rollback", *WHY, redis_url=running.url, trusted_keys=keys)
    assert (run.code, running.table.champion, running.table.unregistered) == (0, running.champion, True)
    assert "nowhere.pem" in run.out
    assert "gone back to already" in running.refuses("rollback", *WHY)
    assert running.table.champion == running.champion


def test_the_registry_is_told_who_made_a_champion_and_why_not_who_changed_something_later(running: Shop) -> None:
    promoted = partial(changes.promoted, bundle=running.other)

    async def work(table: TrafficTable) -> None:
        await table.change(promoted, who="ann", reason="it is better")
        await table.change(
            lambda now: msgspec.structs.replace(now, unregistered=True, holdout=100), who="bob", reason="a holdout"
        )

    on_table(running.url, work)
    settle(Settings(home=str(running.home.path / "state")), running.url, running.champion, who="test")
    told = running.home.registry.audit()[-1]
    assert (told.to_id, told.who, told.reason) == (running.other, "ann", "it is better")


def test_a_change_needs_a_reason(running: Shop) -> None:
    for words in (("rollback",), ("shadow", "start", running.other), ("experiments", "holdout", "1")):
        assert "--reason" in running.home.riffle(*words).err
        assert "needs a reason" in running.refuses(*words, "--reason", " ")
        assert "not valid UTF-8" in running.refuses(*words, "--reason", "\udcff")
        assert "has control characters" in running.refuses(*words, "--reason", "fine\x1b[2J")
    assert running.table.version == 1


def test_what_was_loaded_for_a_change_that_cannot_be_is_let_go_of(running: Shop) -> None:
    variants = ("--variant", "control=50", "--variant", f"b=50,bundle={running.other}")
    running.says("experiments", "create", "untried", *variants, *WHY)
    assert "cannot be loaded" in running.refuses("experiments", "start", "untried", *WHY)
    running.says("experiments", "create", "e", "--same", *variants, *WHY)
    running.says("experiments", "start", "e", *WHY)
    running.says("experiments", "create", "f", *variants, "--layer", "other", *WHY)
    assert "would both change bundle" in running.refuses("experiments", "start", "f", *WHY)
    third = make_bundle_of(running.home, day=2)
    assert "would both choose the bundle" in running.refuses("rollout", "start", third, "--force", *WHY)
    assert running.table.prepared == ()
    assert running.table.bundles() == {running.champion, running.other}


def test_a_bundle_of_an_experiment_that_is_only_described_is_not_pruned(running: Shop) -> None:
    unneeded = make_bundle_of(running.home, day=2)
    variants = ("--variant", "control=50", "--variant", f"b=50,bundle={running.other}")
    running.says("experiments", "create", "later", *variants, *WHY)
    assert f"{unneeded} removed" in running.says("bundles", "prune", "--keep", "1")
    assert {running.other, running.champion} == {one.id for one in running.home.registry.list()}


def test_a_bundle_that_is_put_on_trial_while_others_are_pruned_stays(
    running: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = ("--variant", "control=50", "--variant", f"b=50,bundle={running.other}")
    real = retention._answered

    async def slowly(settings: Settings, candidates: set[str]) -> set[str]:
        await asyncio.to_thread(running.says, "experiments", "create", "meanwhile", *variants, *WHY)
        return await real(settings, candidates)

    monkeypatch.setattr(retention, "_answered", slowly)
    assert "Every bundle is needed" in running.says("bundles", "prune", "--keep", "1")
    assert running.home.registry.resolve(running.other) == running.other


def test_an_experiment_whose_bundle_is_pruned_this_moment_is_not_described(running: Shop) -> None:
    asked = ExperimentRequest(
        name="late",
        variants=[VariantRequest(name="control", share=50), VariantRequest(name="b", share=50, bundle=running.other)],
        who="ann",
        reason="try",
    )
    seen: list[str] = []

    def resolve(reference: str) -> str:
        seen.append(reference)
        if len(seen) > 1:
            raise RegistryError("no such bundle any more")
        return reference

    with pytest.raises(RegistryError):
        on_table(running.url, lambda table: create(table, Settings(), resolve, asked))
    assert running.table.experiments == ()
    assert running.table.reason == "a bundle of late is gone"


def test_the_way_back_is_there_from_the_first_start_where_the_registry_knows_it(
    home: Home, breakable_store: BreakableStore
) -> None:
    first = str(home.registry.champion())
    folder = home.path / "second"
    shutil.copytree(home.registry.path(first), folder)
    fields = read_manifest(folder).fields
    for name in BESIDE:
        (folder / name).unlink(missing_ok=True)
    write_manifest(folder, fields={**fields, "code_commit": "another"})
    second = home.registry.publish(folder)
    home.registry.promote(second, reason="before anything runs", who="test")
    settings = Settings(home=str(home.path / "state"))
    assert settle(settings, breakable_store.url, second, who="test") == second
    now = on_table(breakable_store.url, lambda table: table.demand())
    assert (now.champion, now.previous) == (second, first)


def test_a_registry_whose_champion_was_promoted_elsewhere_keeps_it(running: Shop) -> None:
    bundles, elsewhere = running.home.registry, make_bundle_of(running.home, day=2)
    on_table(
        running.url, lambda table: table.change(lambda now: changes.promoted(now, running.other), who="t", reason="r")
    )
    assert promotion.tell(bundles, running.table) == "the registry follows"
    assert promotion.tell(bundles, running.table) == "the registry knows"
    bundles.promote(elsewhere, reason="on another home", who="bob")
    on_table(running.url, lambda table: table.change(changes.rolled_back, who="t", reason="back"))
    assert promotion.tell(bundles, running.table) == f"the registry keeps {elsewhere}, which was promoted elsewhere"
    assert bundles.champion() == elsewhere
    assert promotion.tell(bundles, running.table, elsewhere) == "the registry follows"  # by who has seen it

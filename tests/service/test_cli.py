"""The `riffle` command: what it does with a home, what it prints, and what its exit code says."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis
import typer
from threadpoolctl import threadpool_limits

from recsys.datasets.checks.finding import moment
from recsys.datasets.dataset import Dataset
from recsys.datasets.junk import Junk
from recsys.erased_users import user_digest
from recsys.features.matrix import FEATURES, SCHEMA_HASH
from recsys.features.schema import described
from recsys.manifest import read_manifest, write_manifest
from recsys.registry import Registry
from recsys.verbs import Verb
from service.cli import ALONE, MODULES, commands, main
from service.decisions import STREAM
from service.imports import imported
from service.junk import junk_of, keep_junk
from service.settings import Settings
from service.stack import valkey
from service.state_keys import namespace, state_key
from service.traffic.table import on_table
from service.world import registry
from tests import worlds
from tests.free_ports import free_port
from tests.recsys.test_registry import make_bundle
from tests.service.test_decisions import decision

BUNDLE_ID = re.compile(r"\d{8}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Run:
    """A command that has ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Home:
    """A home folder, and the command run in it."""

    path: Path

    def riffle(self, *arguments: str, **environ: object) -> Run:
        """Run the command in this process, as its entry point does."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, threadpool_limits(1, "blas"):
            for name, value in self.environ(**environ).items():
                patch.setenv(name, value)
            patch.chdir(self.path)
            patch.setattr(sys, "argv", ["riffle", *arguments])
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main()
                except SystemExit as ended:
                    code = int(ended.code or 0)
        return Run(code, out.getvalue(), err.getvalue())

    def process(self, *arguments: str, **environ: object) -> Run:
        """Run the command in a process of its own."""
        ended = subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            env={**os.environ, **self.environ(**environ), "PYTHONPATH": str(Path(worlds.__file__).parents[1])},
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Run(ended.returncode, ended.stdout, ended.stderr)

    def environ(self, **more: object) -> dict[str, str]:
        ports_of = {name: free_port() for name in ("http_port", "dashboard_port", "valkey_port", "ray_port")}
        stats = {name: free_port() for name in ("haproxy_stats_port", "haproxy_metrics_port", "metrics_port")}
        settings = {"home": self.path / "state", **ports_of, **stats, **more}
        return {"COLUMNS": "200", **{f"RIFFLE_{name.upper()}": str(value) for name, value in settings.items()}}

    @property
    def registry(self) -> Registry:
        return Registry(self.path / "state" / "registry")

    def damage(self, name: str) -> None:
        """Change the last byte of a file of the champion, and nothing else about it."""
        file = self.registry.path("champion") / name
        content = file.read_bytes()
        file.chmod(0o644)
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def refused(run: Run) -> str:
    """The sentence on stderr of a command that was refused as it should be."""
    assert run.code == 1, run
    assert "Traceback" not in run.out + run.err
    assert run.err.startswith("riffle: ")
    assert run.err.strip()
    return run.err


def levels(run: Run) -> list[str]:
    """The level of each finding of `riffle doctor`, in order; the bundle is the last one."""
    return re.findall(r"^\W*(ok|warn|fail)\b", run.out, re.MULTILINE)


def write_csv(folder: Path, dataset: Dataset, titles: dict[str, str] | None = None) -> Path:
    """A data set as `interactions.csv` and `items.csv`."""
    folder.mkdir(parents=True)
    events = dataset.events
    with (folder / "interactions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp", "verb", "value"])
        columns = events.user, events.item, events.ts_ms, events.verb, events.value
        for user, item, ts_ms, verb, value in zip(*columns, strict=True):
            row = [dataset.user_id[user], dataset.item_id[item], int(ts_ms), Verb(verb).name.lower()]
            rows.writerow([*row, "" if np.isnan(value) else float(value)])
    bounds = dataset.item_category_indptr
    with (folder / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "title", "categories"])
        for number, (item_id, title) in enumerate(zip(dataset.item_id, dataset.item_title, strict=True)):
            categories = [dataset.categories[c] for c in dataset.item_category[bounds[number] : bounds[number + 1]]]
            rows.writerow([item_id, (titles or {}).get(item_id, title), "|".join(categories)])
    return folder


@pytest.fixture
def empty(tmp_path: Path) -> Home:
    """Nothing is imported."""
    return Home(tmp_path)


@pytest.fixture(scope="session")
def first_commands(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Run, Run]:
    """A home in which a small shop was imported and trained, and what the two commands said."""
    home = Home(tmp_path_factory.mktemp("shop"))
    shop = write_csv(home.path / "my shop", worlds.two_tastes())
    return home, home.riffle("import", str(shop)), home.riffle("train")


@pytest.fixture(scope="session")
def shop(first_commands: tuple[Home, Run, Run]) -> Home:
    """Imported and trained; tests only read it."""
    return first_commands[0]


@pytest.fixture
def own_shop(shop: Home, tmp_path: Path) -> Home:
    """A copy of the shop to damage."""
    shutil.copytree(shop.path, tmp_path / "copy")
    return Home(tmp_path / "copy")


# --- import ---


def test_import_says_what_was_read_and_what_comes_next(first_commands: tuple[Home, Run, Run]) -> None:
    _, imported, _ = first_commands
    assert imported.code == 0, imported
    assert "my-shop: 60 users, 41 items, 720 interactions" in imported.out
    assert "riffle train" in imported.out
    assert imported.err == ""


def test_synthetic_world_is_imported_as_invented_data(empty: Home) -> None:
    run = empty.riffle("import", "--synthetic")
    assert (run.code, run.err) == (0, "")
    assert "600 users, 1,200 items" in run.out
    assert "invented, not real data" in run.out
    current = json.loads((empty.path / "state" / "data" / "current.json").read_text())
    assert current["name"] == "synthetic"


def test_import_of_a_path_that_is_not_there_is_one_sentence_and_exit_code_1(empty: Home) -> None:
    run = empty.process("import", "no/such/folder")
    sentence = refused(run)
    assert "no/such/folder does not exist" in sentence
    assert sentence.count("\n") == 1


@pytest.mark.parametrize("path", ["data[red]", "data[/]", "data[/red]"])
def test_path_with_brackets_is_named_as_it_is(empty: Home, path: str) -> None:
    assert path in refused(empty.riffle("import", path))


def test_import_of_a_folder_of_another_layout_names_the_layouts(empty: Home) -> None:
    (empty.path / "photos").mkdir()
    (empty.path / "photos" / "cat.jpg").write_bytes(b"")
    sentence = refused(empty.riffle("import", "photos"))
    assert "cat.jpg" in sentence
    assert "user_id,item_id,timestamp[,verb][,value]" in sentence


def test_import_of_malformed_rows_names_file_and_line(empty: Home) -> None:
    (empty.path / "bad.csv").write_text("user_id,item_id,timestamp\nu,i,1700000000\nu,i,yesterday\n")
    sentence = refused(empty.riffle("import", "bad.csv"))
    assert "bad.csv" in sentence
    assert "line 3" in sentence


def test_failed_import_leaves_the_current_data_set(own_shop: Home) -> None:
    refused(own_shop.riffle("import", "no/such/folder"))
    assert own_shop.riffle("recommend", "--user", "user-01").code == 0


def test_damaged_pointer_to_the_data_set_says_to_import_again(own_shop: Home) -> None:
    (own_shop.path / "state" / "data" / "current.json").write_text("{")
    assert "run `riffle import` again" in refused(own_shop.riffle("recommend", "--user", "user-01"))


# --- train, evaluate ---


def test_train_prints_the_evaluation_and_promotes_the_bundle(first_commands: tuple[Home, Run, Run]) -> None:
    home, _, trained = first_commands
    assert trained.code == 0, trained
    assert "NDCG@10" in trained.out
    champion = home.registry.champion()
    assert champion is not None
    assert f"published {champion}, now champion" in trained.out
    assert list((home.path / "state").glob("bundle-*")) == []


def test_train_without_data_says_to_import(empty: Home) -> None:
    assert "riffle import" in refused(empty.riffle("train"))


def test_train_on_too_little_data_says_what_is_missing(empty: Home) -> None:
    rows = "".join(f"u,i{number},{1_700_000_000 + number},hide\n" for number in range(20))
    (empty.path / "few.csv").write_text("user_id,item_id,timestamp,verb\n" + rows)
    assert empty.riffle("import", "few.csv").code == 0
    assert "too few positives" in refused(empty.riffle("train"))
    assert list((empty.path / "state").glob("bundle-*")) == []


def test_bundle_of_data_that_are_not_imported_is_published_but_not_promoted_nor_beside_the_champion(
    own_shop: Home,
) -> None:
    """Even where they are the data of the import: with what was archived since, the champion may know the answers."""
    champion = str(own_shop.registry.champion())
    pointer = own_shop.path / "state" / "data" / "current.json"
    before = pointer.read_bytes()
    run = own_shop.riffle("train", "--data", "my shop", seed=8)
    assert run.code == 0, run
    (other,) = {manifest.id for manifest in own_shop.registry.list()} - {champion}
    assert f"published {other}\n" in run.out
    assert "Not promoted: its data were not imported" in run.out
    assert f"riffle bundles promote {other} --reason" in " ".join(run.out.split())
    assert own_shop.registry.champion() == champion
    assert pointer.read_bytes() == before
    of, its = (read_manifest(own_shop.registry.path(one)).fields for one in (champion, other))
    assert its["dataset"] == of["dataset"]
    assert "champion" not in {row["name"] for row in its["metrics"]["rows"]}


def test_train_on_data_that_cannot_be_read_names_them(own_shop: Home) -> None:
    assert "no/such/folder does not exist" in refused(own_shop.riffle("train", "--data", "no/such/folder"))
    assert len(own_shop.registry.list()) == 1


def test_train_leaves_out_what_was_left_out_of_the_champion_and_says_how_to_take_it_in(own_shop: Home) -> None:
    settings = Settings(home=str(own_shop.path / "state"))
    bundles, dataset = registry(settings), imported(settings)
    champion = str(bundles.champion())
    assert own_shop.riffle("autopilot", "junk").out == f"Nothing was left out of the data of {champion}.\n"
    picker, flood = dataset.user_id[3], dataset.user_id[5]
    since_ms, until_ms = (int(dataset.events.ts_ms[place]) for place in (0, -1))
    keep_junk(settings, champion, [Junk(since_ms, until_ms, (user_digest(flood),), (user_digest(picker),))])
    named = own_shop.riffle("autopilot", "junk", "champion")
    assert (named.code, named.err) == (0, "")
    assert re.search(rf"{picker} +picks blindly +{moment(since_ms)[:10]}", named.out)
    assert re.search(rf"{flood} +flooding", named.out)
    assert "riffle train --take-in USER" in named.out
    run = own_shop.riffle("train")
    assert run.code == 0, run
    count = int(np.isin(dataset.events.user, (3, 5)).sum())
    assert f"left out: {count} interactions, as of the champion" in run.out
    second = str(bundles.champion())
    assert junk_of(settings, second) == junk_of(settings, champion) != ()
    assert second != champion
    assert "riffle train --take-in" not in own_shop.riffle("autopilot", "junk", champion).out

    assert "nobody: not left out of the champion" in refused(own_shop.riffle("train", "--take-in", "nobody"))
    own_shop.riffle("train", "--take-in", picker)
    (look,) = junk_of(settings, bundles.champion())
    assert (look.flooding, look.blind) == ((user_digest(flood),), ())
    path = settings.home_path / "junk" / f"{bundles.champion()}.json"
    kept = path.read_bytes()
    path.write_text("?")
    assert "cannot be read" in refused(own_shop.riffle("train"))
    path.unlink()
    assert "this home does not know what" in refused(own_shop.riffle("autopilot", "junk"))
    assert "is not known in this home, and is trained on" in own_shop.riffle("train", "--no-promote").out
    path.write_bytes(kept.replace(user_digest(flood).encode(), user_digest("gone").encode()))
    assert "Of 1 more there is nothing in the present data" in own_shop.riffle("autopilot", "junk").out
    path.write_bytes(kept)

    whole = own_shop.riffle("train", "--everything")
    assert "left out" not in whole.out
    assert junk_of(settings, bundles.champion()) == ()


def test_what_was_left_out_is_not_asked_by_evaluate_either(own_shop: Home) -> None:
    settings = Settings(home=str(own_shop.path / "state"))
    everybody = tuple(map(user_digest, imported(settings).user_id))
    keep_junk(settings, str(registry(settings).champion()), [Junk(0, 2**50, blind=everybody)])
    assert "has too few positives after" in refused(own_shop.riffle("evaluate"))


def test_evaluate_finds_what_training_found(first_commands: tuple[Home, Run, Run]) -> None:
    home, _, trained = first_commands
    run = home.riffle("evaluate")
    assert run.code == 0, run
    assert str(home.registry.champion()) in run.out
    numbers = re.compile(r"[01]\.\d{3} \[.*\]  +[01]\.\d{3}.*")
    assert len(numbers.findall(trained.out)) == 7  # the bundle, each personal source, popularity in two windows
    *same, _ease = numbers.findall(run.out)
    assert same == numbers.findall(trained.out)


def test_trade_off_of_the_controls_is_printed_and_written(shop: Home) -> None:
    run = shop.riffle("evaluate", "--trade-off", "--report", "curves")
    assert run.code == 0, run
    assert "what diversity costs" in run.out
    assert "what popularity damping costs" in run.out
    (written,) = (shop.path / "curves").glob("trade-off-*.json")
    found = json.loads(written.read_text())
    assert [point["strength"] for point in found["diversity"]] == [0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1]
    assert "| popularity_damping | 0 | " in written.with_suffix(".md").read_text()
    assert written.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_on_other_data_says_so(own_shop: Home) -> None:
    assert own_shop.riffle("import", str(write_csv(own_shop.path / "other", worlds.two_tastes(seed=5)))).code == 0
    run = own_shop.riffle("evaluate")
    assert run.code == 0, run
    assert "trained on other data" in run.out


def test_cold_start_is_evaluated_printed_and_written(empty: Home) -> None:
    """Visits of the chain begin one after another, so the last users are new."""
    assert empty.riffle("import", str(write_csv(empty.path / "chain", worlds.chain()))).code == 0
    assert empty.riffle("train").code == 0
    run = empty.riffle("evaluate", "--cold-start", "--ceiling", "--report", "curves")
    assert run.code == 0, run
    assert re.search(r"1 known, NDCG@10 over popularity: \+0\.\d{3} \[\+", run.out)
    assert re.search(r"1 known, NDCG@10 of a ranker taught by\s+other\s+new\s+users' answers", run.out)
    assert "| 10 | " in (empty.path / "curves" / "cold-start-chain.md").read_text()
    assert (empty.path / "curves" / "cold-start-chain.svg").read_text().startswith("<svg")


def test_cold_start_on_other_data_is_refused_since_its_users_may_not_be_new(own_shop: Home) -> None:
    assert own_shop.riffle("import", str(write_csv(own_shop.path / "other", worlds.two_tastes(seed=5)))).code == 0
    assert "nobody is known to be new to it" in refused(own_shop.riffle("evaluate", "--cold-start"))


def test_cold_start_without_new_users_is_refused(own_shop: Home) -> None:
    assert "fewer than two users who are new" in refused(own_shop.riffle("evaluate", "--cold-start"))


def test_ceiling_of_the_cold_start_goes_with_it(shop: Home) -> None:
    assert shop.riffle("evaluate", "--ceiling").code == 2


# --- bundles ---


def test_list_marks_the_champion(shop: Home) -> None:
    run = shop.riffle("bundles", "list")
    assert run.code == 0
    (line,) = [line for line in run.out.splitlines() if BUNDLE_ID.search(line)]
    assert "champion" in line
    assert "my-shop" in line


def test_list_of_an_empty_registry_is_empty(empty: Home) -> None:
    run = empty.riffle("bundles", "list")
    assert run.code == 0
    assert not BUNDLE_ID.search(run.out)


def test_show_names_data_recipe_evaluation_and_size(shop: Home) -> None:
    run = shop.riffle("bundles", "show")
    assert run.code == 0
    for part in (str(shop.registry.champion()), '"fingerprint"', '"recipe"', "NDCG@10", "files"):
        assert part in run.out


def test_verify_accepts_a_bundle_by_a_prefix_of_its_id(shop: Home) -> None:
    champion = str(shop.registry.champion())
    run = shop.riffle("bundles", "verify", champion[:14])
    assert run.code == 0
    assert f"{champion}: " in run.out


def test_unknown_bundle_is_refused_with_the_way_to_the_ids(shop: Home) -> None:
    for command in ("show", "verify"):
        assert "riffle bundles list" in refused(shop.riffle("bundles", command, "19990101-000000000000"))


def test_second_bundle_is_promoted_and_rolled_back_with_a_reason(own_shop: Home) -> None:
    first = str(own_shop.registry.champion())
    trained = own_shop.riffle("train", "--no-promote", seed=8)
    assert trained.code == 0, trained
    assert own_shop.registry.champion() == first
    (second,) = {manifest.id for manifest in own_shop.registry.list()} - {first}
    assert own_shop.riffle("bundles", "promote", second, "--reason", "better").code == 0
    assert own_shop.registry.champion() == second
    assert own_shop.riffle("bundles", "promote", "previous", "--reason", "it was not").code == 0
    assert own_shop.registry.champion() == first
    assert [one.reason for one in own_shop.registry.audit()][1:] == ["better", "it was not"]
    assert "reason" in refused(own_shop.riffle("bundles", "promote", second, "--reason", " "))
    late = own_shop.riffle("bundles", "promote", second, "--reason", "late", "--expect", second)
    assert f"champion is {first} by now" in refused(late)
    table = own_shop.riffle("bundles", "audit", "--count", "2").out
    assert re.search(rf"2 .* champion +{first} +{second} +better", table)
    assert re.search(rf"3 .* champion +{second} +{first} +it was not", table)
    assert "trained and promoted" not in table


def test_bundle_is_given_names_and_loses_them(own_shop: Home) -> None:
    champion = str(own_shop.registry.champion())
    named = own_shop.riffle("bundles", "name", "shadow", "champion", "--reason", "must differ in nothing")
    assert named.out.strip() == f"✓ shadow is now {champion}"
    assert re.search(rf"champion, shadow +{champion}", own_shop.riffle("bundles", "list").out)
    assert own_shop.riffle("bundles", "verify", "shadow").code == 0
    assert own_shop.riffle("bundles", "unname", "shadow", "--reason", "seen").code == 0
    assert own_shop.registry.names() == {"champion": champion}
    by_hand = own_shop.riffle("bundles", "name", "champion", champion, "--reason", "x")
    assert "riffle bundles promote" in refused(by_hand)


def test_prune_without_the_store_that_knows_the_newest_answers_removes_nothing(own_shop: Home) -> None:
    make_bundle_of(own_shop, day=1)
    assert "it does not run; run `riffle up`" in refused(own_shop.riffle("bundles", "prune", "--keep", "1"))
    assert len(own_shop.registry.list()) == 2


# --- features ---


@pytest.fixture
def shop_with_store(own_shop: Home) -> Iterator[tuple[Home, dict[str, object], str]]:
    """A shop whose store runs and is empty; the setting with its port; its address."""
    settings = Settings(home=str(own_shop.path / "state"), valkey_port=free_port())
    url = valkey.start(settings).url
    try:
        yield own_shop, {"valkey_port": settings.valkey_port}, url
    finally:
        valkey.stop(settings)


def test_features_are_listed_with_version_default_and_meaning(shop: Home) -> None:
    run = shop.riffle("features", "list")
    assert run.code == 0
    for feature in FEATURES:
        assert re.search(rf"{feature.name} +{feature.version} +float32 +{feature.default:g} ", run.out)
    assert SCHEMA_HASH in run.out
    assert "The store does not run" in run.out


@pytest.mark.valkey
def test_states_are_rebuilt_and_then_listed_as_live(
    shop_with_store: tuple[Home, dict[str, object], str],
) -> None:
    home, port, url = shop_with_store
    assert "No live states" in home.riffle("features", "list", **port).out
    rebuilt = home.riffle("features", "rebuild", **port)
    assert rebuilt.code == 0, rebuilt
    assert f"{SCHEMA_HASH[:8]}.1 is live: 60 users from 720 events" in rebuilt.out
    assert f"Live states {SCHEMA_HASH[:8]}.1: 60 users, 720 events" in home.riffle("features", "list", **port).out
    with redis.Redis.from_url(url) as server:
        assert server.exists(state_key(namespace(1), "user-00"))


@pytest.mark.valkey
def test_bundle_without_live_states_is_not_promoted_until_they_are_made(
    shop_with_store: tuple[Home, dict[str, object], str],
) -> None:
    home, port, _ = shop_with_store
    bundle = str(home.registry.champion())
    promote = ("bundles", "promote", bundle, "--reason", "again")
    sentence = refused(home.riffle(*promote, **port))
    assert "riffle features rebuild" in sentence
    assert len(home.registry.audit()) == 1
    home.riffle("features", "rebuild", **port)
    assert home.riffle(*promote, **port).code == 0
    assert len(home.registry.audit()) == 2


@pytest.mark.valkey
def test_prune_keeps_bundles_of_answers_on_record_and_of_the_traffic_table(
    shop_with_store: tuple[Home, dict[str, object], str],
) -> None:
    home, port, url = shop_with_store
    answered, serving, gone = (make_bundle_of(home, day=day) for day in (1, 2, 3))
    record = msgspec.msgpack.encode(decision(1, bundle=answered))
    with redis.Redis.from_url(url) as server:
        server.xadd(STREAM, {"d": record})
    on_table(url, lambda table: table.begin(serving, who="test", reason="it serves"))
    prune = ("bundles", "prune", "--keep", "1")
    assert f"{gone} would be removed" in home.riffle(*prune, "--dry-run", **port).out
    assert len(home.registry.list()) == 4
    keep_junk(Settings(home=str(home.path / "state")), gone, [Junk(0, 1, blind=("digest",))])
    assert f"{gone} removed" in home.riffle(*prune, **port).out
    assert junk_of(Settings(home=str(home.path / "state")), gone) == ()
    assert {one.id for one in home.registry.list()} == {str(home.registry.champion()), answered, serving}
    assert "Every bundle is needed" in home.riffle(*prune, **port).out


def make_bundle_of(home: Home, *, day: int) -> str:
    """A bundle of last summer, which holds nothing that could serve."""
    return home.registry.publish(make_bundle(home.path / f"bundle-{day}", day=day))


def test_rebuild_without_a_store_says_what_starts_it(shop: Home) -> None:
    assert "riffle up" in refused(shop.riffle("features", "rebuild"))


def test_definitions_of_a_bundle_are_compared_with_those_of_this_version(own_shop: Home, tmp_path: Path) -> None:
    def published_with(**fields: object) -> str:
        folder = tmp_path / f"changed-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(own_shop.registry.path("champion"), folder)
        (folder / "manifest.json").chmod(0o644)
        manifest = read_manifest(folder)
        kept = {name: value for name, value in (manifest.fields | fields).items() if value is not None}
        (folder / "manifest.json").unlink()
        write_manifest(folder, fields=kept)
        return own_shop.registry.publish(folder)

    run = own_shop.riffle("features", "diff")
    assert run.code == 0
    assert f"the same {len(FEATURES)} definitions" in run.out
    definitions = described(FEATURES)
    changed = published_with(features=[{**definitions[0], "default": 3.5}, *definitions[1:]])
    assert "changed: user_log_events: default 3.5 -> 0.0" in own_shop.riffle("features", "diff", changed).out
    assert "default 0.0 -> 3.5" in own_shop.riffle("features", "diff", "champion", changed).out
    assert "older version" in refused(own_shop.riffle("features", "diff", published_with(features=None)))


# --- recommend ---


def test_known_user_sees_titles_reasons_and_nothing_already_seen(shop: Home) -> None:
    run = shop.riffle("recommend", "--user", "user-01", "--count", "5")
    assert run.code == 0, run
    newest, listed = run.out.split("Recommended by")
    seen = set(re.findall(r"Title of (\S+)", newest))
    shown = re.findall(r"Title of (\S+)", listed)
    assert len(seen) == 5
    assert len(shown) == len(set(shown)) == 5
    assert not seen & set(shown)
    assert {item.partition("-")[0] for item in shown[:3]} == {"left"}
    assert "Newest of 12 interactions" in " ".join(newest.split())


def test_unknown_user_is_a_cold_start(shop: Home) -> None:
    run = shop.riffle("recommend", "--user", "nobody")
    assert run.code == 0
    assert "a cold start" in run.out
    assert len(re.findall(r"Title of", run.out)) == 10
    assert "popular" in run.out


@pytest.mark.parametrize("user_id", ["a[bold]b", "a[/]b"])
def test_user_id_with_brackets_is_shown_as_it_is(shop: Home, user_id: str) -> None:
    run = shop.riffle("recommend", "--user", user_id)
    assert run.code == 0
    assert user_id in run.out


def test_titles_with_brackets_are_shown_as_they_are(empty: Home) -> None:
    titles = {"left-01": "Left [bold] one", "left-02": "Left [/] two", "right-01": "Right [/b] one"}
    shop = write_csv(empty.path / "shop", worlds.two_tastes(), titles)
    assert empty.riffle("import", str(shop)).code == 0
    assert empty.riffle("train").code == 0
    run = empty.riffle("recommend", "--user", "nobody", "--count", "41")
    assert run.code == 0
    assert all(title in run.out for title in titles.values())


def test_recommend_without_a_champion_says_what_to_run(own_shop: Home) -> None:
    shutil.rmtree(own_shop.registry.root)
    assert "run `riffle train`" in refused(own_shop.riffle("recommend", "--user", "user-01"))


@pytest.mark.parametrize("count", ["0", "501", "ten"])
def test_count_out_of_range_is_a_usage_error(shop: Home, count: str) -> None:
    run = shop.riffle("recommend", "--user", "user-01", "--count", count)
    assert run.code == 2
    assert "--count" in run.err


# --- damage ---


@pytest.mark.parametrize(
    "command",
    [
        ("bundles", "verify"),
        ("bundles", "promote", "champion", "--reason", "again"),
        ("recommend", "--user", "user-01"),
        ("evaluate",),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_damaged_bundle_file_is_refused_by_name(own_shop: Home, command: tuple[str, ...]) -> None:
    own_shop.damage("factors.npy")
    assert "'factors.npy' failed the sha256 check" in refused(own_shop.riffle(*command))


def test_damaged_manifest_is_listed_and_refused_by_name(own_shop: Home) -> None:
    own_shop.damage("manifest.json")
    (own_shop.registry.path("champion") / "manifest.json").write_text("{")
    listed = own_shop.riffle("bundles", "list")
    assert listed.code == 0
    assert "manifest.json" in listed.out
    for command in ("verify", "show"):
        assert "manifest.json" in refused(own_shop.riffle("bundles", command))


# --- doctor, status, down ---


def test_doctor_without_a_bundle_warns_and_says_what_trains_one(empty: Home) -> None:
    run = empty.riffle("doctor")
    assert levels(run)[-1] == "warn"
    assert "riffle up trains one" in run.out
    assert run.code == ("fail" in levels(run))


def test_doctor_of_a_trained_home_finds_its_champion_sound(shop: Home) -> None:
    run = shop.riffle("doctor")
    assert f"{shop.registry.champion()}: every file as published, 41 items" in run.out
    assert levels(run)[-1] == "ok"
    assert run.code == ("fail" in levels(run))


def test_doctor_fails_on_a_damaged_bundle_and_names_the_file(own_shop: Home) -> None:
    own_shop.damage("ranker.trees.leaf.npy")
    run = own_shop.riffle("doctor")
    assert run.code == 1
    assert "ranker.trees.leaf.npy" in run.out
    assert "riffle bundles promote previous" in run.out
    assert "Traceback" not in run.err


def test_doctor_fails_on_two_settings_with_one_port(empty: Home) -> None:
    port = free_port()
    run = empty.riffle("doctor", http_port=port, ray_port=port)
    assert run.code == 1
    assert f"both {port}" in run.out


def test_status_of_a_stack_that_is_down_is_a_failure_that_names_the_way_up(empty: Home) -> None:
    assert "riffle up" in refused(empty.riffle("status"))


def test_down_where_nothing_runs_says_so(empty: Home) -> None:
    run = empty.riffle("down")
    assert run.code == 0
    assert "Nothing was running" in run.out


# --- the command itself ---


def test_unknown_setting_is_one_sentence_with_the_known_ones(empty: Home) -> None:
    sentence = refused(empty.riffle("bundles", "list", http_prot=1))
    assert "http_prot" in sentence
    assert "http_port" in sentence


def test_help_names_every_command(empty: Home) -> None:
    run = empty.riffle("--help")
    assert run.code == 0
    for command in (
        "up",
        "down",
        "serve",
        "status",
        "doctor",
        "import",
        "train",
        "evaluate",
        "recommend",
        "bundles",
        "replay",
        "features",
    ):
        assert re.search(rf"\b{command}\b", run.out)


def test_unknown_command_is_a_usage_error(empty: Home) -> None:
    run = empty.riffle("upp")
    assert run.code == 2
    assert "upp" in run.err


def test_invented_world_and_data_together_are_refused_and_nothing_is_imported(empty: Home, tmp_path: Path) -> None:
    assert "give one of them" in refused(empty.process("import", "--synthetic", str(tmp_path)))
    assert "no data set is imported" in refused(empty.riffle("train"))


@pytest.mark.parametrize("name", ALONE)
def test_who_is_in_a_hurry_gets_the_same_command(name: str) -> None:
    own, whole = (typer.main.get_group(commands(*modules)).commands[name] for modules in ((ALONE[name],), MODULES))
    assert [one.name for one in own.params] == [one.name for one in whole.params]
    assert own.help == whole.help

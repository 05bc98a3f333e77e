"""`make ml-ci`: all of its steps on a tiny shop, with the base trained by its own code."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import model_ci
from recsys.datasets.detect import read_dataset
from recsys.datasets.synthetic import synthetic
from recsys.manifest import verify
from recsys.signature import TrustedKeys
from tests import worlds
from tests.recsys.keys import write_key
from tests.service.test_cli import write_csv


def has_history() -> bool:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=model_ci.ROOT, capture_output=True)
    return done.returncode == 0


@pytest.mark.skipif(not has_history(), reason="no repository here")
def test_every_step_passes_and_leaves_what_the_workflow_keeps(tmp_path: Path) -> None:
    shop, to = write_csv(tmp_path / "shop", worlds.two_tastes()), tmp_path / "out"
    private, public = write_key(tmp_path, "ours")
    arguments = ["--data", str(shop), "--base", "HEAD", "--key", str(private), "--to", str(to)]
    done = subprocess.run(
        [sys.executable, str(model_ci.ROOT / "deploy" / "model_ci.py"), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (bundle,) = (to / "bundle").iterdir()
    assert verify(bundle, TrustedKeys.read(public)).id == bundle.name
    assert (to / "card.md").read_text("utf-8").startswith(f"# Model card of {bundle.name}")
    assert json.loads((to / "checks" / "data_checks.json").read_text("utf-8"))["users"] == 60
    summary = (to / "summary.md").read_text("utf-8")
    assert "Passed the gate, signed with the key given." in summary
    if (to / "base").exists():  # not before the first commit that can measure
        costs = json.loads((to / "comparison.json").read_text("utf-8"))["costs"]
        assert set(costs) == {"cpu_ms", "size_mb", "wall_s", "cpu_s", "peak_mb"}
        assert "| NDCG@10 |" in summary
    listed = subprocess.run(["git", "worktree", "list"], cwd=model_ci.ROOT, capture_output=True, text=True).stdout
    assert "riffle-base-" not in listed


def test_failed_step_is_named_and_fails_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"u,i{number},{1_700_000_000 + number},hide\n" for number in range(20))
    (tmp_path / "few.csv").write_text("user_id,item_id,timestamp,verb\n" + rows)
    to = tmp_path / "out"
    assert model_ci.main(["--data", str(tmp_path / "few.csv"), "--to", str(to)]) == 1
    assert "riffle check --report checks ended with 1" in (to / "summary.md").read_text("utf-8")
    assert "ml-ci: riffle check" in capfd.readouterr().err


def test_invented_world_is_read_back_as_it_was_invented(tmp_path: Path) -> None:
    world = synthetic(7, **model_ci.INVENTED)
    read = read_dataset(model_ci._invented(tmp_path / "invented"), positive_rating=4.0)
    assert (len(read.user_id), len(read.item_id), len(read.events)) == (250, 600, len(world.events))
    assert read.report.rows_malformed == 0
    with (tmp_path / "invented" / "items.csv").open(newline="") as file:
        assert {row["title"] for row in csv.DictReader(file)} == set(world.item_title)


def test_base_that_is_no_commit_fails_and_leaves_no_work_tree(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError), model_ci._work_tree("no-such-branch"):
        pass
    assert not list(tmp_path.iterdir())


def test_own_environment_is_made_only_where_the_lock_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[str]] = []
    monkeypatch.setattr(model_ci.subprocess, "run", lambda command, **_: made.append(command))
    (tmp_path / "requirements.lock").write_bytes((model_ci.ROOT / "requirements.lock").read_bytes())
    assert model_ci._python_of(tmp_path) == sys.executable
    assert made == []
    (tmp_path / "requirements.lock").write_text("numpy==1\n")
    assert model_ci._python_of(tmp_path) == str(tmp_path / ".venv" / "bin" / "python")
    assert made == [["make", ".venv/.runtime", f"PYTHON={sys.executable}"]]

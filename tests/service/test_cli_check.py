"""`riffle check`, and what training does with what it finds."""

import json
from pathlib import Path

import numpy as np
import pytest

from recsys.datasets.checks.checks import check
from recsys.datasets.checks.report import to_json
from recsys.datasets.dataset import Dataset
from tests import worlds
from tests.recsys.datasets.checks.logs import repeated
from tests.service.test_cli import Home, refused, write_csv

TASTES = worlds.two_tastes()


@pytest.fixture
def empty(tmp_path: Path) -> Home:
    """Nothing is imported."""
    return Home(tmp_path)


def imported(home: Home, dataset: Dataset) -> Path:
    """The folder from which a data set was imported."""
    folder = write_csv(home.path / "shop", dataset)
    assert home.riffle("import", str(folder)).code == 0
    return folder


def test_check_shows_every_finding_of_the_last_import(empty: Home) -> None:
    imported(empty, TASTES)
    run = empty.riffle("check")
    assert (run.code, run.err) == (0, "")
    for name in ("known verbs", "duplicates", "temporal split", "positives", "heaviest user", "drift of popularity"):
        assert name in run.out
    assert "0 failed" in run.out


def test_check_of_a_path_imports_nothing_and_a_failure_is_exit_code_1_with_its_rows(empty: Home) -> None:
    folder = write_csv(empty.path / "shop", repeated(TASTES, np.arange(len(TASTES.events))))
    run = empty.riffle("check", "--data", str(folder))
    assert (run.code, run.err) == (1, "")
    assert "was a file imported twice?" in run.out
    assert TASTES.user_id[int(TASTES.events.user[0])] in run.out
    assert "1 failed" in run.out
    assert "riffle import" in refused(empty.riffle("check"))


def test_report_holds_findings_and_rows_as_json_and_markdown(empty: Home) -> None:
    folder = write_csv(empty.path / "shop", repeated(TASTES, np.arange(len(TASTES.events))))
    assert empty.riffle("check", "--data", str(folder), "--report", "found").code == 1
    report = json.loads((empty.path / "found" / "data_checks.json").read_text())
    (failed,) = [one for one in report["findings"] if one["level"] == "failure"]
    assert (failed["name"], len(failed["rows"])) == ("duplicates", 5)
    assert "| failure | duplicates |" in (empty.path / "found" / "data_checks.md").read_text()


def test_report_that_cannot_be_written_is_one_sentence(empty: Home) -> None:
    imported(empty, TASTES)
    (empty.path / "found").write_text("a file")
    assert "cannot write the report to found" in refused(empty.riffle("check", "--report", "found"))


def test_train_refuses_what_fails_a_check_and_shows_the_rows(empty: Home) -> None:
    imported(empty, repeated(TASTES, np.arange(len(TASTES.events))))
    message = refused(empty.riffle("train"))
    assert "duplicates: 720 of 1,440 events (50.0%)" in message
    assert message.count("user-") == 5
    assert list((empty.path / "state").glob("bundle-*")) == []


def test_train_prints_warnings_alone_and_the_bundle_keeps_all_findings_without_users(empty: Home) -> None:
    some = repeated(TASTES, np.arange(0, len(TASTES.events), 20))
    imported(empty, some)
    run = empty.riffle("train")
    assert run.code == 0, run
    assert "repeat an earlier one" in run.out
    assert "temporal split" not in run.out
    text = (empty.registry.path("champion") / "data_checks.json").read_text()
    assert json.loads(text)["findings"] == json.loads(to_json(check(some), rows=False))["findings"]
    assert "user-" not in text

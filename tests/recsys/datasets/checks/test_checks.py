"""All checks together: what they refuse and how, and that the same data give the same report."""

import json
import time
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from recsys.datasets.checks.checks import check
from recsys.datasets.checks.report import markdown, to_json
from recsys.datasets.dataset import Dataset, Timing
from recsys.errors import TrainingError
from tests import worlds
from tests.recsys.datasets.checks.logs import EVENTS, healthy, healthy_events, log_of, of_level, repeated, with_value

HEALTHY = healthy()
TWICE = repeated(HEALTHY, np.arange(EVENTS))


def test_a_failure_refuses_with_the_name_of_the_check_its_numbers_and_its_rows() -> None:
    with pytest.raises(TrainingError) as refused:
        check(TWICE).refuse()
    sentence, found, header, *rows = str(refused.value).splitlines()
    assert "tiny is not fit to train on" in sentence
    assert found.startswith("duplicates: 2,000 of 4,000 events (50.0%)")
    assert header == "  place, user_id, item_id, timestamp, verb, value"
    assert len(rows) == 5
    assert rows[0].startswith("  2, user-")


def test_warnings_refuse_nothing() -> None:
    check(repeated(HEALTHY, np.arange(0, EVENTS, 20))).refuse()


def test_a_broken_schema_is_all_that_is_looked_at() -> None:
    names = [one.name for one in check(with_value(HEALTHY, "user", 3, 1 << 20)).findings]
    assert "user numbers" in names
    assert "duplicates" not in names


def test_worlds_of_the_tests_and_the_invented_one_pass(synthetic_dataset: Dataset) -> None:
    for dataset in (synthetic_dataset, worlds.two_tastes(), worlds.chain()):
        assert of_level(dataset, "failure") == []


@pytest.mark.parametrize("size", [1, 2, 3, 10, 99, 500, 505])
@pytest.mark.parametrize("timing", get_args(Timing))
def test_logs_of_any_size_and_timing_are_checked_and_reported(size: int, timing: Timing) -> None:
    checks = check(replace(log_of(healthy_events()[:size]), timing=timing))
    assert json.loads(to_json(checks, rows=True))["events"] == size
    assert len(markdown(checks).splitlines()) > len(checks.findings)
    assert bool(checks.of_level("failure")) == (size == 1)


@pytest.mark.parametrize("rows", [True, False])
def test_the_same_data_give_the_same_bytes(rows: bool) -> None:
    assert to_json(check(TWICE), rows=rows) == to_json(check(repeated(healthy(), np.arange(EVENTS))), rows=rows)


def test_json_has_rows_for_its_reader_and_no_user_for_a_bundle() -> None:
    checks = check(with_value(TWICE, "value", 0, np.inf))
    (found,) = [one for one in json.loads(to_json(checks, rows=True))["findings"] if one["level"] == "failure"]
    assert found["rows"][0]["user_id"] in HEALTHY.user_id
    assert found["rows"][0]["value"] == "inf"
    text = to_json(checks, rows=False)
    assert not [user for user in HEALTHY.user_id if user in text]
    assert {one["name"] for one in json.loads(text)["findings"]} == {one.name for one in checks.findings}


def test_markdown_keeps_its_table_whatever_an_id_holds() -> None:
    events = [(f"{user}|\n", *rest) for user, *rest in healthy_events()]
    lines = markdown(check(repeated(log_of(events), np.arange(EVENTS)))).splitlines()  # type: ignore[arg-type]
    (header,) = [number for number, line in enumerate(lines) if line.startswith("| place")]
    assert lines[header + 2].count(" | ") == 5
    assert r"\|" in lines[header + 2]


def test_a_hundred_thousand_events_take_less_than_a_second() -> None:
    size = 50
    columns = repeated(HEALTHY, np.tile(np.arange(EVENTS), size))
    began = time.process_time()
    check(columns)
    assert time.process_time() - began < 1

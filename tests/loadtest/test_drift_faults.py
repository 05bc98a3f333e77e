"""A small version of the measurement: a quiet stretch says nothing, faults are noticed and called by their names."""

from typing import Any

import pytest

from loadtest import drift_faults
from loadtest.drift_faults import NAMES, beginning, markdown, one_run, summed_up
from recsys.simulation.faults import Fault

Run = dict[str, Any]
WITHIN: dict[Fault, int] = {  # lists
    "popularity shock": 2_500,
    "nulls": 400,
    "unit change": 400,
    "frozen item stats": 800,
    "new-user wave": 800,
    "bot traffic": 20_000,
}


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    """One quiet stretch of four days, and each fault from its second day on; taste drift needs a longer beginning."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drift_faults, "ONSET_DAY", 1)
        patch.setattr(drift_faults, "AFTER_DAYS", 4)
        patch.setattr(drift_faults, "QUIET_DAYS", 4)
        patch.setattr(drift_faults, "CHANGE_DAY", 3)
        begun = beginning(3, 300, 6, 8)
        patch.setattr(drift_faults, "beginning", lambda _: begun)
        return one_run((3, 0, tuple(WITHIN)))


def test_quiet_days_have_no_alarm(runs: list[Run]) -> None:
    assert [one["noticed"] for one in runs if one["fault"] == "none"] == [False]


@pytest.mark.parametrize("fault", WITHIN)
def test_fault_is_noticed_within_so_many_lists_and_named(fault: Fault, runs: list[Run]) -> None:
    (run,) = (one for one in runs if one["fault"] == fault)
    assert run["noticed"]
    assert run["causes"][0].startswith(NAMES[fault]), run
    assert run["lists"] <= WITHIN[fault]


def test_table_has_a_line_for_each_fault_and_says_how_many_months_were_quiet(runs: list[Run]) -> None:
    table = markdown(summed_up(runs))
    assert all(f"| {fault} | 1 of 1 | 1 of 1 |" in table for fault in WITHIN)
    assert "Of 1 quiet months 0 had an alarm" in table

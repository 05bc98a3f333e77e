"""Three regimes in small: the same visitors, each trained by its own rule, and a table of what came of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest import autopilot_days, autopilot_regimes
from loadtest.autopilot_days import counts, interval, markdown, one_world, plot, surely
from loadtest.autopilot_regimes import outcomes
from recsys.experiments.outcomes import METRICS
from recsys.retraining.triggers import Policy
from recsys.simulation import DAY_S
from recsys.simulation.hours import SHOWN, Lists

DAYS = 6


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autopilot_days, "BEFORE", (4, 4))
        patch.setattr(autopilot_days, "ITEMS", 150)
        patch.setattr(autopilot_regimes, "POISONED", (2,))
        patch.setattr(autopilot_regimes, "POLICY", Policy(every_s=3 * DAY_S - 1, share=9.0, least=50, rest_s=0))
        return {"users": 150, "days": DAYS, "worlds": [one_world(3, users=150, days=DAYS)]}


def test_each_regime_trains_by_its_rule(found: dict[str, Any]) -> None:
    regimes = found["worlds"][0]["regimes"]
    assert [len(regimes[name]["expected"]) for name in regimes] == [DAYS] * 3
    assert regimes["never"]["trainings"] == []
    assert [one["day"] for one in regimes["always"]["trainings"]] == [3]
    assert all(one["installed"] for one in regimes["always"]["trainings"])
    assert [one["trigger"] for one in regimes["autopilot"]["runs"]] == ["schedule"]


def test_all_regimes_meet_the_same_visitors_until_something_is_changed(found: dict[str, Any]) -> None:
    regimes = found["worlds"][0]["regimes"]
    for name in ("clicks", "expected"):
        assert len({tuple(one[name][:3]) for one in regimes.values()}) == 1
    assert regimes["always"]["expected"][3:] != regimes["never"]["expected"][3:]


def test_poison_is_named_and_the_run_ends_with_a_reason(found: dict[str, Any]) -> None:
    (run,) = found["worlds"][0]["regimes"]["autopilot"]["runs"]
    assert run["outcome"] in ("promoted", "no better", "refused", "rolled back", None)
    assert run["outcome"] is None or run["reason"]
    assert run["screened"].startswith("flood") or "20,000" in run["screened"], run


def test_tables_have_every_regime_and_run_and_the_plot_is_drawn(found: dict[str, Any], tmp_path: Path) -> None:
    table = markdown(found)
    for name in ("never", "always", "autopilot"):
        assert sum(line.startswith(f"| {name} | ") for line in table.splitlines()) == 2
    assert "| always | 1 | 1 | " in table
    plot(found, tmp_path / "days.png")
    assert (tmp_path / "days.png").read_bytes().startswith(b"\x89PNG")


def test_what_trainings_came_to_is_counted() -> None:
    def training(gain: float, *, installed: bool) -> dict[str, Any]:
        return {"gain": gain, "error": 0.01, "installed": installed}

    of = [training(0.05, installed=True), training(-0.05, installed=True), training(0.03, installed=False)]
    of += [training(0.019, installed=True), training(-0.03, installed=False)]
    assert [surely(one) for one in of] == [1, -1, 1, 0, -1]
    assert counts(of) == {"trainings": 5, "champions": 3, "needless": 3, "worse": 1, "missed": 1}


def test_interval_is_that_of_student() -> None:
    assert interval([0.5]) == "0.500"
    assert interval([1.0, 2.0, 3.0]) == "2.000 [-0.484, 4.484]"  # 4.303 / sqrt(3), t tables


def test_users_of_both_bundles_are_counted_apart() -> None:
    items = np.full((4, SHOWN), -1)
    items[:, 0] = [7, 6, 8, 9]
    challenger, two = np.array([False, False, True, True]), np.array([2, 0, 1, 0])
    found = outcomes([Lists(np.array([5, 5, 6, 4]), challenger, items, two, two * 0, np.zeros(4))])
    assert found.variant.tolist() == [1, 0, 1]  # of users 4, 5, 6
    assert found.totals[METRICS.index("clicked")].tolist() == [0, 1, 1]
    assert [part.tolist() for part in found.items] == [[7], [9, 8]]  # of the first list of each
    assert [part.tolist() for part in found.owners] == [[1], [0, 2]]

"""The capacity model: what follows from costs, by hand, and what it refuses."""

import re
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from service.capacity import DAY_S, Costs, Demand, Machine, cpu_ms, plan
from service.cli import app

COSTS = Costs(
    cpu_ms={1_000: 1.0, 1_000_000: 2.0},
    store_cpu_ms=0.1,
    event_cpu_ms=0.2,
    store_event_cpu_ms=0.3,
    bundle_bytes_per_item=1000.0,
    gateway_bytes=1e8,
    node_bytes=1e9,
    state_bytes=1000.0,
    request_bytes=100.0,
    answer_bytes=800.0,
    store_bytes=100.0,
)
DEMAND = Demand(1000.0 * DAY_S, 1_000, 1e6, events=0.5, peak=2.0, zones=3, replicas=2)


def test_cost_of_a_request_goes_with_the_logarithm_of_the_catalogue() -> None:
    assert cpu_ms(COSTS, 10) == cpu_ms(COSTS, 1_000) == 1.0
    assert cpu_ms(COSTS, 1_000_000) == 2.0
    assert cpu_ms(COSTS, 31_623) == pytest.approx(1.5, abs=1e-4)
    assert cpu_ms(COSTS, 1_000_000_000) == pytest.approx(3.0)


def test_plan_by_hand() -> None:
    found = plan(DEMAND, COSTS, Machine(cores=4, memory_gb=16, core_hour=0.1, gb_hour=0.01))
    assert (found.average_rps, found.peak_rps) == (1000, 2000)
    assert found.cores_busy == pytest.approx(1000 * (1.0 + 0.5 * 0.2 + 0.1 + 0.5 * 0.3) / 1000)
    assert found.cores == pytest.approx(2000 * 1.1 / 1000 / 0.6 * 1.5)
    assert (found.gateways, found.machines) == (6, 3)
    assert found.node_gb == pytest.approx(1 + 1e6 / 1e9 + 2 * 0.1)
    assert found.store_cores == pytest.approx(2000 * 0.25 / 1000 / 0.6 * 1.5)
    assert found.store_gb == pytest.approx(2 / 0.7)
    assert found.network_mb_s == pytest.approx(2.0)
    store_hour = 2 * 2 * 0.1 + 2 / 0.7 * 0.01
    assert found.a_month == pytest.approx(730 * (3 * (0.4 + 0.16) + store_hour))


@pytest.mark.parametrize("name", ["requests_a_day", "items", "users", "peak"])
def test_more_of_anything_never_takes_less(name: str) -> None:
    last = plan(DEMAND, COSTS)
    for factor in (2, 10, 100):
        now = plan(replace(DEMAND, **{name: getattr(DEMAND, name) * factor}), COSTS)
        assert now.machines >= last.machines
        assert now.a_month >= last.a_month
        last = now


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"requests_a_day": 0.0}, "requests_a_day must be above 0"),
        ({"items": -1}, "items must be above 0"),
        ({"users": float("nan")}, "users must be above 0"),
        ({"events": -0.1}, "events must be at least 0"),
        ({"zones": 1}, "zones must be at least 2"),
        ({"items": 100_000_000}, "a machine would need"),
    ],
)
def test_what_cannot_be_planned_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(replace(DEMAND, **change), COSTS)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["capacity", *arguments])
    return done.exit_code, " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.output).split())


def test_command_prints_the_plan_and_a_day_is_its_seconds() -> None:
    code, by_day = run("--per-day", "864e6", "--items", "100000")
    assert code == 0
    assert "requests/s, average and peak 10,000 and 25,900" in by_day
    assert run("--rps", "10000", "--items", "100000") == (0, by_day)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give one of --rps and --per-day"),
        (("--rps", "1", "--per-day", "1"), "give one of --rps and --per-day"),
        (("--rps", "0"), "requests_a_day must be above 0"),
        (("--rps", "10", "--zones", "1"), "zones must be at least 2"),
    ],
)
def test_command_refuses_in_one_sentence(arguments: tuple[str, ...], message: str) -> None:
    code, printed = run(*arguments)
    assert code == 2
    assert message in printed

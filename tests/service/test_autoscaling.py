"""How many gateways follow from what gateways say, and what each of them says."""

from types import SimpleNamespace
from typing import Any

import pytest

from service.autoscaling import AFTER_REMOVAL, METRIC, TARGET, LoadMeter, gateways, policy


def context(told: dict[str, float] | None, *, running: int, target: int | None = None) -> Any:
    """What Serve gives a policy, as far as this one reads it."""
    metrics = None if told is None else {METRIC: told}
    wanted = running if target is None else target
    return SimpleNamespace(aggregated_metrics=metrics, current_num_replicas=running, target_num_replicas=wanted)


@pytest.mark.parametrize(
    ("load", "running", "wanted"),
    [(0.0, 1, 1), (0.59, 1, 1), (0.61, 1, 2), (1.0, 1, 2), (4.0, 1, 7), (1.19, 2, 2), (1.21, 2, 3)],
)
def test_as_many_as_bring_each_to_the_target(load: float, running: int, wanted: int) -> None:
    assert gateways(load, running) == wanted


@pytest.mark.parametrize("load", [step / 20 for step in range(1, 200)])
def test_a_steady_load_settles_and_stays(load: float) -> None:
    for start in (1, 5, 40):
        running, seen = start, []
        for _ in range(50):
            running = gateways(load, running)
            seen.append(running)
        assert len(set(seen[-40:])) == 1
        assert load / running <= TARGET + 1e-9
        assert running == 1 or load / (running - 1) > AFTER_REMOVAL


def test_load_that_sways_by_a_tenth_moves_nothing() -> None:
    for load in (0.7, 1.5, 3.1, 7.7):
        running = gateways(load * 1.1, 1)
        assert {gateways(load * sway, running) for sway in (0.95, 1.0, 1.05, 1.1)} == {running}


def test_policy_sums_what_is_told_and_waits_where_nothing_is() -> None:
    assert policy(context({"a": 0.9, "b": 0.8}, running=2)) == (3, {})
    assert policy(context(None, running=2, target=4)) == (4, {})
    assert policy(context({}, running=2)) == (2, {})
    assert policy(context({"a": 0.1, "b": 0.1}, running=2)) == (1, {})


class Gateway:
    """The readings of one, by hand."""

    def __init__(self) -> None:
        self.wait = self.cpu = self.now = 0.0
        self.asked = self.shed = 0

    def meter(self) -> LoadMeter:
        return LoadMeter(
            lambda: self.wait, lambda: self.asked, lambda: self.shed, cpu_s=lambda: self.cpu, now_s=lambda: self.now
        )


def test_load_is_the_share_of_a_core_since_the_last_look() -> None:
    gateway = Gateway()
    meter = gateway.meter()
    gateway.now, gateway.cpu, gateway.asked = 2.0, 0.5, 100
    assert meter.load() == 0.25
    gateway.now, gateway.cpu, gateway.asked = 4.0, 2.1, 400
    assert meter.load() == pytest.approx(0.8)


def test_a_queue_is_load_though_the_core_was_given_to_others() -> None:
    gateway = Gateway()
    meter = gateway.meter()
    gateway.now, gateway.cpu, gateway.wait = 2.0, 0.8, 0.9
    assert meter.load() == 0.9


def test_demand_that_was_refused_counts_as_if_it_had_been_served() -> None:
    gateway = Gateway()
    meter = gateway.meter()
    gateway.now, gateway.cpu, gateway.asked, gateway.shed = 1.0, 1.0, 500, 400
    assert meter.load() == pytest.approx(5.0)
    gateway.now, gateway.asked = 2.0, 600
    assert meter.load() == 0.0

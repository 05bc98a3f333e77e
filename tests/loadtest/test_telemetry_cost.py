"""What telemetry costs is measured on the real edge, with and without it, and the arms differ in nothing else."""

import asyncio

import pytest

from loadtest import telemetry_cost, telemetry_parts
from recsys.types import World
from service.settings import Settings

pytestmark = pytest.mark.valkey


def test_every_arm_answers_the_same_lists_in_every_round_and_traces_reach_the_collector(
    world: World, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_cost, "ARMS", {"bare": None, "counts": 0.0, "traced": 1.0})
    monkeypatch.setattr(telemetry_cost, "WARM_UP", 32)
    monkeypatch.setattr("service.telemetry.otlp.PAUSE_S", 0.05)
    users = [f"user-{number:04d}" for number in range(20)]
    measured = telemetry_cost.measure(world, valkey_url, Settings(), users, rounds=3, requests=96, seed=7)
    took_us = asyncio.run(measured)
    assert {arm: len(values) for arm, values in took_us.items()} == {"bare": 3, "counts": 3, "traced": 3}
    assert min(min(values) for values in took_us.values()) > 0


def test_cost_is_the_share_of_what_it_takes_without() -> None:
    found = telemetry_cost.summary({"bare": [100.0, 200.0], "traced": [101.0, 206.0]}, seed=7)
    assert found["bare"]["cost_percent"] == 0
    assert found["traced"]["cost_percent"] == pytest.approx(2.0)
    assert found["traced"]["low"] <= 2.0 <= found["traced"]["high"]


def test_every_part_is_timed_and_unsampled_requests_cost_microseconds() -> None:
    for name, call in telemetry_parts.parts().items():
        took_us = telemetry_parts.microseconds(call, repeats=3, calls=2_000)
        assert took_us < 100, name  # 0.2 to 4 us on an idle core; others may be at work here

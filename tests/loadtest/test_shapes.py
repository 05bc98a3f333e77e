"""How many users there are when."""

from itertools import pairwise

import pytest

from loadtest.shapes import SHAPES, users_at

RUN_S, PEAK = 600.0, 100


def users(shape: str) -> list[int]:
    return [users_at(shape, float(second), run_time_s=RUN_S, peak=PEAK) or 0 for second in range(int(RUN_S))]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_reaches_its_peak_never_exceeds_it_and_ends_with_the_run(shape: str) -> None:
    assert max(users(shape)) == PEAK
    assert min(users(shape)) >= 1
    assert users_at(shape, RUN_S - 0.001, run_time_s=RUN_S, peak=PEAK)
    assert users_at(shape, RUN_S, run_time_s=RUN_S, peak=PEAK) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_there_is_always_somebody(shape: str) -> None:
    assert users_at(shape, 0.0, run_time_s=RUN_S, peak=1) == 1


def test_constant_is_the_peak_all_the_time() -> None:
    assert set(users("constant")) == {PEAK}


def test_spike_is_four_times_the_users_at_once_and_leaves_time_to_recover() -> None:
    found = users("spike")
    changes = [(second, found[second]) for second in range(1, len(found)) if found[second] != found[second - 1]]
    assert found[0] == PEAK / 4
    assert changes == [(240, PEAK), (360, PEAK / 4)]


def test_steps_are_five_equal_ones_upwards() -> None:
    found = users("steps")
    assert [found[at] for at in (0, 119, 120, 240, 360, 480, 599)] == [20, 20, 40, 60, 80, 100, 100]


def test_day_is_busiest_at_eight_in_the_evening_and_quietest_twelve_hours_before() -> None:
    found, hour = users("diurnal"), RUN_S / 24
    assert found.index(max(found)) == pytest.approx(20 * hour, abs=hour)
    assert found.index(min(found)) == pytest.approx(8 * hour, abs=hour)
    assert max(found) / min(found) == pytest.approx(4, rel=0.05)
    assert max(abs(after - before) for before, after in pairwise(found)) <= 1

"""What the next batch will take, from what the last ones took."""

import random

import pytest

from service.pace import Pace


def of(*batches: tuple[int, float]) -> Pace:
    pace = Pace()
    for size, took_s in batches:
        pace.ran(size, took_s)
    return pace


def test_before_the_first_batch_nothing_takes_time() -> None:
    assert of().takes_s(32) == 0


def test_batches_of_one_size_are_taken_to_grow_with_it() -> None:
    assert of(*[(8, 0.004)] * 20).takes_s(32) == pytest.approx(0.016)


def test_a_fixed_part_and_one_for_each_request_are_found_in_noise() -> None:
    chance = random.Random(3)
    sizes = [chance.randint(1, 32) for _ in range(300)]
    pace = of(*((size, 0.002 + 0.0003 * size + chance.gauss(0, 0.0002)) for size in sizes))
    for size in (1, 8, 32):
        assert pace.takes_s(size) == pytest.approx(0.002 + 0.0003 * size, abs=0.0003)


def test_larger_batches_that_were_quicker_do_not_make_time_run_backwards() -> None:
    pace = of(*[(1, 0.010), (32, 0.002)] * 30)
    assert pace.takes_s(1) >= 0
    assert pace.takes_s(32) >= pace.takes_s(1)


def test_a_steeper_line_than_through_zero_is_not_believed() -> None:
    pace = of(*[(10, 0.001), (20, 0.010)] * 30)
    assert pace.takes_s(1) >= 0


def test_what_batches_take_now_is_known_after_a_hundred() -> None:
    pace = of(*[(16, 0.050)] * 100, *[(16, 0.005)] * 100)
    assert pace.takes_s(16) == pytest.approx(0.005, rel=0.5)


def test_what_fits_is_two_batches_of_one_size() -> None:
    pace = of(*((size, 0.002 + 0.001 * size) for size in (4, 8, 16, 24) * 20))
    assert pace.fits(0.060, least=2, most=1000) == 56
    assert 2 * pace.takes_s(28) == pytest.approx(0.060)
    assert pace.fits(0.060, least=2, most=40) == 40
    assert pace.fits(0.004, least=2, most=1000) == 2
    assert of().fits(0.060, least=2, most=64) == 64
    assert of((1, 0.070), (32, 0.050)).fits(0.060, least=16, most=64) == 16  # larger batches were quicker


def test_one_batch_that_was_stopped_for_long_does_not_change_what_is_predicted_for_others() -> None:
    usual = [(20, 0.020)] * 30
    assert of(*usual, (1, 2.0), *usual).takes_s(20) == pytest.approx(0.020, rel=0.05)
    assert of(*usual, (20, 2.0)).takes_s(20) < 0.025

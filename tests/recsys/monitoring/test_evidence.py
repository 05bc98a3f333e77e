"""Evidence may be looked at after every row: it is rarely false, and it grows where a mean has left its tolerance."""

import numpy as np
import pytest

from recsys.monitoring.evidence import MOST, STAKES, Evidence, Tolerance
from recsys.monitoring.tolerances import tolerance_of

BAND = Tolerance(np.array([0.2]), np.array([0.4]), np.array([0.3]))


def peaks(rng: np.random.Generator, mean: float, *, runs: int, days: int, a_day: int) -> np.ndarray:
    """The highest e-value of each run, looked at after each row."""
    highest = np.zeros(runs)
    for run in range(runs):
        evidence = Evidence.none(1)
        for day in range(days):
            for row in (rng.random((a_day, 1)) < mean).astype(float):
                evidence.see(row[None], BAND, day=day)
                highest[run] = max(highest[run], evidence.value(slice(0, 1)))
    return highest


@pytest.mark.parametrize("mean", [0.2, 0.4], ids=["at the lower end", "at the upper end"])
def test_false_alarms_of_a_mean_at_the_end_of_its_tolerance_are_as_rare_as_stated_though_each_row_is_looked_at(
    mean: float,
) -> None:
    """Ville: at most a tenth ever reaches 10. The hardest null: inside the band it is rarer."""
    highest = peaks(np.random.default_rng(5), mean, runs=150, days=5, a_day=30)
    assert (highest >= 10).mean() <= 0.1


def test_mean_that_leaves_its_tolerance_late_is_noticed_as_soon_as_theory_says() -> None:
    """0.7 against at most 0.4 is worth some 0.18 nats a row at the best stake; the alarm is at 8.8 + 6 nats."""
    rng, evidence = np.random.default_rng(1), Evidence.none(1)
    for day in range(20):
        evidence.see((rng.random((50, 1)) < 0.3).astype(float), BAND, day=day)
    assert evidence.value(slice(0, 1)) < 10
    rows = 0
    while evidence.value(slice(0, 1)) < 1e4:
        evidence.see((rng.random((10, 1)) < 0.7).astype(float), BAND, day=20)
        rows += 10
    assert 50 < rows <= 200


def test_rows_that_say_nothing_change_nothing() -> None:
    evidence = Evidence.none(2)
    evidence.see(np.array([[0.9, np.nan]] * 5), Tolerance(np.zeros(2), np.full(2, 0.4), np.full(2, 0.2)), day=1)
    assert evidence.rows.tolist() == [5, 0]
    assert evidence.days.tolist() == [1, 0]
    assert evidence.wealth[:, 1].sum() == 0
    assert np.isnan(evidence.means(slice(1, 2))).all()


def test_nobody_bets_where_nothing_is_claimed() -> None:
    evidence = Evidence.none(1)
    evidence.see(np.ones((50, 1)), Tolerance(*np.full((3, 1), np.nan)), day=1)
    assert evidence.value(slice(0, 1)) == 1
    assert evidence.means(slice(0, 1)) == pytest.approx([1])


def test_evidence_ends_before_floats_do_and_is_forgotten_when_an_alarm_is_over() -> None:
    evidence = Evidence.none(1)
    for _ in range(30):
        evidence.see(np.ones((500, 1)), BAND, day=1)
    assert np.isfinite(evidence.wealth).all()
    assert evidence.wealth.max() == pytest.approx(MOST)
    evidence.forget(slice(0, 1))
    assert evidence.value(slice(0, 1)) == 0.5  # the days that are left


def test_what_is_packed_comes_back_to_the_bit_and_goes_on_alike() -> None:
    rng, evidence = np.random.default_rng(2), Evidence.none(1).widened(2)
    band = Tolerance(np.full(3, 0.2), np.full(3, 0.4), np.full(3, 0.3))
    evidence.see(rng.random((20, 3)), band, day=1)
    again = Evidence.unpacked(evidence.packed())
    for one in (evidence, again):
        one.see(np.full((5, 3), 0.5), band, day=2)
    assert evidence.packed() == again.packed()
    starts = np.array([0, 1])
    np.testing.assert_allclose(again.values(starts), [again.value(slice(0, 1)), again.value(slice(1, 3))])


@pytest.mark.parametrize("lost", ["wealth", "total", "day"])
def test_parts_that_do_not_fit_together_are_refused(lost: str) -> None:
    packed = Evidence.none(3).packed()
    with pytest.raises(ValueError, match=r"lengths|reshape"):
        Evidence.unpacked(packed | {lost: packed[lost][:-8]})


def test_stakes_never_lose_all() -> None:
    assert max(STAKES) < 1


def test_tolerance_is_wider_for_a_small_reference_and_never_nothing() -> None:
    mean = np.array([0.3, 0.0])
    small = tolerance_of("feature", mean, np.array([0.05, 0.0]), 40, alpha=1e-4)
    large = tolerance_of("feature", mean, np.array([0.005, 0.0]), 4_000, alpha=1e-4)
    assert (small.high > large.high).all()
    assert large.high[1] > 0.03
    assert large.low[0] < 0.21

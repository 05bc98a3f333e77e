"""Looking always is safe: the stated rates of error hold over whole paths, on a thousand simulated experiments."""

import math

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from recsys.experiments.effects import Effect, Side, effect
from recsys.experiments.sequential import LEAST, fixed_half_width, half_width, mismatch, users_for

RUNS, ALPHA, PLANNED = 1000, 0.05, 4000
LOOKS = np.unique(np.geomspace(2 * LEAST, 20_000, 120).astype(int))


def paths(effect_: float, *, seed: int, runs: int = RUNS) -> tuple[np.ndarray, np.ndarray]:
    """Estimated difference and variance at each look of each run, float [runs, looks]; clicks of skewed users."""
    rng = np.random.default_rng(seed)
    half = LOOKS // 2
    found, variance = np.empty((runs, len(LOOKS))), np.empty((runs, len(LOOKS)))
    for run in range(runs):
        sides = [rng.poisson(rng.gamma(0.5, 2.0, half[-1]) * (1 + up)) for up in (0.0, effect_)]
        sums = [np.cumsum(one)[half - 1] for one in sides]
        squares = [np.cumsum(one.astype(float) ** 2)[half - 1] for one in sides]
        means = [one / half for one in sums]
        found[run] = means[1] - means[0]
        variance[run] = sum((q / half - m**2) / half for q, m in zip(squares, means, strict=True))
    return found, variance


def widths(variance: np.ndarray) -> np.ndarray:
    return np.array(
        [
            [half_width(v, int(n), planned=PLANNED, alpha=ALPHA) for v, n in zip(row, LOOKS, strict=True)]
            for row in variance
        ]
    )


def test_where_nothing_is_different_a_thousand_who_always_look_are_wrong_in_alpha_at_most() -> None:
    found, variance = paths(0.0, seed=1)
    wrong = (np.abs(found) > widths(variance)).any(axis=1).mean()
    fixed = (np.abs(found) > 1.96 * np.sqrt(variance)).any(axis=1).mean()
    assert wrong <= ALPHA
    assert fixed > 4 * ALPHA  # what peeking does to an interval that is meant for one look


def test_the_truth_is_inside_at_all_times_and_in_the_fixed_interval_at_a_fixed_one() -> None:
    found, variance = paths(0.10, seed=2)
    inside = (np.abs(found - 0.10) <= widths(variance)).all(axis=1).mean()
    assert 0.95 <= inside <= 1
    last = np.abs(found[:, -1] - 0.10) <= [fixed_half_width(v, alpha=ALPHA) for v in variance[:, -1]]
    assert 0.93 <= last.mean() <= 0.97


def test_a_difference_is_found_in_not_many_times_the_users_of_a_test_with_one_look() -> None:
    found, variance = paths(0.15, seed=3, runs=200)
    sure = np.abs(found) > widths(variance)
    assert sure.any(axis=1).mean() > 0.9
    took = np.median(LOOKS[np.argmax(sure, axis=1)][sure.any(axis=1)])
    textbook = users_for(0.15, math.sqrt(variance[:, -1].mean() * LOOKS[-1] / 4), alpha=ALPHA, power=0.8)
    assert took < 1.6 * textbook


def test_before_there_are_enough_users_nothing_is_said() -> None:
    assert half_width(1.0, 2 * LEAST - 1, planned=PLANNED, alpha=ALPHA) == math.inf
    assert half_width(float("nan"), 10_000, planned=PLANNED, alpha=ALPHA) == math.inf
    assert half_width(1.0, 2 * LEAST, planned=PLANNED, alpha=ALPHA) < math.inf


@pytest.mark.parametrize("planned", [500, 4000, 50_000])
def test_the_interval_is_tightest_about_where_it_is_planned_to_be(planned: int) -> None:
    at = half_width(1 / planned, planned, planned=planned, alpha=ALPHA)
    for other in (planned // 10, planned * 10):
        assert at <= half_width(1 / planned, planned, planned=other, alpha=ALPHA)


def test_shares_that_are_kept_are_never_doubted_and_others_soon_are() -> None:
    rng = np.random.default_rng(4)
    doubted = 0
    for _ in range(300):
        drawn = np.cumsum(rng.multinomial(100, [0.5, 0.3, 0.2], size=100), axis=0)
        doubted += any(mismatch(row.tolist(), [0.5, 0.3, 0.2]) < 0.01 for row in drawn)
    assert doubted <= 0.01 * 300 + 3
    lost = np.cumsum(rng.multinomial(100, [0.5, 0.5 * 0.9, 0.05], size=200), axis=0)[:, :2]  # a tenth of one side
    first = next(n for n, row in enumerate(lost) if mismatch(row.tolist(), [0.5, 0.5]) < 0.001)
    assert first * 100 < 20_000
    assert mismatch([10**6, 10**6 + 20_000], [0.5, 0.5]) < 1e-6
    assert mismatch([0, 0], [0.5, 0.5]) == 1.0


def sides(rng: np.random.Generator, up: float, users: int = 3000) -> list[Side]:
    """Users of whom some click often, before as after; a list more or less each day."""
    made = []
    for more in (0.0, up):
        taste = rng.beta(1, 4, users)
        lists = 1.0 + rng.poisson(6 * taste + 2, users)
        clicks = rng.binomial(lists.astype(int), np.clip(taste * (1 + more), 0, 1)).astype(float)
        before = rng.poisson(20 * taste).astype(float)
        made.append(Side(clicks, lists, before))
    return made


def test_the_effect_is_the_difference_of_the_rates_and_cuped_narrows_it() -> None:
    rng = np.random.default_rng(5)
    plain, adjusted, truth = [], [], []
    for _ in range(400):
        control, treatment = sides(rng, 0.10)
        one = effect(control, treatment, planned=PLANNED)
        unknown = [Side(side.total, side.weight, np.zeros(len(side))) for side in (control, treatment)]
        other = effect(*unknown, planned=PLANNED)
        assert one.users == 6000
        assert other.difference == pytest.approx(treatment.rate() - control.rate())
        assert other.explained == pytest.approx(0.0)
        adjusted.append(one)
        plain.append(other)
    big = sides(rng, 0.10, users=2_000_000)
    truth = big[1].rate() - big[0].rate()
    assert np.mean([one.explained for one in adjusted]) > 0.3
    for of in (plain, adjusted):
        assert np.mean([one.difference for one in of]) == pytest.approx(truth, rel=0.05)
        covered = np.mean([one.fixed_low <= truth <= one.fixed_high for one in of])
        assert 0.92 <= covered <= 0.98
        assert np.mean([one.low <= truth <= one.high for one in of]) > 0.98
    assert adjusted[0].relative[0] == pytest.approx(adjusted[0].difference / adjusted[0].control)


def test_a_side_without_users_or_lists_has_no_effect_and_no_error() -> None:
    nobody = Side(np.zeros(0), np.zeros(0), np.zeros(0))
    idle = Side(np.zeros(5), np.zeros(5), np.zeros(5))
    some = Side(np.ones(5), np.ones(5), np.arange(5.0))
    for pair in ((nobody, some), (some, nobody), (idle, some)):
        found: Effect = effect(*pair, planned=PLANNED)
        assert (found.low, found.high) == (-math.inf, math.inf)
    assert math.isnan(nobody.rate())


def test_the_check_of_shares_agrees_with_the_classical_one_where_it_is_clear() -> None:
    table = [[5200, 4800], [5000, 5000]]
    assert chi2_contingency(table).pvalue < 0.01
    assert mismatch([5200, 4800], [0.5, 0.5]) < 0.05

"""Visits follow their stated laws: arrivals the day, users Zipf, lengths geometric, thought Weibull."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recsys.simulation import DAY_S
from recsys.simulation.visits import HOUR_S, Habits, Visits, draw_visits, zipf_shares
from tests.recsys.simulation.significance import FALSE_ALARM, assert_counts

START_S = 1_736_121_600.0  # midnight, UTC
DAYS = 20
HABITS = Habits(visits_per_s=0.02)


def draw(seed: int = 1, *, habits: Habits = HABITS, duration_s: float = DAYS * DAY_S, users: int = 200) -> Visits:
    shares = zipf_shares(users, habits.activity)
    return draw_visits(np.random.default_rng(seed), habits, shares, start_s=START_S, duration_s=duration_s)


@pytest.fixture(scope="module")
def visits() -> Visits:
    """About 35,000."""
    return draw()


def bytes_of(visits: Visits) -> bytes:
    columns = (visits.start_s, visits.user, visits.think_s.indptr, visits.think_s.values, visits.seed)
    return b"".join(column.tobytes() for column in columns)


def test_same_seed_gives_the_same_bytes_and_another_seed_other_ones() -> None:
    first, again, other = (bytes_of(draw(seed, duration_s=DAY_S)) for seed in (1, 1, 2))
    assert first == again != other


def test_visits_lie_in_their_stretch_of_time_by_rising_start(visits: Visits) -> None:
    assert (np.diff(visits.start_s) >= 0).all()
    assert visits.start_s[0] >= START_S
    assert visits.start_s[-1] < START_S + DAYS * DAY_S
    assert len(visits) == len(visits.user) == len(visits.think_s) == len(visits.seed)


def test_their_number_is_poisson_with_the_mean_rate() -> None:
    hours = np.array([len(draw(seed, habits=Habits(rhythm=0.0), duration_s=HOUR_S)) for seed in range(400)])
    mean = 0.01 * HOUR_S
    assert FALSE_ALARM < stats.poisson.sf(hours.sum(), mean * len(hours)) < 1 - FALSE_ALARM
    dispersion = ((hours - mean) ** 2).sum() / mean
    assert FALSE_ALARM < stats.chi2.sf(dispersion, len(hours)) < 1 - FALSE_ALARM


def test_arrivals_follow_the_day(visits: Visits) -> None:
    hour = ((visits.start_s - START_S) % DAY_S // HOUR_S).astype(int)
    observed = np.bincount(hour, minlength=24)
    edge = 2 * np.pi * (np.arange(25) - HABITS.peak_hour) / 24
    expected = HOUR_S * DAYS * HABITS.visits_per_s * (1 + HABITS.rhythm * np.diff(np.sin(edge)) / np.diff(edge))
    assert_counts(observed, expected)
    assert observed.argmax() in (19, 20)
    assert FALSE_ALARM < stats.poisson.sf(len(visits), expected.sum()) < 1 - FALSE_ALARM


def test_without_a_rhythm_arrivals_are_uniform() -> None:
    visits = draw(habits=Habits(visits_per_s=0.05, rhythm=0.0), duration_s=DAY_S)
    assert stats.kstest((visits.start_s - START_S) / DAY_S, "uniform").pvalue > FALSE_ALARM


def test_who_comes_follows_zipfs_law(visits: Visits) -> None:
    assert_counts(np.bincount(visits.user, minlength=200), zipf_shares(200, HABITS.activity) * len(visits))


def test_lengths_are_geometric(visits: Visits) -> None:
    longest = 15
    observed = np.bincount(np.minimum(visits.lists, longest), minlength=longest + 1)[1:]
    leave = 1 / HABITS.mean_lists
    chance = leave * (1 - leave) ** np.arange(longest - 1)
    assert_counts(observed, len(visits) * np.append(chance, 1 - chance.sum()))


def test_time_to_think_is_weibull_with_its_mean(visits: Visits) -> None:
    thought_s = visits.think_s.values
    scale_s = thought_s.mean() / stats.weibull_min(HABITS.think_shape).mean()
    assert stats.kstest(thought_s, stats.weibull_min(HABITS.think_shape, scale=scale_s).cdf).pvalue > FALSE_ALARM
    assert stats.ttest_1samp(thought_s, HABITS.mean_think_s).pvalue > FALSE_ALARM


def test_visitors_have_seeds_of_their_own(visits: Visits) -> None:
    assert len(np.unique(visits.seed)) == len(visits)


def test_nobody_comes_in_no_time() -> None:
    none = draw(duration_s=0.0)
    assert (len(none), len(none.think_s.values)) == (0, 0)


@given(n=st.integers(1, 300), exponent=st.floats(0, 3))
def test_zipf_shares_are_a_distribution_whose_log_is_a_line_of_the_log_rank(n: int, exponent: float) -> None:
    share = zipf_shares(n, exponent)
    assert share.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.log(share[0] / share), exponent * np.log(np.arange(1, n + 1)), atol=1e-9)

"""Tastes point everywhere alike, stand still until the onset of drift, and then move as they are told."""

import numpy as np
import pytest
from scipy import stats

from recsys.simulation import DAY_S
from recsys.simulation.tastes import Drift, Tastes
from tests.recsys.simulation.significance import FALSE_ALARM

ONSET_S = 1_736_172_000.0
D = 8


def draw(drift: Drift, *, users: int = 500, seed: int = 1) -> Tastes:
    return Tastes.draw(np.random.default_rng(seed), users=users, dimensions=D, drift=drift)


def everybody(tastes: Tastes, at_s: float) -> np.ndarray:
    users = tastes.path.shape[1]
    return tastes.at(np.arange(users), np.full(users, at_s))


def test_first_tastes_are_uniform_over_all_directions() -> None:
    taste = everybody(draw(Drift(), users=5000), 0.0)
    np.testing.assert_allclose(np.linalg.norm(taste, axis=1), 1)
    rayleigh = D * len(taste) * (taste.mean(axis=0) ** 2).sum()  # chi-square with d degrees of freedom
    assert stats.chi2.sf(rayleigh, D) > FALSE_ALARM


def test_same_seed_gives_the_same_bytes_and_another_seed_other_ones() -> None:
    drift = Drift(onset_s=ONSET_S, shock=0.2, walk_per_day=0.1, days=2)
    first, again, other = (draw(drift, seed=seed).path.tobytes() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("drift", [Drift(onset_s=ONSET_S, shock=1.0), Drift(onset_s=ONSET_S, walk_per_day=0.1)])
def test_drift_starts_at_its_onset_and_not_before(drift: Drift) -> None:
    still, drifting = draw(Drift()), draw(drift)
    before = np.nextafter(ONSET_S, 0)
    np.testing.assert_array_equal(everybody(drifting, before), everybody(still, before))
    moved = np.abs(everybody(drifting, ONSET_S) - everybody(still, ONSET_S)).max(axis=1)
    assert (moved > 1e-6).all()


def test_without_an_onset_no_taste_ever_moves() -> None:
    tastes = draw(Drift(shock=1.0, walk_per_day=1.0))
    np.testing.assert_array_equal(everybody(tastes, 0.0), everybody(tastes, 1e12))


def test_a_shock_gives_its_share_of_the_users_an_unrelated_taste_at_once_and_for_good() -> None:
    tastes = draw(Drift(onset_s=ONSET_S, shock=0.3), users=5000)
    before, after = everybody(tastes, ONSET_S - 1), everybody(tastes, ONSET_S)
    changed = (before != after).any(axis=1)
    np.testing.assert_array_equal(changed, tastes.shocked)
    assert changed.sum() == 1500
    cosine = (before * after).sum(axis=1)[changed]
    assert stats.ttest_1samp(cosine, 0).pvalue > FALSE_ALARM
    np.testing.assert_array_equal(after, everybody(tastes, ONSET_S + 1000 * DAY_S))


@pytest.mark.parametrize("days", [1, 9])
def test_a_walk_goes_as_far_as_the_root_of_its_days(days: int) -> None:
    drift = Drift(onset_s=ONSET_S, walk_per_day=0.02, days=10)
    tastes = draw(drift, users=4000)
    gone = everybody(tastes, ONSET_S + days * DAY_S - 1) - everybody(tastes, ONSET_S - 1)
    # d - 1 coordinates across the taste, each normal with variance walk^2 * days / d
    statistic = (gone**2).sum() / (0.02**2 * days / D)
    freedom = (D - 1) * len(gone)
    assert FALSE_ALARM < stats.chi2.sf(statistic, freedom) < 1 - FALSE_ALARM


def test_after_its_days_a_walk_stays_where_it_is() -> None:
    tastes = draw(Drift(onset_s=ONSET_S, walk_per_day=0.1, days=2))
    end_s = ONSET_S + 2 * DAY_S
    assert (everybody(tastes, end_s - 1) != everybody(tastes, end_s - DAY_S)).any(axis=1).all()
    np.testing.assert_array_equal(everybody(tastes, end_s), everybody(tastes, end_s + 100 * DAY_S))

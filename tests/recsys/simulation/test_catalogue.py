"""Items appear when they are launched and vanish when they are retired, as stated and as drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recsys.datasets.dataset import Dataset
from recsys.simulation import DAY_S
from recsys.simulation.catalogue import Catalogue
from recsys.verbs import Verb
from tests import worlds
from tests.recsys.simulation.significance import FALSE_ALARM

START_S = 1_736_172_000.0


@pytest.fixture(scope="module")
def catalogue(synthetic_dataset: Dataset) -> Catalogue:
    return Catalogue.of(synthetic_dataset)


def turnover(catalogue: Catalogue, seed: int = 1, *, launched: float = 0.5, mean_life_days: float = 20) -> Catalogue:
    rng = np.random.default_rng(seed)
    return catalogue.with_turnover(rng, start_s=START_S, days=30, launched=launched, mean_life_days=mean_life_days)


def test_items_are_ranked_by_their_newest_demand() -> None:
    old, new = worlds.START_S, worlds.START_S + 90 * worlds.DAY_S
    events = [(f"user-{n}", "once", Verb.LIKE, old) for n in range(6)]
    events += [
        ("user-1", "now", Verb.LIKE, new),
        ("user-2", "now", Verb.LIKE, new),
        ("user-3", "hidden", Verb.HIDE, new),
    ]
    catalogue = Catalogue.of(worlds.dataset_of(events, {"hidden": [], "once": [], "now": []}))
    assert catalogue.item_id == ["hidden", "once", "now"]
    assert catalogue.rank.tolist() == [3, 2, 1]  # six likes three half-lives ago are less than two today


def test_items_of_a_data_set_are_always_there(catalogue: Catalogue) -> None:
    assert catalogue.available(np.array([0.0, 1e12])).all()
    assert len(catalogue.changes(-1e12, 1e12).launched) == 0


def test_an_item_is_there_from_its_launch_on_and_no_more_from_its_retirement_on(catalogue: Catalogue) -> None:
    changing = turnover(catalogue)
    item = int(np.flatnonzero(np.isfinite(changing.launch_s))[0])
    launch_s, retire_s = changing.launch_s[item], changing.retire_s[item]
    at_s = [np.nextafter(launch_s, 0), launch_s, np.nextafter(retire_s, 0), retire_s]
    assert changing.available(np.array(at_s))[:, item].tolist() == [False, True, True, False]


@given(after_s=st.floats(-1, 60), length_s=st.floats(0, 60))
def test_changes_lead_from_what_there_was_to_what_there_is(
    catalogue: Catalogue, after_s: float, length_s: float
) -> None:
    changing = turnover(catalogue)
    after_s, until_s = START_S + after_s * DAY_S, START_S + (after_s + length_s) * DAY_S
    before, now = changing.available(np.array([after_s, until_s]))
    changes = changing.changes(after_s, until_s)
    before[changes.launched] = True
    before[changes.retired] = False
    np.testing.assert_array_equal(before, now)


def test_changes_come_in_their_order(catalogue: Catalogue) -> None:
    changing = turnover(catalogue)
    changes = changing.changes(START_S, START_S + 30 * DAY_S)
    assert (np.diff(changing.launch_s[changes.launched]) >= 0).all()
    assert (np.diff(changing.retire_s[changes.retired]) >= 0).all()
    assert len(changes.launched) == len(catalogue) // 2
    assert len(changes.retired) > 0


def test_launches_are_uniform_in_their_days_and_lives_exponential(synthetic_dataset: Dataset) -> None:
    changing = turnover(Catalogue.of(synthetic_dataset))
    late = np.isfinite(changing.launch_s)
    assert late.sum() == len(changing) // 2
    begun_s = np.maximum(changing.launch_s, START_S)
    assert stats.kstest((begun_s[late] - START_S) / (30 * DAY_S), "uniform").pvalue > FALSE_ALARM
    lives = (changing.retire_s - begun_s) / (20 * DAY_S)
    assert stats.kstest(lives, "expon").pvalue > FALSE_ALARM


def test_without_lifetimes_nothing_is_retired(catalogue: Catalogue) -> None:
    assert np.isposinf(turnover(catalogue, mean_life_days=np.inf).retire_s).all()


def test_turnover_is_its_seed(catalogue: Catalogue) -> None:
    first, again, other = (turnover(catalogue, seed) for seed in (1, 1, 2))
    assert first.launch_s.tobytes() == again.launch_s.tobytes() != other.launch_s.tobytes()
    assert first.retire_s.tobytes() == again.retire_s.tobytes() != other.retire_s.tobytes()

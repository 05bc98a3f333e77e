"""The interaction log, its moments, and the questions drawn from it."""

import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from recsys.errors import TrainingError
from recsys.training.log import Known, Log, NextItem
from recsys.verbs import Verb
from recsys.vocabulary import item_key
from tests.worlds import START_S, dataset_of

LIKE, HIDE = Verb.LIKE, Verb.HIDE


def log_of(*events: tuple[str, str, Verb, int]) -> Log:
    """Times are seconds after START_S; the catalogue is a to f."""
    return Log.of(dataset_of([(u, i, v, START_S + s) for u, i, v, s in events], {item: [] for item in "abcdef"}))


def test_log_has_the_keys_of_its_items_and_whole_seconds() -> None:
    log = log_of(("u", "b", LIKE, 5), ("u", "a", HIDE, 3))
    assert log.key.tolist() == [item_key("a"), item_key("b")]
    assert log.ts_s.tolist() == [START_S + 3, START_S + 5]
    assert log.positive.tolist() == [False, True]


def test_until_ends_before_the_moment() -> None:
    log = log_of(("u", "a", LIKE, 1), ("u", "b", LIKE, 2), ("u", "c", LIKE, 2), ("u", "d", LIKE, 3))
    assert log.until(START_S + 2).key.tolist() == [item_key("a")]
    assert len(log.until(START_S + 4)) == 4


def test_moment_is_the_time_by_which_a_share_has_happened() -> None:
    log = log_of(*(("u", "a", LIKE, second) for second in range(10)))
    assert [log.moment(share) - START_S for share in (0.0, 0.6, 0.8, 1.0)] == [0, 6, 8, 9]


def test_empty_log_has_no_moment() -> None:
    with pytest.raises(TrainingError, match="there are no interactions to train on; import a data set"):
        log_of().moment(0.5)


def test_questions_are_first_positives_inside_their_window() -> None:
    log = log_of(
        ("u", "a", LIKE, 1),  # before the window
        ("u", "a", LIKE, 5),  # not the first time
        ("u", "b", HIDE, 5),  # no positive
        ("u", "b", LIKE, 6),  # met before
        ("u", "c", LIKE, 6),
        ("v", "a", LIKE, 7),
        ("v", "d", LIKE, 9),  # at the end, which is outside
    )
    asked = NextItem.sample(log, start_s=START_S + 5, end_s=START_S + 9, per_user=9, seed=1)
    assert asked.key.tolist() == [item_key("c"), item_key("a")]
    assert asked.ts_s.tolist() == [START_S + 6, START_S + 7]
    assert asked.user.tolist() == [0, 1]
    open_end = NextItem.sample(log, start_s=START_S + 5, end_s=None, per_user=9, seed=1)
    assert len(open_end) == 3


def test_a_user_is_asked_at_most_so_often_and_by_chance_of_the_seed(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    start_s = int(log.ts_s[len(log) // 2])
    first, again, other = (NextItem.sample(log, start_s=start_s, end_s=None, per_user=3, seed=s) for s in (1, 1, 2))
    assert np.bincount(first.user).max() == 3
    assert (np.diff(first.ts_s) >= 0).all()
    np.testing.assert_array_equal(first.key, again.key)
    assert first.key.tolist() != other.key.tolist()


def test_limited_questions_are_some_of_them_in_order_of_time(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    asked = NextItem.sample(log, start_s=0, end_s=None, per_user=50, seed=1)
    some = asked.limited(100, seed=1)
    assert len(some) == 100
    assert (np.diff(some.ts_s) >= 0).all()
    whole = set(zip(asked.user.tolist(), asked.ts_s.tolist(), asked.key.tolist(), strict=True))
    assert set(zip(some.user.tolist(), some.ts_s.tolist(), some.key.tolist(), strict=True)) <= whole
    assert asked.limited(len(asked), seed=1) is asked


def test_batch_of_questions_is_asked_at_their_moments() -> None:
    log = log_of(("u", "a", LIKE, 1), ("u", "b", LIKE, 5), ("u", "c", LIKE, 9))
    asked = NextItem.sample(log, start_s=START_S, end_s=None, per_user=9, seed=1)
    states = log.states_at(asked.user, asked.ts_s)
    batch = asked.batch(Known.of(states), np.array([2, 1]), count=4, seed=10)
    assert batch.states.events.tolist() == [2, 1]
    assert batch.now_s.tolist() == [START_S + 9, START_S + 5]
    assert batch.seed.tolist() == [12, 11]
    assert batch.count.tolist() == [4, 4]
    assert not batch.session.lengths().any()

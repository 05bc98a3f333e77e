"""The interaction log, its moments, and the questions drawn from it."""

import numpy as np
import pytest

from recsys.errors import TrainingError
from recsys.training.log import Log
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


def test_take_keeps_the_order_of_what_is_taken() -> None:
    log = log_of(("u", "a", LIKE, 1), ("u", "b", LIKE, 2), ("u", "c", LIKE, 3))
    assert log.take(np.array([0, 2])).key.tolist() == [item_key("a"), item_key("c")]


def test_first_time_is_the_first_event_of_a_user_with_an_item() -> None:
    log = log_of(("u", "a", HIDE, 1), ("v", "a", LIKE, 2), ("u", "a", LIKE, 3), ("u", "b", LIKE, 4))
    assert log.first_time().tolist() == [True, True, False, True]


def test_states_hold_what_the_log_has_before_a_place_or_a_moment() -> None:
    log = log_of(("u", "a", LIKE, 1), ("u", "b", LIKE, 2), ("u", "c", LIKE, 2), ("u", "d", LIKE, 3))
    nobody_else = np.zeros(3, np.int32)
    assert log.states_before(nobody_else, np.array([0, 2, 4])).events.tolist() == [0, 2, 4]
    assert log.states_at(nobody_else, START_S + np.array([1, 2, 3])).events.tolist() == [0, 1, 3]

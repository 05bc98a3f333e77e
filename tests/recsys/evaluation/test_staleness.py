"""What is known some time before a question."""

import numpy as np

from recsys.evaluation.staleness import STALE_S, lags, stale
from recsys.training.log import Log
from recsys.training.questions import Questions
from recsys.verbs import Verb
from recsys.vocabulary import item_key
from tests.worlds import START_S, dataset_of


def log_of(*events: tuple[str, str, int]) -> Log:
    return Log.of(dataset_of([(u, i, Verb.LIKE, START_S + s) for u, i, s in events], {item: [] for item in "abcdef"}))


def test_state_ends_the_lag_before_the_question_and_what_came_since_is_kept_out_of_the_list() -> None:
    log = log_of(("u", "a", 0), ("v", "e", 50), ("u", "b", 100), ("u", "c", 130), ("u", "d", 160))
    asked = Questions.next_positives(log, np.array([4]))
    known = stale(log, asked, 60)
    assert known.states.item_key[0, :2].tolist() == [item_key("b"), item_key("a")]
    assert known.states.events.tolist() == [2]
    assert known.excluded.values.tolist() == [item_key("c")]


def test_no_lag_is_what_is_known_anyway() -> None:
    log = log_of(("u", "a", 0), ("u", "b", 100), ("u", "c", 100), ("u", "d", 160))
    asked = Questions.next_positives(log, np.array([2, 3]))
    fresh, none = asked.known(log), stale(log, asked, 0)
    assert none.states.item_key.tobytes() == fresh.states.item_key.tobytes()
    assert none.excluded.lengths().tolist() == [0, 0]


def test_each_lag_has_its_row() -> None:
    log = log_of(("u", "a", 0), ("u", "b", 86_400), ("u", "c", 90_100))
    found = lags(log, Questions.next_positives(log, np.array([2])))
    assert list(found) == [f"{name} stale" for name in STALE_S]
    assert [known.states.events[0] for known in found.values()] == [2, 2, 1]

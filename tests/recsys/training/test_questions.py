"""Questions, their right answers, and the batches that they become."""

from dataclasses import replace

import numpy as np

from recsys.datasets.dataset import Dataset
from recsys.training.log import Log
from recsys.training.questions import Questions
from recsys.training.splits import held_out_items
from recsys.training.worth import valued
from recsys.verbs import Verb
from recsys.vocabulary import item_key
from tests.worlds import START_S, dataset_of


def test_limited_questions_are_some_of_them_in_their_order(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    asked = Questions.next_positives(log, np.arange(1000))
    some = asked.limited(100, seed=1)
    assert len(some) == 100
    assert (np.diff(some.place) > 0).all()
    assert some.wanted.values.tolist() == log.key[some.place].tolist()
    assert asked.limited(len(asked), seed=1) is asked


def test_batch_of_questions_is_asked_at_their_moments() -> None:
    events = [("u", item, Verb.LIKE, START_S + second) for item, second in (("a", 1), ("b", 5), ("c", 9))]
    log = Log.of(dataset_of(events, {item: [] for item in "abc"}))
    asked = Questions.next_positives(log, np.arange(3))
    batch = asked.batch(asked.known(log), np.array([2, 1]), count=4, seed=10)
    assert batch.states.events.tolist() == [2, 1]
    assert batch.now_s.tolist() == [START_S + 9, START_S + 5]
    assert batch.seed.tolist() == [12, 11]
    assert batch.count.tolist() == [4, 4]
    assert not batch.session.lengths().any()


def test_right_answers_have_the_worth_of_their_events_in_any_order(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    log = replace(log, worth=np.arange(1, len(log) + 1, dtype=np.float32))
    asked = Questions.next_positives(log, np.arange(100, 200)).take(np.array([7, 3, 50]))
    row, key = np.array([2, 0, 1, 0]), log.key[[150, 107, 103, 103]]
    found = asked.worth_of(np.array([0, 1, 2]), row, key)
    np.testing.assert_array_equal(found, np.array([151, 108, 104, np.nan], np.float32))
    alike = replace(asked, worth=None)
    np.testing.assert_array_equal(alike.worth_of(np.array([0, 1, 2]), row, key), np.where(np.isnan(found), found, 1))


def test_item_of_several_events_that_are_asked_at_once_has_the_largest_worth() -> None:
    events = [("u", "a", verb, START_S + 10 * n) for n, verb in enumerate([Verb.CLICK, Verb.PURCHASE, Verb.VIEW])]
    others = [("u", item, Verb.CLICK, START_S + 100) for item in "bcdefghij"]
    log = Log.of(dataset_of([*events, *others], {item: [] for item in "abcdefghij"}))
    log, _ = valued(log, None, {"purchase": 5.0, "view": 2.0})
    asked = next(
        one for seed in range(50) if item_key("a") in (one := held_out_items(log, seed=seed).questions).wanted[0]
    )
    assert asked.worth is not None
    assert dict(zip(asked.wanted[0].tolist(), asked.worth[0].tolist(), strict=True))[item_key("a")] == 5


def test_answered_is_true_for_each_right_answer_of_its_own_question(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    asked = held_out_items(log, seed=1).questions
    rows, rng = np.array([5, 2, 9]), np.random.default_rng(1)
    row = rng.integers(0, 3, size=5000)
    key = rng.choice(np.unique(log.key), size=5000)
    expected = [k in asked.wanted[rows[r]] for r, k in zip(row, key, strict=True)]
    assert asked.answered(rows, row, key).tolist() == expected
    assert 0 < sum(expected) < 5000

"""Questions about new users hold what they say, and worlds with known answers have the curve that they must have."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from recsys.errors import DatasetError
from recsys.evaluation.cold_start import ANSWERS, KNOWN, UNKNOWING, FirstEvents, evaluate_cold_start, newcomers
from recsys.evaluation.curve import Curve
from recsys.features.user import UserStates
from recsys.training.log import Log
from recsys.training.train import Trained
from recsys.types import Ragged, World
from recsys.verbs import Verb
from recsys.vocabulary import item_key
from tests import worlds
from tests.worlds import START_S, dataset_of

LIKE, HIDE = Verb.LIKE, Verb.HIDE


def log_of(*events: tuple[str, str, Verb, int]) -> Log:
    """Times are seconds after START_S; the catalogue is a to j."""
    return Log.of(dataset_of([(u, i, v, START_S + s) for u, i, v, s in events], {item: [] for item in "abcdefghij"}))


def asked_after(log: Log, k: int) -> FirstEvents:
    return FirstEvents.of(log, newcomers(log, START_S), k)


def keys(items: str) -> list[int]:
    return [item_key(item) for item in items]


def ids(of: Ragged, row: int) -> set[int]:
    return set(of[row].tolist())


# --- the questions ---


def test_newcomers_are_the_users_whose_first_event_is_at_the_moment_or_later() -> None:
    log = log_of(("old", "a", LIKE, 4), ("new", "b", HIDE, 5), ("old", "c", LIKE, 6), ("newer", "a", LIKE, 7))
    assert [rows.tolist() for rows in newcomers(log, START_S + 5)] == [[1], [3]]


def test_state_holds_the_first_events_and_the_answers_are_the_first_time_positives_after_them() -> None:
    log = log_of(
        ("u", "a", LIKE, 1),
        ("u", "b", HIDE, 2),
        ("u", "c", HIDE, 4),  # no positive, but the moment of the question
        ("u", "a", LIKE, 5),  # not the first time
        ("u", "d", LIKE, 6),
        ("u", "e", LIKE, 7),
    )
    asked = asked_after(log, 2)
    assert asked.questions.wanted.values.tolist() == keys("de")
    assert asked.questions.now_s.tolist() == [START_S + 4] * 2
    assert asked.known.states.item_key[:, :3].tolist() == [[*keys("ba"), 0]] * 2
    assert asked.known.states.events.tolist() == [2, 2]
    assert asked.known.excluded.lengths().tolist() == [0, 0]


def test_events_in_the_second_of_the_last_known_one_are_neither_asked_for_nor_shown() -> None:
    log = log_of(("u", "a", LIKE, 1), ("u", "b", LIKE, 1), ("u", "c", LIKE, 1), ("u", "d", LIKE, 2))
    asked = asked_after(log, 1)
    assert asked.questions.wanted.values.tolist() == keys("d")
    assert ids(asked.known.excluded, 0) == set(keys("bc"))
    assert asked.known.states.events.tolist() == [1]


def test_unknowing_state_is_empty_and_shows_nothing_that_the_known_one_does_not() -> None:
    log = log_of(("u", "a", LIKE, 1), ("u", "b", LIKE, 2), ("u", "c", LIKE, 2), ("u", "d", LIKE, 3))
    asked = asked_after(log, 2)
    assert asked.unknowing.states.events.tolist() == [0]
    assert ids(asked.unknowing.excluded, 0) == set(keys("abc"))


def test_users_with_too_few_events_or_no_later_positive_are_not_asked() -> None:
    log = log_of(
        ("u", "a", LIKE, 1), ("v", "a", LIKE, 1), ("v", "b", HIDE, 2), ("w", "a", LIKE, 1), ("w", "b", LIKE, 2)
    )
    assert asked_after(log, 1).questions.user.tolist() == [2]
    assert len(asked_after(log, 5).questions) == 0


def test_each_user_is_asked_for_a_few_answers_and_at_one_moment(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    asked = asked_after(log, 3)
    _, first, times = np.unique(asked.questions.user, return_index=True, return_counts=True)
    assert times.max() == ANSWERS
    assert len(first) > 50
    assert (asked.questions.now_s == np.repeat(asked.questions.now_s[first], times)).all()


def test_no_event_of_the_question_or_later_is_in_a_state_and_no_answer_is_known(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    for k in KNOWN:
        asked = asked_after(log, k)
        states = asked.known.states
        assert (states.events == k).all()
        assert (states.ts_s.max(axis=1) < asked.questions.now_s).all()
        assert not (states.item_key == asked.questions.wanted.values[:, None]).any()
        assert not any(
            key in ids(asked.known.excluded, row) for row, key in enumerate(asked.questions.wanted.values.tolist())
        )


def test_states_are_those_of_the_replay_where_no_two_events_share_a_second() -> None:
    rng = np.random.default_rng(2)
    times = rng.choice(1000, 60, replace=False)
    log = log_of(*((f"u{rng.integers(4)}", rng.choice(list("abcdefghij")), LIKE, int(second)) for second in times))
    asked = asked_after(log, 3)
    replayed = log.states_at(asked.questions.user, asked.questions.now_s)
    for field in fields(UserStates):
        if field.name not in ("event_id", "seen"):  # positions are no part of a log of this kind; `seen` has room only
            assert getattr(asked.known.states, field.name).tolist() == getattr(replayed, field.name).tolist()


# --- the curve ---


@pytest.fixture(scope="module")
def curve(chain: World, chain_trained: Trained) -> Curve:
    return evaluate_cold_start(chain, Log.of(worlds.chain()), since_s=chain_trained.window[1], seed=1)


def test_one_step_of_a_chain_is_enough_to_beat_popularity_and_knowing_nothing(curve: Curve) -> None:
    """Of the next five steps a perfect list has each at its place: (1 + .63 + .5 + .43 + .39) / 5 = .59.

    The ranker was taught the next step alone: 1 / 5 is what that one gives.
    """
    ahead = {(known, name): interval for known, name, interval in curve.differences()}
    assert ahead[1, "popularity"].low > 0.15
    assert ahead[1, UNKNOWING].low > 0.1
    two_stage = {known: report.rows[0].metrics["NDCG@10"].mean for known, report in curve.points}
    assert two_stage[0] < 0.3 < two_stage[1] <= 0.59


def test_with_nothing_known_all_that_needs_a_history_is_what_it_is_without_one(curve: Curve) -> None:
    known, report = curve.points[0]
    assert known == 0
    two_stage, als, popularity, unknowing = report.rows
    assert als.metrics == popularity.metrics
    assert two_stage.metrics == unknowing.metrics


def test_points_say_how_many_users_they_have_and_those_without_two_are_left_out(curve: Curve) -> None:
    """Each user of the chain has 12 events."""
    assert [known for known, _ in curve.points] == [0, 1, 2, 3, 5, 10]
    assert all(1 < report.users <= curve.newcomers for _, report in curve.points)


def test_same_seed_gives_the_same_curve(chain: World, chain_trained: Trained, curve: Curve) -> None:
    told: list[int] = []
    since_s = chain_trained.window[1]
    again = evaluate_cold_start(chain, Log.of(worlds.chain()), since_s=since_s, seed=1, progress=told.append)
    assert again == curve
    assert sum(told) == len(KNOWN)


@pytest.mark.parametrize("users", [[], ["u"]])
def test_fewer_than_two_new_users_are_refused(chain: World, users: Sequence[str]) -> None:
    log = log_of(*((user, item, LIKE, second) for user in users for second, item in enumerate("abc")))
    with pytest.raises(DatasetError, match="fewer than two users who are new"):
        evaluate_cold_start(chain, log, since_s=START_S, seed=1)

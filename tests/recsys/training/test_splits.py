"""Each protocol asks what it says, and leaves to be learnt what does not answer it."""

from collections.abc import Callable

import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from recsys.training.log import Log
from recsys.training.questions import Questions
from recsys.training.splits import (
    DESCRIBED,
    HELD_OUT,
    LEAST_EVENTS,
    PROTOCOLS,
    Split,
    after,
    given,
    held_out_items,
    leave_one_out,
    strong_generalisation,
    temporal_next,
    temporal_static,
)
from recsys.verbs import Verb
from recsys.vocabulary import item_key
from tests.worlds import START_S, dataset_of

LIKE, HIDE = Verb.LIKE, Verb.HIDE


def log_of(*events: tuple[str, str, Verb, int]) -> Log:
    """Times are seconds after START_S; the catalogue is a to f."""
    return Log.of(dataset_of([(u, i, v, START_S + s) for u, i, v, s in events], {item: [] for item in "abcdef"}))


def keys(items: str) -> list[int]:
    return [item_key(item) for item in items]


def asked(questions: Questions) -> list[tuple[int, set[int]]]:
    return [(int(user), set(questions.wanted[row].tolist())) for row, user in enumerate(questions.user)]


@pytest.fixture(scope="module")
def log(synthetic_dataset: Dataset) -> Log:
    return Log.of(synthetic_dataset)


@pytest.mark.parametrize("divide", PROTOCOLS.values(), ids=PROTOCOLS)
def test_no_right_answer_is_known_or_was_learnt_from_by_its_user(divide: Callable[..., Split], log: Log) -> None:
    """What every protocol promises; a planted event of an answer in `past` fails it below."""
    split = divide(log, seed=1)
    assert len(split.questions) > 20
    learnt = set(zip(split.past.user.tolist(), split.past.key.tolist(), strict=True))
    states = split.known().states
    for row, (user, wanted) in enumerate(asked(split.questions)):
        assert wanted
        assert not any((user, key) in learnt for key in wanted)
        assert not wanted & set(states.item_key[row].tolist())


@pytest.mark.parametrize("divide", PROTOCOLS.values(), ids=PROTOCOLS)
def test_same_seed_asks_the_same(divide: Callable[..., Split], log: Log) -> None:
    first, again = divide(log, seed=1), divide(log, seed=1)
    assert asked(first.questions) == asked(again.questions)
    assert first.past.key.tolist() == again.past.key.tolist()


@pytest.mark.parametrize("divide", PROTOCOLS.values(), ids=PROTOCOLS)
def test_what_is_left_can_be_divided_again(divide: Callable[..., Split], log: Log) -> None:
    first = divide(log, seed=1)
    second = divide(first.past, seed=1)
    assert len(second.questions) > 0
    assert len(second.past) < len(first.past) < len(log)


def test_every_protocol_is_described() -> None:
    assert set(DESCRIBED) == {*PROTOCOLS, "given-split"}


def test_temporal_next_asks_each_first_time_positive_after_the_moment() -> None:
    log = log_of(
        ("u", "a", LIKE, 1),  # before the moment
        ("u", "a", LIKE, 5),  # not the first time
        ("u", "b", HIDE, 5),  # no positive
        ("u", "b", LIKE, 6),  # met before
        ("u", "c", LIKE, 6),
        ("v", "a", LIKE, 7),
    )
    split = after(log, START_S + 5, per_user=9, seed=1)
    assert asked(split.questions) == [(0, set(keys("c"))), (1, set(keys("a")))]
    assert split.questions.now_s.tolist() == [START_S + 6, START_S + 7]
    assert split.known().states.events.tolist() == [4, 0]
    assert split.past.key.tolist() == keys("a")


def test_events_of_the_same_second_are_known_if_the_log_has_them_before() -> None:
    log = log_of(("u", "a", LIKE, 1), ("u", "b", LIKE, 5), ("u", "c", LIKE, 5))
    split = after(log, START_S + 5, per_user=9, seed=1)
    assert split.known().states.item_key[:, :2].tolist() == [[*keys("a"), 0], keys("ba")]


def test_a_user_is_asked_at_most_so_often_and_by_chance_of_the_seed(log: Log) -> None:
    first, other = (temporal_next(log, per_user=3, seed=seed).questions for seed in (1, 2))
    assert np.bincount(first.user).max() == 3
    assert (np.diff(first.place) > 0).all()
    assert first.wanted.values.tolist() != other.wanted.values.tolist()


def test_temporal_split_is_where_four_fifths_have_happened(log: Log) -> None:
    for divide in (temporal_next, temporal_static):
        split = divide(log, seed=1)
        assert split.until_s == log.moment(1 - HELD_OUT)
        assert (split.past.ts_s < split.until_s).all()


def test_temporal_static_asks_for_all_that_comes_later_with_the_state_of_the_split() -> None:
    events = [("u", item, LIKE, second) for second, item in enumerate("abcde")]
    split = temporal_static(log_of(*events, ("v", "a", LIKE, 9)), seed=1)
    assert asked(split.questions) == [(0, set(keys("e")))]  # v has no past
    assert split.known().states.events.tolist() == [4]


def test_leave_one_out_asks_for_the_last_positive_and_drops_what_follows() -> None:
    log = log_of(
        ("u", "a", LIKE, 1),
        ("u", "b", LIKE, 2),
        ("u", "c", LIKE, 3),
        ("u", "d", HIDE, 4),
        ("v", "a", LIKE, 1),
        ("v", "b", LIKE, 9),
    )
    split = leave_one_out(log, seed=1)
    assert asked(split.questions) == [(0, set(keys("c")))]  # v has fewer than LEAST_EVENTS
    assert LEAST_EVENTS == 3
    mine = split.past.user == 0
    assert split.past.key[mine].tolist() == keys("ab")
    assert split.past.key[~mine].tolist() == keys("ab")
    assert split.known().states.events.tolist() == [2]


def test_held_out_items_are_a_fifth_of_each_user(log: Log) -> None:
    split = held_out_items(log, seed=1)
    positives = log.take(np.flatnonzero(log.positive))
    for user, wanted in asked(split.questions)[:20]:
        items = len(np.unique(log.key[log.user == user]))
        liked = len(np.unique(positives.key[positives.user == user]))
        assert items - round(HELD_OUT * items) == len(np.unique(split.past.key[split.past.user == user]))
        assert len(wanted) <= min(round(HELD_OUT * items), liked)


def test_strong_generalisation_asks_users_who_are_no_part_of_what_is_learnt(log: Log) -> None:
    split = strong_generalisation(log, seed=1)
    assert not set(split.questions.user.tolist()) & set(split.past.user.tolist())
    assert (split.known().states.events > 0).all()


def test_given_split_asks_the_known_users_also_for_items_that_nobody_can_know() -> None:
    train = dataset_of([("u", "a", LIKE, 1), ("v", "b", LIKE, 2)], {item: [] for item in "ab"})
    test = dataset_of(
        [("stranger", "a", LIKE, 1), ("v", "a", LIKE, 2), ("v", "b", LIKE, 3), ("v", "c", LIKE, 4)],
        {item: [] for item in "abc"},
    )
    log, other = Log.of(train), Log.of(test)
    users = {one: number for number, one in enumerate(train.user_id)}
    split, both, strangers = given(log, users, other, test.user_id)
    assert asked(split.questions) == [(1, set(keys("ac")))]
    assert (both, strangers) == (1, 1)
    assert split.known().states.events.tolist() == [1]
    assert len(split.past) == 2

"""A run of events against `update` one at a time."""

from dataclasses import fields
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.features.apply import apply
from recsys.features.user import RING, UserStates, room, update
from recsys.verbs import Verb


def one_at_a_time(users: int, events: list[tuple[int, int, Verb, int]]) -> UserStates:
    states = UserStates.empty(users, seen=room(len(events)))
    for number, (user, item, verb, ts_s) in enumerate(events, 1):
        update(
            states,
            np.array([user]),
            item_key=np.array([item], np.uint64),
            verb=np.array([verb], np.uint8),
            ts_s=np.array([ts_s], np.uint32),
            event_id=np.array([[number, 0]], np.uint64),
        )
    return states


def run(states: UserStates, events: list[tuple[int, int, Verb, int]], start: int, end: int) -> None:
    part = events[start:end]
    apply(
        states,
        np.array([user for user, *_ in part], np.int64),
        item_key=np.array([item for _, item, *_ in part], np.uint64),
        verb=np.array([verb for _, _, verb, _ in part], np.uint8),
        ts_s=np.array([ts_s for *_, ts_s in part], np.uint32),
        event_id=np.array([[number, 0] for number in range(start + 1, end + 1)], np.uint64).reshape(-1, 2),
    )


def assert_same(ours: UserStates, theirs: UserStates) -> None:
    for field in fields(UserStates):
        one, other = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name == "seen":  # room that is not in use may differ
            width = min(one.shape[1], other.shape[1])
            assert not one[:, width:].any()
            assert not other[:, width:].any()
            one, other = one[:, :width], other[:, :width]
        np.testing.assert_array_equal(one, other, err_msg=field.name)


EVENT = st.tuples(
    st.integers(0, 3), st.integers(1, 2**64 - 1), st.sampled_from(list(Verb)), st.integers(1_000_000, 2_000_000)
)


@settings(max_examples=60)
@given(events=st.lists(EVENT, max_size=300), cuts=st.lists(st.integers(0, 300), max_size=4))
def test_runs_of_any_length_leave_what_single_updates_leave(
    events: list[tuple[int, int, Verb, int]], cuts: list[int]
) -> None:
    states = UserStates.empty(4)
    bounds = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    for start, end in pairwise(bounds):
        run(states, events, start, end)
    assert_same(states, one_at_a_time(4, events))


def test_run_that_was_applied_before_in_part_or_whole_changes_nothing_twice() -> None:
    events = [(i % 2, i + 1, Verb.LIKE, 1_000_000 + i) for i in range(RING * 3)]
    states = UserStates.empty(2)
    run(states, events, 0, 100)
    run(states, events, 0, 100)
    run(states, events, 50, len(events))
    assert_same(states, one_at_a_time(2, events))

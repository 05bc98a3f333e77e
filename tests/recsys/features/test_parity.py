"""One fault in one event of a history: the event at which state and history part is that one, wherever it stands."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recsys.features.apply import apply
from recsys.features.parity import Difference, Interaction, Parting, first_differing, parting
from recsys.features.user import RING, SEEN_MAX, UserStates
from recsys.verbs import Verb

LENGTHS = st.integers(2, 40) | st.integers(60, 70) | st.integers(130, 140)


def history(n: int, *, items: int | None = None, seed: int = 1) -> list[Interaction]:
    """`n` events at rising seconds; of distinct items, or of a few that come again and again."""
    rng = np.random.default_rng(seed)
    key = rng.integers(1, 2**63, n if items is None else items).astype(np.uint64)
    number = np.arange(n) if items is None else rng.integers(0, items, n)
    verb = rng.choice(list(Verb), n)
    return [Interaction(int(key[one]), 1_700_000_000 + 60 * i, int(verb[i])) for i, one in enumerate(number)]


def state(events: list[Interaction]) -> UserStates:
    states = UserStates.empty(1)
    key, ts_s, verb = (list(column) for column in zip(*events, strict=True)) if events else ([], [], [])
    apply(
        states,
        np.zeros(len(events), np.int64),
        item_key=np.array(key, np.uint64),
        verb=np.array(verb, np.uint8),
        ts_s=np.array(ts_s, np.uint32),
        event_id=np.array([[1, place] for place in range(len(events))], np.uint64).reshape(-1, 2),
    )
    return states


def parted(shown: list[Interaction], events: list[Interaction], applied: int | None = None) -> Parting:
    until = len(events) if applied is None else applied
    return parting(state(shown), state(events[:until]), 0, events, until)


@settings(max_examples=150)
@given(n=LENGTHS, place=st.integers(0, 139), kind=st.sampled_from(list(Difference)), by=st.integers(1, 9))
def test_single_fault_is_named_with_its_event(n: int, place: int, kind: Difference, by: int) -> None:
    assume(place < n)
    events, shown = history(n), history(n)
    one = events[place]
    if kind is Difference.MISSING:
        del shown[place]
    elif kind is Difference.DOUBLED:
        shown.insert(place + 1 + by % (n - place), one)
    elif kind is Difference.DISPLACED:
        assume(place < n - 1)
        shown.insert(min(place + by, n - 1), shown.pop(place))
    elif kind is Difference.OTHER_ITEM:
        shown[place] = one._replace(item_key=one.item_key ^ (1 << 40))
    elif kind in (Difference.OTHER_TIME, Difference.OTHER_VERB):
        assume(n - place <= RING)
        shown[place] = one._replace(ts_s=one.ts_s + by) if kind is Difference.OTHER_TIME else one._replace(verb=99)
    else:
        assume(kind is Difference.FOREIGN)
        shown.insert(place, Interaction(7 << 40, 5, 1))
    found = parted(shown, events)
    assert (found.difference, found.event) == (kind, place)


@settings(max_examples=100)
@given(
    n=LENGTHS,
    place=st.integers(0, 139),
    seed=st.integers(0, 20),
    kind=st.sampled_from([Difference.MISSING, Difference.DOUBLED]),
)
def test_fault_among_items_that_come_again_is_named_at_the_event_or_one_like_it(
    n: int, place: int, seed: int, kind: Difference
) -> None:
    """Of what has left the ring only the item shows: among equal ones that follow each other the last is named."""
    assume(place < n)
    events = history(n, items=3, seed=seed)
    again = [events[place]] * 2 if kind is Difference.DOUBLED else []
    found = parted([*events[:place], *again, *events[place + 1 :]], events)
    assert found.difference is kind
    assert found.event is not None
    assert {one.item_key for one in events[place : found.event + 1]} == {events[place].item_key}
    if place >= n - RING + 1:
        assert found.event == place


@pytest.mark.parametrize("kind", [Difference.MISSING, Difference.DOUBLED])
@pytest.mark.parametrize("place", [101, 1_500, RING + SEEN_MAX + 60])
def test_fault_is_named_in_a_state_that_has_forgotten_its_first_events(kind: Difference, place: int) -> None:
    events = history(RING + SEEN_MAX + 100)
    again = [] if kind is Difference.MISSING else [events[place], events[place]]
    found = parted(events[:place] + again + events[place + 1 :], events)
    assert (found.difference, found.event) == (kind, place)


def test_fault_that_has_been_forgotten_is_named_by_the_counters() -> None:
    events = history(RING + SEEN_MAX + 100)
    found = parted([events[0], *events], events)
    assert (found.difference, found.event) == (Difference.COUNTERS, None)
    assert "events" in found.columns


def test_event_beyond_the_last_one_of_a_state_is_named_ahead() -> None:
    events = history(9)
    found = parted(events[:7], events, applied=6)
    assert (found.difference, found.event) == (Difference.AHEAD, 6)


def test_something_that_never_happened_is_named_foreign_without_an_event_where_nothing_is_due() -> None:
    events, strange = history(5), Interaction(9 << 40, 1_700_000_000, int(Verb.LIKE))
    assert parted([*events, strange], events) == Parting(Difference.FOREIGN, None, strange)
    assert parted([*events[:4], strange], events) == Parting(Difference.FOREIGN, 4, strange)


def test_states_that_differ_in_their_position_alone_are_named_so() -> None:
    events = history(5)
    stored = state(events)
    stored.event_id[0, 1] += 1
    assert parting(stored, state(events), 0, events, 5) == Parting(Difference.POSITION)


def test_first_differing_values_are_told_for_items_that_are_candidates_of_both() -> None:
    served = np.asfortranarray([[1, 2, 0.0], [3, 4, 5], [6, 7, 8]], np.float32)
    now = np.asfortranarray([[9, 9, 9], [6, 8, 8], [1, 2, -0.0]], np.float32)
    assert first_differing(served, np.array([5, 2, 9]), now, np.array([7, 9, 5])) == [(1, 2, 1), (2, 0, 2)]
    assert first_differing(served, np.array([5, 2, 9]), now, np.array([1, 3, 4])) == []
    assert first_differing(served, np.array([5, 2, 9]), now[:0], np.array([], np.int64)) == []


def test_values_that_are_no_numbers_are_compared_by_their_bits() -> None:
    nan = np.full((1, 1), np.nan, np.float32)
    assert first_differing(nan, np.array([0]), nan.copy(), np.array([0])) == []

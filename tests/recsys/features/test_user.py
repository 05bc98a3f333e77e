"""What one event does to a user state."""

import numpy as np
import pytest

from recsys.features.user import (
    HALF_LIFE_S,
    RING,
    SEEN_MAX,
    UserStates,
    fingerprint,
    room,
    update,
)
from recsys.verbs import Verb

NOON_S = 1_700_000_000


def apply(states: UserStates, row: int, key: int, *, verb: Verb = Verb.CLICK, ts_s: int = NOON_S) -> None:
    update(
        states,
        np.array([row]),
        item_key=np.array([key], np.uint64),
        verb=np.array([verb], np.uint8),
        ts_s=np.array([ts_s], np.uint32),
    )


def after(events: int, *, seen: int | None = None) -> UserStates:
    """One user who met the items with the fingerprints 1, 2, 3, ... a second apart."""
    states = UserStates.empty(1, seen=room(events) if seen is None else seen)
    for key in range(1, events + 1):
        apply(states, 0, key << 32, ts_s=NOON_S + key)
    return states


def test_newest_interaction_is_in_slot_0() -> None:
    states = UserStates.empty(1, seen=1)
    apply(states, 0, 11, verb=Verb.VIEW, ts_s=100)
    apply(states, 0, 12, verb=Verb.HIDE, ts_s=160)
    assert states.item_key[0, :3].tolist() == [12, 11, 0]
    assert states.verb[0, :3].tolist() == [Verb.HIDE, Verb.VIEW, 0]
    assert states.ts_s[0, :3].tolist() == [160, 100, 0]
    assert (states.length[0], states.events[0], states.positives[0]) == (2, 2, 1)


@pytest.mark.parametrize("verb", list(Verb))
def test_views_clicks_likes_and_purchases_are_positives(verb: Verb) -> None:
    states = UserStates.empty(1, seen=1)
    apply(states, 0, 5, verb=verb)
    assert states.positives[0] == (verb not in (Verb.RATING, Verb.HIDE))
    assert states.events[0] == 1


def test_what_leaves_the_ring_stays_as_a_fingerprint_oldest_first() -> None:
    states = after(RING + 3)
    assert states.length[0] == RING
    assert states.item_key[0].tolist() == [key << 32 for key in range(RING + 3, 3, -1)]
    assert states.seen_count[0] == 3
    assert states.seen[0].tolist() == [1, 2, 3]


def test_full_ring_has_no_fingerprint_yet() -> None:
    states = after(RING)
    assert (states.length[0], states.seen_count[0]) == (RING, 0)


def test_beyond_seen_max_the_oldest_fingerprint_goes() -> None:
    states = after(RING + SEEN_MAX + 2)
    assert states.seen.shape == (1, SEEN_MAX)
    assert states.seen_count[0] == SEEN_MAX
    assert states.seen[0, [0, -1]].tolist() == [3, SEEN_MAX + 2]
    assert states.events[0] == RING + SEEN_MAX + 2


def test_fingerprint_is_the_high_32_bits() -> None:
    keys = np.array([0x1234_5678_9ABC_DEF0, 7], np.uint64)
    assert fingerprint(keys).tolist() == [0x1234_5678, 0]
    assert fingerprint(keys).dtype == np.uint32


@pytest.mark.parametrize(("events", "wanted"), [(0, 1), (64, 1), (65, 1), (66, 2), (3136, 3072), (9999, 3072)])
def test_room_is_what_leaves_the_ring(events: int, wanted: int) -> None:
    assert room(events) == wanted


@pytest.mark.parametrize("counter", range(3))
def test_activity_halves_in_its_half_life(counter: int) -> None:
    states = UserStates.empty(1, seen=1)
    half_life_s = int(HALF_LIFE_S[counter])
    apply(states, 0, 1, ts_s=NOON_S)
    assert states.activity[0].tolist() == [1, 1, 1]
    apply(states, 0, 2, ts_s=NOON_S + half_life_s)
    assert states.activity[0, counter] == np.float32(1.5)
    assert states.activity_s[0] == NOON_S + half_life_s
    apply(states, 0, 3, ts_s=NOON_S + 3 * half_life_s)
    assert states.activity[0, counter] == np.float32(1.375)


def test_half_lives_are_an_hour_a_day_and_thirty_days() -> None:
    assert HALF_LIFE_S.tolist() == [3_600, 86_400, 2_592_000]


def test_late_event_counts_without_decay_and_leaves_the_clock() -> None:
    states = UserStates.empty(1, seen=1)
    apply(states, 0, 1, ts_s=NOON_S)
    apply(states, 0, 2, ts_s=NOON_S - 7_200)
    assert states.activity[0].tolist() == [2, 2, 2]
    assert states.activity_s[0] == NOON_S
    assert states.item_key[0, :2].tolist() == [2, 1]


def test_update_touches_only_the_rows_it_is_given() -> None:
    states, untouched = UserStates.empty(3, seen=2), UserStates.empty(3, seen=2)
    apply(states, 1, 9)
    for name in UserStates.__slots__:
        np.testing.assert_array_equal(getattr(states, name)[[0, 2]], getattr(untouched, name)[[0, 2]], err_msg=name)
    assert states.length.tolist() == [0, 1, 0]


def test_event_id_is_kept_unless_one_is_given() -> None:
    states = UserStates.empty(1, seen=1)
    one = {"item_key": np.array([3], np.uint64), "verb": np.array([2], np.uint8), "ts_s": np.array([5], np.uint32)}
    update(states, np.array([0]), **one, event_id=np.array([[17, 4]], np.uint64))
    assert states.event_id.tolist() == [[17, 4]]
    update(states, np.array([0]), **one)
    assert states.event_id.tolist() == [[17, 4]]


def test_take_copies_rows_in_the_order_given() -> None:
    states = UserStates.empty(3, seen=1)
    for row in range(3):
        apply(states, row, row + 1)
    taken = states.take(np.array([2, 0]))
    assert taken.item_key[:, 0].tolist() == [3, 1]
    apply(taken, 0, 99)
    assert states.item_key[2, 0] == 3


def test_concatenated_states_are_as_wide_as_the_widest_and_the_parts_stay_as_they_were() -> None:
    narrow, wide = after(RING + 1), after(RING + 3)
    both = UserStates.concatenate([narrow, wide])
    assert both.seen.tolist() == [[1, 0, 0], [1, 2, 3]]
    assert both.seen_count.tolist() == [1, 3]
    assert narrow.seen.shape == (1, 1)

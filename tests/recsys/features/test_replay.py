"""Online equals offline: the replay of a log gives the states that event-by-event updates give, bit for bit."""

import numpy as np
import pytest

from recsys.features import replay as replay_module
from recsys.features.replay import replay
from recsys.features.user import RING, SEEN_MAX, UserStates, room, update
from recsys.verbs import Verb

Columns = dict[str, np.ndarray]


def a_log(seed: int, users: int, events: int) -> Columns:
    """A log with many equal seconds, few heavy users and verbs of all kinds, by rising time."""
    rng = np.random.default_rng(seed)
    return {
        "user": np.minimum(rng.geometric(0.2, size=events) - 1, users - 1).astype(np.int32),
        "item_key": rng.integers(1, 2**64 - 1, size=events, dtype=np.uint64),
        "verb": rng.integers(1, len(Verb) + 1, size=events).astype(np.uint8),
        "ts_s": np.sort(1_700_000_000 + rng.integers(0, events * 400, size=events) // 900 * 900).astype(np.uint32),
    }


def state_by_state(log: Columns, user: int, place: int) -> UserStates:
    """The slow way: one event at a time, as the online updater sees them."""
    rows = np.flatnonzero(log["user"][:place] == user)
    state = UserStates.empty(1, seen=room(len(rows)))
    for at in rows:
        update(
            state,
            np.array([0]),
            item_key=log["item_key"][[at]],
            verb=log["verb"][[at]],
            ts_s=log["ts_s"][[at]],
        )
    return state


def assert_row_equals(found: UserStates, row: int, expected: UserStates) -> None:
    for name in UserStates.__slots__:
        one, other = getattr(found, name)[row], getattr(expected, name)[0]
        if name == "seen":
            count = expected.seen_count[0]
            assert not one[count:].any()
            one, other = one[:count], other[:count]
        assert one.tobytes() == other.tobytes(), name


@pytest.mark.parametrize("chunk", [3, 8192])
def test_replay_equals_one_update_an_event_bit_for_bit(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "CHUNK_USERS", chunk)
    log = a_log(1, users=12, events=1500)
    rng = np.random.default_rng(2)
    asked = rng.integers(0, 15, size=90).astype(np.int32)  # users 12 to 14 have no event
    places = np.concatenate([rng.integers(0, 1500, size=88), [0, 1500]])
    found = replay(**log, query_user=asked, query_place=places)
    assert len(found) == 90
    assert found.seen_count.max() > 100
    for row, (user, place) in enumerate(zip(asked.tolist(), places.tolist(), strict=True)):
        assert_row_equals(found, row, state_by_state(log, user, place))


def test_replay_forgets_what_is_beyond_seen_max_as_the_online_updater_does() -> None:
    events = RING + SEEN_MAX + 5
    log: Columns = {
        "user": np.zeros(events, np.int32),
        "item_key": np.arange(1, events + 1, dtype=np.uint64) << np.uint64(32),
        "verb": np.full(events, Verb.VIEW, np.uint8),
        "ts_s": np.arange(events, dtype=np.uint32),
    }
    found = replay(**log, query_user=np.zeros(1, np.int32), query_place=np.array([events]))
    assert_row_equals(found, 0, state_by_state(log, 0, events))
    assert found.seen[0, 0] == 6


def test_state_holds_what_stands_before_the_place_whatever_its_second() -> None:
    log: Columns = {
        "user": np.zeros(3, np.int32),
        "item_key": np.array([1, 2, 3], np.uint64),
        "verb": np.full(3, Verb.LIKE, np.uint8),
        "ts_s": np.array([100, 200, 200], np.uint32),
    }
    found = replay(**log, query_user=np.zeros(4, np.int32), query_place=np.array([0, 1, 3, 2]))
    assert found.events.tolist() == [0, 1, 3, 2]
    assert found.item_key[2, :4].tolist() == [3, 2, 1, 0]


def test_users_do_not_mix() -> None:
    log: Columns = {
        "user": np.array([4, 1, 4], np.int32),
        "item_key": np.array([1, 2, 3], np.uint64),
        "verb": np.full(3, Verb.LIKE, np.uint8),
        "ts_s": np.array([10, 20, 30], np.uint32),
    }
    found = replay(**log, query_user=np.array([1, 4, 0], np.int32), query_place=np.full(3, 3))
    assert found.item_key[:, :2].tolist() == [[2, 0], [3, 1], [0, 0]]


def test_no_query_gives_no_state_and_no_event_an_empty_one() -> None:
    log = a_log(3, users=2, events=10)
    nobody, never = np.zeros(0, np.int32), np.zeros(0, np.int64)
    assert len(replay(**log, query_user=nobody, query_place=never)) == 0
    nothing = {name: column[:0] for name, column in log.items()}
    found = replay(**nothing, query_user=np.zeros(2, np.int32), query_place=np.zeros(2, np.int64))
    assert found.events.tolist() == [0, 0]

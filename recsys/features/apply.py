"""A run of events in log order, applied to the states of their users."""

import numpy as np

from recsys.features.user import UserStates, room, update


def apply(
    states: UserStates,
    row: np.ndarray,
    *,
    item_key: np.ndarray,
    verb: np.ndarray,
    ts_s: np.ndarray,
    event_id: np.ndarray,
) -> None:
    """Apply events to `states`, in place: events of one user in turn, users side by side.

    An event whose id is not above the last one applied to its user changes nothing, so applying a run again is safe.

    Args:
        states: Their `seen` is widened as needed.
        row: int64 [e], each event's user. item_key: uint64 [e]. verb: uint8 [e]. ts_s: uint32 [e], UTC epoch seconds.
        event_id: uint64 [e, 2], position in the log; rising within a user.
    """
    last = states.event_id[row]
    fresh = (event_id[:, 0] > last[:, 0]) | ((event_id[:, 0] == last[:, 0]) & (event_id[:, 1] > last[:, 1]))
    if not fresh.any():
        return
    row, item_key, verb, ts_s, event_id = (part[fresh] for part in (row, item_key, verb, ts_s, event_id))
    widest = room(int((states.length + states.seen_count + np.bincount(row, minlength=len(states))).max()))
    if widest > states.seen.shape[1]:
        states.seen = np.pad(states.seen, ((0, 0), (0, widest - states.seen.shape[1])))
    by_user = np.argsort(row, kind="stable")
    first = np.flatnonzero(np.diff(row[by_user], prepend=-1))
    turn = np.empty(len(row), np.int64)  # how many earlier events of this run the user has
    turn[by_user] = np.arange(len(row)) - np.repeat(first, np.diff(first, append=len(row)))
    for number in range(int(turn.max()) + 1):
        now = np.flatnonzero(turn == number)
        update(states, row[now], item_key=item_key[now], verb=verb[now], ts_s=ts_s[now], event_id=event_id[now])

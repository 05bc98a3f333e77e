"""A run of events in log order, applied to the states of their users."""

from collections.abc import Iterator

import numpy as np

from recsys.features.user import UserStates, room, update

CHUNK_USERS = 8192  # bounds memory: 8,192 users x (64 x 13 + 3,072 x 4) bytes < 110 MB


def apply(
    states: UserStates,
    row: np.ndarray,
    *,
    item_key: np.ndarray,
    verb: np.ndarray,
    ts_s: np.ndarray,
    event_id: np.ndarray,
) -> None:
    """Apply events to `states`, in place and in order.

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
    update(states, row, item_key=item_key, verb=verb, ts_s=ts_s, event_id=event_id)


def states_of(
    users: int, row: np.ndarray, *, item_key: np.ndarray, verb: np.ndarray, ts_s: np.ndarray, event_id: np.ndarray
) -> Iterator[tuple[int, UserStates]]:
    """The states of users of whom nothing was known before these events, some thousand users at a time.

    Args:
        users: How many. The rest as for `apply`.
    Yields:
        The number of the first user of the chunk, and the states of it and those that follow.
    """
    by_user = np.argsort(row, kind="stable")
    row = row[by_user]
    for first in range(0, users, CHUNK_USERS):
        count = min(CHUNK_USERS, users - first)
        own = by_user[np.searchsorted(row, first) : np.searchsorted(row, first + count)]
        states = UserStates.empty(count)
        if len(own):
            apply(
                states,
                row[np.searchsorted(row, first) : np.searchsorted(row, first + count)] - first,
                item_key=item_key[own],
                verb=verb[own],
                ts_s=ts_s[own],
                event_id=event_id[own],
            )
        yield first, states

"""States of users at chosen past moments, by applying the log through the online `update`, point in time."""

import numpy as np

from recsys.features.user import UserStates, room, update

CHUNK_USERS = 8192  # bounds memory: 8,192 users x (64 x 13 + 3,072 x 4) bytes < 110 MB


def replay(
    *,
    user: np.ndarray,
    item_key: np.ndarray,
    verb: np.ndarray,
    ts_s: np.ndarray,
    query_user: np.ndarray,
    query_place: np.ndarray,
) -> UserStates:
    """The state of each queried user just before each queried place of the log.

    Events that stand before the place are in the state, as they would be online, where events are applied in the order
    of the log. The event at the place and all later ones are not, so what is to be predicted can never leak into it.

    Args:
        user, item_key, verb, ts_s: The log, [e] each (int32, uint64, uint8, uint32).
        query_user: int32 [q]. query_place: int64 [q], 0 to e.
    Returns:
        UserStates [q], in the order of the queries. Cost: vectorised over users.
    """
    parts, positions = [], []
    for start in range(0, int(max(query_user, default=-1)) + 1, CHUNK_USERS):
        wanted = np.flatnonzero((query_user >= start) & (query_user < start + CHUNK_USERS))
        if not len(wanted):
            continue
        mine = np.flatnonzero((user >= start) & (user < start + CHUNK_USERS))
        parts.append(
            _replay_chunk(
                mine,
                user[mine] - start,
                item_key[mine],
                verb[mine],
                ts_s[mine],
                query_user[wanted] - start,
                query_place[wanted],
            )
        )
        positions.append(wanted)
    if not parts:
        return UserStates.empty(0)
    back = np.empty(len(query_user), np.int64)
    back[np.concatenate(positions)] = np.arange(len(query_user))
    return UserStates.concatenate(parts).take(back)


def _replay_chunk(
    place: np.ndarray,
    user: np.ndarray,
    item_key: np.ndarray,
    verb: np.ndarray,
    ts_s: np.ndarray,
    query_user: np.ndarray,
    query_place: np.ndarray,
) -> UserStates:
    """Merge events and queries per user in log order, then step all users forward together, one step each."""
    e, q = len(user), len(query_user)
    who = np.concatenate([query_user, user])
    when = np.concatenate([query_place, place])
    is_event = np.repeat([False, True], [q, e])
    order = np.lexsort((is_event, when, who))  # at its own place a query comes before the event
    who, is_event = who[order], is_event[order]
    source = np.concatenate([np.arange(q), np.arange(e)])[order]
    users, first = np.unique(who, return_index=True)
    step = np.arange(len(who)) - np.repeat(first, np.diff(np.append(first, len(who))))
    by_step = np.argsort(step, kind="stable")
    bounds = np.searchsorted(step[by_step], np.arange(step.max() + 2))
    per_user = np.bincount(user) if e else np.zeros(1, int)
    states = UserStates.empty(int(users[-1]) + 1, seen=room(int(per_user.max())))
    result = UserStates.empty(q, seen=states.seen.shape[1])
    for at in range(len(bounds) - 1):
        now = by_step[bounds[at] : bounds[at + 1]]
        asking, acting = now[~is_event[now]], now[is_event[now]]
        if len(asking):
            _copy(result, source[asking], states, who[asking])
        if len(acting):
            row = source[acting]
            update(states, who[acting], item_key=item_key[row], verb=verb[row], ts_s=ts_s[row])
    return result


def _copy(to: UserStates, to_rows: np.ndarray, source: UserStates, rows: np.ndarray) -> None:
    for name in UserStates.__slots__:
        getattr(to, name)[to_rows] = getattr(source, name)[rows]

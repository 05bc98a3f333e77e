"""A user state, and a request, as if one item had never been met."""

from dataclasses import replace

import numpy as np
from numba import njit

from recsys.features.user import HALF_LIFE_S, UserStates, fingerprint
from recsys.types import QueryBatch, Ragged
from recsys.verbs import IS_POSITIVE


def repeated(batch: QueryBatch, times: int) -> QueryBatch:
    """A request, alone in its batch, `times` over."""
    rows = np.zeros(times, np.int64)
    controls = batch.controls and replace(
        batch.controls,
        diversity=batch.controls.diversity[rows],
        popularity_damping=batch.controls.popularity_damping[rows],
        quota_category=batch.controls.quota_category.take(rows),
        quota_most=batch.controls.quota_most.take(rows),
    )
    return QueryBatch(
        states=batch.states.take(rows),
        now_s=batch.now_s[rows],
        seed=batch.seed[rows],
        count=batch.count[rows],
        session=batch.session.take(rows),
        excluded=batch.excluded.take(rows),
        categories=batch.categories.take(rows),
        explore=batch.explore[rows],
        controls=controls,
        quality=None if batch.quality is None else batch.quality[rows],
    )


def without_items(batch: QueryBatch, key: np.ndarray) -> QueryBatch:
    """A request, alone in its batch, once for each of some items: as if that one had never been met.

    It is taken out of the state and of the session. It is still not offered, or it would take a place itself.

    Args:
        key: uint64 [k], item keys.
    """
    batch = repeated(batch, len(key))
    remove(batch.states, key)
    session = [own[own != one] for own, one in zip(map(batch.session.__getitem__, range(len(key))), key, strict=True)]
    excluded = [np.append(batch.excluded[row], one) for row, one in enumerate(key)]
    return replace(batch, session=Ragged.of(session, np.uint64), excluded=Ragged.of(excluded, np.uint64))


def without_history(batch: QueryBatch, states: UserStates) -> QueryBatch:
    """A request, alone in its batch, as of somebody of whom nothing is known but what is not to be offered again.

    Args:
        states: The request's, the session's items applied.
    """
    used = int(states.length[0])
    met = np.concatenate((states.seen[0, : states.seen_count[0]], fingerprint(states.item_key[0, :used][::-1])))
    nobody = UserStates.empty(1, seen=len(met))
    nobody.seen[0], nobody.seen_count[0] = met, len(met)
    return replace(batch, states=nobody, session=Ragged.empty(1, np.uint64))


def remove(states: UserStates, key: np.ndarray) -> None:
    """Take from each state all interactions with one item, in place: uint64 [b].

    Of what has left the ring that is known of fingerprints only, and counters keep it. Activity loses what each
    interaction of the ring is still worth, to the rounding of a float32; an event that came late counts as of the one
    before it, also where that one is taken away.
    """
    _remove(
        states.item_key,
        states.ts_s,
        states.verb,
        states.length,
        states.seen,
        states.seen_count,
        states.activity,
        states.activity_s,
        states.events,
        states.positives,
        key,
        IS_POSITIVE,
    )


@njit(cache=True)
def _remove(
    item_key: np.ndarray,
    ts_s: np.ndarray,
    verb: np.ndarray,
    length: np.ndarray,
    seen: np.ndarray,
    seen_count: np.ndarray,
    activity: np.ndarray,
    activity_s: np.ndarray,
    events: np.ndarray,
    positives: np.ndarray,
    key: np.ndarray,
    is_positive: np.ndarray,
) -> None:
    for row in range(len(key)):
        as_of_s = np.int64(0)  # an event older than the last one counted as of that one
        for slot in range(length[row] - 1, -1, -1):
            if ts_s[row, slot] > as_of_s:
                as_of_s = np.int64(ts_s[row, slot])
            if item_key[row, slot] == key[row]:
                elapsed_s = np.float32(np.int64(activity_s[row]) - as_of_s)
                for kind in range(len(HALF_LIFE_S)):
                    left = activity[row, kind] - np.exp2(-elapsed_s / HALF_LIFE_S[kind])
                    activity[row, kind] = max(left, np.float32(0))
                events[row] -= 1
                positives[row] -= is_positive[verb[row, slot]]
        kept = 0
        for slot in range(length[row]):
            if item_key[row, slot] != key[row]:
                item_key[row, kept], ts_s[row, kept] = item_key[row, slot], ts_s[row, slot]
                verb[row, kept] = verb[row, slot]
                kept += 1
        for slot in range(kept, length[row]):
            item_key[row, slot], ts_s[row, slot], verb[row, slot] = 0, 0, 0
        length[row] = kept
        mark, left = key[row] >> np.uint64(32), 0
        for place in range(seen_count[row]):
            if np.uint64(seen[row, place]) != mark:
                seen[row, left] = seen[row, place]
                left += 1
        seen_count[row] = left

"""The user state: what is remembered of one user, how an event changes it, and the features it gives alone.

`update` is the only code that brings an event into a state. The importer, the replay behind training and evaluation and
session items inside a request all call it. What a state would be without an item: `recsys.explanations.removal`.
"""

from dataclasses import dataclass, fields

import numpy as np
from numba import njit

from recsys.features.schema import Feature
from recsys.verbs import IS_POSITIVE

RING = 64  # interactions kept in detail
SEEN_MAX = 3072  # fingerprints kept of what left the ring; a state is at most 13,184 bytes
HALF_LIFE_S = np.array([3_600.0, 86_400.0, 30 * 86_400.0], np.float32)


@dataclass(slots=True, eq=False)
class UserStates:
    """The states of `b` users, as columns. Row `i` is one user; slot 0 of the ring is the newest interaction.

    Attributes:
        item_key: uint64 [b, RING], 0 = empty slot.
        ts_s: uint32 [b, RING], UTC epoch seconds.
        verb: uint8 [b, RING], `recsys.verbs.Verb`.
        length: int32 [b], slots in use.
        seen: uint32 [b, s], s <= SEEN_MAX: fingerprints of the keys that left the ring, oldest first.
        seen_count: int32 [b], fingerprints in use.
        activity: float32 [b, 3], decayed counts of events at `HALF_LIFE_S`, as of `activity_s`.
        activity_s: uint32 [b], when `activity` was last brought up to date.
        events: uint32 [b], interactions ever applied.
        positives: uint32 [b], of these positives.
        event_id: uint64 [b, 2], id of the last applied event in the log; (0, 0) = none.
    """

    item_key: np.ndarray
    ts_s: np.ndarray
    verb: np.ndarray
    length: np.ndarray
    seen: np.ndarray
    seen_count: np.ndarray
    activity: np.ndarray
    activity_s: np.ndarray
    events: np.ndarray
    positives: np.ndarray
    event_id: np.ndarray

    def __len__(self) -> int:
        return len(self.length)

    @classmethod
    def empty(cls, b: int, seen: int = 0) -> "UserStates":
        """States of `b` users of whom nothing is known, with room for `seen` fingerprints each."""
        return cls(
            item_key=np.zeros((b, RING), np.uint64),
            ts_s=np.zeros((b, RING), np.uint32),
            verb=np.zeros((b, RING), np.uint8),
            length=np.zeros(b, np.int32),
            seen=np.zeros((b, seen), np.uint32),
            seen_count=np.zeros(b, np.int32),
            activity=np.zeros((b, len(HALF_LIFE_S)), np.float32),
            activity_s=np.zeros(b, np.uint32),
            events=np.zeros(b, np.uint32),
            positives=np.zeros(b, np.uint32),
            event_id=np.zeros((b, 2), np.uint64),
        )

    def take(self, rows: np.ndarray) -> "UserStates":
        """A copy of some rows, in the order given."""
        return UserStates(*(getattr(self, f.name)[rows] for f in fields(self)))

    @classmethod
    def concatenate(cls, parts: list["UserStates"]) -> "UserStates":
        """Several states below one another; `seen` is widened to the widest."""
        width = max(part.seen.shape[1] for part in parts)
        seen = [np.pad(part.seen, ((0, 0), (0, width - part.seen.shape[1]))) for part in parts]
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(cls)} | {"seen": seen}
        return cls(**{name: np.concatenate(column) for name, column in columns.items()})


def update(
    states: UserStates,
    rows: np.ndarray,
    *,
    item_key: np.ndarray,
    verb: np.ndarray,
    ts_s: np.ndarray,
    event_id: np.ndarray | None = None,
) -> None:
    """Apply events one after the other, in place.

    Args:
        states: Changed; its `seen` must be wide enough (`room`), beyond SEEN_MAX the oldest fingerprint goes.
        rows: int64 [e], whose each event is; the events of one user in their order.
        item_key: uint64 [e].
        verb: uint8 [e].
        ts_s: uint32 [e], UTC epoch seconds; an event older than the last one is applied, without decay.
        event_id: uint64 [e, 2] or None to keep the ids.
    Cost: 0.2 us an event.
    """
    _update(
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
        rows,
        item_key,
        verb,
        ts_s,
        IS_POSITIVE,
    )
    if event_id is not None:
        states.event_id[rows] = event_id  # of equal rows the last one stays


@njit(cache=True)
def _update(
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
    rows: np.ndarray,
    new_key: np.ndarray,
    new_verb: np.ndarray,
    new_ts_s: np.ndarray,
    is_positive: np.ndarray,
) -> None:
    ring, room = item_key.shape[1], seen.shape[1]
    for event in range(len(rows)):
        row = rows[event]
        if length[row] == ring and room > 0:
            if seen_count[row] == room:
                for place in range(1, room):
                    seen[row, place - 1] = seen[row, place]
                seen_count[row] -= 1
            seen[row, seen_count[row]] = item_key[row, ring - 1] >> np.uint64(32)
            seen_count[row] += 1
        length[row] = min(length[row] + 1, ring)
        for slot in range(length[row] - 1, 0, -1):
            item_key[row, slot] = item_key[row, slot - 1]
            ts_s[row, slot] = ts_s[row, slot - 1]
            verb[row, slot] = verb[row, slot - 1]
        item_key[row, 0], ts_s[row, 0], verb[row, 0] = new_key[event], new_ts_s[event], new_verb[event]
        elapsed_s = np.int64(new_ts_s[event]) - np.int64(activity_s[row])
        for kind in range(len(HALF_LIFE_S)):
            kept = np.exp2(-np.float32(elapsed_s) / HALF_LIFE_S[kind]) if elapsed_s > 0 else np.float32(1)
            activity[row, kind] = activity[row, kind] * kept + np.float32(1)
        activity_s[row] = max(activity_s[row], new_ts_s[event])
        events[row] += 1
        positives[row] += is_positive[new_verb[event]]


def fingerprint(item_key: np.ndarray) -> np.ndarray:
    """The high 32 bits of item keys, so that fingerprints ascend as keys do. uint64 [...] -> uint32 [...]."""
    return (item_key >> np.uint64(32)).astype(np.uint32)


def room(events_per_user: int) -> int:
    """Fingerprints that states need so that a user with this many events loses none before SEEN_MAX."""
    return int(np.clip(events_per_user - RING, 1, SEEN_MAX))


@njit(cache=True)
def values(
    length: np.ndarray,
    ts_s: np.ndarray,
    activity: np.ndarray,
    activity_s: np.ndarray,
    events: np.ndarray,
    positives: np.ndarray,
    now_s: np.ndarray,
) -> np.ndarray:
    """The features below, in their order, of states at `now_s`: float32 [4, b]."""
    b = len(length)
    result = np.empty((4, b), np.float32)
    for row in range(b):
        idle_s = np.float32(max(now_s[row] - np.int64(ts_s[row, 0]), 0))
        elapsed_s = np.float32(max(now_s[row] - np.int64(activity_s[row]), 0))
        result[0, row] = np.log1p(np.float32(events[row]))
        result[1, row] = np.float32(positives[row]) / np.float32(max(events[row], 1))
        result[2, row] = np.log1p(idle_s) if length[row] > 0 else np.float32(-1)
        result[3, row] = np.log1p(activity[row, 0] * np.exp2(-elapsed_s / HALF_LIFE_S[0]))
    return result


FEATURES = (
    Feature(
        "user_log_events", 1, 0.0, "log(1 + interactions ever applied)", "user", lambda frame: frame.user_values[0]
    ),
    Feature(
        "user_positive_rate",
        1,
        0.0,
        "positives / interactions, over the whole history",
        "user",
        lambda frame: frame.user_values[1],
    ),
    Feature(
        "user_log_idle_s",
        1,
        -1.0,
        "log(1 + seconds since the newest interaction); -1 without one",
        "user",
        lambda frame: frame.user_values[2],
    ),
    Feature(
        "user_log_activity_1h",
        1,
        0.0,
        "log(1 + events decayed with a half-life of one hour)",
        "user",
        lambda frame: frame.user_values[3],
    ),
)

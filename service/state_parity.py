"""Served user states beside the same states made from the events, as of the same moment.

A state is rebuilt up to the event that it names as its last one. A shard's states and its position are committed
together, so what one state of a shard knows, all of them do from then on: what an earlier answer of the same shard knew
is expected, too; and all of the import. Anything newer is a question of freshness, not of parity, and is only counted.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from recsys.archive import Position
from recsys.features.apply import states_of
from recsys.features.codec import pack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.parity import Interaction, Parting, parting
from recsys.features.user import UserStates
from service.decisions import Decision
from service.rebuild import GRACE_S
from service.user_history import UserHistory

FRESH_MS = int(GRACE_S * 1000)  # so long after a rebuild, gateways may read the states from before it
_CHUNK = 1_024  # states rebuilt together: of users with 3,000 events each, some 120 MB of events
_IMPORT: Position = (1, 0)  # after all that was imported: it is live as a whole, or not at all


class Logged(NamedTuple):
    """An event: what it is, its position in the log, and where it lies ("import", "archive" or "log")."""

    what: Interaction
    position: Position
    lies_in: str


class Unequal(NamedTuple):
    """A served state that is not what the events give.

    Attributes:
        rebuilt: What they give, a single row. event: The first at which they part; None where none can be named.
    """

    rebuilt: UserStates
    parting: Parting
    event: Logged | None


class Compared(NamedTuple):
    """One served state; `behind_ms` is the age of the oldest event that it should have known and did not, 0 = none."""

    unequal: Unequal | None
    behind_ms: int


class _Job(NamedTuple):
    """A state to rebuild: the user's events, of which the first `applied` are in it."""

    places: np.ndarray
    applied: int


def expected_positions(records: Sequence[Decision], states: UserStates, *, fresh_ms: int = FRESH_MS) -> list[Position]:
    """Up to where each state should know its user's events, at least. The records are of one shard.

    Args:
        states: As served, a row a record.
    """
    own = [(int(ms), int(sequence)) for ms, sequence in states.event_id.tolist()]
    read_by = [one.time_ms + round(one.timing_ms.get("total", 0.0)) + 1 + fresh_ms for one in records]
    by_time = sorted(range(len(records)), key=lambda row: records[row].time_ms)
    known = sorted(zip(read_by, own, strict=True))
    expected, reached, taken = list(own), _IMPORT, 0
    for row in by_time:
        while taken < len(known) and known[taken][0] <= records[row].time_ms:
            reached, taken = max(reached, known[taken][1]), taken + 1
        arrived = (records[row].time_ms - fresh_ms, 0)  # a state that names a later event proves nothing
        expected[row] = max(own[row], min(reached, arrived))
    return expected


def compare_states(
    records: Sequence[Decision], states: UserStates, history: UserHistory, *, fresh_ms: int = FRESH_MS
) -> Iterator[Compared]:
    """Compare the served states of one shard with its history, to the byte.

    Args:
        states: As served, a row a record; empty where there was none.
    """
    expected = expected_positions(records, states, fresh_ms=fresh_ms)
    for start in range(0, len(records), _CHUNK):
        part = slice(start, start + _CHUNK)
        rows = np.arange(len(records))[part]
        yield from _compared(records[part], states.take(rows), expected[part], history, fresh_ms)


def _compared(
    records: Sequence[Decision], states: UserStates, expected: Sequence[Position], history: UserHistory, fresh_ms: int
) -> Iterator[Compared]:
    number_of: dict[tuple[str, int], int] = {}  # answers of the same moment share a rebuilt state
    jobs: list[_Job] = []
    own: list[tuple[int, int]] = []
    for record, until in zip(records, expected, strict=True):
        user = record.query["user_id"]
        places = history.places(user)
        applied = applied_until(history.events.event_id[places], until)
        number = number_of.setdefault((user, applied), len(jobs))
        if number == len(jobs):
            jobs.append(_Job(places, applied))
        own.append((number, _behind_ms(history, places[applied:], record.time_ms, fresh_ms)))
    rebuilt = _rebuilt(jobs, history)
    now, then = pack(rebuilt, SCHEMA_HASH), pack(states, SCHEMA_HASH)
    for row, (number, behind_ms) in enumerate(own):
        unequal = None
        if now[number] != then[row]:
            unequal = _unequal(states.take(np.array([row])), rebuilt.take(np.array([number])), jobs[number], history)
        yield Compared(unequal, behind_ms)


def applied_until(event_id: np.ndarray, until: Position) -> int:
    """How many of a user's events, in their order, are at or before a position."""
    ms, sequence = event_id[:, 0], event_id[:, 1]
    return int(((ms < until[0]) | ((ms == until[0]) & (sequence <= until[1]))).sum())


def _behind_ms(history: UserHistory, unknown: np.ndarray, answered_ms: int, fresh_ms: int) -> int:
    """How old the oldest of the events was that a state did not know; 0 if it was no older than `fresh_ms`."""
    arrived_ms = int(history.events.event_id[unknown[0], 0]) if len(unknown) else answered_ms
    age_ms = answered_ms - arrived_ms
    return age_ms if age_ms > fresh_ms else 0


def _rebuilt(jobs: Sequence[_Job], history: UserHistory) -> UserStates:
    events = history.events
    place = np.concatenate([np.zeros(0, np.int64), *(job.places[: job.applied] for job in jobs)])
    chunks = states_of(
        len(jobs),
        np.repeat(np.arange(len(jobs)), [job.applied for job in jobs]),
        item_key=events.item_key[place],
        verb=events.verb[place],
        ts_s=events.ts_s[place],
        event_id=events.event_id[place],
    )
    return UserStates.concatenate([UserStates.empty(0), *(states for _, states in chunks)])


def _unequal(served: UserStates, rebuilt: UserStates, job: _Job, history: UserHistory) -> Unequal:
    events, place = history.events, job.places
    done = list(
        map(Interaction, events.item_key[place].tolist(), events.ts_s[place].tolist(), events.verb[place].tolist())
    )
    found = parting(served, rebuilt, 0, done, job.applied)
    if found.event is None:
        return Unequal(rebuilt, found, None)
    at = int(place[found.event])
    ms, sequence = events.event_id[at].tolist()
    return Unequal(rebuilt, found, Logged(done[found.event], (ms, sequence), history.lies_in(at)))

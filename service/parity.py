"""Parity: every feature of a recorded answer has the value that the events give, point in time and to the bit.

Two questions for each answer. Is the state that it was made from the one that the events give? And does this version
make the recorded features of the recorded state? A rebuilt state that is the same to the byte gives the same values, so
values are made twice only where states differ.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np

from recsys import digests
from recsys.archive import Position
from recsys.digests import Stage
from recsys.errors import RecsysError
from recsys.features.codec import unpack
from recsys.features.matrix import NAMES, SCHEMA_HASH
from recsys.features.parity import Difference, Interaction, first_differing
from recsys.recommend import Ranked, Retrieved, features, retrieve
from recsys.types import QueryBatch, World
from recsys.verbs import Verb
from recsys.vocabulary import Vocabulary
from service.decisions import Decision
from service.errors import HttpError
from service.queries import Query, batch_of
from service.replay import query_of
from service.state_keys import shard
from service.state_parity import FRESH_MS, Unequal, compare_states
from service.user_history import UserHistory

BATCH = 64  # answers made again together
_BEFORE = len(digests.BEFORE_FEATURES)
_RETRIEVAL = digests.BEFORE_FEATURES.index(Stage.RETRIEVAL)


class Value(NamedTuple):
    """A feature that differs, at the first candidate where it does.

    Attributes:
        served: None where only its digest is known, and that differs from the digest of what this version makes.
        now: Made from the events, or where `served` is None from the recorded state.
    """

    feature: str
    item_id: str
    served: float | None
    now: float


class PastEvent(NamedTuple):
    """An event by name, or as a state shows it: then `position` and `lies_in` are None.

    Attributes:
        item_id: `key <16 hexadecimal digits>` of an item that the bundle does not have.
        position: In the log; of an imported one (0, place in the import). lies_in: "import", "archive" or "log".
    """

    item_id: str
    verb: str
    ts_s: int
    position: Position | None = None
    lies_in: str | None = None


class Finding(NamedTuple):
    """An answer without parity.

    Attributes:
        values: Empty where the state differs in what this request does not show.
        difference: How the served state parts from the events, None where it does not. columns: Of COUNTERS.
        event: The first at which they part, None where none can be named. shown: What the state has in its turn.
        stage: The first that this version makes otherwise of the recorded state; None where it makes the same.
    """

    record: Decision
    values: list[Value]
    difference: Difference | None = None
    columns: tuple[str, ...] = ()
    event: PastEvent | None = None
    shown: PastEvent | None = None
    stage: Stage | None = None


@dataclass
class Parity:
    """What became of a sample of answers.

    Attributes:
        verified: Answers compared. findings: Those without parity, by their time.
        not_verified: Why, and how many.
        behind: Answers whose state did not know events that were older than `fresh_ms`. oldest_ms: The oldest of these.
    """

    verified: int = 0
    findings: list[Finding] = field(default_factory=list)
    not_verified: Counter[str] = field(default_factory=Counter)
    behind: int = 0
    oldest_ms: int = 0


class _Served(NamedTuple):
    """A record, and how its state differs from what the events give."""

    record: Decision
    unequal: Unequal | None


def verify(
    records: Sequence[Decision],
    world_of: Callable[[Decision], World],
    histories: Callable[[Sequence[int]], Iterable[tuple[int, UserHistory]]],
    *,
    fresh_ms: int = FRESH_MS,
    progress: Callable[[int], None] = lambda _: None,
) -> Parity:
    """Compare recorded answers with the events.

    Args:
        world_of: The world that a record was made in; raises RecsysError where it cannot be had.
        histories: The history of each of some shards; the records were read before it is called.
        fresh_ms: Events may be so old before a state must know them. progress: Told of records done, twice each.
    Raises:
        StackError, ArchiveError: the events cannot be read.
    """
    parity = Parity()
    by_shard: dict[int, list[Decision]] = defaultdict(list)
    for record in records:
        if reason := _not_verifiable(record):
            parity.not_verified[reason] += 1
            progress(2)
        else:
            by_shard[shard(record.query["user_id"])].append(record)
    served: dict[tuple[str, str, int], list[_Served]] = defaultdict(list)
    for number, history in histories(sorted(by_shard)):
        own = by_shard[number]
        states, _ = unpack([record.user_state for record in own], SCHEMA_HASH)
        for record, compared in zip(own, compare_states(own, states, history, fresh_ms=fresh_ms), strict=True):
            of_world = served[record.bundle, record.item_stats, record.candidates]
            of_world.append(_Served(record, compared.unequal))
            parity.behind += compared.behind_ms > 0
            parity.oldest_ms = max(parity.oldest_ms, compared.behind_ms)
        progress(len(own))
    for group in served.values():  # of one world, which need not be loaded twice
        for start in range(0, len(group), BATCH):
            _verify(group[start : start + BATCH], world_of, parity)
            progress(len(group[start : start + BATCH]))
    parity.findings.sort(key=lambda one: one.record.time_ms)
    return parity


def _not_verifiable(record: Decision) -> str:
    if record.kind != "recommendations":
        return f"answers of kind {record.kind!r} read no user state"
    if not isinstance(record.query.get("user_id"), str):
        return "the record does not say whom it is of"
    if record.degraded:
        return f"degraded: {', '.join(sorted({one['stage'] for one in record.degraded}))}"
    _, problems = unpack([record.user_state], SCHEMA_HASH)
    return problems.get(0, "")


def _verify(group: Sequence[_Served], world_of: Callable[[Decision], World], parity: Parity) -> None:
    """Answers of one world, as one micro-batch from their recorded states."""
    try:
        world = world_of(group[0].record)
    except RecsysError as error:
        parity.not_verified[str(error)] += len(group)
        return
    if group[0].record.item_stats != world.item_stats.version:
        parity.not_verified[f"item stats {group[0].record.item_stats!r} are gone"] += len(group)
        return
    sound, queries = [], []
    for one in group:
        try:
            queries.append(query_of(one.record, world.bundle))
            sound.append(one)
        except (HttpError, msgspec.ValidationError) as error:
            parity.not_verified[str(error)] += 1
    if not sound:
        return
    parity.verified += len(sound)
    states, _ = unpack([one.record.user_state for one in sound], SCHEMA_HASH)
    made = _Made.of(world, batch_of(queries, states))
    for row, (one, query) in enumerate(zip(sound, queries, strict=True)):
        stage, values = _redefined(one.record, made, row)
        if one.unequal is None:
            if stage:
                parity.findings.append(Finding(one.record, values, stage=stage))
            continue
        named = {value.feature for value in values}
        values += [value for value in _differing(made, row, query, one.unequal) if value.feature not in named]
        parity.findings.append(_found(one.record, values, one.unequal, stage, world.bundle.vocabulary))


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """Candidates and features of a micro-batch, and digests of all stages so far, uint32 [b, k]."""

    world: World
    retrieved: Retrieved
    matrix: np.ndarray
    digests: np.ndarray

    @classmethod
    def of(cls, world: World, batch: QueryBatch) -> "_Made":
        retrieved = retrieve(world, batch)
        matrix = features(world, batch, retrieved)
        of_features = Ranked.of(matrix, np.zeros(len(matrix)), retrieved).digests[:, :-1]
        return cls(world, retrieved, matrix, np.concatenate((retrieved.digests, of_features), axis=1))

    def row(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Features and items of one request's candidates."""
        cells = slice(*self.retrieved.candidates.indptr[row : row + 2])
        return self.matrix[cells], self.retrieved.candidates.item[cells]


def _redefined(record: Decision, made: _Made, row: int) -> tuple[Stage | None, list[Value]]:
    """The first stage that this version makes otherwise of the recorded state, and which features of its candidates."""
    kept, now = digests.unpacked(record.digests), made.digests[row]
    if kept is None or len(kept) != len(now) + 1:
        return None, []
    changed = kept[:-1] != now
    if not changed.any():
        return None, []
    stage = next((stage for stage, differs in zip(digests.BEFORE_FEATURES, changed, strict=False) if differs), None)
    if changed[_RETRIEVAL]:
        return stage, []
    matrix, item = made.row(row)
    item_id = made.world.bundle.vocabulary.item_id
    return stage or Stage.FEATURES, [
        Value(NAMES[feature], item_id[int(item[0])], None, float(matrix[0, feature]))
        for feature in np.flatnonzero(changed[_BEFORE:]).tolist()
    ]


def _found(
    record: Decision, values: list[Value], unequal: Unequal, stage: Stage | None, vocabulary: Vocabulary
) -> Finding:
    parting, logged = unequal.parting, unequal.event
    event = logged and _named(logged.what, vocabulary)._replace(position=logged.position, lies_in=logged.lies_in)
    shown = parting.shown and _named(parting.shown, vocabulary)
    return Finding(record, values, parting.difference, parting.columns, event, shown, stage)


def _named(what: Interaction, vocabulary: Vocabulary) -> PastEvent:
    row = int(vocabulary.rows(np.array([what.item_key], np.uint64))[0])
    item_id = f"key {what.item_key:016x}" if row < 0 else vocabulary.item_id[row]
    verb = Verb(what.verb).name.lower() if what.verb in list(Verb) else f"verb {what.verb}"
    return PastEvent(item_id, verb, what.ts_s)


def _differing(made: _Made, row: int, query: Query, unequal: Unequal) -> list[Value]:
    """The features that the events give other values than the served state does."""
    again = _Made.of(made.world, batch_of([query], unequal.rebuilt))
    (served, served_item), (now, now_item) = made.row(row), again.row(0)
    item_id = made.world.bundle.vocabulary.item_id
    return [
        Value(NAMES[feature], item_id[int(served_item[cell])], float(served[cell, feature]), float(now[place, feature]))
        for feature, cell, place in first_differing(served, served_item, now, now_item)
    ]

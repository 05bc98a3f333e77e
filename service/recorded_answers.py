"""Earlier answers over HTTP: shown from their records, and made again away from the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.types import World
from recsys.verbs import Verb
from recsys.vocabulary import Vocabulary
from service.decision_records import DecisionRecords
from service.decisions import Decision, Erased
from service.errors import Gone, Overloaded
from service.record_schemas import Interaction, RecordedAnswer, Replay, StateSummary
from service.recorded_explanations import explain, why_not
from service.replay import ERASED, places, removed_by, replay
from service.schemas import Degradation

RECENT = 10  # interactions of a user that are shown


class RecordedAnswers:
    """Answers questions about earlier answers, one at a time of each kind; more are shed, so that lists come first.

    Args:
        vocabulary: Of the bundle in service: names what users had done.
        world_of: The world that a record was made in; may load a bundle, so it is called in a thread.
    """

    def __init__(self, vocabulary: Vocabulary, records: DecisionRecords, world_of: Callable[[Decision], World]) -> None:
        self._vocabulary, self._records, self._world_of = vocabulary, records, world_of
        self._showing, self._replaying = asyncio.Lock(), asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="replay")

    def know(self, champion: Vocabulary, *_: Vocabulary) -> None:
        """From now on what users had done is named by these items."""
        self._vocabulary = champion

    async def show(self, recommendation_id: str) -> dict[str, Any]:
        """What was served; shaped as `RecordedAnswer`.

        Raises:
            NotFound: no such record. Gone: its user was forgotten. Overloaded: another one is being read.
            RecordsUnavailable: no store.
        """
        _shed_if_busy(self._showing)
        async with self._showing:
            record = await self._records.find(recommendation_id)
        if isinstance(record, Erased):
            raise Gone(f"{record.id}: {ERASED}")
        return msgspec.to_builtins(_answer(record, self._vocabulary))

    async def replay(self, recommendation_id: str) -> dict[str, Any]:
        """The answer made again and compared; shaped as `Replay`. Loads its bundle if it is another one.

        Raises:
            NotFound: no such record. Overloaded: another one is being made. RecordsUnavailable: no store.
        """
        return await self._made_again(recommendation_id, replay)

    async def explain(self, recommendation_id: str) -> dict[str, Any]:
        """Why the list is as it is; shaped as `RecordedExplanation`. Raises what `replay` does."""
        return await self._made_again(recommendation_id, explain)

    async def why_not(self, recommendation_id: str, item_id: str) -> dict[str, Any]:
        """Why an item is not on the list; shaped as `RecordedWhyNot`. Raises what `replay` does."""
        return await self._made_again(recommendation_id, partial(why_not, item_id))

    async def _made_again(
        self, recommendation_id: str, make: Callable[[Decision | Erased, Callable[[Decision], World]], Replay]
    ) -> dict[str, Any]:
        _shed_if_busy(self._replaying)
        async with self._replaying:
            record = await self._records.find(recommendation_id)
            loop = asyncio.get_running_loop()
            return msgspec.to_builtins(await loop.run_in_executor(self._thread, make, record, self._world_of))


def _shed_if_busy(lock: asyncio.Lock) -> None:
    if lock.locked():
        raise Overloaded("another record is being read for somebody else; one at a time, so that lists come first")


def _answer(record: Decision, vocabulary: Vocabulary) -> RecordedAnswer:
    return RecordedAnswer(
        recommendation_id=record.id,
        kind=record.kind,
        time=_rfc_3339(record.time_ms / 1000),
        bundle=record.bundle,
        item_stats=record.item_stats,
        variants=record.variants,
        propensity=record.propensity,
        overridden=record.overridden,
        query=record.query,
        diversity=record.diversity,
        user_state=UNSET if record.user_state is None else _summary(record.user_state, vocabulary),
        items=places(record),
        bundles=_bundles(record),
        removed=removed_by(record.removed),
        ranked=record.ranked,
        degraded=[Degradation(**one) for one in record.degraded],
        timing_ms=record.timing_ms,
    )


def _bundles(record: Decision) -> dict[str, str] | UnsetType:
    of = record.interleaved
    if of is None or not of.lists:
        return UNSET
    return {name: one.bundle for name, one in zip(of.variants, of.lists, strict=True)}


def _summary(value: bytes, vocabulary: Vocabulary) -> StateSummary:
    states, problems = unpack([value], SCHEMA_HASH)
    if problems:
        return StateSummary(bytes=len(value), problem=problems[0])
    shown = slice(min(RECENT, int(states.length[0])))
    rows = vocabulary.rows(states.item_key[0, shown]).tolist()
    newest = zip(rows, states.verb[0, shown].tolist(), states.ts_s[0, shown].tolist(), strict=True)
    return StateSummary(
        bytes=len(value),
        interactions=int(states.events[0]),
        positives=int(states.positives[0]),
        recent=[
            Interaction(
                verb=Verb(verb).name.lower(),
                time=_rfc_3339(ts_s),
                item_id=UNSET if row < 0 else vocabulary.item_id[row],
            )
            for row, verb, ts_s in newest
        ],
    )


def _rfc_3339(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""Explanations at the edge: from what `recsys.explanations` finds to JSON, and beside the answering of lists."""

import asyncio
import logging
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, TypeVar

import msgspec
import numpy as np
import orjson
from msgspec import UNSET

from recsys.explanations import explanation as explaining
from recsys.explanations import why_not as refusing
from recsys.explanations.rules import Rule
from recsys.explanations.verdict_words import sentence
from recsys.explanations.words import GROUP, falls, grouped, reasons
from recsys.features.codec import unpack
from recsys.features.matrix import NAMES, SCHEMA_HASH
from recsys.filtering import Reason
from recsys.types import QueryBatch, Source, World
from service import explanation_schemas as schemas
from service.answers import Answer
from service.queries import Query, batch_of

SHOWN = 3  # counterfactuals of an item
MOST = 50  # items of a list that is explained: a step on 500 diversified ones takes 31 ms, in which nobody is answered
ITEMS = 10  # of a list, in one step: 2 ms
PATIENCE_S = 0.01  # for so long a step lets lists go first
_PAUSE_S = 0.001
_UNEXPLAINED = "no explanation"
_log = logging.getLogger("ray.serve")

T = TypeVar("T")
Degrade = Callable[[str, str, str], dict[str, str]]


class Explainer:
    """Explains lists that were just made, one at a time, in steps of a few milliseconds in between other requests.

    A step waits while lists are waited for, PATIENCE_S at most: who asks for no explanation loses no more than a step.

    Args:
        is_busy: Whether any list is waited for. degrade: Counts and describes why something is missing.
    """

    def __init__(self, is_busy: Callable[[], bool], degrade: Degrade) -> None:
        self._is_busy, self._degrade = is_busy, degrade
        self._one = asyncio.Lock()

    async def add(self, body: dict[str, Any], query: Query, answer: Answer, *, began: float, deadline: float) -> None:
        """Put `explanation` into the body of an answer, or into its `degraded` why there is none.

        Args:
            began: Of the request. deadline: Of the answer. Both on the monotonic clock.
        """
        since = monotonic()
        try:
            if len(body["items"]) > MOST:
                body["degraded"] = [*body["degraded"], self._degrade("explanation", "too_long", _UNEXPLAINED)]
            elif any(one["stage"] != "features" for one in answer.degraded):
                body["degraded"] = [*body["degraded"], self._degrade("explanation", "degraded", _UNEXPLAINED)]
            else:
                async with asyncio.timeout(deadline - since):
                    body["explanation"] = await self._explanation(query, answer)
        except TimeoutError:
            body["degraded"] = [*body["degraded"], self._degrade("explanation", "timeout", _UNEXPLAINED)]
        except Exception:
            _log.exception("an explanation failed")
            body["degraded"] = [*body["degraded"], self._degrade("explanation", "error", _UNEXPLAINED)]
        now = monotonic()
        took = {"total": round((now - began) * 1000, 3), "explain": round((now - since) * 1000, 3)}
        body["timing_ms"] = {**body["timing_ms"], **took}

    def leave_out(self, body: dict[str, Any]) -> None:
        """Say in the body of an interleaved list that it has none: its items are of two models."""
        body["degraded"] = [*body["degraded"], self._degrade("explanation", "interleaved", _UNEXPLAINED)]

    async def _explanation(self, query: Query, answer: Answer) -> orjson.Fragment:
        query = msgspec.structs.replace(query, quality=answer.quality)
        states, _ = unpack([answer.user_state], SCHEMA_HASH)
        async with self._one:
            found = await self._taken(explained(answer.world, batch_of([query], states)))
        return orjson.Fragment(msgspec.json.encode(found))

    async def _taken(self, steps: Generator[None, None, T]) -> T:
        while True:
            await self._turn()
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    async def _turn(self) -> None:
        """Let others have theirs."""
        until = monotonic() + PATIENCE_S
        await asyncio.sleep(0)
        while self._is_busy() and monotonic() < until:
            await asyncio.sleep(_PAUSE_S)


def explained(world: World, batch: QueryBatch) -> Generator[None, None, schemas.Explanation]:
    """The explanation of a request, alone in its batch, as it is answered; yields after each step."""
    found = yield from explaining.explanation(world, batch)
    trace, item_id = found.trace, found.trace.world.bundle.vocabulary.item_id
    items = []
    for place in range(len(trace.slates.item)):
        items.append(_item(found, place))
        if place % ITEMS == ITEMS - 1:
            yield
    return schemas.Explanation(
        base=found.contributions.base,
        ranked=len(trace.retrieved.candidates.item),
        removed={reason.name.lower(): int(n) for reason, n in zip(Reason, trace.slates.removed[0], strict=True)},
        tried=[item_id[row] for row in found.counterfactuals.tried],
        rules=[_effect(found, rule, other) for rule, other in found.counterfactuals.rules.items()],
        items=items,
    )


def _item(found: explaining.Explanation, place: int) -> schemas.ItemExplanation:
    trace, item_id = found.trace, found.trace.world.bundle.vocabulary.item_id
    row, value = int(trace.slates.item[place]), found.contributions.value[place]
    by_name = dict(zip(NAMES, value.tolist(), strict=True))
    return schemas.ItemExplanation(
        item_id=item_id[row],
        rank=place + 1,
        score=float(trace.slates.score[place]),
        rank_by_score=int(found.by_score[place]),
        because=[
            schemas.Because(code=one.code, text=one.text, item_ids=[item_id[met] for met in one.items] or UNSET)
            for one in reasons(found, place)
        ],
        contributions=[
            schemas.Contribution(
                group=group,
                value=total,
                features={name: one for name, one in by_name.items() if one and GROUP[name] == group},
            )
            for group, total in grouped(value).items()
        ],
        sources={one.source.name.lower(): int(one.place[place]) for one in found.places if one.place[place]},
        counterfactuals=[
            schemas.Counterfactual(without=item_id[met], from_=place + 1, to=rank or None)
            for met, rank in falls(found, place)[:SHOWN]
        ],
        rank_of_unknown_user=int(found.counterfactuals.unknown[place]) or None,
    )


def _effect(found: explaining.Explanation, rule: Rule, other: np.ndarray) -> schemas.RuleEffect:
    item_id, listed = found.trace.world.bundle.vocabulary.item_id, found.trace.slates.item.tolist()
    without = other.tolist()
    both = set(listed) & set(without)
    return schemas.RuleEffect(
        rule=rule,
        kept_off=[item_id[row] for row in without if row not in both],
        let_on=[item_id[row] for row in listed if row not in both],
        moved=sum(listed.index(row) != without.index(row) for row in both),
    )


def why_not_of(found: refusing.WhyNot) -> schemas.WhyNot:
    """As it is answered."""
    return schemas.WhyNot(
        verdict=found.verdict,
        text=sentence(found),
        rank=found.rank or UNSET,
        ranked=UNSET if found.verdict is refusing.Verdict.NOT_IN_BUNDLE else found.ranked,
        filters=[one.name.lower() for one in found.reasons] or UNSET,
        without_filters=why_not_of(found.otherwise) if found.otherwise else UNSET,
        sources=[
            schemas.SourcePlace(
                source=held.source.name.lower(),
                place=int(held.place[0]) or None,
                brought=held.length,
                would_be=int(whole.place[0]) or None,
                of=whole.length,
            )
            for held, whole in found.offered
            if held.source is not Source.NEW
        ]
        or UNSET,
        fused_place=found.fused or UNSET,
        gap=found.gap if found.verdict is refusing.Verdict.OUTRANKED else UNSET,
        costs=found.costs or UNSET,
        displaced_by=found.rules or UNSET,
        without_rules=[
            schemas.WithoutRule(rule=name, listed=one.listed, rank=one.rank or None)
            for name, one in found.without.items()
        ]
        or UNSET,
    )

"""Lists that two variants make together: each makes its own in its own lane, then they are drafted into one.

Where one side fails, or its list is degraded, the list is the other's, says so, and does not count.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from recsys.experiments.interleaving import BOTH, interleave
from service.answers import Answer, Begun, body_of, decision_of
from service.decisions import Decision, Interleaved
from service.errors import HttpError, Overloaded
from service.queries import Query
from service.schemas import RecommendationRequest
from service.traffic.assignment import Assigned, Side


class Made(NamedTuple):
    """What one side made of a request."""

    side: Side
    query: Query
    answer: Answer

    @property
    def is_sound(self) -> bool:
        """Whether all its stages worked; a state that could not be read is missing on both sides."""
        return all(one["stage"] == "features" for one in self.answer.degraded)

    def degraded_by(self, what: dict[str, str]) -> "Made":
        """The same, that says so."""
        degraded = [*self.answer.degraded, what]
        return self._replace(answer=msgspec.structs.replace(self.answer, degraded=degraded))


async def ask_both(
    sides: Sequence[Side], ask: Callable[[Side], Awaitable[tuple[Query, Answer]]]
) -> tuple[list[Made], str]:
    """What both sides made, at the same time; or one of them alone, and why the other is missing.

    Raises:
        HttpError: neither has any list: that of the first, or that of overload where it is among them.
    """
    found = await asyncio.gather(*map(ask, sides), return_exceptions=True)
    made = [Made(side, *one) for side, one in zip(sides, found, strict=True) if not isinstance(one, BaseException)]
    errors = [one for one in found if isinstance(one, BaseException)]
    if unexpected := [one for one in errors if not isinstance(one, HttpError)]:
        raise unexpected[0]
    if not made:
        raise next((one for one in errors if isinstance(one, Overloaded)), errors[0])
    if sound := [one for one in made if one.is_sound]:
        made, missing = sound, [one.answer.degraded[0]["cause"] for one in made if not one.is_sound]
    else:
        made, missing = made[:1], [one.answer.degraded[0]["cause"] for one in made[1:]]
    causes = [*missing, *("overload" if isinstance(one, Overloaded) else "error" for one in errors)]
    return made, causes[0] if causes else ""


def drafted(
    request: RecommendationRequest, made: Sequence[Made], assigned: Assigned, begun: Begun
) -> tuple[dict[str, Any], Decision]:
    """The response body and the decision record of a list of both sides, or of one alone."""
    bodies = [body_of(request, one.query, one.answer, begun, variants=assigned.variants) for one in made]
    records = [
        decision_of(request, one.query, one.answer, assigned, body, time_ms=begun.time_ms)
        for one, body in zip(made, bodies, strict=True)
    ]
    of = Interleaved(experiment=assigned.interleaving, variants=[one.side.name for one in made])
    if len(made) == 1:
        return bodies[0], msgspec.structs.replace(records[0], interleaved=of)
    draft = interleave(records[0].items, records[1].items, count=made[0].query.count, seed=begun.seed)
    shown = [{item["item_id"]: item for item in body["items"]} for body in bodies]
    scores = [dict(zip(one.items, one.scores, strict=True)) for one in records]
    whose = [
        next(side for side in (0, 1) if team in (side, BOTH) and item in shown[side]) for item, team in draft.cells()
    ]
    items = [
        {**shown[side][item], "rank": rank, **({} if team == BOTH else {"variant": of.variants[team]})}
        for rank, ((item, team), side) in enumerate(zip(draft.cells(), whose, strict=True), 1)
    ]
    body = {
        **bodies[0],
        "items": items,
        "degraded": bodies[0]["degraded"] or bodies[1]["degraded"],  # at most that the state could not be read
        "filled": {"requested": made[0].query.count, "returned": len(items)},
        "quality": min(one["quality"] for one in bodies),
        "timing_ms": _together([one["timing_ms"] for one in bodies]),
    }
    record = msgspec.structs.replace(
        records[0],
        items=draft.items,
        scores=[scores[side][item] for side, item in zip(whose, draft.items, strict=True)],
        degraded=body["degraded"],
        timing_ms=body["timing_ms"],
        digests=b"",
        interleaved=msgspec.structs.replace(
            of,
            team=draft.team,
            propensities=draft.propensity,
            lists=[msgspec.structs.replace(one, query=None) for one in records],
        ),
    )
    return body, record


def _together(timings: Sequence[dict[str, float]]) -> dict[str, float]:
    """What both sides took: one after the other in the stages of a micro-batch, at the same time before them."""
    took = {name: max(one.get(name, 0.0) for one in timings) for name in timings[0] | timings[1]}
    of_batch = {
        name: sum(one.get(name, 0.0) for one in timings) for name in ("retrieve", "rank", "select") if name in took
    }
    return took | {name: round(ms, 3) for name, ms in of_batch.items()}

"""From one row of an answered micro-batch to the response body, and to its decision record."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from recsys import digests
from recsys.features.user import UserStates
from recsys.reasons import reasons
from recsys.recommend import Ranked, Retrieved, retrieve, slate
from recsys.types import QueryBatch, Slates, World
from service.asked import Asked, State
from service.decisions import Decision
from service.encoding import ItemEncoder
from service.identifiers import recommendation_id
from service.microbatch import Waiter
from service.queries import Query, batch_of
from service.schemas import RecommendationRequest, SimilarRequest
from service.serving import Serving
from service.traffic.assignment import Assigned

Degraded = list[dict[str, str]]


class Answer(msgspec.Struct, frozen=True, eq=False):
    """One row of an answered micro-batch.

    Attributes:
        world: What it was made in; its rows are those of `encoder`.
        reasons: Codes per item, None unless asked for. user_state: Packed bytes as read, None if there was none.
        degraded, timing_ms: As they go into the response.
        quality: As in `QueryBatch`; 0 where nothing was ranked.
    """

    world: World
    encoder: ItemEncoder
    slates: Slates
    row: int
    reasons: list[list[str]] | None
    user_state: bytes | None
    degraded: Degraded
    timing_ms: dict[str, float]
    quality: float

    @property
    def personal(self) -> bool:
        """Whether anything of the user was known."""
        return bool(self.slates.personal[self.row])

    @property
    def cells(self) -> slice:
        """Its items in `slates`."""
        return slice(self.slates.indptr[self.row], self.slates.indptr[self.row + 1])


class Begun(NamedTuple):
    """The moment at which a request came, and what follows from it.

    Attributes:
        id: Recommendation id. seed: Of all chance. time_ms: UTC epoch milliseconds.
        started: On the monotonic clock.
    """

    id: str
    seed: int
    time_ms: int
    started: float

    @classmethod
    def now(cls, waited_s: float) -> "Begun":
        """It came so many seconds ago, and is looked at now."""
        time_ms = time.time_ns() // 1_000_000
        identity = recommendation_id(time_ms)
        return cls(identity.text, identity.seed, time_ms, time.monotonic() - waited_s)


class StageClock:
    """Milliseconds per stage of one micro-batch."""

    __slots__ = ("_last", "laps")

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.monotonic()
        self.laps[stage] = round((now - self._last) * 1000, 3)
        self._last = now


def reason_codes(
    world: World, recent: np.ndarray, slates: Slates, wanted: Sequence[bool]
) -> list[list[list[str]] | None]:
    """Reason codes per item for each request that wants them; `recent` as in `History.item`."""
    codes: list[list[list[str]] | None] = []
    for row, is_wanted in enumerate(wanted):
        cells = range(slates.indptr[row], slates.indptr[row + 1]) if is_wanted else None
        codes.append(
            None
            if cells is None
            else [reasons(world, recent[row], int(slates.item[c]), int(slates.sources[c])) for c in cells]
        )
    return codes


def answers_of(
    serving: Serving,
    batch: QueryBatch,
    retrieved: Retrieved,
    waiters: Sequence[Waiter[Asked, Answer]],
    slates: Slates,
    found: Sequence[State],
    degraded: Sequence[Degraded],
    clock: StageClock,
) -> list[Answer]:
    """One answer a row.

    Args:
        found: The state of each row's user. degraded: What each row is degraded by. clock: Of the batch.
    """
    clock.lap("select")
    codes: list[list[list[str]] | None] = [None] * len(waiters)
    if any(wanted := [w.asked.reasons for w in waiters]):
        recent = retrieved.users_of(serving.world, batch).history.item
        codes = reason_codes(serving.world, recent, slates, wanted)
    answers = []
    for row, (waiter, state) in enumerate(zip(waiters, found, strict=True)):
        timing_ms = {
            "queue": round((state.began - waiter.since) * 1000, 3),
            "features": round(state.took_ms, 3),
            **clock.laps,
        }
        share = 1.0 if batch.quality is None else float(batch.quality[row])
        made = (slates, row, codes[row], state.value, degraded[row], timing_ms, share)
        answers.append(Answer(serving.world, serving.encoder, *made))
    return answers


def popular_answer(asked: Asked, degraded: Degraded) -> Answer:
    """A popular list, made at once, of nobody's history."""
    serving = asked.lane.serving
    batch = batch_of([asked.query], UserStates.empty(1)).with_quotas_alone()
    retrieved = retrieve(serving.popular, batch)
    by_retrieval = Ranked.by(retrieved.candidates.retrieval_score, retrieved)
    slates = slate(serving.world, batch, retrieved, by_retrieval)
    codes = [["popular"]] * len(slates.item) if asked.reasons else None
    return Answer(serving.world, serving.encoder, slates, 0, codes, None, degraded, {}, 0.0)


def body_of(
    request: RecommendationRequest | SimilarRequest,
    query: Query,
    answer: Answer,
    begun: Begun,
    *,
    variants: dict[str, str],
) -> dict[str, Any]:
    """What lists answer with; shaped as `schemas.RecommendationResponse`, or as `schemas.SimilarResponse`."""
    slates, cells = answer.slates, answer.cells
    items = answer.encoder.items(
        slates.item[cells].tolist(),
        slates.score[cells].tolist(),
        slates.sources[cells].tolist(),
        answer.reasons,
        metadata=request.return_.metadata,
        with_scores=request.return_.scores,
    )
    if propensity := float(slates.propensity[answer.row]):
        items[-1]["propensity"] = propensity
    body = {
        "recommendation_id": begun.id,
        "bundle": answer.world.bundle.id,
        "variants": variants,
        "items": items,
        "degraded": answer.degraded,
        "filled": {"requested": query.count, "returned": len(items)},
        "quality": answer.quality,
        "unknown_ids": query.unknown_ids,
        "timing_ms": {"total": round((time.monotonic() - begun.started) * 1000, 3), **answer.timing_ms},
    }
    if isinstance(request, RecommendationRequest):
        body["placement"] = request.placement
        body["strategy"] = "personalized" if answer.personal else "cold_start"
    return body


def decision_of(
    request: RecommendationRequest | SimilarRequest,
    query: Query,
    answer: Answer,
    assigned: Assigned | None,
    body: dict[str, Any],
    *,
    time_ms: int,
) -> Decision:
    """Enough of an answer to make it again, and to say which stage differs if it does not come out the same.

    Args:
        assigned: None of `similar`, which nobody's hash decides about.
    """
    world, slates, row = answer.world, answer.slates, answer.row
    return Decision(
        id=body["recommendation_id"],
        kind="similar" if assigned is None else "recommendations",
        time_ms=time_ms,
        bundle=world.bundle.id,
        item_stats=world.item_stats.version,
        candidates=world.candidates,
        quality=answer.quality or 1.0,
        variants=assigned.variants if assigned else {},
        propensity=assigned.propensity if assigned else 1.0,
        overridden=list(assigned.overridden) if assigned else [],
        query=request,
        user_state=answer.user_state,
        seed=query.seed,
        now_s=query.now_s,
        items=[item["item_id"] for item in body["items"]],
        scores=slates.score[answer.cells].tolist(),
        degraded=answer.degraded,
        timing_ms=body["timing_ms"],
        removed=slates.removed[row].tolist(),
        ranked=int(slates.ranked[row]),
        explore=query.explore,
        item_propensity=float(slates.propensity[row]),
        diversity=query.diversity,
        digests=digests.packed(slates.digests[row]),
    )

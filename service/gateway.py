"""Answers requests: admits them, lets each micro-batch through the stages, and says what was degraded."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.user import UserStates
from recsys.recommend import Ranked, Retrieved, retrieve, slate
from recsys.types import QueryBatch, Slates, Source, World
from service.admission import PATIENCE, quality
from service.answers import Answer, Degraded, StageClock, body_of, decision_of, reason_codes
from service.asked import Asked, State
from service.decisions import DecisionLog
from service.errors import FieldError, NotFound
from service.identifiers import recommendation_id
from service.microbatch import MicroBatcher, Waiter
from service.queries import Query, batch_of, resolve
from service.schemas import RecommendationRequest, SimilarRequest
from service.serving import Serving
from service.settings import Settings
from service.stages import Stages, StageUnavailable

_POPULAR_ONLY = 1 << Source.POPULAR
_UNTIED = np.float32(1e-3)  # places items that are only near in the space of factors after the tied ones
_WITHOUT_STATE = "no history; seen items are not filtered"


Batcher = MicroBatcher[Asked, State, Answer]


class Gateway:
    """The recommender behind the HTTP edge, for the bundle it was built with.

    Args:
        world: Bundle and item stats; `use` gives it newer ones.
        stages: Where lookup, retrieval and ranking run.
        decisions: Takes a record of each answer.
    """

    def __init__(self, world: World, stages: Stages, decisions: DecisionLog, settings: Settings) -> None:
        self._stages, self._decisions, self._settings = stages, decisions, settings
        self._serving = Serving.of(world)
        self._most_s = PATIENCE["normal"] * settings.deadline_ms / 1000
        limits = {"max_batch": settings.max_batch, "max_waiting": settings.max_waiting}
        self._personal: Batcher = MicroBatcher(self._look_up, self._run_personal, **limits)
        self._related: Batcher = MicroBatcher(self._nobody, self._run_related, **limits)
        self.counts: Counter[str] = Counter()  # "answers", "cold_starts", "shrunk", "degraded.<stage>.<cause>"

    def use(self, world: World) -> None:
        """Answer from another world of the same bundle; micro-batches under way end in the one that they began in."""
        self._serving = Serving.of(world, self._serving)

    @property
    def shed(self) -> int:
        """Requests refused since the start."""
        return self._personal.shed + self._related.shed

    @property
    def asked(self) -> int:
        """Lists asked for since the start, those refused under load among them."""
        return self.counts["answers"] + self.shed

    def wait_share(self) -> float:
        """The predicted wait of one more request; 1 is the wait from which on requests of normal priority are shed."""
        return max(self._personal.wait_s(), self._related.wait_s()) / self._most_s

    def room(self) -> int:
        """How many lists of normal priority may be under way here before one more would be shed."""
        return self._personal.room(self._most_s)

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """A gateway exists only with a verified bundle, warmed up; a dead store degrades answers, not readiness."""
        return True, {"reasons": [], "bundle": self._serving.world.bundle.id}

    async def validate(self, request: RecommendationRequest) -> dict[str, Any]:
        """Check what only the bundle can tell; see `queries.resolve`."""
        self._resolve(request, seed=0, now_s=0)
        return {"valid": True}

    async def recommend(self, request: RecommendationRequest, *, waited_s: float = 0.0) -> dict[str, Any]:
        """A personal list; shaped as `RecommendationResponse`.

        Raises:
            Overloaded: shed. Unprocessable: the filter cannot be applied. BatchFailed: a bug.
        """
        started = time.monotonic() - waited_s
        time_ms = time.time_ns() // 1_000_000
        identity = recommendation_id(time_ms)
        query = self._resolve(request, seed=identity.seed, now_s=time_ms // 1000)
        asked = Asked(request.user_id, query, request.return_.reasons)
        answer = await self._ask(self._personal, asked, started, request)
        body = self._finish("recommendations", request, query, answer, identity.text, started, time_ms)
        body["placement"] = request.placement
        body["strategy"] = "personalized" if answer.personal else "cold_start"
        return body

    async def similar(self, request: SimilarRequest, *, waited_s: float = 0.0) -> dict[str, Any]:
        """Items tied to the given ones by co-occurrence and transitions; shaped as `SimilarResponse`.

        Popular items fill the end of the list where there are too few; their `sources` say so.

        Raises:
            NotFound: none of the items is known.
        """
        started = time.monotonic() - waited_s
        time_ms = time.time_ns() // 1_000_000
        identity = recommendation_id(time_ms)
        query = self._resolve(request, seed=identity.seed, now_s=time_ms // 1000)
        if not len(query.session):
            error = FieldError("/item_ids", "unknown_item", "no such item")
            raise NotFound(f"bundle {self._serving.world.bundle.id} knows none of the items", [error])
        asked = Asked("", query, request.return_.reasons)
        answer = await self._ask(self._related, asked, started, request)
        return self._finish("similar", request, query, answer, identity.text, started, time_ms)

    def _resolve(self, request: RecommendationRequest | SimilarRequest, *, seed: int, now_s: int) -> Query:
        own: dict[str, Any] = {}
        if isinstance(request, SimilarRequest):
            session_ids = list(dict.fromkeys(request.item_ids))
        else:
            session_ids = request.session.item_ids if request.session else []
            own["explore"] = self._settings.explore
            own["diversity"] = self._settings.diversity if request.diversity is None else request.diversity
            own["popularity_damping"], own["quotas"] = request.popularity_damping, request.quotas
        return resolve(
            self._serving.world.bundle,
            count=request.count,
            session_ids=session_ids,
            excluded_ids=request.exclude_item_ids,
            filter_=request.filter,
            seed=seed,
            now_s=now_s,
            **own,
        )

    async def _ask(
        self, batcher: Batcher, asked: Asked, started: float, request: RecommendationRequest | SimilarRequest
    ) -> Answer:
        """The batch's answer, or at the deadline a popular list: late is worse than plain."""
        budget_s = (request.deadline_ms or self._settings.deadline_ms) / 1000
        latest = started + PATIENCE[request.priority] * budget_s
        try:
            return await batcher.ask(asked, deadline=started + budget_s, latest=latest)
        except TimeoutError:
            return self.plain(asked, [self._degraded("deadline", "timeout", f"popular items; {_WITHOUT_STATE}")])

    def plain(self, asked: Asked, degraded: Degraded) -> Answer:
        """A popular list, made at once, of nobody's history."""
        serving = self._serving
        batch = batch_of([asked.query], UserStates.empty(1)).with_quotas_alone()
        retrieved = retrieve(serving.popular, batch)
        by_retrieval = Ranked.by(retrieved.candidates.retrieval_score, retrieved)
        slates = slate(serving.world, batch, retrieved, by_retrieval)
        reasons = [["popular"]] * len(slates.item) if asked.reasons else None
        return Answer(serving.world, serving.encoder, slates, 0, reasons, None, degraded, {}, 0.0)

    async def _look_up(self, waiters: Sequence[Waiter[Asked, Answer]]) -> list[State]:
        """The state of each user, in one round trip."""
        began = time.monotonic()
        values, causes = await self._stages.lookup([w.asked.user_id for w in waiters])
        took_ms = (time.monotonic() - began) * 1000
        return [State(value, cause, began, took_ms) for value, cause in zip(values, causes, strict=True)]

    async def _nobody(self, waiters: Sequence[Waiter[Asked, Answer]]) -> list[State]:
        """No user, no state, no round trip."""
        began = time.monotonic()
        return [State(None, None, began, 0.0)] * len(waiters)

    async def _run_personal(self, waiters: Sequence[Waiter[Asked, Answer]], found: Sequence[State]) -> Sequence[Answer]:
        """One micro-batch through retrieval, ranking and selection."""
        clock, serving = StageClock(), self._serving
        degraded: Degraded = []
        states, undecodable = unpack([one.value for one in found], SCHEMA_HASH)
        batch = self._batch(self._personal, waiters, states)
        retrieved, real = await self._retrieve(serving, batch, waiters, degraded)
        clock.lap("retrieve")
        ranked = None
        if real:
            try:
                ranked = await self._stages.rank(serving.world, batch, retrieved, timeout_s=_left_s(waiters))
            except StageUnavailable as error:
                degraded.append(self._degraded(error.stage, error.reason, "order of retrieval"))
        clock.lap("rank")
        if ranked is None:
            ranked, batch = Ranked.by(retrieved.candidates.retrieval_score, retrieved), batch.with_quotas_alone()
        slates = slate(serving.world, batch, retrieved, ranked)
        causes = {row: one.cause for row, one in enumerate(found) if one.cause}
        causes |= dict.fromkeys(undecodable, "undecodable_state")
        return self._answers(serving, batch, retrieved, waiters, slates, found, degraded, causes, clock)

    async def _run_related(self, waiters: Sequence[Waiter[Asked, Answer]], found: Sequence[State]) -> Sequence[Answer]:
        """One micro-batch of `similar`: nobody's state, the items as a session, the closest tied first."""
        clock, serving = StageClock(), self._serving
        degraded: Degraded = []
        batch = self._batch(self._related, waiters, UserStates.empty(len(waiters)))
        retrieved, _ = await self._retrieve(serving, batch, waiters, degraded)
        clock.lap("retrieve")
        candidates = retrieved.candidates
        tied = candidates.source_score[Source.SIMILAR] + candidates.source_score[Source.TRANSITIONS]
        filler = candidates.sources == _POPULAR_ONLY
        score = np.where(filler, candidates.retrieval_score - 1, tied + candidates.retrieval_score * _UNTIED)
        slates = slate(serving.world, batch, retrieved, Ranked.by(score, retrieved))
        return self._answers(serving, batch, retrieved, waiters, slates, found, degraded, {}, clock)

    def _batch(self, batcher: Batcher, waiters: Sequence[Waiter[Asked, Answer]], states: UserStates) -> QueryBatch:
        """The waiters' queries; the more wait behind them, the lower the quality."""
        queries = [w.asked.query for w in waiters]
        share = quality(batcher.backlog_s(), self._settings.deadline_ms / 1000)
        if share < 1:
            self.counts["shrunk"] += len(queries)
            queries = [msgspec.structs.replace(query, quality=share) for query in queries]
        return batch_of(queries, states)

    async def _retrieve(
        self, serving: Serving, batch: QueryBatch, waiters: Sequence[Waiter[Asked, Answer]], degraded: Degraded
    ) -> tuple[Retrieved, bool]:
        """Candidates, and whether they are real ones and not the popular list in place of them."""
        try:
            return await self._stages.retrieve(serving.world, batch, timeout_s=_left_s(waiters)), True
        except StageUnavailable as error:
            degraded.append(self._degraded(error.stage, error.reason, "popular items"))
            return retrieve(serving.popular, batch), False

    def _answers(
        self,
        serving: Serving,
        batch: QueryBatch,
        retrieved: Retrieved,
        waiters: Sequence[Waiter[Asked, Answer]],
        slates: Slates,
        found: Sequence[State],
        degraded: Degraded,
        causes: dict[int, str],
        clock: StageClock,
    ) -> list[Answer]:
        """One answer a row; `degraded` holds for all of them, `causes` says whose state is missing, and why."""
        clock.lap("select")
        codes: list[list[list[str]] | None] = [None] * len(waiters)
        if any(wanted := [w.asked.reasons for w in waiters]):
            recent = retrieved.users_of(serving.world, batch).history.item
            codes = reason_codes(serving.world, recent, slates, wanted)
        answers = []
        for row, (waiter, state) in enumerate(zip(waiters, found, strict=True)):
            own = degraded
            if cause := causes.get(row):
                own = [self._degraded("features", cause, _WITHOUT_STATE), *degraded]
            timing_ms = {
                "queue": round((state.began - waiter.since) * 1000, 3),
                "features": round(state.took_ms, 3),
                **clock.laps,
            }
            share = 1.0 if batch.quality is None else float(batch.quality[row])
            made = (slates, row, codes[row], state.value, own, timing_ms, share)
            answers.append(Answer(serving.world, serving.encoder, *made))
        return answers

    def _finish(
        self,
        kind: str,
        request: RecommendationRequest | SimilarRequest,
        query: Query,
        answer: Answer,
        identity: str,
        started: float,
        time_ms: int,
    ) -> dict[str, Any]:
        """The response body; counts the answer and puts its decision record on the queue."""
        body = body_of(
            request,
            query,
            answer,
            recommendation_id=identity,
            started=started,
        )
        self.counts["answers"] += 1
        self.counts["cold_starts"] += not answer.personal
        if (query.seed & 0xFFFF) < self._settings.decision_sample * 0x10000:
            self._decisions.put(decision_of(kind, request, query, answer, body, time_ms=time_ms))
        return body

    def _degraded(self, stage: str, cause: str, fallback: str) -> dict[str, str]:
        self.counts[f"degraded.{stage}.{cause}"] += 1
        return {"stage": stage, "cause": cause, "fallback": fallback}


def _left_s(waiters: Sequence[Waiter[Asked, Answer]]) -> float:
    """Seconds until the last deadline of a batch; each request watches its own as well."""
    return max(waiter.deadline for waiter in waiters) - time.monotonic()

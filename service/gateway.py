"""Answers requests: admits them, lets each micro-batch through the stages, and says what was degraded."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.user import UserStates
from recsys.recommend import Ranked, Retrieved, retrieve, slate
from recsys.types import QueryBatch, Source, World
from service.admission import PATIENCE, quality
from service.answers import Answer, Degraded, StageClock, answers_of, body_of, decision_of
from service.asked import Asked, State
from service.decisions import DecisionLog
from service.errors import BatchFailed, FieldError, NotFound, Unprocessable
from service.identifiers import recommendation_id
from service.lanes import Lane, Lanes
from service.microbatch import MicroBatcher, Waiter
from service.queries import Query, batch_of, resolve_request
from service.schemas import RecommendationRequest, SimilarRequest
from service.serving import Serving
from service.settings import Settings
from service.stages import Stages, StageUnavailable
from service.telemetry.batches import BatchWatch
from service.telemetry.lists import ListWatch
from service.telemetry.trace import current
from service.traffic.assignment import Assigned
from service.traffic.document import Arm

_POPULAR_ONLY = 1 << Source.POPULAR
_UNTIED = np.float32(1e-3)  # places items that are only near in the space of factors after the tied ones
_AS_USUAL = Arm()
_WITHOUT_STATE = "no history; seen items are not filtered"


Sent = Callable[[RecommendationRequest, Query, Arm, Answer, dict[str, Any]], None]
Batcher = MicroBatcher[Asked, State, Answer]


class Gateway:
    """The recommender behind the HTTP edge.

    Args:
        world: Of the bundle that everybody gets at first.
        stages: Where lookup, retrieval and ranking run.
        decisions: Takes a record of each answer.

    Attributes:
        lanes: What answers; to be given newer worlds, and other traffic tables.
        troubles: Says why not all is as it should be, for `/readyz`.
        sent: Is told of each personal list: the request, the query, the arm, the answer and its body.
        batches, lists: Count micro-batches and what was made of them.
    """

    def __init__(self, world: World, stages: Stages, decisions: DecisionLog, settings: Settings) -> None:
        self._stages, self._decisions, self._settings = stages, decisions, settings
        self.lanes = Lanes(world)
        self.troubles: Callable[[], list[str]] = list
        self.sent: Sent = lambda *_: None
        self._most_s = PATIENCE["normal"] * settings.deadline_ms / 1000
        limits = {"max_batch": settings.max_batch, "max_waiting": settings.max_waiting}
        self.batches, self.lists = BatchWatch(), ListWatch()
        personal = self.batches.by_lane("recommendations", self._run_personal)
        related = self.batches.by_lane("similar", self._run_related)
        self._personal: Batcher = MicroBatcher(self._look_up, personal, **limits)
        self._related: Batcher = MicroBatcher(self._nobody, related, **limits)
        self.counts: Counter[str] = Counter()  # "answers", "cold_starts", "shrunk", "degraded.<stage>.<cause>"

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

    def is_busy(self) -> bool:
        """Whether any list is waited for."""
        return self._personal.is_busy() or self._related.is_busy()

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """A gateway exists only with a verified bundle, warmed up; a dead store degrades answers, not readiness.

        Nor does a bundle that could not be loaded: the one before goes on answering, and the reasons say so.
        """
        traffic = self.lanes.traffic
        return True, {"reasons": self.troubles(), "bundle": traffic.champion, "traffic": traffic.version}

    async def validate(self, request: RecommendationRequest) -> dict[str, Any]:
        """Check what only the bundle can tell; see `queries.resolve`."""
        lane, assigned = self.lanes.of(request.user_id, request.placement)
        self._resolve(lane, request, assigned.arm)
        return {"valid": True}

    async def recommend(self, request: RecommendationRequest, *, waited_s: float = 0.0) -> dict[str, Any]:
        """A personal list; shaped as `RecommendationResponse`.

        Raises:
            Overloaded: shed. Unprocessable: the filter cannot be applied. BatchFailed: a bug, also the champion's.
        """
        started = time.monotonic() - waited_s
        time_ms = time.time_ns() // 1_000_000
        identity = recommendation_id(time_ms)
        lane, assigned = self.lanes.of(request.user_id, request.placement)
        try:
            query = self._resolve(lane, request, assigned.arm, time_ms, identity.seed)
            asked = Asked(request.user_id, query, request.return_.reasons, lane)
            answer = await self._ask(self._personal, asked, started, request)
        except (BatchFailed, Unprocessable):
            if lane is (champion := self.lanes.champion):
                raise
            # What is tried fails: nobody goes without a list for that, and the record says so to who watches it.
            query = self._resolve(champion, request, _AS_USUAL, time_ms, identity.seed)
            asked = Asked(request.user_id, query, request.return_.reasons, champion)
            answer = await self._ask(self._personal, asked, started, request)
            degraded = [*answer.degraded, self._degraded("bundle", "error", "the champion's list")]
            answer = msgspec.structs.replace(answer, degraded=degraded)
        body = self._finish(request, query, answer, assigned, identity.text, started, time_ms)
        body["placement"] = request.placement
        body["strategy"] = "personalized" if answer.personal else "cold_start"
        self.sent(request, query, assigned.arm, answer, body)
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
        lane = self.lanes.champion
        query = self._resolve(lane, request, _AS_USUAL, time_ms, identity.seed)
        if not len(query.session):
            error = FieldError("/item_ids", "unknown_item", "no such item")
            raise NotFound(f"bundle {lane.serving.world.bundle.id} knows none of the items", [error])
        asked = Asked("", query, request.return_.reasons, lane)
        answer = await self._ask(self._related, asked, started, request)
        return self._finish(request, query, answer, None, identity.text, started, time_ms)

    def _resolve(
        self, lane: Lane, request: RecommendationRequest | SimilarRequest, arm: Arm, time_ms: int = 0, seed: int = 0
    ) -> Query:
        bundle, settings = lane.serving.world.bundle, self._settings
        return resolve_request(bundle, request, arm, settings, seed=seed, now_s=time_ms // 1000)

    async def _ask(
        self, batcher: Batcher, asked: Asked, started: float, request: RecommendationRequest | SimilarRequest
    ) -> Answer:
        """The batch's answer, or at the deadline a popular list: late is worse than plain."""
        budget_s = (request.deadline_ms or self._settings.deadline_ms) / 1000
        latest = started + PATIENCE[request.priority] * budget_s
        if (trace := current.get()) is not None:
            asked = asked._replace(trace=trace)
        try:
            return await batcher.ask(asked, deadline=started + budget_s, latest=latest)
        except TimeoutError:
            return self.plain(asked, [self._degraded("deadline", "timeout", f"popular items; {_WITHOUT_STATE}")])

    def plain(self, asked: Asked, degraded: Degraded) -> Answer:
        """A popular list, made at once, of nobody's history."""
        serving = asked.lane.serving
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

    async def _run_personal(
        self, serving: Serving, waiters: Sequence[Waiter[Asked, Answer]], found: Sequence[State]
    ) -> Sequence[Answer]:
        """One micro-batch of one lane through retrieval, ranking and selection."""
        clock = StageClock()
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
        own = self._own(degraded, causes, len(waiters))
        return answers_of(serving, batch, retrieved, waiters, slates, found, own, clock)

    async def _run_related(
        self, serving: Serving, waiters: Sequence[Waiter[Asked, Answer]], found: Sequence[State]
    ) -> Sequence[Answer]:
        """One micro-batch of `similar`: nobody's state, the items as a session, the closest tied first."""
        clock = StageClock()
        degraded: Degraded = []
        batch = self._batch(self._related, waiters, UserStates.empty(len(waiters)))
        retrieved, _ = await self._retrieve(serving, batch, waiters, degraded)
        clock.lap("retrieve")
        candidates = retrieved.candidates
        tied = candidates.source_score[Source.SIMILAR] + candidates.source_score[Source.TRANSITIONS]
        filler = candidates.sources == _POPULAR_ONLY
        score = np.where(filler, candidates.retrieval_score - 1, tied + candidates.retrieval_score * _UNTIED)
        slates = slate(serving.world, batch, retrieved, Ranked.by(score, retrieved))
        return answers_of(serving, batch, retrieved, waiters, slates, found, [degraded] * len(waiters), clock)

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

    def _own(self, degraded: Degraded, causes: dict[int, str], rows: int) -> list[Degraded]:
        """What each row is degraded by: what the whole batch is, and why its own state is missing."""
        return [
            [self._degraded("features", causes[row], _WITHOUT_STATE), *degraded] if row in causes else degraded
            for row in range(rows)
        ]

    def _finish(
        self,
        request: RecommendationRequest | SimilarRequest,
        query: Query,
        answer: Answer,
        assigned: Assigned | None,
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
            variants=assigned.variants if assigned else {},
        )
        self.lists.count(request, body)
        self.counts["answers"] += 1
        self.counts["cold_starts"] += not answer.personal
        if (query.seed & 0xFFFF) < self._settings.decision_sample * 0x10000:
            self._decisions.put(decision_of(request, query, answer, assigned, body, time_ms=time_ms))
        return body

    def _degraded(self, stage: str, cause: str, fallback: str) -> dict[str, str]:
        self.counts[f"degraded.{stage}.{cause}"] += 1
        return {"stage": stage, "cause": cause, "fallback": fallback}


def _left_s(waiters: Sequence[Waiter[Asked, Answer]]) -> float:
    """Seconds until the last deadline of a batch; each request watches its own as well."""
    return max(waiter.deadline for waiter in waiters) - time.monotonic()

"""Answers requests: admits them, lets each micro-batch through the stages, and says what was degraded."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.user import UserStates
from recsys.recommend import Ranked, Retrieved, retrieve, slate
from recsys.retrieval.ties import tied_first
from recsys.types import QueryBatch, World
from service.admission import PATIENCE, quality
from service.answers import Answer, Begun, Degraded, StageClock, answers_of, body_of, decision_of, popular_answer
from service.asked import Asked, State
from service.decisions import Decision, DecisionLog, is_kept
from service.errors import BatchFailed, FieldError, NotFound, Unprocessable
from service.explanations import Explainer
from service.interleaving import ask_both, drafted
from service.lanes import Lane, Lanes
from service.microbatch import MicroBatcher, Waiter
from service.queries import Query, batch_of, resolve_request, ruled
from service.schemas import RecommendationRequest, SimilarRequest
from service.serving import Serving
from service.settings import Settings
from service.stages import Stages, StageUnavailable
from service.telemetry.batches import BatchWatch
from service.telemetry.lists import ListWatch
from service.telemetry.trace import current
from service.traffic.assignment import Assigned
from service.traffic.document import Arm

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
        limits: dict[str, Any] = {"max_batch": settings.max_batch, "max_waiting": settings.max_waiting}
        self.batches, self.lists = BatchWatch(), ListWatch()
        personal = self.batches.by_lane("recommendations", self._run_personal)
        related = self.batches.by_lane("similar", self._run_related)
        self._personal: Batcher = MicroBatcher(self._look_up, personal, **limits)
        self._related: Batcher = MicroBatcher(self._nobody, related, **limits)
        self.counts: Counter[str] = Counter()  # "answers", "cold_starts", "shrunk", "degraded.<stage>.<cause>"
        self._explainer = Explainer(self.is_busy, self._degraded)

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
        try:
            self._resolve(lane, request, assigned.arm, Begun.now(0.0))
        except Unprocessable:  # as it would be answered: what is tried is nobody's error
            self._resolve(self.lanes.champion, request, _AS_USUAL, Begun.now(0.0))
        return {"valid": True}

    async def recommend(self, request: RecommendationRequest, *, waited_s: float = 0.0) -> dict[str, Any]:
        """A personal list; shaped as `RecommendationResponse`.

        Raises:
            Overloaded: shed. Unprocessable: the filter cannot be applied. BatchFailed: a bug, also the champion's.
        """
        begun = Begun.now(waited_s)
        lane, assigned = self.lanes.of(request.user_id, request.placement)
        try:
            if assigned.sides:
                return await self._interleaved(request, begun, assigned)
            query, answer = await self._answer(request, begun, lane, assigned.arm)
            request = ruled(request, assigned.arm)
        except (BatchFailed, Unprocessable):
            if lane is (champion := self.lanes.champion) and assigned.arm == _AS_USUAL:
                raise
            # What is tried fails: nobody goes without a list for that, and the record says so to who watches it.
            query, answer = await self._answer(request, begun, champion, _AS_USUAL)
            degraded = [*answer.degraded, self._degraded("bundle", "error", "the champion's list")]
            answer = msgspec.structs.replace(answer, degraded=degraded)
        body = self._finish(request, query, answer, assigned, begun)
        self.sent(request, query, assigned.arm, answer, body)
        if request.return_.explain:
            deadline = begun.started + (request.deadline_ms or self._settings.deadline_ms) / 1000
            await self._explainer.add(body, query, answer, began=begun.started, deadline=deadline)
        return body

    async def _interleaved(self, request: RecommendationRequest, begun: Begun, assigned: Assigned) -> dict[str, Any]:
        """A list of both sides, or of one alone where the other fails; errors as of `recommend`."""
        made, missing = await ask_both(
            assigned.sides, lambda side: self._answer(request, begun, self.lanes.lane(side), side.arm)
        )
        if len(made) == 1:
            fallback = self._degraded("interleaving", missing, f"the list of {made[0].side.name} alone")
            made = [made[0].degraded_by(fallback)]
        body, record = drafted(request, made, assigned, begun)
        self.lists.count(request, body)
        self._count(request.user_id, made[0].answer, made[0].query, lambda: record)
        if request.return_.explain:
            self._explainer.leave_out(body)
        return body

    async def _answer(self, request: RecommendationRequest, begun: Begun, lane: Lane, arm: Arm) -> tuple[Query, Answer]:
        """A request resolved and answered in a lane."""
        query = self._resolve(lane, request, arm, begun)
        asked = Asked(request.user_id, query, request.return_.reasons, lane)
        return query, await self._ask(self._personal, asked, begun.started, request)

    async def similar(self, request: SimilarRequest, *, waited_s: float = 0.0) -> dict[str, Any]:
        """Items tied to the given ones by co-occurrence and transitions; shaped as `SimilarResponse`.

        Popular items fill the end of the list where there are too few; their `sources` say so.

        Raises:
            NotFound: none of the items is known.
        """
        begun = Begun.now(waited_s)
        lane = self.lanes.champion
        query = self._resolve(lane, request, _AS_USUAL, begun)
        if not len(query.session):
            error = FieldError("/item_ids", "unknown_item", "no such item")
            raise NotFound(f"bundle {lane.serving.world.bundle.id} knows none of the items", [error])
        asked = Asked("", query, request.return_.reasons, lane)
        answer = await self._ask(self._related, asked, begun.started, request)
        return self._finish(request, query, answer, None, begun)

    def _resolve(self, lane: Lane, request: RecommendationRequest | SimilarRequest, arm: Arm, begun: Begun) -> Query:
        bundle, settings = lane.serving.world.bundle, self._settings
        return resolve_request(bundle, request, arm, settings, seed=begun.seed, now_s=begun.time_ms // 1000)

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
            return popular_answer(asked, [self._degraded("deadline", "timeout", f"popular items; {_WITHOUT_STATE}")])

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
        slates = slate(serving.world, batch, retrieved, Ranked.by(tied_first(retrieved.candidates), retrieved))
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
        begun: Begun,
    ) -> dict[str, Any]:
        """The response body; counts the answer and puts its decision record on the queue."""
        body = body_of(request, query, answer, begun, variants=assigned.variants if assigned else {})
        self.lists.count(request, body)
        record = partial(decision_of, request, query, answer, assigned, body, time_ms=begun.time_ms)
        self._count(getattr(request, "user_id", None), answer, query, record)
        return body

    def _count(self, user_id: str | None, answer: Answer, query: Query, record: Callable[[], Decision]) -> None:
        self.counts["answers"] += 1
        self.counts["cold_starts"] += not answer.personal
        if is_kept(user_id, query.seed, self._settings.decision_sample):
            self._decisions.put(record())

    def _degraded(self, stage: str, cause: str, fallback: str) -> dict[str, str]:
        self.counts[f"degraded.{stage}.{cause}"] += 1
        return {"stage": stage, "cause": cause, "fallback": fallback}


def _left_s(waiters: Sequence[Waiter[Asked, Answer]]) -> float:
    """Seconds until the last deadline of a batch; each request watches its own as well."""
    return max(waiter.deadline for waiter in waiters) - time.monotonic()

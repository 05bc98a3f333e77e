"""Every micro-batch: its size, the time of its stages and of those who waited, what became of the candidates.

It looks at a batch from outside, once its answers are made: one look a batch, whatever its size.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic

from recsys.filtering import Reason
from service import lanes
from service.answers import Answer
from service.asked import Asked, State
from service.histogram import Histogram
from service.microbatch import Waiter
from service.serving import Serving
from service.telemetry.trace import Batch

STAGES = ("queue", "features", "retrieve", "rank", "select")
STAGE_BOUNDS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SIZE_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_OUT = [f"out.{reason.name.lower()}" for reason in Reason]

Waiters = Sequence[Waiter[Asked, Answer]]
Run = Callable[[Serving, Waiters, Sequence[State]], Awaitable[Sequence[Answer]]]
RunAll = Callable[[Waiters, Sequence[State]], Awaitable[Sequence[Answer | Exception]]]


class BatchWatch:
    """Counts of the micro-batches of one gateway.

    Attributes:
        size: Requests in a batch, by kind. stage_s: Seconds of each stage, once for each request that saw it.
        candidates: Items ruled out by reason ("out.seen"), those that remained ("in"), of them "ranked" and "served".
    """

    def __init__(self) -> None:
        self.size: dict[tuple[str, ...], Histogram] = {}
        self.stage_s: dict[tuple[str, ...], Histogram] = {(stage,): Histogram(STAGE_BOUNDS_S) for stage in STAGES}
        self.candidates: Counter[str] = Counter(dict.fromkeys([*_OUT, "in", "ranked", "served"], 0))

    def by_lane(self, kind: str, run: Run) -> RunAll:
        """What runs a micro-batch lane by lane, as `lanes.by_lane`; each lane is counted as a batch of its kind."""
        sizes = self.size[kind,] = Histogram(SIZE_BOUNDS)

        async def counted(serving: Serving, waiters: Waiters, found: Sequence[State]) -> Sequence[Answer]:
            began = monotonic()
            answers = await run(serving, waiters, found)
            sizes.count(len(answers))
            self._count(answers)
            _note(serving, waiters, found, answers, began)
            return answers

        return partial(lanes.by_lane, counted)

    def _count(self, answers: Sequence[Answer]) -> None:
        first, requests = answers[0], len(answers)
        for stage, took_ms in first.timing_ms.items():
            if stage not in ("queue", "features"):
                self.stage_s[stage,].count(took_ms / 1e3, requests)
        queue, features = self.stage_s["queue",], self.stage_s["features",]
        for one in answers:  # .3 us each; made into arrays 7 us for one, 12 for 32 of them
            took = one.timing_ms
            queue.count(took["queue"] / 1e3)
            features.count(took["features"] / 1e3)
        slates, counts = first.slates, self.candidates
        ruled_out = slates.removed.sum(axis=0).tolist()
        for name, count in zip(_OUT, ruled_out, strict=True):
            counts[name] += count
        counts["in"] += requests * len(first.world.bundle.vocabulary) - sum(ruled_out)
        counts["ranked"] += int(slates.ranked.sum())
        counts["served"] += len(slates.item)


def _note(serving: Serving, waiters: Waiters, found: Sequence[State], answers: Sequence[Answer], began: float) -> None:
    """Tell the traces of sampled requests where they were answered."""
    batch: Batch | None = None
    for waiter, state, answer in zip(waiters, found, answers, strict=True):
        trace = waiter.asked.trace
        if trace is None:
            continue
        if batch is None:
            batch = Batch(len(waiters), serving.world.bundle.id, began)
        trace.batch = batch
        batch.members.append((trace.trace_id, trace.span_id))
        looked_up = state.began + state.took_ms / 1e3
        trace.stages += [("queue", waiter.since, state.began), ("features", state.began, looked_up)]
        at = began
        for stage in STAGES[2:]:
            if (took_ms := answer.timing_ms.get(stage)) is not None:
                trace.stages.append((stage, at, at := at + took_ms / 1e3))
    if batch is not None:
        batch.ended = monotonic()

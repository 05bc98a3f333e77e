"""Micro-batching: the next batch is whoever queued while the last one ran.

A batch has two steps. `prepare` waits for I/O; whoever queues meanwhile is prepared too, once, and joins. `run` answers
them all. Without the joining, requests that come in groups would split into a first one and the rest.

While other threads keep this one waiting for its processor, a batch that begins at once takes time from everybody, and
small batches take most of it. So under load it waits for more, the longer the more crowded it is (decision 0039).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from time import monotonic
from typing import Generic, TypeVar

from service.crowding import Crowding
from service.errors import BatchFailed, HttpError, Overloaded
from service.pace import Pace

FREE = 0.15  # crowded by less a thread has its processor nearly to itself: that of a lone client is by .08
HELD_S = 0.016  # what a batch waits, times what it is crowded by beyond that: 1 ms where that is .06, 3 where .2
HELD_LEAST_S, HELD_MOST_S = 0.0005, 0.004
GATHERED = 8  # requests that need not wait for more: most of what larger batches save is saved
REST_S = 0.05  # since the last batch began: after that nobody is expected
_log = logging.getLogger(__name__)

Asked = TypeVar("Asked")
Prepared = TypeVar("Prepared")
Answered = TypeVar("Answered")


class Waiter(Generic[Asked, Answered]):
    """One request in the queue: what is asked, its deadline on the monotonic clock, and where the answer goes."""

    __slots__ = ("asked", "batched", "deadline", "future", "since")

    def __init__(self, asked: Asked, deadline: float, future: "asyncio.Future[Answered]") -> None:
        self.asked, self.deadline, self.future = asked, deadline, future
        self.since = monotonic()
        self.batched = False


class MicroBatcher(Generic[Asked, Prepared, Answered]):
    """Runs one batch at a time over whatever waits, and lets nobody wait in vain.

    A batcher that has rested starts at once with a batch of one. A waiter that was cancelled, or whose deadline passed
    before its batch began, is left out; that changes nothing for the others. A batch that raises fails each of them.

    Args:
        prepare: Gets what each of some waiters needs, one result per waiter, in order.
        run: Answers a batch, one answer per waiter, in order; an exception is that of its waiter alone.
        max_batch: Largest batch.
        max_waiting: Waiters beyond which more are shed.
        crowded: The share of the time in which the thread could run and did not; None: as `service.crowding` reads it.
    """

    def __init__(
        self,
        prepare: Callable[[Sequence[Waiter[Asked, Answered]]], Awaitable[Sequence[Prepared]]],
        run: Callable[
            [Sequence[Waiter[Asked, Answered]], Sequence[Prepared]], Awaitable[Sequence[Answered | Exception]]
        ],
        *,
        max_batch: int,
        max_waiting: int,
        crowded: Callable[[], float] | None = None,
    ) -> None:
        self._prepare = prepare
        self._run = run
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._crowded = crowded or Crowding().share
        self._waiting: deque[Waiter[Asked, Answered]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._pace = Pace()
        self._began, self._size = -inf, 0  # of the batch under way; none: size 0
        self.shed = 0  # requests refused at the door or past their deadline in the queue

    def __len__(self) -> int:
        return len(self._waiting)

    def is_busy(self) -> bool:
        """Whether anybody waits or is being answered."""
        return bool(self._waiting or self._size)

    def room(self, within_s: float) -> int:
        """How many requests may be here at once, so that one more would be answered within so long.

        They are a batch under way and the next one. Never fewer than two quarters of a full batch: where only small
        batches run, each of their requests seems to take long, and nothing would show that it does not. And not below
        two: with room for none HAProxy would let nobody in to be told of more.
        """
        return self._pace.fits(within_s, least=max(2, self._max_batch // 2), most=2 * self._max_batch)

    def backlog_s(self) -> float:
        """How long those who wait will take, the batch under way not counted."""
        return self._takes_s(len(self._waiting))

    def wait_s(self) -> float:
        """How long one more request would wait for the end of its batch."""
        under_way_s = self._began + self._pace.takes_s(self._size) - monotonic() if self._size else 0.0
        return max(under_way_s, 0.0) + self._takes_s(len(self._waiting) + 1)

    def _takes_s(self, requests: int) -> float:
        full, rest = divmod(requests, self._max_batch)
        return full * self._pace.takes_s(self._max_batch) + (self._pace.takes_s(rest) if rest else 0.0)

    async def ask(self, asked: Asked, *, deadline: float, latest: float | None = None) -> Answered:
        """The answer to one request.

        Whom an idle batcher could answer at once is never refused: from their batch it learns that it is fast again.

        Args:
            deadline: On the monotonic clock. latest: When the batch has to be done as predicted; None: by the deadline.
        Raises:
            Overloaded: too many wait, or for too long, or the deadline passed before the batch began.
            TimeoutError: the deadline passed while the batch was under way; the batch goes on for the others.
            BatchFailed: the batch raised something that is not an `HttpError`; the cause is in the log.
        """
        if len(self._waiting) >= self._max_waiting:
            self.shed += 1
            raise Overloaded(f"{self._max_waiting} requests wait already; try again later")
        left_s = (deadline if latest is None else latest) - monotonic()
        if (self._waiting or self._size) and (wait_s := self.wait_s()) > left_s:
            self.shed += 1
            raise Overloaded(f"the answer would take about {wait_s * 1e3:.0f} ms; try again later", wait_s)
        loop = asyncio.get_running_loop()
        waiter: Waiter[Asked, Answered] = Waiter(asked, deadline, loop.create_future())
        # A timer on the future: asyncio.timeout() showed up in the profile of the request path.
        timer = loop.call_later(deadline - waiter.since, self._expire, waiter)
        self._waiting.append(waiter)
        if self._task is None:
            self._task = loop.create_task(self._drain())
        try:
            return await waiter.future
        finally:
            timer.cancel()

    async def _drain(self) -> None:
        try:
            while self._waiting:
                if held_s := self._held_s():
                    await asyncio.sleep(held_s)
                batch = self._next(self._max_batch)
                if batch:
                    # Until the next one begins: with what the loop does between, such as encoding the answers.
                    self._began, self._size = monotonic(), len(batch)
                    await self._answer(batch)
                    self._pace.ran(len(batch), monotonic() - self._began)
        finally:
            self._task, self._size = None, 0

    def _held_s(self) -> float:
        """How long the next batch waits for more: not after a rest, on a free processor, or where time is short."""
        now, waiting = monotonic(), len(self._waiting)
        if waiting >= min(GATHERED, self._max_batch) or now - self._began > REST_S:
            return 0.0
        held_s = min(HELD_S * (self._crowded() - FREE), HELD_MOST_S)
        if held_s < HELD_LEAST_S:
            return 0.0
        left_s = min(waiter.deadline for waiter in self._waiting) - now - 2 * self._pace.takes_s(waiting)
        return held_s if held_s < left_s else 0.0

    def _next(self, most: int) -> list[Waiter[Asked, Answered]]:
        batch: list[Waiter[Asked, Answered]] = []
        now = monotonic()
        while self._waiting and len(batch) < most:
            waiter = self._waiting.popleft()
            if waiter.future.done():
                continue
            if now > waiter.deadline:
                self._expire(waiter)
            else:
                waiter.batched = True
                batch.append(waiter)
        return batch

    def _expire(self, waiter: Waiter[Asked, Answered]) -> None:
        """The deadline has passed: shed who still queues; who is being answered gets what can be had at once."""
        if waiter.future.done():
            return
        if waiter.batched:
            waiter.future.set_exception(TimeoutError("the deadline passed while the request was being answered"))
        else:
            self.shed += 1
            waiter.future.set_exception(Overloaded("the deadline passed in the queue; try again later"))

    async def _answer(self, batch: list[Waiter[Asked, Answered]]) -> None:
        """Answer a batch, to which those that queue while it is prepared are added."""
        try:
            ready = list(zip(batch, await self._prepare(batch), strict=True))
            if late := self._next(self._max_batch - len(batch)):
                batch += late
                self._size = len(batch)
                ready += zip(late, await self._prepare(late), strict=True)
            answers = await self._run(batch, [prepared for _, prepared in ready])
            answered = list(zip(batch, answers, strict=True))
        except (Exception, asyncio.CancelledError) as error:
            if not isinstance(error, HttpError):
                _log.exception("a micro-batch of %d failed", len(batch))
                error = BatchFailed("the batch of this request failed; try again")
            for waiter in batch:
                if not waiter.future.done():
                    waiter.future.set_exception(error)
            return  # a cancellation is the batch's own failure: those queued behind it are still answered
        for waiter, answer in answered:
            if not waiter.future.done():
                if isinstance(answer, Exception):
                    waiter.future.set_exception(answer)
                else:
                    waiter.future.set_result(answer)

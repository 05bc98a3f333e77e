"""Micro-batching: who is batched with whom, and what becomes of those whose batch, or patience, fails."""

import asyncio
import logging
import random
from collections.abc import Sequence
from time import monotonic

import pytest

from service.errors import BatchFailed, HttpError, NotFound, Overloaded
from service.microbatch import MicroBatcher, Waiter

LATER_S = 60.0
Batcher = MicroBatcher[int, int]


class Doubling:
    """Answers twice what is asked and notes each batch; its gate holds answers back, `failure` fails one batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: BaseException | None = None

    async def __call__(self, waiters: Sequence[Waiter[int, int]]) -> list[int]:
        asked = [waiter.asked for waiter in waiters]
        self.batches.append(asked)
        await self.gate.wait()
        failure, self.failure = self.failure, None
        if failure:
            raise failure
        return [2 * one for one in asked]


def batcher(run: Doubling, *, max_batch: int = 32, max_waiting: int = 128) -> Batcher:
    return MicroBatcher(run, max_batch=max_batch, max_waiting=max_waiting)


def asking(queue: Batcher, asked: int, *, for_s: float = LATER_S) -> asyncio.Task[int]:
    return asyncio.create_task(queue.ask(asked, deadline=monotonic() + for_s))


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(10):
        await asyncio.sleep(0)


async def outcomes(*tasks: asyncio.Task[int]) -> list[int | BaseException]:
    """Results and exceptions, in order."""
    return await asyncio.gather(*tasks, return_exceptions=True)


# --- batches ---


async def test_idle_batcher_starts_at_once_with_a_batch_of_one() -> None:
    run = Doubling()
    queue = batcher(run)
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_at = loop.call_at
    loop.call_at = lambda when, *rest, **more: (timers.append(when), call_at(when, *rest, **more))[1]  # type: ignore
    for asked in range(100):
        assert await queue.ask(asked, deadline=monotonic() + LATER_S) == 2 * asked
    assert run.batches == [[asked] for asked in range(100)]
    assert timers == []  # nothing waited for time to pass


async def test_next_batch_is_whoever_queued_while_the_last_one_ran() -> None:
    run = Doubling()
    run.gate.clear()
    queue = batcher(run)
    first = asking(queue, 0)
    await settle()
    others = [asking(queue, asked) for asked in (3, 1, 2)]
    await settle()
    assert run.batches == [[0]]
    assert len(queue) == 3
    run.gate.set()
    assert await outcomes(first, *others) == [0, 6, 2, 4]
    assert run.batches == [[0], [3, 1, 2]]
    assert len(queue) == 0


async def test_batches_are_never_larger_than_max_batch_and_keep_the_order() -> None:
    run = Doubling()
    answers = await outcomes(*(asking(queue, asked) for queue in [batcher(run, max_batch=4)] for asked in range(10)))
    assert answers == [2 * asked for asked in range(10)]
    assert run.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


# --- those who leave ---


async def test_cancelled_waiter_in_the_queue_is_left_out_and_its_neighbours_are_answered() -> None:
    run = Doubling()
    run.gate.clear()
    queue = batcher(run)
    tasks = [asking(queue, 0)]
    await settle()
    tasks += [asking(queue, asked) for asked in (1, 2, 3)]
    await settle()
    tasks[2].cancel()
    await settle()
    run.gate.set()
    answers = await outcomes(*tasks)
    assert isinstance(answers[2], asyncio.CancelledError)
    assert [answers[0], answers[1], answers[3]] == [0, 2, 6]
    assert run.batches == [[0], [1, 3]]


async def test_cancelled_waiter_in_the_running_batch_leaves_its_neighbours_untouched() -> None:
    run = Doubling()
    run.gate.clear()
    queue = batcher(run)
    tasks = [asking(queue, asked) for asked in (1, 2, 3)]
    await settle()
    tasks[1].cancel()
    await settle()
    run.gate.set()
    answers = await outcomes(*tasks)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert [answers[0], answers[2]] == [2, 6]
    assert run.batches == [[1, 2, 3]]


async def test_batch_of_nobody_is_not_run() -> None:
    run = Doubling()
    run.gate.clear()
    queue = batcher(run)
    first = asking(queue, 0)
    await settle()
    second = asking(queue, 1)
    await settle()
    second.cancel()
    run.gate.set()
    await outcomes(first, second)
    assert run.batches == [[0]]
    assert await queue.ask(2, deadline=monotonic() + LATER_S) == 4


# --- batches that fail ---


async def test_failed_batch_fails_each_of_its_waiters_and_logs_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    run = Doubling()
    cause = run.failure = ZeroDivisionError("in the model")
    queue = batcher(run)
    answers = await outcomes(*(asking(queue, asked) for asked in range(3)))
    assert [type(answer) for answer in answers] == [BatchFailed] * 3
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is cause


async def test_http_error_of_a_batch_reaches_its_waiters_as_itself(caplog: pytest.LogCaptureFixture) -> None:
    run = Doubling()
    cause = run.failure = NotFound("no item is left")
    answers = await outcomes(asking(batcher(run), 1))
    assert answers == [cause]
    assert not caplog.records


@pytest.mark.parametrize("answers", [[], [1], [1, 2, 3]])
async def test_batch_with_a_wrong_number_of_answers_fails_instead_of_hanging(answers: list[int]) -> None:
    async def run(_: Sequence[Waiter[int, int]]) -> list[int]:
        return answers

    queue: Batcher = MicroBatcher(run, max_batch=8, max_waiting=8)
    assert [type(one) for one in await outcomes(asking(queue, 1), asking(queue, 2))] == [BatchFailed] * 2


async def test_batcher_works_again_after_a_failure_and_those_behind_it_are_answered() -> None:
    run = Doubling()
    run.failure = RuntimeError("once")
    run.gate.clear()
    queue = batcher(run)
    first = asking(queue, 1)
    await settle()
    second = asking(queue, 2)
    await settle()
    run.gate.set()
    with pytest.raises(BatchFailed):
        await first
    assert await second == 4
    assert await queue.ask(3, deadline=monotonic() + LATER_S) == 6


async def test_batch_that_is_cancelled_from_within_does_not_strand_those_queued_behind_it() -> None:
    run = Doubling()
    run.failure = asyncio.CancelledError()  # as from a call to another process that was cancelled there
    run.gate.clear()
    queue = batcher(run)
    first = asking(queue, 1)
    await settle()
    second = asking(queue, 2)
    await settle()
    run.gate.set()
    done, _ = await asyncio.wait([first, second], timeout=1)
    assert done == {first, second}


# --- those who are shed ---


async def test_requests_beyond_max_waiting_are_shed_and_counted() -> None:
    run = Doubling()
    run.gate.clear()
    queue = batcher(run, max_batch=2, max_waiting=3)
    tasks = [asking(queue, 0)]
    await settle()
    tasks += [asking(queue, asked) for asked in range(1, 6)]
    await settle()
    assert len(queue) == 3
    run.gate.set()
    answers = await outcomes(*tasks)
    assert answers[:4] == [0, 2, 4, 6]
    assert [type(answer) for answer in answers[4:]] == [Overloaded] * 2
    assert "3 requests wait already" in str(answers[4])
    assert queue.shed == 2


async def test_request_whose_deadline_passed_in_the_queue_is_shed_and_its_neighbours_are_answered() -> None:
    run = Doubling()
    run.gate.clear()
    queue = batcher(run)
    first = asking(queue, 0, for_s=0.01)
    await settle()
    late, patient = asking(queue, 1, for_s=0.01), asking(queue, 2)
    await asyncio.sleep(0.03)
    run.gate.set()
    answers = await outcomes(first, late, patient)
    assert [answers[0], answers[2]] == [0, 4]  # the first one's batch had begun in time
    assert isinstance(answers[1], Overloaded)
    assert "deadline" in str(answers[1])
    assert run.batches == [[0], [2]]
    assert queue.shed == 1


# --- all of it at once ---


async def test_of_ten_thousand_requests_each_gets_its_own_answer_or_its_own_failure() -> None:
    chance = random.Random(5)
    failed: set[int] = set()

    async def run(waiters: Sequence[Waiter[int, int]]) -> list[int]:
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        if chance.random() < 0.02:
            failed.update(waiter.asked for waiter in waiters)
            raise NotFound("this batch has none")
        return [2 * waiter.asked for waiter in waiters]

    queue: Batcher = MicroBatcher(run, max_batch=16, max_waiting=64)
    tasks: list[asyncio.Task[int]] = []
    for asked in range(10_000):
        tasks.append(asking(queue, asked))
        if chance.random() < 0.2:
            chance.choice(tasks[-40:]).cancel()
        if chance.random() < 0.1:
            await asyncio.sleep(0)
    answers = await outcomes(*tasks)
    kinds = {"answered": 0, "cancelled": 0, "failed": 0, "shed": 0}
    for asked, answer in enumerate(answers):
        if isinstance(answer, int):
            assert answer == 2 * asked
            kinds["answered"] += 1
        elif isinstance(answer, Overloaded):
            kinds["shed"] += 1
        elif isinstance(answer, HttpError):
            assert asked in failed
            kinds["failed"] += 1
        else:
            assert isinstance(answer, asyncio.CancelledError)
            kinds["cancelled"] += 1
    assert min(kinds.values()) > 50  # the run met all four
    assert kinds["answered"] > 5_000
    assert kinds["shed"] == queue.shed
    assert len(queue) == 0

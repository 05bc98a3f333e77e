"""Micro-batching: who is batched with whom, and what becomes of those whose batch, or patience, fails."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from time import monotonic

import pytest

from service import microbatch
from service.errors import BatchFailed, HttpError, NotFound, Overloaded, Unprocessable
from service.microbatch import MicroBatcher, Waiter

LATER_S = 60.0
Batcher = MicroBatcher[int, None, int]
Summing = MicroBatcher[int, int, int]


def free() -> float:
    """A processor of one's own."""
    return 0.0


async def nothing(waiters: Sequence[Waiter[int, int]]) -> list[None]:
    """A first step that needs no time."""
    return [None] * len(waiters)


class Doubling:
    """Answers twice what is asked and notes each batch; its gate holds answers back, `failure` fails one batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: BaseException | None = None

    async def __call__(self, waiters: Sequence[Waiter[int, int]], prepared: Sequence[None]) -> list[int]:
        assert list(prepared) == [None] * len(waiters)
        asked = [waiter.asked for waiter in waiters]
        self.batches.append(asked)
        await self.gate.wait()
        failure, self.failure = self.failure, None
        if failure:
            raise failure
        return [2 * one for one in asked]


class Preparing:
    """Prepares 10 times what is asked and notes each call; each waits for a `step`. `failures` is by call number."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.failures: dict[int, BaseException] = {}
        self._steps = asyncio.Semaphore(0)

    async def __call__(self, waiters: Sequence[Waiter[int, int]]) -> list[int]:
        asked, number = [waiter.asked for waiter in waiters], len(self.calls)
        self.calls.append(asked)
        await self._steps.acquire()
        if number in self.failures:
            raise self.failures[number]
        return [10 * one for one in asked]

    async def step(self, times: int = 1) -> None:
        """Let the call under way, or the next ones, end."""
        for _ in range(times):
            self._steps.release()
        await settle()


class Adding:
    """Answers what is asked plus what was prepared, 11 times what is asked, and notes each batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def __call__(self, waiters: Sequence[Waiter[int, int]], prepared: Sequence[int]) -> list[int]:
        self.batches.append([waiter.asked for waiter in waiters])
        return [waiter.asked + ready for waiter, ready in zip(waiters, prepared, strict=True)]


def batcher(run: Doubling, *, max_batch: int = 32, max_waiting: int = 128) -> Batcher:
    return MicroBatcher(nothing, run, max_batch=max_batch, max_waiting=max_waiting, crowded=free)


def two_steps(*, max_batch: int = 32) -> tuple[Preparing, Adding, Summing]:
    prepare, run = Preparing(), Adding()
    return prepare, run, MicroBatcher(prepare, run, max_batch=max_batch, max_waiting=128, crowded=free)


def noted_timers() -> list[asyncio.TimerHandle]:
    """Every timer of the running loop from now on."""
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []
    call_at = loop.call_at
    loop.call_at = lambda *given, **more: (timers.append(call_at(*given, **more)), timers[-1])[1]  # type: ignore
    return timers


def asking(queue: Batcher | Summing, asked: int, *, for_s: float = LATER_S) -> asyncio.Task[int]:
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
    began, timers = asyncio.get_running_loop().time(), noted_timers()
    for asked in range(100):
        assert await queue.ask(asked, deadline=monotonic() + LATER_S) == 2 * asked
    assert run.batches == [[asked] for asked in range(100)]
    assert len(timers) == 100  # one for each deadline, and nothing waited for time to pass
    assert min(timer.when() for timer in timers) >= began + LATER_S


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


# --- two steps ---


async def test_whoever_queues_while_a_batch_is_prepared_is_prepared_too_once_and_joins() -> None:
    prepare, run, queue = two_steps()
    tasks = [asking(queue, 1)]
    await settle()
    tasks += [asking(queue, asked) for asked in (3, 2)]
    await settle()
    assert (prepare.calls, len(queue)) == ([[1]], 2)
    await prepare.step()
    assert (prepare.calls, len(queue)) == ([[1], [3, 2]], 0)
    assert run.batches == []
    await prepare.step()
    assert await outcomes(*tasks) == [11, 33, 22]
    assert run.batches == [[1, 3, 2]]
    assert prepare.calls == [[1], [3, 2]]


async def test_batch_that_others_join_is_never_larger_than_max_batch() -> None:
    prepare, run, queue = two_steps(max_batch=3)
    tasks = [asking(queue, 1)]
    await settle()
    tasks += [asking(queue, asked) for asked in range(2, 7)]
    await settle()
    await prepare.step(2)
    assert run.batches == [[1, 2, 3]]
    assert prepare.calls == [[1], [2, 3], [4, 5, 6]]
    tasks.append(asking(queue, 7))  # queues beside a full batch: there is no second preparation
    await settle()
    await prepare.step()
    assert run.batches == [[1, 2, 3], [4, 5, 6]]
    await prepare.step()
    assert await outcomes(*tasks) == [11 * asked for asked in range(1, 8)]
    assert prepare.calls == [[1], [2, 3], [4, 5, 6], [7]]


async def test_those_who_come_during_the_second_preparation_wait_for_the_next_batch() -> None:
    prepare, run, queue = two_steps()
    tasks = [asking(queue, 1)]
    await settle()
    tasks.append(asking(queue, 2))
    await settle()
    await prepare.step()
    tasks += [asking(queue, asked) for asked in (3, 4)]
    await settle()
    assert (prepare.calls, len(queue)) == ([[1], [2]], 2)
    await prepare.step()
    assert run.batches == [[1, 2]]
    assert prepare.calls == [[1], [2], [3, 4]]
    await prepare.step()
    assert await outcomes(*tasks) == [11, 22, 33, 44]
    assert run.batches == [[1, 2], [3, 4]]


async def test_waiter_that_left_before_the_second_preparation_is_not_prepared() -> None:
    prepare, run, queue = two_steps()
    tasks = [asking(queue, 1)]
    await settle()
    tasks += [asking(queue, asked) for asked in (2, 3)]
    await settle()
    tasks[1].cancel()
    await settle()
    await prepare.step(2)
    answers = await outcomes(*tasks)
    assert [answers[0], answers[2]] == [11, 33]
    assert (prepare.calls, run.batches) == ([[1], [3]], [[1, 3]])


async def test_what_was_prepared_for_a_waiter_that_left_goes_to_no_other() -> None:
    prepare, _, queue = two_steps()
    tasks = [asking(queue, asked) for asked in (1, 2, 3)]
    await settle()
    tasks += [asking(queue, asked) for asked in (4, 5)]
    await settle()
    tasks[1].cancel()
    await prepare.step()
    tasks[3].cancel()
    await prepare.step()
    answers = await outcomes(*tasks)
    assert [type(answers[gone]) for gone in (1, 3)] == [asyncio.CancelledError] * 2
    assert [answers[kept] for kept in (0, 2, 4)] == [11, 33, 55]


@pytest.mark.parametrize("typed", [True, False], ids=["an HttpError", "another error"])
@pytest.mark.parametrize("second", [False, True], ids=["first preparation", "second preparation"])
async def test_failing_preparation_fails_every_waiter_of_its_batch_and_no_other(
    second: bool, typed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    prepare, run, queue = two_steps()
    cause = prepare.failures[int(second)] = NotFound("no store") if typed else ConnectionError("no store")
    tasks = [asking(queue, asked) for asked in (1, 2)]
    await settle()
    tasks.append(asking(queue, 3))
    await settle()
    if second:
        await prepare.step()
        tasks.append(asking(queue, 4))
        await settle()
    await prepare.step(2)
    answers = await outcomes(*tasks)
    failed = len(tasks) - 1
    assert [type(answer) for answer in answers[:failed]] == [NotFound if typed else BatchFailed] * failed
    assert answers[failed:] == [11 * len(tasks)]
    assert run.batches == [[len(tasks)]]
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == ([] if typed else [cause])


# --- deadlines ---


async def test_deadline_that_passes_during_a_preparation_times_out_that_waiter_only() -> None:
    prepare, run, queue = two_steps()
    tasks = [asking(queue, 1), asking(queue, 2, for_s=0.02), asking(queue, 3)]
    await settle()
    joined = [asking(queue, 4), asking(queue, 5, for_s=0.05)]
    await settle()
    with pytest.raises(TimeoutError, match="the deadline passed while the request was being answered"):
        await tasks[1]
    await prepare.step()
    assert prepare.calls == [[1, 2, 3], [4, 5]]
    with pytest.raises(TimeoutError):
        await joined[1]
    assert not any(task.done() for task in (tasks[0], tasks[2], joined[0]))
    await prepare.step()
    assert await outcomes(tasks[0], tasks[2], joined[0]) == [11, 33, 44]
    assert run.batches == [[1, 2, 3, 4, 5]]


async def test_deadline_that_passes_while_the_batch_runs_times_out_that_waiter_only() -> None:
    run = Doubling()
    run.gate.clear()
    queue = batcher(run)
    tasks = [asking(queue, 1), asking(queue, 2, for_s=0.02), asking(queue, 3)]
    with pytest.raises(TimeoutError):
        await tasks[1]
    assert run.batches == [[1, 2, 3]]
    assert not tasks[0].done()
    run.gate.set()
    assert await outcomes(tasks[0], tasks[2]) == [2, 6]
    assert queue.shed == 0


async def test_no_timer_outlives_its_request_however_that_ended() -> None:
    run = Doubling()
    queue = batcher(run)
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    timers = noted_timers()
    answered = asking(queue, 1, for_s=0.05)
    assert await answered == 2
    run.failure = RuntimeError("once")
    failed = asking(queue, 2, for_s=0.05)
    await outcomes(failed)
    run.gate.clear()
    cancelled = asking(queue, 3, for_s=0.05)
    await settle()
    cancelled.cancel()
    await outcomes(cancelled)
    assert len(timers) == 3
    assert all(timer.cancelled() for timer in timers)
    run.gate.set()
    await asyncio.sleep(0.08)
    assert complaints == []
    assert answered.result() == 2
    assert isinstance(failed.exception(), BatchFailed)


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
    async def run(_: Sequence[Waiter[int, int]], __: Sequence[None]) -> list[int]:
        return answers

    queue: Batcher = MicroBatcher(nothing, run, max_batch=8, max_waiting=8, crowded=free)
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


async def test_request_whose_deadline_passes_in_the_queue_is_shed_there_and_its_neighbours_are_answered() -> None:
    run = Doubling()
    run.gate.clear()
    queue = batcher(run)
    first = asking(queue, 0)
    await settle()
    late, patient = asking(queue, 1, for_s=0.01), asking(queue, 2)
    with pytest.raises(Overloaded, match="in the queue"):
        await late
    assert queue.shed == 1
    assert not first.done()  # it did not wait for the batch before it
    run.gate.set()
    assert await outcomes(first, patient) == [0, 4]
    assert run.batches == [[0], [2]]


async def test_request_whose_deadline_passed_while_computation_held_the_loop_is_shed() -> None:
    batches: list[list[int]] = []
    gate = asyncio.Event()

    async def run(waiters: Sequence[Waiter[int, int]], _: Sequence[None]) -> list[int]:
        batches.append([waiter.asked for waiter in waiters])
        await gate.wait()
        if len(batches) == 1:
            time.sleep(0.3)
        return [2 * waiter.asked for waiter in waiters]

    queue: Batcher = MicroBatcher(nothing, run, max_batch=8, max_waiting=8, crowded=free)
    first = asking(queue, 0, for_s=0.2)
    await settle()
    late, patient = asking(queue, 1, for_s=0.2), asking(queue, 2)
    await settle()
    gate.set()
    answers = await outcomes(first, late, patient)
    assert [answers[0], answers[2]] == [0, 4]  # the first one's batch had begun in time
    assert isinstance(answers[1], Overloaded)
    assert "deadline" in str(answers[1])
    assert batches == [[0], [2]]
    assert queue.shed == 1


class Slow:
    """Answers after a time that grows with the batch; `each_s` may change."""

    def __init__(self, each_s: float) -> None:
        self.each_s = each_s

    async def __call__(self, waiters: Sequence[Waiter[int, int]], _: Sequence[None]) -> list[int]:
        await asyncio.sleep(self.each_s * len(waiters))
        return [2 * waiter.asked for waiter in waiters]


async def test_who_would_wait_too_long_is_refused_at_once_and_told_when_to_come_back() -> None:
    run = Slow(0.01)
    queue: Batcher = MicroBatcher(nothing, run, max_batch=4, max_waiting=1000, crowded=free)
    for _ in range(5):
        await outcomes(*(asking(queue, n) for n in range(4)))
    began = monotonic()
    tasks = [asyncio.create_task(queue.ask(n, deadline=began + 0.2, latest=began + 0.12)) for n in range(40)]
    await settle()
    refused = [task for task in tasks if task.done()]
    assert monotonic() - began < 0.03
    assert 20 <= len(refused) <= 32  # batches of 40 ms fit into 120 ms, twelve requests
    with pytest.raises(Overloaded, match=r"would take about \d+ ms") as error:
        await refused[0]
    assert 0.1 < error.value.retry_after_s < 0.4
    answers = await outcomes(*(task for task in tasks if task not in refused))
    assert all(isinstance(answer, int) for answer in answers)
    assert monotonic() - began < 0.2
    assert queue.shed == len(refused)


async def test_who_has_less_time_left_is_refused_sooner() -> None:
    queue: Batcher = MicroBatcher(nothing, Slow(0.01), max_batch=4, max_waiting=1000, crowded=free)
    for _ in range(5):
        await outcomes(*(asking(queue, n) for n in range(4)))
    tasks = [asking(queue, n) for n in range(6)]
    await settle()
    wait_s = queue.wait_s()
    assert wait_s > 0.02
    with pytest.raises(Overloaded):
        await queue.ask(6, deadline=monotonic() + LATER_S, latest=monotonic() + 0.7 * wait_s)
    assert await queue.ask(7, deadline=monotonic() + LATER_S, latest=monotonic() + 2 * wait_s) == 14
    await outcomes(*tasks)


async def test_an_idle_batcher_refuses_nobody_and_so_learns_that_it_is_fast_again() -> None:
    run = Slow(0.2)
    queue: Batcher = MicroBatcher(nothing, run, max_batch=4, max_waiting=8, crowded=free)
    for n in range(10):
        await queue.ask(n, deadline=monotonic() + LATER_S)
    run.each_s = 0.0
    assert queue.wait_s() > 0.1
    for n in range(100):
        assert await queue.ask(n, deadline=monotonic() + 0.1, latest=monotonic() + 0.05) == 2 * n
    assert queue.wait_s() < 0.05


async def test_backlog_is_what_those_who_wait_will_take() -> None:
    run = Slow(0.01)
    queue: Batcher = MicroBatcher(nothing, run, max_batch=4, max_waiting=100, crowded=free)
    for _ in range(5):
        await outcomes(*(asking(queue, n) for n in range(4)))
    assert queue.backlog_s() == 0
    tasks = [asking(queue, n) for n in range(12)]
    await settle()
    assert queue.backlog_s() == pytest.approx(0.08, rel=0.3)  # eight of them; four are under way
    await outcomes(*tasks)


async def test_room_is_what_two_batches_answer_in_time_and_never_less_than_lets_it_learn() -> None:
    run = Slow(0.01)
    queue: Batcher = MicroBatcher(nothing, run, max_batch=16, max_waiting=100, crowded=free)
    assert queue.room(0.1) == 32
    for size in (1, 8, 16) * 3:
        await outcomes(*(asking(queue, n) for n in range(size)))
    assert queue.room(0.12) == pytest.approx(12, abs=2)
    assert queue.room(0.02) == 8
    assert queue.room(10.0) == 32


async def test_room_is_never_none_for_then_nobody_would_come_whom_to_tell_of_more() -> None:
    for max_batch in (1, 2, 3):
        queue: Batcher = MicroBatcher(nothing, Slow(0.01), max_batch=max_batch, max_waiting=8, crowded=free)
        await queue.ask(1, deadline=monotonic() + LATER_S)
        assert queue.room(0.001) == 2


# --- all of it at once ---


async def test_of_ten_thousand_requests_each_gets_its_own_answer_or_its_own_failure() -> None:
    chance = random.Random(5)
    failed: set[int] = set()
    prepared: Counter[int] = Counter()
    calls = {"prepare": 0, "unprepared": 0, "run": 0}

    async def prepare(waiters: Sequence[Waiter[int, int]]) -> list[int]:
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        calls["prepare"] += 1
        prepared.update(waiter.asked for waiter in waiters)
        if chance.random() < 0.02:
            calls["unprepared"] += 1
            raise Unprocessable("nothing is prepared")
        return [waiter.asked for waiter in waiters]

    async def run(waiters: Sequence[Waiter[int, int]], ready: Sequence[int]) -> list[int]:
        calls["run"] += 1
        assert len(waiters) <= 16
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        if chance.random() < 0.02:
            failed.update(waiter.asked for waiter in waiters)
            raise NotFound("this batch has none")
        return [waiter.asked + one for waiter, one in zip(waiters, ready, strict=True)]

    queue: Summing = MicroBatcher(prepare, run, max_batch=16, max_waiting=64, crowded=free)
    tasks: list[asyncio.Task[int]] = []
    for asked in range(10_000):
        tasks.append(asking(queue, asked))
        if chance.random() < 0.2:
            chance.choice(tasks[-40:]).cancel()
        if chance.random() < 0.1:
            await asyncio.sleep(0)
    answers = await outcomes(*tasks)
    kinds = {"answered": 0, "cancelled": 0, "failed": 0, "unprepared": 0, "shed": 0}
    for asked, answer in enumerate(answers):
        if isinstance(answer, int):
            assert answer == 2 * asked
            kinds["answered"] += 1
        elif isinstance(answer, Overloaded):
            kinds["shed"] += 1
        elif isinstance(answer, Unprocessable):
            assert asked not in failed
            kinds["unprepared"] += 1
        elif isinstance(answer, HttpError):
            assert asked in failed
            kinds["failed"] += 1
        else:
            assert isinstance(answer, asyncio.CancelledError)
            kinds["cancelled"] += 1
    assert min(kinds.values()) > 50  # the run met all five
    assert kinds["answered"] > 5_000
    assert kinds["shed"] == queue.shed
    assert set(prepared.values()) == {1}
    assert calls["prepare"] - calls["unprepared"] - calls["run"] > 20  # so many batches were joined
    assert len(queue) == 0


def held(run: Doubling, crowded: float) -> Batcher:
    return MicroBatcher(nothing, run, max_batch=32, max_waiting=128, crowded=lambda: crowded)


@pytest.mark.parametrize(("crowded", "batches"), [(0.0, [[0], [1], [2]]), (1.0, [[0], [1, 2]])])
async def test_where_the_processor_is_shared_a_batch_waits_for_who_comes_soon_after(
    monkeypatch: pytest.MonkeyPatch, crowded: float, batches: list[list[int]]
) -> None:
    monkeypatch.setattr(microbatch, "HELD_MOST_S", 0.8)
    monkeypatch.setattr(microbatch, "HELD_S", 1.0)
    monkeypatch.setattr(microbatch, "REST_S", 30.0)
    run = Doubling()
    queue = held(run, crowded)
    assert await asking(queue, 0) == 0  # after a rest nobody waits
    first = asking(queue, 1)
    await settle()
    assert await outcomes(first, asking(queue, 2)) == [2, 4]
    assert run.batches == batches


async def test_after_a_rest_and_where_enough_wait_no_batch_waits_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microbatch, "HELD_MOST_S", 30.0)
    monkeypatch.setattr(microbatch, "HELD_S", 100.0)
    monkeypatch.setattr(microbatch, "REST_S", 0.0)
    queue = held(Doubling(), 1.0)
    for one in range(3):
        assert await asking(queue, one) == 2 * one
    monkeypatch.setattr(microbatch, "REST_S", 30.0)
    enough = [asking(queue, one) for one in range(microbatch.GATHERED)]
    assert await outcomes(*enough) == [2 * one for one in range(microbatch.GATHERED)]


async def test_a_wait_too_short_to_gather_anybody_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microbatch, "REST_S", 30.0)
    queue = held(Doubling(), microbatch.FREE + microbatch.HELD_LEAST_S / microbatch.HELD_S / 2)
    await asking(queue, 0)
    assert queue._held_s() == 0.0
    assert held(Doubling(), 0.5)._held_s() == 0.0  # no batch has run
    queue._waiting.append(Waiter(1, monotonic() + LATER_S, asyncio.get_running_loop().create_future()))
    for crowded, held_s in ((0.0, 0.0), (microbatch.FREE + 0.1, microbatch.HELD_S / 10), (1.0, microbatch.HELD_MOST_S)):
        queue._crowded = lambda crowded=crowded: crowded
        assert queue._held_s() == pytest.approx(held_s)
    queue._waiting[0].deadline = monotonic() + microbatch.HELD_MOST_S  # it would have no time left for its batch
    assert queue._held_s() == 0.0
    full: Batcher = MicroBatcher(nothing, Doubling(), max_batch=1, max_waiting=8, crowded=lambda: 1.0)
    full._waiting, full._began = queue._waiting, monotonic()
    full._waiting[0].deadline = monotonic() + LATER_S
    assert full._held_s() == 0.0  # nobody could join it


async def test_who_leaves_while_a_batch_waits_for_more_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microbatch, "HELD_MOST_S", 0.05)
    monkeypatch.setattr(microbatch, "HELD_S", 1.0)
    monkeypatch.setattr(microbatch, "REST_S", 30.0)
    run = Doubling()
    queue = held(run, 1.0)
    await asking(queue, 0)
    gone = asking(queue, 1)
    await settle()
    gone.cancel()
    await outcomes(gone)
    await asyncio.sleep(0.1)
    assert await asking(queue, 2) == 4
    assert run.batches == [[0], [2]]
    assert not queue.is_busy()

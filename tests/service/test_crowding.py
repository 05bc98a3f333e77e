"""How crowded a processor is, as a thread of it sees it."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from service import crowding
from service.crowding import Crowding

pytestmark = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="only Linux tells")


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def share_beside(others: int) -> float:
    """What a thread that works sees, on one processor, beside some that work as well."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    workers = [multiprocessing.get_context("spawn").Process(target=spin, args=(60.0,)) for _ in range(others)]
    try:
        for worker in workers:
            worker.start()
        spin(1.0)  # they have started
        one = Crowding()
        one.share()
        spin(0.5)
        return one.share()
    finally:
        os.sched_setaffinity(0, before)
        for worker in workers:
            if worker.pid is not None:
                worker.kill()
                worker.join()


def test_thread_beside_others_on_its_processor_sees_a_crowd() -> None:
    assert share_beside(3) > 0.4  # alone on a machine without other work .75; half of the least that it can be


def test_share_lies_between_none_and_all_and_is_read_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([(100, 900), (200, 1200), (200, 1200), (300, 1500)])
    one = Crowding()
    monkeypatch.setattr(one.__class__, "_read", lambda _: next(readings))
    now = 1_000.0
    monkeypatch.setattr(crowding, "monotonic", lambda: now)
    assert one.share() == 0.0  # of all its life: nothing about now
    now += 0.2
    assert one.share() == 0.75
    assert one.share() == 0.75  # too soon for another reading
    now += 0.2
    assert one.share() == 0.0  # it did not run, and nobody kept it
    now += 60
    assert one.share() == 0.0  # of the whole last minute


def test_where_the_system_does_not_tell_there_is_no_crowd() -> None:
    one = Crowding()
    one._path = Path("/proc/self/no-such-file")
    assert one.share() == 0.0

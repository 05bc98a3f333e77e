"""Processes kept on one core for a while."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import psutil

from service.errors import StackError


def cores() -> list[int]:
    """The cores that this process may use, ascending.

    Raises:
        StackError: this system pins no threads (macOS).
    """
    if not hasattr(os, "sched_setaffinity"):
        raise StackError("this system cannot keep a process on one core; run this on Linux")
    return sorted(os.sched_getaffinity(0))


@contextmanager
def pinned(members: Callable[[], Iterable[psutil.Process]], core: int) -> Iterator[None]:
    """All threads of these processes, and those that they start meanwhile, on one core; afterwards as before.

    Linux pins threads, not processes: `cpu_affinity` of psutil would move the main thread and leave the others.

    Args:
        members: Asked again until all of them are pinned, and once more at the end: what they started has to be freed.
    """
    before: dict[int, set[int]] = {}
    try:
        while _pin(members(), {core}, before):
            pass
        yield
    finally:
        anywhere = set().union(*before.values())
        for thread in _threads(members()):
            if anywhere:
                _allow(thread, before.get(thread, anywhere))


def _pin(members: Iterable[psutil.Process], only: set[int], before: dict[int, set[int]]) -> bool:
    """Pin what is not pinned yet, noting what it was allowed; whether there was any."""
    found = False
    for thread in _threads(members):
        try:
            allowed = os.sched_getaffinity(thread)
        except ProcessLookupError:
            continue  # it has just ended
        if allowed != only:
            found = True
            before.setdefault(thread, allowed)
            _allow(thread, only)
    return found


def _threads(members: Iterable[psutil.Process]) -> Iterator[int]:
    for process in members:
        try:
            threads = process.threads()
        except psutil.Error:
            continue  # it has just ended
        yield from (thread.id for thread in threads)


def _allow(thread: int, cores: set[int]) -> None:
    try:
        os.sched_setaffinity(thread, cores)
    except ProcessLookupError:
        return  # it has just ended

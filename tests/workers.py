"""Processes at work that a test may kill at any moment."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess

# Each is forked from a process that has imported this much, and is at work after 0.05 s. A new interpreter was after
# 1.4 to 2.3 s: many were killed before they did anything. (pyarrow imports pandas with its first array.)
_IMPORTED = ("tests.service.compiled", "service.eraser", "service.http", "service.cli", "pandas")
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(_IMPORTED))


def start(work: Callable[..., None], *arguments: str) -> ForkServerProcess:
    """A process of its own that runs a function of a module."""
    process = _context.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def end(process: ForkServerProcess) -> None:
    """SIGKILL, wherever it is."""
    process.kill()
    process.join()
    process.close()

"""What takes long, as a task of Ray on the head, where the home is: its own process, which may die alone."""

import os
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

MOST_S = 6 * 3600.0  # then something hangs
NICENESS = 10  # whoever answers users goes first
_HEAD = {"node:__internal_head__": 0.001}  # a resource that Ray gives to the head alone


def as_task(work: Callable[..., Any], *args: Any) -> Any:
    """Run a function of a module in a task, and wait for it; raises what it raises.

    Raises:
        RuntimeError: its process has ended, killed for want of memory for instance.
    """
    task = ray.remote(num_cpus=0, resources=_HEAD, max_retries=0)(_nicely)
    try:
        begun = task.remote(work, *args)
        try:
            return ray.get(begun, timeout=MOST_S)
        except GetTimeoutError as error:
            ray.cancel(begun, force=True)
            raise RuntimeError(f"it took more than {MOST_S / 3600:.0f} h and was ended") from error
    except RayTaskError as error:
        raise error.cause if isinstance(error.cause, Exception) else error from None
    except RayError as error:
        raise RuntimeError(str(error).strip().splitlines()[0]) from error


def _nicely(work: Callable[..., Any], *args: Any) -> Any:
    os.nice(NICENESS)
    return work(*args)

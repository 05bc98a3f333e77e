"""Trials of a hyper-parameter search as tasks of Ray: one processor and one thread each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from recsys.bundle import Recipe
from recsys.training.search import Validation, trial


class RayWorkers:
    """Runs trials on the Ray that this process is connected to."""

    def __init__(self, validation: Validation) -> None:
        self._validation = ray.put(validation)  # once: its arrays are mapped by every task
        self._trial = ray.remote(num_cpus=1, max_retries=0)(_trial)

    def start(self, recipe: Recipe) -> Any:
        """As `search.Workers`."""
        return self._trial.remote(self._validation, recipe)

    def ended(self, jobs: Sequence[Any], timeout_s: float) -> list[tuple[Any, np.ndarray | Exception]]:
        """As `search.Workers`."""
        done, _ = ray.wait(list(jobs), num_returns=1, timeout=timeout_s)
        return [(job, _result(job)) for job in done]


def _trial(validation: Validation, recipe: Recipe) -> np.ndarray:
    return trial(validation, recipe, threads=1)


def _result(job: Any) -> np.ndarray | Exception:
    try:
        return ray.get(job)
    except RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else error
    except RayError as error:  # its process has ended, killed for want of memory for instance
        return RuntimeError(str(error).strip().splitlines()[0])

"""A hyper-parameter search within a time budget: trials in batches, told in order, until the time is over."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from recsys.bundle import Recipe
from recsys.errors import TrainingError
from recsys.training.search import Validation, winner
from recsys.training.search_report import Search
from recsys.training.search_space import Space, with_values
from service.search_journal import SearchJournal

TICK_S = 0.5  # between two looks at the clock
MOST_FAILED = 10  # trials in a row; then something else is wrong

Progress = Callable[[float, int, float | None], None]  # seconds so far, trials with a value, the best one


class Workers(Protocol):
    """Whoever runs trials."""

    def start(self, recipe: Recipe) -> Any:
        """Begin a trial; returns what `ended` knows it by."""

    def ended(self, jobs: Sequence[Any], timeout_s: float) -> list[tuple[Any, np.ndarray | Exception]]:
        """Those of some trials that end within a time, with the NDCG of each question or why there is none."""


def search(
    validation: Validation,
    base: Recipe,
    space: Space,
    journal: SearchJournal,
    workers: Workers,
    *,
    budget_s: float,
    parallel: int,
    progress: Progress = lambda *_: None,
    failed: Callable[[int, str], None] = lambda *_: None,
) -> Search:
    """Run trials until the budget is used or the user interrupts, and weigh the best of all that there are.

    A trial that the end of the budget cuts off runs again when the search goes on.

    Args:
        base: The default recipe: the first trial, and what the others differ from.
        parallel: Trials at once.
        progress: Told twice a second. failed: Told of each trial that ends in an error, and its message.
    Raises:
        TrainingError: the default recipe's trial failed, so there is nothing to compare with.
    """
    loop = _Loop(journal, workers, base, time.monotonic() + budget_s, progress, failed)
    try:
        while not loop.is_over():
            loop.run(journal.batch(parallel))
    except KeyboardInterrupt:
        pass  # the user has waited long enough; what has ended counts
    trials, failures = journal.counts()
    default, best = journal.default, journal.best
    won = None
    if default is not None and best is not None and trials > 1:
        users = validation.questions.user
        won = winner(journal.values(best), journal.ndcg(best), journal.ndcg(default), users, seed=base.seed)
    return Search(
        base=base,
        space=space,
        protocol=validation.protocol,
        questions=len(validation.questions),
        users=len(np.unique(validation.questions.user)),
        seed=base.seed,
        parallel=parallel,
        trials=trials,
        failed=failures,
        winner=won,
    )


class _Loop:
    """The state of a search under way."""

    def __init__(
        self,
        journal: SearchJournal,
        workers: Workers,
        base: Recipe,
        until: float,
        progress: Progress,
        failed: Callable[[int, str], None],
    ) -> None:
        self._journal, self._workers, self._base = journal, workers, base
        self._began, self._until = time.monotonic(), until
        self._progress, self._failed = progress, failed
        self._in_a_row = 0

    def is_over(self) -> bool:
        return time.monotonic() >= self._until or self._in_a_row >= MOST_FAILED

    def run(self, batch: dict[int, dict[str, Any]]) -> None:
        """Run a batch and tell what has ended, in order of the numbers whatever ended first."""
        recipes = {number: with_values(self._base, values) for number, values in batch.items()}
        jobs = {self._workers.start(recipe): number for number, recipe in recipes.items()}
        results: dict[int, np.ndarray | Exception] = {}
        try:
            while len(results) < len(jobs) and (left := self._until - time.monotonic()) > 0:
                self._show()
                waiting = [job for job, number in jobs.items() if number not in results]
                for job, result in self._workers.ended(waiting, min(TICK_S, left)):
                    results[jobs[job]] = result
        finally:
            for number in sorted(results):
                self._tell(number, results[number])
            self._show()
        for number, result in results.items():
            if recipes[number] == self._base and isinstance(result, Exception):
                raise TrainingError(f"the default recipe cannot be tried ({result}); train without --budget")

    def _tell(self, number: int, result: np.ndarray | Exception) -> None:
        if isinstance(result, Exception):
            self._journal.tell(number, None)
            self._failed(number, str(result))
            self._in_a_row += 1
        else:
            self._journal.tell(number, result)
            self._in_a_row = 0

    def _show(self) -> None:
        best = self._journal.best
        value = None if best is None else self._journal.value(best)
        self._progress(time.monotonic() - self._began, self._journal.counts()[0], value)

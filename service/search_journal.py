"""The trials of a hyper-parameter search, kept on disk as they end: a search goes on where the last one stopped.

A folder of its own for each search: optuna's journal, and the values of each trial's questions as `<number>.npy`.

The recipes of trials depend on the seed and on what was told before, nothing else: trials are asked for in batches of
a fixed size, each by a sampler of its own seed, and a trial that was running when its process ended runs again under
its number. So a search that was stopped, also by SIGKILL, goes on with the recipes of one that was not.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from recsys.bundle import Recipe
from recsys.training.search_space import Choice, Range, Space, Value, values_of
from service.errors import StackError

_STUDY = "search"
_OVER = (TrialState.COMPLETE, TrialState.FAIL)


class SearchJournal:
    """A search on disk; use `opened`."""

    def __init__(self, folder: Path, space: Space, base: Recipe, *, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path = folder / "journal"
        _mend(path)
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_Held(str(path))))
        self._folder, self._seed = folder, seed
        self._default = values_of(base, space)
        self._distributions = {one.name: _distribution(one) for one in space}
        self._study = optuna.create_study(storage=storage, study_name=_STUDY, direction="maximize", load_if_exists=True)

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, space: Space, base: Recipe, *, seed: int) -> Iterator["SearchJournal"]:
        """The journal in a folder. One search at a time for all folders beside it: they share Ray's.

        Raises:
            StackError: another process searches.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with (folder.parent / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StackError(f"another process searches in {folder.parent}; wait for it to finish") from error
            yield cls(folder, space, base, seed=seed)

    def batch(self, size: int) -> dict[int, dict[str, Value]]:
        """Values of the trials to run next, by number: those of a batch that was not finished, or `size` new ones.

        The first trial of all is the default recipe.
        """
        if not self._of(TrialState.WAITING) and self.default is None and not self._defaults(TrialState.RUNNING):
            self._study.enqueue_trial(dict(self._default))
        running = self._of(TrialState.RUNNING)
        for _ in range(-self._asked() % size or (0 if running else size)):
            number = self._asked()
            own = np.random.SeedSequence([self._seed, number]).generate_state(1)[0]
            self._study.sampler = optuna.samplers.TPESampler(seed=int(own))
            self._study.ask(self._distributions)
        return {one.number: dict(one.params) for one in self._of(TrialState.RUNNING)}

    def tell(self, number: int, ndcg: np.ndarray | None) -> None:
        """What a trial gave for each question, float64 [q]; None: it failed."""
        if ndcg is None:
            self._study.tell(number, state=TrialState.FAIL)
            return
        temporary = self._folder / f"{number}.tmp"
        with temporary.open("wb") as file:
            np.save(file, ndcg, allow_pickle=False)
        temporary.replace(self._path(number))  # before the journal says that it is there
        self._study.tell(number, float(ndcg.mean()))

    @property
    def default(self) -> int | None:
        """The number of the default recipe's trial, if that has ended well."""
        return next((one.number for one in self._defaults(TrialState.COMPLETE)), None)

    @property
    def best(self) -> int | None:
        """The number of the trial with the largest mean, of equal ones the first."""
        ended = self._of(TrialState.COMPLETE)
        return max(ended, key=lambda one: (one.value or 0.0, -one.number)).number if ended else None

    def value(self, number: int) -> float:
        """The mean of a trial that has ended well."""
        return self._study.get_trials(deepcopy=False)[number].value or 0.0

    def values(self, number: int) -> dict[str, Value]:
        """The values of a trial."""
        return dict(self._study.get_trials(deepcopy=False)[number].params)

    def ndcg(self, number: int) -> np.ndarray:
        """What a trial gave for each question, float64 [q]."""
        return np.load(self._path(number), allow_pickle=False)

    def counts(self) -> tuple[int, int]:
        """How many trials have a value, and how many failed."""
        return len(self._of(TrialState.COMPLETE)), len(self._of(TrialState.FAIL))

    def _defaults(self, state: TrialState) -> list[FrozenTrial]:
        return [one for one in self._of(state) if one.params == self._default]

    def _of(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states)

    def _asked(self) -> int:
        return len(self._of(TrialState.RUNNING, *_OVER))

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.npy"


class _Held(JournalFileOpenLock):
    """No lock: ours is held as long as the journal is open, and one in a file would outlive a SIGKILL."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _distribution(one: Range | Choice) -> BaseDistribution:
    if isinstance(one, Choice):
        return CategoricalDistribution(one.values)
    if isinstance(one.low, int) and isinstance(one.high, int):
        return IntDistribution(one.low, one.high, log=one.log)
    return FloatDistribution(one.low, one.high, log=one.log)


def _mend(path: Path) -> None:
    """Cut off a line that a death left unfinished: what is appended to it would make the journal unreadable."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)

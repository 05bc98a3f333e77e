"""A search goes on where it stopped, whatever stopped it, with the recipes of one that was never stopped."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.bundle import Recipe
from recsys.datasets.dataset import Dataset
from recsys.errors import TrainingError
from recsys.training.search import Validation
from recsys.training.search_report import Search
from recsys.training.search_space import SPACE, values_of
from service.errors import StackError
from service.search import MOST_FAILED, search
from service.search_journal import SearchJournal
from service.settings import Settings
from service.stack.ray_environment import runtime_folder, token_file

BASE = Recipe(seed=11)
QUESTIONS = 300


class FakeWorkers:
    """Trials whose value is known: the nearer `trees` is to 100, the better. Keeps the recipes in order.

    The last of those that wait ends first, so that what ends first is not what was asked for first.
    """

    def __init__(self, *, interrupt_at: int | None = None, fail: Callable[[int], bool] = lambda _: False) -> None:
        self.recipes: list[Recipe] = []
        self._interrupt_at, self._fail, self._ended = interrupt_at, fail, 0

    def start(self, recipe: Recipe) -> int:
        self.recipes.append(recipe)
        return len(self.recipes) - 1

    def ended(self, jobs: Sequence[Any], timeout_s: float) -> list[tuple[Any, np.ndarray | Exception]]:
        assert timeout_s > 0
        if self._ended == self._interrupt_at:
            raise KeyboardInterrupt
        self._ended += 1
        job = jobs[-1]
        if self._fail(job):
            return [(job, MemoryError(f"trial {job} is too large"))]
        return [(job, ndcg(self.recipes[job]))]


def ndcg(recipe: Recipe) -> np.ndarray:
    noise = np.random.default_rng(1).random(QUESTIONS) * 0.1
    return noise + 0.5 - abs(recipe.trees - 100) / 1000


@pytest.fixture(scope="module")
def validation(synthetic_dataset: Dataset) -> Validation:
    validation = Validation.of(synthetic_dataset, candidates=100, seed=11)
    object.__setattr__(validation, "questions", validation.questions.take(np.arange(QUESTIONS)))
    object.__setattr__(validation, "known", validation.known.take(np.arange(QUESTIONS)))
    return validation


def searched(
    validation: Validation, folder: Path, workers: Any, *, parallel: int = 2, budget_s: float = 60, **told: Any
) -> Search:
    with SearchJournal.opened(folder, SPACE, BASE, seed=BASE.seed) as journal:
        return search(validation, BASE, SPACE, journal, workers, budget_s=budget_s, parallel=parallel, **told)


def uninterrupted(validation: Validation, folder: Path, trials: int) -> list[Recipe]:
    workers = FakeWorkers(interrupt_at=trials)
    searched(validation, folder, workers)
    return workers.recipes[:trials]


def test_first_trial_is_the_default_and_the_best_is_found(validation: Validation, tmp_path: Path) -> None:
    workers = FakeWorkers(interrupt_at=40)
    found = searched(validation, tmp_path / "s", workers)
    assert workers.recipes[0] == BASE
    assert len({recipe.trees for recipe in workers.recipes}) > 10
    assert (found.trials, found.failed, found.chosen) == (40, 0, "winner")
    assert abs(found.recipe.trees - 100) == min(abs(one.trees - 100) for one in workers.recipes[:40])
    assert found.winner is not None
    assert found.winner.value == pytest.approx(float(ndcg(found.recipe).mean()))
    assert found.winner.default == pytest.approx(float(ndcg(BASE).mean()))


def test_same_seed_and_number_of_trials_give_the_same_recipes(validation: Validation, tmp_path: Path) -> None:
    one, again = (uninterrupted(validation, tmp_path / name, 30) for name in ("one", "again"))
    assert one == again


def test_search_that_was_stopped_goes_on_with_the_same_recipes(validation: Validation, tmp_path: Path) -> None:
    whole = uninterrupted(validation, tmp_path / "whole", 24)
    ended: set[int] = set()
    for stop in itertools.chain([1, 2, 5], itertools.repeat(7)):
        workers = FakeWorkers(interrupt_at=stop)
        found = searched(validation, tmp_path / "parts", workers)
        ended |= {whole.index(recipe) for recipe in workers.recipes if recipe in whole}
        if found.trials >= 24:
            break
    with SearchJournal.opened(tmp_path / "parts", SPACE, BASE, seed=BASE.seed) as journal:
        assert [journal.values(number) for number in range(24)] == [values_of(one, SPACE) for one in whole]
    assert ended == set(range(24))


def test_trial_that_was_running_at_a_kill_runs_again(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    with SearchJournal.opened(folder, SPACE, BASE, seed=BASE.seed) as journal:
        for number in journal.batch(2):
            journal.tell(number, ndcg(BASE))
        first, second = journal.batch(2)
        journal.tell(first, ndcg(BASE))
        left = journal.values(second)
    with (folder / "journal").open("ab") as file:
        file.write(b'{"op_code": 4, "worker_id": "x')  # a line that a kill cut off
    with SearchJournal.opened(folder, SPACE, BASE, seed=BASE.seed) as journal:
        assert journal.batch(2) == {second: left}
        journal.tell(second, ndcg(BASE))
        assert sorted(journal.batch(2)) == [4, 5]
    with SearchJournal.opened(folder, SPACE, BASE, seed=BASE.seed) as journal:
        assert journal.counts() == (4, 0)


def test_end_of_the_budget_keeps_what_has_ended(validation: Validation, tmp_path: Path) -> None:
    class OneOfTwo(FakeWorkers):
        def ended(self, jobs: Sequence[Any], timeout_s: float) -> list[tuple[Any, np.ndarray | Exception]]:
            return super().ended(jobs, timeout_s) if len(jobs) == 2 else []

    told: list[tuple[int, float | None]] = []
    found = searched(
        validation,
        tmp_path / "s",
        OneOfTwo(),
        budget_s=0.3,
        progress=lambda _, trials, best: told.append((trials, best)),
    )
    assert (found.trials, found.failed, found.winner, found.chosen) == (1, 0, None, "default")
    assert told[0] == (0, None)
    assert told[-1][0] == 1


def test_failed_trial_is_reported_and_does_not_end_the_search(validation: Validation, tmp_path: Path) -> None:
    reported: dict[int, str] = {}
    workers = FakeWorkers(interrupt_at=12, fail=lambda job: job in (3, 6))
    found = searched(validation, tmp_path / "s", workers, failed=reported.__setitem__)
    assert reported == {3: "trial 3 is too large", 6: "trial 6 is too large"}
    assert (found.trials, found.failed) == (10, 2)


def test_search_ends_when_one_trial_after_the_other_fails(validation: Validation, tmp_path: Path) -> None:
    found = searched(validation, tmp_path / "s", FakeWorkers(fail=lambda job: job >= 2))
    assert (found.trials, found.failed) == (2, MOST_FAILED)


def test_default_that_cannot_be_tried_is_an_error_and_tried_again_next_time(
    validation: Validation, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"the default recipe cannot be tried \(trial 0 is too large\)"):
        searched(validation, tmp_path / "s", FakeWorkers(fail=lambda job: job == 0))
    workers = FakeWorkers(interrupt_at=4)
    assert searched(validation, tmp_path / "s", workers).winner is not None
    assert BASE in workers.recipes[:2]


def test_second_search_of_a_home_is_refused(tmp_path: Path) -> None:
    with (
        SearchJournal.opened(tmp_path / "one", SPACE, BASE, seed=1),
        pytest.raises(StackError, match="another process searches"),
        SearchJournal.opened(tmp_path / "two", SPACE, BASE, seed=1),
    ):
        pass


def in_a_process(code: str, *arguments: Path) -> None:
    """Ray reads its variables when it is imported, which another test may have done in this one."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environ |= {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "RAY_worker_niceness": "0",
    }  # 15 waits for all other tests
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]


TASKS = """
import sys
from msgspec.structs import replace
import numpy as np
from recsys.datasets.synthetic import synthetic
from recsys.training.search import Validation, trial
from service.settings import Settings
from service.stack.local_ray import local_ray
from tests import worlds

recipe = replace(worlds.SMALL, trees=20)
small = Validation.of(synthetic(7, users=120, items=400, sessions=25), candidates=100, seed=worlds.SMALL.seed)
with local_ray(Settings(home=sys.argv[1]), cpus=2):
    from service.trials import RayWorkers

    workers = RayWorkers(small)
    good, bad = workers.start(recipe), workers.start(replace(recipe, depth=9))
    results = {}
    while len(results) < 2:
        results |= dict(workers.ended([job for job in (good, bad) if job not in results], 60))
assert isinstance(results[good], np.ndarray), results[good]
assert results[good].tobytes() == trial(small, recipe).tobytes()
assert isinstance(results[bad], Exception), results[bad]
"""


def test_tasks_of_a_real_ray_give_the_values_of_this_process(tmp_path: Path) -> None:
    in_a_process(TASKS, tmp_path)


TWICE = """
import os, sys
from pathlib import Path
import psutil
from service.settings import Settings
from service.stack.local_ray import local_ray
from service.stack.ray_environment import environment, runtime_folder

settings = Settings(home=sys.argv[1])
folder = runtime_folder(settings)
for variables in {}, environment(settings):  # the second time: those of a stack, whose token is another one
    os.environ.update(variables)
    before = dict(os.environ)
    with local_ray(settings, cpus=1):
        import ray

        assert ray.get(ray.remote(lambda: os.getpid()).remote(), timeout=60) != os.getpid()
        this = psutil.Process()
        family = [this, *this.children(recursive=True)]
        listening = [c.laddr.ip for one in family for c in one.net_connections("inet") if c.status == "LISTEN"]
        assert len(family) > 3 and listening
        assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}, listening
    assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
    assert this.children(recursive=True) == []
    assert not folder.with_name(folder.name + "-search").exists()
"""


def test_local_ray_starts_again_beside_a_stack_listens_on_loopback_only_and_leaves_nothing(tmp_path: Path) -> None:
    home = Settings(home=str(tmp_path))
    token_file(home).parent.mkdir()
    token_file(home).write_text("of the stack" * 4, "ascii")
    in_a_process(TWICE, tmp_path)


IMPORTED_BEFORE = """
import sys
import ray
from service.errors import StackError
from service.settings import Settings
from service.stack.local_ray import local_ray

try:
    with local_ray(Settings(home=sys.argv[1]), cpus=1):
        raise AssertionError("started")
except StackError as error:
    assert "every interface" in str(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Ray keeps to this machine unless it is told otherwise")
def test_local_ray_is_refused_where_an_earlier_import_would_have_it_listen_everywhere(tmp_path: Path) -> None:
    in_a_process(IMPORTED_BEFORE, tmp_path)
    folder = runtime_folder(Settings(home=str(tmp_path)))
    assert not folder.with_name(f"{folder.name}-search").exists()

"""The search for a recipe that `riffle train --budget` makes before it trains."""

import os

from rich.markup import escape

from recsys.bundle import Recipe
from recsys.datasets.dataset import Dataset
from recsys.training.search import Validation
from recsys.training.search_report import METRIC, Search
from recsys.training.search_space import SPACE
from service.cli.console import countdown, output
from service.settings import Settings
from service.stack.local_ray import local_ray


def search_recipe(
    settings: Settings, dataset: Dataset, base: Recipe, *, budget_s: int, parallel: int | None = None
) -> Search:
    """Search for a better recipe than `base` for some seconds; goes on with what an earlier search has found.

    Args:
        parallel: Trials at once; None: one for each processor that this process may use.
    Raises:
        TrainingError: the data are too few to search with. StackError: Ray does not start, or another process searches.
    """
    validation = Validation.of(dataset, candidates=settings.candidates, seed=base.seed, held_out=base.held_out)
    parallel = parallel or _processors()
    folder = settings.home_path / "searches" / validation.key(base, SPACE)

    def failed(number: int, reason: str) -> None:
        output.print(f"[yellow]trial {number} failed:[/] {escape(reason)}", highlight=False)

    # Here: optuna takes 0.5 s that no other command should.
    from service.search import search
    from service.search_journal import SearchJournal

    with (
        SearchJournal.opened(folder, SPACE, base, seed=base.seed) as journal,
        local_ray(settings, cpus=parallel),
        countdown("Searching for a recipe", budget_s) as show,
    ):
        from service.trials import RayWorkers  # ray reads the variables that are set by now

        found = search(
            validation,
            base,
            SPACE,
            journal,
            RayWorkers(validation),
            budget_s=budget_s,
            parallel=parallel,
            progress=lambda so_far_s, trials, best: show(so_far_s, _remark(trials, best)),
            failed=failed,
        )
    output.print(found.sentence(), highlight=False, markup=False)
    return found


def _remark(trials: int, best: float | None) -> str:
    return f"{trials} trials" if best is None else f"{trials} trials, best {METRIC} {best:.4f}"


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    return len(affinity(0)) if affinity else os.cpu_count() or 1

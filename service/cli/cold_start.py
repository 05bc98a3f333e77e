"""What `riffle evaluate --cold-start` shows."""

import json
from dataclasses import replace
from pathlib import Path

from recsys.datasets.dataset import Dataset
from recsys.evaluation.ceiling import CEILING_AT, evaluate_ceiling
from recsys.evaluation.cold_start import KNOWN, evaluate_cold_start
from recsys.evaluation.curve import METRIC
from recsys.evaluation.report import shown
from recsys.training.log import Log
from recsys.types import World
from service.cli.conditions import conditions
from service.cli.console import output, plain_table, step
from service.settings import Settings


def show_cold_start(world: World, dataset: Dataset, split_s: int, settings: Settings, folder: Path | None) -> None:
    """The curve of new users, printed, and written where a folder is given."""
    with step("Evaluating new users", len(KNOWN)) as done:
        curve = evaluate_cold_start(world, Log.of(dataset), since_s=split_s, seed=settings.seed, progress=done)
    curve = replace(curve, conditions=conditions(settings) | {"bundle": world.bundle.id})
    header, rows = curve.table()
    title = f"{curve.newcomers:,} users who are new to {world.bundle.id}"
    table = plain_table(title, *header, hint=curve.few_users_hint())
    for row in rows:
        table.add_row(*row)
    output.print(table)
    for known, name, interval in curve.differences():
        output.print(
            f"  {known} known, {METRIC} over {name}: {shown(interval, sign=True)}", highlight=False, markup=False
        )
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"cold-start-{dataset.name}"
        path.with_suffix(".json").write_text(json.dumps(curve.to_json(), indent=1), "utf-8")
        path.with_suffix(".md").write_text(curve.markdown(), "utf-8")
        path.with_suffix(".svg").write_text(curve.svg(f"New users of {dataset.title}"), "utf-8")
        output.print(f"Written to {path}.json, .md and .svg", markup=False)


def show_ceiling(world: World, dataset: Dataset, split_s: int, settings: Settings) -> None:
    """What a ranker that was taught by other new users' answers reaches, printed."""
    with step("Teaching a ranker with new users' answers", len(CEILING_AT)) as done:
        points = evaluate_ceiling(world, Log.of(dataset), since_s=split_s, seed=settings.seed, progress=done)
    for point in points:
        output.print(
            f"  {point.known} known, {METRIC} of a ranker taught by other new users' answers: {shown(point.value)}, "
            f"over popularity: {shown(point.over_popularity, sign=True)}",
            highlight=False,
            markup=False,
        )

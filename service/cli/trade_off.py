"""`riffle evaluate --trade-off`."""

import json
from dataclasses import replace
from pathlib import Path

from recsys.datasets.dataset import Dataset
from recsys.evaluation.bootstrap import few_users_hint
from recsys.evaluation.compare import HEADLINE, Asked
from recsys.evaluation.plots import plot_trade_off
from recsys.evaluation.trade_off import trade_off
from recsys.training.splits import DESCRIBED, Split
from recsys.training.train import JUDGED_MAX
from recsys.types import World
from service.cli.conditions import conditions
from service.cli.console import output, plain_table, step
from service.settings import Settings

SHOWN = ("diversity", "coverage", "Gini")  # what fits a terminal; what is written has all


def show_trade_off(
    world: World, split: Split, protocol: str, dataset: Dataset, settings: Settings, folder: Path | None
) -> None:
    """Measure, print, and write where a folder is given, what diversity and popularity damping cost."""
    asked = split.questions.limited(JUDGED_MAX, seed=settings.seed)
    with step("Evaluating controls of selection", len(asked)) as done:
        known = asked.known(split.history)
        found = trade_off(world, Asked(asked, known), protocol=DESCRIBED[protocol], seed=settings.seed, progress=done)
    found = replace(found, conditions=conditions(settings))
    for name, points in found.curves().items():
        title = f"{dataset.title}, {protocol}: what {name.replace('_', ' ')} costs"
        table = plain_table(title, "strength", HEADLINE, "change", *SHOWN, hint=few_users_hint(found.users))
        for point in points:
            beyond = (f"{point.beyond[one]:.3f}" for one in SHOWN)
            strength, _, change = point.cells()
            table.add_row(strength, f"{point.quality.mean:.4f}", change, *beyond)
        output.print(table)
    output.print(f"  largest harmless diversity: {found.harmless():g}", highlight=False)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"trade-off-{protocol}-{dataset.name}"
    path.with_suffix(".json").write_text(json.dumps(found.to_json(), indent=1), "utf-8")
    path.with_suffix(".md").write_text(found.markdown(), "utf-8")
    plot_trade_off(found, f"{dataset.title}, {protocol}", path.with_suffix(".png"))
    output.print(f"Written to {path}.json, .md and .png", markup=False)

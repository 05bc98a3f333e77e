"""`riffle ablate`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from recsys.bundle import Recipe
from recsys.evaluation.ablation import ablate, markdown, variants
from recsys.evaluation.report import shown
from recsys.training.choose_sources import choose_sources
from recsys.training.learn import fit_models
from recsys.training.log import Log
from recsys.training.splits import PROTOCOLS
from recsys.training.train import BY_TIMING
from service.cli.conditions import conditions
from service.cli.console import output, plain_table, step
from service.imports import history
from service.settings import load

ASKED = 4000  # questions


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ablate")(ablate_)


def ablate_(
    data: Annotated[Path | None, typer.Option(help="Data that is not imported.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--report", help="A folder for the table as JSON and Markdown.")
    ] = None,
) -> None:
    """What each source, feature group, loss, number of candidates and the exact index are worth, one at a time.

    Trains in memory some twenty times, without publishing, by the protocol that the data allow.
    """
    settings = load()
    dataset = history(settings, data)
    protocol, recipe = BY_TIMING[dataset.timing], Recipe(seed=settings.seed)
    divide = PROTOCOLS[protocol]
    split = divide(Log.of(dataset), seed=settings.seed)
    models = fit_models(dataset, split.past, divide, recipe, candidates=settings.candidates, step=step)
    first = models.lessons[0]
    sources, _ = choose_sources(models.worlds[0], first.questions, first.known, seed=settings.seed)
    recipe = msgspec.structs.replace(models.fitted.recipe, sources=sources)
    asked = split.questions.limited(ASKED, seed=settings.seed)
    switches = variants(recipe, settings.candidates)
    with step("Teaching and asking variants", len(switches)) as done:
        outcomes = ablate(models, recipe, switches, asked, asked.known(split.history), progress=done)
    table = plain_table(f"{dataset.title}, {protocol}", "", "NDCG@10", "beside as it is", "us", "MB")
    for one in outcomes:
        beside = shown(one.difference, sign=True)
        table.add_row(one.name, f"{one.ndcg.mean:.4f}", beside, f"{one.request_us:.0f}", f"{one.bundle_mb:.1f}")
    output.print(table)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"ablation-{protocol}-{dataset.name}"
        under = conditions(settings) | {"questions": len(asked), "sources": " ".join(sources)}
        found = {"conditions": under, "variants": [asdict(one) for one in outcomes]}
        path.with_suffix(".json").write_text(json.dumps(found, indent=1), "utf-8")
        path.with_suffix(".md").write_text(markdown(outcomes, under), "utf-8")
        output.print(f"Written to {path}.json and .md", markup=False)

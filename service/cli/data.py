"""`riffle import`: bring a data set into this home."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from recsys.datasets import dataset as storage
from recsys.datasets.dataset import Dataset
from recsys.datasets.demo import fetch_demo_wheel, read_demo
from recsys.datasets.detect import read_dataset
from recsys.datasets.leave_out import without_users
from recsys.datasets.synthetic import synthetic
from recsys.errors import DatasetError
from service.archives import erased_users
from service.cli.console import output, waiting
from service.imports import folder_of, stamp
from service.settings import Settings, load


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)


def import_(
    path: Annotated[
        Path | None,
        typer.Argument(help="MovieLens folder or zip, or interactions.csv/.parquet; omit it for the demo data."),
    ] = None,
    synthetic_world: Annotated[
        bool, typer.Option("--synthetic", help="A small seeded invented world instead of real data.")
    ] = False,
    unordered: Annotated[
        bool, typer.Option("--unordered", help='Lines "user item item ..." do not give items in the order of time.')
    ] = False,
    attribution: Annotated[
        str, typer.Option(help="Who made the data, and the licence or terms of use; kept in every bundle made of them.")
    ] = "",
) -> None:
    """Import interactions and items; `riffle train` and `riffle up` use the last import."""
    settings = load()
    if synthetic_world and path is not None:
        raise DatasetError(f"--synthetic invents a world and {path} is data: give one of them")
    dataset = import_dataset(
        settings, path, synthetic_only=synthetic_world, ordered=not unordered, attribution=attribution
    )
    output.print(f"[green]✓[/] {describe(dataset)}")
    output.print("Next: [bold]riffle train[/]")


def import_dataset(
    settings: Settings,
    path: Path | None,
    *,
    synthetic_only: bool = False,
    ordered: bool = True,
    attribution: str = "",
) -> Dataset:
    """Read, save and make current a data set: the given one, or the demo, or where that cannot be had a synthetic one.

    Args:
        attribution: Replaces what is known of who made the data and on what terms.
    Raises:
        DatasetError: the given data cannot be used.
    """
    with waiting(f"Importing {path.name if path else 'the demo data'}"):
        dataset = _read(settings, path, synthetic_only=synthetic_only, ordered=ordered)
        dataset = replace(dataset, attribution=attribution or dataset.attribution)
        dataset = without_users(dataset, erased_users(settings).among(dataset.user_id))
        folder = folder_of(settings) / dataset.name
        storage.save(dataset, folder)
        current = {
            "name": dataset.name,
            "source": stamp(path),
            "positive_rating": settings.positive_rating,
        }
        folder_of(settings).joinpath("current.json").write_text(json.dumps(current), "utf-8")
    for line in dataset.report.summary().splitlines():
        output.print(f"  {line}", highlight=False, markup=False)
    return dataset


def describe(dataset: Dataset) -> str:
    """One line about a data set."""
    warning = " [bold yellow](synthetic: invented, not real data)[/]" if dataset.synthetic else ""
    return (
        f"{escape(dataset.title)}: {len(dataset.user_id):,} users, {len(dataset.item_id):,} items, "
        f"{len(dataset.events):,} interactions{warning}"
    )


def _read(settings: Settings, path: Path | None, *, synthetic_only: bool, ordered: bool) -> Dataset:
    if synthetic_only:
        return synthetic(settings.seed)
    if path is not None:
        return read_dataset(path, positive_rating=settings.positive_rating, ordered=ordered)
    folder = folder_of(settings) / "demo"
    try:
        return read_demo(fetch_demo_wheel(folder), folder, positive_rating=settings.positive_rating)
    except DatasetError as error:
        output.print(f"Using a small synthetic world instead of real data: {error}", style="yellow", markup=False)
        return synthetic(settings.seed)

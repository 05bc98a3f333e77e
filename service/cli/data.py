"""`riffle import`: bring a data set into this home."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from recsys.datasets import dataset as storage
from recsys.datasets.dataset import Dataset
from recsys.datasets.demo import fetch_demo_wheel, read_demo
from recsys.datasets.detect import read_dataset
from recsys.datasets.extend import COLUMNS, extended
from recsys.datasets.synthetic import synthetic
from recsys.errors import DatasetError
from service.archives import event_archive
from service.cli.console import output, waiting
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
) -> None:
    """Import interactions and items; `riffle train` and `riffle up` use the last import."""
    settings = load()
    if synthetic_world and path is not None:
        raise DatasetError(f"--synthetic invents a world and {path} is data: give one of them")
    dataset = import_dataset(settings, path, synthetic_only=synthetic_world)
    output.print(f"[green]✓[/] {describe(dataset)}")
    output.print("Next: [bold]riffle train[/]")


def import_dataset(settings: Settings, path: Path | None, *, synthetic_only: bool = False) -> Dataset:
    """Read, save and make current a data set: the given one, or the demo, or where that cannot be had a synthetic one.

    Raises:
        DatasetError: the given data cannot be used.
    """
    with waiting(f"Importing {path.name if path else 'the demo data'}"):
        dataset = _read(settings, path, synthetic_only=synthetic_only)
        folder = _folder(settings) / dataset.name
        storage.save(dataset, folder)
        current = {
            "name": dataset.name,
            "source": _stamp(path),
            "positive_rating": settings.positive_rating,
        }
        _folder(settings).joinpath("current.json").write_text(json.dumps(current), "utf-8")
    for line in dataset.report.summary().splitlines():
        output.print(f"  {line}", highlight=False, markup=False)
    return dataset


def current_dataset(settings: Settings, path: Path | None = None) -> Dataset | None:
    """The last import, if it was made with these settings and from `path` as that is now (None: from whatever).

    Raises:
        DatasetError: it is there, but damaged.
    """
    pointer = _folder(settings) / "current.json"
    if not pointer.exists():
        return None
    try:
        current = json.loads(pointer.read_text("utf-8"))
        folder = _folder(settings) / current["name"]
        source, positive_rating = current["source"], current.get("positive_rating")
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{pointer} is damaged ({error}); run `riffle import` again") from error
    if positive_rating != settings.positive_rating or (path is not None and source != _stamp(path)):
        return None
    return storage.load(folder)


def imported(settings: Settings) -> Dataset:
    """The last import.

    Raises:
        DatasetError: nothing is imported.
    """
    dataset = current_dataset(settings)
    if dataset is None:
        raise DatasetError("no data set is imported; run `riffle import`, or `riffle import PATH`")
    return dataset


def history(settings: Settings) -> Dataset:
    """The last import and what is archived since.

    Raises:
        DatasetError: nothing is imported. ArchiveError: a file of the archive cannot be read.
    """
    return extended(imported(settings), event_archive(settings).read(columns=COLUMNS))


def describe(dataset: Dataset) -> str:
    """One line about a data set."""
    warning = " [bold yellow](synthetic: invented, not real data)[/]" if dataset.synthetic else ""
    return (
        f"{escape(dataset.title)}: {len(dataset.user_id):,} users, {len(dataset.item_id):,} items, "
        f"{len(dataset.events):,} interactions{warning}"
    )


def _read(settings: Settings, path: Path | None, *, synthetic_only: bool) -> Dataset:
    if synthetic_only:
        return synthetic(settings.seed)
    if path is not None:
        return read_dataset(path, positive_rating=settings.positive_rating)
    folder = _folder(settings) / "demo"
    try:
        return read_demo(fetch_demo_wheel(folder), folder, positive_rating=settings.positive_rating)
    except DatasetError as error:
        output.print(f"Using a small synthetic world instead of real data: {error}", style="yellow", markup=False)
        return synthetic(settings.seed)


def _folder(settings: Settings) -> Path:
    folder = settings.home_path / "data"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _stamp(path: Path | None) -> list[list[str | int]] | None:
    """Names, sizes and times of the files at a path: what tells whether it changed since."""
    if path is None:
        return None
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    try:
        return [[str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.is_file()]
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error}; check the path and its permissions") from error

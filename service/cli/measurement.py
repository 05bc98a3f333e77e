"""`riffle bundles measure` and `compare`: two versions of the code side by side, each with the bundle that it made."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from recsys.datasets.junk import without_junk
from recsys.errors import DatasetError
from recsys.evaluation.compare import Asked
from recsys.evaluation.measurement import Measurement
from recsys.evaluation.measurement import measure as measure_world
from recsys.evaluation.side_by_side import side_by_side
from recsys.training.splits import ASKED_PER_USER, DESCRIBED
from service.cli.bundles import bundles
from service.cli.console import output, waiting
from service.cli.evaluation import rest, split_s_of
from service.imports import history
from service.junk import junk_of
from service.settings import load
from service.world import load_world, registry

QUESTIONS = 10_000


def register(_: typer.Typer) -> None:
    """Add the commands to their group."""
    bundles.command("measure")(measure)
    bundles.command("compare")(compare)


def measure(
    to: Annotated[Path, typer.Option(help="The file to write.")],
    bundle: Annotated[str, typer.Argument(help="Id, unique prefix or name.")] = "champion",
) -> None:
    """Ask a bundle what it has not learnt, time it, and write question by question what it reached, for `compare`."""
    settings = load()
    world = load_world(settings, bundle)
    dataset = without_junk(history(settings), junk_of(settings, world.bundle.id))
    manifest = next(one for one in registry(settings).list() if one.id == world.bundle.id)
    name, split = rest(manifest.fields, dataset, split_s_of(manifest.fields), ASKED_PER_USER, settings.seed)
    questions = split.questions.limited(QUESTIONS, seed=settings.seed)
    with waiting("Measuring"):
        found = measure_world(
            world,
            Asked(questions, questions.known(split.history)),
            dataset.user_id,
            protocol=DESCRIBED[name],
            commit=manifest.fields["code_commit"],
            size_bytes=sum(one.size for one in manifest.files.values()),
            seed=settings.seed,
        )
    _write(to, msgspec.json.encode(found))
    output.print(f"{len(questions):,} questions; CPU of a request {found.cpu_ms:.2f} ms", highlight=False)


def compare(
    base: Annotated[Path, typer.Argument(help="What `riffle bundles measure` of the one version wrote.")],
    head: Annotated[Path, typer.Argument(help="And that of the other.")],
    to: Annotated[Path | None, typer.Option(help="A .md file for the table; .json beside it.")] = None,
) -> None:
    """Quality with intervals and the paired test, and cost, of two measurements.

    Exit code 1 where the head does not meet a line.
    """
    found = side_by_side(_read(base), _read(head), seed=load().seed)
    if to is not None:
        _write(to, found.markdown().encode())
        _write(to.with_suffix(".json"), found.to_json().encode())
    typer.echo(found.markdown())
    if not found.passed:
        raise typer.Exit(1)


def _read(path: Path) -> Measurement:
    try:
        return Measurement.read(path.read_bytes(), str(path))
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error}; `riffle bundles measure --to` writes it") from error


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error}; name another file") from error

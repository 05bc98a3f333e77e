"""`riffle check`: whether the data are fit to train on."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from recsys.datasets.checks.checks import Checks, check
from recsys.datasets.checks.finding import COLUMNS, Finding
from recsys.datasets.checks.report import markdown, to_json
from recsys.errors import DatasetError
from service.cli.console import output, plain_table
from service.cli.data import describe
from service.imports import history
from service.settings import load

_COLOURS = {"ok": "green", "warning": "yellow", "failure": "red"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check")(check_)


def check_(
    data: Annotated[
        Path | None, typer.Option(help="Data as for `riffle import`; none: the last import and what is archived since.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="A folder for data_checks.json and data_checks.md, which name users.")
    ] = None,
) -> None:
    """Check data before training: schema, duplicates, times, verbs, users, items, drift; exit code 1 on a failure."""
    settings = load()
    dataset = history(settings, data)
    output.print(describe(dataset))
    checks = check(dataset)
    print_findings(checks.findings)
    if report is not None:
        _write(checks, report)
    failed, warned = (len(checks.of_level(level)) for level in ("failure", "warning"))
    output.print(f"{len(checks.findings)} data checks: {failed} failed, {warned} with a warning")
    if failed:
        raise typer.Exit(1)


def print_findings(findings: tuple[Finding, ...]) -> None:
    """A table of findings, then the events that those which are not ok show."""
    table = plain_table(None, "level", "check", "found")
    for one in findings:
        table.add_row(f"[{_COLOURS[one.level]}]{one.level}[/]", one.name, escape(one.sentence))
    output.print(table)
    for one in findings:
        if one.level != "ok" and one.rows:
            rows = plain_table(one.name, *COLUMNS)
            for row in one.rows:
                rows.add_row(*map(escape, row.cells()))
            output.print(rows)


def _write(checks: Checks, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data_checks.json").write_text(to_json(checks, rows=True), "utf-8")
        (folder / "data_checks.md").write_text(markdown(checks), "utf-8")
    except OSError as error:
        raise DatasetError(
            f"cannot write the report to {folder}: {error}; give a folder that can be written"
        ) from error

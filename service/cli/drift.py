"""`riffle drift`: whether what is served is still what was trained for."""

import sys
from contextlib import nullcontext, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape

from recsys.errors import RecsysError
from recsys.monitoring.figures import ORDERED, Figure
from recsys.monitoring.page import page
from recsys.monitoring.plots import strength
from service.cli.console import output, plain_table, waiting
from service.cli.parity import verified
from service.drift import Look, look
from service.errors import ServiceError, StackError
from service.settings import Settings, load
from service.stack import application

SHOWN = 10  # series in the table
PARITY = 200  # newest answers whose features are compared with the events

drift = typer.Typer(help="Whether what is served is still what was trained for.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(drift, name="drift")


@drift.command("report")
def report(
    bundle: Annotated[str, typer.Option(help="Id, unique prefix or name.")] = "champion",
    now: Annotated[bool, typer.Option("--now", help="Look at the hour under way too, and remember nothing.")] = False,
    parity: Annotated[int, typer.Option(min=0, help="Newest answers whose features are verified.")] = PARITY,
    json_: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file; - prints them.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page of plots to this file.")] = None,
) -> None:
    """Look at what was served since the last look, say what it looks like; exit code 1 where an alarm is on."""
    settings = load()
    with redirect_stdout(sys.stderr) if json_ == Path("-") else nullcontext():  # bars are no part of a document
        with waiting("Looking at records and events"):
            found = look(settings, application.store_url(settings), bundle=bundle, remember=not now)
        said = _parity(settings, parity) if parity else "not asked for"
    if html is not None:
        _write(html, _page(found, said))
    if json_ == Path("-"):
        print(msgspec.json.format(msgspec.json.encode(_plain(found, said)), indent=1).decode())
    else:
        _print(found, said)
        if json_ is not None:
            _write(json_, msgspec.json.format(msgspec.json.encode(_plain(found, said)), indent=1).decode() + "\n")
    if found.alarms:
        raise typer.Exit(1)


def _parity(settings: Settings, most: int) -> str:
    """The outcome of `riffle features verify` in a sentence."""
    try:
        found = verified(settings, most)
    except (RecsysError, ServiceError) as error:
        return f"could not be asked: {error}"
    good, of = found.verified - len(found.findings), found.verified + found.not_verified.total()
    behind = f", {found.behind} behind the log" if found.behind else ""
    return (
        f"{good} of the {of} newest answers verified to the bit, {len(found.findings)} without parity, "
        f"{found.not_verified.total()} not verified{behind}"
    )


def _summary(found: Look, parity: str) -> list[str]:
    until = f", until {_utc(found.until_s)}" if found.until_s else ""
    lines = [
        f"Looked at {_utc(found.at_s)}{until}: {found.hours:,} hours, {found.lists:,} lists and {found.events:,} "
        f"events in this look; {found.rows:,} lists compared since the bundle serves, one a user and hour.",
        f"Training/serving parity: {parity}.",
    ]
    if found.distinct:
        now, usual, of = (found.distinct[name] for name in ("now", "usual", "lists"))
        lines.append(
            f"Coverage: {now:,.0f} different items in the first ten places of {of:,.0f} lists; usual: {usual:,.0f}."
        )
    lines += [f"Not compared: {count:,} x {reason}" for reason, count in sorted(found.not_measured.items())]
    if found.not_compared:
        lines.append(
            f"Too little to compare with yet: {', '.join(found.not_compared[:6])}" + _more(found.not_compared, 6)
        )
    return lines


def _more(of: list[str], shown: int) -> str:
    return f" and {len(of) - shown} more" if len(of) > shown else ""


def _print(found: Look, parity: str) -> None:
    for line in _summary(found, parity):
        output.print(escape(line), soft_wrap=True, highlight=False)
    for problem in found.problems:
        output.print(f"[yellow]problem[/] {escape(problem)}", soft_wrap=True, highlight=False)
    for one in found.causes:
        colour = "red" if one.harmful else "yellow"
        head = f"[{colour}]{escape(one.name)}[/] ({escape(one.subject)}), remedy: {one.remedy.value}"
        output.print(f"{head}\n  {escape(one.why)}", soft_wrap=True, highlight=False)
    if not found.compared:
        output.print("[red]nothing was compared[/]")
        return
    table = plain_table("Nearest to an alarm", "what", "segment", "PSI", "KS", "rows", "evidence", "")
    for figure in sorted(found.figures, key=lambda one: (not one.alarm, -strength(one), -one.psi))[:SHOWN]:
        cells = (f"{figure.kind} {figure.subject}", figure.segment, f"{figure.psi:.3f}", _ks(figure))
        table.add_row(*cells, f"{figure.rows:,}", f"{figure.evidence:.1e}", "alarm" if figure.alarm else "")
    output.print(table)
    on = f"{len(found.alarms)} alarm{'s' * (len(found.alarms) > 1)}" if found.alarms else "no alarm"
    output.print(f"{found.bundle}: {on}", highlight=False)


def _ks(figure: Figure) -> str:
    """Nothing where the components have no order."""
    return f"{figure.ks:.3f}" if figure.kind in ORDERED else "-"


def _plain(found: Look, parity: str) -> dict[str, Any]:
    return msgspec.to_builtins(found) | {"parity": parity}


def _page(found: Look, parity: str) -> str:
    return page(
        f"Drift of {found.bundle}",
        summary=_summary(found, parity),
        problems=found.problems,
        causes=found.causes,
        alarms=found.alarms,
        figures=found.figures,
        days=found.days,
    )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise StackError(f"{path} cannot be written: {error}") from error


def _utc(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")

"""What the command prints: progress bars, tables, one console for each stream."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from recsys.evaluation.bootstrap import few_users_hint
from recsys.evaluation.report import Report

SHOWN = ("NDCG@10", "HR@10", "Recall@20")  # what fits 80 columns; a written report has all

output = Console()
errors = Console(stderr=True)


@contextmanager
def step(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar for one step; the context gives a function that takes the amount done."""
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<44}"),
        BarColumn(bar_width=28),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=output) as progress:
        task = progress.add_task(escape(name), total=total)
        yield lambda done: progress.advance(task, done)


@contextmanager
def countdown(name: str, total_s: float) -> Iterator[Callable[[float, str], None]]:
    """A bar for work that ends with a time; the context gives a function that takes the seconds so far and a remark."""
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<44}"),
        BarColumn(bar_width=28),
        TimeElapsedColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=output) as progress:
        task = progress.add_task(escape(name), total=total_s, remark="")
        yield lambda so_far_s, remark: progress.update(task, completed=so_far_s, remark=remark)


@contextmanager
def waiting(name: str) -> Iterator[None]:
    """A bar for a step whose end cannot be foreseen; full when the step is done."""
    with step(name, 1) as done:
        yield
        done(1)


def plain_table(title: str | None, *columns: str, hint: str = "") -> Table:
    """A table in the style of all others; the hint stands below it."""
    table = Table(*columns, title=title and escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.caption, table.caption_justify, table.caption_style = escape(hint) or None, "left", "yellow"
    return table


def report_table(report: Report, title: str) -> Table:
    """An evaluation as a table."""
    header, rows = report.table(SHOWN)
    table = plain_table(title, hint=few_users_hint(report.users))
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=True)
    for cells in rows:
        table.add_row(*cells)
    return table

"""How a run of simulated users is shown: live on a terminal, a line every few seconds elsewhere, tables at the end."""

import asyncio
import time

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from loadtest.tally import EVENTS_FROM, WINDOW_S, Tally
from service.cli.console import plain_table

REFRESH_S = 0.5
LINE_EVERY_S = 5.0
PLACES = 10  # shown; the summary has all


async def show(tally: Tally, console: Console) -> None:
    """Show the counts as they grow, until cancelled; the live display leaves nothing behind."""
    began = time.monotonic()
    if not console.is_terminal:
        while True:
            await asyncio.sleep(LINE_EVERY_S)
            console.print(line(tally, time.monotonic() - began), highlight=False, markup=False, soft_wrap=True)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(tables(tally, time.monotonic() - began), refresh=True)
            await asyncio.sleep(REFRESH_S)


def line(tally: Tally, now_s: float) -> str:
    """The counts in one line."""
    counted = "  ".join(f"{name} {value}" for name, value in _counters(tally, now_s, WINDOW_S).items())
    return f"{now_s:4.0f} s  {counted}{_errors(tally)}"


def tables(tally: Tally, now_s: float, *, window_s: float = WINDOW_S) -> Group:
    """The counts, clicks by place beside the truth, and expected clicks by what the service can know.

    80 columns and 24 lines hold it.
    """
    counters = _counters(tally, now_s, window_s)
    table = _numbers(f"After {now_s:.0f} s", *counters)
    table.add_row(*counters.values())
    return Group(table, Columns([_positions(tally), _lists(tally)], padding=(0, 2)), _errors(tally))


def _counters(tally: Tally, now_s: float, window_s: float) -> dict[str, str]:
    """Rate and latency over the last seconds, everything else since the start."""
    rate, latency_ms = tally.lately(now_s, window_s)
    lists = max(tally.lists, 1)
    return {
        "lists/s": f"{rate:.1f}",
        "p50 ms": f"{latency_ms.get('p50', 0):.1f}",
        "p99 ms": f"{latency_ms.get('p99', 0):.1f}",
        "degraded": f"{tally.degraded:,}",
        "personalized": f"{tally.personalized / lists:.0%}",
        "events": f"{tally.events_accepted:,}",
        "clicks/list": f"{tally.clicks / lists:.2f}",
    }


def _errors(tally: Tally) -> str:
    return "".join(f"  {kind}: {times:,}" for kind, times in tally.errors.most_common())


def _positions(tally: Tally) -> Table:
    table = _numbers("Clicks by place", "place", "clicked", "truth")
    for row in tally.by_position()[:PLACES]:
        table.add_row(str(row["position"]), f"{row['ctr']:.1%}", f"{row['expected_ctr']:.1%}")
    return table


def _lists(tally: Tally) -> Table:
    table = _numbers("Expected clicks of a list, by events so far", "events", "lists", "popular", "served", "best")
    for row in tally.by_events():
        cells = (f"{row[name]:.2f}" for name in ("popular", "served", "best"))
        table.add_row(_group(int(row["events_from"])), f"{row['lists']:,}", *cells)
    return table


def _group(start: int) -> str:
    after = [one for one in EVENTS_FROM if one > start]
    if not after:
        return f"{start} or more"
    return f"{start}" if after[0] == start + 1 else f"{start} to {after[0] - 1}"


def _numbers(title: str, *columns: str) -> Table:
    table = plain_table(title)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table

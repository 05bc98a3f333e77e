"""`riffle traffic` and `rollback`: which bundles answer, who obeys, and the way back."""

from typing import Annotated

import typer
from rich.markup import escape

from service.cli.audited import say_of_switch, whoami
from service.cli.console import output, plain_table, waiting
from service.errors import StackError
from service.promotion import roll_back
from service.settings import Settings, load
from service.stack import ray_head, valkey
from service.traffic.document import Traffic
from service.traffic.table import Report, TrafficTable, on_table

Reason = Annotated[str, typer.Option(help="Kept in the history.")]

traffic = typer.Typer(help="Which bundles answer and who gets which.", invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(traffic, name="traffic")
    app.command("rollback")(rollback)


def store_of(settings: Settings) -> str:
    """The store of what runs. Raises StackError: nothing does, or the store alone does not."""
    store = valkey.address(settings)
    if store is None and ray_head.running(settings):
        raise StackError("the store is away, and what answers goes on as it did; `riffle serve` starts it again")
    if store is None:
        raise StackError("nothing runs; `riffle serve` starts what answers")
    return store


@traffic.callback()
def show(context: typer.Context) -> None:
    """The traffic table, and which replica obeys which version of it."""
    if context.invoked_subcommand:
        return

    async def both(table: TrafficTable) -> tuple[Traffic, list[Report]]:
        return await table.demand(), await table.reports()

    now, reports = on_table(store_of(load()), both)
    output.print(f"Version {now.version} of {now.time[:19]}, by {now.who}: {now.reason}", markup=False, highlight=False)
    for name, share, bundle in _answering(now):
        output.print(f"  {name:<28} {share:>9}  {bundle}", markup=False, highlight=False)
    if now.unregistered:
        output.print("[yellow]The registry does not know of this champion yet; `riffle serve` tells it.[/]")
    table = plain_table("Replicas", "deployment", "replica", "node", "version", "champion", "holds", "last report")
    for one in reports:
        behind = "" if one.version == now.version else " (behind)"
        cells = (one.role, one.replica, one.node, f"{one.version}{behind}", one.champion, str(len(one.loaded)))
        table.add_row(*map(escape, cells), f"{one.age_s:.0f} s ago")
    output.print(table if reports else "No replica has reported in the last seconds.")
    for one in reports:
        for bundle, why in one.failed.items():
            output.print(f"{one.replica} cannot load {bundle}: {why}", style="red", markup=False)


@traffic.command("history")
def history(count: Annotated[int, typer.Option(min=1, help="The newest.")] = 20) -> None:
    """Who changed traffic, when and why; the newest last."""
    versions = on_table(store_of(load()), lambda table: table.history(count))
    table = plain_table(None, "", "time (UTC)", "who", "champion", "also", "why")
    table.columns[3].no_wrap = True  # ids are for copying
    for one in versions:
        also = ", ".join(f"{name} {share}" for name, share, _ in _answering(one)[1:])
        cells = (str(one.version), one.time[:19], one.who, one.champion, also or "-", one.reason)
        table.add_row(*map(escape, cells))
    output.print(table)


def rollback(reason: Reason) -> None:
    """Back to what was before: without the rollout under way, else to the champion before. Needs no registry."""
    with waiting("Rolling back"):
        after, seconds, unregistered = roll_back(load(), reason=reason, who=whoami())
    output.print(f"[green]✓[/] everybody gets [bold]{after.champion}[/] again, everywhere after {seconds:.1f} s")
    say_of_switch(after.stopped_now(), unregistered)


def _answering(now: Traffic) -> list[tuple[str, str, str]]:
    """What answers, the share of users, the bundle; the champion first."""
    rows = [("champion", "", now.champion)]
    if now.previous:
        rows.append(("previous", "held", now.previous))
    rows += [("prepared", "held", one) for one in now.prepared]
    if now.rollout:
        rows.append((f"rollout {now.rollout.name}", percent(now.rollout.share), now.rollout.bundle))
    if now.shadow:
        rows.append(("shadow", percent(now.shadow.share), now.shadow.bundle))
    for one in now.running():
        of = ", ".join(f"{variant.name} {percent(variant.share)}" for variant in one.variants)
        rows.append((f"experiment {one.name}", percent(one.share), of))
    if now.holdout:
        rows.append(("holdout", percent(now.holdout), now.champion))
    return rows


def percent(share: int) -> str:
    """A share in 0.01 %."""
    return f"{share / 100:g} %"

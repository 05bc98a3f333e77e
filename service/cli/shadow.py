"""`riffle shadow`: what a bundle would have answered, beside what was."""

from collections import Counter
from typing import Annotated

import msgspec
import numpy as np
import typer
from rich.markup import escape

from service.cli.audited import whoami
from service.cli.console import output, plain_table, waiting
from service.cli.traffic import Reason, percent, store_of
from service.cli.variants import percentage
from service.errors import TrafficError
from service.experiments import basis_points
from service.settings import load
from service.shadow import HEAD, compared
from service.traffic import switching
from service.traffic.document import Shadow, Traffic
from service.traffic.table import TrafficTable, on_table
from service.world import registry

MOVERS = 5

shadow = typer.Typer(help="What a bundle would have answered, beside what was.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(shadow, name="shadow")


@shadow.command("start")
def start(
    bundle: Annotated[str, typer.Argument(help="Id, unique prefix or name; champion: everything is alike.")],
    reason: Reason,
    share: Annotated[str, typer.Option(help="Percent of the lists.")] = "10",
) -> None:
    """Have some requests answered once more, after their answer was sent."""
    settings = load()
    bundle_id, of = registry(settings).resolve(bundle), basis_points(percentage(share))

    async def begin(table: TrafficTable) -> None:
        def started(now: Traffic) -> Traffic:
            if now.shadow is not None and now.shadow.bundle != bundle_id:
                raise TrafficError(f"{now.shadow.bundle} shadows already; `riffle shadow stop` ends it")
            return msgspec.structs.replace(now, shadow=Shadow(bundle_id, of)).check()

        await switching.load_and_switch(table, [bundle_id], started, who=whoami(), reason=reason)

    with waiting("Loading the bundle everywhere"):
        on_table(store_of(settings), begin)
    output.print(f"[green]✓[/] {percent(of)} of all lists are made by [bold]{bundle_id}[/] as well; nobody gets them")


@shadow.command("stop")
def stop(reason: Reason) -> None:
    """End it. What was compared stays for the report."""

    def stopped(now: Traffic) -> Traffic:
        if now.shadow is None:
            raise TrafficError("no bundle shadows")
        return msgspec.structs.replace(now, shadow=None)

    async def end(table: TrafficTable) -> None:
        await switching.switch(table, stopped, who=whoami(), reason=reason)

    on_table(store_of(load()), end)
    output.print("[green]✓[/] stopped")


@shadow.command("report")
def report(
    bundle: Annotated[str, typer.Argument(help="Id, unique prefix or name.")],
) -> None:
    """How far its lists are from those that were served, since which stage, and which items moved."""
    settings = load()
    bundle_id = registry(settings).resolve(bundle)
    found = [one for one in on_table(store_of(settings), compared) if one.shadow == bundle_id]
    if not found:
        raise TrafficError(f"{bundle_id} has shadowed nothing yet; `riffle shadow start` begins it")
    table = plain_table(
        f"{bundle_id} as a shadow", "users", "lists", "alike", f"overlap of {HEAD}", "distance", "since"
    )
    for name, part in (
        ("all", found),
        ("something known", [one for one in found if one.personal]),
        ("cold starts", [one for one in found if not one.personal]),
    ):
        if part:
            alike = np.mean([one.distance == 0 for one in part])
            overlap, apart = (np.mean([getattr(one, of) for one in part]) for of in ("overlap", "distance"))
            stages = Counter(one.stage or "none" for one in part).most_common()
            since = ", ".join(f"{stage} {n / len(part):.0%}" for stage, n in stages)
            table.add_row(name, f"{len(part):,}", f"{alike:.0%}", f"{overlap:.3f}", f"{apart:.3f}", since)
    output.print(table)
    for what, of in (("enter", "entered"), ("leave", "left")):
        movers = Counter(item for one in found for item in getattr(one, of)).most_common(MOVERS)
        named = ", ".join(f"{item} ({n / len(found):.0%} of the lists)" for item, n in movers)
        output.print(f"Items that {what} the first {HEAD} most often: {escape(named or 'none')}", highlight=False)

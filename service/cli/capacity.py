"""`riffle capacity`."""

from typing import Annotated

import typer

from service.capacity import DAY_S, PEAK, UTILISATION, Demand, Machine, plan
from service.cli.console import output, plain_table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("capacity")(capacity)


def capacity(
    rps: Annotated[float | None, typer.Option(help="Requests a second, on average.")] = None,
    per_day: Annotated[float | None, typer.Option(help="Requests a day; 1e9 is a billion.")] = None,
    items: Annotated[int, typer.Option(help="Of the catalogue.")] = 100_000,
    users: Annotated[float, typer.Option(help="With a state in the store.")] = 10e6,
    events: Annotated[float, typer.Option(help="Per request.")] = 0.5,
    peak: Annotated[float, typer.Option(help="The busiest rate, in averages.")] = round(PEAK, 2),
    zones: Annotated[int, typer.Option(help="Of which one may be lost.")] = 3,
    machine_cores: Annotated[int, typer.Option(help="Of one machine.")] = 16,
    machine_gb: Annotated[float, typer.Option(help="Memory of one machine.")] = 64.0,
    core_hour: Annotated[float, typer.Option(help="Price of a core for an hour.")] = 0.045,
    gb_hour: Annotated[float, typer.Option(help="Price of a gigabyte of memory for an hour.")] = 0.005,
) -> None:
    """Cores, machines, memory and money for a load, from measured costs; docs/capacity.md says how far it is off."""
    if (rps is None) == (per_day is None):
        raise typer.BadParameter("give one of --rps and --per-day")
    requests = per_day if per_day is not None else (rps or 0.0) * DAY_S
    demand = Demand(requests, items, users, events=events, peak=peak, zones=zones)
    try:
        found = plan(demand, machine=Machine(machine_cores, machine_gb, core_hour, gb_hour))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    table = plain_table(f"{requests:,.0f} requests a day over {items:,} items, {users:,.0f} users", "", "")
    for name, value in (
        ("requests/s, average and peak", f"{found.average_rps:,.0f} and {found.peak_rps:,.0f}"),
        ("cores busy on average, all processes", f"{found.cores_busy:,.1f}"),
        (f"cores, at {UTILISATION:.0%} of the peak with a zone lost", f"{found.cores:,.1f}"),
        ("gateways", f"{found.gateways:,}"),
        (f"machines of {machine_cores} cores, over {zones} zones", f"{found.machines:,}"),
        ("memory of a machine, GB", f"{found.node_gb:,.1f} of {machine_gb:g}"),
        ("cores of the store's primaries", f"{found.store_cores:,.1f}"),
        ("memory of the store, all copies, GB", f"{found.store_gb:,.1f}"),
        ("network at the peak, MB/s", f"{found.network_mb_s:,.0f}"),
        ("money a month, at these prices", f"{found.a_month:,.0f}"),
    ):
        table.add_row(name, value)
    output.print(table)

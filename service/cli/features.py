"""`riffle features`: the definitions of this version, how they differ from a bundle's, states made anew or verified."""

from typing import Annotated, Any

import typer
from rich.markup import escape

from recsys.features.matrix import FEATURES, SCHEMA_HASH
from recsys.features.schema import described, difference
from recsys.manifest import read_manifest
from service.archives import event_archive
from service.cli.console import output, plain_table, step
from service.cli.parity import verify_
from service.errors import StackError
from service.imports import current_dataset
from service.rebuild import live_source, rebuild
from service.settings import Settings, load
from service.stack import valkey
from service.state_keys import SHARDS
from service.world import registry

features = typer.Typer(help="Feature definitions and the user states made by them.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    features.command("verify")(verify_)
    app.add_typer(features, name="features")


@features.command("list")
def list_() -> None:
    """Every feature of this version, in the order in which the ranker reads them, and the states that are live."""
    table = plain_table(None, "name", "version", "dtype", "default", "one per", "meaning")
    for one in FEATURES:
        table.add_row(one.name, str(one.version), "float32", f"{one.default:g}", one.grain, escape(one.meaning))
    output.print(table)
    output.print(f"Schema {SCHEMA_HASH}")
    store = valkey.address(load())
    if store is None:
        output.print("The store does not run, so which states are live is unknown.", style="dim")
        return
    found = live_source(store)
    if found is None:
        output.print("No live states: nothing was rebuilt for this schema; run riffle features rebuild", markup=False)
        return
    name, source = found
    output.print(f"Live states {name}: {source.users:,} users, {source.events:,} events, made {source.built}")


@features.command("diff")
def diff(
    bundle: Annotated[str, typer.Argument(help="Id, unique prefix, champion or previous.")] = "champion",
    other: Annotated[str | None, typer.Argument(help="Another bundle; without it, this version.")] = None,
) -> None:
    """What was added, removed, moved or changed from a bundle's definitions to those of another or of this version."""
    settings = load()
    before = _definitions(settings, bundle)
    after = described(FEATURES) if other is None else _definitions(settings, other)
    changes = difference(before, after)
    for change in changes:
        output.print(change, markup=False, highlight=False, soft_wrap=True)
    if not changes:
        output.print(f"[green]✓[/] the same {len(after)} definitions, in the same order")


@features.command("rebuild")
def rebuild_(
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on without events and changes of items that are lost.")
    ] = False,
) -> None:
    """Make all user states anew from import, archive and log, beside the live ones, and switch to them at once."""
    settings = load()
    url = valkey.address(settings)
    if url is None:
        raise StackError("the store does not run; `riffle up` starts it, and makes states that are missing")
    with step("Making user states", SHARDS) as done:
        made = rebuild(url, current_dataset(settings), event_archive(settings), accept_loss=accept_loss, progress=done)
    rate = made.source.events / made.seconds
    what = f"{made.source.users:,} users from {made.source.events:,} events of import and archive"
    output.print(f"[green]✓[/] {made.namespace} is live: {what} in {made.seconds:.1f} s ({rate:,.0f} events/s)")


def _definitions(settings: Settings, bundle: str) -> list[dict[str, Any]]:
    manifest = read_manifest(registry(settings).path(bundle))
    found = manifest.fields.get("features")
    if found is None:
        raise StackError(f"bundle {manifest.id} does not say what its features are; it was trained by an older version")
    return found

"""`riffle bundles`: what is published, who made it the champion, what may go."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from recsys.changes import CHAMPION, Change
from recsys.errors import RegistryError
from recsys.evaluation.report import Report
from recsys.manifest import read_manifest
from recsys.signature import private_key, read_signatures
from service import retention
from service.cli.audited import say_of_switch, whoami
from service.cli.console import output, plain_table, report_table, waiting
from service.gate import judge
from service.imports import unprompted_history
from service.promotion import promote as promote_everywhere
from service.settings import Settings, load
from service.world import registry

bundles = typer.Typer(help="The registry of published bundles.", no_args_is_help=True)

Reference = Annotated[str, typer.Argument(help="Id, unique prefix, name, or previous (the champion before).")]
Name = Annotated[str, typer.Argument(help="challenger, shadow, or any other of small letters, digits and hyphens.")]
Reason = Annotated[str, typer.Option(help="Kept in the audit.")]
Expected = Annotated[
    str | None, typer.Option("--expect", help="Refuse, where another bundle than this one has the name by now.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(bundles, name="bundles")


def pass_gate(settings: Settings, bundle_id: str) -> None:
    """Show every line of the gate.

    Raises:
        RegistryError: some are not met; it says which, and by how much.
    """
    with waiting("Judging at the gate"):
        lines = judge(settings, bundle_id, unprompted_history(settings))
    table = plain_table(f"Gate of {bundle_id}", "", "line", "found", "wanted")
    for one in lines:
        table.add_row("[green]✓[/]" if one.passed else "[red]✗[/]", *map(escape, (one.name, one.found, one.wanted)))
    output.print(table)
    if failed := [one for one in lines if not one.passed]:
        said = "; ".join(f"{one.name}: {one.found}, wanted {one.wanted}" for one in failed)
        raise RegistryError(f"{bundle_id} does not pass the gate: {said}. --force with a reason goes past it")


@bundles.command("list")
def list_() -> None:
    """Published bundles, newest first."""
    found = registry(load())
    names = found.names()
    table = plain_table(None, "", "id", "created (UTC)", "data", "NDCG@10", "features")
    table.columns[1].no_wrap = True
    for manifest in found.list():
        fields = manifest.fields
        table.add_row(
            ", ".join(name for name, bundle_id in names.items() if bundle_id == manifest.id),
            manifest.id,
            f"{manifest.created:%Y-%m-%d %H:%M}",
            fields["dataset"]["name"],
            f"{Report.from_json(fields['metrics']).rows[0].metrics['NDCG@10'].mean:.4f}",
            fields["feature_schema_hash"][:8],
        )
    output.print(table)
    for bundle_id, error in found.damaged().items():
        output.print(f"{bundle_id}: {error}", style="red", markup=False)


@bundles.command("show")
def show(bundle: Reference = "champion") -> None:
    """Where a bundle comes from, how it was judged, what it weighs."""
    manifest = read_manifest(registry(load()).path(bundle))
    fields = manifest.fields
    output.print_json(data={k: v for k, v in fields.items() if k != "metrics"} | {"id": manifest.id})
    output.print(report_table(Report.from_json(fields["metrics"]), "Evaluation"))
    size = sum(entry.size for entry in manifest.files.values())
    output.print(f"{len(manifest.files)} files, {size / 2**20:.1f} MB")


@bundles.command("verify")
def verify(
    bundle: Reference = "champion",
    keys: Annotated[
        Path | None, typer.Option(help="Trusted public keys in a PEM file; by default the setting trusted_keys.")
    ] = None,
) -> None:
    """Check every byte of a bundle against its manifest, its signature, and that this version can serve it."""
    settings = load()
    if keys is not None:
        settings = msgspec.structs.replace(settings, trusted_keys=str(keys))
    found = registry(settings)
    _, manifest = found.load(bundle)
    signers = ", ".join(one[:16] for one in sorted(read_signatures(found.path(manifest.id))))
    signed = "signed by a trusted key" if settings.trusted_keys else "no trusted keys are set, so no signature counts"
    output.print(f"[green]✓[/] {manifest.id}: {len(manifest.files)} files, all as published")
    output.print(f"{signed}; signatures: {signers or 'none'}", highlight=False)


@bundles.command("sign")
def sign(
    bundle: Reference = "champion",
    key: Annotated[
        Path | None, typer.Option(help="A private Ed25519 key in a PEM file; by default the setting signing_key.")
    ] = None,
) -> None:
    """Vouch for a bundle, once every byte is as published; signatures of other keys stay."""
    settings = load()
    if key is None and not settings.signing_key:
        raise RegistryError("no key: give --key FILE, or set signing_key")
    found = registry(settings)
    signer = found.sign(bundle, private_key(key or Path(settings.signing_key)))
    output.print(f"[green]✓[/] {found.resolve(bundle)} is signed by {signer[:16]}", highlight=False)


@bundles.command("gate")
def gate(bundle: Reference) -> None:
    """What a bundle has to show before it may answer users; exit code 1 where a line is not met."""
    settings = load()
    pass_gate(settings, registry(settings).resolve(bundle))
    output.print("[green]✓[/] every line is met")


@bundles.command("promote")
def promote(
    bundle: Reference,
    reason: Reason,
    expect: Expected = None,
    force: Annotated[bool, typer.Option("--force", help="Past the gate; the reason is kept.")] = False,
) -> None:
    """Make a bundle the champion. What runs loads it beside the others, then all replicas switch; nothing restarts.

    It has to pass the gate, unless it was the champion before. Refused also where a replica cannot load it, or there
    are no live user states for its features.
    """
    settings = load()
    found = registry(settings)
    _, manifest = found.load(bundle)
    if force:
        reason = f"past the gate: {reason}" if reason.strip() else reason
    elif manifest.id not in {one.to_id for one in found.audit() if one.name == CHAMPION}:
        pass_gate(settings, manifest.id)
    with waiting("Promoting"):
        done = promote_everywhere(settings, manifest.id, reason=reason, who=whoami(), expected=expect)
    where = (
        "run [bold]riffle serve[/] to serve it" if done.seconds is None else f"everywhere after {done.seconds:.1f} s"
    )
    output.print(f"[green]✓[/] champion is now [bold]{manifest.id}[/]; {where}")
    say_of_switch(done.stopped, done.untold)


@bundles.command("name")
def name_(name: Name, bundle: Reference, reason: Reason, expect: Expected = None) -> None:
    """Give a bundle a name, such as challenger, shadow or one that keeps it from being pruned."""
    if name == "champion":
        raise RegistryError("`riffle bundles promote` makes a champion: it checks more")
    change = registry(load()).name(name, bundle, reason=reason, who=whoami(), expected=expect)
    output.print(f"[green]✓[/] {name} is now [bold]{change.to_id}[/]")


@bundles.command("unname")
def unname(name: Name, reason: Reason) -> None:
    """Take a name away; the bundle stays."""
    change = registry(load()).unname(name, reason=reason, who=whoami())
    output.print(f"[green]✓[/] {change.from_id} is not {name} any more")


@bundles.command("audit")
def audit(count: Annotated[int, typer.Option(min=1, help="The newest.")] = 20) -> None:
    """Who gave which name to which bundle, when and why; the newest last."""
    table = plain_table(None, "", "time (UTC)", "who", "name", "from", "to", "why")
    for place in (4, 5):  # ids are for copying
        table.columns[place].no_wrap = True
    for one in registry(load()).audit()[-count:]:
        table.add_row(*map(escape, _cells(one)))
    output.print(table)


@bundles.command("prune")
def prune(
    keep: Annotated[int, typer.Option(min=1, help="The newest bundles stay, whatever else.")] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove bundles that nothing needs.

    Bundles stay that have a name, that are among the newest, the champion before, what serves now or is tried, also in
    an experiment that is only described, and those of all answers on record, which can be made again.
    """
    settings = load()
    with waiting("Reading the answers on record"):
        gone = retention.prune(settings, keep=keep, dry_run=dry_run)
    for bundle_id in gone:
        output.print(f"{bundle_id} {'would be removed' if dry_run else 'removed'}")
    if not gone:
        output.print("Every bundle is needed, or among the newest.")


def _cells(one: Change) -> tuple[str, ...]:
    return (str(one.number), one.time[:19], one.who, one.name, one.from_id or "-", one.to_id or "-", one.reason)

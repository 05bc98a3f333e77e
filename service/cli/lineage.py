"""`riffle lineage`."""

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from rich.markup import escape

from recsys.ancestry import Ancestor, ancestry
from recsys.datasets.dataset import Dataset
from recsys.datasets.junk import without_junk
from recsys.manifest import Manifest, read_manifest
from service.archives import decision_archive, event_archive
from service.cli.console import output, waiting
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream, identity_of
from service.decisions import Decision, Erased
from service.errors import NotFound, Unknown
from service.imports import current_dataset, history, history_until, imported
from service.junk import is_lost, junk_of
from service.lineage import Link, Records, lineage
from service.round_trips import RoundTrips
from service.settings import Settings, load
from service.stack import application
from service.user_history import UserHistory, live_import, user_histories
from service.world import recorded_worlds, registry

TIMEOUT_MS = 10_000
ANCESTORS = 100


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("lineage")(lineage_)


def lineage_(
    of: Annotated[str, typer.Argument(metavar="ID", help="A recommendation id; or a bundle's id, prefix or name.")],
    item: Annotated[str | None, typer.Option(help="One of the list; by default its first.")] = None,
    events: Annotated[int, typer.Option(min=1, max=100, help="Shown of each kind, the newest.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="For a program.")] = False,
) -> None:
    """From a served item back to the events that trained it; or from a bundle back through its parents.

    Exit code 1 where a link is missing; it says which, and why.
    """
    settings = load()
    try:
        identity_of(of)
    except NotFound:
        _bundle(settings, of, as_json=as_json)
        return
    with nullcontext() if as_json else waiting("Walking back"):  # whoever reads JSON reads nothing else
        links = _walk(settings, of, item, events)
    if as_json:
        typer.echo(json.dumps({"links": [dataclasses.asdict(one) for one in links]}, indent=1))
    else:
        for line in (line for link in links for line in _lines(link)):
            output.print(line, soft_wrap=True, highlight=False)
    if any(one.missing for one in links):
        raise typer.Exit(1)


def _walk(settings: Settings, recommendation_id: str, item: str | None, events: int) -> list[Link]:
    url = application.store_url(settings)
    record = asyncio.run(_record(settings, url, recommendation_id))
    return lineage(record, item, records_of(settings, url), events=events)


def records_of(settings: Settings, url: str) -> Records:
    """The records and data of a home with a store."""
    bundles = registry(settings)

    def history_of(shard: int) -> UserHistory:
        dataset, _ = live_import(url, current_dataset(settings))
        ((_, found),) = user_histories(url, dataset, event_archive(settings), [shard])
        return found

    return Records(
        manifest_of=lambda one: read_manifest(bundles.path(one)),
        world_of=recorded_worlds(settings, url),
        data_of=lambda manifest: data_of(settings, manifest),
        history_of=history_of,
    )


def data_of(settings: Settings, manifest: Manifest) -> Dataset:
    """What a bundle was trained on, as far as it is still there.

    Raises:
        DatasetError: nothing is imported. Unknown: something else is, or what was left out is not known here.
        ArchiveError: the archive cannot be read.
    """
    was = manifest.fields["dataset"]
    now = imported(settings)
    if now.fingerprint != was["fingerprint"]:
        raise Unknown(
            f"{manifest.id} was trained on another import than the current one: {was['name']}, not {now.name}"
        )
    archived = was.get("archived")
    dataset = history(settings) if archived is None else history_until(settings, [tuple(one) for one in archived])
    if is_lost(settings, manifest):
        raise Unknown(f"what was left out of the data of {manifest.id} as junk is not known in this home")
    return without_junk(dataset, junk_of(settings, manifest.id))


async def _record(settings: Settings, url: str, recommendation_id: str) -> Decision | Erased:
    store = RoundTrips(url, timeout_ms=TIMEOUT_MS, connections=1)
    try:
        return await DecisionRecords(DecisionStream(store), decision_archive(settings)).find(recommendation_id)
    finally:
        await store.close()


def _bundle(settings: Settings, reference: str, *, as_json: bool) -> None:
    bundles = registry(settings)
    chain = ancestry(bundles.resolve(reference), lambda one: read_manifest(bundles.path(one)), most=ANCESTORS)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in chain], indent=1))
        return
    for one in chain:
        for line in _generation(one):
            output.print(line, soft_wrap=True, highlight=False)


def _generation(one: Ancestor) -> Iterator[str]:
    facts = one.facts
    window = facts["data_window"] or {}
    yield (
        f"[bold]{one.id}[/] commit {facts['code_commit']}, {escape(str(facts['data']))} until {window.get('split')}, "
        f"content {str(facts['content_hash'])[:12]}"
    )
    for change in one.changed:
        yield f"  {escape(change)}"
    if one.gone:
        yield f"  [yellow]{escape(one.gone)}[/]"


def _lines(link: Link) -> Iterator[str]:
    """A link for people."""
    if link.missing:
        yield f"[red]✗ {link.name}[/] {escape(link.missing)}"
        return
    yield f"[green]✓ {link.name}[/] {escape(_SENTENCES[link.name](link.found))}"
    if note := link.found.get("note"):
        yield f"  [yellow]{escape(note)}[/]"
    for line in _DETAILS.get(link.name, lambda _: ())(link.found):
        yield f"  {escape(line)}"


def _of_sources(found: dict[str, Any]) -> Iterator[str]:
    for one in found["sources"]:
        yield f"{one['source']}: {one['score']:.4g}"
        for cause in one["because_of"]:
            weight = "" if cause["weight"] is None else f", weight {cause['weight']:.4g}"
            yield f"  {cause['item_id']} adds {cause['adds']:.4g}{weight}"
            if shared := cause.get("in_common"):
                yield f"    both are described with {', '.join(shared)}"
            if evidence := cause["evidence"]:
                made = {True: ", which give that weight", False: ", which give another weight"}
                same = made.get(evidence["same_weight"], "")
                yield f"    {evidence['times']:,} pairs of events of {evidence['users']:,} users{same}; the newest:"
                for events in evidence["newest"]:
                    yield f"      {_said(events['of'])} - {_said(events['to'])}"


def _newest(found: dict[str, Any]) -> Iterator[str]:
    for one in found["newest"]:
        yield _said(one)


def _said(event: dict[str, Any]) -> str:
    who = f"{event['user_id']}: " if "user_id" in event else ""
    where = f", in the {event['lies_in']}" if "lies_in" in event else ""
    return f"{who}{event['verb']} {event['item_id']} {event['time']}{where}"


_SENTENCES = {
    "decision": lambda f: f"{f['recommendation_id']}: {f['item_id']} at rank {f['rank']} of {f['of']}, {f['time']}",
    "bundle": lambda f: f"{f['id']}, commit {f['code_commit']}, {' < '.join(one['id'] for one in f['chain'])}",
    "data": lambda f: (
        f"{f['name']}, content {f['content_hash'][:12]}, {f['learnt_from']['events']:,} events learnt from"
    ),
    "sources": lambda f: f"found by {', '.join(one['source'] for one in f['sources'])}; replay {f['replay']}",
    "item": lambda f: f"{f['positives']:,} positives of {f['users']:,} users in what was learnt from; the newest:",
    "user": lambda f: f"{f['user_id']}: the state is made from {f['events']:,} events; the newest:",
}
_DETAILS = {"sources": _of_sources, "item": _newest, "user": _newest}

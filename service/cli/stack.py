"""`riffle up`, `down`, `serve`, `status` and `doctor`."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from recsys.datasets.dataset import Dataset
from recsys.datasets.junk import without_junk
from recsys.errors import BundleError, RegistryError
from recsys.evaluation.report import Report
from recsys.features.matrix import SCHEMA_HASH
from recsys.manifest import Manifest, read_manifest
from service import stack
from service.archives import event_archive
from service.catalogue_backlog import catalogue_backlog
from service.cli.audited import whoami
from service.cli.console import output, plain_table, report_table, step, waiting
from service.cli.data import describe, import_dataset
from service.cli.model import junk_to_leave_out, train_and_publish
from service.doctor import Finding, check
from service.errors import StackError
from service.event_backlog import backlog
from service.imports import current_dataset, history
from service.promotion import settle
from service.rebuild import is_live, rebuild
from service.settings import Settings, load
from service.stack import application, ray_node
from service.state_keys import SHARDS
from service.world import load_world, registry

_WATCH_S = 2.0
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("join")(join)
    app.command("down")(down)
    app.command("serve")(serve)
    app.command("status")(status)
    app.command("doctor")(doctor)


def up(
    data: Annotated[
        Path | None,
        typer.Option(help="MovieLens folder or zip, or interactions.csv/.parquet; none: keep, or the demo data."),
    ] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on without events and changes of items that are lost.")
    ] = False,
) -> None:
    """From nothing to live recommendations: import, train, start, warm up. Again: only what is missing."""
    began = time.monotonic()
    settings = load()
    _preflight(settings)
    dataset = current_dataset(settings, data) or import_dataset(settings, data)
    output.print(f"[green]✓[/] {describe(dataset)}")
    bundle = _champion_for(settings, dataset)
    if bundle is None:
        junk = junk_to_leave_out(settings)
        train_and_publish(settings, without_junk(history(settings), junk), promote=True, junk=junk)
        bundle = _champion_for(settings, dataset, any_seed=True)  # the one before, where the new one is surely worse
    if bundle is None:
        raise RegistryError("the bundle just trained is not the champion; run `riffle bundles list`")
    output.print(f"[green]✓[/] champion {bundle.id}")
    champion = _bring_up(settings, dataset, bundle.id, accept_loss=accept_loss)
    _show(settings, dataset, read_manifest(registry(settings).path(champion)))
    output.print(f"[dim]Done in {time.monotonic() - began:.0f} s.[/]")


def serve(
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay until SIGTERM or SIGINT, then end everything; for containers.")
    ] = False,
) -> None:
    """Start the store, Ray and the service with the champion, as it is; no import, no training."""
    settings = load()
    asked = threading.Event()
    if foreground:  # from here on: a signal while the stack starts must end what has started
        _obey(asked)
    _preflight(settings)
    bundles = registry(settings)
    champion = bundles.champion()
    if champion is None:
        raise RegistryError("there is no champion to serve; run `riffle train`, or `riffle up`")
    champion = _bring_up(settings, current_dataset(settings), champion)
    output.print(f"[green]✓[/] serving [bold]{champion}[/] at {application.url(settings)}")
    if foreground:
        _obey(asked)  # again: Ray has put a handler of its own in place
        _watch(settings, asked)


def join(
    head: Annotated[str, typer.Argument(help="Where the head's Ray is: its node_host and ray_port, host:port.")],
    cpus: Annotated[int, typer.Option(help="Gateways that may run here.", min=1)] = os.cpu_count() or 1,
) -> None:
    """Add this machine to the Ray cluster of another one, which runs `riffle up` or `riffle serve`."""
    settings = load()
    with waiting(f"Joining {head}"):
        ray_node.start(settings, head, cpus=cpus)
    output.print(f"[green]✓[/] joined [bold]{head}[/]; `riffle down` leaves it")


def down() -> None:
    """End everything that `up` started. State stays in the home folder."""
    settings = load()
    with waiting("Stopping the service, Ray, HAProxy and the store"):
        ended = stack.stop(settings)
    kept = f"State is kept in {settings.home}/."
    output.print(f"[green]✓[/] Everything has ended. {kept}" if ended else f"Nothing was running. {kept}")


def status() -> None:
    """What runs, and what it serves."""
    settings = load()
    if not stack.running(settings):
        raise StackError("nothing runs; `riffle up` starts everything")
    ready = application.readiness(settings)
    output.print(f"API        {application.url(settings)}  {'ready' if ready.get('ready') else 'NOT READY'}")
    output.print(f"Bundle     {ready.get('bundle', 'none')}")
    output.print(f"Dashboard  {application.dashboard_url(settings)}")
    events, changes = backlog(application.store_url(settings)), catalogue_backlog(application.store_url(settings))
    output.print(f"Events     {_waiting(events.waiting, events.oldest_s)}; {events.dead} set aside as no events")
    output.print(f"Items      {_waiting(changes.waiting, changes.oldest_s)}; {changes.kept} changes kept in the store")
    if not ready.get("ready"):
        raise StackError("the service is not ready; `riffle serve` deploys it again, `riffle doctor` looks for causes")


def doctor() -> None:
    """Check interpreter, ports, store, bundle, memory and disk, and say what to do."""
    settings = load()
    findings = check(settings, extra=[_champion_finding(settings)])
    table = plain_table(None, "", "what", "found")
    for finding in findings:
        colour = _COLOURS[finding.level]
        remedy = f"\n[bold]→ {escape(finding.remedy)}[/]" if finding.remedy else ""
        table.add_row(f"[{colour}]{finding.level}[/]", finding.name, escape(finding.detail) + remedy)
    output.print(table)
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)


def _waiting(number: int, oldest_s: float) -> str:
    return f"{number} waiting, the oldest for {oldest_s:.1f} s" if number else "none waits"


def _preflight(settings: Settings) -> None:
    """Refuse before anything is started."""
    failed: list[Finding] = [finding for finding in check(settings) if finding.level == "fail"]
    if failed:
        raise StackError("; ".join(f"{one.detail}: {one.remedy}" for one in failed))


def _obey(asked: threading.Event) -> None:
    """Let SIGTERM and SIGINT set an event instead of ending this process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())


def _watch(settings: Settings, asked: threading.Event) -> None:
    """Stay while the stack runs; end it when asked to.

    Raises:
        StackError: the stack ended by itself.
    """
    try:
        while not asked.wait(_WATCH_S):
            if not stack.running(settings):
                raise StackError("the stack has ended by itself; its logs are under the home folder")
    finally:
        stack.stop(settings)


def _champion_finding(settings: Settings) -> Finding:
    try:
        bundle = load_world(settings).bundle
    except RegistryError as error:
        return Finding("bundle", "warn", str(error), "riffle up trains one")
    except BundleError as error:
        return Finding(
            "bundle", "fail", str(error), "riffle bundles promote previous --reason damaged, or riffle train"
        )
    return Finding("bundle", "ok", f"{bundle.id}: every file as published, {len(bundle.vocabulary):,} items")


def _champion_for(settings: Settings, dataset: Dataset, *, any_seed: bool = False) -> Manifest | None:
    """The champion, if it was trained on just this data, from this seed, by this version's features."""
    bundles = registry(settings)
    champion = bundles.champion()
    if champion is None:
        return None
    manifest = read_manifest(bundles.path(champion))
    fields = manifest.fields
    same = fields["dataset"]["fingerprint"] == dataset.fingerprint and fields["feature_schema_hash"] == SCHEMA_HASH
    return manifest if same and (any_seed or fields["recipe"]["seed"] == settings.seed) else None


def _bring_up(settings: Settings, dataset: Dataset | None, bundle_id: str, *, accept_loss: bool = False) -> str:
    """Start store and Ray, load states, deploy; what this call started is ended when it fails.

    Returns:
        The champion: another one, where what ran was rolled back while the registry was away.
    """
    was_running = stack.running(settings)
    try:
        with waiting("Starting the store and Ray"):
            store, _ = stack.start(settings)
        if dataset is not None:
            with step("Making user states", SHARDS) as done:
                if is_live(store.url, dataset):
                    done(SHARDS)
                else:
                    archive = event_archive(settings)
                    rebuild(store.url, dataset, archive, accept_loss=accept_loss, progress=done)
        with waiting("Starting the service behind HAProxy"):
            champion = settle(settings, store.url, bundle_id, who=whoami())
            application.deploy(settings, redis_url=store.url, bundle_id=champion)
        return champion
    except BaseException:
        if not was_running:
            stack.stop(settings)
        raise


def _show(settings: Settings, dataset: Dataset, bundle: Manifest) -> None:
    """What a newcomer wants to see: addresses, a request, its answer, the evaluation, where to go next."""
    user = _some_user(dataset)
    body = {"user_id": user, "count": 5, "return": {"reasons": True}}
    answer = application.ask(settings, "/v1/recommendations", body)
    output.rule("[bold]Riffle is up" + (" (synthetic data)" if dataset.synthetic else ""))
    output.print(f"API        {application.url(settings)}   docs: {application.url(settings)}/docs")
    output.print(
        f"Dashboard  {application.dashboard_url(settings)}   asks once for the token in {settings.home}/run/ray-token"
    )
    output.print("\nTry it:", style="bold")
    command = f"curl -s {application.url(settings)}/v1/recommendations -H 'content-type: application/json' "
    output.print(f"{command}-d '{json.dumps(body)}'", markup=False, highlight=False, soft_wrap=True)
    output.print(_answer_table(answer, user, dict(zip(dataset.item_id, dataset.item_title, strict=True))))
    output.print(report_table(Report.from_json(bundle.fields["metrics"]), f"Evaluation of {bundle.id}"))
    output.print(Report.from_json(bundle.fields["metrics"]).protocol, style="dim")
    if dataset.attribution:
        output.print(f"Data: {dataset.attribution}", style="dim", highlight=False)
    output.print(
        "\nNext: [bold]make demo-traffic[/] sends simulated users, [bold]riffle recommend --user ID[/] explains a list,"
        "\n      [bold]riffle bundles list[/] shows models, [bold]make bench[/] measures, README.md has the tour,\n"
        "      [bold]make down[/] ends everything. ([bold]riffle[/] is .venv/bin/riffle.)"
    )


def _answer_table(answer: dict[str, Any], user: str, titles: dict[str, str]) -> Table:
    took = f"{answer['timing_ms']['total']:.1f} ms"
    title = f"The answer it just gave for user {user}, in {took}"
    table = plain_table(title, "rank", "title", "categories", "because")
    for item in answer["items"]:
        categories = ", ".join(item["metadata"]["categories"])
        code, _, cause = item["reasons"][0].partition(":")
        because = f"{code.replace('_', ' ')} {titles.get(cause, cause)}".strip()
        table.add_row(*map(escape, (str(item["rank"]), item["metadata"]["title"], categories, because)))
    return table


def _some_user(dataset: Dataset) -> str:
    """A user with a history of ordinary length (the median), for an example."""
    counts = np.bincount(dataset.events.user, minlength=len(dataset.user_id))
    return dataset.user_id[int(np.argsort(counts, kind="stable")[len(counts) // 2])]

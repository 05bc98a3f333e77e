"""`riffle train`, `bundles` and `recommend`."""

import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape

from recsys.bundle import Recipe
from recsys.bundle_files import load as load_bundle
from recsys.datasets.checks.checks import check
from recsys.datasets.dataset import Dataset
from recsys.errors import BundleError, RegistryError
from recsys.evaluation.report import Report, shown
from recsys.features.history import History
from recsys.manifest import Manifest, read_manifest
from recsys.reasons import reasons
from recsys.recommend import recommend as recommend_batch
from recsys.training.log import Log
from recsys.training.questions import Known, Questions
from recsys.training.train import BY_TIMING, CHAMPION, train, write
from recsys.types import Controls, Ragged, World
from service.cli.checks import print_findings
from service.cli.console import output, plain_table, report_table, step
from service.cli.data import describe
from service.cli.moments import duration_s
from service.cli.search import search_recipe
from service.encoding import SOURCE_NAMES
from service.imports import history
from service.rebuild import live_source
from service.settings import Settings, load
from service.stack import valkey
from service.world import load_world, registry

bundles = typer.Typer(help="The registry of published bundles.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("train")(train_)
    app.command("recommend")(recommend)
    app.add_typer(bundles, name="bundles")


def train_(
    data: Annotated[
        Path | None,
        typer.Option(help="Data as for `riffle import`, not imported; the bundle is published, but never promoted."),
    ] = None,
    promote: Annotated[bool, typer.Option(help="Make the new bundle the champion.")] = True,
    budget: Annotated[
        str | None, typer.Option(help="Search for a better recipe first, for as long as 90s, 10m or 1h.")
    ] = None,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Trials of the search at once; by default one for each processor.")
    ] = None,
) -> None:
    """Train on the last import and what is archived since, or on other data; evaluate, publish a bundle."""
    budget_s = None if budget is None else duration_s(budget)
    settings = load()
    dataset = history(settings, data)
    output.print(describe(dataset))
    report, bundle_id, _ = train_and_publish(
        settings, dataset, imported=data is None, promote=promote, budget_s=budget_s, parallel=parallel
    )
    output.print(report_table(report, f"What was held out of {dataset.title}"))
    output.print(
        f"[green]✓[/] published [bold]{bundle_id}[/]"
        + (", now champion" if registry(settings).champion() == bundle_id else "")
    )


def train_and_publish(
    settings: Settings,
    dataset: Dataset,
    *,
    promote: bool,
    imported: bool = True,
    budget_s: int | None = None,
    parallel: int | None = None,
) -> tuple[Report, str, float]:
    """Check, train, publish and, if wanted, promote; returns the report, the bundle's id, the seconds of training.

    Args:
        imported: The data are those that the service's states and items are made from. A bundle of others is not
            promoted, and not compared with the champion, which may have learnt what is held out.
        budget_s, parallel: Of a search for the recipe; without a budget there is none.

    Raises:
        TrainingError: the data cannot train a bundle, or fail a check.
    """
    began = time.monotonic()
    checks = check(dataset)
    checks.refuse()
    if warnings := checks.of_level("warning"):
        print_findings(warnings)
    bundles = registry(settings)
    recipe = Recipe(seed=settings.seed, objective=settings.objective)
    found = None if budget_s is None else search_recipe(settings, dataset, recipe, budget_s=budget_s, parallel=parallel)
    trained = train(
        dataset,
        recipe if found is None else found.recipe,
        candidates=settings.candidates,
        champion=_comparable_champion(settings, dataset) if imported else None,
        step=step,
    )
    settings.home_path.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bundle-", dir=settings.home_path))
    try:
        parent = bundles.champion()
        write(trained, dataset, folder, code_commit=commit(), parent=parent, checks=checks, search=found)
        bundle_id = bundles.publish(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name in (behind := trained.report.behind()):
        difference = shown(trained.report.over(name), sign=True)
        output.print(
            f"[yellow]{name} is surely better on what was held out: {difference} NDCG@10 "
            "over it. `riffle train --budget 10m` looks for a better recipe.[/]"
        )
    by_hand = f"`riffle bundles promote {bundle_id} --reason TEXT` does it all the same."
    if not imported:
        output.print(
            "Not promoted: its data were not imported, so it may list items that the service does not have, and events "
            f"of items that it does not know would be refused; {by_hand}",
        )
    elif CHAMPION in behind:
        output.print(f"Not promoted; {by_hand}")
    elif promote:
        bundles.promote(bundle_id, reason="trained and promoted by riffle train")
    return trained.report, bundle_id, time.monotonic() - began


def recommend(
    user: Annotated[str, typer.Option(help="A user id of the imported data; an unknown one is a cold start.")],
    count: Annotated[int, typer.Option(min=1, max=500)] = 10,
    bundle: Annotated[str, typer.Option(help="Bundle id, a unique prefix, or champion.")] = "champion",
) -> None:
    """The pure function in this process, without any service: recent history and list, with titles."""
    settings = load()
    dataset = history(settings)
    world = load_world(settings, bundle)
    log = Log.of(dataset)
    number = dataset.user_id.index(user) if user in dataset.user_id else len(dataset.user_id)
    now_s = int(time.time())
    who, now = np.array([number], np.int32), np.array([len(log)])
    question = Questions(who, np.array([now_s], np.int64), now, Ragged.empty(1, np.uint64))
    states = log.states_before(who, now)
    batch = question.batch(Known.of(states), np.zeros(1, np.int64), count=count, seed=settings.seed)
    if settings.diversity:
        batch = replace(batch, controls=Controls.without_quotas(1, diversity=settings.diversity))
    slates = recommend_batch(world, batch)
    recent = History.of(states, world).item[0]
    if number == len(dataset.user_id):
        output.print(f"{user!r} is not in {dataset.title}: a cold start", style="yellow", markup=False)
    liked = plain_table(f"Newest of {int(states.events[0])} interactions of user {user}", "title")
    for row in recent[recent >= 0][:5]:
        liked.add_row(escape(world.bundle.title[int(row)]))
    listed = plain_table(f"Recommended by {world.bundle.id}", "rank", "item", "title", "score", "sources", "because")
    for place, (item, score, sources) in enumerate(
        zip(slates.item.tolist(), slates.score.tolist(), slates.sources.tolist(), strict=True), 1
    ):
        because = reasons(world, recent, item, sources)
        shown = world.bundle.vocabulary.item_id[item], world.bundle.title[item]
        cells = (str(place), *shown, f"{score:.3f}", " ".join(SOURCE_NAMES[sources]), because[0])
        listed.add_row(*map(escape, cells))
    output.print(liked, listed)


def _comparable_champion(settings: Settings, dataset: Dataset) -> World | None:
    """The champion, where it was trained on an older part of the same import and can be loaded."""
    found = registry(settings)
    champion = found.champion()
    if champion is None:
        return None
    try:
        fields = _manifest(settings, champion).fields
        if fields["dataset"]["fingerprint"] != dataset.fingerprint or fields["protocol"] != BY_TIMING[dataset.timing]:
            return None
        return load_world(settings)
    except (BundleError, KeyError):
        return None


@bundles.command("list")
def list_() -> None:
    """Published bundles, newest first."""
    settings = load()
    found = registry(settings)
    champion = found.champion() if found.list() else None
    table = plain_table(None, "", "id", "created (UTC)", "data", "NDCG@10", "features")
    for manifest in found.list():
        fields = manifest.fields
        table.add_row(
            "champion" if manifest.id == champion else "",
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
def show(bundle: Annotated[str, typer.Argument(help="Id, unique prefix, champion or previous.")] = "champion") -> None:
    """Where a bundle comes from, how it was judged, what it weighs."""
    settings = load()
    manifest = _manifest(settings, registry(settings).resolve(bundle))
    fields = manifest.fields
    output.print_json(data={k: v for k, v in fields.items() if k != "metrics"} | {"id": manifest.id})
    output.print(report_table(Report.from_json(fields["metrics"]), "Evaluation"))
    size = sum(entry.size for entry in manifest.files.values())
    output.print(f"{len(manifest.files)} files, {size / 2**20:.1f} MB")


@bundles.command("verify")
def verify(
    bundle: Annotated[str, typer.Argument(help="Id, unique prefix, champion or previous.")] = "champion",
) -> None:
    """Check every byte of a bundle against its manifest, and that this version can serve it."""
    settings = load()
    _, manifest = load_bundle(registry(settings).path(bundle))
    output.print(f"[green]✓[/] {manifest.id}: {len(manifest.files)} files, all as published")


@bundles.command("promote")
def promote(
    bundle: Annotated[str, typer.Argument(help="Id, unique prefix, or previous (to roll back).")],
    reason: Annotated[str, typer.Option(help="Kept in the audit.")],
) -> None:
    """Make a bundle the champion; `riffle up` or `riffle serve` then serve it.

    While the store runs, a bundle for whose features there are no live user states is refused.
    """
    settings = load()
    found = registry(settings)
    _, manifest = load_bundle(found.path(bundle))
    schema = manifest.fields["feature_schema_hash"]
    store = valkey.address(settings)
    if store is not None and live_source(store, schema) is None:
        raise RegistryError(
            f"bundle {manifest.id} needs user states of feature schema {schema[:8]}, and none are live; run "
            "`riffle features rebuild`, then promote it"
        )
    found.promote(bundle, reason=reason)
    output.print(f"[green]✓[/] champion is now [bold]{found.champion()}[/]; run [bold]riffle up[/] to serve it")


def _manifest(settings: Settings, bundle_id: str) -> Manifest:
    return read_manifest(registry(settings).path(bundle_id))


def commit() -> str:
    """The commit of the code, with `-dirty` where files differ from it; "unknown" outside a repository."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() or "unknown"

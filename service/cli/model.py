"""`riffle train` and `recommend`."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape

from recsys.datasets.checks.checks import check
from recsys.datasets.dataset import Dataset
from recsys.datasets.junk import Junk, without_junk, without_users
from recsys.erased_users import user_digest
from recsys.errors import DatasetError
from recsys.evaluation.report import Report, shown
from recsys.features.history import History
from recsys.manifest import read_manifest
from recsys.reasons import reasons
from recsys.recommend import recommend as recommend_batch
from recsys.training.log import Log
from recsys.training.questions import Known, Questions
from recsys.training.train import CHAMPION
from recsys.types import Controls, Ragged
from service.cli.audited import say_of_switch, whoami
from service.cli.checks import print_findings
from service.cli.console import output, plain_table, report_table, step
from service.cli.data import describe
from service.cli.moments import duration_s
from service.cli.search import search_recipe
from service.encoding import SOURCE_NAMES
from service.imports import history
from service.junk import is_lost, junk_of
from service.promotion import promote as promote_everywhere
from service.settings import Settings, load
from service.training import base_recipe, comparable_champion, published
from service.world import load_world, registry


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("train")(train_)
    app.command("recommend")(recommend)


def train_(
    data: Annotated[
        Path | None,
        typer.Option(help="Data as for `riffle import`, not imported; the bundle is published, but never promoted."),
    ] = None,
    promote: Annotated[bool, typer.Option(help="Make the new bundle the champion.")] = True,
    name: Annotated[str | None, typer.Option(help="Of the new bundle, such as challenger; see `bundles name`.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Search for a better recipe first, for as long as 90s, 10m or 1h.")
    ] = None,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Trials of the search at once; by default one for each processor.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Also on what the champion's training left out as junk; for good.")
    ] = False,
    take_in: Annotated[
        list[str] | None, typer.Option(help="A user who was left out as junk and is a person; may be repeated.")
    ] = None,
) -> None:
    """Train on the last import and what is archived since, or on other data; evaluate, publish a bundle."""
    budget_s = None if budget is None else duration_s(budget)
    settings = load()
    whole = history(settings, data)
    junk = () if everything or data is not None else junk_to_leave_out(settings, take_in or [])
    dataset = without_junk(whole, junk)
    output.print(describe(dataset))
    if out := len(whole.events) - len(dataset.events):
        output.print(f"left out: {out:,} interactions, as of the champion; `riffle autopilot junk` names their users")
    report, bundle_id, _ = train_and_publish(
        settings, dataset, imported=data is None, promote=promote, budget_s=budget_s, parallel=parallel, junk=junk
    )
    output.print(report_table(report, f"What was held out of {dataset.title}"))
    if name is not None:
        registry(settings).name(name, bundle_id, reason="named by riffle train", who=whoami())
    output.print(
        f"[green]✓[/] published [bold]{bundle_id}[/]"
        + (f" as {name}" if name else "")
        + (", now champion" if registry(settings).champion() == bundle_id else "")
    )


def junk_to_leave_out(settings: Settings, take_in: Sequence[str] = ()) -> tuple[Junk, ...]:
    """What was left out of the champion's data, but for these users; says so where that is not known.

    Raises:
        DatasetError: a user was not left out.
    """
    bundles = registry(settings)
    champion = bundles.champion()
    junk = junk_of(settings, champion)
    known = {digest for look in junk for digest in look.users}
    if strangers := [user for user in take_in if user_digest(user) not in known]:
        raise DatasetError(
            f"{', '.join(strangers)}: not left out of the champion; `riffle autopilot junk` names who was"
        )
    if champion is not None and is_lost(settings, read_manifest(bundles.path(champion))):
        output.print(
            "[yellow]What was left out of the champion's data as junk is not known in this home, and is trained on; "
            "`riffle autopilot --once` would look for it again.[/]"
        )
    return without_users(junk, frozenset(map(user_digest, take_in)))


def train_and_publish(
    settings: Settings,
    dataset: Dataset,
    *,
    promote: bool,
    imported: bool = True,
    budget_s: int | None = None,
    parallel: int | None = None,
    junk: Sequence[Junk] = (),
) -> tuple[Report, str, float]:
    """Check, train, publish and, if wanted, promote; returns the report, the bundle's id, the seconds of training.

    Args:
        imported: The data are those that the service's states and items are made from. A bundle of others is not
            promoted, and not compared with the champion, which may have learnt what is held out.
        budget_s, parallel: Of a search for the recipe; without a budget there is none.
        junk: What was left out of the data.

    Raises:
        TrainingError: the data cannot train a bundle, or fail a check.
    """
    began = time.monotonic()
    checks = check(dataset)
    checks.refuse()
    if warnings := checks.of_level("warning"):
        print_findings(warnings)
    recipe = base_recipe(settings)
    found = None if budget_s is None else search_recipe(settings, dataset, recipe, budget_s=budget_s, parallel=parallel)
    champion = comparable_champion(settings, dataset) if imported else None
    report, bundle_id = published(settings, dataset, checks, champion=champion, search=found, junk=junk, step=step)
    for name in (behind := report.behind()):
        difference = shown(report.over(name), sign=True)
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
        done = promote_everywhere(settings, bundle_id, reason="trained and promoted by riffle train", who=whoami())
        say_of_switch(done.stopped, done.untold)
    return report, bundle_id, time.monotonic() - began


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

"""`riffle evaluate`."""

import json
import resource
import sys
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from recsys.bundle import Recipe
from recsys.datasets.dataset import Dataset
from recsys.datasets.detect import read_dataset
from recsys.datasets.junk import without_junk
from recsys.errors import DatasetError
from recsys.evaluation.baselines import Pipeline, baselines, with_ease
from recsys.evaluation.compare import HEADLINE, Asked, compare
from recsys.evaluation.plots import plot_pipelines
from recsys.evaluation.report import Report
from recsys.evaluation.staleness import lags
from recsys.manifest import Manifest, read_manifest
from recsys.training.learn import learn
from recsys.training.log import Log
from recsys.training.splits import ASKED_PER_USER, DESCRIBED, PROTOCOLS, Split, after, given, held_out_items
from recsys.training.train import CHAMPION, JUDGED_MAX, judge
from recsys.types import World
from service.cli.cold_start import show_ceiling, show_cold_start
from service.cli.conditions import conditions
from service.cli.console import output, report_table, step
from service.cli.trade_off import show_trade_off
from service.imports import history
from service.junk import junk_of
from service.settings import Settings, load
from service.world import load_world, registry

TIED = 0.3  # share of questions; beyond it the clock of the data says little about a minute


class Protocol(StrEnum):
    """`splits.DESCRIBED`, as choices of an option."""

    TEMPORAL_NEXT = "temporal-next"
    TEMPORAL_STATIC = "temporal-static"
    LEAVE_ONE_OUT = "leave-one-out"
    HELD_OUT_ITEMS = "held-out-items"
    STRONG_GENERALISATION = "strong-generalisation"
    GIVEN_SPLIT = "given-split"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    bundle: Annotated[str, typer.Argument(help="Bundle id, a unique prefix, or champion.")] = "champion",
    per_user: Annotated[int, typer.Option(min=1, help="Questions per user at most.")] = ASKED_PER_USER,
    protocol: Annotated[
        Protocol | None,
        typer.Option(help="Train on the part that a protocol allows and ask the rest, instead of judging a bundle."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="With --protocol: data that is not imported.")] = None,
    test: Annotated[Path | None, typer.Option(help="With --protocol given-split: the file that is asked.")] = None,
    staleness: Annotated[
        bool, typer.Option("--staleness", help="Also with user states that are 1 min, 1 h and 1 day old.")
    ] = False,
    trade_off: Annotated[
        bool, typer.Option("--trade-off", help="Also what diversity and popularity damping cost.")
    ] = False,
    cold_start: Annotated[bool, typer.Option("--cold-start", help="New users only, after 0 to 20 events.")] = False,
    ceiling: Annotated[
        bool,
        typer.Option("--ceiling", help="With --cold-start: what a ranker taught by new users' own answers reaches."),
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--report", help="A folder for the report as JSON, Markdown and picture.")
    ] = None,
) -> None:
    """Evaluate a bundle on what it has not learnt from, beside popularity and each source alone.

    All unseen items ranked, 95 % bootstrap intervals over users. With --protocol: train on a part of the data in
    memory, without publishing, and ask the rest. EASE stands beside them where the catalogue has at most 13,000 items.
    """
    _check(protocol, data, test, cold_start=cold_start, ceiling=ceiling, staleness=staleness, trade_off=trade_off)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise typer.BadParameter(f"--report {folder} is a file; name a folder")
    settings = load()
    if protocol is not None:
        _protocol(settings, protocol.value, data, test, per_user, folder, staleness=staleness, trade_off=trade_off)
        return
    world = load_world(settings, bundle)
    dataset = without_junk(history(settings), junk_of(settings, world.bundle.id))
    manifest = _manifest(settings, world.bundle.id)
    split_s = split_s_of(manifest.fields)
    if cold_start:
        if manifest.fields["dataset"]["fingerprint"] != dataset.fingerprint:
            raise DatasetError(f"{world.bundle.id} was trained on other data, so nobody is known to be new to it")
        show_cold_start(world, dataset, split_s, settings, folder)
        if ceiling:
            show_ceiling(world, dataset, split_s, settings)
        return
    name, split = rest(manifest.fields, dataset, split_s, per_user, settings.seed)
    beside = baselines(world) | with_ease(world, split.past) | _champion(settings, manifest)
    report = judge(world, split, name, beside=beside, seed=settings.seed, step=step)
    report = replace(report, conditions=conditions(settings))
    _show(report, f"Bundle {world.bundle.id}")
    if staleness:
        _staleness(world, split, settings, dataset, folder, conditions(settings))
    if trade_off:
        show_trade_off(world, split, name, dataset, settings, folder)
    _write(report, folder, f"{name}-{dataset.name}", f"{dataset.title}, {name}")


def _champion(settings: Settings, judged: Manifest) -> dict[str, Pipeline]:
    """The champion, to be compared in pairs, where it is another bundle and has learnt nothing of what is asked."""
    champion = registry(settings).champion()
    if champion is None or champion == judged.id:
        return {}
    own, other = judged.fields, _manifest(settings, champion).fields
    same = other["dataset"]["fingerprint"] == own["dataset"]["fingerprint"] and other["protocol"] == own["protocol"]
    if not same or other["data_window"]["split"] > own["data_window"]["split"]:
        output.print("[yellow]The champion is not beside it: it may have learnt what is asked.[/]")
        return {}
    return {CHAMPION: Pipeline(load_world(settings, champion))}


def split_s_of(fields: dict[str, Any]) -> int:
    """When what a bundle has learnt from ends, UTC epoch seconds, of the fields of its manifest."""
    return int(np.datetime64(fields["data_window"]["split"][:19], "s").astype(np.int64))


def rest(fields: dict[str, Any], dataset: Dataset, split_s: int, per_user: int, seed: int) -> tuple[str, Split]:
    """What a bundle with these fields of the manifest has not learnt from, and the protocol by which it is asked."""
    name, log = fields["protocol"], Log.of(dataset)
    if fields["dataset"]["fingerprint"] != dataset.fingerprint:
        output.print("[yellow]This bundle was trained on other data; only its split date is used.[/]")
        name = "temporal-next"
    if name == "temporal-next":
        split = after(log, split_s, per_user=per_user, seed=seed)
    else:
        split = PROTOCOLS[name](log, per_user=per_user, seed=seed)
    if len(np.unique(split.questions.user)) < 2:
        raise DatasetError(f"the imported data has too few positives after {fields['data_window']['split']}")
    return name, split


def _check(
    protocol: Protocol | None,
    data: Path | None,
    test: Path | None,
    *,
    cold_start: bool,
    ceiling: bool,
    staleness: bool,
    trade_off: bool,
) -> None:
    if ceiling and not cold_start:
        raise typer.BadParameter("--ceiling goes with --cold-start")
    if cold_start and (protocol or staleness or trade_off):
        raise typer.BadParameter("--cold-start goes with none of --protocol, --staleness and --trade-off")
    if (data or test) and protocol is None:
        raise typer.BadParameter("--data and --test go with --protocol")
    if (protocol == "given-split") != (test is not None):
        raise typer.BadParameter("--protocol given-split and --test go together")
    if staleness and protocol not in (None, "temporal-next"):
        raise typer.BadParameter("--staleness goes with temporal-next: other protocols know no time")


def _protocol(
    settings: Settings,
    protocol: str,
    data: Path | None,
    test: Path | None,
    per_user: int,
    folder: Path | None,
    *,
    staleness: bool,
    trade_off: bool,
) -> None:
    dataset = history(settings, data, ordered=protocol not in ("given-split", "held-out-items"))
    log, began = Log.of(dataset), time.monotonic()
    if test is None:
        divide = PROTOCOLS[protocol]
        split = divide(log, per_user=per_user, seed=settings.seed)
    else:
        other = read_dataset(test, positive_rating=settings.positive_rating, ordered=False)
        divide = held_out_items
        users = {one: number for number, one in enumerate(dataset.user_id)}
        split, both, strangers = given(log, users, Log.of(other), other.user_id)
        if both or strangers:
            output.print(
                f"[yellow]Left out of the test file: {both:,} pairs that the training file has too, "
                f"{strangers:,} of users whom it lacks.[/]"
            )
    if len(np.unique(split.questions.user)) < 2:
        raise DatasetError(f"{dataset.title}: {protocol} leaves fewer than two users to ask")
    recipe = Recipe(seed=settings.seed, objective=settings.objective)
    learnt = learn(dataset, split.past, divide, recipe, candidates=settings.candidates, step=step)
    trained_s = time.monotonic() - began
    unit = 2**30 if sys.platform == "darwin" else 2**20  # macOS counts bytes, Linux kilobytes
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    world = World(learnt.bundle, learnt.bundle.item_stats, settings.candidates)
    beside = baselines(world) | with_ease(world, split.past)
    recipe = learnt.bundle.recipe
    under = conditions(settings) | {
        "trained in": f"{trained_s:.0f} s with at most {peak_gb:.2f} GB",
        "sources": " ".join(recipe.sources),
        "ALS": f"alpha {recipe.als_alpha:g}, regularisation {recipe.als_regularization:g}",
        "popular by": recipe.popular,
        "ranker": f"{'linear, ' if recipe.linear else ''}{recipe.trees} trees"
        + f" of {recipe.tree_seeds} seeds" * (recipe.trees > 0 and recipe.tree_seeds > 1),
    }
    report = judge(world, split, protocol, beside=beside, seed=settings.seed, step=step)
    report = replace(report, conditions=under)
    _show(report, f"{dataset.title}, {protocol}")
    output.print(f"  trained in {under['trained in']}; sources: {under['sources']}")
    if staleness:
        _staleness(world, split, settings, dataset, folder, under)
    if trade_off:
        show_trade_off(world, split, protocol, dataset, settings, folder)
    _write(report, folder, f"{protocol}-{dataset.name}", f"{dataset.title}, {protocol}")


def _show(report: Report, title: str) -> None:
    output.print(report_table(report, title))
    for name, interval in report.differences.items():
        if name.startswith(HEADLINE):
            output.print(f"  {name}: {interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]", markup=False)


def _staleness(
    world: World, split: Split, settings: Settings, dataset: Dataset, folder: Path | None, under: dict[str, Any]
) -> None:
    seed = settings.seed
    asked = split.questions.limited(JUDGED_MAX, seed=seed)
    gaps_s = asked.now_s - asked.known(split.history).states.ts_s.max(axis=1, initial=0)
    if (tied := float((gaps_s == 0).mean())) > TIED:
        output.print(
            f"[yellow]{tied:.0%} of the questions are asked in the second of an earlier event: the clock of these data "
            "is coarse, and a state of some age lacks first of all what happened at the same time.[/]"
        )
    also = lags(split.history, asked)
    beside = {name: one for name, one in baselines(world).items() if name == "ALS"}
    with step("Evaluating stale user states", (1 + len(beside) + len(also)) * len(asked)) as done:
        known = asked.known(split.history)
        report = compare(
            world,
            Asked(asked, known),
            protocol=f"{DESCRIBED['temporal-next']} The later rows know what was known some time before the question.",
            seed=seed,
            beside=beside,
            also=also,
            progress=done,
        )
    report = replace(report, conditions=under | {"asked in the second of an earlier event": f"{tied:.1%}"})
    _show(report, f"{dataset.title}, user states of some age")
    _write(report, folder, f"staleness-{dataset.name}", f"{dataset.title}: quality by the age of user states")


def _write(report: Report, folder: Path | None, name: str, title: str) -> None:
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.with_suffix(".json").write_text(json.dumps(report.to_json(), indent=1), "utf-8")
    path.with_suffix(".md").write_text(report.markdown(), "utf-8")
    plot_pipelines(report, title, path.with_suffix(".png"))
    output.print(f"Written to {path}.json, .md and .png", markup=False)


def _manifest(settings: Settings, bundle_id: str) -> Manifest:
    return read_manifest(registry(settings).path(bundle_id))

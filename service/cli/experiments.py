"""`riffle experiments`: users drawn into variants, and what the variants do."""

import math
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from recsys.erased_users import user_digest
from recsys.experiments.effects import Effect
from recsys.experiments.guards import NAMES
from recsys.experiments.outcomes import METRICS
from recsys.experiments.plots import Interval, plot_intervals
from service import experiments as service
from service.cli.audited import whoami
from service.cli.console import output, plain_table, waiting
from service.cli.interval_plot import interval_plot
from service.cli.moments import duration_s
from service.cli.traffic import Reason, percent, store_of
from service.cli.variants import percentage, variant_of
from service.errors import StackError
from service.experiment_schemas import EffectOutcome, ExperimentReport, ExperimentRequest
from service.experiments import PLANNED
from service.outcomes import WINDOW_S, with_outcomes
from service.rehearsal import rehearse
from service.settings import load
from service.traffic import switching
from service.traffic.document import Traffic
from service.traffic.table import TrafficTable, on_table
from service.world import registry

experiments = typer.Typer(help="Users drawn into variants, and what the variants do.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Of the experiment.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(experiments, name="experiments")


@experiments.command("create")
def create(
    name: Name,
    reason: Reason,
    variants: Annotated[
        list[str],
        typer.Option(
            "--variant",
            help="NAME=PERCENT, then what is other: b=50,diversity=0.2,candidates=400,bundle=ID,quotas=Drama:3+War:1.",
        ),
    ],
    share: Annotated[float, typer.Option(help="Percent of the layer's users, in steps of 0.01.")] = 100.0,
    layer: Annotated[str, typer.Option(help="Experiments of one layer share no user.")] = "default",
    placements: Annotated[
        list[str] | None, typer.Option("--placement", help="Where it counts; none: everywhere.")
    ] = None,
    interleave: Annotated[
        bool, typer.Option("--interleave", help="Two variants draft each list together, and users choose between them.")
    ] = False,
    same: Annotated[bool, typer.Option("--same", help="Variants may be alike: a test of the test.")] = False,
) -> None:
    """Describe an experiment; the first variant is the control. Nobody is in it before it is started."""
    settings = load()
    asked = ExperimentRequest(
        name=name,
        variants=[variant_of(one) for one in variants],
        who=whoami(),
        reason=reason,
        share=share,
        layer=layer,
        placements=tuple(placements or ()),
        kind="interleaving" if interleave else "ab",
        same=same,
    )
    resolve = registry(settings).resolve
    on_table(store_of(settings), lambda table: service.create(table, settings, resolve, asked))
    output.print(f"[green]✓[/] {name} is described; [bold]riffle experiments start {name}[/] begins it")


@experiments.command("start")
def start(name: Name, reason: Reason) -> None:
    """Draw users into its variants, if these make other lists of what was asked last; replicas load bundles first."""
    settings = load()
    tried = partial(rehearse, settings, store_of(settings))
    with waiting("Trying it on what was asked last, then starting everywhere"):
        _, seconds = on_table(
            store_of(settings), lambda table: service.start(table, settings, tried, name, who=whoami(), reason=reason)
        )
    output.print(f"[green]✓[/] {name} runs, everywhere after {seconds:.1f} s")


@experiments.command("stop")
def stop(name: Name, reason: Reason) -> None:
    """Draw nobody any more; everybody gets the champion and the usual settings. The report stays."""
    on_table(store_of(load()), lambda table: service.stop(table, name, who=whoami(), reason=reason))
    output.print(f"[green]✓[/] {name} is stopped")


@experiments.command("list")
def list_() -> None:
    """All experiments."""
    now = on_table(store_of(load()), lambda table: table.demand())
    table = plain_table(None, "name", "kind", "state", "layer", "users", "variants", "started (UTC)")
    for one in now.experiments:
        of = ", ".join(f"{variant.name} {percent(variant.share)}" for variant in one.variants)
        cells = (one.name, one.kind, one.state, one.layer, percent(one.share), of, (one.started or "-")[:19])
        table.add_row(*map(escape, cells))
    output.print(table if now.experiments else "There is none.")


@experiments.command("override")
def override(
    name: Name,
    user: Annotated[str, typer.Option(help="Whose variant it is.")],
    variant: Annotated[str, typer.Option(help="Of it; none takes the override away.")],
    reason: Reason,
) -> None:
    """Give one user a variant of an experiment, or canary or control of a rollout, to try it by hand.

    Lists that they get so are in no report of an experiment or a rollout.
    """
    digest = user_digest(user)

    def chosen(now: Traffic) -> Traffic:
        of = {one: value for one, value in now.overrides.get(digest, {}).items() if one != name}
        if variant != "none":
            of[name] = variant
        overrides = {one: value for one, value in now.overrides.items() if one != digest}
        return msgspec.structs.replace(now, overrides=overrides | ({digest: of} if of else {})).check()

    async def change(table: TrafficTable) -> None:
        await switching.switch(table, chosen, who=whoami(), reason=reason)

    on_table(store_of(load()), change)
    output.print(f"[green]✓[/] {escape(user)} gets {escape(variant)} of {name}")


@experiments.command("holdout")
def holdout(
    share: Annotated[str, typer.Argument(help="Percent of all users who are in no experiment and no rollout.")],
    reason: Reason,
) -> None:
    """Keep some users out of everything that is tried."""
    of = service.basis_points(percentage(share))

    async def change(table: TrafficTable) -> None:
        await switching.switch(
            table, lambda now: msgspec.structs.replace(now, holdout=of).check(), who=whoami(), reason=reason
        )

    on_table(store_of(load()), change)
    output.print(f"[green]✓[/] {percent(of)} of all users get the champion and the usual settings")


@experiments.command("report")
def report(
    name: Name,
    window: Annotated[
        str, typer.Option(help="After a list, in which what happens to it counts: 30m, 1h.")
    ] = f"{WINDOW_S}s",
    planned: Annotated[int, typer.Option(min=1, help="Users expected; intervals are tightest there.")] = PLANNED,
    folder: Annotated[Path | None, typer.Option("--report", help="A folder for a picture of it.")] = None,
) -> None:
    """What each variant does, beside the control. Look as often as you like: the intervals allow for it."""
    settings = load()
    window_s = duration_s(window)
    now = on_table(store_of(settings), lambda table: table.demand())
    with waiting("Reading what came of it"):
        found = with_outcomes(
            settings,
            store_of(settings),
            lambda reader: service.report(now, reader, name, window_s=window_s, planned=planned),
        )
    if found.kind == "interleaving":
        _print_preferences(found, folder)
        return
    table = plain_table(None, "variant", "users", "lists", *(NAMES[metric] for metric in METRICS), "different items")
    for one in found.variants:
        figures = [f"{_or_nan(one.rates[metric]):.4g}" for metric in METRICS]
        table.add_row(one.name, f"{one.users:,}", f"{one.lists:,}", *figures, f"{_or_nan(one.items):.0%}")
    output.print(table)
    output.print(f"Users as they were to be drawn: probability {found.drawn:.2g}", highlight=False)
    if not found.sound:
        output.print("[red]They were not: believe none of these figures, and find out why first.[/]")
    effects = {(one.variant, one.metric): effect_of(one) for one in found.effects}
    for (variant, metric), effect in effects.items():
        output.print(sentence(variant, metric, effect), highlight=False, markup=False)
    drawn = [of_effect(f"{variant}: {NAMES[metric]}", one) for (variant, metric), one in effects.items() if one.control]
    control = found.variants[0].name
    _draw(drawn, "change in percent", f"{name}: change beside {control}", folder, name, unit=" %")


def sentence(variant: str, metric: str, effect: Effect) -> str:
    """What an effect says, for people."""
    if effect.control == effect.treatment == 0:
        return f"{variant}, {NAMES[metric]}: 0 on both sides"
    share, low, high = effect.relative
    sure = "surely more" if effect.low > 0 else "surely less" if effect.high < 0 else "not sure yet"
    return (
        f"{variant}, {NAMES[metric]}: {effect.difference:+.4g} [{effect.low:+.4g}, {effect.high:+.4g}] "
        f"({share:+.1%} [{low:+.1%}, {high:+.1%}]), {sure}; one look at the end: "
        f"[{effect.fixed_low:+.4g}, {effect.fixed_high:+.4g}]; the time before explains {effect.explained:.0%}"
    )


def effect_of(one: EffectOutcome) -> Effect:
    """An effect as it was before it went through JSON, which has no infinity."""
    rates = _or_nan(one.control), _or_nan(one.treatment)
    low, high, fixed_low, fixed_high = (
        unbounded if bound is None else bound
        for bound, unbounded in zip(
            (one.low, one.high, one.fixed_low, one.fixed_high), (-math.inf, math.inf) * 2, strict=True
        )
    )
    return Effect(*rates, one.users, _or_nan(one.difference), low, high, fixed_low, fixed_high, one.explained)


def of_effect(name: str, one: Effect) -> Interval:
    """What is drawn of an effect whose control is not 0, in percent of that."""
    shares = (*one.relative, one.fixed_low / one.control, one.fixed_high / one.control)
    return Interval(name, *(100 * share for share in shares))


def _print_preferences(found: ExperimentReport, folder: Path | None) -> None:
    """Which side users chose."""
    output.print(f"{found.users:,} users saw {found.lists:,} lists of both sides", highlight=False)
    drawn = []
    for one in found.preferences:
        (control, of_control), (other, of_other) = one.credit.items()
        low = -math.inf if one.low is None else one.low
        high = math.inf if one.high is None else one.high
        named = NAMES[one.metric].replace("lists", "items")
        wins = f"{one.winner} surely wins" if one.winner else "not sure yet"
        output.print(
            f"{named}: {other} {of_other:,.0f}, {control} {of_control:,.0f}, of "
            f"{one.decided:,} users who chose; a list {_or_nan(one.difference):+.4g} [{low:+.4g}, {high:+.4g}], "
            f"{wins}; one look at the end: [{_or_nan(one.fixed_low):+.4g}, {_or_nan(one.fixed_high):+.4g}]",
            highlight=False,
            markup=False,
        )
        if one.difference is not None and one.fixed_low is not None and one.fixed_high is not None:
            drawn.append(Interval(f"{other}: {named}", one.difference, low, high, one.fixed_low, one.fixed_high))
    title = f"{found.name}: credit of a list, the second less the first"
    _draw(drawn, "difference in credit a list", title, folder, found.name)
    for side, lists in found.alone.items():
        if lists:
            output.print(
                f"{lists:,} lists were of {side} alone, since the other side failed; they do not count",
                style="yellow",
                highlight=False,
            )


def _draw(intervals: list[Interval], what: str, title: str, folder: Path | None, name: str, *, unit: str = "") -> None:
    """Intervals to look at: here, and in a folder if there is one. Raises StackError: it cannot be written to."""
    if lines := interval_plot(intervals, output.width, unit):
        above = f"\n{what}: ─ valid whenever one looks, ━ for one look at the end"
        output.print("\n".join([above, *lines]), highlight=False, markup=False)
    if folder is None:
        return
    path = folder / f"experiment-{name}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        plot_intervals(intervals, what, title, path)
    except OSError as error:
        raise StackError(f"{path} cannot be written: {error}") from error
    output.print(f"Written to {path}", markup=False)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value

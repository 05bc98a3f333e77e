"""`riffle experiments`: users drawn into variants, and what the variants do."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from recsys.erased_users import user_digest
from recsys.experiments.effects import Effect
from recsys.experiments.guards import LOPSIDED, NAMES
from recsys.experiments.outcomes import METRICS
from recsys.experiments.plots import plot_effects
from service.cli.bundles import whoami
from service.cli.console import output, plain_table, waiting
from service.cli.moments import duration_s
from service.cli.traffic import Reason, percent, store_of
from service.errors import TrafficError
from service.outcomes import WINDOW_S, with_outcomes
from service.settings import Settings, load
from service.traffic import changes, switching
from service.traffic.document import Arm, Experiment, Traffic, Variant
from service.traffic.table import TrafficTable, on_table
from service.world import registry

PLANNED = 5_000  # users at which intervals are tightest, where nobody says how many are expected
ALPHA = 0.05

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
            "--variant", help="NAME=PERCENT, then what is other: b=50,diversity=0.2,candidates=400,bundle=ID."
        ),
    ],
    share: Annotated[float, typer.Option(help="Percent of the layer's users, in steps of 0.01.")] = 100.0,
    layer: Annotated[str, typer.Option(help="Experiments of one layer share no user.")] = "default",
    placements: Annotated[
        list[str] | None, typer.Option("--placement", help="Where it counts; none: everywhere.")
    ] = None,
    same: Annotated[bool, typer.Option("--same", help="Variants may be alike: a test of the test.")] = False,
) -> None:
    """Describe an experiment; the first variant is the control. Nobody is in it before it is started."""
    settings = load()
    of = tuple(variant_of(settings, one) for one in variants)
    made = Experiment(name, of, basis_points(str(share)), layer, tuple(placements or ()), same)

    def created(now: Traffic) -> Traffic:
        if any(one.name == name for one in now.experiments):
            raise TrafficError(f"there is an experiment {name!r} already; its report would mix the two")
        changes.refuse_idle(now, made, usual(settings))
        return changes.with_experiment(now, made)

    on_table(store_of(settings), lambda table: table.change(created, who=whoami(), reason=reason))
    output.print(f"[green]✓[/] {name} is described; [bold]riffle experiments start {name}[/] begins it")


@experiments.command("start")
def start(name: Name, reason: Reason) -> None:
    """Draw users into its variants; every replica loads their bundles first."""
    settings = load()

    async def begin(table: TrafficTable) -> float:
        one = (await table.demand()).experiment(name)
        at = datetime.fromtimestamp(await table.now_ms() / 1000, UTC).isoformat(timespec="milliseconds")

        def started(now: Traffic) -> Traffic:
            one = now.experiment(name)
            if one.state != "draft":
                raise TrafficError(f"experiment {name!r} is {one.state}; create another one")
            changes.refuse_idle(now, one, usual(settings))
            return changes.with_experiment(now, msgspec.structs.replace(one, state="running", started=at))

        bundles = [arm.bundle for arm in one.arms() if arm.bundle]
        return (await switching.load_and_switch(table, bundles, started, who=whoami(), reason=reason))[1]

    with waiting("Starting everywhere"):
        seconds = on_table(store_of(settings), begin)
    output.print(f"[green]✓[/] {name} runs, everywhere after {seconds:.1f} s")


@experiments.command("stop")
def stop(name: Name, reason: Reason) -> None:
    """Draw nobody any more; everybody gets the champion and the usual settings. The report stays."""

    async def end(table: TrafficTable) -> None:
        at = datetime.fromtimestamp(await table.now_ms() / 1000, UTC).isoformat(timespec="milliseconds")

        def stopped(now: Traffic) -> Traffic:
            one = now.experiment(name)
            if one.state != "running":
                raise TrafficError(f"experiment {name!r} does not run: it is {one.state}")
            return changes.with_experiment(now, msgspec.structs.replace(one, state="stopped", stopped=at))

        await switching.switch(table, stopped, who=whoami(), reason=reason)

    on_table(store_of(load()), end)
    output.print(f"[green]✓[/] {name} is stopped")


@experiments.command("list")
def list_() -> None:
    """All experiments."""
    now = on_table(store_of(load()), lambda table: table.demand())
    table = plain_table(None, "name", "state", "layer", "users", "variants", "started (UTC)")
    for one in now.experiments:
        of = ", ".join(f"{variant.name} {percent(variant.share)}" for variant in one.variants)
        cells = (one.name, one.state, one.layer, percent(one.share), of, (one.started or "-")[:19])
        table.add_row(*map(escape, cells))
    output.print(table if now.experiments else "There is none.")


@experiments.command("override")
def override(
    name: Name,
    user: Annotated[str, typer.Option(help="Whose variant it is.")],
    variant: Annotated[str, typer.Option(help="Of the experiment; none takes the override away.")],
    reason: Reason,
) -> None:
    """Give one user a variant, whatever is drawn: for tests by hand. Their outcomes count as those of others."""
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
    of = basis_points(share)

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
    now = on_table(store_of(settings), lambda table: table.demand())
    one = now.experiment(name)
    if one.started is None:
        raise TrafficError(f"experiment {name!r} has not been started")
    since_ms = int(datetime.fromisoformat(one.started).timestamp() * 1000)
    names = tuple(variant.name for variant in one.variants)
    with waiting("Reading what came of it"):
        window_s = duration_s(window)
        found = with_outcomes(
            settings,
            store_of(settings),
            lambda reader: reader.read(name, names, since_ms=since_ms, window_s=window_s),
        )
    chance = found.mismatch([variant.share / 10_000 for variant in one.variants])
    table = plain_table(None, "variant", "users", "lists", *(NAMES[metric] for metric in METRICS), "different items")
    for place, variant in enumerate(names):
        figures = [f"{found.side(place, metric).rate():.4g}" for metric in METRICS]
        items = f"{found.coverage(place):.0%}"
        table.add_row(variant, f"{found.users()[place]:,}", f"{found.shown()[place]:,}", *figures, items)
    output.print(table)
    output.print(f"Users as they were to be drawn: probability {chance:.2g}", highlight=False)
    if chance < LOPSIDED:
        output.print("[red]They were not: believe none of these figures, and find out why first.[/]")
    alpha = ALPHA / (len(METRICS) * (len(names) - 1))
    effects = {
        (variant, metric): found.effect(metric, place, planned=planned, alpha=alpha)
        for place, variant in enumerate(names)
        if place
        for metric in METRICS
    }
    for (variant, metric), effect in effects.items():
        output.print(sentence(variant, metric, effect), highlight=False, markup=False)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        plot_effects(effects, NAMES, f"{name}: change beside {names[0]}", folder / f"experiment-{name}.png")
        output.print(f"Written to {folder / f'experiment-{name}.png'}", markup=False)


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


def variant_of(settings: Settings, given: str) -> Variant:
    """`b=50,diversity=0.2` as a variant. Raises TrafficError, RegistryError."""
    first, *others = given.split(",")
    name, _, share = first.partition("=")
    fields: dict[str, object] = {}
    for other in others:
        field, _, value = other.partition("=")
        if field not in Arm.__struct_fields__ or not value:
            known = ", ".join(f"{one}=..." for one in Arm.__struct_fields__)
            raise TrafficError(f"--variant {given!r}: {other!r} is no setting; known: {known}")
        fields[field] = registry(settings).resolve(value) if field == "bundle" else value
    try:
        return Variant(name, basis_points(share), msgspec.convert(fields, Arm, strict=False))
    except msgspec.ValidationError as error:
        raise TrafficError(f"--variant {given!r}: {error}") from error


def basis_points(text: str) -> int:
    """A percentage in 0.01 %. Raises TrafficError."""
    try:
        value = float(text) * 100
    except ValueError as error:
        raise TrafficError(f"{text!r} is no percentage; write NAME=50 for half") from error
    if not 0 <= value <= 10_000 or abs(value - round(value)) > 1e-6:
        raise TrafficError(f"{text} % is not 0 to 100 in steps of 0.01")
    return round(value)


def usual(settings: Settings) -> Arm:
    """What answers where an arm says nothing."""
    return Arm(candidates=settings.candidates, diversity=settings.diversity, explore=settings.explore)

"""`riffle rollout`: a bundle on its way from few users to all, and back by itself where it is worse."""

import uuid
from typing import Annotated

import msgspec
import typer

from recsys.experiments.buckets import BUCKETS, rising_shares
from recsys.experiments.margin import MARGIN
from service.cli.audited import whoami
from service.cli.bundles import pass_gate
from service.cli.console import output, waiting
from service.cli.moments import duration_s
from service.cli.traffic import Reason, percent, store_of
from service.errors import TrafficError
from service.outcomes import with_outcomes
from service.rollouts import begin, refuse_at_once, step_outcomes, verdict_on
from service.settings import load
from service.traffic import changes, switching
from service.traffic.document import Rollout, Traffic
from service.traffic.table import TrafficTable, on_table
from service.world import registry

rollout = typer.Typer(help="A bundle on its way from few users to all, or back.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(rollout, name="rollout")


@rollout.command("start")
def start(
    bundle: Annotated[str, typer.Argument(help="Id, unique prefix or name.")],
    reason: Reason,
    steps: Annotated[
        str, typer.Option(help="Shares of users in percent, rising; at 100 it is champion.")
    ] = "1,5,25,50,100",
    hold: Annotated[str, typer.Option(help="How long each step lasts at least: 90s, 10m, 1h.")] = "10m",
    hold_users: Annotated[
        int,
        typer.Option(min=1, help="Users of it that a step must have seen; below 100 guards say next to nothing."),
    ] = 100,
    margin: Annotated[
        float,
        typer.Option(
            help="Percent of the lists clicked that may be fewer, for all that is known, when it is promoted; 100: any."
        ),
    ] = 100 * MARGIN,
    force: Annotated[bool, typer.Option("--force", help="Past the gate; the reason is kept.")] = False,
) -> None:
    """Through the gate; every replica loads the bundle; then the first users get it. It goes on while guards hold."""
    settings = load()
    bundle_id = registry(settings).resolve(bundle)
    hold_s = duration_s(hold)
    if not 0 < margin <= 100:
        raise TrafficError(f"--margin {margin:g}: give percent, above 0 and at most 100")
    try:
        shares = rising_shares(steps)
    except ValueError as error:
        raise TrafficError(str(error)) from error
    refuse_at_once(shares, margin / 100)
    if force:
        reason = f"past the gate: {reason}" if reason.strip() else reason
    else:
        pass_gate(settings, bundle_id)

    async def started(table: TrafficTable) -> Traffic:
        name = f"rollout-{uuid.uuid4().hex[:6]}"
        return await begin(
            table,
            bundle_id,
            name=name,
            steps=shares,
            hold_s=hold_s,
            hold_users=hold_users,
            margin=margin / 100,
            who=whoami(),
            reason=reason,
        )

    with waiting("Loading the bundle everywhere"):
        now = on_table(store_of(settings), started)
    assert now.rollout is not None
    output.print(
        f"[green]✓[/] {now.rollout.name}: {percent(now.rollout.share)} of all users get [bold]{bundle_id}[/]; "
        "[bold]riffle rollout status[/] shows how it fares"
    )


@rollout.command("status")
def status() -> None:
    """The rollout under way, and what guards say of it."""
    settings = load()
    now = on_table(store_of(settings), lambda table: table.demand())
    if now.rollout is None:
        output.print("No rollout is under way; [bold]riffle traffic history[/] says how the last one ended.")
        return
    one = now.rollout
    state = "paused" if one.paused else "under way"
    ahead = one.next_share()
    output.print(f"{one.name} of {one.bundle}, {state}: {percent(one.share)} of all users", highlight=False)
    settled = ", and once it is settled" if one.is_last() and one.margin < 1 else ""
    output.print(
        f"  next: {'champion' if ahead in (None, BUCKETS) else percent(ahead or 0)}, "
        f"after {one.hold_s:g} s and {one.hold_users:,} users at least{settled}",
        highlight=False,
    )
    verdict = verdict_on(one, with_outcomes(settings, store_of(settings), lambda reader: step_outcomes(reader, one)))
    output.print(
        f"  seen in this step: {verdict.users[1]:,} users, {verdict.lists[1]:,} lists; of the champion "
        f"{verdict.users[0]:,} and {verdict.lists[0]:,}",
        highlight=False,
    )
    for sentence in verdict.seen:
        colour = "red" if sentence in verdict.broken else "dim"
        output.print(f"  {sentence}", style=colour, highlight=False, markup=False)
    if one.is_last():
        for sentence in verdict.unsettled:
            output.print(f"  not settled: {sentence}", style="yellow", highlight=False, markup=False)


@rollout.command("pause")
def pause(reason: Reason) -> None:
    """Stay at this share. Guards go on looking."""
    _change(reason, paused=True)
    output.print("[green]✓[/] paused; guards go on looking")


@rollout.command("resume")
def resume(reason: Reason) -> None:
    """Go on."""
    _change(reason, paused=False)
    output.print("[green]✓[/] goes on")


@rollout.command("abort")
def abort(reason: Reason) -> None:
    """End it: everybody gets the champion again."""

    async def end(table: TrafficTable) -> tuple[Traffic, float]:
        return await switching.switch(table, lambda now: _ended(now), who=whoami(), reason=reason)

    now, seconds = on_table(store_of(load()), end)
    output.print(f"[green]✓[/] everybody gets [bold]{now.champion}[/] again, everywhere after {seconds:.1f} s")


def _change(reason: str, *, paused: bool) -> None:
    def changed(now: Traffic) -> Traffic:
        one = _of(now)
        return changes.with_rollout(now, msgspec.structs.replace(one, paused=paused))

    on_table(store_of(load()), lambda table: table.change(changed, who=whoami(), reason=reason))


def _ended(now: Traffic) -> Traffic:
    _of(now)
    return changes.without_rollout(now)


def _of(now: Traffic) -> Rollout:
    if now.rollout is None:
        raise TrafficError("no rollout is under way")
    return now.rollout

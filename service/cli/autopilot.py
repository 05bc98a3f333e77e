"""`riffle autopilot`: training that begins, is judged and rolled out by itself; what it did, and how to hold it."""

import time
from functools import partial
from typing import Annotated

import numpy as np
import typer
from rich.markdown import Markdown
from rich.markup import escape

from recsys.datasets.checks.finding import moment
from recsys.datasets.junk import junk_rows
from recsys.erased_users import user_digest
from recsys.manifest import read_manifest
from service.autopilot.page import page
from service.autopilot.pilot import Pilot, Stop
from service.autopilot.run import Runs
from service.autopilot.works import HomeWorks, policy_of
from service.cli.audited import whoami
from service.cli.console import output, plain_table
from service.drift import worth_retraining
from service.errors import AutopilotError
from service.imports import history
from service.junk import is_lost, junk_of
from service.settings import Settings, load
from service.stack import application
from service.world import registry

WAIT_S = 2.0
RunId = Annotated[str, typer.Argument(help="The id of a run or its beginning; none: the newest.")]

autopilot = typer.Typer(
    help="Training that begins, is judged and rolled out by itself.", invoke_without_command=True, no_args_is_help=False
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(autopilot, name="autopilot")


@autopilot.callback()
def autopilot_(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="One run from here, if it is due, to its end.")] = False,
    reason: Annotated[str, typer.Option(help="With --once: it is due for this reason, whatever else.")] = "",
) -> None:
    """The run under way or the last one, and whether the next is due; with --once, a run."""
    if context.invoked_subcommand:
        return
    settings = load()
    runs, pilot = _of(settings)
    if once:
        with runs.led() as leads:  # to the end of the run: who only led each step would lose it to another in between
            if not leads:
                raise AutopilotError("another autopilot leads; `riffle autopilot` shows what it does")
            _run(runs, pilot, reason)
        return
    if reason:
        raise AutopilotError("--reason is for --once")
    _status(settings, runs, pilot)


@autopilot.command("runs")
def list_() -> None:
    """All runs: what began them, and how they ended."""
    table = plain_table(None, "run (UTC)", "began for", "ended", "bundle", "because")
    for place in (0, 3):  # ids are for copying
        table.columns[place].no_wrap = True
    runs, damaged = _of(load())[0], list[str]()
    for run_id in runs.ids():
        try:
            run = runs.find(run_id)
        except AutopilotError as error:
            damaged.append(str(error))
            continue
        table.add_row(
            *map(escape, (run.id, run.trigger, run.outcome or f"at {run.step}", run.bundle or "-", run.reason))
        )
    output.print(table)
    if damaged:
        raise AutopilotError("; ".join(damaged))


@autopilot.command("show")
def show(run: RunId = "") -> None:
    """The page of a run: trigger, data, metrics, decision."""
    runs = _of(load())[0]
    found = runs.find(run) if run else runs.newest()
    if found is None:
        raise AutopilotError("there was no run yet; `riffle autopilot --once` makes one, where it is due")
    output.print(Markdown(page(found)))
    output.print(f"\n{runs.page(found)}", highlight=False, soft_wrap=True)


@autopilot.command("junk")
def junk_(
    bundle: Annotated[str, typer.Argument(help="Its id, a unique prefix, or a name.")] = "champion",
) -> None:
    """What was left out of the data of a bundle as made by no person: users, and what they did when."""
    settings = load()
    bundles = registry(settings)
    found = bundles.resolve(bundle)
    if is_lost(settings, read_manifest(bundles.path(found))):
        raise AutopilotError(f"something was left out of the data of {found}, and this home does not know what")
    looks, dataset = junk_of(settings, found), history(settings)
    named = set[str]()
    table = plain_table(f"Left out of the data of {found}", "user", "found", "from", "until", "interactions")
    for look in looks:
        count = np.bincount(dataset.events.user[junk_rows(dataset, [look])])
        for user in np.flatnonzero(count).tolist():
            name = dataset.user_id[user]
            named.add(name)
            kind = "flooding" if user_digest(name) in look.flooding else "picks blindly"
            cells = (name, kind, moment(look.since_ms), moment(look.until_ms), f"{count[user]:,}")
            table.add_row(*map(escape, cells))
    if not looks:
        _say(f"Nothing was left out of the data of {found}.")
        return
    output.print(table)
    if hidden := len({digest for look in looks for digest in look.users}) - len(named):
        _say(f"Of {hidden:,} more there is nothing in the present data.")
    if found == bundles.champion():
        _say("It stays out of later trainings. `riffle train --take-in USER` takes in who is a person after all.")


@autopilot.command("pause")
def pause(reason: Annotated[str, typer.Option(help="Kept until somebody resumes.")]) -> None:
    """Begin nothing, go on with nothing. A rollout that it has begun goes on: `riffle rollout pause` holds that."""
    _of(load())[0].pause(who=whoami(), reason=reason)
    output.print("[green]✓[/] paused; [bold]riffle autopilot resume[/] goes on")


@autopilot.command("resume")
def resume() -> None:
    """Go on where it was paused."""
    if not _of(load())[0].resume():
        output.print("It was not paused.")
        return
    output.print("[green]✓[/] goes on")


def _of(settings: Settings) -> tuple[Runs, Pilot]:
    runs = Runs(settings.home_path / "autopilot")
    works = HomeWorks(settings, harmful=partial(worth_retraining, settings))
    return runs, Pilot(runs, works, policy_of(settings))


def _run(runs: Runs, pilot: Pilot, reason: str) -> None:
    """Begin a run or take up the one under way, and stay until it ends."""
    if reason:
        try:
            _say(f"run {pilot.begin(reason).id} begins: {reason}")
        except Stop as stop:
            raise AutopilotError(stop.reason) from stop
    said = ""
    while True:
        run, now = pilot.step()
        if now != said:
            _say(now)
            said = now
        if run is None:
            return
        if run.outcome is not None:
            _say(f"its page: {runs.page(run)}")
            if run.outcome == "failed":
                raise typer.Exit(1)
            return
        if runs.newest() == run:  # nothing to do but wait
            time.sleep(WAIT_S)


def _status(settings: Settings, runs: Runs, pilot: Pilot) -> None:
    runs_now = application.serves_autopilot(settings)
    wanted = settings.autopilot if runs_now is None else runs_now
    on = "on, beside the service" if wanted else "off; RIFFLE_AUTOPILOT=true has `riffle serve` start it"
    _say(f"The autopilot is {on}")
    if wanted != settings.autopilot:
        _say(f"The setting here is {str(settings.autopilot).lower()}: the next `riffle serve` with it changes that")
    if paused := runs.paused():
        _say(f"Paused by {paused.who} since {paused.time}: {paused.reason}")
    last = runs.newest()
    if last is None:
        _say("There was no run yet")
    elif last.outcome is None:
        _say(f"Run {last.id} ({last.trigger}: {last.detail}) is at {last.step}, try {last.tries}")
    else:
        _say(f"Run {last.id} ({last.trigger}: {last.detail}) ended, {last.outcome}: {last.reason}")
    if last is None or last.outcome is not None:
        _say(f"The next: {pilot.outlook()}")


def _say(text: str) -> None:
    output.print(text, highlight=False, markup=False, soft_wrap=True)

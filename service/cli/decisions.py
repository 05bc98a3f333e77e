"""Commands about recorded answers."""

import asyncio
import time
from collections import Counter
from typing import Annotated

import typer
from rich.markup import escape

from service.archives import decision_archive
from service.cli.console import output, step, waiting
from service.cli.moments import NOTHING, SINCE, moment_ms
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.errors import StackError
from service.record_schemas import Outcome, Replay
from service.replay import replay as make_again
from service.round_trips import RoundTrips
from service.settings import load
from service.stack import application
from service.world import recorded_worlds

SAMPLE = 100
SHOWN = 20  # differences printed one by one
TIMEOUT_MS = 10_000


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(replay)


def replay(
    recommendation_id: Annotated[str | None, typer.Argument(help="Of one answer; without it, the newest.")] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help=f"How many of the newest; {SAMPLE} without --since.")
    ] = None,
    since: Annotated[str | None, typer.Option(help=SINCE)] = None,
) -> None:
    """Make recorded answers again, from record and bundle, and compare every stage bit for bit with what was served."""
    since_ms = 0 if since is None else moment_ms(since, time.time_ns() // 1_000_000)
    most = SAMPLE if sample is None and since is None else sample
    verdicts = asyncio.run(_replays(recommendation_id, most, since_ms))
    if not verdicts:
        raise StackError(NOTHING)
    _print(verdicts)
    if any(one.outcome is Outcome.DIFFERENT for one in verdicts):
        raise typer.Exit(1)


async def _replays(recommendation_id: str | None, most: int | None, since_ms: int) -> list[Replay]:
    settings = load()
    url = application.store_url(settings)
    world_of = recorded_worlds(settings, url)
    store = RoundTrips(url, timeout_ms=TIMEOUT_MS, connections=1)
    records = DecisionRecords(DecisionStream(store), decision_archive(settings))
    try:
        if recommendation_id is not None:
            return [make_again(await records.find(recommendation_id), world_of)]
        if most is None:
            with waiting("Making answers again"):
                return [make_again(record, world_of) async for record in records.newest(since_ms=since_ms)]
        verdicts = []
        with step("Making answers again", most) as done:
            async for record in records.newest(most, since_ms=since_ms):
                verdicts.append(make_again(record, world_of))
                done(1)
            done(most - len(verdicts))
        return verdicts
    finally:
        await store.close()


def _print(verdicts: list[Replay]) -> None:
    for one in [one for one in verdicts if one.outcome is Outcome.DIFFERENT][:SHOWN]:
        where = f"{one.stage}: " if one.stage else ""
        output.print(f"[red]different[/] {one.recommendation_id}: {where}{escape(one.detail)}", soft_wrap=True)
    reasons = Counter(one.detail for one in verdicts if one.outcome is Outcome.NOT_REPLAYABLE)
    for reason, count in reasons.most_common(10):
        output.print(f"[yellow]not replayable[/] {count}: {escape(reason)}", soft_wrap=True)
    stages = Counter(one.stage or "unknown" for one in verdicts if one.outcome is Outcome.DIFFERENT)
    for stage, count in stages.most_common():
        output.print(f"{count} first different at {stage}")
    counts = Counter(one.outcome for one in verdicts)
    output.print(", ".join(f"{counts[outcome]} {outcome.replace('_', ' ')}" for outcome in Outcome))

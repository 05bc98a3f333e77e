"""Commands about recorded answers."""

from collections import Counter
from functools import lru_cache
from typing import Annotated

import typer
from rich.markup import escape

from recsys.types import World
from service import replay as again
from service.cli.console import output, step
from service.settings import load
from service.stack import application
from service.world import load_world


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(replay)


def replay(
    recommendation_id: Annotated[str | None, typer.Argument(help="Of one answer; without it, the newest.")] = None,
    sample: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many of the newest.")] = 100,
) -> None:
    """Make recorded answers again, from record and bundle, and compare them bit for bit with what was served."""
    settings = load()
    url = application.store_url(settings)
    worlds = lru_cache(2)(lambda bundle: load_world(settings, bundle))

    def world_of(bundle: str, candidates: int) -> World:
        world = worlds(bundle)
        return World(world.bundle, world.item_stats, candidates)

    if recommendation_id is not None:
        verdicts = [again.replay(again.find(url, recommendation_id), world_of)]
    else:
        verdicts = []
        with step("Making answers again", sample) as done:
            for record in again.newest(url, sample):
                verdicts.append(again.replay(record, world_of))
                done(1)
            done(sample - len(verdicts))
    for verdict in [one for one in verdicts if one.outcome is again.Outcome.DIFFERENT][:20]:
        output.print(f"[red]different[/] {verdict.id}: {escape(verdict.detail)}", soft_wrap=True)
    reasons = Counter(one.detail for one in verdicts if one.outcome is again.Outcome.NOT_REPLAYABLE)
    for reason, count in reasons.most_common(10):
        output.print(f"[yellow]not replayable[/] {count}: {escape(reason)}", soft_wrap=True)
    counts = Counter(one.outcome for one in verdicts)
    output.print(", ".join(f"{counts[outcome]} {outcome}" for outcome in again.Outcome))
    if counts[again.Outcome.DIFFERENT]:
        raise typer.Exit(1)

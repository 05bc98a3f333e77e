"""Commands that explain recorded answers."""

import asyncio
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer
from rich.markup import escape

from recsys.types import World
from service.archives import decision_archive
from service.cli.console import output, plain_table
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.decisions import Decision, Erased
from service.explanation_schemas import Explanation, ItemExplanation, WhyNot
from service.record_schemas import Outcome, Replay
from service.recorded_explanations import explain as explain_record
from service.recorded_explanations import why_not as why_not_of_record
from service.round_trips import RoundTrips
from service.settings import load
from service.stack import application
from service.world import recorded_worlds

TIMEOUT_MS = 10_000

R = TypeVar("R", bound=Replay)
Recorded = Annotated[str, typer.Argument(help="Of a recorded answer.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(explain)
    app.command("why-not")(why_not)


def explain(
    recommendation_id: Recorded,
    item: Annotated[str | None, typer.Option(help="Only this item, with what each feature adds.")] = None,
) -> None:
    """Why the items of a recorded list are on it; every claim about another list is that list, made."""
    found = _asked(recommendation_id, explain_record)
    if not isinstance(found.explanation, Explanation):
        _refuse(found)
        return
    shown = [one for one in found.explanation.items if item in (None, one.item_id)]
    if not shown:
        output.print(f"{escape(repr(item))} is not on the list; riffle why-not says why", soft_wrap=True)
        raise typer.Exit(1)
    _print_list(found.explanation)
    for one in shown:
        _print_item(one)
        if item is not None:
            _print_features(found.explanation, one)


def why_not(recommendation_id: Recorded, item_id: Annotated[str, typer.Argument(help="The item.")]) -> None:
    """Why an item is not on a recorded list: the stage that kept it off, and what the list is without that."""
    found = _asked(recommendation_id, lambda record, world_of: why_not_of_record(item_id, record, world_of))
    if not isinstance(found.why_not, WhyNot):
        _refuse(found)
        return
    one = found.why_not
    output.print(f"[bold]{one.verdict.replace('_', ' ')}[/] {escape(one.text)}", soft_wrap=True, highlight=False)
    if one.sources:
        table = plain_table(None, "source", "brought it at", "of", "would be at", "of")
        for source in one.sources:
            table.add_row(source.source, *map(_or_dash, (source.place, source.brought, source.would_be, source.of)))
        output.print(table)
    for rule in one.without_rules or []:
        where = f"at rank {rule.rank}" if rule.listed else f"still off, number {_or_dash(rule.rank)} by score"
        output.print(f"  without {rule.rule.replace('_', ' ')}: {where}", highlight=False)


def _asked(recommendation_id: str, make: Callable[[Decision | Erased, Callable[[Decision], World]], R]) -> R:
    return asyncio.run(_of_record(recommendation_id, make))


async def _of_record(recommendation_id: str, make: Callable[[Decision | Erased, Callable[[Decision], World]], R]) -> R:
    settings = load()
    url = application.store_url(settings)
    store = RoundTrips(url, timeout_ms=TIMEOUT_MS, connections=1)
    try:
        record = await DecisionRecords(DecisionStream(store), decision_archive(settings)).find(recommendation_id)
        return make(record, recorded_worlds(settings, url))
    finally:
        await store.close()


def _refuse(found: Replay) -> None:
    """Say why there is no explanation, as `riffle replay` does."""
    stage = f"{found.stage}: " if found.outcome is Outcome.DIFFERENT and found.stage else ""
    output.print(f"[yellow]{found.outcome.replace('_', ' ')}[/] {stage}{escape(found.detail)}", soft_wrap=True)
    raise typer.Exit(1)


def _print_list(found: Explanation) -> None:
    removed = ", ".join(f"{count} {reason}" for reason, count in found.removed.items() if count) or "nothing"
    output.print(f"{found.ranked} candidates were ranked; ruled out: {removed}", highlight=False, soft_wrap=True)
    for one in found.rules:
        kept_off, moved = len(one.kept_off), one.moved
        output.print(
            f"{one.rule.replace('_', ' ')} kept {kept_off} off the list and moved {moved}"
            + (f": {escape(', '.join(one.kept_off[:5]))}" if kept_off else ""),
            highlight=False,
            soft_wrap=True,
        )
    output.print(f"made again without each of the last {len(found.tried)} items that the user met", highlight=False)


def _print_item(one: ItemExplanation) -> None:
    moved = "" if one.rank_by_score == one.rank else f", {one.rank_by_score} by score"
    output.print(f"[bold]{one.rank}[/] {escape(one.item_id)}  score {one.score:.4g}{moved}", highlight=False)
    if one.because:
        output.print(f"  {escape('; '.join(word.text for word in one.because))}", highlight=False, soft_wrap=True)
    found_by = ", ".join(f"{source} at {place}" for source, place in one.sources.items())
    output.print(f"  found by {found_by or 'chance'}", highlight=False, soft_wrap=True)
    for other in one.counterfactuals:
        output.print(
            f"  without {escape(other.without)} it falls from {other.from_} to {_rank(other.to)}", highlight=False
        )
    output.print(f"  for a user of whom nothing is known: {_rank(one.rank_of_unknown_user)}", highlight=False)


def _print_features(found: Explanation, one: ItemExplanation) -> None:
    table = plain_table(None, "group", "feature", "adds")
    table.add_row("", "what all candidates have", f"{found.base:.6f}")
    for group in one.contributions:
        for feature, value in sorted(group.features.items(), key=lambda pair: -abs(pair[1])):
            table.add_row(group.group, feature, f"{value:+.6f}")
    table.add_row("", "score", f"{one.score:.6f}")
    output.print(table)


def _rank(rank: int | None) -> str:
    return "beyond the list, or out of it" if rank is None else str(rank)


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)

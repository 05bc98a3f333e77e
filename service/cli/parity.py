"""`riffle features verify`: recorded answers beside the events, and where they part."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer
from rich.markup import escape

from recsys.digests import Stage
from recsys.features.parity import Difference
from service.archives import event_archive
from service.cli.console import output, plain_table, step, waiting
from service.cli.moments import NOTHING, SINCE, moment_ms
from service.decision_stream import DecisionStream
from service.decisions import Decision
from service.errors import StackError
from service.imports import current_dataset
from service.parity import Finding, Parity, PastEvent, verify
from service.round_trips import RoundTrips
from service.settings import Settings, load
from service.stack import application
from service.user_history import live_import, user_histories
from service.world import recorded_worlds

SAMPLE = 1_000
SHOWN = 20  # findings printed one by one
TIMEOUT_MS = 10_000

_WHAT = {
    Difference.MISSING: "the served state does not have it",
    Difference.DOUBLED: "the served state has it twice",
    Difference.DISPLACED: "the served state has it after later ones",
    Difference.OTHER_TIME: "the served state has another time of it",
    Difference.OTHER_VERB: "the served state has another verb of it",
    Difference.OTHER_ITEM: "the served state has another item of it",
    Difference.AHEAD: "the served state has it, but names an earlier one as its last",
    Difference.FOREIGN: "in its turn the served state has what the user never did",
    Difference.POSITION: "the event that the served state names as its last is neither in import, archive nor log",
    Difference.COUNTERS: "the served state has the same events, but its counters differ",
}


def verify_(
    sample: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help=f"How many of the newest; {SAMPLE} without --since.")
    ] = None,
    since: Annotated[str | None, typer.Option(help=SINCE)] = None,
    user: Annotated[str | None, typer.Option(help="Only answers to this user.")] = None,
) -> None:
    """Make the features of recorded answers again from import, archive and log, and compare them to the bit."""
    since_ms = 0 if since is None else moment_ms(since, time.time_ns() // 1_000_000)
    most = SAMPLE if sample is None and since is None else sample
    parity = verified(load(), most, since_ms, user)
    if not parity.verified and not parity.not_verified:
        raise StackError(NOTHING)
    _print(parity)
    if parity.findings:
        raise typer.Exit(1)


def verified(settings: Settings, most: int | None, since_ms: int = 0, user: str | None = None) -> Parity:
    """Verify the newest answers.

    Raises:
        StackError, ArchiveError, RecordsUnavailable: answers or events cannot be read.
    """
    url = application.store_url(settings)
    dataset, imported_ms = live_import(url, current_dataset(settings))
    with waiting("Reading recorded answers"):
        records = asyncio.run(_records(url, most, since_ms, user))
    later = [record for record in records if record.time_ms >= imported_ms]
    histories = partial(user_histories, url, dataset, event_archive(settings))
    with step("Verifying answers", 2 * len(later)) as done:
        parity = verify(later, recorded_worlds(settings, url), histories, progress=done)
    if earlier := len(records) - len(later):
        parity.not_verified["answered before the present import was live"] += earlier
    return parity


async def _records(url: str, most: int | None, since_ms: int, user: str | None) -> list[Decision]:
    store = RoundTrips(url, timeout_ms=TIMEOUT_MS, connections=1)
    found: list[Decision] = []
    try:
        async for record in DecisionStream(store).newest(since_ms=since_ms):
            if user is None or record.query.get("user_id") == user:
                found += record.alone()
            if most is not None and len(found) >= most:
                break
        return found[:most]
    finally:
        await store.close()


def _print(parity: Parity) -> None:
    alike: dict[tuple[object, ...], list[Finding]] = defaultdict(list)
    for one in parity.findings:
        alike[one.record.query["user_id"], one.difference, one.event, one.stage].append(one)
    for group in list(alike.values())[:SHOWN]:
        _print_one(group)
    if len(alike) > SHOWN:
        output.print(f"{len(alike) - SHOWN} more users or events are not shown")
    for reason, count in parity.not_verified.most_common(10):
        output.print(f"[yellow]not verified[/] {count}: {escape(reason)}", soft_wrap=True)
    for feature, count in Counter(value.feature for one in parity.findings for value in one.values).most_common():
        output.print(f"{feature} differs in {count}")
    if parity.behind:
        oldest = f"the oldest of them by {parity.oldest_ms / 1000:.1f} s"
        output.print(f"{parity.behind} served states were behind the log, {oldest}: freshness, not parity")
    ended = f"{len(parity.findings)} without parity, {parity.not_verified.total()} not verified"
    output.print(f"{parity.verified - len(parity.findings)} verified to the bit, {ended}")


def _print_one(group: Sequence[Finding]) -> None:
    """A finding, the earliest of those that are alike, and its features."""
    one = group[0]
    more = f" and {len(group) - 1} later ones" if len(group) > 1 else ""
    user = one.record.query["user_id"]
    output.print(f"[red]differs[/] user {escape(repr(user))}, answer {one.record.id}{more}", soft_wrap=True)
    for sentence in _sentences(one):
        output.print(f"  {escape(sentence)}", soft_wrap=True, highlight=False)
    if not one.values:
        return
    table = plain_table(None, "feature", "first item", "served", "now")
    for value in one.values:
        served = "another digest" if value.served is None else f"{value.served:.9g}"
        table.add_row(value.feature, escape(value.item_id), served, f"{value.now:.9g}")
    output.print(table)


def _sentences(one: Finding) -> list[str]:
    sentences = []
    if one.difference is not None:
        where = f"{_event(one.event)}: " if one.event else ""
        columns = f": {', '.join(one.columns)}" if one.columns else ""
        shown = f"; in its turn it has {_event(one.shown)}" if one.event and one.shown else ""
        sentences.append(f"{where}{_WHAT[one.difference]}{columns}{shown}")
        if not one.values:
            sentences.append("no feature of this answer's candidates differs")
    if one.stage is Stage.FEATURES:
        sentences.append("the recorded state gives other values now: definitions or defaults have changed")
    elif one.stage is not None:
        sentences.append(f"made again from the recorded state, {one.stage} is another one; riffle replay says more")
    return sentences


def _event(one: PastEvent) -> str:
    moment = datetime.fromtimestamp(one.ts_s, UTC).isoformat().replace("+00:00", "Z")
    position = "" if one.position is None else f", {one.lies_in} {one.position[0]}-{one.position[1]}"
    return f"{one.verb} of {one.item_id!r} at {moment}{position}"

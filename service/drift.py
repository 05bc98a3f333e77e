"""A look at drift: what was served since the last one beside the reference of its bundle, and what is to be said of it.

    found = look(settings, store_url)          # blocks for seconds; call it in a thread
    for alarm in found.alarms: ...             # kind, subject, segment, since_s, evidence, harmful
    for said, since_s in worth_retraining(settings): ...    # what `autopilot.works.HomeWorks(harmful=...)` takes

Looks may come as often as one likes. An hour of service is looked at once, when it is over and its outcomes are in;
what was learnt stays in a small document in the home, so a restart forgets nothing and a second look at the same hours
says the same. Nothing here is on the way of a request.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
from redis.exceptions import RedisError

from recsys.bundle import Bundle
from recsys.bundle_files import load
from recsys.changes import CHAMPION
from recsys.durable import put
from recsys.errors import ArchiveError, BundleError, RecsysError
from recsys.manifest import read_manifest
from recsys.monitoring.alarms import Alarm, alarms_of
from recsys.monitoring.causes import IDLE, Aged, Cause, Remedy, causes
from recsys.monitoring.figures import Figure, expected_distinct, figures_of, not_compared
from recsys.monitoring.hours import examined, series_of
from recsys.monitoring.reference import FILE, HOUR_S, Reference
from recsys.monitoring.segments import ALL
from recsys.monitoring.series import shelf_of
from recsys.monitoring.watch import Watcher
from recsys.registry import Registry
from recsys.types import World
from service.archives import decision_archive, event_archive
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.decisions import Decision
from service.drift_hours import OUTCOME_S, Read
from service.drift_memory import alone, file_of, remembered, watcher_of
from service.errors import RecordsUnavailable, ServiceError, StackError
from service.logged_events import LoggedEvents
from service.round_trips import RoundTrips
from service.settings import Settings
from service.stack import valkey
from service.world import recorded_worlds, registry

MOST_HOURS = 7 * 24  # looked at in one look; older ones are passed over, which is said
SETTLED_S = 60  # records and events of an hour have been written so long after it
EARLY_MS = 60_000  # an answer so far in the future was given by a clock that is wrong
TOLD_S = 24 * HOUR_S  # for so long broken data are an alarm after they were last seen
SKEWED = 0.01  # of the events; more are a problem
LOST, FEW_LISTS = 0.5, 20  # of so many lists at least: more that cannot be made again, and the rest stands for nothing
OLD_S = 30 * 24 * HOUR_S  # data that end before may be why idle times are long
TIMEOUT_MS = 10_000

OTHERS = "lists of other bundles"
_log = logging.getLogger(__name__)


class Look(msgspec.Struct, kw_only=True):
    """What a look found.

    Attributes:
        bundle: Whose lists were looked at. at_s: When. until_s: Hours before this one have been looked at; 0: none.
        began_s: The first of them. hours, lists, events: In this look. rows: Lists ever measured, one a user and hour.
        alarms: That are on, those of the most evidence first. causes: What they look like, the worst first.
        problems: What kept the look from seeing all; with `compared` false nothing was compared at all.
        not_measured: Records that could not be made again, by reason.
        figures: Of every series. distinct: Different items in the first places of `distinct_of` lists, and `usual`.
        not_compared: Series of which the reference, or the beginning, has too little. days: As `watch.Watch.days`.
    """

    bundle: str
    at_s: int
    compared: bool = True
    began_s: int = 0
    until_s: int = 0
    hours: int = 0
    lists: int = 0
    events: int = 0
    rows: int = 0
    alarms: list[Alarm] = []
    causes: list[Cause] = []
    problems: list[str] = []
    not_measured: dict[str, int] = {}
    figures: list[Figure] = []
    not_compared: list[str] = []
    distinct: dict[str, float] = {}
    days: dict[str, dict[str, list[float]]] = {}


def look(
    settings: Settings, store_url: str, *, bundle: str = "champion", now_ms: int | None = None, remember: bool = True
) -> Look:
    """Look at the hours of service that are over and were not looked at yet.

    Args:
        store_url: Of what runs. bundle: Id, unique prefix or name; lists of others are passed over.
        now_ms: UTC epoch milliseconds; now, if not given.
        remember: Whether the next look goes on from here. If not, the hour under way is looked at as well.
    Raises:
        RegistryError: there is no such bundle. StackError: records or events cannot be read.
    """
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    bundles = registry(settings)
    path = bundles.path(bundle)
    found = Look(bundle=path.name, at_s=now_ms // 1000)
    try:
        loaded, reference, window = _known(path)
    except BundleError as error:
        found.compared = False
        found.alarms.append(_of_data("reference", now_ms // 1000, harmful=False))
        found.problems.append(str(error))
        return found
    folder = settings.home_path / "drift"
    with alone(folder) if remember else nullcontext():
        watch = remembered(folder, path.name, found.problems, before=lambda: _before(bundles, path.name))
        end_s = (now_ms // 1000 - OUTCOME_S - SETTLED_S if remember else now_ms // 1000 + HOUR_S) // HOUR_S * HOUR_S
        if watch.until_s > end_s + HOUR_S:
            found.problems.append(
                f"earlier looks have seen hours up to {_utc(watch.until_s)}: a clock was wrong; looks go on from now"
            )
            watch.until_s = end_s
        start_s = max(watch.until_s, end_s - MOST_HOURS * HOUR_S)
        if 0 < watch.until_s < start_s:
            found.problems.append(
                f"{(start_s - watch.until_s) // HOUR_S} hours before were passed over: no look in time"
            )
        world = World(loaded, loaded.item_stats, settings.candidates)
        known = recorded_worlds(settings, store_url, lambda bundle_id: world if bundle_id == path.name else None)
        read = Read(known, world, reference.diversity)
        if start_s < end_s:
            asyncio.run(_read(settings, store_url, path.name, read, start_s, end_s, now_ms, found))
        watcher = watcher_of(watch, reference, found.problems)
        shelf, examination = shelf_of(loaded), examined(reference.examination)
        # What happened before the bundle answered anything is about others.
        first_s = start_s if watch.until_s else read.first_s
        for hour in read.hours(first_s, end_s) if first_s is not None else ():
            found.hours += 1
            watcher.see(hour.start_s, series_of(hour, loaded, reference.bins, shelf, examination))
        _tell(found, watcher, read, reference, end_s, window)
        if remember:
            put(file_of(folder, path.name), msgspec.json.encode(watcher.watch()))
    return found


def _before(bundles: Registry, bundle: str) -> str | None:
    """What served until a bundle first did: the champion before it, or today's where it never was champion."""
    made = (one for one in bundles.audit() if one.name == CHAMPION and one.to_id == bundle)
    first = next(made, None)
    return bundles.champion() if first is None else first.from_id


@lru_cache(2)
def _known(path: Path) -> tuple[Bundle, Reference, tuple[float, float] | None]:
    """A published bundle, which never changes: verified once, not at each look.

    The last is when its data begin and end; None where their times say nothing.
    """
    if not (path / FILE).exists() and FILE not in read_manifest(path).files:
        Reference.load(path)  # says so, before all other files are verified for nothing
    bundle, manifest = load(path)
    fields = manifest.fields
    first, last = (datetime.fromisoformat(fields["data_window"][one]).timestamp() for one in ("first", "last"))
    return bundle, Reference.load(path), (first, last) if fields["protocol"].startswith("temporal") else None


def _tell(
    found: Look, watcher: Watcher, read: Read, reference: Reference, end_s: int, window: tuple[float, float] | None
) -> None:
    """Everything that a look says."""
    watch = watcher.watch()
    empty_s = end_s - watch.until_s
    found.alarms = [msgspec.structs.replace(one, since_s=min(one.since_s, found.at_s)) for one in alarms_of(watcher)]
    if window and len(read.newest_s) >= FEW_LISTS:
        watch.aged = _is_aged(found.at_s, window, read.newest_s)
    aged = Aged((found.at_s - window[1]) / 86_400, reference.bins[IDLE].names[-2:]) if window and watch.aged else None
    found.causes = causes(found.alarms, aged)
    if read.unsound:
        watch.data["scores"] = found.at_s
        found.problems.append(f"{read.unsound} lists hold a score that is not a number")
    if found.at_s - watch.data.get("scores", 0) < TOLD_S:
        found.alarms.append(_of_data("scores", watch.data["scores"], harmful=True))
        found.causes.insert(0, _broken("scores", "lists of the last day hold scores that are not numbers"))
    if watch.until_s and empty_s >= 24 * HOUR_S:
        found.alarms.append(_of_data("lists", found.at_s, harmful=True))
        found.causes.append(_broken("lists", f"no list and no event for {empty_s // HOUR_S} hours"))
    if read.received and read.skewed > SKEWED * read.received:
        found.problems.append(
            f"{read.skewed} of {read.received} events came through a gateway whose clock is not the store's"
        )
    if any("clock" in one for one in found.problems):
        watch.data["clocks"] = found.at_s
    found.began_s, found.until_s, found.days = watch.began_s, min(watch.until_s, found.at_s), watch.days
    found.lists, found.events, found.not_measured = read.lists, read.events, dict(read.not_measured)
    found.figures, found.not_compared = figures_of(watcher), not_compared(watcher)
    found.rows = max((one.rows for one in found.figures if one.segment == ALL and one.kind == "users"), default=0)
    if read.distinct_lists:
        usual = expected_distinct(reference, read.distinct_lists)
        found.distinct = {"now": len(read.distinct), "usual": round(usual, 1), "lists": read.distinct_lists}
    if not watch.until_s and not read.lists:
        found.problems.append("nothing was looked at yet: no hour with lists of this bundle is over")
    lost = sum(read.not_measured.values()) - read.not_measured[OTHERS]
    if lost > LOST * read.lists:
        found.problems.append(f"{lost} of {read.lists} lists could not be made again; why is under `not_measured`")
        if read.lists >= FEW_LISTS:
            watch.data["records"] = found.at_s
    for subject in ("clocks", "records"):
        if found.at_s - watch.data.get(subject, 0) < TOLD_S:
            found.alarms.append(_of_data(subject, watch.data[subject], harmful=False))


def _is_aged(at_s: int, window: tuple[float, float], newest_s: Sequence[int]) -> bool:
    """Whether the bundle's data are old and most of who asked did nothing since.

    Args:
        window: When the data begin and end. newest_s: When each who asked last did something.
    """
    first_s, last_s = window
    newest = np.array(newest_s)
    return at_s - last_s >= OLD_S and bool(((newest >= first_s) & (newest <= last_s)).mean() > 0.5)


def _of_data(subject: str, at_s: int, *, harmful: bool) -> Alarm:
    """An alarm about what needs no evidence: it can be counted."""
    return Alarm(
        kind="data", subject=subject, segment=ALL, since_s=at_s, evidence=0.0, component="", usual=0.0, now=1.0,
        harmful=harmful,
    )  # fmt: skip


def _broken(subject: str, why: str) -> Cause:
    return Cause(name="broken data", subject=subject, why=why, remedy=Remedy.REPAIR, harmful=True)


async def _read(
    settings: Settings, url: str, bundle: str, read: Read, start_s: int, end_s: int, now_ms: int, found: Look
) -> None:
    store = RoundTrips(url, timeout_ms=TIMEOUT_MS, connections=1)
    others: Counter[str] = Counter()
    try:
        records = DecisionRecords(DecisionStream(store), decision_archive(settings))
        async for one in records.newest(since_ms=start_s * 1000):
            if not isinstance(one, Decision):
                others["records of users who were forgotten"] += 1
            elif one.time_ms > now_ms + EARLY_MS:
                others["records from the future: a clock is wrong"] += 1
            elif one.bundle != bundle:
                others[OTHERS] += 1
            elif one.time_ms < end_s * 1000:
                read.add(one)
        moment = datetime.fromtimestamp(start_s, UTC)
        async for event in LoggedEvents(store, event_archive(settings)).since(moment):
            if start_s * 1000 <= event.ms:
                read.add_event(event)
    except (RedisError, OSError, TimeoutError, RecordsUnavailable, ArchiveError) as error:
        raise StackError(f"what was served cannot be read: {str(error) or type(error).__name__}") from error
    finally:
        await store.close()
    read.not_measured += others
    if early := others["records from the future: a clock is wrong"]:
        found.problems.append(f"{early} records are from the future: the clock of a gateway is wrong")


def _utc(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="minutes")


def worth_retraining(settings: Settings) -> list[tuple[str, float]]:
    """What drifts harmfully in a way that a new bundle mends, and since when, UTC epoch seconds: what autopilot asks.

    A broken input is none of it: a bundle that learnt from it would be wrong as well. Where nothing runs, or nothing
    can be read, that is logged and there is nothing to retrain for.
    """
    url = valkey.address(settings)
    if url is None:
        return []
    try:
        found = look(settings, url)
    except (RecsysError, ServiceError) as error:
        _log.warning("drift cannot be looked at: %s", error)
        return []
    return [
        (f"{one.name} ({one.subject}): {one.why}", float(one.since_s))
        for one in found.causes
        if one.harmful and one.remedy is Remedy.RETRAIN
    ]

"""From a table that is wanted to replicas that obey it. It says done only when all of them have said so."""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic

from service.errors import TrafficError
from service.traffic import changes
from service.traffic.document import Traffic
from service.traffic.table import Report, TrafficTable, check_named

LOADED_S = 120.0  # in which a bundle has to be loaded by all replicas
REACHED_S = 10.0
ASK_S = 0.1


async def promote(table: TrafficTable, bundle: str, *, who: str, reason: str) -> tuple[Traffic, float]:
    """Make a bundle the champion of every replica: first they all load it, then they all switch.

    Returns:
        The table that they obey, and the seconds from its change to the last of them.
    Raises:
        TrafficError: a replica could not load it, or did not in LOADED_S; then nothing was switched.
    """
    now = await table.demand()
    if now.champion == bundle and now.rollout is None:
        return now, 0.0
    changes.promoted(now, bundle)  # refused before anything is loaded
    await prepare(table, bundle, who=who, reason=reason)
    return await switch(table, lambda traffic: changes.promoted(traffic, bundle), who=who, reason=reason)


async def prepare(table: TrafficTable, bundle: str, *, who: str, reason: str) -> None:
    """Have every replica load a bundle. Raises TrafficError; then it is not wanted any more."""
    check_named(who, reason)
    await table.change(lambda traffic: changes.prepared(traffic, bundle), who=who, reason=f"load: {reason}")
    try:
        await loaded(table, bundle)
    except BaseException:
        await table.change(
            lambda traffic: changes.released(traffic, bundle), who=who, reason=f"not loaded everywhere: {reason}"
        )
        raise


async def load_and_switch(
    table: TrafficTable,
    bundles: Iterable[str],
    by: Callable[[Traffic], Traffic],
    *,
    who: str,
    reason: str,
) -> tuple[Traffic, float]:
    """`prepare` bundles, then `switch` to a table that names them; they are let go of where that cannot be."""
    wanted = sorted(set(bundles))

    def released(traffic: Traffic) -> Traffic:
        for bundle in wanted:
            traffic = changes.released(traffic, bundle) if bundle in traffic.prepared else traffic
        return traffic

    try:
        for bundle in wanted:
            await prepare(table, bundle, who=who, reason=reason)
        return await switch(table, lambda traffic: released(by(traffic)), who=who, reason=reason)
    except BaseException:
        await table.change(released, who=who, reason=f"could not be: {reason}")
        raise


async def switch(
    table: TrafficTable, by: Callable[[Traffic], Traffic], *, who: str, reason: str
) -> tuple[Traffic, float]:
    """Change the table, wait until every replica obeys; the table and the seconds that it took.

    Raises:
        TrafficError: the change cannot be made, or a replica does not obey within REACHED_S: it names them. The table
            is changed then, and they follow when they can.
    """
    after = await table.change(by, who=who, reason=reason)
    began = monotonic()
    while behind := [one for one in await table.reports() if one.version < after.version]:
        if monotonic() - began > REACHED_S:
            raise TrafficError(
                f"version {after.version} is not obeyed by {_named(behind)} after {REACHED_S:.0f} s; "
                "`riffle traffic` shows who does what"
            )
        await asyncio.sleep(ASK_S)
    return after, monotonic() - began


async def loaded(table: TrafficTable, bundle: str) -> None:
    """Wait until every replica holds a bundle. Raises TrafficError: one cannot, or does not in LOADED_S."""
    began = monotonic()
    while True:
        reports = await table.reports()
        missing = [one for one in reports if bundle not in one.loaded]
        if failed := [one for one in missing if bundle in one.failed]:
            raise TrafficError(
                f"{bundle} could not be loaded by {_named(failed)}: {failed[0].failed[bundle]}; nothing was switched"
            )
        if not missing:
            return
        if monotonic() - began > LOADED_S:
            raise TrafficError(f"{_named(missing)} did not load {bundle} in {LOADED_S:.0f} s; nothing was switched")
        await asyncio.sleep(ASK_S)


def _named(reports: list[Report]) -> str:
    return ", ".join(f"{one.role} {one.replica} on {one.node}" for one in reports)

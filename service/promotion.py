"""A champion in the registry and in the traffic table: made, made to be the same, and rolled back.

The registry says which bundle is meant to serve, the table which one does. A roll back changes the table alone first:
that takes two seconds at most and needs no registry.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import msgspec

from recsys.errors import BundleError, Moved, RegistryError
from recsys.manifest import read_manifest
from recsys.registry import Registry
from service.errors import StackError, TrafficError
from service.rebuild import live_source
from service.settings import Settings
from service.stack import ray_head, valkey
from service.traffic import changes, switching
from service.traffic.document import Traffic
from service.traffic.table import TrafficTable, on_table
from service.world import registry


class Promoted(NamedTuple):
    """A bundle is champion.

    Attributes:
        seconds: From the switch until every replica obeyed; None where nothing runs.
        untold: Why the registry does not know yet; None: it does.
        stopped: Experiments that ended with it, by name.
    """

    seconds: float | None
    untold: str | None
    stopped: Sequence[str] = ()


def promote(
    settings: Settings,
    bundle_id: str,
    *,
    reason: str,
    who: str,
    expected: str | None = None,
) -> Promoted:
    """Make a bundle the champion, also of what runs: all replicas load it, all switch, the registry is told.

    Raises:
        RegistryError, BundleError, Moved: as `Registry.promote`. TrafficError: a replica could not load it, or a
            rollout of another is under way. StackError: the store does not answer. Nothing was switched then.
    """
    bundles, store = registry(settings), valkey.address(settings)
    if store is None:
        bundles.promote(bundle_id, reason=reason, who=who, expected=expected)
        return Promoted(None, None)
    schema = read_manifest(bundles.path(bundle_id)).fields["feature_schema_hash"]
    if live_source(store, schema) is None:
        raise RegistryError(
            f"bundle {bundle_id} needs user states of feature schema {schema[:8]}, and none are live; run "
            "`riffle features rebuild`, then promote it"
        )

    async def everywhere(table: TrafficTable) -> Promoted:
        if await table.read() is None:
            bundles.promote(bundle_id, reason=reason, who=who, expected=expected)
            return Promoted(None, None)
        known = bundles.champion()
        if expected is not None and known != bundles.resolve(expected):
            bundles.promote(bundle_id, reason=reason, who=who, expected=expected)  # raises Moved, before all else

        def promoted(traffic: Traffic) -> Traffic:
            return msgspec.structs.replace(changes.promoted(traffic, bundle_id), unregistered=True)

        changes.promoted(await table.demand(), bundle_id)
        # The table first: it remembers that the registry has to be told, whatever interrupts this here.
        after, seconds = await switching.load_and_switch(table, [bundle_id], promoted, who=who, reason=reason)
        return Promoted(seconds, await _register(table, lambda: bundles, after, known), after.stopped_now())

    return on_table(store, everywhere)


def settle(settings: Settings, store: str, champion: str, *, who: str) -> str:
    """Make table and registry agree before the service starts, or while it runs; returns the champion of both.

    Where there is no table, it is made. Where the table was rolled back while the registry was away, the registry
    follows; else the table does.
    """
    bundles = registry(settings)

    async def agree(table: TrafficTable) -> str:
        now = await table.read()
        if now is None:
            before = _way_back(bundles, champion)
            now = await table.begin(champion, previous=before, who=who, reason="the champion of the registry")
        if now.unregistered:
            await _told(table, now, tell(bundles, await table.champion_since(now)))
        intended = bundles.champion() or champion  # by now: the rollout controller may just have told the registry
        if now.champion != intended:
            await switching.promote(table, intended, who=who, reason="the champion of the registry")
        return intended  # and a rollout that is under way goes on

    return on_table(store, agree)


def roll_back(settings: Settings, *, reason: str, who: str) -> tuple[Traffic, float, str | None]:
    """Go back to what was before: end the rollout under way, else to the champion before.

    Returns:
        The table, the seconds until every replica obeyed, and why the registry does not know yet; None: it does.
    Raises:
        TrafficError: there is nothing to go back to, or a replica does not follow. StackError: no store answers.
    """
    store = valkey.address(settings)
    if store is None:
        if ray_head.running(settings):
            raise StackError(
                "the store is away, so nobody can be told; what answers goes on as it did. `riffle serve` starts the "
                "store again, with the traffic table as it was, and then `riffle rollback` goes back at once"
            )
        raise StackError(
            "nothing runs; `riffle serve` goes on with the traffic as it was, and then `riffle rollback` goes back. "
            "`riffle bundles list` shows what else could be promoted"
        )

    async def back(table: TrafficTable) -> tuple[Traffic, float, str | None]:
        seen = await table.demand()

        def by(traffic: Traffic) -> Traffic:
            if (traffic.champion, traffic.rollout) != (seen.champion, seen.rollout):
                raise TrafficError(
                    f"{traffic.who} changed it just now ({traffic.reason}): {traffic.champion} answers; look again"
                )
            after = changes.rolled_back(traffic)
            moved = after.champion != traffic.champion
            return msgspec.structs.replace(after, unregistered=traffic.unregistered or moved)

        after, seconds = await switching.switch(table, by, who=who, reason=reason)
        if not after.unregistered:
            return after, seconds, None
        return after, seconds, await _register(table, partial(registry, settings), after)

    return on_table(store, back)


def held(settings: Settings) -> set[str]:
    """The bundles that the traffic table names, those of experiments that are only described among them.

    Raises:
        StackError, TrafficError: there is a store, and it does not say.
    """
    store = valkey.address(settings)
    if store is None:
        return set()
    traffic = on_table(store, lambda table: table.read())
    return traffic.named() if traffic else set()


def tell(bundles: Registry, traffic: Traffic, known_before: str | None = None) -> str:
    """Let the registry know of a champion that it has not heard of; what became of it, for the history.

    Where its champion is neither this one nor the one before, somebody else, on another home of the same registry, has
    promoted one meanwhile; that is not undone.

    Args:
        known_before: Its champion before the change; None: that of the table.
    Raises:
        RegistryError, BundleError: it cannot be told.
    """
    known = bundles.champion()
    if known == traffic.champion:
        return "the registry knows"
    try:
        expected = known_before or traffic.previous or known
        bundles.promote(traffic.champion, reason=traffic.reason, who=traffic.who, expected=expected)
    except Moved:
        if (known := bundles.champion()) == traffic.champion:
            return "the registry knows"  # somebody else has just told it
        return f"the registry keeps {known}, which was promoted elsewhere"
    return "the registry follows"


async def _register(
    table: TrafficTable, bundles: Callable[[], Registry], traffic: Traffic, known_before: str | None = None
) -> str | None:
    """Tell the registry, and the table that it was told; why it could not be, None where it was."""
    try:
        reason = tell(bundles(), await table.champion_since(traffic), known_before)
    except (RegistryError, BundleError, OSError) as error:
        return str(error)
    await _told(table, traffic, reason)
    return None


async def _told(table: TrafficTable, traffic: Traffic, reason: str) -> None:
    with suppress(StackError):
        await table.change(
            lambda now: msgspec.structs.replace(now, unregistered=False) if now.champion == traffic.champion else now,
            who=traffic.who,
            reason=reason,
        )


def _way_back(bundles: Registry, champion: str) -> str | None:
    """The champion before, where it can be loaded in place of this one without other user states."""
    previous = bundles.previous_champion()
    if previous is None:
        return None
    try:
        schemas = {read_manifest(bundles.path(one)).fields.get("feature_schema_hash") for one in (previous, champion)}
    except (RegistryError, BundleError):  # it was pruned, say
        return None
    return previous if len(schemas) == 1 else None

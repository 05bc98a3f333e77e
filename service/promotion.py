"""A champion in the registry and in the traffic table: made, made to be the same, and rolled back.

The registry says which bundle is meant to serve, the table which one does. A roll back changes the table alone first:
that takes two seconds at most and needs no registry.
"""

from contextlib import suppress

import msgspec

from recsys.errors import BundleError, RegistryError
from recsys.manifest import read_manifest
from recsys.registry import Registry
from service.errors import StackError, TrafficError
from service.rebuild import live_source
from service.settings import Settings
from service.stack import valkey
from service.traffic import changes, switching
from service.traffic.document import Traffic
from service.traffic.table import TrafficTable, on_table
from service.world import registry


def promote(
    settings: Settings,
    bundle_id: str,
    *,
    reason: str,
    who: str,
    expected: str | None = None,
) -> float | None:
    """Make a bundle the champion, also of what runs: all replicas load it, the registry says so, all switch.

    Returns:
        Seconds from the switch until every replica obeyed; None where nothing runs.
    Raises:
        RegistryError, BundleError, Moved: as `Registry.promote`. TrafficError: a replica could not load it, or a
            rollout of another is under way. StackError: the store does not answer. Nothing was switched then.
    """
    bundles, store = registry(settings), valkey.address(settings)
    if store is None:
        bundles.promote(bundle_id, reason=reason, who=who, expected=expected)
        return None
    schema = read_manifest(bundles.path(bundle_id)).fields["feature_schema_hash"]
    if live_source(store, schema) is None:
        raise RegistryError(
            f"bundle {bundle_id} needs user states of feature schema {schema[:8]}, and none are live; run "
            "`riffle features rebuild`, then promote it"
        )

    async def everywhere(table: TrafficTable) -> float | None:
        if await table.read() is None:
            bundles.promote(bundle_id, reason=reason, who=who, expected=expected)
            return None
        if expected is not None and bundles.champion() != bundles.resolve(expected):
            bundles.promote(bundle_id, reason=reason, who=who, expected=expected)  # raises Moved, before all else

        def promoted(traffic: Traffic) -> Traffic:
            return msgspec.structs.replace(changes.promoted(traffic, bundle_id), unregistered=True)

        changes.promoted(await table.demand(), bundle_id)
        # The table first: it remembers that the registry has to be told, whatever interrupts this here.
        after, seconds = await switching.load_and_switch(table, [bundle_id], promoted, who=who, reason=reason)
        bundles.promote(bundle_id, reason=reason, who=who, expected=expected)
        await _register(table, bundles, after)
        return seconds

    return on_table(store, everywhere)


def settle(settings: Settings, store: str, champion: str, *, who: str) -> str:
    """Make table and registry agree before the service starts, or while it runs; returns the champion of both.

    Where there is no table, it is made. Where the table was rolled back while the registry was away, the registry
    follows; else the table does.
    """
    bundles = registry(settings)

    async def agree(table: TrafficTable) -> str:
        now = await table.read() or await table.begin(champion, who=who, reason="the champion of the registry")
        if now.unregistered:
            await _register(table, bundles, now)
            return now.champion
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
        raise StackError("nothing runs, so nothing is to be rolled back; `riffle bundles promote previous` does it")

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
        try:
            await _register(table, registry(settings), after)
        except (RegistryError, BundleError, OSError) as error:
            return after, seconds, str(error)
        return after, seconds, None

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


async def _register(table: TrafficTable, bundles: Registry, traffic: Traffic) -> None:
    if bundles.champion() != traffic.champion:
        bundles.promote(traffic.champion, reason=traffic.reason, who=traffic.who)
    with suppress(StackError):
        await table.change(
            lambda now: msgspec.structs.replace(now, unregistered=False) if now.champion == traffic.champion else now,
            who=traffic.who,
            reason="the registry follows",
        )

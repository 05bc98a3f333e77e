"""Which bundles may go: none that traffic, a name or an answer on record still needs."""

import asyncio

from service.archives import decision_archive
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.decisions import Decision
from service.errors import StackError
from service.junk import drop_junk
from service.promotion import held
from service.round_trips import RoundTrips
from service.settings import Settings
from service.stack import valkey
from service.world import registry

TIMEOUT_MS = 10_000


def prune(settings: Settings, *, keep: int, dry_run: bool = False) -> list[str]:
    """Remove bundles that nothing needs; their ids.

    Args:
        keep: So many of the newest stay, whatever else. dry_run: Only find them.
    Raises:
        StackError, TrafficError, RecordsUnavailable: what needs them cannot be read. RegistryError: the registry cannot
            be used. Nothing is removed then. DatasetError: what was left out of their data cannot be.
    """
    bundles = registry(settings)
    needed = held(settings)
    if candidates := set(bundles.dispensable(keep=keep, needed=needed)):
        needed |= asyncio.run(_answered(settings, candidates))
    if dry_run:
        return bundles.dispensable(keep=keep, needed=needed)
    # Reading answers may take minutes, in which one of these may have been put on trial.
    gone = bundles.prune(keep=keep, needed=needed, again=lambda: held(settings))
    drop_junk(settings, gone)
    return gone


async def _answered(settings: Settings, candidates: set[str]) -> set[str]:
    """Which of these bundles made an answer on record; reads until all have been met, or to the end.

    Raises:
        StackError, RecordsUnavailable: not all records can be read, and so none of them is taken for unneeded.
    """
    url = valkey.address(settings)
    if url is None:
        raise StackError("the store holds the newest answers on record, and it does not run; run `riffle up` first")
    store = RoundTrips(url, timeout_ms=TIMEOUT_MS, connections=1)
    try:
        records = DecisionRecords(DecisionStream(store), decision_archive(settings))
        met: set[str] = set()
        async for one in records.newest():
            if isinstance(one, Decision):
                met |= {made.bundle for made in one.alone()} & candidates
                if met == candidates:
                    break
        return met
    finally:
        await store.close()

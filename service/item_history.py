"""The item snapshot of any past moment, made from the import, the archive and the log.

Users who are forgotten leave all three. What they did counts on in snapshots of before, as long as it is kept without
them (`recsys.withdrawn_events`).
"""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.archive import Archive
from recsys.datasets.dataset import Dataset
from recsys.erased_users import ErasedUsers
from recsys.features.item_counts import ItemCounts
from recsys.vocabulary import item_keys
from recsys.withdrawn_events import LOG, Withdrawn
from service.archives import ERASED_USERS, archived_changes, catalogue_beside, withdrawn_beside
from service.catalogue_entries import Change, changes_in, items_after
from service.event_log import stream_key
from service.item_events import ARCHIVED, ItemEvents, in_order, of_archive, of_import, of_withdrawn
from service.item_snapshot import CATALOGUE, Snapshot
from service.item_updater import counts_for_items
from service.item_updater import in_order as by_position
from service.log_entries import Entry, text_of
from service.state_keys import SHARDS
from service.store_client import StoreClient


@dataclass(frozen=True, slots=True, eq=False)
class ItemHistory:
    """Everything that counts for items up to a moment of the store's clock, from which any earlier snapshot follows.

    Attributes:
        bases: Names of the import with so many erasures in force; those whose events are no longer kept have none.
        until_ms: The moment.
        imported: Counters of the import alone, with so many erasures in force.
        logged: What archive and log have, in order.
        changes: Of the catalogue, in its order.
    """

    bases: dict[str, int]
    until_ms: int
    imported: Callable[[int], ItemCounts]
    logged: ItemEvents
    changes: list[Change]

    @classmethod
    def read(
        cls, client: StoreClient, dataset: Dataset | None, imported_s: int, archive: Archive, until_ms: int
    ) -> "ItemHistory":
        """Read it.

        Args:
            archive: Of events; that of the catalogue lies beside it.
            imported_s: When the last imported event is taken to have happened, at the earliest; UTC epoch seconds. Data
                of another decade would otherwise weigh nothing beside one click.
            until_ms: A moment that has passed.
        Raises:
            ArchiveError: a file cannot be read. RedisError: the store failed.
        """
        fingerprint = dataset.fingerprint if dataset else ""
        changes = _changes(client, catalogue_beside(archive), until_ms)
        log = _logged(client, archive, until_ms)
        withdrawn = withdrawn_beside(archive).read()  # after the rest: an erasure writes here first, then removes there
        logged = in_order(of_withdrawn(withdrawn, LOG).before(until_ms), log)
        imported = _imported(dataset, withdrawn, imported_s)
        numbers = range(withdrawn.expired, len(withdrawn.erased_ms) + 1)
        before = withdrawn.before
        if before is None:
            before = sorted(ErasedUsers(archive.root.with_name(ERASED_USERS)).read().items())
        erased = [[*before, *withdrawn.erased_ms[:number]] for number in numbers]
        bases = {_base(fingerprint, imported_s, one): number for one, number in zip(erased, numbers, strict=True)}
        return cls(bases, until_ms, imported, logged, changes)

    @property
    def base(self) -> str:
        """With all erasures in force."""
        return list(self.bases)[-1]

    def at(self, horizon_ms: int, base: str | None = None) -> Snapshot:
        """The snapshot as of a moment, at most `until_ms`. Cost: 0.1 us an event.

        Args:
            base: One of `bases`: that of the snapshot to be made again; None: the last.
        """
        base = base or self.base
        in_force = self.bases[base]
        counts = copy.deepcopy(self.imported(in_force))
        logged = self.logged.take(slice(int(np.searchsorted(self.logged.ms, horizon_ms)))).at(in_force)
        counts.apply(item_key=logged.item_key, verb=logged.verb, ts_s=logged.ts_s)
        return Snapshot(base, horizon_ms, counts, items_after(self.changes, horizon_ms))


def _base(fingerprint: str, imported_s: int, erased: list[Any]) -> str:
    """Without somebody's events the counts are others, so each erasure begins a line of versions.

    Args:
        erased: Who had been forgotten before events were kept, then the moments of the erasures since.
    """
    named = f"{fingerprint} {imported_s} {erased}"
    return hashlib.blake2b(named.encode(), digest_size=4).hexdigest()


def _imported(dataset: Dataset | None, withdrawn: Withdrawn, imported_s: int) -> Callable[[int], ItemCounts]:
    """Counters of an import with so many erasures in force. Events are held only where one of them took some."""
    if dataset is None:
        return lambda _: ItemCounts.empty()
    stays, taken = of_import(dataset), of_withdrawn(withdrawn, dataset.fingerprint)
    if not taken.size:
        ever = _counted(stays, imported_s)
        return lambda _: ever
    events = in_order(taken, stays)
    return lru_cache(2)(lambda in_force: _counted(events.at(in_force), imported_s))


def _counted(imported: ItemEvents, imported_s: int) -> ItemCounts:
    """Counters of an import, as if its last event had happened at `imported_s` at the earliest."""
    counts = ItemCounts.empty()
    if imported.size:
        later_s = max(imported_s - int(imported.ts_s[-1]), 0)
        counts.apply(item_key=imported.item_key, verb=imported.verb, ts_s=(imported.ts_s + later_s).astype(np.uint32))
    return counts


def _logged(client: StoreClient, archive: Archive, horizon_ms: int) -> ItemEvents:
    """Events of archive and log before a moment.

    The log is read between two looks at how far the archive reaches: what leaves the log meanwhile is archived at the
    second one, which says of each event where it is taken from.
    """
    began = archive.until()
    entries = [
        _entries(client, stream_key(number), f"({text_of(began[number])}", horizon_ms) for number in range(SHARDS)
    ]
    until = archive.until()
    rows = archive.read(columns=ARCHIVED)
    stream, ms, sequence = (rows[name].to_numpy() for name in ("stream", "ms", "sequence"))
    end = np.array(until, np.uint64)[stream]
    early = (ms < end[:, 0]) | ((ms == end[:, 0]) & (sequence <= end[:, 1]))
    newer = [one for one in by_position(entries, horizon_ms) if counts_for_items(one[2]) and one[0] > until[one[1]]]
    logged = ItemEvents.of(
        stream=[number for _, number, _ in newer],
        sequence=[position[1] for position, _, _ in newer],
        ms=[position[0] for position, _, _ in newer],
        item_key=item_keys(event.item_id for *_, event in newer),
        verb=[event.verb for *_, event in newer],
        ts_s=[event.ts_ms // 1000 for *_, event in newer],
    )
    return in_order(of_archive(rows.filter(pa.array(early & (ms < horizon_ms), pa.bool_()))), logged)


def _changes(client: StoreClient, catalogue: Archive, horizon_ms: int) -> list[Change]:
    """Changes of items before a moment, from archive and stream as events are."""
    (began,) = catalogue.until()
    entries = _entries(client, CATALOGUE, f"({text_of(began)}", horizon_ms)
    (until,) = catalogue.until()
    changes = [one for one in archived_changes(catalogue, until) if one.position[0] < horizon_ms]
    return changes + [one for one in changes_in(entries) if one.position > until]


def _entries(client: StoreClient, stream: str, start: str, horizon_ms: int) -> list[Entry]:
    found: Any = client.xrange(stream, start, f"({horizon_ms}")
    return [(position, [part for pair in fields.items() for part in pair]) for position, fields in found]

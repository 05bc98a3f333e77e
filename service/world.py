"""The world that a process serves: the champion of the registry, verified and mapped."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import redis

from recsys.object_store import ObjectStore
from recsys.registry import Registry
from recsys.shared_registry import SharedRegistry
from recsys.signature import TrustedKeys
from recsys.types import World
from service.archives import event_archive, withdrawn_beside
from service.decisions import Decision
from service.errors import StackError
from service.imports import current_dataset
from service.item_history import ItemHistory
from service.item_snapshot import Snapshot
from service.overlaid_world import OverlaidWorlds
from service.rebuild import live_source
from service.registry_url import folder_of, is_folder
from service.settings import Settings
from service.store_client import now_ms, store_client

KEPT = 2  # bundles of earlier answers in memory, besides the one in service
VERSIONS_KEPT = 16  # of item stats


def registry(settings: Settings) -> Registry:
    """The bundle registry of this home, or the one that it shares with others.

    Raises:
        SignatureError: trusted keys are set and cannot be read. RegistryError: the driver of the store refuses the URL.
    """
    trusted = TrustedKeys.read(Path(settings.trusted_keys)) if settings.trusted_keys else None
    root, url = settings.home_path / "registry", settings.registry_url
    if is_folder(url):
        return Registry(folder_of(url), trusted)
    return SharedRegistry(root, ObjectStore(url), trusted) if url else Registry(root, trusted)


def load_world(settings: Settings, bundle_id: str | None = None) -> World:
    """Verify and map a bundle, the champion if none is named.

    Raises:
        RegistryError: there is no such bundle, or no champion.
        BundleError: the bundle is damaged or of another feature schema, or no trusted key has signed it.
    """
    bundle, _ = registry(settings).load(bundle_id or "champion")
    return World(bundle, bundle.item_stats, settings.candidates)


def recorded_worlds(
    settings: Settings, store_url: str, served: Callable[[str], World | None] = lambda _: None
) -> Callable[[Decision], World]:
    """A function from a record to the world that it was made in: its bundle, its item stats, as many candidates.

    It loads bundles and makes item stats again when they are asked for, and raises what `load_world` does, ArchiveError
    and StackError. Where the item stats of the record cannot be had any more, the world has others.

    Args:
        served: Gives the world of a bundle in service, which need not be loaded again.
    """
    history = PastItems(settings, store_url)

    @lru_cache(KEPT)
    def overlaid(bundle_id: str) -> OverlaidWorlds:
        return OverlaidWorlds(served(bundle_id) or load_world(settings, bundle_id))

    @lru_cache(VERSIONS_KEPT)  # each new world computes its own columns of items
    def world_of(bundle_id: str, version: str, candidates: int) -> World:
        worlds = overlaid(bundle_id)
        snapshot = None if version == worlds.built.item_stats.version else history.at(version)
        world = worlds.built if snapshot is None else worlds.of(snapshot)
        return world if world.candidates == candidates else replace(world, candidates=candidates)

    def recorded(record: Decision) -> World:
        if history.let_go():
            world_of.cache_clear()
        return world_of(record.bundle, record.item_stats, record.candidates)

    return recorded


class PastItems:
    """Item snapshots of past versions, from one reading of import, archive and log while that reaches far enough."""

    def __init__(self, settings: Settings, store_url: str) -> None:
        self._settings, self._store_url = settings, store_url
        self._history: ItemHistory | None = None
        self._gone: set[str] = set()  # bases
        self._withdrawn = withdrawn_beside(event_archive(settings))
        self._withdrawn_as_of = self._withdrawn.as_of()

    def let_go(self) -> bool:
        """Forget everything where what users did who were forgotten is not what it was; whether that is so.

        Raises:
            ArchiveError: the disk does not say.
        """
        if self._withdrawn.as_of() == self._withdrawn_as_of:
            return False
        self._history, self._withdrawn_as_of = None, self._withdrawn.as_of()
        return True

    def at(self, version: str) -> Snapshot | None:
        """The snapshot of a version; None where it began from another import, or what users did who were forgotten
        since is no longer kept.

        Raises:
            StackError: the store does not answer. ArchiveError, DatasetError: files cannot be read.
        """
        base, _, horizon = version.partition(".")
        if not horizon.isdecimal():
            return None
        if base in self._gone:
            return None
        if self._history is None or base not in self._history.bases or self._history.until_ms < int(horizon):
            self._history = self._read()
        if self._history is None or self._history.until_ms < int(horizon):
            return None
        if base not in self._history.bases:
            self._gone.add(base)
            return None
        return self._history.at(int(horizon), base)

    def _read(self) -> ItemHistory | None:
        live = live_source(self._store_url)
        if live is None:
            return None
        dataset, archive = current_dataset(self._settings), event_archive(self._settings)
        try:
            with store_client(self._store_url, timeout_s=10) as client:
                return ItemHistory.read(client, dataset, live[1].imported_s, archive, now_ms(client))
        except redis.RedisError as error:
            raise StackError(f"the store does not answer: {error}; `riffle doctor` looks for causes") from error

"""The world in service, with the newest item stats that the store has."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from redis.exceptions import RedisError

from recsys.errors import StateError
from recsys.types import World
from service.item_snapshot import HEAD_BYTES, decode, head, snapshot_key, version_key
from service.overlaid_world import OverlaidWorlds
from service.round_trips import RoundTrips
from service.stages import Named, StageUnavailable
from service.state_keys import live_key

KEPT = 4  # worlds of the last versions: other processes ask for the one that their request began with


class LiveWorld:
    """A bundle with item stats that follow the snapshots in the store.

    Attributes:
        built: As the bundle makes it. world: The newest; `built` until a snapshot is found.
    """

    def __init__(self, world: World, store: RoundTrips) -> None:
        self.world = self.built = world
        self._worlds = OverlaidWorlds(world)
        self._store = store
        self._kept: dict[str, World] = {}
        self._followers: list[Callable[[World], None]] = []

    def follow(self, use: Callable[[World], None]) -> None:
        """Call a function with each newer world, from the loop that refreshes."""
        self._followers.append(use)

    async def refresh(self) -> None:
        """Look for a newer snapshot, and go over to it.

        Raises:
            RedisError, OSError, TimeoutError: the store failed. StateError: the snapshot is damaged. The world known so
                far stays.
        """
        (live,) = await self._store.demand([("GET", live_key())])
        if not live:
            return
        key = snapshot_key(live.decode())
        (found,) = await self._store.demand([("GETRANGE", key, "0", str(HEAD_BYTES - 1))])
        if not found or found == head(self.world.item_stats.version):
            return
        (value,) = await self._store.demand([("GET", key)])
        if value:
            self.world = await self._take(value)
            for use in self._followers:
                use(self.world)

    async def of(self, named: Named, stage: str) -> World:
        """The world that a micro-batch began with in another process.

        Raises:
            StageUnavailable: it is of another bundle, or nobody has these item stats any more.
        """
        bundle_id, version = named
        if bundle_id != self.built.bundle.id:
            raise StageUnavailable(stage, "other_bundle")
        if version == self.built.item_stats.version:
            return self.built
        if version not in self._kept:
            with suppress(RedisError, OSError, TimeoutError, StateError):
                (value,) = await self._store.demand([("GET", version_key(version))])
                if value:
                    await self._take(value)
        if version not in self._kept:
            raise StageUnavailable(stage, "other_item_stats")
        return self._kept[version]

    async def _take(self, value: bytes) -> World:
        world = await asyncio.to_thread(lambda: self._worlds.of(decode(value)))
        self._kept[world.item_stats.version] = world
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return world

"""The bundles that a replica holds, and which version of the traffic table it obeys.

A new bundle is loaded and warmed beside the others, in a thread, while they answer. A version of the table is taken
whole, once all its bundles are there; until then, and while the store is away, the last one holds. What no version
needs any more is released when its last request is done.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Protocol

from redis.exceptions import RedisError

from recsys.errors import BundleError, RegistryError, StateError
from recsys.types import World
from recsys.vocabulary import Vocabulary
from service.errors import TrafficError
from service.lanes import Lanes
from service.live_world import LiveWorld
from service.round_trips import RoundTrips
from service.stages import Named, StageUnavailable
from service.traffic.document import Traffic, decode, encode
from service.traffic.table import Report, TrafficTable

LOOK_S = 0.25  # between looks at the table: a rollback is everywhere within 2 s
RETRY_S = 15.0  # before a bundle that could not be loaded is tried again
RELEASE_S = 5.0  # after it is not needed any more: other processes may still name it in a batch under way

_log = logging.getLogger("ray.serve")


class Knowing(Protocol):
    """Who has to know which items there are."""

    def know(self, champion: Vocabulary, *others: Vocabulary) -> None:
        """From now on these are known: those of the champion, and of other bundles that may answer."""
        ...


class Residents:
    """Loads, keeps and releases bundles as the table says.

    Args:
        load: Verifies and maps a bundle. warm: Runs a world, in a thread; its second argument is whether others are
            in service meanwhile.
        store: Of the table and of item stats.
        deployed: The bundle to begin with where there is no table.
        kept: A file with the last table, for a replica that starts while the store is away.
        replica, role, node: For its report.

    Attributes:
        traffic: What is obeyed.
        worlds: The bundles that are loaded, by id.
        failed: Those that could not be, and why.
    """

    def __init__(
        self,
        load: Callable[[str], World],
        warm: Callable[[World, bool], None],
        store: RoundTrips,
        *,
        deployed: str,
        kept: Path,
        replica: str,
        role: str,
        node: str,
    ) -> None:
        self._load, self._warm, self._store = load, warm, store
        self._table = TrafficTable(store)
        self._kept = kept
        self._is_called = (replica, role, node)
        self.traffic = Traffic(1, "", "riffle", "as deployed", deployed)
        self.worlds: dict[str, LiveWorld] = {}
        self.failed: dict[str, str] = {}
        self._seen = b""  # the bytes of the newest table
        self._unreadable = ""  # why a newer one cannot be read
        self._wanted: Traffic | None = None  # a newer one, whose bundles are not all here
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._retry_at: dict[str, float] = {}
        self._needless_since: dict[str, float] = {}
        self._lanes: list[Lanes] = []
        self._knowing: list[Knowing] = []

    @property
    def champion(self) -> LiveWorld:
        """Of the table that is obeyed."""
        return self.worlds[self.traffic.champion]

    def built(self, bundle_id: str) -> World | None:
        """A bundle that is held, as it was built; None where it is not."""
        live = self.worlds.get(bundle_id)
        return live.built if live else None

    def follow(self, lanes: Lanes, *knowing: Knowing) -> None:
        """Keep lanes, and whoever has to know the items that lists may have, up to date from now on."""
        self._lanes.append(lanes)
        self._knowing += knowing
        self._obey()
        for live in self.worlds.values():  # they were made of worlds of a while ago, and the next may be long in coming
            lanes.use(live.world)

    async def begin(self) -> None:
        """Load what the table names, or what was deployed where there is none.

        Raises:
            RegistryError, BundleError: the champion cannot be loaded.
        """
        with suppress(RedisError, OSError, TimeoutError):
            self._seen = await self._table.value()
        try:
            self.traffic = self._first()
        except FileNotFoundError:
            pass  # the first start: as deployed
        except (TrafficError, OSError) as error:
            _log.warning("%s; serving %s, as deployed", error, self.traffic.champion)
        await self._bring(self.traffic.champion)
        for bundle_id in self.traffic.bundles() - {self.traffic.champion}:
            await self._try(bundle_id)
        if missing := self.traffic.bundles() - self.worlds.keys():
            # Obeyed in part is not obeyed: until the rest is here, everybody gets the champion.
            _log.warning("%s cannot be loaded; everybody gets the champion", ", ".join(sorted(missing)))
            self._wanted = self.traffic
            self.traffic = Traffic(0, "", "riffle", "not all bundles are here", self.traffic.champion)

    def _first(self) -> Traffic:
        """The table of the store; where there is none, or none that can be read, the copy. Raises as reading that."""
        if self._seen:
            try:
                return decode(self._seen)
            except TrafficError as error:
                self._unreadable, self._seen = str(error), b""  # seen, but not understood: `look` says so again
                _log.error("%s; going on with the last one that could be", error)
        return decode(self._kept.read_bytes())

    async def look(self) -> None:
        """See whether there is another table, bring what it needs, take it if all is here.

        Raises:
            RedisError, OSError, TimeoutError: the store does not say. TrafficError: what is there cannot be read. The
                table known so far holds.
        """
        value = await self._table.value()
        if not value:  # of a new store, or of one that lost what it had: what is obeyed here is the table
            value = encode(await self._table.restore(self._wanted or self.traffic))
        if value != self._seen:
            try:
                found = decode(value)
            except TrafficError as error:
                self._unreadable = str(error)
                raise
            if found.version < self.traffic.version:  # an old copy of the store came back: what was changed since holds
                await self._table.put_back(value, self.traffic)
                return
            self._wanted, self._seen = found, value
            self._retry_at.clear()
        self._unreadable = ""
        before = self.traffic.version
        self.settle()
        if self.traffic.version != before:
            await self.report()  # whoever changed it waits for this

    def settle(self) -> None:
        """Take the wanted table where all its bundles are here; else see to it that they come."""
        wanted = self._wanted or self.traffic
        for bundle_id in wanted.bundles() - self.worlds.keys() - self._loading.keys():
            if monotonic() >= self._retry_at.get(bundle_id, 0.0):
                self._loading[bundle_id] = asyncio.get_running_loop().create_task(self._try(bundle_id))
        self.failed = {one: why for one, why in self.failed.items() if one in wanted.bundles()}
        if self._wanted is not None and wanted.bundles() <= self.worlds.keys():
            self.traffic, self._wanted = wanted, None
            self._obey()
            with suppress(OSError):  # a copy for bad times, nothing more
                _replace(self._kept, encode(self.traffic))
        self._release(wanted.bundles() | self.traffic.bundles())

    async def of(self, named: Named, stage: str) -> World:
        """The world that a micro-batch began with in another process. Raises StageUnavailable."""
        live = self.worlds.get(named[0])
        if live is None:
            raise StageUnavailable(stage, "other_bundle")
        return await live.of(named, stage)

    async def refresh(self) -> None:
        """Newer item stats for every bundle. Raises as `LiveWorld.refresh`, after all have had their turn."""
        failed = [one for one in [await _refreshed(live) for live in list(self.worlds.values())] if one is not None]
        if failed:
            raise failed[0]

    async def report(self) -> None:
        """Tell the table what is obeyed and held. Raises RedisError, OSError, TimeoutError."""
        replica, role, node = self._is_called
        loaded = sorted(self.worlds)
        await self._table.report(
            Report(replica, role, node, self.traffic.version, self.traffic.champion, loaded, dict(self.failed))
        )

    def troubles(self) -> list[str]:
        """Why this replica does not do what the newest table says; empty where it does, or is about to."""
        failed = [f"{bundle_id} could not be loaded: {why}" for bundle_id, why in sorted(self.failed.items())]
        return [self._unreadable, *failed] if self._unreadable else failed

    async def _try(self, bundle_id: str) -> None:
        try:
            await self._bring(bundle_id)
            self.failed.pop(bundle_id, None)
        except Exception as error:
            if not isinstance(error, BundleError | RegistryError):
                _log.exception("%s could not be loaded", bundle_id)
            self.failed[bundle_id] = str(error)[:300] or type(error).__name__
            self._retry_at[bundle_id] = monotonic() + RETRY_S
        finally:
            self._loading.pop(bundle_id, None)

    async def _bring(self, bundle_id: str) -> None:
        """Load, take the newest item stats, warm up; only then is it held."""
        world = await asyncio.to_thread(self._load, bundle_id)
        live = LiveWorld(world, self._store)
        with suppress(RedisError, OSError, TimeoutError, StateError):
            await live.refresh()
        await asyncio.to_thread(self._warm, live.world, bool(self.worlds))
        live.follow(self._renew)
        self.worlds[bundle_id] = live

    def _obey(self) -> None:
        worlds = {bundle_id: live.world for bundle_id, live in self.worlds.items()}
        for lanes in self._lanes:
            lanes.serve(self.traffic, worlds)
        self._tell()

    def _renew(self, world: World) -> None:
        for lanes in self._lanes:
            lanes.use(world)
        self._tell()

    def _tell(self) -> None:
        champion = self.champion.world.bundle.vocabulary
        others = [live.world.bundle.vocabulary for live in self.worlds.values() if live is not self.champion]
        for one in self._knowing:
            one.know(champion, *others)

    def _release(self, needed: set[str]) -> None:
        now = monotonic()
        for bundle_id in list(self.worlds):
            if bundle_id in needed:
                self._needless_since.pop(bundle_id, None)
            elif now - self._needless_since.setdefault(bundle_id, now) >= RELEASE_S:
                del self.worlds[bundle_id], self._needless_since[bundle_id]


async def _refreshed(live: LiveWorld) -> Exception | None:
    try:
        await live.refresh()
    except (RedisError, OSError, TimeoutError, StateError) as error:
        return error
    return None


def _replace(path: Path, value: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f"{path.name}.{id(value):x}")
    written.write_bytes(value)
    written.replace(path)

"""The world that a process serves: the champion of the registry, verified and mapped."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from recsys.bundle_files import load
from recsys.registry import Registry
from recsys.types import World
from service.decisions import Decision
from service.settings import Settings

KEPT = 2  # bundles of earlier answers in memory, besides the one in service


def registry(settings: Settings) -> Registry:
    """The bundle registry of this home."""
    return Registry(settings.home_path / "registry")


def load_world(settings: Settings, bundle_id: str | None = None) -> World:
    """Verify and map a bundle, the champion if none is named.

    Raises:
        RegistryError: there is no such bundle, or no champion.
        BundleError: the bundle is damaged or of another feature schema.
    """
    bundles = registry(settings)
    path: Path = bundles.path(bundle_id or "champion")
    bundle, _ = load(path)
    return World(bundle, bundle.item_stats, settings.candidates)


def recorded_worlds(settings: Settings, served: World | None = None) -> Callable[[Decision], World]:
    """A function from a record to the world of its bundle, ranking as many candidates as then.

    It loads bundles when they are asked for, and raises what `load_world` does.

    Args:
        served: The world in service, which need not be loaded again.
    """

    @lru_cache(KEPT)
    def loaded(bundle_id: str) -> World:
        return load_world(settings, bundle_id)

    @lru_cache(KEPT)  # each new world computes its own columns of items
    def ranking(bundle_id: str, candidates: int) -> World:
        world = served if served is not None and served.bundle.id == bundle_id else loaded(bundle_id)
        return world if world.candidates == candidates else replace(world, candidates=candidates)

    return lambda record: ranking(record.bundle, record.candidates)

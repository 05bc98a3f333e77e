"""The world that a process serves: the champion of the registry, verified and mapped."""

from pathlib import Path

from recsys.bundle_files import load
from recsys.registry import Registry
from recsys.types import World
from service.settings import Settings


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

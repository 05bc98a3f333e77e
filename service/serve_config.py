"""Application builders for a Serve config file (`deploy/serve.yaml`): the same applications as `riffle serve` deploys.

Settings come from the environment of the Ray cluster (`RIFFLE_*`), where a store of its own must be named and the home
folder be shared by all nodes. `args` of the file say which bundle.
"""

from typing import Any

from recsys.errors import RegistryError
from service import app
from service.errors import SettingsError
from service.settings import Settings, load
from service.world import registry


def gateway(args: dict[str, str]) -> Any:
    """The gateways, and in the distributed topology their stages. args: `bundle`, its id; none: the champion.

    Raises:
        SettingsError: no store is named, or an argument is unknown. RegistryError: no such bundle.
    """
    settings = _settings(args, {"bundle"})
    bundles = registry(settings)
    bundle = args.get("bundle") or bundles.champion()
    if bundle is None:
        raise RegistryError("there is no champion to serve; run `riffle train`")
    return app.build(settings, redis_url=settings.redis_url, bundle_id=bundles.path(bundle).name)


def updater(args: dict[str, str]) -> Any:
    """One feature updater. args: `number`, from 0 on; there are as many as the setting `updaters` says.

    Raises:
        SettingsError: as `gateway`, or no such number.
    """
    settings = _settings(args, {"number"})
    number = args.get("number", 0)
    if not isinstance(number, int) or not 0 <= number < settings.updaters:
        raise SettingsError(f"number: {number!r} is not one of {settings.updaters} updaters, the first of which is 0")
    return app.build_updaters(settings, redis_url=settings.redis_url)[number]


def item_updater(args: dict[str, str]) -> Any:
    """What keeps item stats. Raises SettingsError."""
    return app.build_item_updater(redis_url=_settings(args, set()).redis_url)


def archiver(args: dict[str, str]) -> Any:
    """What keeps the archive. Raises SettingsError."""
    settings = _settings(args, set())
    return app.build_archiver(settings, redis_url=settings.redis_url)


def rollouts(args: dict[str, str]) -> Any:
    """What takes rollouts forward and back. Raises SettingsError."""
    settings = _settings(args, set())
    return app.build_rollouts(settings, redis_url=settings.redis_url)


def _settings(args: dict[str, str], known: set[str]) -> Settings:
    if unknown := args.keys() - known:
        raise SettingsError(
            f"args: unknown key {', '.join(sorted(unknown))}; known: {', '.join(sorted(known)) or 'none'}"
        )
    settings = load()
    if not settings.redis_url:
        raise SettingsError("RIFFLE_REDIS_URL is not set; several nodes need a store that all of them reach")
    return settings

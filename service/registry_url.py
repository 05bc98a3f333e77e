"""Where several machines have their bundles: a folder that all of them see, or an object store."""

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FOLDER = "file"
_UNFIT = {"memory": "what is in memory is gone with the process", "http": "nothing can be written there"}
_UNFIT["https"] = _UNFIT["http"]
_DRIVERS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs")}


def check_registry_url(url: str) -> None:
    """Look whether a URL can be one of bundles, and whether the package for it is installed.

    Raises:
        ValueError: it cannot, or the package is missing; says which.
    """
    protocol, separator, rest = url.partition("://")
    if not protocol or not separator or not rest.strip("/"):
        raise ValueError(f"registry_url {url!r} is not like s3://bucket/prefix, gs://bucket/prefix or file:///folder")
    if protocol == _FOLDER:
        if not rest.startswith("/"):
            raise ValueError(f"registry_url {url!r} does not name a folder from the root on, as file:///folder does")
        return
    if protocol in _UNFIT:
        raise ValueError(f"registry_url {url!r} cannot hold bundles: {_UNFIT[protocol]}")
    package, extra = _DRIVERS.get(protocol, ("fsspec", "s3"))
    if find_spec(package) is None:
        raise ValueError(
            f"registry_url {url!r} needs the package {package}: install riffle[{extra}], or requirements-stores.lock"
        )
    if protocol not in _DRIVERS:
        _check_driver(protocol)


def is_folder(url: str) -> bool:
    """Whether a URL names a folder."""
    return url.startswith(f"{_FOLDER}://")


def folder_of(url: str) -> Path:
    """The folder that a URL names."""
    return Path(unquote(urlsplit(url).path))


def _check_driver(protocol: str) -> None:
    import fsspec  # here, not above: only who has an object store needs the package, and its import takes time

    try:
        fsspec.get_filesystem_class(protocol)
    except (ValueError, ImportError) as error:
        raise ValueError(f"registry_url is of {protocol}://, which cannot be used here: {error}") from error

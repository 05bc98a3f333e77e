"""What was left out of the data of each bundle of a home, as made by no person.

A bundle holds no user, not even the digest of one, and may be another home's as well; so it is not kept in it.
"""

import fcntl
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from recsys.datasets.junk import Junk, without_users
from recsys.durable import put
from recsys.errors import DatasetError
from recsys.manifest import Manifest
from service.archives import erased_users
from service.settings import Settings

_FOLDER = "junk"  # of the home


def junk_of(settings: Settings, bundle_id: str | None) -> tuple[Junk, ...]:
    """What was left out of the data of a bundle, the oldest look first; None: of no bundle.

    Raises:
        DatasetError: the file is damaged.
    """
    return () if bundle_id is None else _read(_file(settings, bundle_id))


def is_lost(settings: Settings, manifest: Manifest) -> bool:
    """Whether something was left out of a bundle's data, and this home does not know what."""
    screened = manifest.fields.get("dataset", {}).get("screened_since_ms") is not None
    return screened and not _file(settings, manifest.id).exists()


def keep_junk(settings: Settings, bundle_id: str, junk: Sequence[Junk]) -> None:
    """Keep it until `drop_junk`; of who is forgotten nothing is kept.

    Raises:
        DatasetError: the disk refuses. ArchiveError: the list of who was forgotten is damaged.
    """
    path = _file(settings, bundle_id)
    if not junk:
        _remove([path])
        return
    with _alone(path.parent):
        _write(path, without_users(junk, frozenset(erased_users(settings).read())))


def drop_junk(settings: Settings, bundle_ids: Iterable[str]) -> None:
    """Of bundles that are gone. Raises DatasetError: the disk refuses."""
    _remove(_file(settings, one) for one in bundle_ids)


def forget_in_junk(settings: Settings, digests: Collection[str]) -> None:
    """Remove users, by digest, from what is kept, and what a death has left of writing it.

    Raises:
        DatasetError: a file is damaged, or the disk refuses.
    """
    folder, gone = settings.home_path / _FOLDER, frozenset(digests)
    if not folder.is_dir():
        return
    with _alone(folder):
        _remove(folder.glob("*.writing"))
        for path in sorted(folder.glob("*.json")):
            junk = _read(path)
            if (kept := without_users(junk, gone)) != junk:
                _write(path, kept)


def _file(settings: Settings, bundle_id: str) -> Path:
    return settings.home_path / _FOLDER / f"{bundle_id}.json"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One writer at a time: nobody is written down who is forgotten at that moment."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("ab")
    except OSError as error:
        raise DatasetError(f"{folder} cannot be written: {error}; free disk space or mend the folder") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> tuple[Junk, ...]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Junk, ...])
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError) as error:
        said = "without the file, what it leaves out is trained on again"
        raise DatasetError(f"{path} cannot be read: {error}; restore or remove it: {said}") from error


def _write(path: Path, junk: Sequence[Junk]) -> None:
    try:
        put(path, msgspec.json.format(msgspec.json.encode(junk), indent=1))
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error}; free disk space or mend the folder") from error


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise DatasetError(f"{path} cannot be removed: {error}; mend the folder") from error

"""What was left out of the data of each bundle of a home, as made by no person.

A bundle holds no user, not even the digest of one, and may be another home's as well; so it is not kept in it.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from recsys.datasets.junk import Junk, forgetting
from recsys.durable import put
from recsys.errors import DatasetError
from service.archives import erased_users
from service.settings import Settings
from service.world import registry

_FOLDER = "junk"  # of the home


def junk_of(settings: Settings, bundle_id: str | None) -> tuple[Junk, ...]:
    """What was left out of the data of a bundle, the oldest look first; None: of no bundle.

    Raises:
        DatasetError: the file is damaged.
    """
    return () if bundle_id is None else _read(_folder(settings) / f"{bundle_id}.json")


def keep_junk(settings: Settings, bundle_id: str, junk: Sequence[Junk]) -> None:
    """Keep it as long as the registry has the bundle; of who is forgotten nothing is kept.

    Raises:
        DatasetError: the disk refuses. ArchiveError: the list of who was forgotten is damaged.
    """
    folder, found = _folder(settings), registry(settings)
    if kept := list(folder.glob("*.json")):
        bundles = {*(one.id for one in found.list()), *found.damaged()}
        for path in kept:
            if path.stem not in bundles:
                _write(path, ())
    _write(folder / f"{bundle_id}.json", forgetting(junk, frozenset(erased_users(settings).read())))


def forget_in_junk(settings: Settings, digests: Collection[str]) -> None:
    """Remove users, by digest, from what is kept.

    Raises:
        DatasetError: a file is damaged, or the disk refuses.
    """
    gone = frozenset(digests)
    for path in sorted(_folder(settings).glob("*.json")):
        junk = _read(path)
        if (kept := forgetting(junk, gone)) != junk:
            _write(path, kept)


def _folder(settings: Settings) -> Path:
    return settings.home_path / _FOLDER


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
        if junk:
            put(path, msgspec.json.format(msgspec.json.encode(junk), indent=1))
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error}; free disk space or mend the folder") from error

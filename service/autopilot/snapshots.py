"""The data of a run: written once, named by their hash, the same for every step.

They lie beside the imports, so that whoever is forgotten is forgotten in them as well (decision 0016).
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from recsys.datasets import dataset as storage
from recsys.datasets.dataset import MANIFEST, Dataset
from recsys.datasets.junk import Junk
from recsys.datasets.leave_out import forget_remains, without_users
from recsys.datasets.screening import Screened, screen
from service.archives import erased_users
from service.imports import folder_of, history, unprompted_history
from service.settings import Settings

KEPT = 3
_PREFIX, _ASKED = "snapshot-", "-asked"


def take(settings: Settings) -> tuple[str, int, int]:
    """Keep all that is known now; and, for the gate, what of it came of no list.

    Returns:
        Its hash, SHA-256, and how many events and users it has.
    Raises:
        DatasetError, ArchiveError: as `imports.history`.
    """
    forget_remains(folder_of(settings))
    dataset, asked = history(settings), unprompted_history(settings)
    writing = folder_of(settings) / f"{_PREFIX}writing"
    storage.save(dataset, writing)
    name = hashlib.sha256((writing / MANIFEST).read_bytes()).hexdigest()
    folder = _folder(settings, name)
    if asked is not None:
        storage.save(asked, folder.with_name(folder.name + _ASKED))
    if folder.exists():
        _remove(writing)
    else:
        writing.rename(folder)
    _forget_old(settings, name)
    return name, len(dataset.events), len(dataset.user_id)


def screened(settings: Settings, name: str, *, since_ms: int, before: Sequence[Junk] = ()) -> Screened:
    """A snapshot without what no person made, as `screen`. Raises DatasetError: it is gone, or damaged."""
    return screen(_loaded(settings, _folder(settings, name)), since_ms=since_ms, seed=settings.seed, before=before)


def asked(settings: Settings, name: str) -> Dataset | None:
    """What a challenger and its champion are asked about, as `unprompted_history`."""
    folder = _folder(settings, name)
    folder = folder.with_name(folder.name + _ASKED)
    return _loaded(settings, folder) if folder.exists() else None


def _loaded(settings: Settings, folder: Path) -> Dataset:
    """Who was forgotten while it was written is not in it either."""
    dataset = storage.load(folder)
    return without_users(dataset, erased_users(settings).among(dataset.user_id))


def _folder(settings: Settings, name: str) -> Path:
    return folder_of(settings) / f"{_PREFIX}{name[:16]}"


def _forget_old(settings: Settings, name: str) -> None:
    folders = [one for one in folder_of(settings).glob(f"{_PREFIX}*") if not one.name.endswith(_ASKED)]
    folders.sort(key=lambda one: one.stat().st_mtime)
    for one in folders[:-KEPT]:
        if one != _folder(settings, name):
            _remove(one.with_name(one.name + _ASKED))
            _remove(one)


def _remove(folder: Path) -> None:
    """Its manifest first: what a death leaves of it is no data set any more, and `forget_remains` finds it."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)

"""A data set without some of its users or events, in memory and on disk."""

import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys.datasets.dataset import MANIFEST, Dataset, Events, load, save


def without_users(dataset: Dataset, gone: Collection[str]) -> Dataset:
    """The data set without these users, without what they did and were shown; the same object if it has none of them.

    Items, report and fingerprint stay those of the import, and so does the place of each event.
    """
    stays = np.array([user not in gone for user in dataset.user_id], bool)
    if stays.all():
        return dataset
    kept = stays[dataset.events.user]
    columns = {name: getattr(dataset.events, name)[kept] for name in Events.__annotations__}
    number = (np.cumsum(stays) - 1).astype(dataset.events.user.dtype)
    columns["user"] = number[columns["user"]]
    place = np.arange(1, len(kept) + 1) if dataset.place is None else dataset.place
    users = [user for user, one in zip(dataset.user_id, stays.tolist(), strict=True) if one]
    shown = dataset.impressions
    if shown is not None:
        shown = shown.take(np.flatnonzero(stays[shown.user]))
        shown = replace(shown, user=number[shown.user])
    return replace(dataset, user_id=users, events=Events(**columns), place=place[kept], impressions=shown)


def without_events(dataset: Dataset, gone: np.ndarray) -> Dataset:
    """The data set without these events, bool [e]; the others keep their places."""
    columns = {name: getattr(dataset.events, name)[~gone] for name in Events.__annotations__}
    place = np.arange(1, len(gone) + 1) if dataset.place is None else dataset.place
    return replace(dataset, events=Events(**columns), place=place[~gone])


def forget_remains(folder: Path) -> None:
    """Remove what a death has left of snapshots: folders that are no data sets, and may hold users all the same."""
    for one in [*folder.glob("snapshot-*"), *folder.glob(".snapshot-*.writing")]:
        if one.name.startswith(".") or not (one / MANIFEST).exists():
            shutil.rmtree(one, ignore_errors=True)


def rewrite_without(folder: Path, gone: Callable[[Dataset], Collection[str]]) -> None:
    """Save each data set in a folder again without some users; what a death has left of an earlier one is mended.

    Args:
        gone: The users to leave out of a data set.
    Raises:
        DatasetError: one is damaged, or the disk refuses.
    """
    forget_remains(folder)
    for replaced in folder.glob(".*.replaced"):
        target = replaced.with_name(replaced.name.removeprefix(".").removesuffix(".replaced"))
        if target.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(target)
    for manifest in sorted(folder.glob(f"*/{MANIFEST}")):
        dataset = load(manifest.parent)
        kept = without_users(dataset, gone(dataset))
        if kept is not dataset:
            save(kept, manifest.parent)

"""Picks the adapter for a path by the files found there."""

from pathlib import Path

from recsys.datasets import generic, item_lists, movielens
from recsys.datasets.dataset import Dataset
from recsys.datasets.source import Source
from recsys.errors import DatasetError


def read_dataset(path: Path, *, positive_rating: float, ordered: bool = True) -> Dataset:
    """Import a folder, a zip or a single file.

    Args:
        path: MovieLens in any of its layouts, interactions as CSV or Parquet (`recsys.datasets.generic`), or a list of
            items for each user (`recsys.datasets.item_lists`).
        ordered: Items of such a list stand in the order of time.
        positive_rating: A rating of at least this becomes LIKE, below it RATING.
    Raises:
        DatasetError: no layout fits, a file is unreadable or empty, or over 1 % of its rows are malformed.
    """
    source = Source(path)
    if movielens.is_movielens(source):
        return movielens.read_movielens(source, positive_rating=positive_rating)
    interactions = generic.interactions_name(source)
    if interactions is not None:
        return generic.read_generic(source, interactions, positive_rating=positive_rating)
    lists = item_lists.lists_name(source)
    if lists is not None:
        return item_lists.read_lists(source, lists, ordered=ordered, positive_rating=positive_rating)
    found = ", ".join(source.names[:10]) or "no file"
    layouts = "\n  ".join(
        (*(f"MovieLens: {layout}" for layout in movielens.LAYOUTS), *generic.LAYOUTS, *item_lists.LAYOUTS)
    )
    raise DatasetError(f"{path} holds no layout that is understood (found: {found}). Understood are:\n  {layouts}")

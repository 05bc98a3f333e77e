"""A bundle as it is with items that were described after it was trained, until the next one is trained with them.

A new item has no interactions to learn a factor from. It is given the mean factor of the items that share a category,
the categories weighted alike: near what people who like such items like, and shorter than theirs, since a mean of
vectors is; the ranker sees that it is new by its counters. It follows nothing and nothing follows it.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from recsys.bundle import Bundle
from recsys.items import Item
from recsys.retrieval.neighbours import Neighbours
from recsys.retrieval.spectral import Spectral
from recsys.text_column import TextColumn
from recsys.types import Ragged
from recsys.vocabulary import Vocabulary, item_keys

Description = tuple[str | None, tuple[str, ...] | None]


def described(bundle: Bundle, items: Mapping[str, Item]) -> dict[str, Description]:
    """What of the items changes the bundle: titles, categories, and items that it does not have."""
    known = bundle.vocabulary.rows(item_keys(items)) >= 0
    return {
        item_id: (item.title, item.categories)
        for (item_id, item), is_known in zip(items.items(), known, strict=True)
        if not item.deleted and (not is_known or item.title is not None or item.categories is not None)
    }


def overlaid(bundle: Bundle, descriptions: Mapping[str, Description]) -> Bundle:
    """The bundle with these items in it; the same bundle where there are none.

    Rows are those of a vocabulary of all items, so they differ from the bundle's; its categories keep their numbers.
    """
    if not descriptions:
        return bundle
    given = list(descriptions)
    old_row = bundle.vocabulary.rows(item_keys(given))
    new = [item_id for item_id, row in zip(given, old_row.tolist(), strict=True) if row < 0]
    n = len(bundle.vocabulary)
    ids = [*bundle.vocabulary.item_id.tolist(), *new]
    vocabulary, row_of = Vocabulary.from_keys(ids, np.concatenate([bundle.vocabulary.key, item_keys(new)]))
    numbers = {name: number for number, name in enumerate(bundle.category_name)}
    titles = [*bundle.title.tolist(), *new]
    lists = [*(bundle.item_category[row] for row in range(n)), *(np.zeros(0, np.int32) for _ in new)]
    place = {item_id: n + number for number, item_id in enumerate(new)}
    for item_id, row in zip(given, old_row.tolist(), strict=True):
        title, categories = descriptions[item_id]
        at = row if row >= 0 else place[item_id]
        if title is not None:
            titles[at] = title
        if categories is not None:
            lists[at] = np.array(sorted({numbers.setdefault(name, len(numbers)) for name in categories}), np.int32)
    source = np.argsort(row_of)  # of each new row its place in the lists
    item_category = Ragged.of([lists[at] for at in source], np.int32)
    factors = np.concatenate([bundle.factors, _content_factors(bundle, lists[n:])])[source]
    fresh = row_of[n:]
    return replace(
        bundle,
        vocabulary=vocabulary,
        title=TextColumn.of([titles[at] for at in source]),
        category_name=tuple(numbers),
        item_category=_frozen(item_category),
        category_item=_frozen(_transposed(item_category, len(numbers))),
        factors=_read_only(np.ascontiguousarray(factors)),
        index=bundle.index.extended(row_of[:n], factors[fresh], fresh),
        transitions=_moved(bundle.transitions, row_of[:n], len(ids)),
        nearby=_moved(bundle.nearby, row_of[:n], len(ids)),
        fresh=_read_only(np.sort(fresh)),
        similar=_moved(bundle.similar, row_of[:n], len(ids)),
        content=_moved(bundle.content, row_of[:n], len(ids)),
        spectral=_spread(bundle.spectral, row_of[:n], len(ids)),
        spectral_index=bundle.spectral_index.extended(
            row_of[:n], np.zeros((0, bundle.spectral.vector.shape[1])), fresh[:0]
        ),
    )


def _content_factors(bundle: Bundle, categories: list[np.ndarray]) -> np.ndarray:
    """The mean over each item's categories of the mean factor of the items in it, float32 [n, d]; 0 without any."""
    result = np.zeros((len(categories), bundle.factors.shape[1]), np.float32)
    trained = np.any(bundle.factors != 0, axis=1)
    for item, own in enumerate(categories):
        means = [
            bundle.factors[members].mean(axis=0)
            for number in own.tolist()
            if number < len(bundle.category_name) and len(members := _only(bundle.category_item[number], trained))
        ]
        if means:
            result[item] = np.mean(means, axis=0)
    return result


def _only(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return rows[wanted[rows]]


def _moved(table: Neighbours, row_of: np.ndarray, n: int) -> Neighbours:
    item = np.full((n, table.item.shape[1]), -1, np.int32)
    weight = np.zeros((n, table.item.shape[1]), np.float32)
    item[row_of] = np.where(table.item >= 0, row_of[table.item], -1)
    weight[row_of] = table.weight
    return Neighbours(_read_only(item), _read_only(weight))


def _spread(of: Spectral, row_of: np.ndarray, n: int) -> Spectral:
    vector, count = np.zeros((n, of.vector.shape[1]), np.float32), np.ones(n, np.float32)
    vector[row_of], count[row_of] = of.vector, of.count
    return Spectral(_read_only(vector), _read_only(count))


def _transposed(item_category: Ragged, categories: int) -> Ragged:
    by_category = np.argsort(item_category.values, kind="stable")
    bounds = np.searchsorted(item_category.values[by_category], np.arange(categories + 1))
    return Ragged(bounds.astype(np.int64), item_category.rows()[by_category].astype(np.int32))


def _frozen(ragged: Ragged) -> Ragged:
    return Ragged(_read_only(ragged.indptr), _read_only(ragged.values))


def _read_only(array: np.ndarray) -> np.ndarray:
    """As a bundle's mapped arrays are: code compiled for those is not compiled again."""
    array.flags.writeable = False
    return array

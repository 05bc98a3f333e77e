"""A bundle of as many items as wanted, without training on as many: for what depends on size and not on taste.

Vectors are those of `loadtest.invented_vectors`. Neighbours of an item are the other items of its leaf and of the
leaves beside it, nearest in that order, so that the tables of a user's items overlap; an item has the more of them the
more often it was taken. The ranker comes from a small invented world that is really trained; its features are the same.
"""

from dataclasses import dataclass

import faiss
import msgspec
import numpy as np

from loadtest.invented_vectors import Tastes, gram_of
from recsys.bundle import Bundle, Recipe
from recsys.datasets.synthetic import END_MS, synthetic
from recsys.evaluation.report import Report
from recsys.retrieval.index import Index, build_index
from recsys.retrieval.neighbours import Neighbours
from recsys.retrieval.spectral import Spectral
from recsys.text_column import TextColumn
from recsys.training.train import train
from recsys.types import ItemStats, Ragged
from recsys.vocabulary import Vocabulary, item_keys

CATEGORIES = 200
PER_ITEM = 2  # categories
_NEIGHBOURS_OF_ONCE = 8  # that an item has which was taken once
_SPECTRAL_LENGTH = 0.15  # times log(1 + taken)
_TRAINED = Recipe(factors=16, spectral_factors=16, als_iterations=5, neighbours=20)


@dataclass(frozen=True, slots=True, eq=False)
class Invented:
    """A bundle; and what each of its first users likes, rows int32 [users, LIKED]. report: Of the small world."""

    bundle: Bundle
    liked: np.ndarray
    report: Report


def invent(n: int, recipe: Recipe, *, users: int, threads: int = 1) -> Invented:
    """A bundle of `n` items made by a recipe's dimensions, neighbours, trees and seed; the same for the same.

    Memory: about three times its files. Time: two minutes of two cores a million items, most of it for the indexes, the
    one part that uses several `threads`.
    """
    seed = recipe.seed
    number = np.arange(n)
    keys = item_keys(item_id(one) for one in range(n))
    order = np.argsort(keys, kind="stable")
    row_of = np.empty(n, np.int32)
    row_of[order] = number
    tastes = Tastes.draw(n, seed=seed)
    factors = tastes.vectors(recipe.factors, seed=seed)[order]
    spectral = tastes.vectors(recipe.spectral_factors, seed=seed + 1, length=_SPECTRAL_LENGTH)[order]
    category, indptr = _categories(tastes, order, seed)
    by_category = np.argsort(category, kind="stable")
    owners = (by_category // PER_ITEM).astype(np.int32)
    small = msgspec.structs.replace(_TRAINED, seed=seed, trees=recipe.trees)
    trained = train(synthetic(users=400, items=300, seed=seed), small)
    bundle = Bundle(
        id="",
        recipe=recipe,
        vocabulary=Vocabulary(keys[order], _numbered("item-", order)),
        title=_numbered("Item number ", order),
        category_name=tuple(f"Category {one:03d}" for one in range(CATEGORIES)),
        item_category=Ragged(indptr, category),
        category_item=Ragged(np.searchsorted(category[by_category], np.arange(CATEGORIES + 1)), owners),
        factors=factors,
        gram=gram_of(factors),
        index=_index(factors, seed, threads),
        **{
            name: _neighbours(tastes, order, row_of, recipe.neighbours, reach)
            for name, reach in (("transitions", 1.0), ("nearby", 0.8), ("similar", 0.6), ("content", 0.4))
        },
        spectral=Spectral(spectral, tastes.taken[order]),
        spectral_index=_index(spectral, seed, threads),
        item_stats=_stats(tastes.taken[order], seed),
        ranker=trained.bundle.ranker,
    )
    return Invented(bundle, row_of[tastes.liked(users, seed=seed)], trained.report)


def item_id(number: int) -> str:
    """The id of an item."""
    return f"item-{number:09d}"


def _index(vectors: np.ndarray, seed: int, threads: int) -> Index:
    """FAISS knows one number of threads for all it does, and searches of a single query only lose by a second one."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        return build_index(vectors, seed=seed)
    finally:
        faiss.omp_set_num_threads(before)


def _numbered(prefix: str, numbers: np.ndarray) -> TextColumn:
    """A text for each number, nine digits after the same prefix; a million in 50 ms, as strings in a second."""
    text = np.empty((len(numbers), len(prefix) + 9), np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix.encode(), np.uint8)
    text[:, len(prefix) :] = numbers[:, None] // 10 ** np.arange(8, -1, -1) % 10 + ord("0")
    return TextColumn(text.reshape(-1), np.arange(len(numbers) + 1, dtype=np.int64) * text.shape[1])


def _categories(tastes: Tastes, order: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One category that the leaf decides and one of the item's own, a few of them large: values and bounds."""
    rng = np.random.default_rng([seed, 4])
    share = 1 / (1 + np.arange(CATEGORIES))
    of_leaf = rng.choice(CATEGORIES, tastes.leaves, p=share / share.sum())
    first = of_leaf[tastes.leaf[order]]
    second = (first + 1 + rng.integers(CATEGORIES - 1, size=len(order))) % CATEGORIES
    both = np.sort(np.stack([first, second], axis=1), axis=1).astype(np.int32)
    return both.reshape(-1), np.arange(len(order) + 1, dtype=np.int64) * PER_ITEM


def _neighbours(tastes: Tastes, order: np.ndarray, row_of: np.ndarray, k: int, reach: float) -> Neighbours:
    n = len(order)
    k = min(k, n - 1)
    place = np.empty(n, np.int32)
    place[tastes.by_leaf] = np.arange(n, dtype=np.int32)
    row_at = row_of[tastes.by_leaf]
    step = np.arange(2, k + 2) // 2 * np.where(np.arange(k) % 2, -1, 1)  # 1, -1, 2, -2, ...
    weight = (0.5 * np.exp(-np.arange(k) / (reach * 25))).astype(np.float32)
    has = np.minimum(k, _NEIGHBOURS_OF_ONCE * tastes.taken[order])
    items, weights = np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32)
    for near in range(k):
        some = np.flatnonzero(has > near)
        items[some, near] = row_at[(place[order[some]] + step[near]) % n]
        weights[some, near] = weight[near]
    return Neighbours(items, weights)


def _stats(taken: np.ndarray, seed: int) -> ItemStats:
    rng = np.random.default_rng([seed, 5])
    trend = taken * rng.random(len(taken), np.float32)
    return ItemStats(
        version=f"bundle-{END_MS // 1000}",
        available=np.ones(len(taken), bool),
        popularity=taken,
        trend=trend,
        trend_day=trend * np.float32(0.05),
        trend_year=trend + np.float32(0.5) * (taken - trend),
        positive_rate=(0.3 + 0.6 * rng.random(len(taken), np.float32)).astype(np.float32),
        order=np.argsort(-trend, kind="stable").astype(np.int32),
    )

"""Everything of a bundle but the ranker, fitted on what may be learnt from."""

from dataclasses import replace

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

from recsys.bundle import Bundle, Recipe
from recsys.datasets.dataset import Dataset
from recsys.errors import TrainingError
from recsys.features.item_counts import ItemCounts
from recsys.retrieval.content import content
from recsys.retrieval.index import Index, build_index
from recsys.retrieval.neighbours import co_occurrence, nearby, transitions
from recsys.retrieval.spectral import Spectral
from recsys.text_column import TextColumn
from recsys.training.log import Log
from recsys.types import ItemStats, Ragged
from recsys.verbs import WEIGHT
from recsys.vocabulary import Vocabulary

ASKING = 256  # users whose vectors an index is measured with


def fit(dataset: Dataset, past: Log, recipe: Recipe, *, until_s: int, threads: int | None = None) -> Bundle:
    """Vocabulary of the whole catalogue; factors, neighbours and stats of what happened.

    Args:
        past: Events of the data set. until_s: When they end: what item stats are as of.
        threads: Of ALS, whose every row is solved by itself; None: one for each processor.
    Raises:
        TrainingError: nothing positive happened.
    """
    vocabulary, row_of = Vocabulary.build(dataset.item_id)
    if not past.positive.any():
        raise TrainingError("no positive interaction lies before the split; import more data or lower positive_rating")
    item = row_of[past.item]
    n = len(vocabulary)
    liked = past.positive
    factors, gram, index = _als(past, item, n, recipe, threads)
    with threadpool_limits(1, "blas"):  # how a sum is shared out among threads would change its last bits
        spectral = Spectral.fit(past.user[liked], item[liked], n, d=recipe.spectral_factors, seed=recipe.seed)
        asking = _user_sums(spectral, past.user[liked], item[liked], recipe.seed)
        spectral_index = build_index(spectral.vector, seed=recipe.seed, queries=asking)
    source_of = np.argsort(row_of)  # data-set item of each row
    counts = np.diff(dataset.item_category_indptr)[source_of]
    lists = [
        dataset.item_category[dataset.item_category_indptr[i] : dataset.item_category_indptr[i + 1]] for i in source_of
    ]
    item_category = Ragged.of(lists, np.int32)
    title = [dataset.item_title[i] for i in source_of]
    named = ["" if title[row] == one else title[row] for row, one in enumerate(vocabulary.item_id.tolist())]
    by_category = np.argsort(item_category.values, kind="stable")
    owners = np.repeat(np.arange(n, dtype=np.int32), counts)[by_category]
    bounds = np.searchsorted(item_category.values[by_category], np.arange(len(dataset.categories) + 1))
    return Bundle(
        id="",
        recipe=recipe,
        vocabulary=vocabulary,
        title=TextColumn.of(title),
        category_name=tuple(dataset.categories),
        item_category=item_category,
        category_item=Ragged(bounds.astype(np.int64), owners),
        factors=factors,
        gram=gram,
        index=index,
        transitions=transitions(past.user, item, liked, n, k=recipe.neighbours),
        nearby=nearby(past.user, item, liked, n, k=recipe.neighbours),
        spectral=spectral,
        spectral_index=spectral_index,
        similar=co_occurrence(past.user[liked], item[liked], n, k=recipe.neighbours),
        content=content(named, item_category, k=recipe.neighbours),
        item_stats=item_stats(vocabulary.key, past, until_s=until_s),
    )


def with_als(bundle: Bundle, past: Log, *, threads: int | None = None) -> Bundle:
    """A bundle that was fitted on `past`, its factors as its recipe wants them."""
    item = bundle.vocabulary.rows(past.key)
    factors, gram, index = _als(past, item, len(bundle.vocabulary), bundle.recipe, threads)
    return replace(bundle, factors=factors, gram=gram, index=index)


def _als(
    past: Log, item: np.ndarray, n_items: int, recipe: Recipe, threads: int | None
) -> tuple[np.ndarray, np.ndarray, Index]:
    """Item factors of implicit-feedback ALS, float32 [N, d], their Gram matrix with the regularisation, their index.

    The same for the same seed, whatever the thread count. Who did several things to an item has the confidence of the
    one that weighs most, as in `fold_in`. item: int [e], the row of each event.
    """
    liked = past.positive
    user, item, weight = past.user[liked], item[liked], WEIGHT[past.verb[liked]]
    order = np.lexsort((weight, item, user))
    user, item, weight = user[order], item[order], weight[order]
    heaviest = np.append((user[1:] != user[:-1]) | (item[1:] != item[:-1]), True)
    values = (1 + recipe.als_alpha * weight[heaviest]).astype(np.float32)
    shape = (int(user.max()) + 1, n_items)
    confidence = sparse.coo_array((values, (user[heaviest], item[heaviest])), shape=shape).tocsr()
    with threadpool_limits(1, "blas"):  # how a sum is shared out among threads would change its last bits
        model = AlternatingLeastSquares(
            factors=recipe.factors,
            regularization=recipe.als_regularization,
            alpha=1.0,
            iterations=recipe.als_iterations,
            random_state=recipe.seed,
            num_threads=threads or 0,
            use_gpu=False,
        )
        model.fit(sparse.csr_matrix(confidence), show_progress=False)
        factors = np.ascontiguousarray(model.item_factors, np.float32)
        factors[np.bincount(item, minlength=n_items) == 0] = 0
        gram = factors.T @ factors + np.float32(recipe.als_regularization) * np.eye(recipe.factors, dtype=np.float32)
        asking = np.asarray(model.user_factors[_some_users(user, recipe.seed)], np.float32)
        index = build_index(factors, seed=recipe.seed, queries=asking)
    return factors, gram, index


def _some_users(user: np.ndarray, seed: int) -> np.ndarray:
    """At most ASKING of these users, ascending."""
    users = np.unique(user)
    return np.sort(np.random.default_rng(seed).choice(users, min(ASKING, len(users)), replace=False))


def _user_sums(spectral: Spectral, user: np.ndarray, item: np.ndarray, seed: int) -> np.ndarray:
    """Spectral vectors of some users, from all that they liked: float32 [q, d]."""
    users = _some_users(user, seed)
    of_them = np.isin(user, users)
    place, taken = np.searchsorted(users, user[of_them]), item[of_them]
    shares = sparse.coo_array((1 / spectral.count[taken], (place, taken)), shape=(len(users), len(spectral.count)))
    return np.asarray(shares.tocsr() @ spectral.vector, np.float32)


def item_stats(key: np.ndarray, log: Log, *, until_s: int) -> ItemStats:
    """The snapshot of item counters as of `until_s`, all items available. key: uint64 [N], the vocabulary's."""
    counts = ItemCounts.empty()
    counts.apply(item_key=log.key, verb=log.verb, ts_s=log.ts_s)
    return counts.stats(key, now_s=until_s, version=f"bundle-{until_s}", unavailable=np.zeros(0, np.uint64))

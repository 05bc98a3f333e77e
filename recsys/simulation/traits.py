"""What an item is to those who might want it: a direction in the space in which tastes are directions, too.

Items that the same people liked point the same way. So lists can please simulated users for the reason for which they
please people: histories say what goes with what. Reading a truth off real data, and knowing it from then on, is the way
of Schnabel et al., Recommendations as Treatments (ICML 2016). It is linear in a few dimensions, as the factors of ALS
are, and flatters them: compare rankers in it, do not quote its clicks as a forecast.
"""

import numpy as np
from scipy.sparse import csr_matrix, diags_array
from scipy.sparse.linalg import aslinearoperator, svds

from recsys.datasets.dataset import Dataset
from recsys.errors import DatasetError
from recsys.simulation.directions import named, unit
from recsys.verbs import is_positive

DIMENSIONS = 8
PRIOR = 10.0  # positives after which an item is half what its categories are, half what its own history says


def item_traits(dataset: Dataset, *, seed: int) -> np.ndarray:
    """The direction of every item, unit vectors float64 [N, DIMENSIONS].

    An item without history is what its categories are, and a part of its own that depends on its id and the seed
    alone; the more positives it has, the more it is what they say.

    Raises:
        DatasetError: too few users or items have positives.
    """
    history, positives = _kinship(dataset)
    chance = named(dataset.item_id, DIMENSIONS, seed=seed)
    item = np.repeat(np.arange(len(chance)), np.diff(dataset.item_category_indptr))
    category = dataset.item_category
    centre = PRIOR * named([f"category {name}" for name in dataset.categories], DIMENSIONS, seed=seed)
    np.add.at(centre, category, (positives[:, None] * history)[item])
    expected = chance.copy()
    np.add.at(expected, item, unit(centre)[category])
    return unit(positives[:, None] * history + PRIOR * unit(expected))


def _kinship(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Directions from who liked what, 0 without positives, and the users who liked each item. [N, d], [N].

    Correspondence analysis of the binary matrix (Greenacre, Theory and Applications of Correspondence Analysis, 1984):
    what the margins alone explain, activity of users and popularity of items, is taken out.
    """
    positive = is_positive(dataset.events.verb)
    user, item = dataset.events.user[positive], dataset.events.item[positive]
    liked = csr_matrix((np.ones(len(user)), (user, item)), shape=(len(dataset.user_id), len(dataset.item_id)))
    liked.data[:] = 1.0
    users, items = np.asarray(liked.sum(axis=1)).ravel(), np.asarray(liked.sum(axis=0)).ravel()
    if min((users > 0).sum(), (items > 0).sum()) <= DIMENSIONS:
        raise DatasetError(f"{dataset.title} has too few users or items with positives to simulate; import more data")
    scaled = diags_array(_inverse_root(users)) @ liked @ diags_array(_inverse_root(items))
    margins = aslinearoperator(np.sqrt(users / users.sum())[:, None]) @ aslinearoperator(
        np.sqrt(items / items.sum())[None, :]
    )
    _, value, right = svds(aslinearoperator(scaled) - margins, k=DIMENSIONS, v0=np.ones(min(scaled.shape)))
    direction = right.T * value * _inverse_root(items)[:, None]
    largest = np.abs(direction).argmax(axis=0)
    direction *= np.sign(direction[largest, np.arange(DIMENSIONS)])  # of a component and its mirror image, one
    return unit(direction), items


def _inverse_root(count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, 1 / np.sqrt(np.maximum(count, 1)), 0.0)

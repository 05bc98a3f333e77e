"""Traits say what histories say; where there is none, what categories say; and an item's own part is its id's."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from recsys.errors import DatasetError
from recsys.simulation.traits import item_traits
from recsys.verbs import Verb
from tests import worlds


def cosines(traits: np.ndarray, left: list[int], right: list[int]) -> np.ndarray:
    """Of all pairs of two different items."""
    product = traits[left] @ traits[right].T
    return product[np.not_equal.outer(left, right)]


def extended(dataset: Dataset, categories_of_new: dict[str, list[str]]) -> Dataset:
    """The same history, and items nobody has met."""
    numbers = [sorted(dataset.categories.index(name) for name in names) for names in categories_of_new.values()]
    ends = dataset.item_category_indptr[-1] + np.cumsum([len(one) for one in numbers])
    return replace(
        dataset,
        item_id=[*dataset.item_id, *categories_of_new],
        item_title=[*dataset.item_title, *categories_of_new],
        item_category_indptr=np.concatenate([dataset.item_category_indptr, ends]),
        item_category=np.concatenate([dataset.item_category, *map(np.array, numbers)]).astype(np.int32),
    )


def test_items_that_the_same_people_liked_point_the_same_way() -> None:
    dataset = worlds.two_tastes()
    traits = item_traits(dataset, seed=1)
    left = [i for i, item_id in enumerate(dataset.item_id) if item_id.startswith("left")]
    right = [i for i, item_id in enumerate(dataset.item_id) if item_id.startswith("right")]
    between = cosines(traits, left, right).mean()
    assert cosines(traits, left, left).mean() > between + 0.3
    assert cosines(traits, right, right).mean() > between + 0.3


def test_traits_are_unit_vectors_also_of_items_nobody_has_met(synthetic_dataset: Dataset) -> None:
    dataset = extended(synthetic_dataset, {"new": ["Comedy"], "bare": []})
    np.testing.assert_allclose(np.linalg.norm(item_traits(dataset, seed=1), axis=1), 1)


def test_an_item_nobody_has_met_is_like_its_category(synthetic_dataset: Dataset) -> None:
    names = synthetic_dataset.categories
    new = {f"{name}-{number}": [name] for name in names for number in range(10)}
    traits = item_traits(extended(synthetic_dataset, new), seed=1)[len(synthetic_dataset.item_id) :]
    same = np.repeat(np.eye(len(names), dtype=bool), 10, axis=0).repeat(10, axis=1)
    product = traits @ traits.T
    distinct = ~np.eye(len(traits), dtype=bool)
    assert product[same & distinct].mean() > product[~same].mean() + 0.2
    assert product[same & distinct].max() < 1 - 1e-6  # and has a part of its own


def test_traits_of_an_item_do_not_depend_on_what_is_launched_beside_it(synthetic_dataset: Dataset) -> None:
    one = item_traits(extended(synthetic_dataset, {"a": ["Drama"]}), seed=1)
    more = item_traits(extended(synthetic_dataset, {"b": ["Comedy"], "a": ["Drama"]}), seed=1)
    np.testing.assert_allclose(more[[*range(len(one) - 1), -1]], one, atol=1e-8)


def test_same_seed_gives_the_same_bytes_and_another_seed_other_ones(synthetic_dataset: Dataset) -> None:
    first, again, other = (item_traits(synthetic_dataset, seed=seed).tobytes() for seed in (1, 1, 2))
    assert first == again != other


def test_a_data_set_with_too_few_users_is_refused() -> None:
    events = [("somebody", f"item-{n}", Verb.LIKE, worlds.START_S + n) for n in range(30)]
    dataset = worlds.dataset_of(events, {f"item-{n}": [] for n in range(30)})
    with pytest.raises(DatasetError, match=r"too few users or items with positives .*; import more data"):
        item_traits(dataset, seed=1)

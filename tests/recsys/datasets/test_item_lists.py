"""Files with a list of items for each user, in order and without."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from recsys.datasets.detect import read_dataset
from recsys.errors import DatasetError

TEXT = "u1 a b c\nu2 b\n\nu3 c a\n"


def lists_of(dataset: Dataset) -> dict[str, list[str]]:
    """The items of each user in the order of the log."""
    found: dict[str, list[str]] = {user: [] for user in dataset.user_id}
    for user, item in zip(dataset.events.user.tolist(), dataset.events.item.tolist(), strict=True):
        found[dataset.user_id[user]].append(dataset.item_id[item])
    return found


@pytest.mark.parametrize("name", ["shop.txt", "shop.txt.gz"])
def test_items_of_a_line_are_events_in_its_order(name: str, tmp_path: Path) -> None:
    content = TEXT.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    dataset = read_dataset(tmp_path / name, positive_rating=4.0)
    assert lists_of(dataset) == {"u1": ["a", "b", "c"], "u2": ["b"], "u3": ["c", "a"]}
    assert (dataset.name, dataset.timing) == ("shop", "order")
    assert np.diff(np.unique(dataset.events.ts_ms)).tolist() == [60_000, 60_000]


def test_without_an_order_all_has_one_time_and_no_place_tells_anything(tmp_path: Path) -> None:
    (tmp_path / "shop.txt").write_text("u " + " ".join(f"i{n:03d}" for n in range(200)))
    dataset = read_dataset(tmp_path / "shop.txt", positive_rating=4.0, ordered=False)
    (items,) = lists_of(dataset).values()
    assert dataset.timing == "none"
    assert len(np.unique(dataset.events.ts_ms)) == 1
    assert sorted(items) == [f"i{n:03d}" for n in range(200)] != items


def test_attributes_beside_the_lists_are_categories(tmp_path: Path) -> None:
    (tmp_path / "Shop.txt").write_text(TEXT)
    (tmp_path / "Shop_item2attributes.json").write_text(json.dumps({"a": [1, 2], "b": [2], "d": []}))
    dataset = read_dataset(tmp_path, positive_rating=4.0)
    bounds = dataset.item_category_indptr
    of = {
        item: {dataset.categories[c] for c in dataset.item_category[bounds[n] : bounds[n + 1]]}
        for n, item in enumerate(dataset.item_id)
    }
    assert of == {"a": {"1", "2"}, "b": {"2"}, "c": set(), "d": set()}


@pytest.mark.parametrize("content", ["[1, 2]", '{"a": 5}', "{"])
def test_attributes_of_another_shape_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "Shop.txt").write_text(TEXT)
    (tmp_path / "Shop_item2attributes.json").write_text(content)
    with pytest.raises(DatasetError, match=r"Shop_item2attributes\.json in .* is not \{item: \[attribute, \.\.\.\]\}"):
        read_dataset(tmp_path, positive_rating=4.0)


def test_table_that_is_named_as_lists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shop.txt").write_text("user_id,item_id\nu,a\n")
    with pytest.raises(DatasetError, match="has commas where items stand apart by spaces; name it"):
        read_dataset(tmp_path / "shop.txt", positive_rating=4.0)


def test_file_of_users_without_items_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shop.txt").write_text("u1\nu2\n")
    with pytest.raises(DatasetError):
        read_dataset(tmp_path / "shop.txt", positive_rating=4.0)


def test_lines_that_are_sorted_by_number_are_in_no_order_whatever_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    lines = [[user, *np.sort(rng.choice(1000, 12, replace=False)).tolist()] for user in range(40)]
    path = tmp_path / "train.txt"
    path.write_text("\n".join(" ".join(map(str, line)) for line in lines), "utf-8")
    found = read_dataset(path, positive_rating=4.0)
    assert found.timing == "none"
    assert "nearly every line is sorted by number" in found.report.summary()
    for line in lines[:10]:
        line[1:] = line[:0:-1]
    path.write_text("\n".join(" ".join(map(str, line)) for line in lines), "utf-8")
    assert read_dataset(path, positive_rating=4.0).timing == "order"
    path.write_text("a x1 x2 x3\nb x2 x3 x4\n", "utf-8")
    assert read_dataset(path, positive_rating=4.0).timing == "order"

"""A bundle that was saved, published and loaded answers as it did in memory; anything else is refused by name."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import msgspec
import numpy as np
import pytest

from recsys.bundle import Bundle
from recsys.bundle_files import load, save
from recsys.datasets.dataset import Dataset
from recsys.errors import BundleError
from recsys.features.matrix import NAMES, SCHEMA_HASH
from recsys.manifest import MANIFEST_NAME, read_manifest, write_manifest
from recsys.recommend import recommend
from recsys.retrieval.faiss_index import FaissIndex
from recsys.text_column import TextColumn
from recsys.training.train import Trained, write
from recsys.types import Slates, World
from tests import worlds
from tests.conftest import train_small
from tests.worlds import batch_of, random_asks

CREATED = "2025-06-30T12:00:00Z"
MISFIT = "does not fit the bundle"
PER_ITEM = [
    *(
        "factors",
        "transitions.item",
        "transitions.weight",
        "nearby.item",
        "nearby.weight",
        "similar.item",
        "similar.weight",
        "content.item",
        "content.weight",
    ),
    *(
        f"item_stats.{part}"
        for part in ("available", "popularity", "trend", "trend_day", "trend_year", "positive_rate")
    ),
]
RAGGED = [f"{table}.{part}" for table in ("item_category", "category_item") for part in ("indptr", "values")]
TEXTS = [f"{name}.{part}" for name in ("title", "vocabulary.item_id") for part in ("text", "offset")]
TREES = [f"ranker.trees.{part}" for part in ("feature", "border", "leaf")]
LINEAR = [f"ranker.linear.{part}" for part in ("low", "high", "plain", "root")]
SPECTRAL = ["spectral.vector", "spectral.count"]
ARRAYS = [*PER_ITEM, *SPECTRAL, *RAGGED, *TEXTS, *TREES, *LINEAR, "gram", "item_stats.order", "vocabulary.key"]
INDEXES = ["index.faiss", "spectral_index.faiss"]
REPORTS = ["report.json", "report.md", "data_checks.json", "reference.json"]
FILES = [*(f"{name}.npy" for name in ARRAYS), *INDEXES, "bundle.json", *REPORTS]


@pytest.fixture(scope="module")
def small() -> Trained:
    return train_small(worlds.two_tastes())


@pytest.fixture(scope="module")
def published(small: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundle")
    write(small, worlds.two_tastes(), directory, code_commit="abc", parent=None)
    return directory


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "copy"))


def publish_anew(directory: Path, **fields: Any) -> Path:
    """A manifest that is right about the files as they are now."""
    before = read_manifest(directory).fields
    (directory / MANIFEST_NAME).unlink()
    write_manifest(directory, fields=before | fields)
    return directory


def edit(directory: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Replace one array and publish again."""
    np.save(directory / f"{name}.npy", change(np.load(directory / f"{name}.npy")))
    return publish_anew(directory)


def assert_same_bits(one: Slates, other: Slates) -> None:
    for name in Slates.__slots__:
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


def test_loaded_bundle_recommends_as_the_one_in_memory_bit_for_bit(
    trained: Trained, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    bundle_id = write(trained, synthetic_dataset, tmp_path, code_commit="abc", parent=None)
    loaded, manifest = load(tmp_path)
    assert loaded.id == manifest.id == bundle_id
    assert loaded.recipe == trained.bundle.recipe
    kept = World(trained.bundle, trained.bundle.item_stats)
    batch = batch_of(kept, random_asks(kept, np.random.default_rng(1), 40))
    assert_same_bits(recommend(World(loaded, loaded.item_stats), batch), recommend(kept, batch))
    for row in (0, 7, 399):
        assert loaded.title[row] == trained.bundle.title[row]
        assert loaded.categories_of(row) == trained.bundle.categories_of(row)


def test_bundle_of_a_catalogue_without_categories_is_mapped_back(chain_trained: Trained, tmp_path: Path) -> None:
    write(chain_trained, worlds.chain(), tmp_path, code_commit="abc", parent=None)
    loaded, _ = load(tmp_path)
    kept = World(chain_trained.bundle, chain_trained.bundle.item_stats)
    batch = batch_of(kept, random_asks(kept, np.random.default_rng(1), 10))
    assert_same_bits(recommend(World(loaded, loaded.item_stats), batch), recommend(kept, batch))


def test_published_files_are_these_and_no_other(published: Path) -> None:
    assert {path.name for path in published.iterdir()} == {*FILES, MANIFEST_NAME}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped byte", "truncated", "missing"])
def test_damaged_file_is_refused_by_its_name(copy: Path, name: str, damage: str) -> None:
    path = copy / name
    data = path.read_bytes()
    if damage == "flipped byte":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif damage == "truncated":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
    with pytest.raises(BundleError, match=repr(name)):
        load(copy)


def test_bundle_of_another_feature_schema_is_refused(copy: Path) -> None:
    publish_anew(copy, feature_schema_hash="f" * 64)
    with pytest.raises(
        BundleError, match=f"feature schema ffffffffffff, this version computes {SCHEMA_HASH[:12]}; train a new bundle"
    ):
        load(copy)


def test_bundle_that_names_no_feature_schema_is_refused(copy: Path) -> None:
    (copy / MANIFEST_NAME).unlink()
    write_manifest(copy, fields={"created": CREATED})
    with pytest.raises(BundleError, match="feature schema"):
        load(copy)


def test_bundle_whose_ids_are_not_those_of_its_manifest_is_refused(copy: Path) -> None:
    with pytest.raises(BundleError, match=rf"vocabulary\.item_id\.text\.npy {MISFIT}: the ids are not those"):
        load(publish_anew(copy, vocabulary_hash="0" * 64))


@pytest.mark.parametrize(
    "names", [NAMES[::-1], (*NAMES[:-1], "cross_other"), (*NAMES, "cross_other")], ids=["order", "name", "one more"]
)
def test_ranker_trained_on_other_features_is_refused(copy: Path, names: tuple[str, ...]) -> None:
    described = json.loads((copy / "bundle.json").read_text())
    described["ranker_features"] = names
    (copy / "bundle.json").write_text(json.dumps(described))
    found = f"the ranker was trained on features {', '.join(names)}"
    with pytest.raises(BundleError, match=rf"bundle\.json {MISFIT}: {found}; train a new one or promote another"):
        load(publish_anew(copy))


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("cut", [np.s_[:-1], np.s_[:, :-1]], ids=["a tree too few", "a column too few"])
def test_trees_whose_arrays_differ_in_shape_are_refused(copy: Path, name: str, cut: Any) -> None:
    """The compiled evaluation checks no bounds: it would read past the end of the shorter one."""
    shapes = r"trees of \(\d+, \d\) beside borders of \(\d+, \d\) and leaves of \(\d+, \d\d\)"
    with pytest.raises(BundleError, match=rf"ranker\.trees\.feature\.npy {MISFIT}: {shapes}; train a new one"):
        load(edit(copy, name, lambda array: array[cut]))


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("shape", [(-1,), (2, -1, 1)], ids=["1", "3"])
def test_trees_of_another_number_of_dimensions_are_refused_by_their_name(
    copy: Path, name: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(BundleError, match=rf"{name}\.npy {MISFIT}: "):
        load(edit(copy, name, lambda array: array.reshape(shape)))


@pytest.mark.parametrize(("number", "found"), [(-1, r"-1\.\.\d+"), (len(NAMES), rf"\d+\.\.{len(NAMES)}")])
def test_split_on_a_feature_that_is_not_there_is_refused(copy: Path, number: int, found: str) -> None:
    def change(feature: np.ndarray) -> np.ndarray:
        feature[-1, -1] = number
        return feature

    outside = rf"numbers {found} outside 0\.\.{len(NAMES) - 1};"
    with pytest.raises(BundleError, match=rf"ranker\.trees\.feature\.npy {MISFIT}: {outside}"):
        load(edit(copy, "ranker.trees.feature", change))


@pytest.mark.parametrize("name", [*LINEAR, "ranker.trees.leaf"])
def test_ranker_with_a_number_that_is_not_finite_is_refused(copy: Path, name: str) -> None:
    def change(array: np.ndarray) -> np.ndarray:
        array.flat[0] = np.nan
        return array

    with pytest.raises(BundleError, match=rf"{MISFIT}: a number that is not finite in the ranker;"):
        load(edit(copy, name, change))


@pytest.mark.parametrize("name", [*PER_ITEM, "gram", "title.offset", "vocabulary.key", "item_category.indptr"])
def test_array_with_a_row_too_few_is_refused_by_its_name(copy: Path, name: str) -> None:
    with pytest.raises(BundleError, match=rf"{name}\.npy"):
        load(edit(copy, name, lambda array: array[:-1]))


@pytest.mark.parametrize("name", ["factors", "gram"])
def test_factors_of_another_width_are_refused(copy: Path, name: str) -> None:
    with pytest.raises(BundleError, match=rf"{name}\.npy {MISFIT}: float32\[\d+, 15\] where float32\[\d+, 16\] was"):
        load(edit(copy, name, lambda array: array[:, :-1]))


@pytest.mark.parametrize("table", ["transitions", "similar"])
def test_neighbours_with_fewer_weights_than_items_are_refused(copy: Path, table: str) -> None:
    with pytest.raises(BundleError, match=rf"{table}\.weight\.npy {MISFIT}: \(41, 19\) beside items of \(41, 20\)"):
        load(edit(copy, f"{table}.weight", lambda array: array[:, :-1]))


@pytest.mark.parametrize("name", ARRAYS)
def test_array_of_another_type_is_refused_by_its_name(copy: Path, name: str) -> None:
    with pytest.raises(BundleError, match=rf"{name}\.npy (holds|{MISFIT}:) complex128"):
        load(edit(copy, name, lambda array: array.astype(complex)))


def test_spectral_counts_below_one_are_refused(copy: Path) -> None:
    with pytest.raises(BundleError, match=rf"spectral\.count\.npy {MISFIT}: a number below 1 where users are counted"):
        load(edit(copy, "spectral.count", lambda array: array * 0))


def test_titles_of_another_catalogue_are_refused(copy: Path) -> None:
    TextColumn.of(["one", "two"]).save(copy, "title")
    with pytest.raises(BundleError, match=rf"title\.offset\.npy {MISFIT}: 2 titles for 41 items"):
        load(publish_anew(copy))


@pytest.mark.parametrize("name", ["category_item.indptr", "category_item.values", "item_category.values"])
def test_category_lists_cut_short_are_refused_by_their_name(copy: Path, name: str) -> None:
    with pytest.raises(BundleError, match=rf"{name.split('.')[0]}\.indptr\.npy {MISFIT}: "):
        load(edit(copy, name, lambda array: array[:-1]))


@pytest.mark.parametrize(
    "name", ["transitions.item", "similar.item", "item_stats.order", "category_item.values", "item_category.values"]
)
def test_item_or_category_numbers_out_of_range_are_refused(copy: Path, name: str) -> None:
    with pytest.raises(BundleError, match=rf"{name}\.npy {MISFIT}: numbers -?\d+\.\.9999 outside (0|-1)\.\."):
        load(edit(copy, name, lambda array: np.where(np.arange(array.size).reshape(array.shape) == 0, 9999, array)))


@pytest.mark.parametrize("name", INDEXES)
def test_index_of_another_catalogue_is_refused(copy: Path, name: str) -> None:
    FaissIndex.build(np.ones((500, worlds.SMALL.factors), np.float32)).save(copy / name)
    found = "16 dimensions, rows up to 499 where 16 and below 41 were expected"
    with pytest.raises(BundleError, match=rf"{name} {MISFIT}: {found}"):
        load(publish_anew(copy))


def test_index_of_another_kind_is_refused(copy: Path) -> None:
    faiss.write_index(faiss.IndexFlatIP(worlds.SMALL.factors), str(copy / "index.faiss"))
    with pytest.raises(
        BundleError, match=rf"index\.faiss {MISFIT}: it holds a IndexFlat\w*, not the index of a bundle"
    ):
        load(publish_anew(copy))


def test_index_of_another_width_is_refused(copy: Path) -> None:
    FaissIndex.build(np.ones((20, 3), np.float32)).save(copy / "index.faiss")
    with pytest.raises(BundleError, match=rf"index\.faiss {MISFIT}: 3 dimensions"):
        load(publish_anew(copy))


@pytest.mark.parametrize("name", ARRAYS)
def test_array_of_python_objects_is_refused(copy: Path, name: str) -> None:
    """Reading one would unpickle it."""
    with pytest.raises(BundleError, match=rf"{name}"):
        load(edit(copy, name, lambda array: array.astype(object)))


@pytest.mark.parametrize(
    "name", ["factors.npy", "title.text.npy", "vocabulary.key.npy", "index.faiss", *(f"{name}.npy" for name in TREES)]
)
def test_file_that_was_published_as_junk_is_refused_by_its_name(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"junk, but with a right hash")
    with pytest.raises(BundleError, match=name.removesuffix(".npy")):
        load(publish_anew(copy))


@pytest.mark.parametrize(
    "name",
    ["factors.npy", "title.text.npy", "vocabulary.key.npy", "bundle.json", "index.faiss", "ranker.trees.leaf.npy"],
)
def test_file_that_was_never_published_is_refused_by_its_name(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name.removesuffix(".npy")):
        load(publish_anew(copy))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda described: described["recipe"].update(sources=["ALS", "NEW_SOURCE"]), "bundle.json {}: .*NEW_SOURCE"),
        (lambda described: described["recipe"].update(sources=[]), "bundle.json {}: .*length >= 1"),
        (lambda described: described["recipe"].update(new_setting=1), "bundle.json {}: .*new_setting"),
        (lambda described: described.pop("categories"), "bundle.json {}: .*categories"),
        (lambda described: described.pop("ranker_features"), "bundle.json {}: .*ranker_features"),
        (lambda described: described.update(ranker_bias=None), "bundle.json {}: .*ranker_bias"),
        (lambda described: described["categories"].pop(), "item_category.values.npy {}: numbers 0..1 outside 0..0"),
        (lambda described: described["categories"].append("x"), "category_item.indptr.npy {}: "),
    ],
    ids=[
        *("unknown source", "no source", "unknown setting", "no categories", "no ranker features", "no ranker bias"),
        *("a category too few", "one too many"),
    ],
)
def test_description_that_does_not_fit_is_refused(copy: Path, change: Callable[[dict], object], found: str) -> None:
    described = json.loads((copy / "bundle.json").read_text())
    change(described)
    (copy / "bundle.json").write_text(json.dumps(described))
    with pytest.raises(BundleError, match=found.format(MISFIT)):
        load(publish_anew(copy))


def test_bundle_from_before_a_field_of_the_recipe_is_loaded_with_its_default(copy: Path, small: Trained) -> None:
    described = json.loads((copy / "bundle.json").read_text())
    assert described["recipe"].pop("choose_popularity") is False
    (copy / "bundle.json").write_text(json.dumps(described))
    bundle, _ = load(publish_anew(copy))
    assert bundle.recipe == msgspec.structs.replace(small.bundle.recipe, choose_popularity=True)


def test_bundle_without_a_ranker_cannot_be_saved(small: Trained, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="a bundle without a ranker cannot be saved; train it first"):
        save(replace(small.bundle, ranker=None), tmp_path)


def test_category_flags_have_unit_length_and_mark_the_items_of_each_category(small: Trained) -> None:
    bundle: Bundle = small.bundle
    flags = bundle.category_flags(np.arange(len(bundle.vocabulary)))
    for row in range(len(bundle.vocabulary)):
        assert np.count_nonzero(flags[row]) == len(bundle.item_category[row])
        np.testing.assert_allclose(np.linalg.norm(flags[row]), 1, rtol=1e-6)
    both = bundle.vocabulary.rows_of([worlds.UNTOUCHED])[0]
    np.testing.assert_allclose(flags[both], [np.sqrt(0.5)] * 2, rtol=1e-6)


def test_items_of_categories_are_ascending_and_distinct(small: Trained) -> None:
    bundle = small.bundle
    left, right = bundle.items_of(np.array([0])), bundle.items_of(np.array([1]))
    assert (len(left), len(right)) == (worlds.TASTE_ITEMS + 1,) * 2
    both = bundle.items_of(np.array([1, 0]))
    assert both.tolist() == sorted({*left.tolist(), *right.tolist()})


def test_scaled_factors_have_unit_length(small: Trained) -> None:
    scaled = small.bundle.factors * small.bundle.factor_scale[:, None]
    some = small.bundle.factors.any(axis=1)
    assert some.any()
    np.testing.assert_allclose(np.linalg.norm(scaled[some], axis=1), 1, rtol=1e-6)


def test_item_nobody_touched_has_no_factor_no_neighbour_and_the_mean_rate(small: Trained) -> None:
    bundle = small.bundle
    row = int(bundle.vocabulary.rows_of([worlds.UNTOUCHED])[0])
    assert not bundle.factors[row].any()
    assert bundle.factor_scale[row] == 1
    assert (bundle.transitions.item[row] == -1).all()
    assert bundle.item_stats.trend[row] == bundle.item_stats.popularity[row] == 0
    assert bundle.item_stats.positive_rate[row] == 1  # every interaction of this world is a like
    assert bundle.item_stats.order[-1] == row

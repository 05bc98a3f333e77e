"""What is published and served together: vocabulary, factors, index, neighbours, item features, ranker."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from recsys.errors import BundleError
from recsys.features.matrix import NAMES, SCHEMA_HASH
from recsys.manifest import Manifest, verify
from recsys.ranking.ranker import Ranker
from recsys.retrieval.faiss_index import FaissIndex
from recsys.retrieval.neighbours import Neighbours
from recsys.text_column import TextColumn
from recsys.types import ItemStats, Ragged
from recsys.vocabulary import Vocabulary

FLAGS = 64  # categories that are features; all of them can be filtered by


@dataclass(frozen=True)
class Recipe:
    """How a bundle was made and how its sources are read. Part of the bundle."""

    sources: tuple[str, ...] = ("ALS", "TRANSITIONS", "SIMILAR", "POPULAR")  # names of `Source`
    factors: int = 64
    als_regularization: float = 0.1
    als_alpha: float = 10.0
    als_iterations: int = 15
    neighbours: int = 50  # kept per item and table
    transitions_recent: int = 5  # newest interactions whose followers are candidates
    similar_recent: int = 5
    recent_decay: float = 0.7  # weight per step back
    trees: int = 120
    seed: int = 7


@dataclass(frozen=True, eq=False)
class Bundle:
    """One immutable bundle in memory (arrays memory-mapped, shared by all processes of a node).

    Attributes:
        id: The manifest's id, or "" before it is published.
        factors: float32 [N, d], 0 for items without a positive in training.
        gram: float32 [d, d], factors' Gram matrix + regularisation on the diagonal.
        title: [N]. category_name: [C]. item_category: category numbers per item.
        category_item: items per category, ascending; the transpose of item_category.
        ranker: None only while a bundle is being trained.
    """

    id: str
    recipe: Recipe
    vocabulary: Vocabulary
    title: TextColumn
    category_name: tuple[str, ...]
    item_category: Ragged
    category_item: Ragged
    factors: np.ndarray
    gram: np.ndarray
    index: FaissIndex
    transitions: Neighbours
    similar: Neighbours
    item_stats: ItemStats
    ranker: Ranker | None = None

    @cached_property
    def factor_norm(self) -> np.ndarray:
        """Lengths of the factors, float32 [N]; 1 where a factor is 0."""
        norm = np.sqrt(np.einsum("nd,nd->n", self.factors, self.factors))
        return np.where(norm > 0, norm, 1).astype(np.float32)

    @cached_property
    def category_flags(self) -> np.ndarray:
        """float32 [N, min(C, FLAGS)]: 1 / sqrt(categories of the item) for each of its most frequent categories."""
        frequent = np.argsort(-self.category_item.lengths(), kind="stable")[:FLAGS]
        column = np.full(len(self.category_name) or 1, -1)
        column[frequent] = np.arange(len(frequent))
        flags = np.zeros((len(self.vocabulary), max(len(frequent), 1)), np.float32)
        rows, of = self.item_category.rows(), column[self.item_category.values]
        flags[rows[of >= 0], of[of >= 0]] = 1
        return flags / np.sqrt(np.maximum(flags.sum(axis=1, keepdims=True), 1))

    @cached_property
    def category_number(self) -> dict[str, int]:
        """Number of each category name."""
        return {name: number for number, name in enumerate(self.category_name)}

    def items_of(self, categories: np.ndarray) -> np.ndarray:
        """Items with any of some categories, ascending. int32 [c] -> int32 [i]."""
        return np.unique(np.concatenate([self.category_item[c] for c in categories]))

    def categories_of(self, item: int) -> list[str]:
        """Category names of an item."""
        return [self.category_name[c] for c in self.item_category[item]]


_ARRAYS = (
    *((f"{table}.{part}", table, part) for table in ("transitions", "similar") for part in ("item", "weight")),
    *(
        (f"{table}.{part}", table, part)
        for table in ("item_category", "category_item")
        for part in ("indptr", "values")
    ),
    *(
        (f"item_stats.{part}", "item_stats", part)
        for part in ("available", "popularity", "trend", "positive_rate", "order")
    ),
)


def save(bundle: Bundle, directory: Path) -> None:
    """Write all files of a trained bundle, without the manifest."""
    directory.mkdir(parents=True, exist_ok=True)
    bundle.vocabulary.save(directory)
    bundle.title.save(directory, "title")
    np.save(directory / "factors.npy", bundle.factors)
    np.save(directory / "gram.npy", bundle.gram)
    for name, owner, part in _ARRAYS:
        np.save(directory / f"{name}.npy", getattr(getattr(bundle, owner), part))
    bundle.index.save(directory / "index.faiss")
    if bundle.ranker is None:
        raise BundleError("a bundle without a ranker cannot be saved; train it first")
    bundle.ranker.save(directory / "ranker.cbm")
    described = {
        "recipe": asdict(bundle.recipe),
        "categories": bundle.category_name,
        "item_stats_version": bundle.item_stats.version,
    }
    (directory / "bundle.json").write_text(json.dumps(described, indent=1, ensure_ascii=False), "utf-8")


def load(directory: Path) -> tuple[Bundle, Manifest]:
    """Verify every file of a published bundle, then memory-map it.

    Raises:
        BundleError: a file is missing, changed or does not fit the others, or the bundle was trained with other
            feature definitions than this version's; the message names the file.
    """
    manifest = verify(directory)
    if manifest.fields.get("feature_schema_hash") != SCHEMA_HASH:
        raise BundleError(
            f"bundle {manifest.id} was trained with feature schema {str(manifest.fields.get('feature_schema_hash'))[:12]}, "
            f"this version computes {SCHEMA_HASH[:12]}; train a new bundle with `riffle train`"
        )
    described = json.loads((directory / "bundle.json").read_text("utf-8"))
    arrays = {name: _map(directory, name) for name, _, _ in _ARRAYS}
    arrays |= {name: _map(directory, name) for name in ("factors", "gram")}
    bundle = Bundle(
        id=manifest.id,
        recipe=Recipe(**(described["recipe"] | {"sources": tuple(described["recipe"]["sources"])})),
        vocabulary=Vocabulary.load(directory),
        title=TextColumn.load(directory, "title"),
        category_name=tuple(described["categories"]),
        item_category=Ragged(arrays["item_category.indptr"], arrays["item_category.values"]),
        category_item=Ragged(arrays["category_item.indptr"], arrays["category_item.values"]),
        factors=arrays["factors"],
        gram=np.array(arrays["gram"]),
        index=FaissIndex.load(directory / "index.faiss"),
        transitions=Neighbours(arrays["transitions.item"], arrays["transitions.weight"]),
        similar=Neighbours(arrays["similar.item"], arrays["similar.weight"]),
        item_stats=ItemStats(
            version=described["item_stats_version"],
            **{
                part: arrays[f"item_stats.{part}"]
                for part in ("available", "popularity", "trend", "positive_rate", "order")
            },
        ),
        ranker=Ranker.load(directory / "ranker.cbm"),
    )
    _check_shapes(bundle, directory)
    return bundle, manifest


def _check_shapes(bundle: Bundle, directory: Path) -> None:
    n, d = len(bundle.vocabulary), bundle.recipe.factors
    expected = {
        "factors.npy": (bundle.factors.shape, (n, d)),
        "gram.npy": (bundle.gram.shape, (d, d)),
        "transitions.item.npy": (bundle.transitions.item.shape[:1], (n,)),
        "similar.item.npy": (bundle.similar.item.shape[:1], (n,)),
        "title.offset.npy": ((len(bundle.title),), (n,)),
        "item_category.indptr.npy": ((len(bundle.item_category),), (n,)),
        "item_stats.available.npy": (bundle.item_stats.available.shape, (n,)),
        "ranker.cbm": (bundle.ranker.names if bundle.ranker else (), NAMES),
    }
    for name, (found, wanted) in expected.items():
        if found != wanted:
            raise BundleError(f"{directory / name}: {found} where {wanted} was expected; publish the bundle anew")


def _map(directory: Path, name: str) -> np.ndarray:
    """An array of a verified file, mapped; a plain ndarray, because np.memmap's bookkeeping costs 1 us an operation.

    Raises:
        BundleError: the file is no array of numbers.
    """
    try:
        return np.asarray(np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False))
    except ValueError as error:
        raise BundleError(f"{directory / name}.npy is no plain array: {error}; train a new bundle") from error

"""What is published and served together: vocabulary, factors, index, neighbours, item features, ranker."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

import msgspec
import numpy as np

from recsys.features.user import RING
from recsys.ranking.ranker import DEPTH, Ranker
from recsys.retrieval.faiss_index import FaissIndex
from recsys.retrieval.neighbours import Neighbours
from recsys.retrieval.spectral import Spectral
from recsys.text_column import TextColumn
from recsys.types import ItemStats, Ragged
from recsys.verbs import Objective
from recsys.vocabulary import Vocabulary

SourceName = Literal["ALS", "TRANSITIONS", "NEARBY", "SIMILAR", "HISTORY", "SPECTRAL", "POPULAR"]
Loss = Literal["QueryRMSE", "PairLogit", "QuerySoftMax", "YetiRank"]  # as CatBoost names them
FLAGS = 64  # categories that are features; all of them can be filtered by


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a bundle was made and how its sources are read. Part of the bundle."""

    sources: Annotated[tuple[SourceName, ...], msgspec.Meta(min_length=1)] = (
        "ALS",
        "TRANSITIONS",
        "NEARBY",
        "SIMILAR",
        "HISTORY",
        "SPECTRAL",
        "POPULAR",
    )
    factors: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 64
    als_regularization: float = 0.1
    als_alpha: float = 10.0
    als_iterations: int = 15
    choose_als: bool = True  # training may take another of the strengths that it knows: decision 0022
    spectral_factors: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 128
    neighbours: int = 100  # kept per item and table
    recent: Annotated[int, msgspec.Meta(ge=1, le=RING)] = 10  # newest interactions that transitions and similar look at
    recent_decay: float = 0.7  # weight per step back
    ignored_features: tuple[str, ...] = ()  # that the ranker is not to read
    loss: Loss = "QueryRMSE"  # of the ranker, as are the four that follow: decision 0018
    trees: int = 200
    learning_rate: float = 0.08
    depth: Annotated[int, msgspec.Meta(ge=1, le=DEPTH)] = 6
    l2_leaf_reg: float = 20.0
    objective: Objective = {}  # what the ranker was taught to find; see the setting
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
        fresh: int32 [k], rows of items that came after training, ascending; a published bundle has none.
        index, spectral_index: Over `factors` and over the vectors of `spectral`.
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
    nearby: Neighbours
    similar: Neighbours
    spectral: Spectral
    spectral_index: FaissIndex
    item_stats: ItemStats
    ranker: Ranker | None = None
    fresh: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))

    @cached_property
    def factor_scale(self) -> np.ndarray:
        """1 / length of each factor, float32 [N]; 1 where a factor is 0."""
        length = np.sqrt(np.einsum("nd,nd->n", self.factors, self.factors))
        return (1 / np.where(length > 0, length, 1)).astype(np.float32)

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

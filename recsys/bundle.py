"""What is published and served together: vocabulary, factors, index, neighbours, item features, ranker."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

import msgspec
import numpy as np

from recsys.features.products import unit_flags
from recsys.features.user import RING, SEEN_MAX
from recsys.ranking.ranker import Ranker
from recsys.ranking.trees import DEPTH
from recsys.retrieval.index import Index
from recsys.retrieval.neighbours import Neighbours
from recsys.retrieval.spectral import Spectral
from recsys.text_column import TextColumn
from recsys.types import ItemStats, Ragged
from recsys.verbs import Objective
from recsys.vocabulary import Vocabulary

SourceName = Literal["ALS", "TRANSITIONS", "NEARBY", "SIMILAR", "HISTORY", "SPECTRAL", "CONTENT", "POPULAR"]
Loss = Literal["QueryRMSE", "PairLogit", "QuerySoftMax", "YetiRank"]  # as CatBoost names them
Window = Literal["day", "month", "year", "ever"]  # half-lives of a day, 30 days and a year; none
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
        "CONTENT",
        "POPULAR",
    )
    factors: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 64
    als_regularization: float = 0.1
    als_alpha: float = 10.0
    als_iterations: int = 15
    choose_als: bool = True  # training may take another of the strengths that it knows: decision 0022
    popular: Window = "month"  # over which items are popular
    choose_popularity: bool = True  # training may take another window; a search does not settle it as it does ALS
    older: Annotated[int, msgspec.Meta(ge=0, le=SEEN_MAX)] = 0  # items beyond the ring that say what a user likes
    choose_older: bool = True  # training may take OLDER of them: decision 0030
    spectral_factors: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 64  # half the bytes of 128: decision 0026
    neighbours: int = 100  # kept per item and table
    recent: Annotated[int, msgspec.Meta(ge=1, le=RING)] = 10  # newest interactions that transitions and similar look at
    recent_decay: float = 0.7  # weight per step back
    ignored_features: tuple[str, ...] = ()  # that the ranker is not to read
    loss: Loss = "QueryRMSE"  # of the ranker, as is what follows down to l2_leaf_reg: decision 0018
    linear: bool = True  # whether trees correct a linear model, as only that loss can: decision 0027
    trees: Annotated[int, msgspec.Meta(ge=0)] = 200
    tree_seeds: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2  # so many times these trees, their mean: decision 0038
    choose_ranker: bool = True  # training may take fewer trees, or trees alone
    learning_rate: float = 0.05
    depth: Annotated[int, msgspec.Meta(ge=1, le=DEPTH)] = 6
    l2_leaf_reg: float = 20.0
    objective: Objective = {}  # what the ranker was taught to find; see the setting
    held_out: Annotated[float, msgspec.Meta(ge=0.01, le=0.5)] = 0.2  # newest events that judge it, and it never saw
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
    index: Index
    transitions: Neighbours
    nearby: Neighbours
    similar: Neighbours
    content: Neighbours
    spectral: Spectral
    spectral_index: Index
    item_stats: ItemStats
    ranker: Ranker | None = None
    fresh: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))

    @cached_property
    def factor_scale(self) -> np.ndarray:
        """1 / length of each factor, float32 [N]; 1 where a factor is 0."""
        length = np.sqrt(np.einsum("nd,nd->n", self.factors, self.factors))
        return (1 / np.where(length > 0, length, 1)).astype(np.float32)

    @cached_property
    def category_marks(self) -> np.ndarray:
        """uint64 [N]: a bit for each of the item's categories that are among the FLAGS most frequent ones."""
        frequent = np.argsort(-self.category_item.lengths(), kind="stable")[:FLAGS]
        mark = np.zeros(len(self.category_name) or 1, np.uint64)
        mark[frequent] = np.uint64(1) << np.arange(len(frequent), dtype=np.uint64)
        marks = np.zeros(len(self.vocabulary), np.uint64)
        np.bitwise_or.at(marks, self.item_category.rows(), mark[self.item_category.values])
        return marks

    def category_flags(self, item: np.ndarray) -> np.ndarray:
        """1 / sqrt(marked categories of the item) for each of them: int32 [m] -> float32 [m, min(C, FLAGS)].

        Made when they are asked for: those of a million items are 256 MB in every replica.
        """
        return unit_flags(self.category_marks[item], max(min(len(self.category_name), FLAGS), 1))

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

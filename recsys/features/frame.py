"""What the features of one micro-batch are computed from."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from recsys.features.history import History, recency
from recsys.features.products import newest_means, products
from recsys.features.related import related
from recsys.features.user import UserStates, values

RECENT = 5  # newest positives in "recent" means
LONG_DECAY = 0.9  # per step back, where all of the ring counts

if TYPE_CHECKING:
    from recsys.retrieval.neighbours import Neighbours
    from recsys.types import CandidateSet, World


@dataclass(frozen=True, eq=False)
class Frame:
    """Inputs of all features of a micro-batch of `b` users and `m` candidate cells.

    Attributes:
        world: The bundle and item stats.
        states: UserStates [b].
        now_s: int64 [b], UTC epoch seconds.
        history: `states` in rows of the bundle.
        user_vector, spectral_vector: float32 [b, d] and [b, d'], 0 where there is no positive.
        candidates: CandidateSet [m].
    """

    world: "World"
    states: UserStates
    now_s: np.ndarray
    history: History
    user_vector: np.ndarray
    spectral_vector: np.ndarray
    candidates: "CandidateSet"

    @cached_property
    def user_values(self) -> np.ndarray:
        """The features of the users alone, in the order of `user.FEATURES`: float32 [4, b]."""
        states = self.states
        return values(
            states.length, states.ts_s, states.activity, states.activity_s, states.events, states.positives, self.now_s
        )

    @cached_property
    def factor_products(self) -> np.ndarray:
        """Products with the user vector; cosines to the newest positive and to RECENT of them: float32 [3, m]."""
        bundle, history, candidates = self.world.bundle, self.history, self.candidates
        last, recent = newest_means(bundle.factors, bundle.factor_scale, history.item, history.positive, RECENT)
        vectors = np.stack([self.user_vector, last, recent], axis=1)
        result = products(bundle.factors, vectors, candidates.indptr, candidates.item)
        result[1:] *= bundle.factor_scale[candidates.item]
        return result

    @cached_property
    def spectral_products(self) -> np.ndarray:
        """Products with the user's spectral vector: float32 [1, m]."""
        table, candidates = self.world.bundle.spectral.vector, self.candidates
        return products(table, self.spectral_vector[:, None], candidates.indptr, candidates.item)

    @cached_property
    def transition_sums(self) -> np.ndarray:
        """Transition weights from the newest interaction, and decayed from the newest ones: float32 [2, m]."""
        return self._related(self.world.bundle.transitions, self._last_and_recent)

    @cached_property
    def nearby_sums(self) -> np.ndarray:
        """Nearness to the newest interaction, decayed to the newest, slowly decayed to the ring: float32 [3, m]."""
        return self._related(self.world.bundle.nearby, self._last_recent_and_ring)

    @cached_property
    def similar_sums(self) -> np.ndarray:
        """Co-occurrence with the newest interaction, decayed with the newest, with all positives: float32 [3, m]."""
        recent, every = self._last_and_recent, self.history.weight
        weights = np.zeros((3, *every.shape), np.float32)
        weights[:2, :, : recent.shape[2]], weights[2] = recent, every
        return self._related(self.world.bundle.similar, weights)

    @cached_property
    def content_sums(self) -> np.ndarray:
        """Likeness of descriptions, with the weights of `nearby_sums`: float32 [3, m]."""
        return self._related(self.world.bundle.content, self._last_recent_and_ring)

    @cached_property
    def _last_and_recent(self) -> np.ndarray:
        recipe = self.world.bundle.recipe
        step = recency(recipe.recent, recipe.recent_decay, len(self.now_s))
        last = np.zeros_like(step)
        last[:, 0] = 1
        return np.stack([last, step])

    @cached_property
    def _last_recent_and_ring(self) -> np.ndarray:
        recent, b = self._last_and_recent, len(self.now_s)
        ring = self.history.item.shape[1]
        weights = np.zeros((3, b, ring), np.float32)
        weights[:2, :, : recent.shape[2]], weights[2] = recent, recency(ring, LONG_DECAY, b)
        return weights

    def _related(self, table: "Neighbours", weight: np.ndarray) -> np.ndarray:
        seed, candidates = self.history.item[:, : weight.shape[2]], self.candidates
        return related(table.item, table.weight, seed, weight, candidates.indptr, candidates.item)

    @cached_property
    def category_products(self) -> np.ndarray:
        """Each item's category flags times those of the newest positive, and of the ring on average: float32 [2, m]."""
        bundle, history, candidates = self.world.bundle, self.history, self.candidates
        met = history.item.reshape(-1)
        flags, one = bundle.category_flags(met), np.ones(len(met), np.float32)
        place = np.arange(len(met)).reshape(history.item.shape)
        last, ring = newest_means(flags, one, place, history.positive, history.item.shape[1])
        cells = bundle.category_flags(candidates.item)
        return products(cells, np.stack([last, ring], axis=1), candidates.indptr, np.arange(len(cells)))

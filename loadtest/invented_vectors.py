"""Item vectors as ALS gives them, for catalogues that no open data set has; and users who ask for them. Seeded.

What an index makes of vectors depends on how they lie, so noise would not do. ALS of MovieLens latest-small (d = 64,
the 6,170 items with ratings of 4 and more) was the model; beside it the same number of items invented here:

| | ALS | invented |
|---|---|---|
| length at 1, 10, 50, 90, 99 and 100 % | .05 .06 .11 .25 .38 .49 | .04 .05 .08 .15 .27 .54 |
| cosine of the 1st, 10th, 50th nearest, of the 1,496 best known | .53 .38 .27 | .60 .43 .32 |
| recall@20 of inverted lists, 1/32, 1/16, 1/8, 1/4 of them read | .55 .71 .84 .93 | .59 .69 .80 .91 |
| recall@200, the same | .30 .45 .61 .77 | .33 .45 .60 .78 |

- Popularity falls by Zipf's law with the power .7 over a random order of items; the least popular is taken once.
- An item belongs to a leaf of about 32 items, a leaf to a group of 64 leaves; its direction is sqrt(.15) group +
  sqrt(.35) leaf + sqrt(.5) its own, each normal with axis k scaled by (1 + k)^-.1.
- Its length is .08 log(1 + popularity), spread by 15 %.
- A user likes 32 items of three leaves, two of them of one group, popular items more often, and their vector is the
  one that `fold_in` computes: what the service asks its index for.

`loadtest.index_table --bundle` measures a real bundle in the same table.
"""

from dataclasses import dataclass

import numpy as np

from recsys.retrieval.fold_in import fold_in

LEAF = 32  # items
GROUP = 64  # leaves
LIKED = 32  # items of a user
_POWER = 0.7  # of Zipf's law
_LENGTH, _LENGTH_SPREAD = 0.08, 0.15  # times log(1 + taken)
_AXIS_POWER = 0.1
_GROUP_SHARE, _LEAF_SHARE = 0.15, 0.35  # of a squared direction; the rest is the item's own
_LEAVES_LIKED = 3
_CHUNK = 1 << 18  # items whose noise is in memory at a time
REGULARIZATION, ALPHA = 0.1, 10.0  # as in the default recipe


@dataclass(frozen=True, slots=True, eq=False)
class Tastes:
    """Where the items of a catalogue belong, whatever the space that they are drawn in.

    Attributes:
        leaf: int32 [N]. taken: float32 [N], how often each was taken, at least 1.
        by_leaf: int32 [N], items leaf by leaf, the most popular of each first. start: int64 [leaves + 1], in by_leaf.
    """

    leaf: np.ndarray
    taken: np.ndarray
    by_leaf: np.ndarray
    start: np.ndarray

    @classmethod
    def draw(cls, n: int, *, seed: int) -> "Tastes":
        """Leaves and popularity of `n` items."""
        rng = np.random.default_rng([seed, 1])
        leaf = rng.integers(max(1, n // LEAF), size=n, dtype=np.int32)
        taken = np.empty(n, np.float32)
        taken[rng.permutation(n)] = (n / np.arange(1, n + 1)) ** _POWER
        by_leaf = np.lexsort((-taken, leaf)).astype(np.int32)
        start = np.searchsorted(leaf[by_leaf], np.arange(max(1, n // LEAF) + 1))
        return cls(leaf, taken, by_leaf, start)

    def __len__(self) -> int:
        return len(self.leaf)

    @property
    def leaves(self) -> int:
        """How many leaves there are."""
        return len(self.start) - 1

    def vectors(self, d: int, *, seed: int, length: float = _LENGTH) -> np.ndarray:
        """Vectors of all items in a space of `d` dimensions: float32 [N, d]."""
        rng = np.random.default_rng([seed, 2, d])
        axis = ((1 + np.arange(d)) ** -_AXIS_POWER).astype(np.float32)
        axis /= np.sqrt(np.mean(axis**2) * d)  # a normal vector of these deviations has length 1 in the mean
        groups = rng.standard_normal((self.leaves // GROUP + 1, d), np.float32) * axis
        centre = rng.standard_normal((self.leaves, d), np.float32) * (axis * np.float32(np.sqrt(_LEAF_SHARE)))
        centre += groups[np.arange(self.leaves) // GROUP] * np.float32(np.sqrt(_GROUP_SHARE))
        own = axis * np.float32(np.sqrt(1 - _GROUP_SHARE - _LEAF_SHARE))
        result = np.empty((len(self), d), np.float32)
        for first in range(0, len(self), _CHUNK):
            part = result[first : first + _CHUNK]
            part[:] = rng.standard_normal(part.shape, np.float32)
            part *= own
            part += centre[self.leaf[first : first + _CHUNK]]
            long = np.log1p(self.taken[first : first + _CHUNK]) * np.float32(length)
            long *= np.exp(rng.normal(0, _LENGTH_SPREAD, len(part))).astype(np.float32)
            part *= (long / np.sqrt(np.einsum("nd,nd->n", part, part)))[:, None]
        return result

    def liked(self, users: int, *, seed: int) -> np.ndarray:
        """What each user likes, without repetition in the main: int32 [users, LIKED]."""
        rng = np.random.default_rng([seed, 3])
        first = rng.integers(self.leaves, size=(users, 1))
        sibling = np.minimum(first // GROUP * GROUP + rng.integers(GROUP, size=(users, 1)), self.leaves - 1)
        chosen = np.concatenate([first, sibling, rng.integers(self.leaves, size=(users, _LEAVES_LIKED - 2))], axis=1)
        leaf = np.take_along_axis(chosen, rng.integers(_LEAVES_LIKED, size=(users, LIKED)), axis=1)
        size = self.start[leaf + 1] - self.start[leaf]
        place = (size * rng.random((users, LIKED)) ** 2).astype(np.int64)  # the square: popular ones more often
        return self.by_leaf[np.minimum(self.start[leaf] + place, len(self) - 1)]


def gram_of(factors: np.ndarray) -> np.ndarray:
    """Gram matrix with the regularisation on its diagonal, as in a bundle: float32 [d, d]."""
    return factors.T @ factors + np.float32(REGULARIZATION) * np.eye(factors.shape[1], dtype=np.float32)


def user_vectors(factors: np.ndarray, liked: np.ndarray) -> np.ndarray:
    """What the index is asked for: folded-in vectors of users who like these items. float32 [users, d]."""
    return fold_in(factors, gram_of(factors), liked, np.ones(liked.shape, np.float32), alpha=ALPHA)

"""The ranking model in service: what a linear model expects, and trees that correct it."""

from dataclasses import dataclass, replace

import numpy as np

from recsys.ranking.linear import Linear
from recsys.ranking.trees import Trees


@dataclass(frozen=True, slots=True, eq=False)
class Ranker:
    """Scores order the candidates of one request; they are no probabilities.

    On plain data, and on little, the linear part is the better model and training keeps few trees or none; what is
    left for trees to learn needs a quarter of those that they need alone: decision 0027.

    Attributes:
        names: The F features, in order.
    """

    names: tuple[str, ...]
    linear: Linear
    trees: Trees

    def first(self, trees: int) -> "Ranker":
        """The same with so many trees."""
        return replace(self, trees=self.trees.first(trees))

    def score(self, features: np.ndarray, indptr: np.ndarray, apart: np.ndarray | None = None) -> np.ndarray:
        """One number per candidate, float64 [m].

        Args:
            features: float32 [m, F], best column-major. indptr: int64 [b + 1], the cells of each request.
            apart: bool [m], cells that change the score of no other; None: none.
        """
        columns = np.ascontiguousarray(features.T)
        return self.linear.share(columns, indptr, apart) + self.trees.sum(columns)

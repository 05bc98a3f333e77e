"""The simulated world: who comes, what would please them, and the lists that would please them best."""

from dataclasses import dataclass, field

import numpy as np

from recsys.datasets.dataset import Dataset
from recsys.simulation.behaviour import Behaviour
from recsys.simulation.catalogue import Catalogue
from recsys.simulation.tastes import Drift, Tastes
from recsys.simulation.traits import DIMENSIONS, item_traits
from recsys.simulation.visits import Habits, Visits, draw_visits, zipf_shares

_TASTES, _ACTIVITY, _VISITS = range(3)  # streams of one seed


@dataclass(frozen=True)
class Appeal:
    """How attraction comes about: its log-odds are `base - popularity * (ln rank - mean) + taste * match`.

    So the odds of equal matches fall with popularity rank by Zipf's law. `match` is the inner product of taste and
    traits times sqrt(d): over all items its mean square is about 1.

    With the defaults over MovieLens 100K an item attracts with 0.10 on average, the 10 best of a user with 0.70, the
    10 most popular with 0.18 (200 users, seed 7): a good list is worth four of a popular one.
    """

    base: float = -3.5
    popularity: float = 0.2
    taste: float = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Surge:
    """Items that everybody wants all of a sudden.

    Args:
        rows: int [i], of the catalogue. onset_s: UTC epoch seconds. log_odds: Added to those of their attraction.
    """

    rows: np.ndarray
    onset_s: float
    log_odds: float


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """Items that appeal to other people from a moment on: what was learnt of them no longer holds.

    Args:
        rows: int [i], of the catalogue. onset_s: UTC epoch seconds. traits: float64 [i, d], their new ones.
    """

    rows: np.ndarray
    onset_s: float
    traits: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedWorld:
    """A catalogue and a population, immutable; every answer depends on the arguments alone.

    Attributes:
        traits: float64 [N, d]. tastes: of the users.
        activity: float64 [users], the share of the visits that each makes.
        seed: Of all visits. surge, turn: None where there is none.
    """

    catalogue: Catalogue
    traits: np.ndarray
    tastes: Tastes
    activity: np.ndarray
    seed: int
    habits: Habits = field(default_factory=Habits)
    behaviour: Behaviour = field(default_factory=Behaviour)
    appeal: Appeal = field(default_factory=Appeal)
    surge: Surge | None = None
    turn: Turn | None = None

    @classmethod
    def over(
        cls,
        dataset: Dataset,
        *,
        users: int,
        seed: int,
        catalogue: Catalogue | None = None,
        habits: Habits | None = None,
        drift: Drift | None = None,
    ) -> "SimulatedWorld":
        """A population that meets the items of a data set; its users are none of the data set's.

        Args:
            catalogue: Of the same items, where there are launches and retirements.
            drift: Of the tastes; none, if not given.
        Raises:
            DatasetError: the data set is too small.
        """
        taste, activity = (np.random.default_rng([seed, stream]) for stream in (_TASTES, _ACTIVITY))
        habits = habits or Habits()
        return cls(
            catalogue=catalogue or Catalogue.of(dataset),
            traits=item_traits(dataset, seed=seed),
            tastes=Tastes.draw(taste, users=users, dimensions=DIMENSIONS, drift=drift or Drift()),
            activity=activity.permutation(zipf_shares(users, habits.activity)),
            seed=seed,
            habits=habits,
        )

    def visits(self, start_s: float, duration_s: float) -> Visits:
        """Who comes in a stretch of time from `start_s`, UTC epoch seconds."""
        rng = np.random.default_rng([self.seed, _VISITS, int(start_s * 1000)])
        return draw_visits(rng, self.habits, self.activity, start_s=start_s, duration_s=duration_s)

    def attraction(self, user: np.ndarray, at_s: np.ndarray, *, met: np.ndarray | None = None) -> np.ndarray:
        """The chance that a user who looks at an item wants it: the truth, float64 [b, N].

        Args:
            user: int [b]. at_s: float64 [b], UTC epoch seconds.
            met: bool [b, N], what each user has dealt with already and does not want again.
        Returns:
            Above 0 where there is the item and the user has not met it, else 0.
        """
        taste = np.sqrt(self.traits.shape[1]) * self.tastes.at(user, at_s)
        match = taste @ self.traits.T
        if self.turn is not None:
            late = np.asarray(at_s) >= self.turn.onset_s
            match[np.ix_(late, self.turn.rows)] = taste[late] @ self.turn.traits.T
        log_rank = np.log(self.catalogue.rank)
        odds = np.exp(
            self.appeal.base - self.appeal.popularity * (log_rank - log_rank.mean()) + self.appeal.taste * match
        )
        if self.surge is not None:
            odds[np.ix_(np.asarray(at_s) >= self.surge.onset_s, self.surge.rows)] *= np.exp(self.surge.log_odds)
        wanted = self.catalogue.available(at_s)
        if met is not None:
            wanted &= ~met
        return np.where(wanted, odds / (1 + odds), 0.0)

    def best(self, attraction: np.ndarray, k: int) -> np.ndarray:
        """The list of most expected clicks: attention falls with the place, so the most attractive is first.

        attraction: float64 [b, N]; k <= N. Returns rows of the catalogue, int64 [b, k].
        """
        return np.argsort(-attraction, axis=1, kind="stable")[:, :k]

    def popular(self, attraction: np.ndarray, k: int) -> np.ndarray:
        """The most popular items of those that attract at all, as `best`."""
        rank = np.where(attraction > 0, self.catalogue.rank, len(self.catalogue) + 1)
        return np.argsort(rank, axis=1, kind="stable")[:, :k]

"""Two rankers of known worth before the same simulated people, compared by an A/B test and by interleaving.

A ranker knows what attracts but for noise: the less noise, the better its lists, in expected clicks that are known. So
one can count the visitors that either way of comparing them needs to name the better one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recsys.experiments.effects import Side
from recsys.experiments.interleaving import interleave
from recsys.experiments.preferences import CREDITS, Preferences
from recsys.simulation.world import SimulatedWorld

SHOWN = 10
BATCH = 500  # visitors whose attraction to all items is held at a time
MEAN_LISTS = 4.0  # of a visit, geometric as in `visits.Habits`


class _Visitors(NamedTuple):
    """Some visitors: their numbers; at each of their lists what attracts, whose list it is, and whether it is looked
    at."""

    number: np.ndarray
    attraction: np.ndarray
    row: np.ndarray
    looks: np.ndarray


@dataclass(frozen=True)
class Rivals:
    """Two rankers and who meets them.

    Args:
        noise: Deviation of the normal noise with which each knows the log-odds of attraction; the smaller is better.
        engagement: Parameters of the beta distribution of the share of lists that a visitor looks at. With the default
            a fifth on average, and most of them little or nothing: people differ more than lists do. None: everybody
            looks at all.
    """

    world: SimulatedWorld
    noise: tuple[float, float]
    engagement: tuple[float, float] | None = (0.5, 2.0)

    def a_b(self, rng: np.random.Generator, visitors: int) -> tuple[Side, Side]:
        """Every other visitor gets the lists of one ranker, the others those of the other; totals are clicks."""
        sides: list[list[tuple[np.ndarray, np.ndarray]]] = [[], []]
        for some in self._come(rng, visitors):
            for side in (0, 1):
                own = some.number % 2 == side
                mine, n = own[some.row], int(own.sum())
                of = (np.cumsum(own) - 1)[some.row[mine]]
                shown = self._lists(rng, some.attraction[mine], side)
                clicks = self._clicks(rng, some.attraction[mine], shown, some.looks[mine]).sum(axis=1)
                sides[side].append((np.bincount(of, clicks, n), np.bincount(of, minlength=n).astype(np.float64)))
        one, other = (_side(made) for made in sides)
        return one, other

    def interleaved(self, rng: np.random.Generator, visitors: int) -> Preferences:
        """Every visitor gets lists that both rankers have drafted."""
        lists, credit = [], []
        for some in self._come(rng, visitors):
            ranked = [self._lists(rng, some.attraction, side).astype(str).tolist() for side in (0, 1)]
            seeds = rng.integers(2**63, size=len(some.row)).tolist()
            drafts = [interleave(*two, count=SHOWN, seed=seed) for *two, seed in zip(*ranked, seeds, strict=True)]
            shown = np.array([draft.items for draft in drafts]).astype(np.int64)
            team = np.array([draft.team for draft in drafts])
            clicks = self._clicks(rng, some.attraction, shown, some.looks)
            n = len(some.number)
            own = [np.bincount(some.row, (clicks & (team == side)).sum(axis=1), n) for side in (0, 1)]
            lists.append(np.bincount(some.row, minlength=n).astype(np.float64))
            credit.append(np.stack([own, *[np.zeros((2, n))] * (len(CREDITS) - 1)]))
        return Preferences(("one", "other"), np.concatenate(lists), np.concatenate(credit, axis=2))

    def _come(self, rng: np.random.Generator, visitors: int) -> Iterator[_Visitors]:
        for begin in range(0, visitors, BATCH):
            number = np.arange(begin, min(begin + BATCH, visitors))
            row = np.repeat(np.arange(len(number)), rng.geometric(1 / MEAN_LISTS, len(number)))
            user = rng.integers(len(self.world.activity), size=len(number))
            share = np.ones(len(number)) if self.engagement is None else rng.beta(*self.engagement, len(number))
            attraction = self.world.attraction(user, np.zeros(len(number)))[row]
            yield _Visitors(number, attraction, row, rng.random(len(row)) < share[row])

    def _lists(self, rng: np.random.Generator, attraction: np.ndarray, side: int) -> np.ndarray:
        """Rows of items, int64 [b, SHOWN], best first."""
        odds = np.log(attraction + 1e-12) - np.log1p(1e-12 - attraction)
        score = odds + self.noise[side] * rng.standard_normal(odds.shape, np.float32)
        best = np.argpartition(-score, SHOWN, axis=1)[:, :SHOWN]
        return np.take_along_axis(best, np.argsort(-np.take_along_axis(score, best, axis=1), axis=1), axis=1)

    def _clicks(
        self, rng: np.random.Generator, attraction: np.ndarray, shown: np.ndarray, looks: np.ndarray
    ) -> np.ndarray:
        """What is clicked of the lists, bool [b, SHOWN]."""
        return self.world.behaviour.react(rng, np.take_along_axis(attraction, shown, axis=1)).click & looks[:, None]


def _side(made: list[tuple[np.ndarray, np.ndarray]]) -> Side:
    total, lists = (np.concatenate(column) for column in zip(*made, strict=True))
    return Side(total, lists, np.zeros(len(total)))

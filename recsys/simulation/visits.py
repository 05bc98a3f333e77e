"""Who comes when, for how long: arrivals with a daily rhythm, few users who come often, lists with time to think."""

from dataclasses import dataclass
from math import gamma

import numpy as np

from recsys.simulation import DAY_S
from recsys.types import Ragged

HOUR_S = 3_600


def zipf_shares(n: int, exponent: float) -> np.ndarray:
    """The shares of ranks 1 to n by Zipf's law, proportional to `rank ** -exponent`. float64 [n], their sum is 1."""
    weight = np.arange(1, n + 1) ** -exponent
    return weight / weight.sum()


@dataclass(frozen=True)
class Habits:
    """How people come and stay.

    Args:
        visits_per_s: Arrivals per second, mean of a day.
        rhythm: Amplitude of the day, 0 to 1; at 0.6 the busiest moment has four times the arrivals of the quietest.
        peak_hour: The busiest hour, UTC.
        activity: Exponent of Zipf's law of who comes; at 0.6 the busiest tenth of 200 users makes 34 % of the visits.
        mean_lists: Lists of a visit; its length is geometric: after each list the same share leaves.
        mean_think_s: Seconds from a list to the next.
        think_shape: Of the Weibull distribution of that time; below 1, who has stayed long stays longer
            (Liu, White and Dumais, Understanding web browsing behaviors through Weibull analysis of dwell time, SIGIR
            2010).
    """

    visits_per_s: float = 0.01
    rhythm: float = 0.6
    peak_hour: float = 20.0
    activity: float = 0.6
    mean_lists: float = 4.0
    mean_think_s: float = 20.0
    think_shape: float = 0.8

    def pace(self, at_s: np.ndarray) -> np.ndarray:
        """Arrivals at moments, UTC epoch seconds, in units of the mean of a day. float64 [b] -> float64 [b]."""
        return 1 + self.rhythm * np.cos(2 * np.pi * (at_s - self.peak_hour * HOUR_S) / DAY_S)


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """The visits of one stretch of time, by rising start.

    Attributes:
        start_s: float64 [v], UTC epoch seconds.
        user: int64 [v].
        think_s: Ragged float64, the pauses between the lists of each visit, one less than it has lists.
        seed: uint64 [v], of what this visitor does: it depends on neither who else comes nor what is shown to them.
    """

    start_s: np.ndarray
    user: np.ndarray
    think_s: Ragged
    seed: np.ndarray

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def lists(self) -> np.ndarray:
        """Lists that each visit asks for, int64 [v]."""
        return self.think_s.lengths() + 1


def draw_visits(
    rng: np.random.Generator, habits: Habits, activity: np.ndarray, *, start_s: float, duration_s: float
) -> Visits:
    """The visits that begin in a stretch of time, a Poisson process whose rate follows the day.

    By thinning (Lewis and Shedler, Simulation of nonhomogeneous Poisson processes by thinning, 1979): arrivals at the
    peak's rate, of which as many are left out as the hour has fewer.

    Args:
        activity: float64 [users], the share of the visits that each user makes.
        start_s: UTC epoch seconds. duration_s: Seconds.
    """
    peak = 1 + habits.rhythm
    at_s = start_s + duration_s * np.sort(rng.random(rng.poisson(peak * habits.visits_per_s * duration_s)))
    at_s = at_s[rng.random(len(at_s)) * peak < habits.pace(at_s)]
    pauses = rng.geometric(1 / habits.mean_lists, len(at_s)) - 1
    scale_s = habits.mean_think_s / gamma(1 + 1 / habits.think_shape)
    return Visits(
        start_s=at_s,
        user=rng.choice(len(activity), size=len(at_s), p=activity),
        think_s=Ragged(
            np.concatenate([[0], np.cumsum(pauses)]), scale_s * rng.weibull(habits.think_shape, pauses.sum())
        ),
        seed=rng.integers(2**63, size=len(at_s), dtype=np.uint64),
    )

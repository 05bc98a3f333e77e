"""What people do with a list: who looks at a place, and is attracted by what is there, clicks.

The position-based model, which rests on the examination hypothesis of Richardson et al., Predicting Clicks (WWW 2007).
Craswell et al. (WSDM 2008) compare it with others, and find the cascade model closer to the first results of a web
search. It is chosen because it gives the expected clicks of every list exactly, so that estimators can be held to them.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Reactions:
    """What was done with each place of each list, bool [..., k] each. Likes and purchases follow clicks."""

    click: np.ndarray
    like: np.ndarray
    purchase: np.ndarray
    hide: np.ndarray


@dataclass(frozen=True)
class Behaviour:
    """How attention falls and what follows it.

    Args:
        attention: Place r is looked at with probability `r ** -attention`, the form of Joachims et al., Unbiased
            Learning-to-Rank with Biased Feedback (WSDM 2017). At 0.7 one in five looks at place 10.
        like, purchase: Chance of each after a click on what attracts with certainty; less in proportion.
        hide: Chance that something looked at and not clicked is sent away, where it does not attract at all.
    """

    attention: float = 0.7
    like: float = 0.5
    purchase: float = 0.1
    hide: float = 0.02

    def examination(self, k: int) -> np.ndarray:
        """The chance that each of k places is looked at, float64 [k]; the first always is."""
        return np.arange(1, k + 1) ** -self.attention

    def expected_clicks(self, attraction: np.ndarray) -> np.ndarray:
        """Clicks that lists get on average, of the attraction of their items: float64 [..., k] -> [...]."""
        return attraction @ self.examination(attraction.shape[-1])

    def react(self, rng: np.random.Generator, attraction: np.ndarray) -> Reactions:
        """What is done with lists, of the attraction of their items, float64 [..., k].

        Four numbers are drawn for each place whatever it holds: two lists shown with the same `rng` differ in what is
        done by what they hold alone.
        """
        looks, wants, keeps, buys = rng.random((4, *attraction.shape))
        looked = looks < self.examination(attraction.shape[-1])
        click = looked & (wants < attraction)
        return Reactions(
            click=click,
            like=click & (keeps < self.like * attraction),
            purchase=click & (buys < self.purchase * attraction),
            hide=looked & ~click & (keeps < self.hide * (1 - attraction)),
        )

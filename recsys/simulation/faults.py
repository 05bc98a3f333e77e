"""What can go wrong with a service, or with those whom it serves, from one moment on."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from recsys.types import ItemStats

Fault = Literal[
    "none",
    "taste drift",
    "popularity shock",
    "nulls",
    "unit change",
    "frozen item stats",
    "new-user wave",
    "bot traffic",
]


@dataclass(frozen=True)
class Trouble:
    """One of them.

    Args:
        fault: Its name. onset_s: UTC epoch seconds; before it nothing is wrong.
        nulls: Share of the items whose positive rate is missing.
        unit: What positive rates are multiplied by: a hundred where somebody thinks in percent.
        wave: Visits of people who never came before, for each visit of others.
        bots: Robots, who ask for `bot_lists` lists an hour each and open as many random items.
    """

    fault: Fault = "none"
    onset_s: float = np.inf
    nulls: float = 0.4
    unit: float = 100.0
    wave: float = 1.5
    bots: int = 2
    bot_lists: int = 150

    def on(self, fault: Fault, at_s: float) -> bool:
        """Whether it is this one, and has begun."""
        return self.fault == fault and at_s >= self.onset_s

    def broken(self, stats: ItemStats, at_s: float) -> ItemStats:
        """Item stats as the service gets them."""
        rate = stats.positive_rate
        if self.on("nulls", at_s):
            lost = np.random.default_rng(len(rate)).random(len(rate)) < self.nulls
            rate = np.where(lost, np.float32(np.nan), rate)
        elif self.on("unit change", at_s):
            rate = rate * np.float32(self.unit)
        else:
            return stats
        rate.flags.writeable = False
        return replace(stats, positive_rate=rate)

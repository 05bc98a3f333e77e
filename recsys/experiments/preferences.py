"""Which of two interleaved sides people choose: credit by user, and which wins, whenever one looks.

The unit is the user, as in `effects`: of each one the credit of one side less that of the other, over the user's lists.
"""

from dataclasses import dataclass

import numpy as np

from recsys.experiments.sequential import fixed_half_width, half_width

CREDITS = ("clicked", "converted")


@dataclass(frozen=True, slots=True)
class Preference:
    """What users chose.

    Attributes:
        credit: Of each side, items that tell them apart and were clicked, or converted.
        users, decided: All, and those whose credit is not the same for both.
        difference: Credit of side 1 less that of side 0, per list; NaN without lists.
        low, high: In which its true value lies with probability 1 - alpha at all times together.
        fixed_low, fixed_high: In which it lies at this moment, for who had fixed it beforehand.
    """

    credit: tuple[float, float]
    users: int
    decided: int
    difference: float
    low: float
    high: float
    fixed_low: float
    fixed_high: float

    @property
    def winner(self) -> int | None:
        """The side that surely wins; None where nobody can be sure yet."""
        return 1 if self.low > 0 else 0 if self.high < 0 else None


@dataclass(frozen=True, slots=True, eq=False)
class Preferences:
    """The users of an interleaved experiment.

    Attributes:
        names: Of the two sides, the control first.
        lists: float64 [u], lists of both sides together.
        credit: float64 [len(CREDITS), 2, u], by side.
        alone: Of each side, lists that were its own alone, since the other had failed. They do not count.
    """

    names: tuple[str, str]
    lists: np.ndarray
    credit: np.ndarray
    alone: tuple[int, int] = (0, 0)

    def first(self, users: int) -> "Preferences":
        """The first of the users."""
        return Preferences(self.names, self.lists[:users], self.credit[:, :, :users], self.alone)

    def preference(self, of: str, *, planned: int, alpha: float) -> Preference:
        """Which side wins by clicks or by conversions.

        Nothing is said before `sequential.LEAST` users have decided: the variance of rare credit is the last to be
        known.

        Args:
            of: One of CREDITS. planned: As in `sequential.half_width`.
        """
        own = self.credit[CREDITS.index(of)]
        surplus = own[1] - own[0]
        users, decided, lists = len(surplus), int((surplus != 0).sum()), float(self.lists.sum())
        totals = float(own[0].sum()), float(own[1].sum())
        if users < 2 or not lists:
            nan, inf = float("nan"), float("inf")
            return Preference(totals, users, decided, nan, -inf, inf, -inf, inf)
        difference = float(surplus.sum()) / lists
        # The delta method, as in `effects`: a ratio of means varies as each user's surplus over it.
        left = (surplus - difference * self.lists) / self.lists.mean()
        variance = float(left.var(ddof=1)) / users
        wide = half_width(variance, users, planned=planned, alpha=alpha, fewest=decided)
        fixed = fixed_half_width(variance, alpha=alpha)
        bounds = difference - wide, difference + wide, difference - fixed, difference + fixed
        return Preference(totals, users, decided, difference, *bounds)

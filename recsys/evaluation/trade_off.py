"""What diversity and popularity damping cost: ranking quality against variety, at several strengths of each.

Candidates and scores are made once; every strength only selects from them anew, through `recommend`'s own stages.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recsys.evaluation.answers import Control, ask_under
from recsys.evaluation.bootstrap import FEW_USERS, Interval, few_users_hint, mean_interval, paired_difference
from recsys.evaluation.compare import HEADLINE, METRICS, Asked, beyond_accuracy
from recsys.evaluation.report import conditions_lines
from recsys.types import Controls, Ragged, World

DIVERSITIES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
DAMPINGS = (0.0, 0.25, 0.5, 1.0)
TOLERATED = 0.01  # of the headline metric: a loss that is accepted even where it is significant


@dataclass(frozen=True)
class Point:
    """One strength of one control.

    Attributes:
        quality: The headline metric. change: Its paired difference to lists without controls.
        beyond: As `compare.beyond_accuracy`, and "categories": distinct categories in the first ten.
    """

    strength: float
    quality: Interval
    change: Interval
    beyond: dict[str, float]

    def cells(self) -> list[str]:
        """Strength, quality and its change, to four decimals: what is tolerated is a few of the last."""
        quality, change = self.quality, self.change
        return [
            f"{self.strength:g}",
            f"{quality.mean:.4f} [{quality.low:.4f}, {quality.high:.4f}]",
            f"{change.mean:+.4f} [{change.low:+.4f}, {change.high:+.4f}]",
        ]

    def is_harmless(self) -> bool:
        """Whether the loss is not significant, or at most TOLERATED of what lists without controls reach."""
        before = self.quality.mean - self.change.mean
        return self.change.high >= 0 or -self.change.mean <= TOLERATED * before


@dataclass(frozen=True)
class TradeOff:
    """The curves of both controls.

    Attributes:
        protocol: What was asked. questions, users: How many, of how many.
        diversity, popularity_damping: Points by rising strength, the first without the control.
        conditions: As of `Report`.
    """

    protocol: str
    questions: int
    users: int
    diversity: tuple[Point, ...]
    popularity_damping: tuple[Point, ...]
    conditions: dict[str, Any] = field(default_factory=dict)

    def harmless(self) -> float:
        """The largest diversity up to which every point is harmless."""
        largest = 0.0
        for point in self.diversity:
            if not point.is_harmless():
                break
            largest = point.strength
        return largest

    def curves(self) -> dict[str, tuple[Point, ...]]:
        """The points by the name of their control."""
        return {"diversity": self.diversity, "popularity_damping": self.popularity_damping}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and cells, a row for each point."""
        names = list(self.diversity[0].beyond)
        cells = [
            [name if place == 0 else "", *point.cells(), *(f"{point.beyond[one]:.3f}" for one in names)]
            for name, points in self.curves().items()
            for place, point in enumerate(points)
        ]
        of = {"diversity": "intra-list diversity"}
        return ["control", "strength", HEADLINE, "change", *(of.get(one, one) for one in names)], cells

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        curves = {
            name: [
                {
                    "strength": point.strength,
                    HEADLINE: point.quality._asdict(),
                    "change": point.change._asdict(),
                    "beyond": point.beyond,
                }
                for point in points
            ]
            for name, points in self.curves().items()
        }
        about = {"protocol": self.protocol, "questions": self.questions, "users": self.users}
        about |= {"few_users": self.users < FEW_USERS, "conditions": self.conditions}
        return about | {"harmless_diversity": self.harmless()} | curves

    def markdown(self) -> str:
        """Protocol and table."""
        header, cells = self.table()
        asked = f"{self.protocol} {self.questions:,} questions of {self.users:,} users."
        lines = [f"{asked} {few_users_hint(self.users)}".rstrip(), ""]
        lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        lines += ["| " + " | ".join(row) + " |" for row in cells]
        lines += ["", f"Largest harmless diversity: {self.harmless():g}.", ""]
        return "\n".join([*lines, *conditions_lines(self.conditions)])


def trade_off(
    world: World, asked: Asked, *, protocol: str, seed: int, progress: Callable[[int], None] = lambda _: None
) -> TradeOff:
    """Ask the same questions at each strength of each control.

    Args:
        protocol: Goes into the result. progress: Told of each question, once for all strengths.
    Raises:
        ValueError: the questions are those of fewer than two users.
    """
    controls = [_control(one, 0) for one in DIVERSITIES] + [_control(0, one) for one in DAMPINGS]
    answers = ask_under(world, asked.questions, asked.known, controls, seed=seed, progress=progress)
    values = [METRICS[HEADLINE](one) for one in answers]
    user = asked.questions.user
    points = [
        Point(
            strength,
            mean_interval(value, user, seed=seed),
            paired_difference(value, values[0], user, seed=seed),
            beyond_accuracy(world, one, asked.known)
            | {"categories": _categories(one.lists[:, :10], world.bundle.item_category)},
        )
        for strength, value, one in zip(DIVERSITIES + DAMPINGS, values, answers, strict=True)
    ]
    border = len(DIVERSITIES)
    users = len(np.unique(user))
    return TradeOff(protocol, len(asked.questions), users, tuple(points[:border]), tuple(points[border:]))


def _categories(lists: np.ndarray, of_item: Ragged) -> float:
    """Mean number of distinct categories of a list's items. lists: int32 [q, k], rows of the bundle, -1 for none."""
    return float(np.mean([len(np.unique(of_item.take(row[row >= 0]).values)) for row in lists]))


def _control(diversity: float, damping: float) -> Control:
    if not diversity and not damping:
        return lambda _: None
    return lambda b: Controls.without_quotas(b, diversity=diversity, popularity_damping=damping)

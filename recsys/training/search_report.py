"""What a hyper-parameter search found, for people and for the manifest."""

from dataclasses import dataclass
from typing import Any, Literal

from recsys.bundle import Recipe
from recsys.evaluation.bootstrap import FEW_USERS, Interval, few_users_hint
from recsys.evaluation.report import shown
from recsys.training.search_space import Space, Value, as_json, with_values

METRIC = "NDCG@10"


@dataclass(frozen=True, slots=True)
class Winner:
    """The trial with the best mean.

    Attributes:
        value: Its NDCG@10 on the validation questions, the default's is `default`.
        difference: The paired difference to the default, with its interval over users.
    """

    values: dict[str, Value]
    value: float
    default: float
    difference: Interval

    @property
    def better(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.difference.low > 0


@dataclass(frozen=True, slots=True)
class Search:
    """A search.

    Attributes:
        base: The default recipe.
        protocol: Name of the rule by which the past was divided once more. questions, users: Of that validation.
        parallel: Trials asked for at once; with `seed` it decides which recipes come.
        trials, failed: How many have a value, and how many ended in an error.
        winner: None where no trial but the default ended, or not even that one.
    """

    base: Recipe
    space: Space
    protocol: str
    questions: int
    users: int
    seed: int
    parallel: int
    trials: int
    failed: int
    winner: Winner | None

    @property
    def chosen(self) -> Literal["winner", "default"]:
        """The winner only if it is surely better: the best of many trials is ahead by luck alone."""
        return "winner" if self.winner is not None and self.winner.better else "default"

    @property
    def recipe(self) -> Recipe:
        """What to train with."""
        if self.winner is None or not self.winner.better:
            return self.base
        return with_values(self.base, self.winner.values)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values. No time is in it: the same trials give the same bundle."""
        won = self.winner
        return {
            "metric": METRIC,
            "protocol": self.protocol,
            "questions": self.questions,
            "users": self.users,
            "few_users": self.users < FEW_USERS,
            "space": as_json(self.space),
            "seed": self.seed,
            "parallel": self.parallel,
            "trials": self.trials,
            "failed": self.failed,
            "winner": None
            if won is None
            else {
                "values": won.values,
                "value": won.value,
                "default_value": won.default,
                "difference": won.difference._asdict(),
            },
            "chosen": self.chosen,
        }

    def sentence(self) -> str:
        """What came of it."""
        if self.winner is None:
            return f"{self.trials} trials ended: there is nothing to choose from, the default recipe stays."
        won, what = self.winner, shown(self.winner.difference, sign=True)
        verdict = "it is trained with" if won.better else "not surely better, so the default recipe stays"
        return (
            f"Best of {self.trials} trials, on the questions that it was chosen by: {METRIC} {won.value:.4f}, "
            f"the default {won.default:.4f}, {what}; {verdict}. {few_users_hint(self.users)}"
        ).rstrip()

    def markdown(self) -> str:
        """A section of a report."""
        values, default = (self.winner.values if self.winner else {}), self.base
        lines = ["## Hyper-parameter search", "", self.sentence(), ""]
        lines += [
            f"{METRIC} on {self.questions:,} questions of {self.users:,} users: the past, divided once more by "
            f"{self.protocol}; nothing of the questions above was looked at. Seed {self.seed}, {self.parallel} trials "
            f"at once, {self.failed} failed. The interval is paired, 95 %, over users; that the winner is the best of "
            "many on these questions is not in it, so it leans high. The figures above do not.",
            "",
            "| parameter | space | default | winner |",
            "|---|---|---|---|",
        ]
        for one, described in zip(self.space, as_json(self.space), strict=True):
            values_shown = ", ".join(map(str, described.get("values", ())))
            bounds = values_shown or f"{described['low']} to {described['high']}"
            log = ", log" if described.get("log") else ""
            won = f"{values[one.name]:.4g}" if one.name in values else ""
            lines.append(f"| {one.name} | {bounds}{log} | {getattr(default, one.name):.4g} | {won} |")
        return "\n".join([*lines, ""])

"""What an evaluation found, as JSON and as a Markdown table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from recsys.evaluation.bootstrap import FEW_USERS, Interval, few_users_hint


@dataclass(frozen=True)
class Row:
    """One pipeline: metric name -> mean with its interval; and what its lists of ten are like beyond accuracy."""

    name: str
    metrics: dict[str, Interval]
    beyond: dict[str, float]


@dataclass(frozen=True)
class Report:
    """An evaluation.

    Attributes:
        protocol: What was asked, in one sentence.
        questions, users: How many were asked, of how many users.
        rows: One per pipeline, the evaluated one first.
        differences: "<metric> over <baseline>" -> paired difference with its interval.
        retrieved: Share of the right answers that were among the candidates.
        segments: Of users and of items: right answers, their users, and of each pipeline the share of the answers in
            its first ten.
        kinds: Of the most frequent categories: their items, and how many of them were in a first ten of the bundle.
        conditions: Under which it was made: commit, machine, seed, time and memory of training, and the like.
    """

    protocol: str
    questions: int
    users: int
    rows: tuple[Row, ...]
    differences: dict[str, Interval]
    retrieved: float
    segments: dict[str, dict[str, float]] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, dict[str, int]] = field(default_factory=dict)

    def over(self, name: str) -> Interval:
        """The paired difference of NDCG@10 over another pipeline. Raises KeyError where there is none."""
        return self.differences[f"NDCG@10 over {name}"]

    def behind(self) -> list[str]:
        """Pipelines over which the interval of that difference lies below 0."""
        names = [row.name for row in self.rows if f"NDCG@10 over {row.name}" in self.differences]
        return [name for name in names if self.over(name).high < 0]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, and `few_users`: whether the intervals are over too few of them."""
        return json.loads(
            json.dumps(
                asdict(self)
                | {
                    "few_users": self.users < FEW_USERS,
                    "rows": [
                        {
                            "name": r.name,
                            "beyond": r.beyond,
                            "metrics": {k: v._asdict() for k, v in r.metrics.items()},
                        }
                        for r in self.rows
                    ],
                    "differences": {k: v._asdict() for k, v in self.differences.items()},
                }
            )
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Report":
        """The report that `to_json` described."""
        rows = tuple(
            Row(r["name"], {k: Interval(**v) for k, v in r["metrics"].items()}, r["beyond"]) for r in value["rows"]
        )
        differences = {k: Interval(**v) for k, v in value["differences"].items()}
        return cls(
            value["protocol"],
            value["questions"],
            value["users"],
            rows,
            differences,
            value["retrieved"],
            value["segments"],
            value.get("conditions", {}),
            value.get("kinds", {}),
        )

    def table(self, metrics: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
        """Header and cells, for whatever draws tables.

        Args:
            metrics: Those shown, and of these the first one with its interval; all of everything if none is named.
        """
        first = self.rows[0]
        names = metrics or [*first.metrics, *first.beyond]
        with_interval = metrics[:1] or list(first.metrics)

        def cell(row: Row, name: str) -> str:
            if name in with_interval:
                return shown(row.metrics[name])
            return f"{row.metrics[name].mean if name in row.metrics else row.beyond[name]:.3f}"

        return ["", *names], [[row.name, *(cell(row, name) for name in names)] for row in self.rows]

    def markdown(self) -> str:
        """Protocol, table and differences."""
        header, cells = self.table()
        asked = f"{self.protocol} {self.questions:,} questions of {self.users:,} users."
        lines = [f"{asked} {few_users_hint(self.users)}".rstrip(), ""]
        lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        lines += ["| " + " | ".join(row) + " |" for row in cells]
        lines += ["", *(f"- {name}: {shown(value, sign=True)}" for name, value in self.differences.items())]
        lines += [f"- answers among the candidates: {self.retrieved:.1%}", ""]
        if self.segments:
            names = [row.name for row in self.rows]
            lines += ["Share of the right answers in the first ten:", ""]
            lines += ["| | answers | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 2)]
            for segment, of in self.segments.items():
                shares = " | ".join(f"{of[name]:.3f}" for name in names)
                lines.append(f"| {segment} | {of['answers']:,.0f} | {shares} |")
            lines.append("")
        return "\n".join([*lines, *conditions_lines(self.conditions)])


def conditions_lines(conditions: Mapping[str, Any]) -> list[str]:
    """The last lines of a report in Markdown: under which conditions it was made; nothing where none are known."""
    return ["; ".join(f"{name} {value}" for name, value in conditions.items()) + ".", ""] if conditions else []


def shown(value: Interval, *, sign: bool = False) -> str:
    """A mean and its interval for people, to three decimals."""
    form = "+.3f" if sign else ".3f"
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"

"""What an evaluation found, as JSON and as a Markdown table."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from recsys.evaluation.bootstrap import Interval


@dataclass(frozen=True)
class Row:
    """One pipeline: metric name -> mean with its interval, and the share of the catalogue in its top-10 lists."""

    name: str
    metrics: dict[str, Interval]
    coverage: float


@dataclass(frozen=True)
class Report:
    """An evaluation.

    Attributes:
        protocol: What was asked, in one sentence.
        questions, users: How many were asked, of how many users.
        rows: One per pipeline, the evaluated one first.
        differences: "<metric> over <baseline>" -> paired difference with its interval.
        retrieved: Share of questions whose answer was among the candidates.
    """

    protocol: str
    questions: int
    users: int
    rows: tuple[Row, ...]
    differences: dict[str, Interval]
    retrieved: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return json.loads(
            json.dumps(
                asdict(self)
                | {
                    "rows": [
                        {
                            "name": r.name,
                            "coverage": r.coverage,
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
            Row(r["name"], {k: Interval(**v) for k, v in r["metrics"].items()}, r["coverage"]) for r in value["rows"]
        )
        differences = {k: Interval(**v) for k, v in value["differences"].items()}
        return cls(value["protocol"], value["questions"], value["users"], rows, differences, value["retrieved"])

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and cells, for whatever draws tables."""
        metrics = list(self.rows[0].metrics)
        header = ["", *metrics, "coverage"]
        return header, [[r.name, *(shown(r.metrics[m]) for m in metrics), f"{r.coverage:.1%}"] for r in self.rows]

    def markdown(self) -> str:
        """Protocol, table and differences."""
        header, cells = self.table()
        lines = [f"{self.protocol} {self.questions:,} questions of {self.users:,} users.", ""]
        lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        lines += ["| " + " | ".join(row) + " |" for row in cells]
        lines += ["", *(f"- {name}: {shown(value, sign=True)}" for name, value in self.differences.items())]
        lines += [f"- answers among the candidates: {self.retrieved:.1%}", ""]
        return "\n".join(lines)


def shown(value: Interval, *, sign: bool = False) -> str:
    """A mean and its interval for people, to three decimals."""
    form = "+.3f" if sign else ".3f"
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"

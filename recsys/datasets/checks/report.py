"""Checks as JSON and as Markdown; the same data give the same bytes."""

import json
from dataclasses import asdict
from typing import Any

from recsys.datasets.checks.checks import Checks
from recsys.datasets.checks.finding import COLUMNS, Finding

DIGITS = 6  # of a share: an event in a million


def to_json(checks: Checks, *, rows: bool) -> str:
    """JSON, ending with a new line.

    Args:
        rows: With example events. They name users, so a bundle is written without: it cannot forget (decision 0016).
    """
    head = {name: getattr(checks, name) for name in ("name", "fingerprint", "events", "users", "items")}
    findings = [_plain(one, rows=rows) for one in checks.findings]
    return json.dumps(head | {"findings": findings}, indent=1, allow_nan=False) + "\n"


def markdown(checks: Checks) -> str:
    """A table of findings, then the example events of each that is not ok."""
    lines = [
        f"# Data checks of {checks.name}",
        "",
        f"{checks.events:,} events, {checks.users:,} users, {checks.items:,} items.",
        "",
        "| level | check | found |",
        "|---|---|---|",
        *(_line([one.level, one.name, one.sentence]) for one in checks.findings),
        "",
    ]
    for one in checks.of_level("warning", "failure"):
        if one.rows:
            lines += [f"## {one.name}", "", _line(COLUMNS), "|" + "---|" * len(COLUMNS)]
            lines += [*(_line(row.cells()) for row in one.rows), ""]
    return "\n".join(lines)


def _plain(finding: Finding, *, rows: bool) -> dict[str, Any]:
    plain = asdict(finding)
    plain["numbers"] = {name: _rounded(number) for name, number in finding.numbers.items()}
    if not rows:
        del plain["rows"]
    return plain


def _rounded(number: float) -> float:
    return number if isinstance(number, int) else round(float(number), DIGITS)


def _line(cells: list[str]) -> str:
    """A row of a Markdown table; ids may hold anything."""
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").splitlines()) for cell in cells) + " |"

"""Scripts that repeat a simulation: their command line, and where their figures are kept."""

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtest.deployed import RESULTS

Found = dict[str, Any]


def main(
    doc: str | None, name: str, measure: Callable[[int, int], Found], markdown: Callable[[Found], str], *, runs: int
) -> None:
    """Command line entry: measure, keep the JSON, print the table.

    Args:
        doc: Of the module. name: Of the result. measure: Takes the number of runs and the seed. runs: By default.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    given = parser.parse_args()
    if given.runs < 1:
        parser.error("--runs must be at least 1")
    found = measure(given.runs, given.seed)
    keep(found, name, given.results)
    print(markdown(found))


def keep(found: Found, name: str, folder: Path) -> Path:
    """Write a result as JSON under its name and today's date, UTC; the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y-%m-%d}-{name}.json"
    path.write_text(json.dumps(found, indent=1), "utf-8")
    return path

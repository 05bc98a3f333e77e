"""The rows of an import that could not be understood: all counted, the first ones kept by file and line."""

from collections import Counter
from collections.abc import Iterable

from recsys.errors import DatasetError

KEPT = 20  # lines a person reads before opening the file
ALLOWED_SHARE = 0.01  # beyond one row in a hundred the layout is misread or the file is damaged


class MalformedRows:
    """Collects malformed rows; `kept` is ordered by file and line."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.kept: list[tuple[str, int, str]] = []

    def add(self, file: str, count: int, first: Iterable[tuple[int, str]]) -> None:
        """Count rows of one file.

        Args:
            file: Base name.
            count: All malformed rows found now.
            first: (line number, reason) of at least the first `KEPT` of them.
        """
        self.count[file] += count
        self.kept = sorted(self.kept + [(file, line, reason) for line, reason in first])
        of_file = [row for row in self.kept if row[0] == file][:KEPT]
        self.kept = sorted([row for row in self.kept if row[0] != file] + of_file)

    def refuse_beyond_allowed(self, file: str, rows_read: int) -> None:
        """Raise DatasetError where more than 1 % of a file's rows are malformed."""
        count = self.count[file]
        if count > ALLOWED_SHARE * rows_read:
            lines = "; ".join(f"line {line}: {reason}" for name, line, reason in self.kept if name == file)
            raise DatasetError(
                f"{file}: {count:,} of {rows_read:,} rows are malformed, more than {ALLOWED_SHARE:.0%}. "
                f"First: {_shortened(lines)}. Correct or remove these rows and import again"
            )


def _shortened(text: str, limit: int = 600) -> str:
    return text if len(text) <= limit else text[:limit].rsplit(";", 1)[0] + "; ..."

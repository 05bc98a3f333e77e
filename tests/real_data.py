"""Real data that some tests look at; the project does not hold them, and a test of theirs is skipped without them."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


def real_data(name: str) -> Path:
    """A file or folder below REAL_DATA (default: ../shared/data); skips the test where it is not there."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"not run: {name} is not there; REAL_DATA names the folder that holds it")
    return path

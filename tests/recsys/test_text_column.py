"""Texts come back from two arrays as they went in, or the arrays are refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import BundleError
from recsys.text_column import TextColumn


@given(values=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=20))
def test_texts_come_back_in_their_order(values: list[str]) -> None:
    column = TextColumn.of(values)
    assert len(column) == len(values)
    assert column.tolist() == values == [column[row] for row in range(len(values))]


@pytest.mark.parametrize(
    "values", [["", "é", "日本", "a" * 5000, ""], ["", ""], []], ids=["mixed", "empty texts", "none"]
)
def test_saved_column_is_mapped_back(tmp_path: Path, values: list[str]) -> None:
    TextColumn.of(values).save(tmp_path, "title")
    assert {path.name for path in tmp_path.iterdir()} == {"title.text.npy", "title.offset.npy"}
    assert TextColumn.load(tmp_path, "title").tolist() == values


@pytest.mark.parametrize(
    "offset",
    [[], [0, 3], [1, 2, 7], [0, 5, 2, 7], [0, 3, 8], [-1, 3, 7]],
    ids=["none", "too short", "no start", "falling", "too long", "negative"],
)
def test_offsets_that_do_not_fit_the_text_are_refused(tmp_path: Path, offset: list[int]) -> None:
    TextColumn.of(["abc", "defg"]).save(tmp_path, "title")
    np.save(tmp_path / "title.offset.npy", np.array(offset, np.int64))
    with pytest.raises(BundleError, match=r"title\.offset\.npy does not fit title\.text\.npy; train a new bundle"):
        TextColumn.load(tmp_path, "title")

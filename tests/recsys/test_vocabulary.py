"""Ids, keys and rows: stable keys, rows by rising key, and nothing that could be mixed up."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import BundleError, VocabularyError
from recsys.text_column import TextColumn
from recsys.vocabulary import MAX_ID_BYTES, Vocabulary, item_key, item_keys

IDS = ["b", "a", "日本語", "item 1", "x" * MAX_ID_BYTES]


@pytest.mark.parametrize(("item_id", "key"), [("a", 3405396810240292928), ("日本語", 5222810888430230004)])
def test_key_of_an_id_never_changes(item_id: str, key: int) -> None:
    assert item_key(item_id) == key


@given(ids=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), unique=True))
def test_every_id_is_found_at_its_row_and_no_other(ids: list[str]) -> None:
    vocabulary, rows = Vocabulary.build(ids)
    assert len(vocabulary) == len(ids)
    assert vocabulary.rows_of(ids).tolist() == rows.tolist()
    assert [vocabulary.item_id[row] for row in rows] == ids
    assert (np.diff(vocabulary.key.astype(object)) > 0).all()
    np.testing.assert_array_equal(vocabulary.key[rows], item_keys(ids))


def test_unknown_ids_and_the_empty_slot_have_row_minus_1() -> None:
    vocabulary, _ = Vocabulary.build(IDS)
    assert vocabulary.rows_of(["nobody", "c"]).tolist() == [-1, -1]
    keys = np.array([[0, 2**64 - 1], [vocabulary.key[3], vocabulary.key[0]]], np.uint64)
    assert vocabulary.rows(keys).tolist() == [[-1, -1], [3, 0]]
    assert vocabulary.rows(keys).dtype == np.int32


def test_empty_vocabulary_knows_nothing() -> None:
    vocabulary, rows = Vocabulary.build([])
    assert (len(vocabulary), len(rows)) == (0, 0)
    assert vocabulary.rows_of(["a"]).tolist() == [-1]


def test_rows_and_content_hash_do_not_depend_on_the_order_given() -> None:
    one, other = Vocabulary.build(IDS)[0], Vocabulary.build(IDS[::-1])[0]
    assert one.item_id.tolist() == other.item_id.tolist()
    assert one.content_hash() == other.content_hash()
    assert one.content_hash() != Vocabulary.build(IDS[1:])[0].content_hash()


def test_content_hash_tells_apart_ids_that_are_cut_elsewhere() -> None:
    keys = np.array([1, 2], np.uint64)
    one, other = Vocabulary.from_keys(["ab", "c"], keys)[0], Vocabulary.from_keys(["a", "bc"], keys)[0]
    assert one.content_hash() != other.content_hash()


def test_id_given_twice_is_refused() -> None:
    with pytest.raises(VocabularyError, match="item id 'a' is given twice; ids must be unique"):
        Vocabulary.build(["a", "b", "a"])


def test_two_ids_with_one_key_are_refused() -> None:
    with pytest.raises(VocabularyError, match="item id 'a' has the same 64-bit key as 'c'"):
        Vocabulary.from_keys(["a", "b", "c"], np.array([5, 9, 5], np.uint64))


def test_key_0_is_refused() -> None:
    with pytest.raises(VocabularyError, match="item id 'b' has key 0, which marks an empty slot"):
        Vocabulary.from_keys(["a", "b"], np.array([5, 0], np.uint64))


@pytest.mark.parametrize("item_id", ["", "x" * (MAX_ID_BYTES + 1), "日" * (MAX_ID_BYTES // 3 + 1)])
def test_id_that_is_empty_or_too_long_in_utf_8_is_refused(item_id: str) -> None:
    with pytest.raises(VocabularyError, match=r"has not 1\.\.256 UTF-8 bytes; shorten it"):
        Vocabulary.build(["a", item_id])


def test_saved_vocabulary_is_mapped_back(tmp_path: Path) -> None:
    vocabulary, rows = Vocabulary.build(IDS)
    vocabulary.save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    assert loaded.rows_of(IDS).tolist() == rows.tolist()
    assert loaded.content_hash() == vocabulary.content_hash()


@pytest.mark.parametrize("damage", ["fewer keys", "more ids", "unsorted keys", "equal keys"])
def test_keys_that_do_not_fit_the_ids_are_refused(tmp_path: Path, damage: str) -> None:
    vocabulary, _ = Vocabulary.build(IDS)
    vocabulary.save(tmp_path)
    keys = vocabulary.key.copy()
    if damage == "fewer keys":
        np.save(tmp_path / "vocabulary.key.npy", keys[1:])
    elif damage == "more ids":
        TextColumn.of([*vocabulary.item_id.tolist(), "more"]).save(tmp_path, "vocabulary.item_id")
    elif damage == "unsorted keys":
        np.save(tmp_path / "vocabulary.key.npy", keys[::-1])
    else:
        keys[1] = keys[0]
        np.save(tmp_path / "vocabulary.key.npy", keys)
    with pytest.raises(BundleError, match=r"vocabulary\.key\.npy does not fit the item ids; train a new bundle"):
        Vocabulary.load(tmp_path)

"""Items described alike: hand-made titles and categories, computed on paper, and a slow reference."""

import numpy as np
import pytest

from recsys.retrieval import content as module
from recsys.retrieval.content import content, in_common, words
from recsys.types import Ragged

NONE: list[list[int]] = [[], [], [], []]


def categories(lists: list[list[int]]) -> Ragged:
    return Ragged.of([np.array(one, np.int32) for one in lists], np.int32)


def reference(titles: list[str], lists: list[list[int]]) -> np.ndarray:
    """Cosines of all pairs, with dense rows of every term: float64 [N, N]."""
    of = [words(title) | {f"category {number}" for number in own} for title, own in zip(titles, lists, strict=True)]
    terms = sorted(set().union(*of))
    having = np.array([sum(term in one for one in of) for term in terms])
    weight = np.where(having > 1, np.log((len(titles) + 1) / (having + 1)), 0)
    rows = np.array([[weight[at] * (term in one) for at, term in enumerate(terms)] for one in of])
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(length > 0, length, 1)
    return rows @ rows.T


def test_words_are_letters_and_numbers_whatever_their_case() -> None:
    assert words("Wall-E (2008)") == {"wall", "e", "2008"}
    assert words("Amélie, STRASSE Straße") == {"amélie", "strasse"}
    assert words("...") == set()


def test_shared_words_tie_items_and_a_word_of_one_item_does_not_count() -> None:
    """`blue` and `red` are two words of two items each; `only` is one item's, so item 0 is as like item 1 as can be."""
    found = content(["blue only", "Blue", "red", "RED!"], categories(NONE), k=3)
    assert found.item.tolist() == [[1], [0], [3], [2]]
    np.testing.assert_allclose(found.weight, 1.0, rtol=1e-6)
    assert (found.item.dtype, found.weight.dtype) == (np.int32, np.float32)


def test_rare_words_weigh_more_than_frequent_ones() -> None:
    """Of what item 0 has, three other items have `drama`, and one has `voyage`."""
    found = content(["drama voyage", "voyage", "drama", "drama", "drama"], categories([[]] * 5), k=4)
    assert found.item[0, 0] == 1
    drama, voyage = np.log(6 / 5), np.log(6 / 3)
    assert found.weight[0, 0] == pytest.approx(voyage / np.hypot(drama, voyage), rel=1e-6)
    assert found.weight[0, 1] == pytest.approx(drama / np.hypot(drama, voyage), rel=1e-6)


def test_categories_are_terms_beside_words() -> None:
    found = content(["x", "y", "z", "w"], categories([[0], [0], [1], []]), k=2)
    assert found.item.tolist() == [[1], [0], [-1], [-1]]


@pytest.mark.parametrize("block", [7, 4096])
def test_neighbours_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    rng = np.random.default_rng(5)
    titles = [" ".join(f"w{one}" for one in rng.zipf(1.5, 4) if one < 40) for _ in range(60)]
    lists = [np.unique(rng.integers(0, 6, rng.integers(0, 4))).tolist() for _ in range(60)]
    found, pairs = content(titles, categories(lists), k=10), reference(titles, lists)
    np.fill_diagonal(pairs, 0)
    for row in range(60):
        best = np.sort(pairs[row])[::-1][:10]
        kept = found.item[row] >= 0
        np.testing.assert_allclose(found.weight[row][kept], best[best > 0][: kept.sum()], rtol=1e-5)
        np.testing.assert_allclose(pairs[row][found.item[row][kept]], found.weight[row][kept], rtol=1e-5)
        assert kept.sum() == min((best > 1e-9).sum(), 10)


def test_frequent_words_are_left_out_where_pairs_would_be_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    titles = ["all rare", "all rare", "all", "all"]
    assert content([*titles, ""], categories([*NONE, []]), k=3).item[2].tolist() == [3, 0, 1]
    monkeypatch.setattr(module, "PAIRS", 4)  # the two of `rare`; `all` gives sixteen
    assert content(titles, categories(NONE), k=3).item.tolist() == [[1], [0], [-1], [-1]]


@pytest.mark.parametrize("titles", [[""] * 4, ["a1", "b2", "c3", "d4"]])
def test_items_without_a_shared_word_have_no_neighbours(titles: list[str]) -> None:
    found = content(titles, categories(NONE), k=3)
    assert found.item.tolist() == [[-1]] * 4
    assert not found.weight.any()


def test_in_common_names_words_and_then_categories() -> None:
    assert in_common(("Star Wars (1977)", "Star Trek: Wars"), (["Sci-Fi", "War"], ["Drama", "Sci-Fi"])) == [
        *("star", "wars", "Sci-Fi")
    ]

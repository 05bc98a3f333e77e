"""Which items are described alike: rare words of the title and categories in common. Nothing that users did is read."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse

from recsys.retrieval.neighbours import Neighbours
from recsys.types import Ragged

# Of items that share a term: terms are read from the rarest on, as many as give no more; so none that
# more than 22,360 items have.
PAIRS = 500_000_000
_WORD = re.compile(r"\w+")
_BLOCK = 1024  # items whose products with all others are in memory: 8 bytes each, 180 MB where all 22,360 share a word


def words(title: str) -> set[str]:
    """The words of a title, in small letters; a number, such as a year, is a word."""
    return set(_WORD.findall(title.casefold()))


def content(title: Sequence[str], item_category: Ragged, *, k: int) -> Neighbours:
    """The k items nearest in words and categories.

    weight(i -> j) = cosine of their terms, each of which weighs log((N + 1) / (items that have it + 1)): inverse
    document frequency (Sparck Jones, "A Statistical Interpretation of Term Specificity and Its Application in
    Retrieval", Journal of Documentation 28(1), 1972). A term of one item only ties it to nothing and does not count.

    Args:
        title: [N]. item_category: category numbers of each item, [N].
    """
    terms = _terms(title, item_category)
    transposed = terms.T.tocsr()
    blocks = [
        Neighbours.from_matrix((terms[start : start + _BLOCK] @ transposed).tocsr(), k, first=start)
        for start in range(0, len(title), _BLOCK)
    ]
    item, weight = (np.concatenate([getattr(one, part) for one in blocks]) for part in ("item", "weight"))
    widest = max(int((item >= 0).sum(axis=1).max(initial=0)), 1)  # no file for what is described nowhere
    return Neighbours(np.ascontiguousarray(item[:, :widest]), np.ascontiguousarray(weight[:, :widest]))


def in_common(titles: tuple[str, str], categories: tuple[Sequence[str], Sequence[str]]) -> list[str]:
    """The words, then the categories, that two items have in common, each by the alphabet."""
    of_both = words(titles[0]) & words(titles[1]), set(categories[0]) & set(categories[1])
    return [one for shared in of_both for one in sorted(shared)]


def _terms(title: Sequence[str], item_category: Ragged) -> sparse.csr_array:
    """Weights of the terms of each item, rows of length 1 or 0: float32 [N, terms]."""
    number: dict[str | int, int] = {}
    lists = [
        np.array([number.setdefault(one, len(number)) for one in terms], np.int64)
        for terms in _of_each(title, item_category)
    ]
    of = Ragged.of(lists, np.int64)
    n = len(title)
    having = np.bincount(of.values, minlength=max(len(number), 1))
    having = np.where(having > 1, having, 0)
    rarest = np.argsort(having, kind="stable")
    read = np.zeros(len(having), bool)
    read[rarest] = np.cumsum(having[rarest].astype(np.int64) ** 2) <= PAIRS
    weight = np.where(read & (having > 0), np.log((n + 1) / (having + 1)), 0)
    matrix = sparse.csr_array((weight[of.values], of.values, of.indptr), shape=(n, len(having)))
    matrix.eliminate_zeros()
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scaled = (sparse.diags_array(1 / np.where(length > 0, length, 1)) @ matrix).astype(np.float32).tocsr()
    scaled.indices, scaled.indptr = scaled.indices.astype(np.int32), scaled.indptr.astype(np.int32)  # half the memory
    return scaled


def _of_each(title: Sequence[str], item_category: Ragged) -> Iterator[list[str | int]]:
    for row, one in enumerate(title):
        yield [*sorted(words(one)), *item_category[row].tolist()]

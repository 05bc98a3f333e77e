"""The best `count` of each request, whatever the scores."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.selection import select

SCORES = st.one_of(st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, -np.inf]), st.floats(-5, 5))
REQUESTS = st.lists(st.tuples(st.lists(SCORES, max_size=12), st.integers(0, 15)), max_size=6)


def bounds_of(*sizes: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


@settings(max_examples=150)
@given(requests=REQUESTS)
def test_selection_is_a_stable_sort_of_each_request_with_broken_scores_last(
    requests: list[tuple[list[float], int]],
) -> None:
    indptr = bounds_of(*(len(scores) for scores, _ in requests))
    score = np.array([one for scores, _ in requests for one in scores], np.float64)
    chosen, bounds = select(indptr, score, np.array([k for _, k in requests], np.int32))
    expected: list[int] = []
    for (scores, k), start in zip(requests, indptr, strict=False):
        order = sorted(
            range(len(scores)),
            key=lambda i: (not np.isfinite(scores[i]), -scores[i] if np.isfinite(scores[i]) else 0, i),
        )
        expected += [int(start) + i for i in order[:k]]
    assert chosen.tolist() == expected
    assert np.diff(bounds).tolist() == [min(k, len(scores)) for scores, k in requests]


def test_equal_scores_keep_the_order_of_the_candidates() -> None:
    assert select(bounds_of(4), np.array([1.0, 2, 1, 2]), np.array([4]))[0].tolist() == [1, 3, 0, 2]


def test_more_wanted_than_there_are_gives_all() -> None:
    assert select(bounds_of(2, 0, 1), np.array([0.5, 0.7, 0.1]), np.array([9, 9, 9]))[0].tolist() == [1, 0, 2]


def test_no_request_gives_no_cell() -> None:
    chosen, bounds = select(bounds_of(), np.zeros(0), np.zeros(0, np.int32))
    assert (chosen.tolist(), chosen.dtype) == ([], np.int64)
    assert bounds.tolist() == [0]

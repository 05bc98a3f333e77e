"""Item-to-item lists of hand-made logs, computed on paper."""

import numpy as np
import pytest
from scipy import sparse

from recsys.retrieval.neighbours import (
    BACKWARD,
    FOLLOWING,
    FOLLOWING_DECAY,
    NEARBY,
    NEARBY_DECAY,
    PRIOR,
    Neighbours,
    co_occurrence,
    nearby,
    transitions,
)


def scale(of: float, to: float) -> float:
    """What a count is divided by: occurrences of one item, positives of the other."""
    return float(np.sqrt((of + PRIOR) * (to + PRIOR)))


def columns(*visits: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(user, item) pairs in log order."""
    user, item = zip(*visits, strict=True)
    return np.array(user, np.int32), np.array(item, np.int32)


def test_transitions_count_followers_less_for_each_step_and_scale_by_both_frequencies() -> None:
    user, item = columns((0, 0), (1, 0), (0, 1), (1, 1), (0, 2))
    found = transitions(user, item, np.ones(5, bool), 4, k=3)
    assert found.item.tolist() == [[1, 2, -1], [2, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    expected = np.zeros((4, 3))
    expected[0, :2] = 2 / scale(2, 2), 0.8 / scale(2, 1)
    expected[1, 0] = 1 / scale(2, 1)
    np.testing.assert_allclose(found.weight, expected, rtol=1e-6)
    assert (found.item.dtype, found.weight.dtype) == (np.int32, np.float32)


def test_only_positives_follow_but_anything_leads() -> None:
    user, item = columns((0, 0), (0, 1), (0, 2))
    found = transitions(user, item, np.array([False, False, True]), 3, k=2)
    assert found.item.tolist() == [[2, -1], [2, -1], [-1, -1]]
    np.testing.assert_allclose(found.weight[:2, 0] * scale(1, 1), [0.8, 1.0], rtol=1e-6)


def test_window_ends_after_ten_steps() -> None:
    user, item = columns(*((0, step) for step in range(12)))
    found = transitions(user, item, np.ones(12, bool), 12, k=12)
    assert found.item[0].tolist() == [*range(1, FOLLOWING + 1), -1, -1]
    last = found.weight[0, FOLLOWING - 1] * scale(1, 1)
    np.testing.assert_allclose(last, FOLLOWING_DECAY ** (FOLLOWING - 1), rtol=1e-5)


def test_nearby_looks_both_ways_and_back_for_less() -> None:
    user, item = columns(*((0, step) for step in range(30)))
    found = nearby(user, item, np.ones(30, bool), 30, k=60)
    of_25 = {int(i): float(w) * scale(1, 1) for i, w in zip(found.item[25], found.weight[25], strict=True) if i >= 0}
    assert sorted(of_25) == [*range(25 - NEARBY, 25), *range(26, 30)]
    assert of_25[26] == pytest.approx(1)
    assert of_25[29] == pytest.approx(NEARBY_DECAY**3, rel=1e-5)
    assert of_25[24] == pytest.approx(BACKWARD, rel=1e-5)
    assert of_25[5] == pytest.approx(BACKWARD * NEARBY_DECAY ** (NEARBY - 1), rel=1e-5)


def test_only_positives_are_nearby_but_anything_has_neighbours() -> None:
    user, item = columns((0, 0), (0, 1), (0, 2))
    found = nearby(user, item, np.array([True, False, False]), 3, k=2)
    assert found.item.tolist() == [[-1, -1], [0, -1], [0, -1]]


def test_what_was_met_once_lies_behind_what_was_met_often() -> None:
    user, item = columns(*((u, i) for u in range(20) for i in (0, 1)), (20, 0), (20, 2))
    assert transitions(user, item, np.ones(len(user), bool), 3, k=2).item[0].tolist() == [1, 2]


def test_users_do_not_follow_one_another() -> None:
    user, item = columns((0, 0), (1, 1), (0, 2))
    assert transitions(user, item, np.ones(3, bool), 3, k=1).item.tolist() == [[2], [-1], [-1]]


def test_item_never_follows_itself() -> None:
    user, item = columns((0, 0), (0, 0), (0, 1))
    assert transitions(user, item, np.ones(3, bool), 2, k=2).item.tolist() == [[1, -1], [-1, -1]]


def test_ties_stand_by_item_and_only_the_k_strongest_are_kept() -> None:
    matrix = sparse.csr_array(np.array([[9, 1, 2, 1, 2], [0, 0, 0, 0, 0], *[[0] * 5] * 3], np.float32))
    found = Neighbours.from_matrix(matrix, 3)
    assert found.item[0].tolist() == [2, 4, 1]
    assert found.weight[0].tolist() == [2, 2, 1]
    assert (found.item[1:] == -1).all()
    assert not found.weight[1:].any()


def test_co_occurrence_is_the_cosine_in_which_who_likes_more_says_less() -> None:
    user, item = columns((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 2))
    found = co_occurrence(user, item, 4, k=2)
    assert found.item.tolist() == [[1, 2], [0, -1], [0, -1], [-1, -1]]
    np.testing.assert_allclose(found.weight[0], [(1 / 2 + 1 / 2) / np.sqrt(3 * 2), 1 / 2 / np.sqrt(3 * 1)], rtol=1e-6)
    np.testing.assert_allclose(found.weight[1, 0], found.weight[0, 0], rtol=1e-6)


def test_liking_an_item_again_does_not_make_it_more_similar() -> None:
    once = co_occurrence(*columns((0, 0), (0, 1), (1, 1)), 2, k=1)
    again = co_occurrence(*columns((0, 0), (0, 1), (0, 1), (0, 0), (1, 1)), 2, k=1)
    np.testing.assert_array_equal(once.weight, again.weight)


@pytest.mark.parametrize("make", ["transitions", "co_occurrence"])
def test_empty_log_has_no_neighbours(make: str) -> None:
    nothing = np.zeros(0, np.int32)
    found = (
        transitions(nothing, nothing, np.zeros(0, bool), 3, k=2)
        if make == "transitions"
        else co_occurrence(nothing, nothing, 3, k=2)
    )
    assert found.item.tolist() == [[-1, -1]] * 3
    assert not found.weight.any()

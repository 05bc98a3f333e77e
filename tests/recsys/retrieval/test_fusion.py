"""Reciprocal-rank fusion against a slow one in plain Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.retrieval.fusion import fuse

SOURCES = 4


Drawn = list[tuple[int, int, np.ndarray, np.ndarray]]  # of each source: number, list length, items, weights


def by_definition(lists: Drawn, b: int) -> list[list[tuple[int, float, int, list[float]]]]:
    """Per request (item, fused score, source bits, weights), best first and equal scores by item."""
    rows = []
    for row in range(b):
        found: dict[int, tuple[float, int, list[float]]] = {}
        for source, length, items, weights in lists:
            for column, (one, value) in enumerate(zip(items[row].tolist(), weights[row].tolist(), strict=True)):
                if one >= 0:
                    fused, bits, own = found.get(one, (0.0, 0, [0.0] * SOURCES))
                    own[source] += value
                    found[one] = fused + 1 / (60 + column % length), bits | 1 << source, own
        rows.append(sorted(((i, *rest) for i, rest in found.items()), key=lambda one: (-round(one[1], 8), one[0])))
    return rows


def fuse_all(lists: Drawn, wanted: np.ndarray, *, drawn: int = SOURCES) -> tuple[np.ndarray, ...]:
    source, length, item, weight = zip(*lists, strict=True)
    return fuse(item, weight, length, source, wanted, SOURCES, drawn)


@settings(max_examples=80)
@given(
    b=st.integers(0, 4),
    shapes=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12)), min_size=SOURCES, max_size=SOURCES),
    seed=st.integers(0, 2**32 - 1),
    highest=st.sampled_from([3, 30, 2**31 - 1]),
    most=st.sampled_from([0, 1, 5, 1000]),
)
def test_fusion_is_the_sum_of_reciprocal_ranks_and_keeps_the_best(
    b: int, shapes: list[tuple[int, int]], seed: int, highest: int, most: int
) -> None:
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, highest, size=20, endpoint=True)
    lists: Drawn = []
    for source, (repeats, length) in enumerate(shapes):
        shape = (b, repeats * length)
        item = np.where(rng.random(shape) < 0.3, -1, rng.choice(pool, size=shape)).astype(np.int32)
        lists.append((source, length, item, rng.random(shape).astype(np.float32)))
    wanted = rng.integers(0, most, size=b, endpoint=True)
    bounds, items, bits, fused, weights = fuse_all(lists, wanted)
    expected = [row[:k] for row, k in zip(by_definition(lists, b), wanted, strict=True)]
    assert np.diff(bounds).tolist() == [len(row) for row in expected]
    cells = [cell for row in expected for cell in row]
    assert items.tolist() == [cell[0] for cell in cells]
    assert bits.tolist() == [cell[2] for cell in cells]
    np.testing.assert_allclose(fused, [cell[1] for cell in cells], rtol=1e-6)
    np.testing.assert_allclose(weights, np.array([cell[3] for cell in cells]).reshape(-1, SOURCES).T, rtol=1e-5)
    types = (np.int64, np.int32, np.uint16, np.float32, np.float32)
    assert [one.dtype for one in (bounds, items, bits, fused, weights)] == list(types)


def test_items_that_fall_on_one_place_of_the_hash_table_stay_apart() -> None:
    item = (np.arange(64, dtype=np.int64) << 24).clip(0, 2**31 - 1).astype(np.int32)
    item = np.unique(np.concatenate([item, np.arange(100, dtype=np.int32) * 4096]))[None]
    n = item.shape[1]
    bounds, items, _, fused, _ = fuse_all([(0, n, item, np.zeros((1, n), np.float32))], np.array([n]))
    assert bounds.tolist() == [0, n]
    assert items.tolist() == item[0].tolist()
    np.testing.assert_allclose(fused, 1 / (60 + np.arange(n)), rtol=1e-6)


def test_drawn_item_is_kept_as_if_it_were_on_top_and_its_score_is_that_of_the_other_lists() -> None:
    nothing = np.zeros((1, 3), np.float32)
    lists: Drawn = [(0, 3, np.array([[4, 5, 6]], np.int32), nothing), (1, 3, np.array([[5, 4, 7]], np.int32), nothing)]
    for item, score, bits in ((7, 1 / 62, 0b1010), (9, 0.0, 0b1000)):
        by_chance = (3, 1, np.array([[item]], np.int32), np.zeros((1, 1), np.float32))
        _, items, of, fused, _ = fuse_all([*lists, by_chance], np.array([3]), drawn=3)
        assert item in items.tolist()
        at = items.tolist().index(item)
        assert (of[at], fused[at]) == (bits, np.float32(score))
        assert dict(zip(items.tolist(), fused.tolist(), strict=True))[4] == np.float32(1 / 60 + 1 / 61)

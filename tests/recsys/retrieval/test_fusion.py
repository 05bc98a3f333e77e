"""Reciprocal-rank fusion against a slow one in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.retrieval.fusion import fuse

SOURCES = 4


def by_definition(
    item: np.ndarray, weight: np.ndarray, position: np.ndarray, source: np.ndarray
) -> list[list[tuple[int, float, int, list[float]]]]:
    """Per request (item, fused score, source bits, weights), best first and equal scores by item."""
    rows = []
    for items, weights in zip(item.tolist(), weight.tolist(), strict=True):
        found: dict[int, tuple[float, int, list[float]]] = {}
        for one, value, place, of in zip(items, weights, position.tolist(), source.tolist(), strict=True):
            if one >= 0:
                fused, bits, own = found.get(one, (0.0, 0, [0.0] * SOURCES))
                own[of] += value
                found[one] = fused + 1 / (60 + place), bits | 1 << of, own
        rows.append(sorted(((i, *rest) for i, rest in found.items()), key=lambda one: (-round(one[1], 8), one[0])))
    return rows


@settings(max_examples=80, deadline=None)
@given(
    b=st.integers(0, 4),
    width=st.integers(0, 40),
    seed=st.integers(0, 2**32 - 1),
    highest=st.sampled_from([3, 30, 2**31 - 1]),
)
def test_fusion_is_the_sum_of_reciprocal_ranks(b: int, width: int, seed: int, highest: int) -> None:
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, highest, size=20, endpoint=True)
    item = np.where(rng.random((b, width)) < 0.3, -1, rng.choice(pool, size=(b, width))).astype(np.int32)
    weight = rng.random((b, width)).astype(np.float32)
    position = rng.integers(0, 10, size=width)
    source = np.sort(rng.integers(0, SOURCES, size=width))
    bounds, items, bits, fused, weights = fuse(item, weight, position, source, SOURCES)
    expected = by_definition(item, weight, position, source)
    assert np.diff(bounds).tolist() == [len(row) for row in expected]
    cells = [cell for row in expected for cell in row]
    assert items.tolist() == [cell[0] for cell in cells]
    assert bits.tolist() == [cell[2] for cell in cells]
    assert fused.tolist() == pytest.approx([cell[1] for cell in cells], rel=1e-6)
    np.testing.assert_allclose(weights, np.array([cell[3] for cell in cells]).reshape(-1, SOURCES).T, rtol=1e-5)
    types = (np.int64, np.int32, np.uint8, np.float32, np.float32)
    assert [one.dtype for one in (bounds, items, bits, fused, weights)] == list(types)


def test_items_that_fall_on_one_place_of_the_hash_table_stay_apart() -> None:
    item = (np.arange(64, dtype=np.int64) << 24).clip(0, 2**31 - 1).astype(np.int32)
    item = np.unique(np.concatenate([item, np.arange(100, dtype=np.int32) * 4096]))[None]
    n = item.shape[1]
    bounds, items, _, fused, _ = fuse(item, np.zeros((1, n), np.float32), np.arange(n), np.zeros(n, np.int64), SOURCES)
    assert bounds.tolist() == [0, n]
    assert items.tolist() == item[0].tolist()
    np.testing.assert_allclose(fused, 1 / (60 + np.arange(n)), rtol=1e-6)

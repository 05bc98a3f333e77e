"""Why an item is on the list, read off the tables that put it there."""

import numpy as np

from recsys.reasons import reasons
from recsys.types import Source, World

A, B, C, D = range(4)


def bits(*sources: Source) -> int:
    return sum(1 << source for source in sources)


def test_every_source_has_its_code_strongest_cause_first(tiny: World) -> None:
    recent = np.array([A, -1, -1], np.int32)
    found = reasons(tiny, recent, C, bits(*Source))
    assert found == ["follows:a", "near:a", "similar_to:a", "described_like:a", "similar_taste", "new"]


def test_cause_is_the_interaction_that_contributed_most_after_decay(tiny: World) -> None:
    """b leads to c with 0.5, a with 0.25: b wins from one step back, 0.35 to 0.25, but not from three, 0.17."""
    assert reasons(tiny, np.array([A, B], np.int32), C, bits(Source.TRANSITIONS)) == ["follows:b"]
    assert reasons(tiny, np.array([A, -1, D, B], np.int32), C, bits(Source.TRANSITIONS)) == ["follows:a"]


def test_interaction_that_the_bundle_does_not_know_is_no_cause(tiny: World) -> None:
    assert reasons(tiny, np.array([-1, B], np.int32), C, bits(Source.TRANSITIONS)) == ["follows:b"]


def test_item_without_a_source_has_no_reason(tiny: World) -> None:
    assert reasons(tiny, np.array([A], np.int32), C, 0) == []

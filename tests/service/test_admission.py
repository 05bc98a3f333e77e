"""The order in which things are given up."""

import itertools

from service.admission import LEAST_QUALITY, PATIENCE, QUALITIES, quality


def test_candidates_go_first_then_low_priority_then_the_rest() -> None:
    assert max(share for share, _ in QUALITIES) < PATIENCE["low"] < PATIENCE["normal"] < PATIENCE["high"] < 1


def test_quality_falls_with_the_backlog_and_never_to_nothing() -> None:
    found = [quality(ms / 1000, 0.1) for ms in range(200)]
    assert found[0] == 1
    assert found[-1] == LEAST_QUALITY > 0
    assert all(later <= earlier for earlier, later in itertools.pairwise(found))


def test_the_same_backlog_weighs_less_against_a_longer_deadline() -> None:
    assert quality(0.05, 0.1) < quality(0.05, 1.0) == 1

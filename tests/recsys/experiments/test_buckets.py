"""Buckets are the same everywhere and for ever, even, and independent between salts."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from recsys.experiments.buckets import BUCKETS, bucket, free_slots, which

USERS = [f"user-{number}" for number in range(40_000)]


def test_buckets_are_these_and_no_others() -> None:
    """Whoever changes them moves every user of every running experiment."""
    assert [bucket("layer:default", one) for one in ("", "42", "ann", "Zoë", "x" * 256)] == GOLDEN


GOLDEN = [8543, 8196, 6270, 8380, 9846]


def test_another_process_with_another_hash_seed_draws_the_same() -> None:
    code = "from recsys.experiments.buckets import bucket; print(bucket('a', 'ann'))"
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
        ).stdout
        for seed in ("1", "2")
    }
    assert told == {f"{bucket('a', 'ann')}\n"}


def test_users_are_spread_evenly() -> None:
    drawn = np.array([bucket("layer:default", one) for one in USERS])
    assert 0 <= drawn.min() <= drawn.max() < BUCKETS
    assert chisquare(np.bincount(drawn // 100, minlength=100)).pvalue > 1e-3


def test_draws_of_two_salts_say_nothing_of_each_other() -> None:
    first, second = ([bucket(salt, one) < BUCKETS // 2 for one in USERS] for salt in ("experiment:a", "experiment:b"))
    table = np.histogram2d(first, second, bins=2)[0]
    assert chi2_contingency(table).pvalue > 1e-3


def test_a_growing_share_keeps_whom_it_had() -> None:
    had: set[str] = set()
    for share in (100, 500, 2500, 5000, 10_000):
        now = {one for one in USERS[:5000] if bucket("rollout", one) < share}
        assert had <= now
        had = now
    assert had == set(USERS[:5000])


@pytest.mark.parametrize(
    ("drawn", "place"), [(0, 0), (99, 0), (100, 1), (149, 1), (150, 3), (151, -1), (BUCKETS - 1, -1)]
)
def test_parts_are_taken_in_their_order(drawn: int, place: int) -> None:
    assert which([100, 50, 0, 1], drawn) == place


@given(st.lists(st.integers(0, BUCKETS), max_size=8, unique=True), st.integers(0, BUCKETS))
def test_free_slots_are_the_first_that_nobody_has(edges: list[int], share: int) -> None:
    edges = sorted(edges[: len(edges) // 2 * 2])
    taken = list(zip(edges[::2], edges[1::2], strict=True))
    gone = {one for begin, end in taken for one in range(begin, end)}
    free = [one for one in range(BUCKETS) if one not in gone]
    found = free_slots(reversed(taken), share)
    assert [one for begin, end in found for one in range(begin, end)] == free[:share]
    assert all(begin < end for begin, end in found)

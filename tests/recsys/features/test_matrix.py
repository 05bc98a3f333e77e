"""Every feature on one world made by hand: a definition that changes needs a new version and new numbers here."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.features.codec import LAYOUT
from recsys.features.frame import Frame
from recsys.features.history import History
from recsys.features.item import columns
from recsys.features.matrix import FEATURES, NAMES, SCHEMA_HASH, feature_matrix
from recsys.features.schema import described, difference, schema_hash
from recsys.recommend import features, retrieve
from recsys.types import CandidateSet, Source, World
from recsys.verbs import Verb
from tests.worlds import START_S, Ask, batch_of

GOLDEN_SCHEMA_HASH = "5d777c37d5c97d77e003cc9995d2de3b86b66633747f251eaa5faff1f58e8670"

# One user liked a an hour and two seconds ago and hid b an hour ago, the other is unknown; both are offered c, e.
# (name, version) -> values for (user 1, c), (user 1, e), (user 2, c), (user 2, e).
GOLDEN: dict[tuple[str, int], list[float]] = {
    ("user_log_events", 1): [1.09861, 1.09861, 0.0, 0.0],
    ("user_positive_rate", 1): [0.5, 0.5, 0.0, 0.0],
    ("user_log_idle_s", 1): [8.18897, 8.18897, -1.0, -1.0],
    ("user_log_activity_1h", 1): [0.693051, 0.693051, 0.0, 0.0],
    ("item_log_popularity", 2): [0.646627, 0.0, 0.646627, 0.0],
    ("item_log_trend", 2): [0.887303, 0.0, 0.887303, 0.0],
    ("item_log_trend_day", 1): [1.252763, 0.0, 1.252763, 0.0],
    ("item_log_trend_year", 1): [0.693147, 0.0, 0.693147, 0.0],
    ("item_momentum", 2): [1.514801, 1.0, 1.514801, 1.0],
    ("item_positive_rate", 1): [0.7, 0.9, 0.7, 0.9],
    ("cross_als", 1): [11.0, 0.0, 0.0, 0.0],
    ("cross_factor_last", 1): [0.6, 0.0, 0.0, 0.0],
    ("cross_factor_recent", 1): [0.6, 0.0, 0.0, 0.0],
    ("cross_spectral", 1): [5.0, 0.0, 0.0, 0.0],
    ("cross_category_last", 1): [0.707107, 0.0, 0.0, 0.0],
    ("cross_category_profile", 1): [0.707107, 0.0, 0.0, 0.0],
    ("cross_transitions_last", 1): [0.5, 0.0, 0.0, 0.0],
    ("cross_transitions", 2): [0.5 + 0.7 * 0.25, 0.0, 0.0, 0.0],
    ("cross_nearby_last", 1): [0.125, 0.0, 0.0, 0.0],
    ("cross_nearby", 1): [0.125, 0.0, 0.0, 0.0],
    ("cross_nearby_long", 1): [0.125, 0.0, 0.0, 0.0],
    ("cross_similar_last", 1): [0.0, 0.0, 0.0, 0.0],
    ("cross_similar", 2): [0.7 * 0.75, 0.0, 0.0, 0.0],
    ("cross_history", 1): [0.75, 0.0, 0.0, 0.0],
    ("cross_content_last", 1): [0.0, 0.0, 0.0, 0.0],
    ("cross_content", 1): [0.7 * 0.375, 0.0, 0.0, 0.0],
    ("cross_content_long", 1): [0.9 * 0.375, 0.0, 0.0, 0.0],
    ("cross_retrieval", 3): [0.05, 0.03, 0.02, 0.01],
    ("cross_als_among", 1): [1.0, 0.0, 0.0, 0.0],
    ("cross_spectral_among", 1): [1.0, 0.0, 0.0, 0.0],
    ("cross_transitions_among", 1): [1.0, 0.0, 0.0, 0.0],
    ("cross_nearby_among", 1): [1.0, 0.0, 0.0, 0.0],
    ("cross_similar_among", 1): [1.0, 0.0, 0.0, 0.0],
    ("cross_history_among", 1): [1.0, 0.0, 0.0, 0.0],
}


def frame_by_hand(tiny: World) -> Frame:
    now_s = START_S + 3602
    asks = [Ask([("a", Verb.LIKE, START_S), ("b", Verb.HIDE, START_S + 2)], now_s=now_s), Ask(now_s=now_s)]
    batch = batch_of(tiny, asks)
    cells = CandidateSet(
        indptr=np.array([0, 2, 4]),
        item=np.array([2, 4, 2, 4], np.int32),
        sources=np.full(4, 15, np.uint16),
        retrieval_score=np.array([0.05, 0.03, 0.02, 0.01], np.float32),
        source_score=np.zeros((len(Source), 4), np.float32),
    )
    vector, spectral = np.array([[1, 2], [0, 0]], np.float32), np.array([[3, -1], [0, 0]], np.float32)
    return Frame(tiny, batch.states, batch.now_s, History.of(batch.states, tiny), vector, spectral, cells)


def test_every_feature_has_its_golden_values_at_its_version(tiny: World) -> None:
    matrix = feature_matrix(frame_by_hand(tiny))
    assert [(f.name, f.version) for f in FEATURES] == list(GOLDEN)
    for column, (definition, values) in enumerate(GOLDEN.items()):
        np.testing.assert_allclose(matrix[:, column], values, rtol=1e-5, atol=1e-6, err_msg=str(definition))


def test_schema_hash_is_pinned() -> None:
    """It ties stored states and bundles to the definitions: it changes with a version, never by accident."""
    assert SCHEMA_HASH == schema_hash(FEATURES, LAYOUT) == GOLDEN_SCHEMA_HASH


@pytest.mark.parametrize(
    "change",
    [{"name": "user_other"}, {"version": 99}, {"default": 0.5}, {"meaning": "something else"}, {"grain": "cell"}],
    ids=lambda change: next(iter(change)),
)
def test_schema_hash_changes_with_a_definition(change: dict) -> None:
    changed = (replace(FEATURES[0], **change), *FEATURES[1:])
    assert schema_hash(changed, LAYOUT) != SCHEMA_HASH


def test_schema_hash_changes_with_order_number_and_state_layout() -> None:
    hashes = {
        SCHEMA_HASH,
        schema_hash((FEATURES[1], FEATURES[0], *FEATURES[2:]), LAYOUT),
        schema_hash(FEATURES[:-1], LAYOUT),
        schema_hash(FEATURES, LAYOUT + 1),
    }
    assert len(hashes) == 4


def test_names_are_unique_and_say_whose_they_are() -> None:
    assert len(set(NAMES)) == len(NAMES) == len(FEATURES)
    grains = {"user": "user_", "item": "item_", "cell": "cross_"}
    assert all(f.name.startswith(grains[f.grain]) for f in FEATURES)
    assert all(f.version >= 1 and f.meaning for f in FEATURES)


def test_unknown_user_and_item_have_the_declared_defaults(tiny: World) -> None:
    """Row 3 is an unknown user offered an item of which nothing is known; the mean rate and the fusion always are."""
    row = feature_matrix(frame_by_hand(tiny))[3]
    always_known = {"item_positive_rate", "cross_retrieval"}
    for value, feature in zip(row, FEATURES, strict=True):
        if feature.name not in always_known:
            assert value == feature.default, feature.name


def test_item_features_do_not_change_when_all_counts_grow_alike(tiny: World) -> None:
    """The ranker learns on an older log than it serves, so a count means only what it is beside the others."""
    stats = tiny.item_stats
    counts = ("popularity", "trend", "trend_day", "trend_year")
    grown = replace(stats, **{name: getattr(stats, name) * 4 for name in counts})
    np.testing.assert_allclose(columns(grown), columns(stats), rtol=1e-6)


def test_items_that_nobody_has_liked_yet_have_the_declared_defaults(tiny: World) -> None:
    nothing = np.zeros_like(tiny.item_stats.popularity)
    counts = ("popularity", "trend", "trend_day", "trend_year")
    found = columns(replace(tiny.item_stats, **dict.fromkeys(counts, nothing)))[:5]
    assert found.tolist() == [[0.0] * 5] * 4 + [[1.0] * 5]


def test_matrix_is_float32_column_major_and_as_long_as_the_candidates(tiny: World) -> None:
    matrix = feature_matrix(frame_by_hand(tiny))
    assert (matrix.dtype, matrix.shape, matrix.flags.f_contiguous) == (np.float32, (4, len(NAMES)), True)


def test_all_features_are_finite_for_every_kind_of_user(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    long_ago = [(item, Verb.HIDE, 1) for item in ids[:70]]
    asks = [Ask(), Ask(long_ago), Ask([("gone", Verb.LIKE, 2**32 - 1)]), Ask([(ids[0], Verb.LIKE, START_S)], now_s=0)]
    batch = batch_of(world, asks)
    matrix = features(world, batch, retrieve(world, batch))
    assert np.isfinite(matrix).all()


def test_difference_names_what_was_added_removed_moved_and_changed() -> None:
    before, after = described(FEATURES), described(FEATURES)
    assert difference(before, after) == []
    after[0] = {**after[0], "version": 2, "default": 0.5}
    after[4], after[5] = after[5], after[4]
    gone = after.pop()
    after.append({**gone, "name": "cross_new", "meaning": "something else"})
    assert difference(before, after) == [
        f"removed: {gone['name']}",
        f"changed: {before[0]['name']}: version 1 -> 2, default 0.0 -> 0.5",
        f"changed: {before[5]['name']}: place 6 -> 5",
        f"changed: {before[4]['name']}: place 5 -> 6",
        f"added: cross_new, version {gone['version']}: something else",
    ]

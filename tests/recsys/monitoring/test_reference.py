"""A bundle's reference is made by the call that measures live lists, is the same for the same seed, and reads back."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from recsys.errors import BundleError
from recsys.features.matrix import NAMES
from recsys.monitoring.measured import measure
from recsys.monitoring.reference import FILE, LAYOUT, Reference, openings, reference_of, shape_of
from recsys.monitoring.series import Key, Series, of_lists
from recsys.training.log import Log
from recsys.training.splits import PROTOCOLS
from recsys.training.train import Trained
from recsys.types import World

KINDS = {"feature", "source", "score", "list", "users", "events"}


def test_reference_knows_every_feature_in_every_segment(trained: Trained) -> None:
    found = {(one.kind, one.subject, one.segment) for one in trained.reference.shapes}
    assert {("feature", name, segment) for name in NAMES for segment in ("all", "new", "light", "heavy")} <= found
    assert {kind for kind, *_ in found} == KINDS
    assert trained.reference.questions > 200


def test_same_questions_measured_again_have_the_means_of_the_reference(
    trained: Trained, world: World, synthetic_dataset: Dataset
) -> None:
    """The same call: what differs between training and service is not how they are measured."""
    log = Log.of(synthetic_dataset)
    asked = openings(log, int(PROTOCOLS["temporal-next"](log, seed=0).questions.now_s.min()))
    known = asked.known(log)
    measured = measure(world, asked.batch(known, np.arange(len(asked)), count=7, seed=99), diversity=0.05)
    shapes = {one.key: one for one in trained.reference.shapes}
    compared = 0
    for one in of_lists(world.bundle, trained.reference.bins, measured):
        if len(one.values):
            means = np.nanmean(one.values, axis=0)
            np.testing.assert_allclose(means, shapes[one.key].mean, atol=1e-6, err_msg=str(one.key))
            compared += 1
    assert compared > 40


def test_reference_is_the_same_for_the_same_seed(trained: Trained, world: World, synthetic_dataset: Dataset) -> None:
    split = PROTOCOLS[trained.protocol](Log.of(synthetic_dataset), seed=world.bundle.recipe.seed)
    again = reference_of(
        world, split.questions, split.history, diversity=0.05, seed=world.bundle.recipe.seed,
        examination=trained.reference.examination,
    )  # fmt: skip
    assert msgspec.json.encode(again) == msgspec.json.encode(trained.reference)


@pytest.mark.parametrize("protocol", ["leave-one-out", "held-out-items", "temporal-static", "strong-generalisation"])
def test_every_protocol_gives_a_reference(protocol: str, world: World, synthetic_dataset: Dataset) -> None:
    split = PROTOCOLS[protocol](Log.of(synthetic_dataset), seed=7)
    found = reference_of(world, split.questions.limited(60, seed=1), split.history, diversity=0.0, seed=7)
    assert found.questions > 1
    assert {one.kind for one in found.shapes} == KINDS


def test_openings_are_first_in_their_hour(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    asked = openings(log, int(log.ts_s[0]))
    assert len(asked) > 500
    states = asked.known(log).states
    assert ((states.length == 0) | (states.ts_s[:, 0] // 3_600 < asked.now_s // 3_600)).all()


def test_errors_count_users_not_rows() -> None:
    """Ten equal rows of each of 20 users are worth 20 rows."""
    values = np.repeat(np.random.default_rng(1).random(20), 10)[:, None]
    series = Series(Key("list", "diversity", "all"), ("x",), values, np.arange(200))
    clustered = shape_of(series, np.repeat(np.arange(20), 10)).error[0]
    assert clustered == pytest.approx(values[::10].std(ddof=1) / np.sqrt(20), rel=1e-6)
    assert shape_of(series, np.arange(200)).error[0] < clustered / 2


def test_what_is_saved_is_read_back(trained: Trained, tmp_path: Path) -> None:
    trained.reference.save(tmp_path)
    assert Reference.load(tmp_path) == trained.reference


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "has no reference distributions"),
        (b"{", "holds no reference distributions"),
        (b"[]", "holds no reference distributions"),
        (b'{"layout": 0}', f"has layout 0, this version reads {LAYOUT}"),
        (b'{"layout": 1}', "holds no reference distributions"),
        (
            b'{"layout": 1, "questions": 1, "diversity": 0, "bins": {}, "shapes": [], "distinct": {}}',
            "knows nothing of cross_als",
        ),
    ],
)
def test_reference_that_cannot_be_used_is_refused_by_name(tmp_path: Path, content: bytes | None, why: str) -> None:
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(BundleError, match=why):
        Reference.load(tmp_path)


def test_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(BundleError, match="cannot be read"):
        Reference.load(tmp_path)

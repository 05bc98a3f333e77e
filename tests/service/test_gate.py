"""The gate lets through what is no worse, and says of the rest which line failed, and by how much."""

from dataclasses import fields, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from recsys.datasets.junk import Junk
from recsys.erased_users import user_digest
from recsys.evaluation import gate as lines
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.compare import Asked
from recsys.evaluation.gate import Line
from recsys.evaluation.report import Report, Row
from recsys.retrieval.faiss_index import FaissIndex
from recsys.training.log import Log
from recsys.training.splits import after
from recsys.training.train import Trained, write
from recsys.types import World
from service.gate import judge
from service.junk import keep_junk
from service.settings import Settings
from service.world import registry


@pytest.fixture
def home(trained: Trained, synthetic_dataset: Dataset, tmp_path: Path) -> tuple[Settings, str, str]:
    """A home with a champion, and a twin of it that differs by what it ranks first."""
    settings = Settings(home=str(tmp_path))
    bundles = registry(settings)
    write(trained, synthetic_dataset, tmp_path / "one", code_commit="0" * 12, parent=None)
    first = bundles.publish(tmp_path / "one")
    bundles.promote(first, reason="first", who="test")
    recipe = msgspec.structs.replace(trained.bundle.recipe, recent_decay=0.6)
    twin = replace(trained, learnt=replace(trained.learnt, bundle=replace(trained.bundle, recipe=recipe)))
    write(twin, synthetic_dataset, tmp_path / "two", code_commit="0" * 12, parent=first)
    return settings, first, bundles.publish(tmp_path / "two")


@pytest.fixture(scope="module")
def asked(synthetic_dataset: Dataset, trained: Trained) -> Asked:
    split = after(Log.of(synthetic_dataset), trained.window[1], per_user=5, seed=1)
    return Asked(split.questions, split.known())


def by_name(found: list[Line]) -> dict[str, Line]:
    return {one.name: one for one in found}


def test_a_bundle_that_is_no_worse_passes_every_line(
    home: tuple[Settings, str, str], synthetic_dataset: Dataset
) -> None:
    settings, _, second = home
    found = judge(settings, second, synthetic_dataset)
    assert [one for one in found if not one.passed] == []
    assert len(found) == len(by_name(found)) == 11
    assert "difference" in by_name(found)["NDCG@10 beside the champion"].found


def test_without_a_champion_or_data_the_lines_that_need_none_are_asked(
    home: tuple[Settings, str, str], synthetic_dataset: Dataset
) -> None:
    settings, first, second = home
    assert len(judge(settings, first, synthetic_dataset)) == 4
    without = by_name(judge(settings, second, None))
    alone = {"files", "load and warm-up", "user states", "beside simple pipelines"}
    assert set(without) == alone | {"beside the champion", "memory, as mapped files", "recorded lists"}
    assert "nothing is imported" in without["beside the champion"].found
    assert not without["beside the champion"].passed


def test_a_damaged_bundle_fails_at_the_first_line(home: tuple[Settings, str, str], synthetic_dataset: Dataset) -> None:
    settings, _, second = home
    path = next(registry(settings).path(second).glob("*.npy"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (only,) = judge(settings, second, synthetic_dataset)
    assert not only.passed
    assert path.name in only.found


def test_a_bundle_that_nobody_can_be_asked_about_does_not_pass(
    home: tuple[Settings, str, str], synthetic_dataset: Dataset
) -> None:
    settings, _, second = home
    of = synthetic_dataset.events
    events = replace(of, **{one.name: getattr(of, one.name)[:10] for one in fields(of)})
    old = replace(synthetic_dataset, events=events)
    assert "nobody liked anything new" in by_name(judge(settings, second, old))["beside the champion"].found


def test_what_was_left_out_of_its_data_is_not_asked(
    home: tuple[Settings, str, str], synthetic_dataset: Dataset
) -> None:
    """Here that is everybody."""
    settings, _, second = home
    everybody = Junk(0, 2**50, blind=tuple(map(user_digest, synthetic_dataset.user_id)))
    keep_junk(settings, second, [everybody])
    assert (
        "nobody liked anything new" in by_name(judge(settings, second, synthetic_dataset))["beside the champion"].found
    )


def test_a_worse_model_is_sent_back_with_its_figures(served: World, asked: Asked) -> None:
    recipe = msgspec.structs.replace(served.bundle.recipe, sources=("POPULAR",))
    worse = replace(served, bundle=replace(served.bundle, ranker=None, recipe=recipe))
    quality, items = lines.quality(worse, served, asked, protocol="p", seed=1)
    assert not quality.passed
    assert "-" in quality.found
    assert not items.passed
    same, _ = lines.quality(served, served, asked, protocol="p", seed=1)
    assert same.passed
    assert "+0.0000 [+0.0000, +0.0000]" in same.found


def test_a_bundle_whose_lists_fall_short_is_found(served: World, asked: Asked) -> None:
    assert lines.short(served, served, asked.questions, asked.known).passed
    gone = replace(served.item_stats, available=np.arange(len(served.item_stats.available)) < 10)
    line = lines.short(replace(served, item_stats=gone), served, asked.questions, asked.known)
    assert not line.passed
    assert line.found.startswith("100.0% and 0.0% of")


def test_an_index_that_lost_items_is_found(served: World, asked: Asked) -> None:
    assert lines.recall(served, asked.questions, asked.known).passed
    table = served.bundle.factors.copy()
    table[::3] = 0
    lost = replace(served, bundle=replace(served.bundle, index=FaissIndex.build(table)))
    line = lines.recall(lost, asked.questions, asked.known)
    assert not line.passed
    assert line.found.startswith("0.")


def test_cost_size_and_records_have_their_limits(served: World, asked: Asked) -> None:
    assert lines.cost(served, served, asked.questions, asked.known).passed
    assert lines.size(2**20, 2**20).passed
    assert not lines.size(4 * 2**20, 2**20).passed
    assert lines.start(9.9).passed
    assert not lines.start(10.1).passed
    assert lines.recorded([], []).passed
    same, other = [["a", "b", "c"]] * 20, [["x", "y", "z"]] * 20
    assert lines.recorded(same, same).found == "20 made again, mean distance 0.00 (0: the same lists)"
    assert not lines.recorded(same, other).passed
    assert lines.recorded(same[1:], other[1:]).passed
    assert "fewer than 20 say nothing" in lines.recorded(same[1:], other[1:]).found


def test_a_bundle_that_popularity_surely_beats_is_below_the_floor() -> None:
    row = Row("two-stage", {"NDCG@10": Interval(0.1, 0.1, 0.1)}, {})
    beaten = {"NDCG@10 over popularity": Interval(-0.02, -0.03, -0.01), "NDCG@10 over champion": Interval(-1, -1, -1)}
    report = Report("p", 1, 1, (row, replace(row, name="popularity"), replace(row, name="champion")), beaten, 1.0)
    assert lines.floor(report) == Line("beside simple pipelines", False, "behind popularity", "surely behind none")
    assert lines.floor(replace(report, differences={})).passed

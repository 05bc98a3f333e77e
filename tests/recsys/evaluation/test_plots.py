"""The picture of a report."""

from pathlib import Path

from recsys.evaluation.plots import plot_pipelines
from recsys.training.train import Trained


def test_picture_is_a_png_and_the_same_for_the_same_report(trained: Trained, tmp_path: Path) -> None:
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    for path in (first, again):
        plot_pipelines(trained.report, "Tiny", path)
    assert first.read_bytes().startswith(b"\x89PNG")
    assert first.read_bytes() == again.read_bytes()

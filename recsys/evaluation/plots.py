"""Pictures of an evaluation, as PNG files."""

from pathlib import Path

from recsys.evaluation.compare import HEADLINE, TWO_STAGE
from recsys.evaluation.report import Report

_OURS, _OTHERS = "#0072B2", "#999999"  # Okabe & Ito, "Color Universal Design", 2008


def plot_pipelines(report: Report, title: str, path: Path, *, metric: str = HEADLINE) -> None:
    """One bar for each pipeline with its 95 % interval, the evaluated bundle first.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # here: the import takes .3 s that only pictures need wait for

    figure = Figure(figsize=(7, 0.45 * len(report.rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = [row.name for row in report.rows]
    values = [row.metrics[metric] for row in report.rows]
    spread = [[one.mean - one.low for one in values], [one.high - one.mean for one in values]]
    colours = [_OURS if name == TWO_STAGE else _OTHERS for name in names]
    axes.barh(names, [one.mean for one in values], xerr=spread, color=colours, capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel(f"{metric}, 95 % intervals over users")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})

"""Pictures of an evaluation, as PNG files."""

from pathlib import Path

from recsys.evaluation.compare import HEADLINE, TWO_STAGE
from recsys.evaluation.report import Report
from recsys.evaluation.trade_off import TradeOff

_OURS, _OTHERS = "#0072B2", "#999999"  # Okabe & Ito, "Color Universal Design", 2008

_GAIN = {"diversity": "intra-list diversity", "novelty": "novelty, bits,"}


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


def plot_trade_off(found: TradeOff, title: str, path: Path) -> None:
    """Quality with its 95 % intervals against what each control is for: diversity of a list, novelty of its items.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, points), gain in zip(panels, found.curves().items(), ("diversity", "novelty"), strict=True):
        quality = [point.quality for point in points]
        spread = [[one.mean - one.low for one in quality], [one.high - one.mean for one in quality]]
        at, means = [point.beyond[gain] for point in points], [one.mean for one in quality]
        axes.errorbar(at, means, yerr=spread, color=_OURS, marker="o", capsize=3)
        for point, x, y in zip(points, at, means, strict=True):
            axes.annotate(f"{point.strength:g}", (x, y), textcoords="offset points", xytext=(4, 5), fontsize=8)
        axes.set_title(f"strength of {name}", fontsize=9)
        axes.set_xlabel(f"{_GAIN[gain]} of the first ten")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel(f"{HEADLINE}, 95 % intervals over users")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.savefig(path, dpi=150, metadata={"Software": None})

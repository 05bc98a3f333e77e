"""What the drift monitor sees, as pictures: SVG, to be put on a page."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys.monitoring.figures import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

USUAL, NOW, ALARM = "#999999", "#0072B2", "#D55E00"  # Okabe & Ito, "Color Universal Design", 2008


def drawing(width: float, height: float) -> "Drawing":
    """An empty picture, in inches."""
    from matplotlib.figure import Figure as Drawing  # here: the import takes .3 s that only pictures need wait for

    return Drawing(figsize=(width, height), layout="constrained")


def svg(picture: "Drawing") -> str:
    """As text for a page; the same picture gives the same text."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.hashsalt": "riffle", "svg.fonttype": "none"}):
        picture.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]


def strength(figure: Figure) -> float:
    """How near evidence is to an alarm: 0 none, 1 there."""
    return max(0.0, min(1.0, math.log(max(figure.evidence, 1)) / math.log(figure.threshold)))


def overview(figures: Sequence[Figure]) -> "Drawing":
    """A row for everything that is watched, a column for each segment; the darker, the more evidence."""
    rows = list(dict.fromkeys((one.kind, one.subject) for one in figures))
    columns = list(dict.fromkeys(one.segment for one in figures))
    table = np.full((len(rows), len(columns)), np.nan)
    marks = []
    for one in figures:
        place = rows.index((one.kind, one.subject)), columns.index(one.segment)
        table[place] = strength(one)
        if one.alarm:
            marks.append(place)
    picture = drawing(3.6 + 0.7 * len(columns), 1.0 + 0.17 * len(rows))
    axes = picture.subplots()
    shown = axes.imshow(table, aspect="auto", cmap="Blues", vmin=0, vmax=1)
    for row, column in marks:
        axes.text(column, row, "●", color=ALARM, ha="center", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [f"{kind} {subject}" for kind, subject in rows], fontsize=7)
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.xaxis.tick_top()
    bar = picture.colorbar(shown, ax=axes, shrink=0.3)
    bar.set_label("evidence, as a share of an alarm's (log)", fontsize=8)
    return picture


def histogram(figure: Figure) -> "Drawing":
    """Usual and recent means of the components of one series, and the band in which nothing is the matter."""
    picture = drawing(4.6, 2.5)
    axes = picture.subplots()
    place = np.arange(len(figure.components))
    axes.bar(place - 0.2, figure.usual, 0.4, color=USUAL, label="usual")
    axes.bar(place + 0.2, figure.now, 0.4, color=ALARM if figure.alarm else NOW, label="now")
    low, high = np.maximum(figure.low, 0), np.minimum(figure.high, 1)
    axes.vlines(place, low, high, color="#000000", linewidth=1)
    axes.set_xticks(place, figure.components, rotation=40, ha="right", fontsize=7)
    axes.set_title(f"{figure.kind} {figure.subject}, {figure.segment}: {figure.rows:,} rows", loc="left", fontsize=9)
    axes.legend(fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return picture


def timeline(days: Mapping[str, Mapping[str, Sequence[float]]], alarms_of_day: Mapping[str, str]) -> "Drawing":
    """Daily means of what says most in one line each, and when alarms came on."""
    names = list(dict.fromkeys(name for of in days.values() for name in of))
    dates = sorted(days)
    picture = drawing(9.4, 0.6 + 0.95 * max(len(names), 1))
    panels: Any = picture.subplots(max(len(names), 1), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(panels, names, strict=False):
        pairs = [days[date].get(name, (0.0, 0.0)) for date in dates]
        means = [total / count if count else math.nan for total, count in pairs]
        axes.plot(range(len(dates)), means, color=NOW, marker="o", markersize=3)
        axes.set_ylim(0, max((1.15 * one for one in means if one > 0), default=1.0))
        axes.set_title(name, loc="left", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        for date in alarms_of_day:
            if date in dates:
                axes.axvline(dates.index(date), color=ALARM, linewidth=1)
    every = max(1, len(dates) // 10)
    panels[-1].set_xticks(range(0, len(dates), every), dates[::every], fontsize=7)
    return picture

"""Intervals of an experiment as a picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOM = 1.5  # of the scale beside an interval


class Interval(NamedTuple):
    """What is drawn in a line: an estimate, in an interval that holds always and in a narrower one of one look."""

    name: str
    middle: float
    low: float
    high: float
    fixed_low: float
    fixed_high: float


def scale_of(intervals: Sequence[Interval]) -> float:
    """How far a common scale goes to both sides of 0, with room for a middling interval; 0 where none is finite."""
    reaches = [max(abs(one.fixed_low), abs(one.fixed_high)) for one in intervals]
    finite = [reach for reach in reaches if math.isfinite(reach)]
    return ROOM * median(finite) if finite else 0.0


def plot_intervals(intervals: Sequence[Interval], what: str, title: str, path: Path) -> None:
    """A line for each, on one scale; what goes on beyond it ends in an arrow.

    Args:
        what: Label of the scale.
    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # here: the import takes .3 s that only pictures need wait for

    limit = scale_of(intervals) or 1.0
    figure = Figure(figsize=(9, 1.6 + 0.45 * max(1, len(intervals))), layout="constrained")
    axes = figure.subplots()
    for place, one in enumerate(reversed(intervals)):
        if math.isnan(one.low) or math.isnan(one.high):
            continue
        axes.plot([max(one.low, -limit), min(one.high, limit)], [place, place], color="#0072B2", linewidth=2)
        for is_beyond, at, mark in ((one.low < -limit, -limit, "<"), (one.high > limit, limit, ">")):
            if is_beyond:
                axes.plot([at], [place], mark, color="#0072B2", clip_on=False)
        axes.plot([one.fixed_low, one.fixed_high], [place, place], color="#E69F00", linewidth=6, alpha=0.6)
        if abs(one.middle) <= limit:
            axes.plot([one.middle], [place], "o", color="#000000")
    axes.axvline(0, color="#999999", linewidth=1)
    axes.set_xlim(-limit, limit)
    axes.set_yticks(range(len(intervals)), [one.name for one in reversed(intervals)])
    axes.set_xlabel(f"{what}\nthin: valid whenever one looks (an arrow: goes on); thick: for one look at the end")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})

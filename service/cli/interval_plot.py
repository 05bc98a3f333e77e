"""Intervals as lines of text, one below the other on one scale."""

import math
from collections.abc import Sequence

from recsys.experiments.plots import Interval, scale_of

WIDEST, NARROWEST = 61, 21  # characters of a line; odd, so that 0 has one of its own
FIGURE = 14  # characters for the estimate beside it, and gaps


def interval_plot(intervals: Sequence[Interval], columns: int, unit: str = "") -> list[str]:
    """A line for each interval, and the scale below; what goes on beyond the scale ends in an arrow.

    Args:
        columns: That the terminal has. unit: Of the scale, behind its numbers.
    Returns:
        Lines of text; none where no interval of one look is finite, or the terminal has no room.
    """
    limit = scale_of(intervals)
    names = max((len(one.name) for one in intervals), default=0)
    width = min(WIDEST, columns - names - FIGURE)
    width -= 1 - width % 2
    if not limit or width < NARROWEST:
        return []
    lines = [f"  {one.name:<{names}}  {_line(one, limit, width)}  {one.middle:+.3g}{unit}" for one in intervals]
    ends = f"{-limit:.3g}{unit}", f"{limit:+.3g}{unit}"
    half = width // 2
    scale = f"{ends[0]:<{half}}0{ends[1]:>{half}}"
    return [*lines, f"  {'':<{names}}  {scale}"]


def _line(one: Interval, limit: float, width: int) -> str:
    cells = [" "] * width
    cells[width // 2] = "┊"
    for low, high, mark in ((one.low, one.high, "─"), (one.fixed_low, one.fixed_high, "━")):
        for place in range(_place(low, limit, width), _place(high, limit, width) + 1):
            cells[place] = mark
    if one.low < -limit:
        cells[0] = "◂"
    if one.high > limit:
        cells[-1] = "▸"
    if abs(one.middle) <= limit:
        cells[_place(one.middle, limit, width)] = "●"
    return "".join(cells)


def _place(value: float, limit: float, width: int) -> int:
    """The character that a value is at, within the line."""
    if math.isnan(value):
        return width // 2
    share = (min(max(value, -limit), limit) + limit) / (2 * limit)
    return round(share * (width - 1))

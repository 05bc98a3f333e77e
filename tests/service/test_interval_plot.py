"""Intervals in a terminal: on one scale, in their order, with arrows where they go on."""

import math
from pathlib import Path

from recsys.experiments.plots import Interval, plot_intervals
from service.cli.interval_plot import FIGURE, NARROWEST, interval_plot

WIDTH = 49
COLUMNS = WIDTH + len("longer") + FIGURE
HALF = WIDTH // 2


def line(*bounds: float) -> str:
    """The line of an interval beside one that makes the scale -15 to 15."""
    longer = Interval("longer", 0.0, -10.0, 10.0, -10.0, 10.0)
    lines = interval_plot([Interval("a", *bounds), longer, longer], COLUMNS, " %")
    assert lines[-1] == f"{'':10}-15 %{'':{HALF - 5}}0{'+15 %':>{HALF}}"
    assert lines[0].startswith("  a       ")
    return lines[0][10 : 10 + WIDTH]


def test_an_interval_is_where_its_numbers_are() -> None:
    drawn = line(5.0, -5.0, 15.0, 2.5, 7.5)
    assert drawn.index("●") == HALF + 8
    assert (drawn.index("━"), drawn.rindex("━")) == (HALF + 4, HALF + 12)
    assert (drawn.index("─"), drawn.rindex("─")) == (HALF - 8, WIDTH - 1)
    assert drawn[: HALF - 8].strip() == ""


def test_zero_is_marked_where_no_interval_has_it_and_arrows_say_that_it_goes_on() -> None:
    assert line(9.5, 9.0, 14.0, 9.2, 9.9)[HALF] == "┊"
    drawn = line(0.0, -math.inf, 20.0, -10.0, 10.0)
    assert (drawn[0], drawn[-1], drawn[HALF]) == ("◂", "▸", "●")


def test_what_has_no_number_yet_draws_nothing() -> None:
    nan = math.nan
    assert interval_plot([], 80) == []
    assert interval_plot([Interval("a", nan, -math.inf, math.inf, -math.inf, math.inf)], 80) == []
    lines = interval_plot([Interval("a", nan, nan, nan, nan, nan), Interval("b", 1, -2, 2, -1, 1)], 80)
    assert len(lines) == 3
    assert "●" not in lines[0]


def test_a_terminal_that_is_too_narrow_gets_no_plot_and_a_line_never_wraps() -> None:
    some = [Interval("mixed: lists clicked", -123.4, -200, 10, -150, 5)]
    assert interval_plot(some, len(some[0].name) + FIGURE + NARROWEST - 1, " %") == []
    for columns in range(60, 130):
        lines = interval_plot(some, columns, " %")
        assert lines
        assert max(map(len, lines)) <= columns


def test_a_picture_is_drawn_of_what_is_finite_and_of_what_is_not(tmp_path: Path) -> None:
    nan, inf = math.nan, math.inf
    some = [
        Interval("known", 5.0, -5.0, 15.0, 2.5, 7.5),
        Interval("open", 1.0, -inf, inf, -2.0, 4.0),
        Interval("nothing", nan, nan, nan, nan, nan),
    ]
    plot_intervals(some, "change in percent", "one", tmp_path / "some.png")
    plot_intervals([], "change in percent", "none", tmp_path / "none.png")
    assert (tmp_path / "some.png").stat().st_size > (tmp_path / "none.png").stat().st_size > 1_000

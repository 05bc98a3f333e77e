"""A challenger is promoted only if it is surely better, and the reason says by how much."""

from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.gate import Line
from recsys.retraining.worth import worth

FILES = Line("files", True, "4 files", "as published")


def beside(low: float, high: float) -> Line:
    difference = Interval((low + high) / 2, low, high)
    return Line("NDCG@10 beside the champion", True, f"difference {difference.mean:+.3f}", "no loss", difference)


def test_surely_better_is_worth_it() -> None:
    assert worth([FILES, beside(0.001, 0.01)]).outcome == "better"


def test_no_worse_is_not_enough() -> None:
    found = worth([FILES, beside(-0.001, 0.01)])
    assert (found.outcome, found.reason) == ("no better", "NDCG@10 beside the champion: difference +0.005")


def test_a_line_that_is_not_met_refuses_whatever_the_gain() -> None:
    found = worth([Line("index", False, "0.90", "0.95"), beside(0.1, 0.2)])
    assert (found.outcome, found.reason) == ("refused", "index: 0.90, wanted 0.95")


def test_the_first_champion_need_not_be_better_than_any() -> None:
    assert worth([FILES]).outcome == "better"

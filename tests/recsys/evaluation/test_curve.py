"""A curve as a table and as a picture."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.curve import Curve
from recsys.evaluation.report import Report, Row

NAMES = ("ours", "theirs & <others>")


def report(ours: float, theirs: float, users: int) -> Report:
    rows = tuple(
        Row(
            name,
            {metric: Interval(mean, mean / 2, mean * 1.5) for metric in ("NDCG@10", "Recall@20")},
            {"coverage": 0.5},
        )
        for name, mean in zip(NAMES, (ours, theirs), strict=True)
    )
    differences = {
        f"{metric} over {NAMES[1]}": Interval(ours - theirs, -0.01, 0.125) for metric in ("NDCG@10", "Recall@20")
    }
    return Report("Asked so.", 5 * users, users, rows, differences, 0.9)


@pytest.fixture(scope="module")
def curve() -> Curve:
    return Curve("Asked so.", 1234, ((0, report(0.1, 0.1, 1200)), (3, report(0.2, 0.1, 900))))


def test_markdown_has_a_row_for_each_point_and_pipeline_and_what_ours_is_ahead(curve: Curve) -> None:
    assert curve.markdown().splitlines() == [
        "Asked so. 1,234 new users.",
        "",
        "| known | users |  | NDCG@10 | Recall@20 | two-stage ahead, NDCG@10 |",
        "|---|---|---|---|---|---|",
        "| 0 | 1,200 | ours | 0.100 [0.050, 0.150] | 0.100 [0.050, 0.150] |  |",
        "|  |  | theirs & <others> | 0.100 [0.050, 0.150] | 0.100 [0.050, 0.150] | +0.000 [-0.010, +0.125] |",
        "| 3 | 900 | ours | 0.200 [0.100, 0.300] | 0.200 [0.100, 0.300] |  |",
        "|  |  | theirs & <others> | 0.100 [0.050, 0.150] | 0.100 [0.050, 0.150] | +0.100 [-0.010, +0.125] |",
    ]


def test_conditions_are_in_the_json_and_end_the_markdown(curve: Curve) -> None:
    made = replace(curve, conditions={"commit": "abc", "seed": 7})
    assert made.markdown().endswith("\n\ncommit abc; seed 7.\n")
    assert made.to_json()["conditions"] == {"commit": "abc", "seed": 7}
    assert [(one["known"], one["users"]) for one in made.to_json()["points"]] == [(0, 1200), (3, 900)]


def test_differences_are_those_of_one_metric(curve: Curve) -> None:
    assert [(known, name, one.mean) for known, name, one in curve.differences("Recall@20")] == [
        (0, NAMES[1], 0.0),
        (3, NAMES[1], 0.1),
    ]


def test_picture_is_well_formed_and_names_title_pipelines_and_points(curve: Curve) -> None:
    root = ET.fromstring(curve.svg("Mine & yours"))
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "Mine & yours"
    assert {*NAMES, "0", "3"} <= set(texts)


def test_higher_values_are_drawn_higher_and_everything_inside_the_picture(curve: Curve) -> None:
    root = ET.fromstring(curve.svg("x"))
    drawn = [path.get("d", "") for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("fill") == "none"]
    ours, theirs = ([float(y) for y in re.findall(r"[\d.]+ ([\d.]+)", path)] for path in drawn)
    assert ours[0] == theirs[0] == theirs[1]
    assert ours[1] < ours[0]  # y grows downwards
    width, height = (float(one) for one in root.get("viewBox", "").split()[2:])
    for path in root.iter("{http://www.w3.org/2000/svg}path"):
        for x, y in re.findall(r"([\d.]+) ([\d.]+)", path.get("d", "")):
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height


def test_curve_of_zeros_can_be_drawn() -> None:
    ET.fromstring(Curve("", 2, ((0, report(0.0, 0.0, 2)),)).svg("nothing was found"))


def test_point_with_the_fewest_users_gives_the_hint(curve: Curve) -> None:
    few = Curve("Asked so.", 90, ((0, report(0.1, 0.1, 90)), (5, report(0.1, 0.1, 12)), (10, report(0.1, 0.1, 20))))
    assert curve.few_users_hint() == ""
    assert few.few_users_hint().startswith("5 known: Only 12 users: ")
    assert few.markdown().splitlines()[0] == f"Asked so. 90 new users. {few.few_users_hint()}"

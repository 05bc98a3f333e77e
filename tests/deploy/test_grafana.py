"""The dashboards are what their tables say, and ask for metrics and labels that the service exports."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana import boards
from tests.deploy.exported import HAPROXY, OURS, grouped, labels, named

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
BOARDS: list[dict[str, Any]] = [
    json.loads(path.read_text("utf-8")) for path in sorted((GRAFANA / "dashboards").glob("*.json"))
]
QUERIES = [
    (f"{board['title']}: {panel['title']}", target["expr"])
    for board in BOARDS
    for panel in board["panels"]
    for target in panel["targets"]
]
of_each_query = pytest.mark.parametrize(("where", "query"), QUERIES)


def test_files_are_what_the_tables_say() -> None:
    files = boards.files()
    assert {path.name for path in (GRAFANA / "dashboards").iterdir()} == {path.name for path in files}
    for path, text in files.items():
        assert path.read_text("utf-8") == text, "run python deploy/grafana/boards.py"


def test_each_of_the_five_questions_has_its_dashboard() -> None:
    assert {board["uid"] for board in BOARDS} == {
        *("riffle-service", "riffle-recommendations", "riffle-data", "riffle-experiments", "riffle-capacity")
    }


@of_each_query
def test_panel_asks_for_metrics_that_are_exported(where: str, query: str) -> None:
    assert named(query) or query.startswith("vector("), where
    assert set(named(query)) <= set(OURS) | HAPROXY


@of_each_query
def test_panel_selects_and_groups_by_labels_that_its_metrics_have(where: str, query: str) -> None:
    for name, selected in labels(query).items():
        assert selected <= (set(OURS[name].tags) if name in OURS else {"proxy", "code"}), where
    known = {tag for name in named(query) if name in OURS for tag in OURS[name].tags} | {"code"}
    assert grouped(query) <= known, where


@of_each_query
def test_panel_asks_counters_for_their_rate_and_gauges_as_they_are(where: str, query: str) -> None:
    for name in named(query):
        is_counter = OURS[name].kind == "counter" if name in OURS else name.endswith("_total")
        assert (f"rate({name}" in query or f"increase({name}" in query) == is_counter, where


def test_every_metric_of_ours_is_on_a_panel_or_in_a_rule() -> None:
    from tests.deploy.test_alerts import RULES

    asked = {name for _, query in QUERIES for name in named(query)}
    asked |= {name for rule in RULES for name in named(rule["expr"])}
    sums = {name for name in OURS if name.endswith("_sum_total")}  # for means, which no panel shows
    assert set(OURS) - asked - sums == set()


def test_panels_do_not_overlap() -> None:
    for board in BOARDS:
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
        assert len(set(places)) == len(places)


def test_dashboards_ask_the_data_source_that_is_provided() -> None:
    provided = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "datasources.yaml").read_text("utf-8"))
    known = {source["uid"] for source in provided["datasources"]}
    asked = {
        target["datasource"]["uid"] for board in BOARDS for panel in board["panels"] for target in panel["targets"]
    }
    assert asked <= known

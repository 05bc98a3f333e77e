"""The alert rules name metrics that are exported, and sections of the runbook that exist and say what to do."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import metrics
from service.telemetry.requests import BOUNDS_S
from service.updater import EFFECT_BOUNDS_S
from tests.deploy.exported import HAPROXY, OURS, PROMETHEUS, grouped, labels, named

ROOT = Path(__file__).resolve().parents[2]
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
of_each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


def sections() -> list[str]:
    """Headings of the runbook as links find them."""
    return [heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)]


@of_each_rule
def test_rule_is_well_formed(rule: dict[str, Any]) -> None:
    assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "runbook"}
    assert re.fullmatch(r"\d+[sm]", rule.get("for", "0s"))
    for left, right in ("()", "{}", "[]"):
        assert rule["expr"].count(left) == rule["expr"].count(right)


@of_each_rule
def test_rule_names_metrics_that_are_exported(rule: dict[str, Any]) -> None:
    assert named(rule["expr"])
    assert set(named(rule["expr"])) <= set(OURS) | HAPROXY | PROMETHEUS


@of_each_rule
def test_rule_selects_groups_and_names_labels_that_its_metrics_have(rule: dict[str, Any]) -> None:
    for name, selected in labels(rule["expr"]).items():
        assert selected <= (set(OURS[name].tags) if name in OURS else {"proxy", "code"})
    known = {tag for name in named(rule["expr"]) if name in OURS for tag in OURS[name].tags}
    assert grouped(rule["expr"]) <= known
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert shown <= grouped(rule["expr"]) | ({"job", "instance"} if "up{" in rule["expr"] else set())


@of_each_rule
def test_counters_are_asked_for_their_rate_and_gauges_are_not(rule: dict[str, Any]) -> None:
    for name in set(named(rule["expr"])) & set(OURS):
        is_asked = f"rate({name}" in rule["expr"] or f"increase({name}" in rule["expr"]
        assert is_asked == (OURS[name].kind == "counter")


def test_every_rule_has_its_section_of_the_runbook_and_no_section_is_without_a_rule() -> None:
    linked = [rule["annotations"]["runbook"].removeprefix("docs/runbook.md#") for rule in RULES]
    assert list(dict.fromkeys(linked)) == sections()


@pytest.mark.parametrize("section", RUNBOOK.split("\n## ")[1:], ids=lambda text: text.partition("\n")[0])
def test_section_says_what_it_means_where_to_look_what_to_do_and_when_it_is_over(section: str) -> None:
    paragraphs = [paragraph.partition(" ")[0] for paragraph in section.split("\n\n")[2:]]
    assert paragraphs[-3:] == ["Look", "Do:", "Over:"]


def test_runbook_names_metrics_that_are_exported() -> None:
    assert set(re.findall(r"\bray_riffle_\w+", RUNBOOK)) <= set(OURS)


def test_operations_page_lists_every_alert_in_order() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \|.*\| \[.*\]\(runbook\.md#([\w-]+)\) \|$", page, re.MULTILINE)
    assert listed == [
        (rule["alert"], rule["labels"]["severity"], rule["annotations"]["runbook"].partition("#")[2]) for rule in RULES
    ]


def test_limit_of_the_slow_rule_is_a_bound_of_the_histogram() -> None:
    """Between two bounds a quantile is a guess; at a bound it is a count."""
    (slow,) = [rule for rule in RULES if rule["alert"] == "EventToEffectSlow"]
    assert float(slow["expr"].rpartition(">")[2]) in EFFECT_BOUNDS_S


def test_limit_of_the_latency_budget_is_a_bound_of_the_histogram() -> None:
    budgets = [rule for rule in RULES if rule["alert"].startswith("Latency")]
    bounds = {float(bound) for rule in budgets for bound in re.findall(r'le="([\d.]+)"', rule["expr"])}
    assert bounds == {0.1}
    assert bounds <= set(BOUNDS_S)


def test_the_service_tells_every_metric() -> None:
    sources = [path for path in (ROOT / "service").rglob("*.py") if path != Path(metrics.__file__)]
    nodes = [node for path in sources for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    used = {
        getattr(metrics, node.attr)
        for node in nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "metrics" and node.attr.isupper()
    } - {metrics.ALL}
    told = {one for found in used for one in (found if isinstance(found, metrics.Distribution) else (found,))}
    assert told == set(metrics.ALL)
    names = {metric.name for metric in metrics.ALL}
    assert not [node.value for node in nodes if isinstance(node, ast.Constant) and node.value in names]

"""The alert rules name metrics that are exported, and sections of the runbook that exist."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import metrics
from service.updater import EFFECT_BOUNDS_S

ROOT = Path(__file__).resolve().parents[2]
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
EXPOSED = {metric.exposed: metric for metric in metrics.ALL}
of_each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


def named(expression: str) -> list[str]:
    return re.findall(r"\bray_\w+", expression)


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
def test_rule_names_metrics_that_the_service_exports(rule: dict[str, Any]) -> None:
    assert named(rule["expr"])
    assert set(named(rule["expr"])) <= set(EXPOSED)


@of_each_rule
def test_counters_are_asked_for_their_rate_and_gauges_are_not(rule: dict[str, Any]) -> None:
    for name in named(rule["expr"]):
        assert (f"rate({name}" in rule["expr"]) == (EXPOSED[name].kind == "counter")


def test_every_rule_has_its_section_of_the_runbook_and_no_section_is_without_a_rule() -> None:
    linked = [rule["annotations"]["runbook"].removeprefix("docs/runbook.md#") for rule in RULES]
    assert linked == sections()


def test_runbook_names_metrics_that_the_service_exports() -> None:
    assert set(named(RUNBOOK)) <= set(EXPOSED)


def test_limit_of_the_slow_rule_is_a_bound_of_the_histogram() -> None:
    """Between two bounds a quantile is a guess; at a bound it is a count."""
    (slow,) = [rule for rule in RULES if rule["alert"] == "EventToEffectSlow"]
    assert float(slow["expr"].rpartition(">")[2]) in EFFECT_BOUNDS_S


def test_the_application_gives_ray_every_metric_and_no_other() -> None:
    everything = [
        node
        for name in ("app", "log_followers", "ray_metrics")
        for node in ast.walk(ast.parse((ROOT / "service" / f"{name}.py").read_text("utf-8")))
    ]
    nodes = [node for node in everything if isinstance(node, ast.Attribute)]
    used = {
        getattr(metrics, node.attr) for node in nodes if ast.unparse(node.value) == "metrics" and node.attr.isupper()
    }
    assert used == set(metrics.ALL)
    made = {node.attr for node in nodes if ast.unparse(node.value) == "ray_metrics"}
    assert made == {"Counter", "Gauge"}  # made from a Metric, in one place each
    assert not [node for node in everything if isinstance(node, ast.Constant) and str(node.value)[:7] == "riffle_"]

"""Prometheus itself tries the alert rules: each is fired by the metric it is for, and silent without it."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.test_alerts import RULES

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
SUITES = sorted(HERE.glob("*_test.yaml"))
CHECKS: list[dict[str, Any]] = [
    check
    for suite in SUITES
    for test in yaml.safe_load(suite.read_text("utf-8"))["tests"]
    for check in test["alert_rule_test"]
]


@pytest.fixture(scope="module")
def promtool() -> str:
    """What `make test` puts beside this Python; else the one on PATH."""
    found = shutil.which("promtool", path=str(Path(sys.executable).parent)) or shutil.which("promtool")
    if found is None:
        pytest.skip("there is no promtool: `make test` takes it from Debian's package `prometheus`, where apt has it")
    return found


def run(promtool: str, *words: str) -> None:
    done = subprocess.run([promtool, *words], cwd=HERE, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration_and_rules_are_such(promtool: str) -> None:
    run(promtool, "check", "config", str(ROOT / "deploy" / "prometheus" / "prometheus.yaml"))


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.stem)
def test_rules_fire_and_are_silent_as_expected(promtool: str, suite: Path) -> None:
    run(promtool, "test", "rules", suite.name)


def test_every_rule_is_fired_once_at_least_and_silent_once_at_least() -> None:
    fired = {check["alertname"] for check in CHECKS if check["exp_alerts"]}
    silent = {check["alertname"] for check in CHECKS if not check["exp_alerts"]}
    assert fired == silent == {rule["alert"] for rule in RULES}


def test_query_of_every_panel_is_one(promtool: str, tmp_path: Path) -> None:
    """Grafana's own variable aside, Prometheus reads them all."""
    from tests.deploy.test_grafana import QUERIES

    rules = [
        {"record": f"panel_{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, (_, query) in enumerate(QUERIES)
    ]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    run(promtool, "check", "rules", str(path))

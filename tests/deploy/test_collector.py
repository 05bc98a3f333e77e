"""The collector's configuration is whole: what pipelines name is defined, and it listens where the service sends."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "otel" / "collector.yaml").read_text("utf-8"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))


def test_pipelines_name_what_is_defined_and_all_of_it() -> None:
    pipelines = CONFIG["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert {name for pipeline in pipelines for name in pipeline[kind]} == set(CONFIG[kind])
    assert set(CONFIG["service"]["extensions"]) == set(CONFIG["extensions"])


def test_flood_is_refused_before_anything_is_held() -> None:
    for pipeline in CONFIG["service"]["pipelines"].values():
        assert pipeline["processors"][0] == "memory_limiter"


def test_service_sends_where_the_collector_listens_and_the_collector_where_traces_are_kept() -> None:
    sent = COMPOSE["services"]["riffle"]["environment"]["RIFFLE_OTLP_ENDPOINT"]
    port = CONFIG["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert sent == f"http://collector:{port}"
    assert CONFIG["exporters"]["otlp/traces"]["endpoint"].partition(":")[0] in COMPOSE["services"]
    assert "telemetry" in COMPOSE["services"]["riffle"]["networks"]
    for name in ("collector", "traces"):
        assert "telemetry" in COMPOSE["services"][name]["networks"]


def test_prometheus_scrapes_the_ports_of_the_settings_from_within_the_network_of_the_service() -> None:
    from service.settings import Settings

    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yaml").read_text("utf-8"))
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    settings = Settings()
    assert targets == {
        "riffle": [f"127.0.0.1:{settings.metrics_port}"],
        "riffle-haproxy": [f"127.0.0.1:{settings.haproxy_metrics_port}"],
    }
    assert COMPOSE["services"]["prometheus"]["network_mode"] == "service:riffle"

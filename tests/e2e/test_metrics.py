"""Metrics, traces and log lines of a running service, as Prometheus, a collector and a reader of logs find them."""

import json
import re
import time
from datetime import UTC, datetime

import httpx
import pytest

from service import metrics
from service.histogram import INFINITY
from service.stack.log_key import key_file
from service.stack.ray_environment import runtime_folder
from service.telemetry.pseudonyms import Pseudonyms
from tests.deploy.exported import HAPROXY, ONCE_IT_HAPPENS
from tests.e2e.conftest import Riffle

pytestmark = pytest.mark.e2e
WITHIN_S = 60  # the service tells Ray every 5 s, Ray its page every 10 s
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def page(port: int) -> str:
    """A Prometheus page of this machine."""
    return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text


def names(text: str) -> set[str]:
    """Metrics of which a page has a value."""
    return set(re.findall(r"^(\w+)\{", text, re.MULTILINE))


def test_every_metric_has_the_name_that_the_rules_use_and_an_event_is_in_the_histogram(
    colocated: httpx.Client, riffle: Riffle
) -> None:
    item_id = colocated.post("/v1/recommendations", json={"user_id": "metered"}).json()["items"][0]["item_id"]
    event = {"event_id": "metered-1", "type": "click", "user_id": "metered", "item_id": item_id}
    sent = colocated.post("/v1/events", json={"events": [{**event, "ts": datetime.now(UTC).isoformat()}]})
    assert sent.json()["accepted"] == 1
    wanted = {metric.exposed for metric in set(metrics.ALL) - ONCE_IT_HAPPENS}
    counted = rf'^{metrics.EFFECT.buckets.exposed}\{{.*le="{re.escape(INFINITY)}".*\}} [1-9]'
    until = time.monotonic() + WITHIN_S
    while (missing := wanted - names(text := page(riffle.settings.metrics_port))) or not re.search(counted, text, re.M):
        assert time.monotonic() < until, missing
        time.sleep(1)
    ours = {name for name in names(text) if name.startswith("ray_riffle_")}
    assert ours <= {metric.exposed for metric in metrics.ALL}
    assert names(page(riffle.settings.haproxy_metrics_port)) >= HAPROXY


def test_statuses_of_every_kind_are_on_the_page_and_no_id_is(colocated: httpx.Client, riffle: Riffle) -> None:
    assert colocated.post("/v1/recommendations", json={}).status_code in (400, 422)
    assert colocated.get("/nowhere").status_code == 404
    assert colocated.patch("/v1/events").status_code == 405
    assert colocated.get("/v1/recommendations/somebody-in-particular").status_code == 404
    wanted = {("POST", "/v1/recommendations", "400"), ("GET", "none", "404"), ("PATCH", "none", "405")}
    wanted.add(("GET", "/v1/recommendations/{recommendation_id}", "404"))
    until = time.monotonic() + WITHIN_S
    while True:
        text = page(riffle.settings.metrics_port)
        lines = re.findall(r"^ray_riffle_requests_total\{(.*)\} [1-9]", text, re.MULTILINE)
        found = {tuple(re.search(rf'\b{tag}="([^"]*)"', line)[1] for tag in metrics.REQUESTS.tags) for line in lines}  # type: ignore[index]
        if wanted <= found:
            break
        assert time.monotonic() < until, wanted - found
        time.sleep(1)
    assert "somebody" not in text


def test_request_of_a_trusted_caller_is_found_in_its_trace_its_batch_and_the_log(
    colocated: httpx.Client, riffle: Riffle
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "x-request-id": "traced-1"}
    body = colocated.post("/v1/recommendations", json={"user_id": "traced user"}, headers=headers).json()
    until = time.monotonic() + WITHIN_S
    while not (spans := [one for one in riffle.collected.spans if one.trace_id.hex() == TRACE]):
        assert time.monotonic() < until
        time.sleep(0.2)
    by_name = {span.name: span for span in spans}
    assert set(by_name) == {"POST /v1/recommendations", "queue", "features", "retrieve", "rank", "select"}
    server = by_name["POST /v1/recommendations"]
    assert server.parent_span_id.hex() == SPAN
    facts = {one.key: one.value.string_value for one in server.attributes}
    assert facts["riffle.recommendation_id"] == body["recommendation_id"]
    called = Pseudonyms(key_file(riffle.settings).read_text("ascii")).of("traced user")
    assert facts["riffle.user"] == called
    batches = [one for one in riffle.collected.spans if one.name == "micro-batch"]
    (batch,) = [one for one in batches if server.span_id in [link.span_id for link in one.links]]
    assert [link.span_id for link in server.links] == [batch.span_id]
    logs = runtime_folder(riffle.settings) / "ray" / "session_latest" / "logs" / "serve"
    while not (
        lines := [one for path in logs.glob("*Gateway*") for one in path.read_text().splitlines() if TRACE in one]
    ):
        assert time.monotonic() < until
        time.sleep(0.5)
    line = json.loads(lines[0])
    assert (line["riffle.user"], line["request_id"]) == (called, "traced-1")
    assert "traced user" not in lines[0]


def test_collector_is_told_the_same_metrics_as_prometheus(colocated: httpx.Client, riffle: Riffle) -> None:
    assert colocated.post("/v1/recommendations", json={"user_id": "collected"}).status_code == 200
    until = time.monotonic() + WITHIN_S
    wanted = {metric.name for metric in set(metrics.ALL) - ONCE_IT_HAPPENS}
    while missing := wanted - set(riffle.collected.metrics):
        assert time.monotonic() < until, missing
        time.sleep(1)
    assert {one["service.name"] for one in riffle.collected.resources} >= {
        "riffle-gateway",
        "riffle-updater",
        "riffle-rollouts",
    }

"""The metrics as Prometheus finds them: alert rules rely on names that Ray makes of ours."""

import json
import re
import time
from datetime import UTC, datetime

import httpx
import pytest

from service import metrics
from service.histogram import INFINITY
from service.stack.ray_environment import runtime_folder
from tests.e2e.conftest import Riffle

pytestmark = pytest.mark.e2e


def exported(riffle: Riffle) -> str:
    """What every page that Ray wants to have scraped says; empty while there is none."""
    listed = runtime_folder(riffle.settings) / "ray" / "prom_metrics_service_discovery.json"
    targets = [target for entry in json.loads(listed.read_text("utf-8")) for target in entry["targets"]]
    pages = []
    for target in targets:
        try:
            pages.append(httpx.get(f"http://{target}/metrics", timeout=5).text)
        except httpx.HTTPError:
            continue  # nobody there, or not yet
    return "\n".join(pages)


def test_every_metric_has_the_name_that_the_rules_use_and_an_event_is_in_the_histogram(
    colocated: httpx.Client, riffle: Riffle
) -> None:
    item_id = colocated.post("/v1/recommendations", json={"user_id": "metered"}).json()["items"][0]["item_id"]
    event = {"event_id": "metered-1", "type": "click", "user_id": "metered", "item_id": item_id}
    sent = colocated.post("/v1/events", json={"events": [{**event, "ts": datetime.now(UTC).isoformat()}]})
    assert sent.json()["accepted"] == 1
    wanted = {metric.exposed for metric in metrics.ALL}
    until = time.monotonic() + 60  # the service tells Ray every 5 s, Ray its page every 10 s
    while missing := wanted - set(re.findall(r"^(ray_riffle_\w+)\{", page := exported(riffle), re.MULTILINE)):
        assert time.monotonic() < until, missing
        time.sleep(1)
    assert re.search(rf'^{metrics.EFFECT.exposed}\{{.*le="{re.escape(INFINITY)}".*\}} [1-9]', page, re.MULTILINE)

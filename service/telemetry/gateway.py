"""What a gateway tells of itself."""

import time
from collections import Counter

from service import metrics
from service.decisions import DecisionLog
from service.event_backlog import BacklogWatch
from service.gateway import Gateway
from service.shadow import Shadow
from service.telemetry.readings import Readings, Sums
from service.telemetry.requests import RequestWatch

_DEGRADED = "degraded."


def tell_gateway(
    readings: Readings,
    gateway: Gateway,
    requests: RequestWatch,
    decisions: DecisionLog,
    shadow: Shadow,
    backlog: BacklogWatch,
) -> None:
    """Add all of it to the readings of its process."""
    readings.add(metrics.REQUESTS, requests.answered)
    readings.distribution(metrics.REQUEST_S, requests.took_s)
    readings.counts(metrics.GATEWAY, lambda: _counts(gateway, decisions))
    readings.add(metrics.DEGRADED, lambda: _degraded(gateway.counts))
    readings.add(metrics.LISTS, lambda: gateway.lists.made)
    readings.add(metrics.ASSIGNED, lambda: gateway.lists.assigned)
    readings.counts(metrics.CANDIDATES, lambda: gateway.batches.candidates)
    readings.distribution(metrics.STAGE_S, lambda: gateway.batches.stage_s)
    readings.distribution(metrics.BATCH, lambda: gateway.batches.size)
    readings.value(metrics.LOAD, gateway.wait_share)
    readings.value(metrics.ROOM, gateway.room)
    readings.add(metrics.FEATURE_AGE, lambda: _feature_age(gateway.lanes.champion.serving.world.item_stats.version))
    readings.counts(metrics.SHADOW, lambda: {"compared": 0, "dropped": 0, "failed": 0, **shadow.counts})
    readings.value(metrics.WAITING, lambda: backlog.oldest_s)
    readings.value(metrics.DEAD, lambda: backlog.dead)


def _counts(gateway: Gateway, decisions: DecisionLog) -> dict[str, float]:
    own = {what: n for what, n in gateway.counts.items() if not what.startswith(_DEGRADED)}
    return {"answers": 0, "dropped_full": 0, "dropped_error": 0, **own, **decisions.counts, "shed": gateway.shed}


def _degraded(counts: Counter[str]) -> Sums:
    found = [(what.split("."), n) for what, n in counts.items() if what.startswith(_DEGRADED)]
    return {(stage, cause): n for (_, stage, cause), n in found}


def _feature_age(version: str) -> Sums:
    """Seconds since the moment that a snapshot of item stats is of; none of those that the bundle was built with."""
    horizon_ms = version.rpartition(".")[2]
    return {("item_stats",): time.time() - int(horizon_ms) / 1e3} if horizon_ms.isdecimal() else {}

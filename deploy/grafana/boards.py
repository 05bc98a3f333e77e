"""The dashboards as tables: what each panel asks Prometheus. `python deploy/grafana/boards.py` writes the JSON files.

A test holds the files to these tables, and each panel to metrics that the running service exports.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "dashboards"
WINDOW = "[$__rate_interval]"
LISTS = 'route=~"/v1/(recommendations|similar)"'
PROXY = 'proxy="http_frontend"'


class Panel(NamedTuple):
    """A time series. lines: Each a query and what it is called; unit: Of Grafana."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    says: str = ""


class Board(NamedTuple):
    """A dashboard: the question that it answers, and its panels, two in a row."""

    uid: str
    title: str
    question: str
    panels: tuple[Panel, ...]


def rate(name: str, labels: str = "", by: str = "") -> str:
    """Sum of the rates of a counter of ours."""
    return f"sum{f' by ({by})' if by else ''} (rate(ray_{name}_total{{{labels}}}{WINDOW}))"


def counted(name: str, what: str) -> str:
    """Rate of one of the things that a counter of ours counts."""
    return rate(name, f'what="{what}"')


def quantile(share: float, name: str, labels: str = "", by: str = "") -> str:
    """Quantile of a histogram of ours."""
    return f"histogram_quantile({share}, {rate(f'{name}_bucket', labels, f'le, {by}' if by else 'le')})"


def quantiles(name: str, labels: str = "") -> tuple[tuple[str, str], ...]:
    """The median, the tail and its end."""
    return tuple((quantile(share, name, labels), f"p{share * 100:g}") for share in (0.5, 0.99, 0.999))


SERVICE = Board(
    "riffle-service",
    "Riffle: service",
    "Is it up, fast and correct, as its callers see it?",
    (
        Panel("Requests", "reqps", ((rate("riffle_requests", by="route"), "{{route}}"),)),
        Panel(
            "Lists: seconds since HAProxy had them",
            "s",
            quantiles("riffle_request_seconds", LISTS),
            "Objective: p99 below 0.1 s.",
        ),
        Panel("Statuses that gateways sent", "reqps", ((rate("riffle_requests", by="status"), "{{status}}"),)),
        Panel(
            "Statuses that HAProxy sent",
            "reqps",
            ((f"sum by (code) (rate(haproxy_frontend_http_responses_total{{{PROXY}}}{WINDOW}))", "{{code}}"),),
            "What callers see: refused floods, and 503 where no gateway is up, as well.",
        ),
        Panel(
            "Share of errors beside the objective of 0.01 %",
            "percentunit",
            (
                (
                    f'sum(rate(haproxy_frontend_http_responses_total{{{PROXY},code="5xx"}}{WINDOW}))'
                    f" / sum(rate(haproxy_frontend_http_responses_total{{{PROXY}}}{WINDOW}))",
                    "5xx",
                ),
                ("vector(0.0001)", "objective"),
            ),
        ),
        Panel("Stages, p99", "s", ((quantile(0.99, "riffle_stage_seconds", by="stage"), "{{stage}}"),)),
        Panel("Degraded lists", "reqps", ((rate("riffle_degraded", by="stage, cause"), "{{stage}}: {{cause}}"),)),
        Panel("Event to effect", "s", quantiles("riffle_event_to_effect_seconds"), "Objective: p99 below 0.25 s."),
        Panel(
            "Other routes, p99",
            "s",
            ((quantile(0.99, "riffle_request_seconds", by="method, route"), "{{method}} {{route}}"),),
        ),
        Panel(
            "Telemetry that went nowhere",
            "ops",
            ((rate("riffle_telemetry", 'what=~"dropped|refused"', "process, what"), "{{process}}: {{what}}"),),
        ),
    ),
)

RECOMMENDATIONS = Board(
    "riffle-recommendations",
    "Riffle: recommendations",
    "What are the lists made of?",
    (
        Panel("Lists by bundle", "reqps", ((rate("riffle_lists", by="kind, bundle"), "{{kind}} {{bundle}}"),)),
        Panel(
            "Cold starts, as a share",
            "percentunit",
            (
                (
                    f"{counted('riffle_events', 'cold_starts')} / {counted('riffle_events', 'answers')}",
                    "cold starts",
                ),
            ),
        ),
        Panel("Items ruled out, by reason", "ops", ((rate("riffle_candidates", 'what=~"out.*"', "what"), "{{what}}"),)),
        Panel(
            "Candidates of a list",
            "short",
            tuple(
                (f"{counted('riffle_candidates', what)} / {counted('riffle_events', 'answers')}", what)
                for what in ("ranked", "served")
            ),
        ),
        Panel("Lists ranked with less", "reqps", ((rate("riffle_events", 'what="shrunk"'), "shrunk under load"),)),
        Panel("Decision records", "ops", ((rate("riffle_events", 'what=~"written|dropped.*"', "what"), "{{what}}"),)),
    ),
)

DATA = Board(
    "riffle-data",
    "Riffle: data and drift",
    "Are events, features and models fresh, and is the world still the one they were trained in?",
    (
        Panel("Events applied", "ops", ((rate("riffle_updater", by="what"), "{{what}}"),)),
        Panel("Oldest event that no state knows", "s", (("max(ray_riffle_events_waiting_seconds)", "waiting"),)),
        Panel("Age of item stats", "s", (("max by (of) (ray_riffle_feature_age_seconds)", "{{of}}"),)),
        Panel("Dead letters", "short", (("max(ray_riffle_dead_letters)", "entries"),)),
        Panel("Drift alarms", "short", (("max by (kind, subject) (ray_riffle_drift)", "{{kind}}: {{subject}}"),)),
        Panel("Last look for drift", "s", (("min(ray_riffle_drift_looked_seconds)", "ago"),)),
        Panel("Since the last retraining", "s", (("min(ray_riffle_retraining_age_seconds)", "ago"),)),
        Panel(
            "Retraining, runs a day",
            "short",
            (("sum by (what) (increase(ray_riffle_retraining_runs_total[1d]))", "{{what}}"),),
        ),
    ),
)

EXPERIMENTS = Board(
    "riffle-experiments",
    "Riffle: experiments",
    "Who gets what, and can the comparison be trusted? What it says: `riffle experiments report`.",
    (
        Panel(
            "Lists by variant",
            "reqps",
            ((rate("riffle_assigned", by="experiment, variant"), "{{experiment}}: {{variant}}"),),
        ),
        Panel(
            "Shares of variants",
            "percentunit",
            (
                (
                    f"{rate('riffle_assigned', by='experiment, variant')}"
                    f" / on (experiment) group_left {rate('riffle_assigned', by='experiment')}",
                    "{{experiment}}: {{variant}}",
                ),
            ),
        ),
        Panel(
            "Shares are not those asked for",
            "short",
            (("max by (experiment) (ray_riffle_share_mismatch)", "{{experiment}}"),),
        ),
        Panel("Shadow", "ops", ((rate("riffle_shadow", by="what"), "{{what}}"),)),
    ),
)

CAPACITY = Board(
    "riffle-capacity",
    "Riffle: capacity",
    "How much room is left, and where does the time go?",
    (
        Panel(
            "Load of gateways",
            "percentunit",
            (("max(ray_riffle_load)", "busiest"), ("avg(ray_riffle_load)", "mean")),
            "1: lists are refused.",
        ),
        Panel("Room", "short", (("sum(ray_riffle_room)", "lists under way, at most"),)),
        Panel("Refused lists", "reqps", ((rate("riffle_events", 'what="shed"'), "by gateways"),)),
        Panel(
            "Requests in a micro-batch",
            "short",
            (
                (quantile(0.5, "riffle_batch_requests", by="kind"), "p50 {{kind}}"),
                (quantile(0.99, "riffle_batch_requests", by="kind"), "p99 {{kind}}"),
            ),
        ),
        Panel("Wait in the queue", "s", quantiles("riffle_stage_seconds", 'stage="queue"')),
        Panel("Processor", "short", ((rate("riffle_cpu_seconds", by="process"), "{{process}}"),), "Cores."),
        Panel(
            "Event loop: how late it wakes up, p99",
            "s",
            ((quantile(0.99, "riffle_loop_lag_seconds", by="process"), "{{process}}"),),
        ),
        Panel("Connections of HAProxy", "short", ((f"sum(haproxy_frontend_current_sessions{{{PROXY}}})", "open"),)),
    ),
)

BOARDS = (SERVICE, RECOMMENDATIONS, DATA, EXPERIMENTS, CAPACITY)


def board_json(board: Board) -> dict[str, Any]:
    """A dashboard as Grafana has it."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.question,
        "tags": ["riffle"],
        "editable": False,
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "panels": [_panel(number, panel) for number, panel in enumerate(board.panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "prometheus"}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.says,
        "datasource": source,
        "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": source, "expr": query, "legendFormat": called}
            for place, (query, called) in enumerate(panel.lines)
        ],
    }


def files() -> dict[Path, str]:
    """Each file and what is in it."""
    return {FOLDER / f"{board.uid}.json": json.dumps(board_json(board), indent=1) + "\n" for board in BOARDS}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, "utf-8")

"""What a bundle is known not to do well, each limit read off a figure that the bundle itself holds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from recsys.evaluation.bootstrap import FEW_USERS
from recsys.evaluation.report import Report

TEMPORAL = ("temporal-next", "temporal-static")
NAMED = 10  # categories that are named; of more only the number


@dataclass(frozen=True, slots=True)
class Limit:
    """One of them. of: What it concerns, for programs. sentence: With its figures."""

    of: str
    sentence: str


def known_limits(fields: Mapping[str, Any], report: Report, checks: Mapping[str, Any]) -> list[Limit]:
    """All of them.

    Args:
        fields: Of the manifest. checks: What `data_checks.json` holds; empty where there is none.
    """
    return [
        *_data(fields),
        *(Limit("data", f"Data check {one['name']}: {one['sentence']}") for one in _warnings(checks)),
        *_catalogue(fields, report),
        *_figures(fields, report),
        *_segments(report),
    ]


def _data(fields: Mapping[str, Any]) -> Iterator[Limit]:
    dataset = fields["dataset"]
    if dataset["synthetic"]:
        yield Limit("data", "The data are invented: no figure says anything about people.")
    if not dataset["attribution"]:
        yield Limit(
            "licence", "Nobody said who made the data and on what terms: `riffle import --attribution` keeps it."
        )
    window = fields["data_window"]
    split, last = (datetime.fromisoformat(window[name]) for name in ("split", "last"))
    age = datetime.fromisoformat(fields["created"]) - split
    if split < last:
        yield Limit("data", f"Its models know nothing after {window['split']}: the rest of the data judged them.")
    yield Limit("data", f"The newest of what its models know was {age.days:,} days old when it was made.")
    if not fields.get("position_bias"):
        yield Limit("data", "No impressions with positions: what was clicked because it stood on top counts in full.")
    commit = fields["code_commit"]
    if commit == "unknown" or commit.endswith("-dirty"):
        yield Limit("code", f"No commit holds the code that made it ({commit}).")


def _warnings(checks: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (one for one in checks.get("findings", ()) if one["level"] == "warning")


def _catalogue(fields: Mapping[str, Any], report: Report) -> Iterator[Limit]:
    items, learnt = fields["dataset"].get("items"), fields.get("learnt_from")
    if items and learnt and (unmet := items - learnt["liked_items"]):
        yield Limit(
            "items",
            f"{unmet:,} of {items:,} items ({unmet / items:.0%}) had no positive in what was learnt from: nothing but "
            "their titles and categories speaks for them.",
        )
    coverage = report.rows[0].beyond["coverage"]
    if coverage < 1:
        yield Limit("items", f"{1 - coverage:.0%} of the items were in no first ten of {report.questions:,} lists.")
    never = [name for name, one in report.kinds.items() if not one["shown"]]
    if never:
        rest = f" and {len(never) - NAMED} more" if len(never) > NAMED else ""
        yield Limit("items", f"Categories of which no item was in any first ten: {', '.join(never[:NAMED])}{rest}.")


def _figures(fields: Mapping[str, Any], report: Report) -> Iterator[Limit]:
    if fields["protocol"] not in TEMPORAL:
        yield Limit(
            "metrics",
            f"Judged by {fields['protocol']}: how it does on what comes later than its data was not measured.",
        )
    if report.users < FEW_USERS:
        yield Limit("metrics", f"Only {report.users} users were asked: every interval is too narrow.")
    yield Limit("metrics", f"{1 - report.retrieved:.1%} of the right answers were not among the candidates.")
    names, metrics = [row.name for row in report.rows[1:]], list(report.rows[0].metrics)
    for name in names:
        over = {metric: report.differences.get(f"{metric} over {name}") for metric in metrics}
        surely = [metric for metric, one in over.items() if one and one.high < 0]
        perhaps = [metric for metric, one in over.items() if one and one.high >= 0 > one.mean]
        if surely:
            yield Limit("metrics", f"Surely below {name} in {', '.join(surely)} (95 % intervals of the difference).")
        if perhaps:
            yield Limit("metrics", f"Below {name} in {', '.join(perhaps)}, within what chance allows.")


def _segments(report: Report) -> Iterator[Limit]:
    own, *others = (row.name for row in report.rows)
    for segment, one in report.segments.items():
        users = one.get("users")
        if users is not None and users < FEW_USERS:
            yield Limit("segments", f"{segment}: {one['answers']:,.0f} answers of {users:,.0f} users say little.")
        best = max(others, key=lambda name: one[name], default=own)
        if one[best] > one[own]:
            yield Limit(
                "segments",
                f"{segment}: {best} has {one[best]:.3f} of the right answers in its first ten, this bundle "
                f"{one[own]:.3f} (no interval).",
            )
        elif not one[own]:
            yield Limit("segments", f"{segment}: none of the {one['answers']:,.0f} right answers was in a first ten.")

"""The drift report as one page that needs nothing else: what it looks like, then the pictures."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from recsys.monitoring.alarms import Alarm
from recsys.monitoring.causes import Cause
from recsys.monitoring.figures import Figure
from recsys.monitoring.plots import histogram, overview, strength, svg, timeline
from recsys.monitoring.segments import ALL

MOVED = 8  # histograms of what moved most
ALWAYS = ("users", "source", "list", "score", "quality", "events", "traffic", "freshness")  # beside them
QUIET = "No drift: nothing says that a mean has left its tolerance."
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.verdict { border-left: .4rem solid #009E73; padding: .6rem 1rem; background: #f4f4f4 }
.verdict.alarm { border-color: #D55E00 } .grid { display: flex; flex-wrap: wrap; gap: .5rem }
svg { max-width: 100%; height: auto } td, th { text-align: left; padding: .1rem .8rem .1rem 0; font-size: .85rem }
"""


def page(
    title: str,
    *,
    summary: Sequence[str],
    problems: Sequence[str],
    causes: Sequence[Cause],
    alarms: Sequence[Alarm],
    figures: Sequence[Figure],
    days: dict[str, dict[str, list[float]]],
) -> str:
    """HTML with all pictures inside.

    Args:
        summary: Sentences about what was looked at. problems: About what was not.
    """
    parts = [f"<!doctype html><meta charset='utf-8'><title>{escape(title)}</title><style>{_STYLE}</style>"]
    parts += [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(one)}</p>" for one in summary)]
    parts += [f"<p class='verdict alarm'>{escape(one)}</p>" for one in problems]
    if not alarms and figures:
        parts.append(f"<p class='verdict'>{QUIET}</p>")
    for one in causes:
        harm = "harmful" if one.harmful else "not harmful so far"
        head = f"<b>{escape(one.name)}</b> ({escape(one.subject)}), {harm}; {one.remedy.value}"
        parts.append(f"<p class='verdict alarm'>{head}<br>{escape(one.why)}</p>")
    if alarms:
        parts.append("<h2>Alarms</h2><table><tr><th>since (UTC)<th>what<th>usual<th>now<th>evidence</tr>")
        parts += [_row(one) for one in alarms]
        parts.append("</table>")
    if days:
        since = {_day(one.since_s): one.name for one in alarms}
        parts += ["<h2>Day by day</h2>", svg(timeline(days, since))]
    if figures:
        parts += ["<h2>What moved most</h2>", _grid(_moved(figures))]
        parts += ["<h2>All that is watched</h2>", svg(overview(figures))]
        rest = [one for one in figures if one.kind in ALWAYS and one.segment == ALL]
        parts += ["<h2>Lists, users, outcomes</h2>", _grid(rest)]
    return "\n".join(parts) + "\n"


def _grid(figures: Sequence[Figure]) -> str:
    return "\n".join(["<div class='grid'>", *(svg(histogram(one)) for one in figures), "</div>"])


def _moved(figures: Sequence[Figure]) -> list[Figure]:
    """Alarms, then what is nearest to one; one segment of each thing."""
    ranked = sorted(figures, key=lambda one: (not one.alarm, -strength(one), -one.psi))
    first = {(one.kind, one.subject): one for one in reversed(ranked)}
    return sorted(first.values(), key=ranked.index)[:MOVED]


def _row(one: Alarm) -> str:
    moment = datetime.fromtimestamp(one.since_s, UTC).strftime("%Y-%m-%d %H:%M")
    what = f"{one.name}: {one.component}" if one.component else one.name
    return f"<tr><td>{moment}<td>{escape(what)}<td>{one.usual:.3g}<td>{one.now:.3g}<td>{one.evidence:.1e}</tr>"


def _day(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).date().isoformat()

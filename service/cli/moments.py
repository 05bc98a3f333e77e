"""Moments and durations as options of commands: RFC 3339, or a duration back from now."""

import re
from datetime import datetime

import typer

SINCE = "Those from a moment on (RFC 3339) or of the last 30s, 15m, 2h, 7d."
NOTHING = "no answer of that time is on record: nothing was compared"
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def duration_s(text: str) -> int:
    """A duration of at least a second, in seconds. Raises typer.BadParameter."""
    duration = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if duration is None or not int(duration[1]):
        raise typer.BadParameter(f"{text!r} is no duration such as 90s, 10m or 1h")
    return int(duration[1]) * _UNIT_S[duration[2]]


def moment_ms(text: str, now_ms: int) -> int:
    """A moment, or a duration back from `now_ms`, as UTC epoch milliseconds. Raises typer.BadParameter."""
    if duration := re.fullmatch(r"([0-9]{1,18})([smhd])", text):
        if not int(duration[1]):
            raise typer.BadParameter(f"{text!r} is no time at all; give 1s or more")
        return max(0, now_ms - int(duration[1]) * _UNIT_S[duration[2]] * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} is neither 2026-11-23T12:00:00Z, with an offset, nor 30s, 15m, 2h or 7d")
    if (at_ms := int(moment.timestamp() * 1000)) > now_ms:
        raise typer.BadParameter(f"{text!r} is in the future: nothing has been recorded since")
    return max(0, at_ms)

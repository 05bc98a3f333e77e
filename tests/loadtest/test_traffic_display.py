"""What a person sees of the simulated users: lines where there is no terminal, tables that fit where there is."""

import asyncio
import contextlib
import io

import numpy as np
import pytest
from rich.console import Console

from loadtest import traffic_display
from loadtest.tally import EVENTS_FROM, Tally
from loadtest.traffic_display import line, show, tables


@pytest.fixture
def full() -> Tally:
    """As wide as a long run makes it."""
    tally = Tally(20)
    for _ in range(20_000):
        tally.ended(29.0, 0.1234)
        tally.list_came(degraded=True, personalized=True)
    for events in EVENTS_FROM:
        tally.compared(events, served=10.25, popular=10.5, best=12.75)
    for column in (tally.lists_by_events, tally.served, tally.popular, tally.best):
        column *= 2000
    tally.looked_at(np.ones(20, bool), np.full(20, 0.5))
    tally.recorded(accepted=999_999, refused=0)
    return tally


def printed(tally: Tally, now_s: float = 30.0) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(tables(tally, now_s))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_tables_fit_into_80_columns_and_24_lines(full: Tally) -> None:
    lines = printed(full).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "…" not in printed(full)
    assert any("Clicks by place" in one and "Expected clicks of a list" in one for one in lines)  # side by side


def test_tables_show_the_counts(full: Tally) -> None:
    text = printed(full)
    for shown in ("4000.0", "123.4", "20,000", "143%", "999,999", "100.0%", "50.0%", "80 or more", "5 to 9", "10.25"):
        assert shown in text


def test_errors_are_shown_by_kind(full: Tally) -> None:
    full.errors["/v1/recommendations status 429"] += 12
    assert "/v1/recommendations status 429: 12" in printed(full)
    assert line(full, 30.0).endswith("/v1/recommendations status 429: 12")


def test_before_the_first_list_everything_is_zero() -> None:
    assert "lists/s 0.0" in line(Tally(10), 0.0)
    assert "0.0%" in printed(Tally(10), 0.0)


@pytest.mark.parametrize("terminal", [False, True])
def test_counts_are_shown_as_they_grow(full: Tally, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic_display, "LINE_EVERY_S", 0.1)
    monkeypatch.setattr(traffic_display, "REFRESH_S", 0.1)
    console = Console(file=io.StringIO(), width=100, height=40, force_terminal=terminal)

    async def watch() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.35):
                await show(full, console)

    asyncio.run(watch())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("\x1b[" in text) == terminal
    assert text.count("clicks/list") >= 3

"""The options of the load test beside Locust's own; numbers out of range are refused."""

import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from typing import Any

from loadtest.shapes import SHAPES
from loadtest.slo import Limits

# Only plain values: the master sends its options to its workers.


def add_options(parser: ArgumentParser) -> None:
    """Who asks, how, how many, and what a pass is. Only the limits can be changed in the web UI."""
    who = parser.add_argument_group("Visitors", "who asks for what; each visit is of one user")
    add = _adder(who, in_web_ui=False)
    add("--user-ids", type=str, help="file of user ids, one a line; default: the imported data set")
    add("--returning-weight", type=_within(0, 1e6), default=9.0, help="weight of visits by users of that file")
    add("--new-weight", type=_within(0, 1e6), default=1.0, help="weight of visits by users whom nobody has met")
    add("--think-s", type=_within(0, 3600), default=3.0, help="mean seconds from a list to what follows it")
    add("--lists", type=_within(1, 1000), default=4.0, help="mean number of lists of a visit")
    add("--count", type=_whole(1, 500), default=20, help="items of a list")
    add("--click-share", type=_within(0, 1), default=0.5, help="share of lists of which an item is clicked")
    add("--read-on", type=_within(0, 1), default=0.4, help="share of clicks that are followed by similar items")
    add("--load-seed", type=_whole(0, 2**31 - 1), default=7, help="of who asks, thinks and clicks")
    shape = _adder(parser.add_argument_group("Shape"), in_web_ui=False)
    shape("--shape", choices=sorted(SHAPES), default="constant", help="of the load; its peak is --users")
    add = _adder(parser.add_argument_group("A pass", "a run with more than this ends with exit code 1"), in_web_ui=True)
    limits = Limits()
    add("--slo-p99-ms", type=_within(0, 1e6), default=limits.p99_ms, help="p99 of lists, and of events")
    add("--slo-errors", type=_within(0, 100), default=100 * limits.errors, help="percent of requests that fail")
    add("--slo-degraded", type=_within(0, 100), default=100 * limits.degraded, help="percent of lists degraded")
    add("--generator-lag-ms", type=_within(0, 1e6), default=limits.lag_ms, help="lateness of its event loop, p99")
    add("--generator-cpu", type=_within(0, 1e4), default=100 * limits.cpu, help="percent of a core per process")


def limits_of(options: Namespace) -> Limits:
    """What a pass may have at most."""
    return Limits(
        p99_ms=options.slo_p99_ms,
        errors=options.slo_errors / 100,
        degraded=options.slo_degraded / 100,
        lag_ms=options.generator_lag_ms,
        cpu=options.generator_cpu / 100,
    )


def _adder(group: Any, *, in_web_ui: bool) -> Callable[..., None]:
    """`add_argument` of a group that marks what Locust's web UI shows."""

    def add(name: str, **settings: Any) -> None:
        group.add_argument(name, **settings).include_in_web_ui = in_web_ui

    return add


def _within(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            given = float(text)
        except ValueError:
            given = math.nan
        if not low <= given <= high:
            raise ArgumentTypeError(f"{text} is no number from {low:g} to {high:g}")
        return given

    return number


def _whole(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ArgumentTypeError(f"{text} is no whole number from {low} to {high}")
        return int(text)

    return number

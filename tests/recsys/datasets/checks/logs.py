"""A log in which nothing is wrong, for tests that damage one thing of it, and what its checks say."""

from dataclasses import replace

import numpy as np

from recsys.datasets.checks.checks import check
from recsys.datasets.checks.finding import Finding, Level
from recsys.datasets.dataset import Dataset, Events
from recsys.verbs import Verb
from tests.worlds import DAY_S, START_S, Event, dataset_of

EVENTS, USERS, ITEMS = 2000, 80, 40
SPAN_S = 100 * DAY_S + 7 * 3600
CATEGORIES = ("comedy", "drama")


def healthy_events(size: int = EVENTS, users: int = USERS) -> list[Event]:
    """Everybody likes or views something now and then, from first to last, at all hours; no two in one second."""
    rng = np.random.default_rng(1)
    user, item = rng.integers(users, size=size).tolist(), (ITEMS * rng.random(size) ** 1.5).astype(int).tolist()
    verb = [Verb.LIKE if one else Verb.VIEW for one in rng.random(size) < 0.5]
    return [
        (f"user-{user}", f"item-{item}", verb, START_S + SPAN_S * place // size)
        for place, (user, item, verb) in enumerate(zip(user, item, verb, strict=True))
    ]


def shelf(events: list[Event]) -> dict[str, list[str]]:
    """The items of a log, each of a category."""
    return {item: [CATEGORIES[place % 2]] for place, item in enumerate(sorted({item for _, item, *_ in events}))}


def log_of(events: list[Event]) -> Dataset:
    return dataset_of(events, shelf(events))


def healthy() -> Dataset:
    return log_of(healthy_events())


def with_columns(dataset: Dataset, **columns: np.ndarray) -> Dataset:
    """Other columns of events."""
    return replace(dataset, events=replace(dataset.events, **columns))


def with_value(dataset: Dataset, column: str, place: int | slice, value: float) -> Dataset:
    """Another value in one place or several of a column."""
    changed = getattr(dataset.events, column).copy()
    changed[place] = value
    return with_columns(dataset, **{column: changed})


def repeated(dataset: Dataset, places: np.ndarray) -> Dataset:
    """With some events a second time, each right after the first."""
    order = np.sort(np.concatenate([np.arange(len(dataset.events)), places]))
    return with_columns(dataset, **{name: getattr(dataset.events, name)[order] for name in Events.__annotations__})


def of_level(dataset: Dataset, *levels: Level) -> list[str]:
    """Names of the findings of some levels."""
    return [one.name for one in check(dataset).of_level(*levels)]


def only(dataset: Dataset, name: str, level: Level) -> Finding:
    """The finding of this name, which is the only one of its level and the worst there is."""
    findings = check(dataset).findings
    (found,) = [one for one in findings if one.level == level]
    assert found.name == name
    assert level == "failure" or not [one for one in findings if one.level == "failure"]
    return found


def warned(dataset: Dataset, name: str) -> Finding:
    """The finding of this name, a warning; there may be other warnings, as one mistake shows in several of them."""
    checks = check(dataset)
    assert checks.of_level("failure") == ()
    (found,) = [one for one in checks.of_level("warning") if one.name == name]
    return found

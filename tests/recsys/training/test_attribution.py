"""An interaction is credited to the newest impression that it can have come from, and to no other."""

from dataclasses import replace

import numpy as np

from recsys.datasets.impressions import Impressions
from recsys.training.attribution import ATTRIBUTED_S, attributed
from recsys.training.log import Log
from recsys.training.worth import valued
from recsys.verbs import Verb
from tests.worlds import START_S, dataset_of


def shown(*rows: tuple[int, int, int, int]) -> Impressions:
    """(user, item, seconds after START_S, position)."""
    user, item, ts_s, position = zip(*rows, strict=True)
    return Impressions(
        np.array(user, np.int32),
        np.array(item, np.int32),
        (START_S + np.array(ts_s, np.int64)) * 1000,
        np.array(position, np.int32),
    )


def log_of(*events: tuple[str, str, int], verb: Verb = Verb.CLICK, position: tuple[int, ...] = ()) -> Log:
    """(user, item, seconds after START_S); users u and v are 0 and 1, the catalogue is a to c."""
    log = Log.of(dataset_of([(u, i, verb, START_S + s) for u, i, s in events], {item: [] for item in "abc"}))
    return replace(log, position=np.array(position, np.int32)) if position else log


def test_newest_impression_before_the_click_has_it() -> None:
    log = log_of(("u", "a", 100), ("u", "b", 101))
    impressions = shown((0, 0, 50, 7), (0, 0, 90, 2), (0, 1, 95, 1), (0, 0, 100, 3), (0, 0, 101, 4))
    assert attributed(log, impressions).tolist() == [3, 2]


def test_impressions_of_others_of_other_items_and_of_long_ago_are_not_it() -> None:
    log = log_of(("u", "a", 5000), ("v", "b", 5001))
    long_ago = 5000 - ATTRIBUTED_S - 1
    assert attributed(log, shown((0, 0, long_ago, 1), (1, 0, 4999, 1), (0, 1, 4999, 1))).tolist() == [-1, -1]
    assert attributed(log, shown((0, 0, long_ago + 1, 1))).tolist() == [0, -1]


def test_position_of_the_click_says_which_list_it_came_from() -> None:
    impressions = shown((0, 0, 80, 5), (0, 0, 90, 2))
    log = log_of(("u", "a", 100), ("u", "a", 101), ("u", "a", 102), position=(5, 0, 9))
    assert attributed(log, impressions).tolist() == [0, 1, -1]


def test_where_all_was_shown_after_the_log_nothing_came_from_it() -> None:
    """The first impressions of a service whose imported data are years old; training stopped with an error."""
    log = log_of(("u", "a", 100))
    later = shown((0, 0, 500, 1))
    assert attributed(log, later.until((START_S + 200) * 1000)).tolist() == [-1]
    assert valued(log, later, {})[1] is None


def test_what_is_no_positive_came_from_nowhere() -> None:
    assert attributed(log_of(("u", "a", 100), verb=Verb.HIDE), shown((0, 0, 90, 1))).tolist() == [-1]


def test_attribution_is_what_a_search_through_all_impressions_finds() -> None:
    rng = np.random.default_rng(1)
    events = [("uv"[u], "abc"[i], int(s)) for u, i, s in rng.integers([0, 0, 0], [2, 3, 20_000], (300, 3))]
    events.sort(key=lambda one: one[2])
    log = log_of(*events, position=tuple(rng.integers(0, 3, 300)))
    rows = rng.integers([0, 0, 0, 1], [2, 3, 20_000, 3], (400, 4))
    impressions = shown(*rows[np.argsort(rows[:, 2], kind="stable")].tolist())
    expected = []
    for event in range(len(log)):
        age_s = log.ts_s[event].astype(np.int64) - impressions.ts_ms // 1000
        same = (impressions.user == log.user[event]) & (impressions.item == log.item[event])
        placed = (log.position[event] == 0) | (impressions.position == log.position[event])
        found = np.flatnonzero(same & placed & (age_s >= 0) & (age_s <= ATTRIBUTED_S))
        expected.append(found[-1] if len(found) else -1)
    assert attributed(log, impressions).tolist() == expected
    assert 50 < sum(one >= 0 for one in expected) < 290

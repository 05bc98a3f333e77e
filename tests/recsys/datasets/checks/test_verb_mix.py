"""What users do: nothing to learn from is refused; a verb that ends or begins is a warning."""

import numpy as np

from recsys.verbs import Verb
from tests.recsys.datasets.checks.logs import EVENTS, healthy, of_level, only, warned, with_columns, with_value

HEALTHY = healthy()
PART = EVENTS // 5
SIXTH = np.arange(EVENTS) % 6 == 0


def test_a_log_without_a_positive_is_refused() -> None:
    found = only(with_columns(HEALTHY, verb=np.full(EVENTS, Verb.HIDE, np.uint8)), "positives", "failure")
    assert found.sentence.startswith("too few positives")
    assert {row.verb for row in found.rows} == {"hide"}


def test_hardly_a_positive_is_a_warning_with_those_there_are() -> None:
    verb = np.full(EVENTS, Verb.HIDE, np.uint8)
    verb[[3, 800, 1900]] = Verb.LIKE
    assert [row.place for row in only(with_columns(HEALTHY, verb=verb), "positives", "warning").rows] == [4, 801, 1901]


def test_hardly_a_rating_below_the_threshold_is_a_warning() -> None:
    verb = np.full(EVENTS, Verb.LIKE, np.uint8)
    verb[::200] = Verb.RATING
    rated = with_columns(HEALTHY, verb=verb, value=np.full(EVENTS, 5, np.float32))
    assert only(rated, "ratings", "warning").numbers == {"ratings": EVENTS, "below": 0.005}


def test_positives_alone_are_fine_where_nobody_rates() -> None:
    assert of_level(with_columns(HEALTHY, verb=np.full(EVENTS, Verb.CLICK, np.uint8)), "warning", "failure") == []


def test_a_verb_that_ends_is_a_warning_with_its_last_events() -> None:
    verb = HEALTHY.events.verb.copy()
    verb[: EVENTS - PART][SIXTH[: EVENTS - PART]] = Verb.PURCHASE
    found = warned(with_columns(HEALTHY, verb=verb), "verbs that ended")
    assert found.numbers == {"purchase": int(SIXTH[: EVENTS - PART].sum())}
    assert [row.place for row in found.rows] == (np.flatnonzero(verb == Verb.PURCHASE)[::-1][:5] + 1).tolist()


def test_a_verb_that_begins_is_a_warning_with_its_first_events() -> None:
    verb = HEALTHY.events.verb.copy()
    verb[EVENTS - PART :][SIXTH[EVENTS - PART :]] = Verb.PURCHASE
    found = warned(with_columns(HEALTHY, verb=verb), "verbs that began")
    assert found.rows[0].place == int(np.flatnonzero(verb == Verb.PURCHASE)[0]) + 1


def test_a_verb_that_is_rare_anyway_may_be_missing() -> None:
    rare = with_value(HEALTHY, "verb", slice(1300, 1305), Verb.PURCHASE)
    assert of_level(rare, "warning", "failure") == []

"""Alarms come on where a mean leaves its tolerance, go off when it is back, and nothing is counted twice."""

import msgspec
import numpy as np
import pytest

from recsys.monitoring.alarms import alarms_of
from recsys.monitoring.figures import expected_distinct, figures_of, not_compared
from recsys.monitoring.reference import HOUR_S, LAYOUT, Reference, Shape
from recsys.monitoring.series import Key, Series
from recsys.monitoring.watch import ALPHA, BASELINE, KEPT_DAYS, Watch, Watcher, new_watch

SOURCES = Key("source", "candidates", "all")
CLICKS = Key("quality", "clicks", "all")
NEW = Key("feature", "user_log_events", "new")
START_S = 1_800_000_000 // 86_400 * 86_400


def shape(key: Key, mean: float, users: int = 500) -> Shape:
    return Shape(*key, ("als", "popular"), (mean, 1 - mean), (0.01, 0.01), users, users)


REFERENCE = Reference(LAYOUT, 500, 0.05, {}, (shape(SOURCES, 0.5), shape(NEW, 0.5, users=5)), {10: 50.0, 1000: 100.0})


def hour_of(rng: np.random.Generator, key: Key, mean: float, rows: int = 40) -> Series:
    first = (rng.random(rows) < mean).astype(float)
    values = np.stack([first, 1 - first], axis=1) if key != CLICKS else first[:, None]
    return Series(key, ("als", "popular") if key != CLICKS else ("lists clicked",), values, np.arange(rows))


def fed(watcher: Watcher, key: Key, mean: float, *, first: int, hours: int, seed: int = 0) -> Watcher:
    rng = np.random.default_rng([seed, first])
    for number in range(first, first + hours):
        watcher.see(START_S + number * HOUR_S, [hour_of(rng, key, mean)])
    return watcher


@pytest.fixture
def watcher() -> Watcher:
    return Watcher(new_watch("b"), REFERENCE)


def test_alarm_comes_on_says_what_moved_and_goes_off_when_that_is_back(watcher: Watcher) -> None:
    fed(watcher, SOURCES, 0.5, first=0, hours=48)
    assert alarms_of(watcher) == []
    fed(watcher, SOURCES, 0.9, first=48, hours=24)
    (alarm,) = alarms_of(watcher)
    assert (alarm.kind, alarm.subject, alarm.segment) == SOURCES
    assert START_S + 48 * HOUR_S < alarm.since_s <= START_S + 72 * HOUR_S
    assert alarm.usual in (pytest.approx(0.5), pytest.approx(0.5))
    assert abs(alarm.now - 0.5) > 0.3
    assert alarm.evidence > watcher.threshold(SOURCES)
    assert not alarm.harmful
    fed(watcher, SOURCES, 0.5, first=72, hours=48)
    assert alarms_of(watcher) == []
    fed(watcher, SOURCES, 0.1, first=120, hours=48)
    assert len(alarms_of(watcher)) == 1


def test_hour_that_was_seen_says_nothing_new(watcher: Watcher) -> None:
    fed(watcher, SOURCES, 0.9, first=0, hours=5)
    before = msgspec.json.encode(watcher.watch())
    fed(watcher, SOURCES, 0.9, first=0, hours=5)
    assert msgspec.json.encode(watcher.watch()) == before


def test_state_that_is_written_and_read_between_hours_changes_nothing(watcher: Watcher) -> None:
    again = Watcher(new_watch("b"), REFERENCE)
    for number in range(30):
        again = again.copy(REFERENCE)
        fed(again, SOURCES, 0.7, first=number, hours=1)
        fed(watcher, SOURCES, 0.7, first=number, hours=1)
    assert msgspec.json.encode(again.watch()) == msgspec.json.encode(watcher.watch())


def test_fewer_clicks_than_in_the_beginning_are_harmful(watcher: Watcher) -> None:
    fed(watcher, CLICKS, 0.5, first=0, hours=BASELINE // 40 + 1)
    assert not_compared(watcher) == []
    fed(watcher, CLICKS, 0.3, first=BASELINE // 40 + 1, hours=40)
    (alarm,) = alarms_of(watcher)
    assert alarm.harmful
    assert (alarm.usual, alarm.now) == (pytest.approx(0.5, abs=0.05), pytest.approx(0.3, abs=0.08))


def test_a_bundle_that_comes_in_a_drift_is_compared_with_how_the_one_before_began(watcher: Watcher) -> None:
    """Its own beginning is after the fall, and would hide it."""
    fed(watcher, CLICKS, 0.5, first=0, hours=BASELINE // 40 + 1)
    fed(watcher, CLICKS, 0.3, first=BASELINE // 40 + 1, hours=3)
    assert alarms_of(watcher) == []  # not for long enough
    after = Watcher(new_watch("c", watcher.watch()), REFERENCE)
    fed(after, CLICKS, 0.3, first=60, hours=40)
    (alarm,) = alarms_of(after)
    assert (alarm.subject, alarm.harmful) == ("clicks_before", True)
    assert (alarm.usual, alarm.now) == (pytest.approx(0.5, abs=0.05), pytest.approx(0.3, abs=0.08))
    fed(after, CLICKS, 0.3, first=100, hours=BASELINE // 40)
    assert [one.subject for one in alarms_of(after)] == ["clicks_before"]
    (figure,) = (one for one in figures_of(after) if one.subject == "clicks_before")
    assert (figure.usual, figure.high) == ([pytest.approx(0.5, abs=0.05)], [1.0])
    last = Watcher(new_watch("d", after.watch()), REFERENCE)  # who comes then is compared with what was after the fall
    assert np.divide(last.watch().before["all"][1], last.watch().before["all"][0]) == pytest.approx(0.3, abs=0.03)
    fed(last.copy(REFERENCE), CLICKS, 0.3, first=200, hours=40)
    assert alarms_of(last) == []


def test_a_bundle_that_is_liked_better_than_the_one_before_is_no_drift(watcher: Watcher) -> None:
    fed(watcher, CLICKS, 0.3, first=0, hours=BASELINE // 40 + 1)
    after = fed(Watcher(new_watch("c", watcher.watch()), REFERENCE), CLICKS, 0.6, first=60, hours=60)
    assert alarms_of(after) == []


def test_a_champion_of_a_few_hours_hands_on_what_it_took_over(watcher: Watcher) -> None:
    fed(watcher, CLICKS, 0.5, first=0, hours=BASELINE // 40 + 1)
    short = fed(Watcher(new_watch("c", watcher.watch()), REFERENCE), CLICKS, 0.3, first=60, hours=2)
    last = fed(Watcher(new_watch("d", short.watch()), REFERENCE), CLICKS, 0.3, first=62, hours=40)
    assert [(one.subject, one.harmful) for one in alarms_of(last)] == [("clicks_before", True)]


def test_a_beginning_that_was_too_short_is_not_taken_over(watcher: Watcher) -> None:
    fed(watcher, CLICKS, 0.5, first=0, hours=3)
    after = fed(Watcher(new_watch("c", watcher.watch()), REFERENCE), CLICKS, 0.1, first=3, hours=40)
    assert [key.subject for key in after.series] == ["clicks"]


def test_more_clicks_are_an_alarm_that_is_not_harmful(watcher: Watcher) -> None:
    fed(watcher, CLICKS, 0.3, first=0, hours=BASELINE // 40 + 1)
    fed(watcher, CLICKS, 0.6, first=BASELINE // 40 + 1, hours=40)
    assert [one.harmful for one in alarms_of(watcher)] == [False]


def test_beginning_that_is_too_short_and_reference_of_too_few_are_named_not_passed(watcher: Watcher) -> None:
    fed(watcher, CLICKS, 0.5, first=0, hours=3)
    fed(watcher, NEW, 0.9, first=3, hours=30)
    assert alarms_of(watcher) == []
    assert not_compared(watcher) == ["quality clicks (all)", "feature user_log_events (new)"]


def test_series_share_alpha(watcher: Watcher) -> None:
    keys = [*watcher.shapes, Key("traffic", "lists", "all"), Key("freshness", "item_stats", "all")]
    keys += [Key("freshness", "user_states", "all")]
    keys += [
        Key("quality", subject, segment)
        for subject in ("clicks", "clicks_before", "ndcg", "calibration")
        for segment in ("all", "new", "light", "heavy")
    ]
    total = sum(watcher.weight(key) for key in keys)
    for number in range(200):
        key = SOURCES._replace(segment=f"placement {number}")
        fed(watcher, key, 0.5, first=number, hours=1)
        total += sum(watcher.weight(of._replace(segment=key.segment)) for of in watcher.shapes)
    assert 0.8 < total <= 1  # what series of placements do not use is not given to others
    assert watcher.threshold(SOURCES) == pytest.approx(2 / ALPHA / watcher.weight(SOURCES))


def test_damaged_evidence_is_refused(watcher: Watcher) -> None:
    fed(watcher, SOURCES, 0.5, first=0, hours=2)
    document = watcher.watch()
    document.series.pop("source|candidates|all")
    with pytest.raises(ValueError, match="evidence of other series"):
        Watcher(document, REFERENCE)


def test_state_stays_small_however_long_it_goes_on(watcher: Watcher) -> None:
    rng = np.random.default_rng(1)
    for day in range(KEPT_DAYS + 30):
        watcher.see(START_S + day * 86_400, [hour_of(rng, CLICKS, 0.5)])
    assert len(watcher.watch().days) == KEPT_DAYS
    assert len(msgspec.json.encode(watcher.watch())) < 20_000
    assert isinstance(watcher.watch(), Watch)


def test_figures_are_plain_numbers(watcher: Watcher) -> None:
    fed(watcher, SOURCES, 0.9, first=0, hours=20)
    (one,) = figures_of(watcher)
    assert one.alarm
    assert one.psi > 0.5
    assert one.rows == 20 * 40
    assert msgspec.json.decode(msgspec.json.encode(one))["components"] == ["als", "popular"]
    assert expected_distinct(REFERENCE, 100) == pytest.approx(75.0)
    assert expected_distinct(REFERENCE, 10**9) == 100.0

"""Each picture is named by the alarms that it shows, and what hides others comes first."""

from typing import Any

import pytest

from recsys.monitoring.alarms import Alarm, is_broken
from recsys.monitoring.causes import Aged, Remedy, causes


def alarm(kind: str, subject: str, component: str, *, segment: str = "all", usual: float = 0.2, now: float = 0.5,
          **more: Any) -> Alarm:  # fmt: skip
    up = now > usual
    harmful = is_broken(kind, component, up, now, segment) or (kind == "quality" and not up)
    usually: dict[str, Any] = {"since_s": 1, "evidence": 1e6, "harmful": harmful}
    return Alarm(
        kind=kind, subject=subject, segment=segment, component=component, usual=usual, now=now, **usually | more
    )


WORSE = alarm("quality", "clicks", "lists clicked", usual=0.5, now=0.3)
NEW = alarm("users", "segments", "new")
NULLS = alarm("feature", "item_positive_rate", "missing", usual=0, now=0.4)
NULLS_OF_ALL = alarm("feature", "user_log_events", "default", usual=0.1, now=0.6)
BUSY = alarm("traffic", "lists", "beyond a person's", usual=0)
TAIL = alarm("events", "popularity", "tail")
STALE = alarm("freshness", "item_stats", "stale", usual=0, now=1)


def test_no_alarm_looks_like_nothing() -> None:
    assert causes([]) == []


@pytest.mark.parametrize(
    ("alarms", "name", "remedy"),
    [
        ([WORSE], "taste drift", Remedy.RETRAIN),
        ([alarm("feature", "cross_similar", "0.1 to 0.2"), WORSE], "taste drift", Remedy.RETRAIN),
        ([TAIL, WORSE], "popularity shock", Remedy.RETRAIN),
        ([NULLS, WORSE], "broken feature", Remedy.REPAIR),
        ([alarm("score", "best", "missing", usual=0, now=0.9)], "broken feature", Remedy.REPAIR),
        ([STALE, TAIL], "broken feature", Remedy.REPAIR),
        ([NULLS_OF_ALL, NEW, WORSE], "new-user wave", Remedy.WATCH),
        ([BUSY, TAIL, WORSE], "bot traffic", Remedy.BLOCK),
        ([alarm("feature", "cross_als", "0.1 to 0.2", now=1.0)], "broken feature", Remedy.REPAIR),
        ([alarm("feature", "cross_als", "default", segment="heavy", now=1.0)], "broken feature", Remedy.REPAIR),
        ([alarm("feature", "user_log_events", "default", segment="new", now=1.0), NEW], "new-user wave", Remedy.WATCH),
        ([alarm("source", "candidates", "popular")], "other drift", Remedy.WATCH),
    ],
)
def test_picture_is_named(alarms: list[Alarm], name: str, remedy: Remedy) -> None:
    first = causes(alarms)[0]
    assert (first.name, first.remedy) == (name, remedy)
    assert causes(alarms[::-1])[0].name == name


def test_two_things_at_once_are_both_named() -> None:
    assert [one.name for one in causes([BUSY, STALE])] == ["bot traffic", "broken feature"]


@pytest.mark.parametrize(
    ("component", "now", "why"),
    [
        ("missing", 0.4, "missing values"),
        ("above range", 0.9, "other units"),
        ("below range", 0.9, "other units"),
        ("2 to 3", 1.0, "frozen"),
    ],
)
def test_what_is_broken_about_a_feature_is_said(component: str, now: float, why: str) -> None:
    (one,) = causes([alarm("feature", "user_log_idle_s", component, usual=0, now=now)])
    assert one.subject == "user_log_idle_s"
    assert one.why.startswith(why)


def test_who_comes_back_to_old_data_is_no_broken_feature() -> None:
    aged = Aged(9_999, ("2 to 3", "above range"))
    quiet = alarm("feature", "user_log_activity_1h", "default", segment="heavy", now=1.0)
    for component in aged.components:
        back = alarm("feature", "user_log_idle_s", component, usual=0, now=1.0)
        assert [one.name for one in causes([back])] == ["broken feature"]
        (old,) = causes([back, quiet], aged)
        assert (old.name, old.remedy, "ends 9,999 days ago" in old.why) == ("old data", Remedy.RETRAIN, True)
        assert [one.name for one in causes([back, NULLS], aged)] == ["old data", "broken feature"]
    frozen = alarm("feature", "user_log_idle_s", "1 to 2", usual=0, now=1.0)
    fewer = alarm("feature", "user_log_idle_s", "2 to 3", usual=0.5, now=0.0)
    assert causes([frozen], aged)[0].name == "broken feature"
    assert "old data" not in [one.name for one in causes([fewer], aged)]


def test_drift_that_makes_nothing_worse_is_not_harmful() -> None:
    assert not causes([TAIL])[0].harmful
    assert causes([TAIL, WORSE])[0].harmful
    assert not causes([NEW])[0].harmful

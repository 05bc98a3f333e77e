"""Training is due for drift, for data or for time; a day without users is no reason for any of them."""

import pytest

from recsys.retraining.triggers import Policy, Seen, due, not_due

POLICY = Policy(every_s=86_400, share=0.1, least=100, rest_s=3_600)
HOUR_S = 3_600.0


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (Seen(2 * HOUR_S, 10_000, 1_000), "volume"),
        (Seen(2 * HOUR_S, 10_000, 999), None),
        (Seen(2 * HOUR_S, 10_000, 100, ("clicks fall",)), "drift"),
        (Seen(2 * HOUR_S, 10_000, 99, ("clicks fall",)), None),
        (Seen(0.5 * HOUR_S, 10_000, 5_000, ("clicks fall",)), None),
        (Seen(24 * HOUR_S, 10_000, 100), "schedule"),
        (Seen(24 * HOUR_S, 10_000, 99), None),
        (Seen(1000 * HOUR_S, 10_000, 0, ("clicks fall",)), None),
        (Seen(None, 10_000, 100), "schedule"),
    ],
)
def test_each_reason_has_its_bound(seen: Seen, kind: str | None) -> None:
    trigger = due(POLICY, seen)
    assert (trigger.kind if trigger else None) == kind
    if trigger:
        assert f"{seen.new:,} new events" in trigger.detail
    else:
        assert not_due(POLICY, seen)


def test_what_is_missing_is_said_with_figures() -> None:
    assert "99 new events; fewer than 100" in not_due(POLICY, Seen(2 * HOUR_S, 10_000, 99))
    assert "30 min ago" in not_due(POLICY, Seen(0.5 * HOUR_S, 10_000, 500))
    assert "500 new events of 1,000" in not_due(POLICY, Seen(2 * HOUR_S, 10_000, 500))
    assert "22.0 h" in not_due(POLICY, Seen(2 * HOUR_S, 10_000, 500))

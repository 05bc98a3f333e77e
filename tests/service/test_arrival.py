"""The time that HAProxy wrote into a request."""

import time

import pytest

from service.arrival import waited_s


def test_wait_is_the_time_since_then() -> None:
    assert waited_s(b"%d" % ((time.time() - 0.25) * 1e6)) == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("arrived", [None, b"", b"soon", b"-5", b"1.5", b"1" * 400, b"0", b"9" * 18])
def test_what_nobody_wrote_or_no_clock_can_have_said_is_no_wait(arrived: bytes | None) -> None:
    assert waited_s(arrived) == 0


def test_a_clock_that_is_ahead_has_seen_no_wait() -> None:
    assert waited_s(b"%d" % ((time.time() + 3600) * 1e6)) == 0

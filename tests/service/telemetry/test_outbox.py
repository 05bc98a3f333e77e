"""The queue between the event loop and the thread that sends."""

from service.telemetry.outbox import Outbox
from service.telemetry.trace import Trace


def test_oldest_are_taken_first_and_what_does_not_fit_is_dropped_and_counted() -> None:
    outbox = Outbox(limit=3)
    traces = [Trace(number, None) for number in range(1, 6)]
    for one in traces:
        outbox.put(one)
    assert outbox.counts == {"kept": 3, "dropped": 2}
    assert outbox.take(2) == traces[:2]
    assert outbox.take(9) == traces[2:3]
    assert outbox.take(9) == []

"""How long a request has waited in front of this process, by the time that HAProxy wrote into it.

Under load most of a wait is spent in sockets that the event loop has not come to: a deadline that began where the loop
reads the request would let answers out 300 ms late (decision 0024).
"""

import time

HEADER = b"x-riffle-arrived"  # microseconds, UTC epoch
ROOM_HEADER = (
    b"x-riffle-room"  # of an answer to it: requests that the gateway has room for; HAProxy keeps it for itself
)
_MOST_S = 10.0  # the longest deadline; beyond it clocks differ


def waited_s(arrived: bytes | None) -> float:
    """Seconds since then; 0 where nobody wrote it, or the clock of whoever did is not ours."""
    if arrived is None or not arrived.isdigit() or len(arrived) > 18:
        return 0.0
    waited = time.time() - int(arrived) / 1e6
    return waited if 0 <= waited <= _MOST_S else 0.0

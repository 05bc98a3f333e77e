"""Ports for tests that nobody else takes: neither an outgoing connection nor a test run beside this one.

The kernel draws what it gives to `bind` with port 0 from the same range as the ports of outgoing connections, so such a
port may be taken again before the server that is told of it binds it. These are below that range (Linux: from 32768
on, macOS: from 49152), and each process that asks has a block of them for itself.
"""

import atexit
import functools
import itertools
import socket

_FIRST, _END, _BLOCK = 20_000, 30_000, 1_000
_IN_A_ROW = 100
_numbers = itertools.cycle(range(1, _BLOCK - _IN_A_ROW))


def free_port() -> int:
    """A port that nobody listens on, and that is not given again before some hundred others were."""
    for number in itertools.islice(_numbers, _BLOCK):
        if _bindable(_block() + number):
            return _block() + number
    raise OSError("every port of the block is taken")


def ports_in_a_row() -> int:
    """The first of a hundred ports, none of which `free_port` gives; the same in every call."""
    return _block() + _BLOCK - _IN_A_ROW


@functools.cache
def _block() -> int:
    """The first port of a block that no other process has; it stays bound, which keeps the others away."""
    for first in range(_FIRST, _END, _BLOCK):
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", first))
        except OSError:
            held.close()
            continue
        atexit.register(held.close)
        return first
    raise OSError(f"ten test runs hold the ports from {_FIRST} to {_END}")


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is not an owner
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True

"""Where the `riffle` command begins, and how its process ends."""

import atexit
import contextlib
import os
import sys


def main() -> None:
    """Run the command; the process ends with its exit code once all that was registered for the exit has run.

    It ends there and then. To take the interpreter apart is no use to anybody, and it can abort: a thread of a native
    library that lets go of a Python object in that moment is ended while it holds C++ objects (apache/arrow#34314;
    here once in some thousand commands, after their work was done: "terminate called without an active exception").
    """
    ended = [1]  # what an error that nobody caught ends with
    atexit.register(_end, ended)  # before anything else registers: what is registered first runs last
    from service.cli import main as command

    try:
        command()
        ended[0] = 0
    except SystemExit as leaving:
        ended[0] = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        raise


def _end(ended: list[int]) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(ended[0])


if __name__ == "__main__":
    main()

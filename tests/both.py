"""All tests: those of a whole stack beside all others, `python -m tests.both`.

The former wait more than they work: a rollout has to hold, a service to come up. The others fill that time, at a
niceness that lets the stack go first, since it is measured. One after the other they took 24 minutes on two cores.
"""

import os
import signal
import subprocess
import sys
import tempfile

NICENESS = 10  # a tenth of a core where the stack wants all of it
ENDS_S = 60.0  # a stack takes some seconds to go down
WORKERS = (os.cpu_count() or 1) + 1  # some of them wait, too


def main() -> int:
    """Run both and print one after the other; the exit code is the first that is not 0."""
    pytest = [sys.executable, "-m", "pytest"]
    workers = [*pytest, "-n", str(WORKERS), "--dist", "loadfile", "-m", "not e2e"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryFile() as said:
        stack = subprocess.Popen([*pytest, "-m", "e2e"], stdout=said, stderr=subprocess.STDOUT)
        others = subprocess.Popen(workers, preexec_fn=lambda: os.nice(NICENESS))
        try:
            codes = others.wait(), stack.wait()
        finally:
            end(others, stack)
            said.seek(0)
            sys.stdout.write(said.read().decode("utf-8", "replace"))
    return codes[0] or codes[1]


def end(*started: "subprocess.Popen[bytes]") -> None:
    """Interrupt what still runs, so that it ends what it has started; then without asking."""
    for one in started:
        if one.poll() is None:
            one.send_signal(signal.SIGINT)
    for one in started:
        try:
            one.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            one.kill()


if __name__ == "__main__":
    sys.exit(main())

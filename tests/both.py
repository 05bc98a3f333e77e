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
WORKERS = (os.cpu_count() or 1) + 1  # some of them wait, too


def main() -> int:
    """Run both and print one after the other; the exit code is the first that is not 0."""
    pytest = [sys.executable, "-m", "pytest"]
    workers = [*pytest, "-n", str(WORKERS), "--dist", "loadfile", "-m", "not e2e"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryFile() as said:
        stack = subprocess.Popen([*pytest, "-m", "e2e"], stdout=said, stderr=subprocess.STDOUT)
        try:
            others = subprocess.run(workers, preexec_fn=lambda: os.nice(NICENESS))
            code = stack.wait()
        finally:
            stack.terminate()
            said.seek(0)
            sys.stdout.write(said.read().decode("utf-8", "replace"))
    return others.returncode or code


if __name__ == "__main__":
    sys.exit(main())

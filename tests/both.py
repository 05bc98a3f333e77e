"""All tests: those of a whole stack beside all others, `python -m tests.both`.

The former wait more than they work: a rollout has to hold, a service to come up. The others fill that time, at a
niceness that lets the stack go first, since it is measured. One after the other they took 26 minutes on two cores,
so 17. Where everything wants a core at once, a deadline of the product may pass in a test: what fails beside the
stack is run once more by itself, and has to pass then.
"""

import os
import signal
import subprocess
import sys
import tempfile

NICENESS = 10  # a tenth of a core where the stack wants all of it
ENDS_S = 60.0  # a stack takes some seconds to go down
FAILED = 1  # pytest's exit code where tests failed; others say that they could not be run


def main() -> int:
    """Run both and print one after the other; the exit code is the first that is not 0."""
    stack_tests, others_tests = (_pytest(name, "-m", mark) for name, mark in (("stack", "e2e"), ("others", "not e2e")))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryFile() as said:
        stack = subprocess.Popen(stack_tests, stdout=said, stderr=subprocess.STDOUT)
        # Native tracebacks: to cut the others out of the source pytest parses it, and that once ended a whole run
        # ("AST constructor recursion depth mismatch", CPython 3.11). What fails is shown in full the second time.
        beside = ["-n", "auto", "--dist", "loadfile", "--tb", "native"]
        # Each worker has one processor at most: what shares work out among threads only waits for the other one.
        one_thread = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        others = subprocess.Popen([*others_tests, *beside], env=one_thread, preexec_fn=lambda: os.nice(NICENESS))
        try:
            codes = others.wait(), stack.wait()
        finally:
            end(others, stack)
            said.seek(0)
            sys.stdout.write(said.read().decode("utf-8", "replace"))
            sys.stdout.flush()
    if codes[0] != FAILED:
        return codes[0] or codes[1]
    print("What failed beside the stack, once more by itself:", flush=True)
    return subprocess.run([*others_tests, "--last-failed"]).returncode or codes[1]


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


def _pytest(name: str, *arguments: str) -> list[str]:
    """A run of pytest that remembers its failures apart from the other's."""
    return [sys.executable, "-m", "pytest", "-o", f"cache_dir=.pytest_cache/{name}", *arguments]


if __name__ == "__main__":
    sys.exit(main())

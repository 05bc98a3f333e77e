"""Install a hash-locked requirements file and this project into a virtual environment, with a line of progress.

Usage: python deploy/install.py <venv> <lock file>. Standard library only: it runs before anything is installed.
"""

import subprocess
import sys
import time
from pathlib import Path


def main(venv: str, lock: str) -> int:
    python = str(Path(venv) / "bin" / "python")
    wanted = sum("==" in line for line in Path(lock).read_text("utf-8").splitlines())
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    began = time.monotonic()
    done = 0
    with subprocess.Popen(
        [*pip, "install", "--require-hashes", "--no-deps", "--progress-bar", "off", "-r", lock],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        said = []
        for line in process.stdout or ():
            said.append(line)
            if line.startswith(("Collecting", "Requirement already")):
                done += 1
                _bar(done, wanted, time.monotonic() - began)
            elif line.startswith("Installing collected"):
                _bar(wanted, wanted, time.monotonic() - began, "unpacking")
    if process.returncode:
        print(f"\nThe packages of {lock} could not be installed; pip said:\n{''.join(said[-5:])}", file=sys.stderr)
        print("Check the network or pip's index settings, then run the same command again.", file=sys.stderr)
        return 1
    project = subprocess.run(
        [*pip, "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-e", "."],
        capture_output=True,
        text=True,
    )
    if project.returncode:
        print(f"\nRiffle itself could not be installed; pip said:\n{project.stderr[-600:]}", file=sys.stderr)
        return 1
    _bar(wanted, wanted, time.monotonic() - began, "done     ")
    print()
    return 0


def _bar(done: int, wanted: int, elapsed_s: float, what: str = "") -> None:
    filled = min(28, 28 * done // max(wanted, 1))
    bar = "━" * filled + " " * (28 - filled)
    end = "\r" if sys.stdout.isatty() else "\n"
    if sys.stdout.isatty() or what:
        print(
            f"  Installing packages, hash-checked             {bar} {done}/{wanted} {elapsed_s:4.0f} s {what}",
            end=end,
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

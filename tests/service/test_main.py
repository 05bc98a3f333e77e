"""The process of a command: its exit code, what it still does at its end, and what it leaves undone."""

import os
import subprocess
import sys

import pytest

ENDS = """
import atexit
import service.cli
from service.__main__ import main

class Held:
    def __del__(self):
        print("taken apart", flush=True)

held = Held()

def command():
    atexit.register(print, "registered")
    print("said")
    {last}

service.cli.main = command
main()
"""


@pytest.mark.parametrize(
    ("last", "code", "complaint"),
    [
        ("", 0, ""),
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(0)", 0, ""),
        ("raise SystemExit(130)", 130, ""),
        ("raise SystemExit('a reason')", 1, "a reason"),
        ("raise ValueError('a fault')", 1, "ValueError: a fault"),
    ],
)
def test_a_command_ends_with_its_code_after_all_that_was_registered(last: str, code: int, complaint: str) -> None:
    done = subprocess.run([sys.executable, "-c", ENDS.format(last=last)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert complaint in done.stderr
    assert done.stdout == "said\nregistered\n"  # and nothing of the interpreter was taken apart


def test_a_reader_that_went_away_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDS.format(last="")],
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 0
    assert complaint == ""


def test_the_command_says_its_name() -> None:
    done = subprocess.run([sys.executable, "-m", "service", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "Usage: riffle" in done.stdout

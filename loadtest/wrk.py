"""Drives wrk: as many requests as the service answers, over connections that each wait for their answer."""

import shutil
import subprocess
from pathlib import Path

import msgspec

from service.errors import ServiceError

SCRIPT = Path(__file__).with_name("recommendations.lua")
_GRACE_S = 20.0  # for wrk to start and to give up on the last answers


class WrkError(ServiceError):
    """wrk is missing, or did not do its work."""


class Measured(msgspec.Struct, frozen=True):
    """What wrk counted. `non_2xx` are answers of 400 and above; latencies are of answered requests, closed loop."""

    requests: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    non_2xx: int
    socket_errors: int

    @property
    def rps(self) -> float:
        """Answers per second."""
        return self.requests / self.duration_s


def find() -> str:
    """The path of wrk.

    Raises:
        WrkError: it is not on PATH.
    """
    path = shutil.which("wrk")
    if path is None:
        raise WrkError("wrk is not on PATH; install it (apt-get install wrk, brew install wrk) and run this again")
    return path


def start(url: str, *, connections: int, duration_s: int, bodies: Path | None = None) -> subprocess.Popen[str]:
    """Start wrk against a URL; `bodies` is a file of JSON bodies to POST, without it the URL is read.

    One thread: it drives 50,000 requests/s and more, and a second one would take time from the service.
    """
    command = [find(), "-t1", f"-c{connections}", f"-d{duration_s}s", "--timeout", "5s", "-s", str(SCRIPT), url]
    if bodies is not None:
        command += ["--", str(bodies)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], *, duration_s: int) -> Measured:
    """Wait for a started wrk.

    Raises:
        WrkError: it failed, or does not end.
    """
    try:
        output, _ = process.communicate(timeout=duration_s + _GRACE_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise WrkError(
            f"wrk did not end {_GRACE_S:.0f} s after its {duration_s} s; is the machine overloaded?"
        ) from error
    last = output.strip().rpartition("\n")[2]
    try:
        return msgspec.json.decode(last, type=Measured)
    except msgspec.DecodeError as error:
        raise WrkError(f"wrk failed: {last or 'no output'}; check that the service answers") from error


def measure(url: str, *, connections: int, duration_s: int, bodies: Path | None = None) -> Measured:
    """`start` and `finish`."""
    return finish(start(url, connections=connections, duration_s=duration_s, bodies=bodies), duration_s=duration_s)

"""Put Prometheus's promtool beside the Python of an environment: tests try the alert rules with it.

Usage: python deploy/promtool.py <venv>. One that is on PATH is used; else it is taken out of Debian's package
`prometheus`, which needs no root where apt has its lists. Nobody has a wheel of it. Without it these tests are skipped.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "prometheus"


def main(venv: str) -> int:
    target = Path(venv) / "bin" / "promtool"
    if target.exists():
        return 0
    if found := shutil.which("promtool"):
        target.symlink_to(found)
        return 0
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return _without("this system has no apt-get")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # apt fetches as a user of its own
        if not _download(folder) and os.geteuid() == 0:
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True)
            _download(folder)
        packages = list(Path(folder).glob("*.deb"))
        if not packages:
            return _without(f"apt-get cannot download {PACKAGE}")
        subprocess.run(["dpkg-deb", "-x", str(packages[0]), folder], check=True)
        shutil.copy(Path(folder) / "usr" / "bin" / "promtool", target)
    return 0


def _download(folder: str) -> bool:
    done = subprocess.run(["apt-get", "download", "-qq", PACKAGE], cwd=folder, capture_output=True)
    return done.returncode == 0


def _without(why: str) -> int:
    print(f"No promtool: {why}. The tests of the alert rules will be skipped; put it on PATH to run them.")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Resolve pyproject.toml into the lock files, with the hash of every file and no address of any index."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNTIME, STORES, PEERS = "requirements.lock", "requirements-stores.lock", "requirements-peers.lock"
FILES = {
    RUNTIME: [],
    STORES: ["--extra", "s3", "--extra", "gcs"],
    "requirements-dev.lock": ["--extra", "dev"],
    PEERS: ["--extra", "peers"],
}


def main() -> None:
    for name, extra in FILES.items():
        if name in (STORES, PEERS):  # uv keeps versions that it finds there: they are Riffle's wherever they can be
            shutil.copy(ROOT / RUNTIME, ROOT / name)
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *extra, "--generate-hashes"]
        command += ["--no-annotate", "--no-header", "--universal", "--python-version", "3.11", "-q", "-o", name]
        subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()

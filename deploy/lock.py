"""Resolve pyproject.toml into the lock files, with the hash of every file and no address of any index."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNTIME, PEERS = "requirements.lock", "requirements-peers.lock"
FILES = {RUNTIME: [], "requirements-dev.lock": ["--extra", "dev"], PEERS: ["--extra", "peers"]}


def main() -> None:
    for name, extra in FILES.items():
        if name == PEERS:  # uv keeps versions that it finds there: peers compute with Riffle's wherever they can
            shutil.copy(ROOT / RUNTIME, ROOT / PEERS)
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *extra, "--generate-hashes"]
        command += ["--no-annotate", "--no-header", "--universal", "--python-version", "3.11", "-q", "-o", name]
        subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()

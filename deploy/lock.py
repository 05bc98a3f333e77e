"""Resolve pyproject.toml into the two lock files, with the hash of every file and no address of any index."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = {"requirements.lock": [], "requirements-dev.lock": ["--extra", "dev"]}


def main() -> None:
    for name, extra in FILES.items():
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *extra, "--generate-hashes"]
        command += ["--no-annotate", "--no-header", "--universal", "--python-version", "3.11", "-q", "-o", name]
        subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()

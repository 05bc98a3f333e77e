"""MovieLens 100K for a first run: it travels, under its own terms, inside the wheel of RecBole 1.2.1."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from recsys.datasets.dataset import Dataset
from recsys.datasets.detect import read_dataset
from recsys.errors import DatasetError

WHEEL_NAME = "recbole-1.2.1-py3-none-any.whl"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
MEMBERS = ("recbole/dataset_example/ml-100k/ml-100k.inter", "recbole/dataset_example/ml-100k/ml-100k.item")
DOWNLOAD_TIMEOUT_S = 300


def fetch_demo_wheel(directory: Path, *, python: str = sys.executable, sha256: str = WHEEL_SHA256) -> Path:
    """Have pip download the wheel, once; a verified wheel already in the directory needs no network.

    Args:
        directory: Where the wheel is kept; made if absent.
        python: Interpreter whose pip, with its own index settings, downloads.
        sha256: The only content accepted.
    Returns:
        The verified wheel.
    Raises:
        DatasetError: pip could not get it.
    """
    wheel = directory / WHEEL_NAME
    if wheel.is_file() and _sha256(wheel) == sha256:
        return wheel
    advice = f"place {WHEEL_NAME} in {directory}, or import data of your own"
    command = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--dest", str(directory)]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            requirements = Path(scratch) / "requirements.txt"
            requirements.write_text(f"recbole==1.2.1 --hash=sha256:{sha256}\n", "utf-8")
            done = subprocess.run(
                [*command, "-r", str(requirements)],
                capture_output=True,
                text=True,
                timeout=DOWNLOAD_TIMEOUT_S,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DatasetError(f"cannot download the demo data with pip: {error}; {advice}") from error
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DatasetError(f"cannot download the demo data: pip said {said!r}; {advice}")
    _verify(wheel, sha256)
    return wheel


def read_demo(wheel: Path, directory: Path, *, positive_rating: float, sha256: str = WHEEL_SHA256) -> Dataset:
    """Unpack the two data files of the wheel, nothing else, and import them.

    Args:
        wheel: Verified against `sha256` before it is opened.
        directory: Receives the two files; made if absent.
        positive_rating: As in `read_dataset`.
    Raises:
        DatasetError: the wheel is missing, is not the pinned one or lacks the files.
    """
    _verify(wheel, sha256)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            for member in MEMBERS:
                (directory / Path(member).name).write_bytes(archive.read(member))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(f"cannot unpack the demo data from {wheel} into {directory}: {error}") from error
    return read_dataset(directory, positive_rating=positive_rating)


def _verify(wheel: Path, sha256: str) -> None:
    if not wheel.is_file():
        raise DatasetError(f"{wheel} does not exist: download the demo data first")
    found = _sha256(wheel)
    if found != sha256:
        raise DatasetError(f"{wheel} has the SHA-256 {found}, not the pinned {sha256}: remove it and download it again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

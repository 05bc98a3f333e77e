"""What is written stays written."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync(path: Path) -> None:
    """Return when a file, or the names in a folder, are on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_read_only(source: Path, target: Path) -> None:
    """Copy a file to where it stays, into a folder that is made. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(source.stat().st_mode & 0o444)
    sync(target)
    sync(target.parent)


@contextmanager
def written(folder: Path, content: bytes) -> Iterator[Path]:
    """A read-only file that is on disk, under a name that nobody looks for, to be moved or linked to its own.

    What is left of it when the context ends is removed. Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o444)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def stamp_of(path: Path) -> tuple[int, int]:
    """Another value whenever a file is another one; (0, 0) where there is none. Raises OSError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_ino


def put(path: Path, content: bytes) -> None:
    """Put a file in the place of what is there, whole for every reader; the one process that writes it calls this.

    What a death leaves lies under one name, where the next call overwrites it. Raises OSError: it is as before.
    """
    temporary = path.with_suffix(".writing")
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def replace(path: Path, content: bytes) -> None:
    """Put a read-only file in the place of what is there, whole for every reader. Raises OSError."""
    # Beside the folder, not in it: in that of a bundle every file counts.
    with written(path.parent.parent, content) as new:
        new.replace(path)
    sync(path.parent)

"""What is written stays written."""

import os
import shutil
import tempfile
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


def replace(path: Path, content: bytes) -> None:
    """Put a read-only file in the place of what is there, whole for every reader. Raises OSError."""
    # Beside the folder, not in it: in that of a bundle every file counts.
    descriptor, written = tempfile.mkstemp(dir=path.parent.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(written, 0o444)
        os.replace(written, path)
    except BaseException:
        os.unlink(written)
        raise
    sync(path.parent)

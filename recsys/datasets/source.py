"""The files a data set is read from: a folder, a zip archive or one file, all by base name and as bytes."""

import gzip
import hashlib
import re
import zipfile
import zlib
from pathlib import Path

from recsys.errors import DatasetError


class Source:
    """Named files behind one path; remembers the SHA-256 of every file that was read.

    Args:
        path: A folder (its direct files), a zip (its files at any depth) or a single file.
    Raises:
        DatasetError: the path does not exist or the archive cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sha256: dict[str, str] = {}
        self._zip_members: dict[str, list[str]] = {}
        try:
            if not path.exists():
                raise DatasetError(f"{path} does not exist: give a folder, a .zip or a data file")
            self.single_file = path.is_file() and path.suffix != ".zip"
            if path.is_dir():
                self.names = sorted(entry.name for entry in path.iterdir() if entry.is_file())
            elif self.single_file:
                self.names = [path.name]
            else:
                self._zip_members = _members_by_name(path)
                self.names = sorted(self._zip_members)
        except (OSError, zipfile.BadZipFile) as error:
            raise DatasetError(f"cannot open {path}: {error}; give a folder, a .zip or a data file") from error

    @property
    def slug(self) -> str:
        """The path's name as a lower-case slug: `My Data.zip` is `my-data`."""
        name = self.path.resolve().name
        if not self.path.is_dir():
            name = re.sub(r"(\.zip|\.csv|\.gz|\.parquet)+$", "", name)
        return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "dataset"

    def has(self, *names: str) -> bool:
        """True where every one of these files is present."""
        return all(name in self.names for name in names)

    def read(self, name: str) -> bytes:
        """The bytes of one file, decompressed where its name ends in `.gz`.

        Raises:
            DatasetError: unreadable, truncated or, in a zip, present in more than one folder.
        """
        try:
            data = self._stored_bytes(name)
            self.sha256[name] = hashlib.sha256(data).hexdigest()
            return gzip.decompress(data) if name.endswith(".gz") else data
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
            raise DatasetError(f"cannot read {name} in {self.path}: {error}; fetch the file again") from error

    def _stored_bytes(self, name: str) -> bytes:
        if self._zip_members:
            members = self._zip_members[name]
            if len(members) > 1:
                raise DatasetError(
                    f"{self.path} holds {name} {len(members)} times ({', '.join(members[:3])}): unpack it "
                    "and give the one folder that is meant"
                )
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(members[0])
        return (self.path if self.single_file else self.path / name).read_bytes()


def _members_by_name(path: Path) -> dict[str, list[str]]:
    with zipfile.ZipFile(path) as archive:
        files = [member.filename for member in archive.infolist() if not member.is_dir()]
    members: dict[str, list[str]] = {}
    for file in files:
        if not file.startswith("__MACOSX/"):
            members.setdefault(file.rsplit("/", 1)[-1], []).append(file)
    return members

"""Users who were forgotten: a list of digests of their ids, kept beside the archive for good.

The digest is plain: whoever has the list and guesses an id can tell whether it is in it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from recsys.durable import put, stamp_of
from recsys.errors import ArchiveError


def user_digest(user_id: str) -> str:
    """What stands for a user where the id must not: 16 bytes of BLAKE2b, in hex."""
    return hashlib.blake2b(user_id.encode(), digest_size=16, person=b"riffle user").hexdigest()


class ErasedUsers:
    """The list; one process adds to it, any may read it.

    Args:
        path: Of its file; there is none before somebody was forgotten.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, int]:
        """By digest the moment (UTC epoch milliseconds) up to which everything that arrives of the user is erased.

        Raises:
            ArchiveError: the file is damaged.
        """
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, int])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            raise ArchiveError(f"{self._path} cannot be read: {error}; restore the file") from error

    def as_of(self) -> tuple[int, int]:
        """Another value whenever the list is another one; cheap to look at."""
        try:
            return stamp_of(self._path)
        except OSError as error:
            raise ArchiveError(f"{self._path} cannot be read: {error}; restore the file") from error

    def add(self, until_ms: Mapping[str, int]) -> None:
        """Put users on the list, by digest; when this returns it is on disk.

        Raises:
            ArchiveError: the file is damaged, or the disk refuses; then it is as before.
        """
        listed = msgspec.json.format(msgspec.json.encode({**self.read(), **until_ms}), indent=1)
        try:
            put(self._path, listed)
        except OSError as error:
            raise ArchiveError(f"cannot write {self._path}: {error}; free disk space or mend the folder") from error

    def among(self, user_ids: Iterable[str]) -> set[str]:
        """Those of the given users who are on the list. Raises ArchiveError."""
        listed = self.read()
        return {user for user in user_ids if user_digest(user) in listed} if listed else set()

"""Where changes of names are kept: files that are created once, in a folder or on an object store."""

import os
from pathlib import Path
from typing import Protocol

from recsys.durable import sync, written
from recsys.errors import RegistryError
from recsys.object_store import ObjectStore


class ChangeFiles(Protocol):
    """Named files, whole from their first moment. Every operation may raise RegistryError, `read` OSError, too."""

    def names(self) -> list[str]:
        """What there is, in no order."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a file."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that must not be there yet; False where it is."""
        ...

    def place(self, name: str) -> str:
        """Where a file is, for messages."""
        ...


class ChangeFolder:
    """In a local folder, or one of a file system with hard links."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        return [path.name for path in self._folder.glob("*.json")]

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def create(self, name: str, content: bytes) -> bool:
        """Written beside its place and then linked to it, so that nobody sees a half."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with written(self._folder, content) as new:
                try:
                    os.link(new, self._folder / name)
                except FileExistsError:
                    return False
            sync(self._folder)
        except OSError as error:
            raise RegistryError(
                f"cannot write to {self._folder}: {error}; check that the folder is writable and has space"
            ) from error
        return True

    def place(self, name: str) -> str:
        return str(self._folder / name)


class StoredChanges:
    """Below `changes/` on an object store, which has no half objects either."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def names(self) -> list[str]:
        return list(self._store.sizes("changes"))

    def read(self, name: str) -> bytes:
        content = self._store.read(f"changes/{name}")
        if content is None:
            raise FileNotFoundError("it is gone")
        return content

    def create(self, name: str, content: bytes) -> bool:
        return self._store.create(f"changes/{name}", content)

    def place(self, name: str) -> str:
        return self._store.place(f"changes/{name}")

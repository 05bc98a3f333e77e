"""An object store (S3, GCS, whatever fsspec has a driver for), with what a registry needs of one.

Objects are whole or not there, and what was written is what the next reader gets; S3 and GCS promise both. Nothing
waits for ever: each operation ends in time, by an error if need be. Where credentials and endpoints come from is the
driver's business (for S3: the environment and the files of AWS).
"""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from recsys.errors import BundleError, RegistryError

TIMEOUT_S = 30.0  # of an operation on what is small
SLOWEST = 100_000  # bytes a second of a transfer, below which it is given up
RACERS = 4
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 2}}},
}
_CONFLICT = "ConditionalRequestConflict"  # S3: others were at it, too, and perhaps nobody did anything; try again
_TRIES = 3


class ObjectStore:
    """The objects below one URL, by their relative paths.

    Every method raises RegistryError where the store cannot be used; the message says why and what to do.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with self._told("use", ""):
            # Here, not above: only who has an object store needs the package, and its import takes time.
            import fsspec

            protocol = url.partition("://")[0]
            # Listings that are kept would hide what others write.
            self._fs, root = fsspec.url_to_fs(self.url, use_listings_cache=False, **_OPTIONS.get(protocol, {}))
            self._root = root.rstrip("/")
            self._bounded = self._fs.async_impl  # its methods take a timeout
        self._is_exclusive = False

    def place(self, path: str) -> str:
        """The whole URL of an object, for messages."""
        return f"{self.url}/{path}" if path else self.url

    def sizes(self, folder: str) -> dict[str, int]:
        """The objects below a folder, by their paths inside it, and how many bytes each has; one request a thousand."""
        below = f"{self._root}/{folder}/"
        with self._told("list", folder):
            found = self._fs.find(below.rstrip("/"), detail=True, **self._within())
        return {path[len(below) :]: one["size"] for path, one in found.items() if path.startswith(below)}

    def read(self, path: str) -> bytes | None:
        """A small object; None where there is none."""
        with self._told("read", path):
            try:
                return self._fs.cat_file(self._at(path), **self._within())
            except FileNotFoundError:
                return None

    def create(self, path: str, content: bytes) -> bool:
        """Write an object that must not be there; False where it is. Of many who do so at once one is told True.

        Content that is like nobody else's is known again where an answer got lost and the driver asked twice.
        """
        self._look_exclusive()
        return self._create(path, content)

    def write(self, path: str, content: bytes) -> None:
        """Write a small object, whatever was there."""
        with self._told("write", path):
            self._fs.pipe_file(self._at(path), content, **self._within())

    def upload(self, source: Path, path: str) -> None:
        """Write an object from a file, whatever was there."""
        with self._told("write", path):
            self._fs.put_file(str(source), self._at(path), **self._within(source.stat().st_size))

    def download(self, path: str, target: Path, size: int) -> None:
        """Write a file from an object of this size. What is there after an error is no whole file.

        Raises:
            BundleError: there is none.
        """
        with self._told("read", path):
            try:
                self._fs.get_file(self._at(path), str(target), **self._within(size))
            except FileNotFoundError as error:
                raise BundleError(f"{self.place(path)} is not there") from error

    def remove(self, path: str) -> None:
        """Remove an object; one that is not there is no error."""
        with self._told("remove", path):
            try:
                self._fs.rm_file(self._at(path), **self._within())
            except FileNotFoundError:
                return

    def age_s(self, path: str) -> float:
        """Seconds since an object was written, by its clock and ours; 0 where it is gone."""
        with self._told("read", path):
            try:
                return (datetime.now(UTC) - self._fs.modified(self._at(path))).total_seconds()
            except FileNotFoundError:
                return 0.0

    def _create(self, path: str, content: bytes, tries: int = _TRIES) -> bool:
        try:
            with self._told("create", path):
                try:
                    self._fs.pipe_file(self._at(path), content, mode="create", **self._within())
                    return True
                except FileExistsError:
                    return self.read(path) == content
        except RegistryError as error:
            there = self.read(path)
            if there is not None:  # it is written all the same, by us or another: the answer got lost
                return there == content
            if _CONFLICT in str(error) and tries > 1:
                return self._create(path, content, tries - 1)
            raise

    def _look_exclusive(self) -> None:
        """Have several create the same object at once: a driver that looks first and then writes lets all of them.

        Raises:
            RegistryError: not exactly one was told that it did.
        """
        if self._is_exclusive:
            return
        probe = f"probes/{uuid.uuid4().hex}"
        contents = [uuid.uuid4().hex.encode() for _ in range(RACERS)]
        try:
            with ThreadPoolExecutor(RACERS) as threads:
                won = list(threads.map(partial(self._create, probe), contents))
            winner = self.read(probe)
        finally:
            self.remove(probe)
        if [content for content, first in zip(contents, won, strict=True) if first] != [winner]:
            raise RegistryError(
                f"{self.url} does not create objects exclusively: of {RACERS} who created one at once, {sum(won)} were "
                "told that they did, so two promotions could both succeed; use a store with conditional writes, such "
                "as S3 or GCS, or a folder"
            )
        self._is_exclusive = True

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _within(self, size: int = 0) -> dict[str, float]:
        return {"timeout": TIMEOUT_S + size / SLOWEST} if self._bounded else {}

    @contextmanager
    def _told(self, action: str, path: str) -> Iterator[None]:
        try:
            yield
        except (BundleError, RegistryError):
            raise
        except FileNotFoundError as error:
            raise self._refusal(action, path, error, "create the bucket, or correct registry_url") from error
        except PermissionError as error:
            raise self._refusal(action, path, error, "let these credentials list, read, write and delete") from error
        except Exception as error:  # each driver has errors of its own, which have nothing else in common
            hint = "check network, endpoint and credentials; bundles that this home has go on serving"
            raise self._refusal(action, path, error, hint) from error

    def _refusal(self, action: str, path: str, error: Exception, hint: str) -> RegistryError:
        said = " ".join(str(error).split()) or type(error).__name__
        return RegistryError(f"cannot {action} {self.place(path)}: {said}; {hint}")

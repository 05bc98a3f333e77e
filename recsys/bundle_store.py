"""Bundles on an object store: whole or not there, also while others publish, name and prune.

bundles/<id>/<file>     as in a folder; a bundle is there once its `manifest.json` is, which is written last
changes/NNNNNNNN.json   `recsys.changes`
underway/<id>/<who>     an upload or a removal in progress, or what is left of one that was interrupted

Who uploads says so first and then looks whether somebody removes; who removes says so first and then looks whether
anybody else is at it, and leaves it then. So of the two at least one sees the other, and no file is removed from a
bundle that is being made whole.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from recsys.durable import sync
from recsys.errors import BundleError, RegistryError
from recsys.manifest import BESIDE, MANIFEST_NAME, FileEntry, Manifest, read_manifest, verify
from recsys.object_store import ObjectStore
from recsys.signature import SIGNATURES_NAME

FORGOTTEN_S = 86_400.0  # after so long what is under way is not any more, and what has no manifest gets none
WAIT_S = 60.0  # of an upload for a removal, which takes seconds
_LOOK_S = 0.5
_AT_ONCE = 8  # files
_UPLOAD, _REMOVAL = "upload", "removal"


class BundleStore:
    """The bundles of one object store. Every method raises RegistryError as those of `ObjectStore` do."""

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects

    def place(self, bundle_id: str) -> str:
        """Where a bundle is, for messages."""
        return self.objects.place(f"bundles/{bundle_id}")

    def ids(self) -> list[str]:
        """The folders that have a manifest."""
        return sorted(folder for folder, names in self._folders().items() if MANIFEST_NAME in names)

    def manifest(self, bundle_id: str) -> bytes | None:
        """The bytes of a manifest; None: there is no such bundle."""
        return self.objects.read(f"bundles/{bundle_id}/{MANIFEST_NAME}")

    def signatures(self, bundle_id: str) -> bytes | None:
        """The newest signatures of a bundle; None where nobody signed."""
        return self.objects.read(f"bundles/{bundle_id}/{SIGNATURES_NAME}")

    def sign(self, bundle_id: str, signatures: bytes) -> None:
        """Put signatures in the place of those that are there."""
        self.objects.write(f"bundles/{bundle_id}/{SIGNATURES_NAME}", signatures)

    def put(self, directory: Path, bundle_id: str) -> bytes:
        """Upload a verified folder, unless the bundle is there; returns the manifest that is there then.

        Another one may have been first. Its files are the same then, but for the time at which the bundle was made.

        Raises:
            RegistryError: somebody is removing it for a minute already, or a file is not there after its upload.
            BundleError: it is there, and lacks a file.
        """
        there = self.manifest(bundle_id)
        if there is not None:
            missing = self._missing(read_manifest(directory))
            if not missing:
                return there
            if self.manifest(bundle_id) is not None:  # or it was taken away just now
                raise BundleError(
                    f"{self.place(bundle_id)} is damaged: {missing}; remove its {MANIFEST_NAME} there, then publish it "
                    "again"
                )
        with self._underway(bundle_id, _UPLOAD):
            self._wait_for_removal(bundle_id)
            there = self.manifest(bundle_id)  # whoever removed it may have put it back
            return self._upload(directory, bundle_id) if there is None else there

    def fetch(self, bundle_id: str, directory: Path) -> None:
        """Download a bundle into a new folder, and verify it there.

        Raises:
            RegistryError: there is none. BundleError: what came is damaged.
        """
        content = self.manifest(bundle_id)
        if content is None:
            raise RegistryError(f"no bundle {self.place(bundle_id)}; run `riffle bundles list` for the ids")
        directory.mkdir(parents=True)
        (directory / MANIFEST_NAME).write_bytes(content)
        try:
            manifest = read_manifest(directory)
            for name in manifest.files:
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                for _ in threads.map(partial(self._download, bundle_id, directory), manifest.files.items()):
                    pass
            signatures = self.signatures(bundle_id)
            if signatures is not None:
                (directory / SIGNATURES_NAME).write_bytes(signatures)
            verify(directory)
            for path in directory.rglob("*"):
                if path.is_file():
                    path.chmod(0o444)
                sync(path)
        except BundleError as error:
            raise BundleError(f"what came from {self.place(bundle_id)} is damaged: {error}") from error
        if manifest.id != bundle_id:
            raise BundleError(f"{self.place(bundle_id)} holds bundle {manifest.id}; remove it there")

    def take(self, bundle_id: str, is_needed: Callable[[], bool]) -> bool:
        """Remove a bundle, or what an interrupted upload or removal left of it; False where it stays.

        Args:
            is_needed: Asked once the bundle is out of everybody's sight. Where it is, or cannot be told, it is back.
        """
        with self._underway(bundle_id, _REMOVAL) as mine:
            if any(name != mine for name in self._others(bundle_id)):
                return False
            path = f"bundles/{bundle_id}/{MANIFEST_NAME}"
            manifest = self.objects.read(path)
            self.objects.remove(path)
            needed = True
            try:
                needed = is_needed()
            finally:
                if needed and manifest is not None:
                    self.objects.create(path, manifest)
            if not needed:
                for name in self.objects.sizes(f"bundles/{bundle_id}"):
                    self.objects.remove(f"bundles/{bundle_id}/{name}")
        return not needed

    def left_over(self) -> list[str]:
        """Folders without a manifest, in which nobody has written for a day."""
        return [
            folder
            for folder, names in self._folders().items()
            if MANIFEST_NAME not in names and not any(self._is_fresh(f"bundles/{folder}/{name}") for name in names)
        ]

    def _folders(self) -> dict[str, set[str]]:
        """The names of the objects of each bundle, whole or not."""
        found: dict[str, set[str]] = {}
        for path in self.objects.sizes("bundles"):
            folder, _, name = path.partition("/")
            found.setdefault(folder, set()).add(name)
        return found

    def _upload(self, directory: Path, bundle_id: str) -> bytes:
        manifest, content = read_manifest(directory), (directory / MANIFEST_NAME).read_bytes()
        beside = [name for name in BESIDE if name != MANIFEST_NAME and (directory / name).exists()]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            for _ in threads.map(
                lambda name: self.objects.upload(directory / name, f"bundles/{bundle_id}/{name}"),
                (*manifest.files, *beside),
            ):
                pass
        if missing := self._missing(manifest):
            raise RegistryError(f"{self.place(bundle_id)} is not whole after its upload: {missing}; publish it again")
        path = f"bundles/{bundle_id}/{MANIFEST_NAME}"
        return content if self.objects.create(path, content) else self.objects.read(path) or content

    def _missing(self, manifest: Manifest) -> str:
        """What a bundle on the store lacks by names and sizes; empty: nothing."""
        there = self.objects.sizes(f"bundles/{manifest.id}")
        return ", ".join(
            f"{name} has {there.get(name, 'no')} bytes, not {entry.size}"
            for name, entry in manifest.files.items()
            if there.get(name) != entry.size
        )

    def _download(self, bundle_id: str, directory: Path, file: tuple[str, FileEntry]) -> None:
        name, entry = file
        self.objects.download(f"bundles/{bundle_id}/{name}", directory / name, entry.size)

    @contextmanager
    def _underway(self, bundle_id: str, what: str) -> Iterator[str]:
        """Say that a bundle is being uploaded or removed, for as long as it is."""
        name = f"{what}-{uuid.uuid4().hex}"
        path = f"underway/{bundle_id}/{name}"
        self.objects.create(path, name.encode())
        try:
            yield name
        finally:
            with suppress(RegistryError):  # it is passed over in a day
                self.objects.remove(path)

    def _others(self, bundle_id: str) -> list[str]:
        """What is under way on a bundle, without what was interrupted."""
        folder = f"underway/{bundle_id}"
        fresh = []
        for name in self.objects.sizes(folder):
            if self._is_fresh(f"{folder}/{name}"):
                fresh.append(name)
            else:
                self.objects.remove(f"{folder}/{name}")
        return fresh

    def _is_fresh(self, path: str) -> bool:
        return self.objects.age_s(path) < FORGOTTEN_S

    def _wait_for_removal(self, bundle_id: str) -> None:
        end = time.monotonic() + WAIT_S
        while removing := [name for name in self._others(bundle_id) if name.startswith(_REMOVAL)]:
            if time.monotonic() > end:
                path = self.objects.place(f"underway/{bundle_id}/{removing[0]}")
                raise RegistryError(
                    f"{self.place(bundle_id)} is being pruned; try again in a minute, or remove {path} if no "
                    "`riffle bundles prune` runs any more"
                )
            time.sleep(_LOOK_S)

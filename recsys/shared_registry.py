"""A registry on an object store, which several machines share; the folder of each keeps copies to map.

root/bundles/<id>/   whole copies, fetched when a bundle is wanted; what is here is loaded by its id without the store
root/seen/<id>/      the manifest of each bundle that was seen on the store: bundles are listed without their files
"""

import shutil
from collections.abc import Callable, Set
from contextlib import suppress
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recsys.bundle import Bundle
from recsys.bundle_store import BundleStore
from recsys.change_files import StoredChanges
from recsys.durable import replace
from recsys.errors import BundleError, RegistryError, SignatureError
from recsys.manifest import MANIFEST_NAME, Manifest, read_manifest, verify
from recsys.object_store import ObjectStore
from recsys.registry import ID, Registry
from recsys.signature import SIGNATURES_NAME, TrustedKeys


class SharedRegistry(Registry):
    """As `Registry`; whoever cannot reach the store is told by a RegistryError.

    A bundle that was pruned by another machine while it was named or published here is uploaded again. Two who sign
    the same bundle in the same moment may lose one of the two signatures.
    """

    def __init__(self, root: Path, objects: ObjectStore, trusted: TrustedKeys | None = None) -> None:
        super().__init__(root, trusted, place=objects.url, changes=StoredChanges(objects))
        self._store = BundleStore(objects)
        self._seen = root / "seen"

    def resolve(self, reference: str) -> str:
        """As of `Registry`; the id of a bundle that has a copy here is not looked up."""
        return reference if self._has_copy(reference) else super().resolve(reference)

    def path(self, reference: str) -> Path:
        """The folder of a bundle, with the newest signatures that can be had; it is fetched where it is not here yet.

        Raises:
            RegistryError: as of `resolve`. BundleError: what came from the store is damaged; nothing of it stays.
        """
        bundle_id = self.resolve(reference)
        directory = self._bundles / bundle_id
        if not self._has_copy(bundle_id):
            with self._locked("fetch a bundle"):
                if not self._has_copy(bundle_id):  # by now
                    with self._arriving(bundle_id) as copy:
                        self._store.fetch(bundle_id, copy)
                    self._keep_manifest(bundle_id, (directory / MANIFEST_NAME).read_bytes())
        elif (self._seen / bundle_id).exists():
            with suppress(RegistryError, OSError):  # then those that are here have to do
                newest = self._store.signatures(bundle_id)
                if newest is not None:
                    replace(directory / SIGNATURES_NAME, newest)
        return directory

    def load(self, reference: str) -> tuple[Bundle, Manifest]:
        """As of `Registry`; a copy that was damaged here is fetched again."""
        bundle_id = self.resolve(reference)
        try:
            return super().load(bundle_id)
        except SignatureError:
            raise
        except BundleError:
            if not self._fetched_again(bundle_id):
                raise
            return super().load(bundle_id)

    def sign(self, reference: str, key: Ed25519PrivateKey) -> str:
        """As of `Registry`; the signature is on the store, too."""
        directory = self.path(reference)
        self._share(directory.name)
        signer = super().sign(directory.name, key)
        self._store.sign(directory.name, (directory / SIGNATURES_NAME).read_bytes())
        return signer

    def prune(self, *, keep: int, needed: Set[str], again: Callable[[], Set[str]] = frozenset[str]) -> list[str]:
        """As of `Registry`; what interrupted uploads left goes, too, and copies of what others have pruned."""
        removed = super().prune(keep=keep, needed=needed, again=again)
        for bundle_id in self._store.left_over():
            self._store.take(bundle_id, partial(self._is_held, bundle_id, needed, again))
        with self._locked("prune"):
            there = self._ids()
            for bundle_id in (folder.name for folder in self._seen.glob("*") if ID.fullmatch(folder.name)):
                if bundle_id not in there and not self._is_held(bundle_id, needed, again):
                    self._forget(bundle_id)
        return removed

    def _take(self, bundle_id: str, again: Callable[[], Set[str]]) -> bool:
        gone = self._store.take(bundle_id, partial(self._is_held, bundle_id, frozenset(), again))
        if gone:
            self._forget(bundle_id)
        return gone

    def _is_held(self, bundle_id: str, needed: Set[str], again: Callable[[], Set[str]]) -> bool:
        return bundle_id in {*needed, *self.names().values(), self.previous_champion(), *again()}

    def _forget(self, bundle_id: str) -> None:
        """Remove the copy of a bundle that is not on the store any more, unless it has a name by now."""
        if not self._has_copy(bundle_id) or super()._take(bundle_id, frozenset[str]):
            shutil.rmtree(self._seen / bundle_id, ignore_errors=True)

    def _fetched_again(self, bundle_id: str) -> bool:
        """Replace a copy that is damaged; False where it is as published, or the store has none or does not say."""
        directory = self._bundles / bundle_id
        try:
            verify(directory)
            return False
        except BundleError:
            with suppress(RegistryError):
                if bundle_id not in self._ids():
                    return False
                with self._locked("fetch a bundle"):
                    shutil.rmtree(self._incoming, ignore_errors=True)
                    self._incoming.mkdir()
                    directory.rename(self._incoming / bundle_id)  # who has mapped it keeps it
                self.path(bundle_id)
                return True
        return False

    def _share(self, bundle_id: str) -> None:
        """Have the bundle on the store: it is uploaded from the copy here unless it is there."""
        directory = self._bundles / bundle_id
        there = self._store.put(directory, bundle_id)
        self._keep_manifest(bundle_id, there)
        if there != (directory / MANIFEST_NAME).read_bytes():
            self._manifest(bundle_id)  # is one, of this very bundle
            replace(directory / MANIFEST_NAME, there)  # of another hour; signatures are of this one

    def _has_copy(self, bundle_id: str) -> bool:
        return bool(ID.fullmatch(bundle_id)) and (self._bundles / bundle_id).is_dir()

    def _ids(self) -> tuple[str, ...]:
        return tuple(one for one in self._store.ids() if ID.fullmatch(one))

    def _manifest(self, bundle_id: str) -> Manifest:
        directory = self._seen / bundle_id
        if not (directory / MANIFEST_NAME).exists():
            content = self._store.manifest(bundle_id)
            if content is None:
                raise BundleError(f"{self._store.place(bundle_id)} was pruned just now")
            self._keep_manifest(bundle_id, content)
        try:
            manifest = read_manifest(directory)
            if manifest.id != bundle_id:
                raise BundleError(f"{self._store.place(bundle_id)} holds bundle {manifest.id}; remove it there")
            return manifest
        except BundleError:
            (directory / MANIFEST_NAME).unlink(missing_ok=True)  # so that it is fetched anew once it is mended
            raise

    def _keep_manifest(self, bundle_id: str, content: bytes) -> None:
        folder = self._seen / bundle_id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            replace(folder / MANIFEST_NAME, content)
        except OSError as error:
            raise RegistryError(
                f"cannot write to {folder}: {error}; check that the folder is writable and has space"
            ) from error

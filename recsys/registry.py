"""The bundles that exist and which of them has which name: files, safe against crashes and concurrent writers.

root/bundles/<id>/    published bundles, read-only
root/incoming/        a copy in progress, or what a crash left of it; the next publish removes it
root/changes/         one file per change of a name: `recsys.changes`
root/bundles.lock     held by the one process that publishes or prunes; root/names.lock for the moment of a change
"""

import fcntl
import re
import shutil
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recsys.bundle import Bundle
from recsys.bundle_files import load
from recsys.change_files import ChangeFiles, ChangeFolder
from recsys.changes import CHAMPION, PREVIOUS, Change, Changes
from recsys.durable import copy_read_only, sync
from recsys.errors import BundleError, RegistryError
from recsys.manifest import BESIDE, BUNDLE_KIND, MANIFEST_NAME, Manifest, read_manifest, verify
from recsys.signature import TrustedKeys, sign

ID = re.compile(r"\d{8}-[0-9a-f]{12}", re.ASCII)


class Registry:
    """The bundles under one root folder (local or a file system with working `flock`).

    Readers take no locks: what they see was renamed or linked into place.

    Args:
        trusted: One of these keys must have signed what is loaded, or becomes the champion; None: no signature is
            asked for. Publishing, listing and other names ask for none: a bundle is there before it can be signed.
        place: Where it is, for messages; else the root. changes: The log of names; else the folder in the root.
    """

    def __init__(
        self, root: Path, trusted: TrustedKeys | None = None, *, place: str = "", changes: ChangeFiles | None = None
    ) -> None:
        self.root, self._trusted = root, trusted
        self._place = place or str(root)
        self._bundles = root / "bundles"
        self._incoming = root / "incoming"
        self._changes = Changes(changes or ChangeFolder(root / "changes"))

    def publish(self, directory: Path) -> str:
        """Copy a bundle into the registry and return its id; a bundle that is there already stays as it is.

        The copy, not the original, is what is verified last, fsynced and renamed into place.

        Raises:
            BundleError: the bundle, or the published one with the same id, is damaged.
            RegistryError: it is no Riffle bundle, or the files cannot be written.
        """
        manifest = verify(directory)
        if manifest.kind != BUNDLE_KIND:
            raise RegistryError(f"{directory} is of kind {manifest.kind!r}; publish a {BUNDLE_KIND!r} folder")
        with self._locked("publish"):
            shutil.rmtree(self._incoming, ignore_errors=True)
            if (self._bundles / manifest.id).exists():
                self._checked(manifest.id, verify)
            else:
                beside = [name for name in BESIDE if (directory / name).exists()]
                with self._arriving(manifest.id) as copy:
                    for name in (*manifest.files, *beside):
                        copy_read_only(directory / name, copy / name)
                    verify(copy)
            self._share(manifest.id)
        return manifest.id

    def champion(self) -> str | None:
        """The id of the serving bundle; None before the first promotion.

        Raises:
            RegistryError: the newest change does not decode.
        """
        return self.names().get(CHAMPION)

    def names(self) -> dict[str, str]:
        """The bundle of each name; errors as of `champion`."""
        return self._changes.names()

    def previous_champion(self) -> str | None:
        """The bundle that served before the champion, for a roll back; None when there was none."""
        return self._changes.previous()

    def promote(self, reference: str, *, reason: str, who: str, expected: str | None = None) -> Change:
        """Make a verified bundle the champion. A roll back is a promotion, too. Arguments and errors as of `name`."""
        return self.name(CHAMPION, reference, reason=reason, who=who, expected=expected)

    def name(self, name: str, reference: str, *, reason: str, who: str, expected: str | None = None) -> Change:
        """Give a name to a verified bundle; who had it keeps its others.

        Args:
            reference: As of `resolve`.
            expected: The bundle that has the name, as far as the caller knows, as of `resolve`; None: whichever.
        Raises:
            BundleError: the bundle is damaged. SignatureError: it is to be the champion, and no trusted key has signed
                it. Moved: another has the name. RegistryError: no such bundle, no reason,
                nobody named, no name for a bundle, or a damaged log. The name stays where it is in all cases.
        """
        trusted = self._trusted if name == CHAMPION else None
        bundle_id = self.path(reference).name
        self._checked(bundle_id, partial(verify, trusted=trusted))
        self._share(bundle_id)
        expected = None if expected is None else self.resolve(expected)
        with self._locked("name a bundle", lock="names"):
            self._checked(bundle_id, read_manifest)  # it was not pruned meanwhile
            change = self._changes.give(name, bundle_id, who=who, reason=reason, expected=expected)
            self._share(bundle_id)  # again: it may have been pruned elsewhere before it had the name
            return change

    def unname(self, name: str, *, reason: str, who: str) -> Change:
        """Take a name away. The champion's can only be given to another.

        Raises:
            RegistryError: no bundle has it, or it is the champion's; else as `name`.
        """
        if name == CHAMPION:
            raise RegistryError("something has to serve: promote another bundle instead")
        if name not in self.names():
            raise RegistryError(f"no bundle has the name {name!r}; `riffle bundles list` shows those that are given")
        return self._changes.give(name, None, who=who, reason=reason)

    def audit(self) -> list[Change]:
        """All changes of names, oldest first.

        Raises:
            RegistryError: one does not decode.
        """
        return self._changes.all()

    def dispensable(self, *, keep: int, needed: Set[str]) -> list[str]:
        """Bundles that nothing needs, oldest first: no name, not the champion before, not the newest, nor `needed`.

        Args:
            keep: How many of the newest are kept whatever else. needed: Ids that are kept, such as of answers that may
                be replayed.
        """
        kept = {*needed, *self.names().values(), self.previous_champion()}
        newest = [manifest.id for manifest in self.list()]
        return [one for one in reversed(newest[keep:]) if one not in kept]

    def prune(self, *, keep: int, needed: Set[str], again: Callable[[], Set[str]] = frozenset[str]) -> list[str]:
        """Remove what is `dispensable`, and return it. A bundle that is named or needed meanwhile stays.

        Args:
            again: Asked for what is needed once a bundle is out of everybody's sight and before it is gone. Who needs
                a bundle says so first and looks for it then; so of the two at least one sees the other.
        Raises:
            RegistryError: the folder is not writable. What `again` raises; the bundle is back in its place then.
        """
        with self._locked("prune"):
            found = self.dispensable(keep=keep, needed=needed)
            return [bundle_id for bundle_id in found if self._take(bundle_id, again)]

    def _take(self, bundle_id: str, again: Callable[[], Set[str]]) -> bool:
        """Remove a bundle, unless it is needed by now; the lock on bundles is held."""
        away = self._incoming / bundle_id
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir()
        with self._locked("prune", lock="names"):
            if bundle_id in self.names().values():
                return False
            (self._bundles / bundle_id).rename(away)  # whole or gone for every reader
            sync(self._bundles)
        if self._is_needed(bundle_id, again):
            return False
        shutil.rmtree(self._incoming)
        return True

    def _is_needed(self, bundle_id: str, again: Callable[[], Set[str]]) -> bool:
        """Whether a bundle that was taken away is needed after all, or nobody can say; then it is back."""
        needed = True
        try:
            needed = bundle_id in again()
        finally:
            if needed:
                (self._incoming / bundle_id).rename(self._bundles / bundle_id)
                sync(self._bundles)
        return needed

    def resolve(self, reference: str) -> str:
        """The one bundle id meant by an id, a unique prefix of one, a name, or `previous`.

        Raises:
            RegistryError: none or several are meant, or the registry is empty.
        """
        published = self._ids()
        if not published:
            raise RegistryError(f"no bundles in {self._place}; run `riffle train` to make and publish one")
        names = self.names()
        if reference == PREVIOUS and (before := self.previous_champion()):
            names[PREVIOUS] = before
        if reference in (CHAMPION, PREVIOUS) and reference not in names:
            raise RegistryError(
                f"there is no {reference} bundle yet; run `riffle bundles promote <id> --reason <text>`"
            )
        reference = names.get(reference, reference)
        matches = [bundle_id for bundle_id in published if reference and bundle_id.startswith(reference)]
        if not matches:
            raise RegistryError(f"no bundle {reference!r} in {self._place}; run `riffle bundles list` for the ids")
        if len(matches) > 1:
            raise RegistryError(f"{reference!r} could be any of {', '.join(matches)}; give more of the id")
        return matches[0]

    def path(self, reference: str) -> Path:
        """The folder of a bundle; `reference` and errors as for `resolve`. Not verified here."""
        return self._bundles / self.resolve(reference)

    def load(self, reference: str) -> tuple[Bundle, Manifest]:
        """Verify and map a bundle; `reference` as for `resolve`.

        Raises:
            RegistryError: as of `resolve`. BundleError: the bundle is damaged, or of another feature schema.
            SignatureError: no trusted key has signed it.
        """
        return load(self.path(reference), self._trusted)

    def sign(self, reference: str, key: Ed25519PrivateKey) -> str:
        """Sign a bundle, each byte of which is as published; returns the fingerprint of the key.

        Raises:
            RegistryError, BundleError: as of `load`. SignatureError: the signature cannot be written.
        """
        directory = self.path(reference)
        with self._locked("sign a bundle", lock="names"):
            self._checked(directory.name, verify)
            return sign(directory, (directory / MANIFEST_NAME).read_bytes(), key)

    def damaged(self) -> dict[str, BundleError]:
        """The published ids whose manifest is unreadable, and why: what `list` cannot show."""
        return {bundle_id: found for bundle_id, found in self._read_all() if isinstance(found, BundleError)}

    def list(self) -> list[Manifest]:
        """The manifests of all bundles, newest first; those in `damaged` are left out."""
        readable = [found for _, found in self._read_all() if isinstance(found, Manifest)]
        return sorted(readable, key=lambda manifest: (manifest.created, manifest.id), reverse=True)

    def _share(self, bundle_id: str) -> None:
        """Have others find a bundle that is in the folder: here they do already."""

    def _manifest(self, bundle_id: str) -> Manifest:
        return self._checked(bundle_id, read_manifest)

    @contextmanager
    def _arriving(self, bundle_id: str) -> Iterator[Path]:
        """A place for the files of a new bundle; filled and verified, it becomes that of the bundle."""
        copy = self._incoming / bundle_id
        shutil.rmtree(self._incoming, ignore_errors=True)
        try:
            yield copy
            self._bundles.mkdir(exist_ok=True)
            copy.rename(self._bundles / bundle_id)
            sync(self._bundles)
        finally:
            shutil.rmtree(self._incoming, ignore_errors=True)

    def _ids(self) -> tuple[str, ...]:
        return tuple(sorted(path.name for path in self._bundles.glob("*") if ID.fullmatch(path.name)))

    def _read_all(self) -> Iterator[tuple[str, Manifest | BundleError]]:
        for bundle_id in self._ids():
            try:
                yield bundle_id, self._manifest(bundle_id)
            except BundleError as error:
                yield bundle_id, error

    def _checked(self, bundle_id: str, check: Callable[[Path], Manifest]) -> Manifest:
        manifest = check(self._bundles / bundle_id)
        if manifest.id != bundle_id:
            raise BundleError(
                f"{self._bundles / bundle_id} holds bundle {manifest.id}; rename the folder so, or remove it"
            )
        return manifest

    @contextmanager
    def _locked(self, action: str, *, lock: str = "bundles") -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with (self.root / f"{lock}.lock").open("ab") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise RegistryError(
                f"cannot {action} in {self.root}: {error}; check that the folder is writable and has space"
            ) from error

"""The bundles that exist and the one that serves: files, safe against crashes and concurrent writers.

root/bundles/<id>/    published bundles, read-only
root/incoming/        a copy in progress, or what a crash left of it; the next publish removes it
root/champion.json    the pointer to the serving bundle, replaced atomically
root/audit.jsonl      one line per promotion, written before the pointer moves
root/*.lock           held by the one process that publishes, and by the one that promotes
"""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from recsys.durable import sync
from recsys.errors import BundleError, RegistryError
from recsys.manifest import BUNDLE_KIND, MANIFEST_NAME, Manifest, read_manifest, verify

_ID = re.compile(r"\d{8}-[0-9a-f]{12}", re.ASCII)


class Promotion(msgspec.Struct, frozen=True, rename={"from_id": "from", "to_id": "to"}):
    """One line of the audit: the champion changed from one id (None: there was none) to another."""

    time: str
    from_id: str | None
    to_id: str
    reason: str


class _Pointer(msgspec.Struct, frozen=True):
    id: str


class Registry:
    """The bundles under one root folder (local or a file system with working `flock`).

    Readers take no locks: what they see was renamed into place, or is a whole line of the audit.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._bundles = root / "bundles"
        self._incoming = root / "incoming"
        self._pointer = root / "champion.json"
        self._audit = root / "audit.jsonl"

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
            target = self._bundles / manifest.id
            if target.exists():
                return self._checked(manifest.id, verify).id
            try:
                copy = self._incoming / manifest.id
                for name in (*manifest.files, MANIFEST_NAME):
                    _copy_read_only(directory / name, copy / name)
                verify(copy)
                self._bundles.mkdir(exist_ok=True)
                copy.rename(target)
                sync(self._bundles)
            finally:
                shutil.rmtree(self._incoming, ignore_errors=True)
        return manifest.id

    def champion(self) -> str | None:
        """The id of the serving bundle; None before the first promotion.

        Raises:
            RegistryError: the pointer file does not decode.
        """
        try:
            champion = msgspec.json.decode(self._pointer.read_bytes(), type=_Pointer).id
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError, OSError) as error:
            raise self._bad_pointer(str(error)) from error
        if not _ID.fullmatch(champion):
            raise self._bad_pointer(f"{champion!r} is no bundle id")
        return champion

    def previous_champion(self) -> str | None:
        """The bundle that served before the champion, for a roll back; None when there was none."""
        champion = self.champion()
        changes = (p for p in reversed(self.audit()) if p.to_id == champion and p.from_id not in (None, p.to_id))
        return next((promotion.from_id for promotion in changes), None)

    def promote(self, reference: str, *, reason: str) -> None:
        """Make a verified bundle the champion, and say why in the audit. A roll back is a promotion, too.

        The audit line comes first: a crash between the two leaves a promotion on record that did not happen,
        never one that happened unrecorded; `previous_champion` is right in both.

        Raises:
            BundleError: the bundle is damaged; the champion stays.
            RegistryError: no such bundle, no reason, or a corrupt registry file; the champion stays.
        """
        if not reason.strip():
            raise RegistryError(f"promoting {reference!r} needs a reason; it goes into the audit")
        with self._locked("promote"):
            bundle_id = self._checked(self.resolve(reference), verify).id
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._append(Promotion(time=now, from_id=self.champion(), to_id=bundle_id, reason=reason))
            temporary = self._pointer.with_suffix(".tmp")
            temporary.write_bytes(msgspec.json.encode(_Pointer(bundle_id)) + b"\n")
            sync(temporary)
            temporary.replace(self._pointer)
            sync(self.root)

    def audit(self) -> tuple[Promotion, ...]:
        """All promotions, oldest first. A torn last line is a promotion that did not happen: left out.

        Raises:
            RegistryError: a complete line does not decode.
        """
        lines = self._whole_audit_lines().splitlines()
        promotions = []
        for number, line in enumerate(lines, 1):
            try:
                promotions.append(msgspec.json.decode(line, type=Promotion))
            except (ValueError, RecursionError) as error:
                raise RegistryError(f"{self._audit} line {number} is corrupt: {error}; restore the file") from error
        return tuple(promotions)

    def resolve(self, reference: str) -> str:
        """The one bundle id meant by an id, a unique prefix of one, or `champion`, or `previous`.

        Raises:
            RegistryError: none or several are meant, or the registry is empty.
        """
        published = self._ids()
        if not published:
            raise RegistryError(f"no bundles in {self.root}; run `riffle train` to make and publish one")
        if reference in ("champion", "previous"):
            meant = self.champion() if reference == "champion" else self.previous_champion()
            if meant is None:
                raise RegistryError(f"there is no {reference} bundle yet; run `riffle bundles promote <id>`")
            reference = meant
        matches = [bundle_id for bundle_id in published if reference and bundle_id.startswith(reference)]
        if not matches:
            raise RegistryError(f"no bundle {reference!r} in {self.root}; run `riffle bundles list` for the ids")
        if len(matches) > 1:
            raise RegistryError(f"{reference!r} could be any of {', '.join(matches)}; give more of the id")
        return matches[0]

    def path(self, reference: str) -> Path:
        """The folder of a bundle; `reference` and errors as for `resolve`. Not verified here."""
        return self._bundles / self.resolve(reference)

    def damaged(self) -> dict[str, BundleError]:
        """The published ids whose manifest is unreadable, and why: what `list` cannot show."""
        return {bundle_id: found for bundle_id, found in self._read_all() if isinstance(found, BundleError)}

    def list(self) -> list[Manifest]:
        """The manifests of all bundles, newest first; those in `damaged` are left out."""
        readable = [found for _, found in self._read_all() if isinstance(found, Manifest)]
        return sorted(readable, key=lambda manifest: (manifest.created, manifest.id), reverse=True)

    def _ids(self) -> tuple[str, ...]:
        return tuple(sorted(path.name for path in self._bundles.glob("*") if _ID.fullmatch(path.name)))

    def _read_all(self) -> Iterator[tuple[str, Manifest | BundleError]]:
        for bundle_id in self._ids():
            try:
                yield bundle_id, self._checked(bundle_id, read_manifest)
            except BundleError as error:
                yield bundle_id, error

    def _checked(self, bundle_id: str, check: Callable[[Path], Manifest]) -> Manifest:
        manifest = check(self._bundles / bundle_id)
        if manifest.id != bundle_id:
            raise BundleError(
                f"{self._bundles / bundle_id} holds bundle {manifest.id}; rename the folder so, or remove it"
            )
        return manifest

    def _bad_pointer(self, found: str) -> RegistryError:
        return RegistryError(
            f"{self._pointer} cannot be used: {found}; remove it, then run `riffle bundles promote <id>` "
            f"({self._audit.name} names the last champion)"
        )

    def _whole_audit_lines(self) -> bytes:
        written = self._audit.read_bytes() if self._audit.exists() else b""
        return written[: written.rfind(b"\n") + 1]

    def _append(self, promotion: Promotion) -> None:
        self.audit()  # refuses to write after a corrupt line
        with self._audit.open("ab") as file:
            file.truncate(len(self._whole_audit_lines()))  # drops what a crash left of a line
            file.write(msgspec.json.encode(promotion) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _locked(self, action: str) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with (self.root / f"{action}.lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise RegistryError(
                f"cannot {action} in {self.root}: {error}; check that the folder is writable and has space"
            ) from error


def _copy_read_only(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(source.stat().st_mode & 0o444)
    sync(target)
    sync(target.parent)

"""The integrity of a bundle directory: its files, their sizes and hashes, and the id made from them.

`verify` answers one question, "are these the bytes that were written?", before any parser of theirs runs.
It detects damage and mix-ups. Who may write the directory may also write a new manifest: against that there are
signatures (`recsys.signature`), which are asked for where trusted keys are given.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal

import msgspec

from recsys.errors import BundleError
from recsys.signature import SIGNATURES_NAME, TrustedKeys

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION: Final = 1
BUNDLE_KIND = "riffle-bundle"
BESIDE = (MANIFEST_NAME, SIGNATURES_NAME)  # what no manifest lists

_RFC3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", re.ASCII)


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a bundle: its SHA-256 (64 hexadecimal digits) and its size in bytes."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, msgspec.Meta(ge=0)]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a bundle directory holds and where it comes from.

    Attributes:
        version: Version of this format.
        kind: What the files are together, e.g. `riffle-bundle`.
        id: `<created, YYYYMMDD>-<first 12 hexadecimal digits of the content hash>`.
        files: Relative POSIX path -> hash and size; every regular file but the manifest itself.
        fields: What the writer says about the files (parent, code commit, metrics, ...); any JSON.
    """

    version: Literal[1]
    kind: str
    id: str
    files: dict[str, FileEntry]
    fields: dict[str, Any]

    @property
    def created(self) -> datetime:
        """When the bundle was made, UTC."""
        return _utc(self.fields["created"])


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, ASCII only; ValueError on NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def write_manifest(directory: Path, *, kind: str = BUNDLE_KIND, fields: Mapping[str, Any]) -> Manifest:
    """Hash every file below a directory and write `manifest.json` (fsynced) beside them.

    Args:
        directory: The finished files; a manifest is written once.
        kind: What the files are together.
        fields: JSON values; `created` (RFC 3339, UTC) is required and the only field that the content hash
            leaves out, so that the same files with the same fields have the same hash.

    Raises:
        BundleError: a manifest exists, an entry is neither a file nor a folder (a symlink, say), `created` is
            missing or malformed, or a field is no JSON value.
    """
    path = directory / MANIFEST_NAME
    try:
        plain = {str(name): _as_read_back(name, value) for name, value in fields.items()}
        files = _hash_all(directory)
        manifest = Manifest(
            version=MANIFEST_VERSION, kind=kind, id=_id_of(kind, files, plain), files=files, fields=plain
        )
        with path.open("xb") as file:
            file.write(canonical_json(msgspec.to_builtins(manifest)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except ValueError as error:
        raise BundleError(f"{path} cannot be made: {error}; correct it and write again") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error}; check the folder, then write again") from error
    return manifest


def read_manifest(directory: Path, trusted: TrustedKeys | None = None) -> Manifest:
    """Read `manifest.json` and check it against itself: version, layout, paths, id. Opens no file but its signatures.

    Args:
        trusted: One of these keys must have signed it, which is seen to before it is parsed. None: anybody's will do.
    Raises:
        BundleError: one of these checks failed; the message names the file and the check.
        SignatureError: no trusted key has signed it.
    """
    refuse = partial(_refusal, directory)
    try:
        content = (directory / MANIFEST_NAME).read_bytes()
        if trusted is not None:
            trusted.check(directory, content)
        document = json.loads(content)
        canonical_json(document)  # NaN and infinities, which Python's parser lets through
    except OSError as error:
        raise refuse(MANIFEST_NAME, "presence", str(error)) from error
    except (ValueError, RecursionError) as error:
        raise refuse(MANIFEST_NAME, "JSON", str(error)) from error
    version = document.get("version") if isinstance(document, dict) else None
    if version != MANIFEST_VERSION:
        raise refuse(MANIFEST_NAME, "version", f"{version!r}, this release reads version {MANIFEST_VERSION}")
    try:
        manifest = msgspec.convert(document, Manifest)
        for name in manifest.files:
            _check_path(name)
        expected_id = _id_of(manifest.kind, manifest.files, manifest.fields)
    except ValueError as error:
        raise refuse(MANIFEST_NAME, "layout", str(error)) from error
    if manifest.id != expected_id:
        raise refuse(MANIFEST_NAME, "id", f"says {manifest.id!r}, its content makes {expected_id!r}")
    return manifest


def verify(directory: Path, trusted: TrustedKeys | None = None) -> Manifest:
    """Check that a directory holds exactly the files of its manifest, bit for bit; signatures may lie beside them.

    Presence and sizes are checked before the first hash. Cost: one streamed read of every byte, by all processors.

    Raises:
        BundleError: as `read_manifest`; or a file is missing, extra, a symlink, of another size or hash.
    """
    manifest = read_manifest(directory, trusted)
    refuse = partial(_refusal, directory)
    try:
        entries = _scan(directory)
        for name, is_regular in entries.items():
            if not is_regular:
                raise refuse(name, "regular file", "it is a symlink or a special file")
            if name not in manifest.files and name not in BESIDE:
                raise refuse(name, "extra file", "the manifest does not list it")
        for name, entry in manifest.files.items():
            if name not in entries:
                raise refuse(name, "presence", "the manifest lists it, the folder lacks it")
            size = (directory / name).stat().st_size
            if size != entry.size:
                raise refuse(name, "size", f"{size} bytes, the manifest says {entry.size}")
        hashes = _hashes(directory / name for name in manifest.files)
        for (name, entry), sha256 in zip(manifest.files.items(), hashes, strict=True):
            if sha256 != entry.sha256:
                raise refuse(name, "sha256", f"{sha256}, the manifest says {entry.sha256}")
    except OSError as error:
        raise refuse(str(error.filename), "readability", str(error)) from error
    return manifest


def _refusal(directory: Path, name: str, check: str, found: str) -> BundleError:
    return BundleError(
        f"bundle {directory}: {name!r} failed the {check} check: {found}; "
        "run `riffle bundles list` and promote another bundle, or publish this one anew"
    )


def _id_of(kind: str, files: Mapping[str, FileEntry], fields: Mapping[str, Any]) -> str:
    content = {
        "kind": kind,
        "files": {name: entry.sha256 for name, entry in files.items()},
        "fields": {name: value for name, value in fields.items() if name != "created"},
    }
    return f"{_utc(fields.get('created')):%Y%m%d}-{hashlib.sha256(canonical_json(content)).hexdigest()[:12]}"


def _utc(created: object) -> datetime:
    if not isinstance(created, str) or not _RFC3339_UTC.fullmatch(created):
        raise ValueError(f"field 'created' is {created!r}, not RFC 3339 in UTC such as '2025-06-30T12:00:00Z'")
    return datetime.fromisoformat(created)


def _as_read_back(name: str, value: Any) -> Any:
    """The value after JSON, where tuples are lists and keys are strings: what a reader will hash."""
    try:
        return json.loads(canonical_json(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"field {name!r} is no JSON: {error}") from error


def _check_path(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or name in (".", *BESIDE):
        raise ValueError(f"path {name!r} is not a plain relative path inside the bundle")


def _scan(directory: Path, prefix: str = "") -> dict[str, bool]:
    """Relative path of every entry that is no folder -> whether it is a regular file."""
    found: dict[str, bool] = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                found |= _scan(directory / entry.name, name + "/")
            else:
                found[name] = entry.is_file(follow_symlinks=False)
    return found


def _hash_all(directory: Path) -> dict[str, FileEntry]:
    entries = _scan(directory)
    if found := [name for name in BESIDE if name in entries]:
        raise BundleError(f"{directory} has a {found[0]} and a bundle never changes; write into a new folder")
    paths = {name: directory / name for name in sorted(entries)}
    for name, path in paths.items():
        if not entries[name]:
            raise BundleError(f"{path} is a symlink or a special file; replace it by a regular file or remove it")
    return {
        name: FileEntry(sha256=sha256, size=path.stat().st_size)
        for (name, path), sha256 in zip(paths.items(), _hashes(paths.values()), strict=True)
    }


def _hashes(paths: Iterable[Path]) -> Iterator[str]:
    """SHA-256 of each file, in order; a thread a processor, since hashing holds no lock of Python's."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        yield from threads.map(_sha256, paths)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Who vouches for a bundle: Ed25519 signatures (RFC 8032) of the very bytes of its manifest, in a file beside it.

The manifest has the SHA-256 of every other file, so a signature of it is one of the whole bundle. Keys are PEM files as
`openssl genpkey -algorithm ed25519` makes them; `openssl pkeyutl -verify -rawin` checks a signature without Riffle.
"""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from recsys.durable import sync
from recsys.errors import SignatureError

SIGNATURES_NAME = "manifest.signatures.json"
_PUBLIC_PEM = re.compile(rb"-----BEGIN [^-]+-----.*?-----END [^-]+-----", re.DOTALL)
_GENERATE = "`openssl genpkey -algorithm ed25519 -out key.pem` makes one"


@dataclass(frozen=True, eq=False)
class TrustedKeys:
    """The public keys of those who may vouch for a bundle, by fingerprint."""

    keys: Mapping[str, Ed25519PublicKey]

    @classmethod
    def read(cls, path: Path) -> "TrustedKeys":
        """The keys of a PEM file, one after the other.

        Raises:
            SignatureError: it cannot be read, has no key, or one that is no public Ed25519 key.
        """
        found = _PUBLIC_PEM.findall(_content(path))
        if not found:
            raise SignatureError(f"{path} has no public key in PEM; `openssl pkey -in key.pem -pubout` writes one")
        keys = [_public_key(one, path) for one in found]
        return cls({fingerprint(key): key for key in keys})

    def check(self, directory: Path, manifest: bytes) -> str:
        """The fingerprint of a trusted key that has signed these bytes of the manifest in a directory.

        Raises:
            SignatureError: there is none.
        """
        signatures = read_signatures(directory)
        if not signatures:
            raise _refusal(directory, "it is not signed")
        known = sorted(signatures.keys() & self.keys.keys())
        if not known:
            by = ", ".join(one[:16] for one in sorted(signatures))
            raise _refusal(directory, f"it is signed by {by}, and that key is not trusted here")
        for name in known:
            try:
                self.keys[name].verify(signatures[name], manifest)
                return name
            except InvalidSignature:
                continue
        raise _refusal(directory, f"the signature by {known[0][:16]} is not of this manifest")


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the 32 bytes of a public key, hex: how it is named in signatures and messages."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key of a PEM file without a passphrase.

    Raises:
        SignatureError: it cannot be read, or is another kind of key.
    """
    try:
        key = load_pem_private_key(_content(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"{path} is no private key in PEM without a passphrase; {_GENERATE}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{path} is no Ed25519 key; {_GENERATE}")
    return key


def sign(directory: Path, manifest: bytes, key: Ed25519PrivateKey) -> str:
    """Put a signature of the manifest's bytes beside it, next to those of other keys; returns the key's fingerprint.

    Raises:
        SignatureError: what is there cannot be read, or the folder not be written.
    """
    name = fingerprint(key.public_key())
    signatures = read_signatures(directory) | {name: key.sign(manifest)}
    plain = {one: base64.b64encode(value).decode() for one, value in sorted(signatures.items())}
    path, writing = directory / SIGNATURES_NAME, directory.with_name(f".{directory.name}.signing")
    try:
        with writing.open("wb") as file:
            file.write(msgspec.json.encode(plain) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        writing.chmod(0o444)
        writing.replace(path)
        sync(directory)
    except OSError as error:
        raise SignatureError(f"{path} cannot be written: {error}; check the folder, then sign again") from error
    return name


def read_signatures(directory: Path) -> dict[str, bytes]:
    """The signatures of a bundle by the fingerprint of their keys, unchecked; none where nobody signed.

    Raises:
        SignatureError: the file does not decode.
    """
    path = directory / SIGNATURES_NAME
    try:
        plain = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        return {name: base64.b64decode(value, validate=True) for name, value in plain.items()}
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, binascii.Error) as error:
        raise SignatureError(f"{path} cannot be read: {error}; remove it and sign the bundle again") from error


def _public_key(pem: bytes, path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"{path} has what is no public key in PEM: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError(f"{path} has a key that is not Ed25519")
    return key


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SignatureError(f"the key file {path} cannot be read: {error}") from error


def _refusal(directory: Path, found: str) -> SignatureError:
    return SignatureError(
        f"bundle {directory}: {found}; `riffle bundles sign` with a trusted key vouches for it, or use another bundle"
    )

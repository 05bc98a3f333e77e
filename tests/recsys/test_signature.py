"""Signatures of bundles: what a trusted key has signed passes, and nothing else does."""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from recsys.errors import BundleError, SignatureError
from recsys.manifest import MANIFEST_NAME, read_manifest, verify, write_manifest
from recsys.registry import Registry
from recsys.signature import SIGNATURES_NAME, TrustedKeys, private_key, read_signatures, sign
from tests.recsys.keys import write_key
from tests.recsys.test_registry import make_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def signed_by(bundle: Path, private: Path) -> str:
    return sign(bundle, (bundle / MANIFEST_NAME).read_bytes(), private_key(private))


def test_signed_bundle_passes_with_the_key_and_without_any(bundle: Path, tmp_path: Path) -> None:
    private, public = write_key(tmp_path, "ours")
    signer = signed_by(bundle, private)
    trusted = TrustedKeys.read(public)
    assert verify(bundle, trusted) == verify(bundle) == read_manifest(bundle, trusted)
    assert trusted.check(bundle, (bundle / MANIFEST_NAME).read_bytes()) == signer
    assert list(read_signatures(bundle)) == [signer]


def test_unsigned_bundle_is_refused_only_where_keys_are_trusted(bundle: Path, tmp_path: Path) -> None:
    _, public = write_key(tmp_path, "ours")
    with pytest.raises(SignatureError, match="not signed"):
        verify(bundle, TrustedKeys.read(public))
    verify(bundle)


def test_signature_by_another_key_is_refused(bundle: Path, tmp_path: Path) -> None:
    _, public = write_key(tmp_path, "ours")
    signer = signed_by(bundle, write_key(tmp_path, "theirs")[0])
    with pytest.raises(SignatureError, match=f"signed by {signer[:16]}, and that key is not trusted"):
        verify(bundle, TrustedKeys.read(public))


def test_signature_that_claims_a_trusted_key_is_refused(bundle: Path, tmp_path: Path) -> None:
    """An attacker with a key of their own writes the name of ours beside their signature."""
    private, public = write_key(tmp_path, "ours")
    ours = signed_by(bundle, private)
    (bundle / SIGNATURES_NAME).unlink()
    theirs = signed_by(bundle, write_key(tmp_path, "theirs")[0])
    forged = json.loads((bundle / SIGNATURES_NAME).read_text())
    (bundle / SIGNATURES_NAME).chmod(0o644)
    (bundle / SIGNATURES_NAME).write_text(json.dumps({ours: forged[theirs]}))
    with pytest.raises(SignatureError, match="not of this manifest"):
        verify(bundle, TrustedKeys.read(public))


def test_another_manifest_under_an_old_signature_is_refused(bundle: Path, tmp_path: Path) -> None:
    """Files exchanged and hashed anew: sound in itself, so only the signature can tell."""
    private, public = write_key(tmp_path, "ours")
    signed_by(bundle, private)
    kept = (bundle / SIGNATURES_NAME).read_bytes()
    for name in (SIGNATURES_NAME, MANIFEST_NAME):
        (bundle / name).unlink()
    (bundle / "factors.npy").write_bytes(b"planted")
    write_manifest(bundle, fields={"created": "2025-06-01T12:00:00Z"})
    (bundle / SIGNATURES_NAME).write_bytes(kept)
    verify(bundle)
    with pytest.raises(SignatureError, match="not of this manifest"):
        verify(bundle, TrustedKeys.read(public))


@pytest.mark.parametrize("edit", [lambda text: text.replace(b'"kind"', b'"kind" ', 1), lambda text: text + b"\n"])
def test_manifest_that_only_looks_the_same_is_refused(
    bundle: Path, tmp_path: Path, edit: Callable[[bytes], bytes]
) -> None:
    private, public = write_key(tmp_path, "ours")
    signed_by(bundle, private)
    (bundle / MANIFEST_NAME).write_bytes(edit((bundle / MANIFEST_NAME).read_bytes()))
    with pytest.raises(SignatureError, match="not of this manifest"):
        read_manifest(bundle, TrustedKeys.read(public))


def test_signature_is_seen_to_before_the_manifest_is_parsed(bundle: Path, tmp_path: Path) -> None:
    _, public = write_key(tmp_path, "ours")
    (bundle / MANIFEST_NAME).write_bytes(b"[" * 100_000)
    with pytest.raises(SignatureError):
        read_manifest(bundle, TrustedKeys.read(public))
    with pytest.raises(BundleError, match="JSON"):
        read_manifest(bundle)


def test_changed_file_of_a_signed_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    private, public = write_key(tmp_path, "ours")
    signed_by(bundle, private)
    (bundle / "factors.npy").write_bytes(b"fact0rs")
    with pytest.raises(BundleError, match="sha256"):
        verify(bundle, TrustedKeys.read(public))


def test_keys_are_changed_over_without_a_gap(bundle: Path, tmp_path: Path) -> None:
    (old, old_public), (new, new_public) = (write_key(tmp_path, name) for name in ("old", "new"))
    signers = {signed_by(bundle, old), signed_by(bundle, new)}
    assert set(read_signatures(bundle)) == signers
    both = tmp_path / "both.pem"
    both.write_bytes(old_public.read_bytes() + new_public.read_bytes())
    for file in (old_public, new_public, both):
        verify(bundle, TrustedKeys.read(file))


def test_damaged_signatures_are_refused(bundle: Path, tmp_path: Path) -> None:
    private, public = write_key(tmp_path, "ours")
    signer = signed_by(bundle, private)
    path = bundle / SIGNATURES_NAME
    path.chmod(0o644)
    for content in (b"", b"[]", json.dumps({signer: "no base64!"}).encode(), json.dumps({signer: 5}).encode()):
        path.write_bytes(content)
        with pytest.raises(SignatureError, match="cannot be read"):
            verify(bundle, TrustedKeys.read(public))
    path.write_text(json.dumps({signer: base64.b64encode(b"short").decode()}))
    with pytest.raises(SignatureError, match="not of this manifest"):
        verify(bundle, TrustedKeys.read(public))


def test_files_that_hold_no_usable_key_are_refused(tmp_path: Path) -> None:
    private, public = write_key(tmp_path, "ours")
    empty, other, other_public = (tmp_path / name for name in ("empty.pem", "other.pem", "other.pub.pem"))
    empty.write_text("no key\n")
    curve = generate_private_key(SECP256R1())
    pem = serialization.Encoding.PEM
    other.write_bytes(curve.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    other_public.write_bytes(curve.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    for path, said in (
        (tmp_path / "absent.pem", "cannot be read"),
        (empty, "no public key"),
        (private, "no public key"),
        (other_public, "not Ed25519"),
    ):
        with pytest.raises(SignatureError, match=said):
            TrustedKeys.read(path)
    for path, said in ((empty, "no private key"), (public, "no private key"), (other, "no Ed25519 key")):
        with pytest.raises(SignatureError, match=said):
            private_key(path)


def test_folder_that_cannot_be_written_is_said(bundle: Path, tmp_path: Path) -> None:
    private, _ = write_key(tmp_path, "ours")
    (bundle / SIGNATURES_NAME).mkdir()
    with pytest.raises(SignatureError):
        signed_by(bundle, private)


def test_openssl_checks_what_riffle_signed(bundle: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    key, public, raw = tmp_path / "key.pem", tmp_path / "key.pub.pem", tmp_path / "signature"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    signer = signed_by(bundle, key)
    raw.write_bytes(read_signatures(bundle)[signer])
    check = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-sigfile", raw, "-in"]
    assert subprocess.run([*check, bundle / MANIFEST_NAME], capture_output=True).returncode == 0
    assert subprocess.run([*check, bundle / "factors.npy"], capture_output=True).returncode != 0
    verify(bundle, TrustedKeys.read(public))


def test_champion_must_be_signed_where_keys_are_trusted_and_other_names_need_not(tmp_path: Path) -> None:
    private, public = write_key(tmp_path, "ours")
    guarded = Registry(tmp_path / "registry", TrustedKeys.read(public))
    first = guarded.publish(make_bundle(tmp_path / "first"))
    guarded.name("challenger", first, reason="a test", who="test")
    with pytest.raises(SignatureError, match="not signed"):
        guarded.promote(first, reason="a test", who="test")
    with pytest.raises(SignatureError, match="not signed"):
        guarded.load(first)
    assert guarded.champion() is None
    guarded.sign("challenger", private_key(private))
    guarded.promote(first, reason="a test", who="test")
    assert guarded.champion() == first
    assert [one.id for one in guarded.list()] == [first]


def test_signature_travels_with_a_bundle_that_is_published(tmp_path: Path) -> None:
    private, public = write_key(tmp_path, "ours")
    source = make_bundle(tmp_path / "bundle")
    signer = signed_by(source, private)
    registry = Registry(tmp_path / "registry", TrustedKeys.read(public))
    bundle_id = registry.publish(source)
    assert list(read_signatures(registry.path(bundle_id))) == [signer]
    registry.promote(bundle_id, reason="a test", who="test")


def test_damaged_bundle_is_not_signed(tmp_path: Path) -> None:
    private, _ = write_key(tmp_path, "ours")
    registry = Registry(tmp_path / "registry")
    bundle_id = registry.publish(make_bundle(tmp_path / "bundle"))
    damaged = registry.path(bundle_id) / "factors.npy"
    damaged.chmod(0o644)
    damaged.write_bytes(b"fact0rs")
    with pytest.raises(BundleError, match="sha256"):
        registry.sign(bundle_id, private_key(private))
    assert read_signatures(registry.path(bundle_id)) == {}

"""A bundle directory is taken as written, or refused with the file and the check named."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from recsys.errors import BundleError
from recsys.manifest import Manifest, read_manifest, verify, write_manifest

FIELDS = {"created": "2025-06-30T12:00:00Z", "parent": None, "metrics": {"ndcg@10": 0.14}, "window": (1, 2)}
NOBODY = 65534


def write_bundle(directory: Path, **fields: object) -> Manifest:
    (directory / "index").mkdir(parents=True)
    (directory / "factors.npy").write_bytes(bytes(range(256)) * 8)
    (directory / "index" / "items.faiss").write_bytes(b"IxFI" * 100)
    return write_manifest(directory, fields=FIELDS | fields)


def edit(directory: Path, change: Callable[[dict], object]) -> None:
    document = json.loads((directory / "manifest.json").read_text())
    change(document)
    (directory / "manifest.json").write_text(json.dumps(document))


def rename_entry(document: dict, name: str) -> None:
    document["files"][name] = document["files"].pop("factors.npy")


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root reads everything: drop to nobody, so that file modes count."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_written_manifest_lists_every_file_and_reads_back_equal(tmp_path: Path) -> None:
    written = write_bundle(tmp_path / "bundle")
    assert set(written.files) == {"factors.npy", "index/items.faiss"}
    assert written.files["index/items.faiss"].size == 400
    assert written.id.startswith("20250630-")
    assert len(written.id) == 8 + 1 + 12
    assert written == read_manifest(tmp_path / "bundle") == verify(tmp_path / "bundle")


def test_manifest_on_disk_is_canonical_json(bundle: Path) -> None:
    text = (bundle / "manifest.json").read_text()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) + "\n"


def test_created_is_read_as_utc_time(bundle: Path) -> None:
    assert verify(bundle).created.isoformat() == "2025-06-30T12:00:00+00:00"


def test_same_content_made_later_on_the_same_day_keeps_its_id(tmp_path: Path) -> None:
    noon = write_bundle(tmp_path / "noon")
    evening = write_bundle(tmp_path / "evening", created="2025-06-30T20:15:00.250Z")
    assert noon.id == evening.id


@pytest.mark.parametrize("field", [{"parent": "20250101-0123456789ab"}, {"metrics": {"ndcg@10": 0.15}}])
def test_another_field_value_makes_another_id(tmp_path: Path, field: dict) -> None:
    assert write_bundle(tmp_path / "a").id != write_bundle(tmp_path / "b", **field).id


def test_fields_that_json_cannot_hold_exactly_still_verify(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", by_rank={10: "ten", 2: "two"}, nested=[(1, (2,))], large=2**80)
    assert verify(tmp_path / "bundle").fields["by_rank"] == {"10": "ten", "2": "two"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"metrics": {"ndcg@10": float("nan")}}, "field 'metrics' is no JSON"),
        ({"archive": Path("x")}, "field 'archive' is no JSON"),
        ({"created": "2025-06-30"}, "field 'created' is '2025-06-30'"),
        ({"created": "2025-06-30T12:00:00+02:00"}, r"\+02:00"),
        ({"created": "2025-13-30T12:00:00Z"}, "month"),
        ({"created": None}, "None"),
    ],
)
def test_fields_that_make_no_manifest_are_refused(tmp_path: Path, fields: dict, named: str) -> None:
    with pytest.raises(BundleError, match=rf"manifest\.json cannot be made: .*{named}"):
        write_bundle(tmp_path / "bundle", **fields)
    assert not (tmp_path / "bundle" / "manifest.json").exists()


def test_manifest_is_written_only_once(bundle: Path) -> None:
    with pytest.raises(BundleError, match="never changes; write into a new folder"):
        write_manifest(bundle, fields=FIELDS)


def test_symlink_is_refused_when_writing(tmp_path: Path) -> None:
    (tmp_path / "link.npy").symlink_to("/etc/hostname")
    with pytest.raises(BundleError, match=r"link\.npy is a symlink"):
        write_manifest(tmp_path, fields=FIELDS)


def test_manifest_of_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"absent.manifest\.json cannot be written"):
        write_manifest(tmp_path / "absent", fields=FIELDS)


def flip_one_bit(bundle: Path) -> None:
    content = bytearray((bundle / "factors.npy").read_bytes())
    content[1000] ^= 1
    (bundle / "factors.npy").write_bytes(content)


def replace_folder_by_symlink(bundle: Path) -> None:
    (bundle / "index").rename(bundle.parent / "elsewhere")
    (bundle / "index").symlink_to(bundle.parent / "elsewhere")


def replace_manifest_by_symlink(bundle: Path) -> None:
    (bundle / "manifest.json").rename(bundle.parent / "manifest.json")
    (bundle / "manifest.json").symlink_to(bundle.parent / "manifest.json")


def replace_file_by_fifo(bundle: Path) -> None:
    (bundle / "factors.npy").unlink()
    os.mkfifo(bundle / "factors.npy")


@pytest.mark.parametrize(
    ("damage", "named", "check"),
    [
        (flip_one_bit, "factors.npy", "sha256"),
        (lambda b: os.truncate(b / "factors.npy", 2047), "factors.npy", "size"),
        (lambda b: (b / "index" / "extra.bin").touch(), "index/extra.bin", "extra file"),
        (lambda b: (b / "index" / "manifest.json").touch(), "index/manifest.json", "extra file"),
        (lambda b: (b / "index" / "items.faiss").unlink(), "index/items.faiss", "presence"),
        (lambda b: (b / "manifest.json").unlink(), "manifest.json", "presence"),
        (lambda b: (b / "link").symlink_to("factors.npy"), "link", "regular file"),
        (replace_folder_by_symlink, "index", "regular file"),
        (replace_manifest_by_symlink, "manifest.json", "regular file"),
        (replace_file_by_fifo, "factors.npy", "regular file"),
    ],
)
def test_damaged_folder_is_refused(bundle: Path, damage: Callable[[Path], object], named: str, check: str) -> None:
    damage(bundle)
    with pytest.raises(BundleError, match=rf"'{named}' failed the {check} check.*`riffle bundles list`"):
        verify(bundle)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda d: d.update(version=2), "version check: 2"),
        (lambda d: d.pop("version"), "version check: None"),
        (lambda d: d.update(kind="dataset"), "id"),
        (lambda d: d["fields"].update(parent="20250101-0123456789ab"), "id"),
        (lambda d: d["fields"].update(created="2025-07-01T12:00:00Z"), "id"),
        (lambda d: d["files"]["factors.npy"].update(sha256="0" * 64), "id"),
        (lambda d: d["files"].pop("factors.npy"), "id"),
        (lambda d: d.update(id="20250630-000000000000"), "id"),
        (lambda d: d["files"]["factors.npy"].update(sha256="F" * 64), "layout"),
        (lambda d: d["files"]["factors.npy"].update(size=-1), "layout"),
        (lambda d: d["fields"].pop("created"), "layout check: field 'created' is None"),
        (lambda d: d.update(surprise=1), "layout"),
        (lambda d: d.pop("files"), "layout"),
    ],
)
def test_edited_manifest_is_refused(bundle: Path, change: Callable[[dict], object], check: str) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError, match=rf"'manifest\.json' failed the {check}"):
        read_manifest(bundle)


def test_edited_size_is_refused(bundle: Path) -> None:
    edit(bundle, lambda document: document["files"]["factors.npy"].update(size=5))
    with pytest.raises(BundleError, match=r"'factors\.npy' failed the size check: 2048 bytes.* says 5"):
        verify(bundle)


@pytest.mark.parametrize(
    "name",
    ["../factors.npy", "index/../../x", "/etc/passwd", "./x", "a//b", "a/", "", ".", "..", "manifest.json"],
)
def test_path_that_leaves_the_bundle_is_refused_before_any_file_is_opened(bundle: Path, name: str) -> None:
    edit(bundle, lambda document: rename_entry(document, name))
    with pytest.raises(BundleError, match=r"layout check: path '.*' is not a plain relative path") as refused:
        verify(bundle)
    assert repr(name) in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"version": NaN}', b'{"version": 1e999}']
)
def test_manifest_that_is_not_json_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"'manifest\.json' failed the JSON check"):
        verify(bundle)


@pytest.mark.parametrize("content", [b"[]", b"null", b'"1"'])
def test_manifest_that_is_no_object_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"'manifest\.json' failed the version check"):
        verify(bundle)


def test_unreadable_file_is_refused() -> None:
    with TemporaryDirectory() as folder:  # pytest's own are closed to other users
        bundle = Path(folder) / "bundle"
        write_bundle(bundle)
        Path(folder).chmod(0o755)
        (bundle / "factors.npy").chmod(0)
        with unprivileged(), pytest.raises(BundleError, match=r"factors\.npy' failed the readability check"):
            verify(bundle)

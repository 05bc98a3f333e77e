"""Publish, promote, roll back: through crashes, damage and two writers at once."""

import json
import multiprocessing
import os
import shutil
import signal
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from recsys.errors import BundleError, RegistryError
from recsys.manifest import write_manifest
from recsys.registry import Registry

processes = multiprocessing.get_context("spawn")


def make_bundle(directory: Path, *, day: int = 1, content: bytes = b"factors", kind: str = "riffle-bundle") -> Path:
    (directory / "index").mkdir(parents=True)
    (directory / "factors.npy").write_bytes(content)
    (directory / "index" / "items.faiss").write_bytes(content * 2)
    write_manifest(directory, kind=kind, fields={"created": f"2025-06-{day:02}T12:00:00Z"})
    return directory


def promote_when_all_are_ready(root: Path, bundle_id: str, times: int, ready: Barrier) -> None:
    ready.wait()
    for _ in range(times):
        Registry(root).promote(bundle_id, reason=f"race for {bundle_id}")


def stop_in_mid_publish(root: Path, bundle: Path) -> None:
    def kill_self(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    Path.rename = kill_self  # type: ignore[method-assign, assignment]  # the process dies after this call
    Registry(root).publish(bundle)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def ids(registry: Registry, tmp_path: Path) -> list[str]:
    """Three published bundles, oldest first."""
    return [registry.publish(make_bundle(tmp_path / f"bundle-{day}", day=day)) for day in (1, 2, 3)]


def test_published_bundle_is_a_read_only_copy(registry: Registry, tmp_path: Path) -> None:
    source = make_bundle(tmp_path / "bundle")
    published = registry.path(registry.publish(source))
    names = {path.relative_to(published).as_posix() for path in published.rglob("*") if path.is_file()}
    assert names == {"factors.npy", "index/items.faiss", "manifest.json"}
    assert all(path.stat().st_mode & 0o222 == 0 for path in published.rglob("*") if path.is_file())
    assert (source / "factors.npy").exists()
    assert not (registry.root / "incoming").exists()


def test_publishing_twice_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    source = make_bundle(tmp_path / "bundle")
    first = registry.publish(source)
    before = (registry.path(first) / "factors.npy").stat()
    assert registry.publish(source) == first
    after = (registry.path(first) / "factors.npy").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(registry.list()) == 1


def test_damaged_bundle_is_not_published(registry: Registry, tmp_path: Path) -> None:
    source = make_bundle(tmp_path / "bundle")
    (source / "factors.npy").write_bytes(b"factorS")
    with pytest.raises(BundleError, match=r"'factors\.npy' failed the sha256 check"):
        registry.publish(source)
    assert registry.list() == []


def test_publishing_over_a_damaged_copy_is_refused(registry: Registry, tmp_path: Path) -> None:
    source = make_bundle(tmp_path / "bundle")
    (registry.path(registry.publish(source)) / "index" / "items.faiss").unlink()
    with pytest.raises(BundleError, match=r"'index/items\.faiss' failed the presence check"):
        registry.publish(source)


def test_folder_of_another_kind_is_not_published(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="kind 'dataset'; publish a 'riffle-bundle'"):
        registry.publish(make_bundle(tmp_path / "data", kind="dataset"))


def test_root_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RegistryError, match=r"cannot publish in .*file.*check that the folder is writable"):
        Registry(tmp_path / "file").publish(make_bundle(tmp_path / "bundle"))


def test_next_publish_removes_what_a_killed_one_left(registry: Registry, tmp_path: Path) -> None:
    source = make_bundle(tmp_path / "bundle")
    victim = processes.Process(target=stop_in_mid_publish, args=(registry.root, source))
    victim.start()
    victim.join(30)
    assert victim.exitcode == -signal.SIGKILL
    (left_over,) = (registry.root / "incoming").iterdir()
    (left_over / "half-written").touch()
    assert registry.list() == []
    assert registry.publish(source) == left_over.name
    assert [manifest.id for manifest in registry.list()] == [left_over.name]
    assert not (registry.root / "incoming").exists()


def test_copy_that_differs_from_its_source_is_not_published(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "copyfile", lambda _, target: target.write_bytes(b"factorS"))
    with pytest.raises(BundleError, match=r"incoming.*failed the"):
        registry.publish(make_bundle(tmp_path / "bundle"))
    assert registry.list() == []
    assert not (registry.root / "incoming").exists()


def test_list_is_newest_first(registry: Registry, ids: list[str]) -> None:
    assert [manifest.id for manifest in registry.list()] == ids[::-1]


def test_bundle_with_an_unreadable_manifest_is_listed_as_damaged(registry: Registry, ids: list[str]) -> None:
    (registry.path(ids[1]) / "manifest.json").unlink()
    assert [manifest.id for manifest in registry.list()] == [ids[2], ids[0]]
    assert list(registry.damaged()) == [ids[1]]
    assert "'manifest.json' failed the presence check" in str(registry.damaged()[ids[1]])


def test_renamed_bundle_folder_is_damaged_and_not_promoted(registry: Registry, ids: list[str]) -> None:
    wrong = "20250609-0123456789ab"
    registry.path(ids[0]).rename(registry.root / "bundles" / wrong)
    assert list(registry.damaged()) == [wrong]
    with pytest.raises(BundleError, match=rf"{wrong} holds bundle {ids[0]}; rename"):
        registry.promote(wrong, reason="test")


def test_bundle_is_found_by_id_alias_and_unique_prefix(registry: Registry, ids: list[str]) -> None:
    registry.promote(ids[0], reason="first")
    registry.promote(ids[1], reason="better")
    assert registry.path(ids[2]) == registry.root / "bundles" / ids[2]
    assert registry.path("20250603") == registry.path(ids[2])
    assert registry.path("champion") == registry.path(ids[1])
    assert registry.path("previous") == registry.path(ids[0])


def test_ambiguous_prefix_names_the_bundles_it_fits(registry: Registry, ids: list[str]) -> None:
    with pytest.raises(RegistryError, match=rf"'2025' could be any of {', '.join(ids)}; give more"):
        registry.path("2025")


@pytest.mark.usefixtures("ids")
@pytest.mark.parametrize("reference", ["20240101-0123456789ab", "", "../bundles", "latest"])
def test_unknown_bundle_is_refused(registry: Registry, reference: str) -> None:
    with pytest.raises(RegistryError, match=r"no bundle '.*run `riffle bundles list`"):
        registry.path(reference)


def test_empty_registry_says_what_to_run(registry: Registry) -> None:
    assert registry.list() == []
    assert registry.champion() is None
    with pytest.raises(RegistryError, match=r"no bundles in .*run `riffle train`"):
        registry.path("champion")


@pytest.mark.usefixtures("ids")
@pytest.mark.parametrize("alias", ["champion", "previous"])
def test_alias_before_any_promotion_says_what_to_run(registry: Registry, alias: str) -> None:
    with pytest.raises(RegistryError, match=rf"no {alias} bundle yet; run `riffle bundles promote"):
        registry.path(alias)


def test_promotion_moves_the_pointer_and_writes_the_audit(registry: Registry, ids: list[str]) -> None:
    registry.promote(ids[0], reason="first")
    registry.promote(ids[1], reason="better\nby far")
    assert registry.champion() == ids[1]
    lines = [json.loads(line) for line in (registry.root / "audit.jsonl").read_text().splitlines()]
    assert [(line["from"], line["to"], line["reason"]) for line in lines] == [
        (None, ids[0], "first"),
        (ids[0], ids[1], "better\nby far"),
    ]
    assert all(line["time"].endswith("+00:00") for line in lines)


def test_roll_back_returns_to_the_previous_champion(registry: Registry, ids: list[str]) -> None:
    for bundle_id in ids:
        registry.promote(bundle_id, reason="next")
    registry.promote("previous", reason="roll back")
    assert registry.champion() == ids[1]
    assert registry.previous_champion() == ids[2]


def test_promoting_the_champion_again_keeps_its_predecessor(registry: Registry, ids: list[str]) -> None:
    for bundle_id in (ids[0], ids[1], ids[1]):
        registry.promote(bundle_id, reason="again")
    assert registry.previous_champion() == ids[0]


def test_crash_between_audit_and_pointer_keeps_the_champion(registry: Registry, ids: list[str]) -> None:
    registry.promote(ids[0], reason="first")
    registry.promote(ids[1], reason="better")
    pointer = (registry.root / "champion.json").read_bytes()
    registry.promote(ids[2], reason="crashes")
    (registry.root / "champion.json").write_bytes(pointer)
    assert registry.champion() == ids[1]
    assert registry.previous_champion() == ids[0]
    registry.promote(ids[2], reason="again")
    assert registry.previous_champion() == ids[1]


def test_damaged_bundle_is_not_promoted(registry: Registry, ids: list[str]) -> None:
    registry.promote(ids[0], reason="first")
    file = registry.path(ids[1]) / "factors.npy"
    file.chmod(0o644)
    file.write_bytes(b"factorS")
    with pytest.raises(BundleError, match=r"'factors\.npy' failed the sha256 check"):
        registry.promote(ids[1], reason="better")
    assert registry.champion() == ids[0]
    assert len(registry.audit()) == 1


def test_promotion_without_a_reason_is_refused(registry: Registry, ids: list[str]) -> None:
    with pytest.raises(RegistryError, match="needs a reason"):
        registry.promote(ids[0], reason="  ")


@pytest.mark.parametrize(
    "content",
    [b"", b'{"id": 7}', b'{"id": "../../etc"}', b"\xff", b'{"id": "\xff"}', b'{"x":' + b"[" * 100_000],
)
def test_corrupt_pointer_is_refused_by_name(registry: Registry, ids: list[str], content: bytes) -> None:
    registry.promote(ids[0], reason="first")
    (registry.root / "champion.json").write_bytes(content)
    for operation in (registry.champion, lambda: registry.promote(ids[1], reason="better")):
        with pytest.raises(RegistryError, match=r"champion\.json cannot be used: .*remove it, then run"):
            operation()
    assert len(registry.audit()) == 1


def test_removing_a_corrupt_pointer_and_promoting_recovers(registry: Registry, ids: list[str]) -> None:
    registry.promote(ids[0], reason="first")
    registry.promote(ids[1], reason="better")
    (registry.root / "champion.json").unlink()
    registry.promote(ids[1], reason="recovered")
    assert (registry.champion(), registry.previous_champion()) == (ids[1], ids[0])


def test_champion_whose_folder_is_gone_is_refused(registry: Registry, ids: list[str]) -> None:
    registry.promote(ids[0], reason="first")
    shutil.rmtree(registry.path(ids[0]))
    with pytest.raises(RegistryError, match=f"no bundle '{ids[0]}'"):
        registry.path("champion")


def test_torn_last_audit_line_is_ignored_and_then_overwritten(registry: Registry, ids: list[str]) -> None:
    registry.promote(ids[0], reason="first")
    with (registry.root / "audit.jsonl").open("ab") as audit:
        audit.write(b'{"time":"2025-06')
    assert [promotion.to_id for promotion in registry.audit()] == [ids[0]]
    registry.promote(ids[1], reason="better")
    assert [promotion.to_id for promotion in registry.audit()] == [ids[0], ids[1]]


@pytest.mark.parametrize("line", [b"{}\n", b"\xff\n", b"[" * 100_000 + b"\n"])
def test_corrupt_audit_line_is_refused_by_number(registry: Registry, ids: list[str], line: bytes) -> None:
    registry.promote(ids[0], reason="first")
    with (registry.root / "audit.jsonl").open("ab") as audit:
        audit.write(line)
    for operation in (registry.audit, lambda: registry.promote(ids[1], reason="better")):
        with pytest.raises(RegistryError, match=r"audit\.jsonl line 2 is corrupt"):
            operation()
    assert registry.champion() == ids[0]


@pytest.mark.parametrize("times", [1, 25])
def test_two_processes_promoting_at_once_leave_a_valid_pointer_and_an_unbroken_audit(
    registry: Registry, ids: list[str], times: int
) -> None:
    ready = processes.Barrier(2)
    promoters = [
        processes.Process(target=promote_when_all_are_ready, args=(registry.root, bundle_id, times, ready))
        for bundle_id in ids[:2]
    ]
    for promoter in promoters:
        promoter.start()
    for promoter in promoters:
        promoter.join(30)
    assert [promoter.exitcode for promoter in promoters] == [0, 0]
    audit = registry.audit()
    assert sorted(promotion.to_id for promotion in audit) == [ids[0]] * times + [ids[1]] * times
    assert [p.from_id for p in audit] == [None, *(p.to_id for p in audit[:-1])]
    assert registry.champion() == audit[-1].to_id

"""Publish, promote, roll back: through crashes, damage and two writers at once."""

import multiprocessing
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recsys.errors import BundleError, Moved, RegistryError
from recsys.manifest import Manifest, read_manifest, verify, write_manifest
from recsys.object_store import ObjectStore
from recsys.registry import Registry
from recsys.shared_registry import SharedRegistry
from recsys.signature import TrustedKeys

processes = multiprocessing.get_context("spawn")


def make_bundle(directory: Path, *, day: int = 1, content: bytes = b"factors", kind: str = "riffle-bundle") -> Path:
    (directory / "index").mkdir(parents=True)
    (directory / "factors.npy").write_bytes(content)
    (directory / "index" / "items.faiss").write_bytes(content * 2)
    write_manifest(directory, kind=kind, fields={"created": f"2025-06-{day:02}T12:00:00Z"})
    return directory


def stop_in_mid_publish(root: Path, bundle: Path) -> None:
    def kill_self(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    Path.rename = kill_self  # type: ignore[method-assign, assignment]  # the process dies after this call
    Registry(root).publish(bundle)


@dataclass
class Place:
    """A registry and where its bundles are: in its folder, or on an object store."""

    registry: Registry
    objects: ObjectStore | None

    def has(self, bundle_id: str) -> bool:
        if self.objects is None:
            return (self.registry.root / "bundles" / bundle_id).exists()
        return self.objects.read(f"bundles/{bundle_id}/manifest.json") is not None

    def spoil_manifest(self, bundle_id: str) -> None:
        if self.objects is None:
            file = self.registry.path(bundle_id) / "manifest.json"
            file.chmod(0o644)
            file.write_bytes(b"{")
        else:
            self.objects.write(f"bundles/{bundle_id}/manifest.json", b"{")
            shutil.rmtree(self.registry.root / "seen")  # as on another machine


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Place(Registry(tmp_path / "registry"), None)
    objects = ObjectStore(request.getfixturevalue(f"{request.param}_url"))
    return Place(SharedRegistry(tmp_path / "registry", objects), objects)


@pytest.fixture
def registry(place: Place) -> Registry:
    return place.registry


in_a_folder = pytest.mark.parametrize("place", ["folder"], indirect=True)


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


@in_a_folder
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


def test_bundle_with_an_unreadable_manifest_is_listed_as_damaged(place: Place, ids: list[str]) -> None:
    registry = place.registry
    place.spoil_manifest(ids[1])
    for _ in range(2):  # nothing damaged is kept
        assert [manifest.id for manifest in registry.list()] == [ids[2], ids[0]]
        assert list(registry.damaged()) == [ids[1]]
        assert "'manifest.json' failed the JSON check" in str(registry.damaged()[ids[1]])


@in_a_folder
def test_bundle_without_a_manifest_is_listed_as_damaged(registry: Registry, ids: list[str]) -> None:
    (registry.path(ids[1]) / "manifest.json").unlink()
    assert list(registry.damaged()) == [ids[1]]


@in_a_folder
def test_renamed_bundle_folder_is_damaged_and_not_promoted(registry: Registry, ids: list[str]) -> None:
    wrong = "20250609-0123456789ab"
    registry.path(ids[0]).rename(registry.root / "bundles" / wrong)
    assert list(registry.damaged()) == [wrong]
    with pytest.raises(BundleError, match=rf"{wrong} holds bundle {ids[0]}; rename"):
        registry.promote(wrong, reason="test", who="test")


def test_bundle_is_found_by_id_alias_and_unique_prefix(registry: Registry, ids: list[str]) -> None:
    registry.promote(ids[0], reason="first", who="test")
    registry.promote(ids[1], reason="better", who="test")
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


def test_promotion_names_the_champion_and_who_made_it_so_and_why(registry: Registry, ids: list[str]) -> None:
    registry.promote(ids[0], reason="first", who="ann")
    registry.promote(ids[1], reason="better\nby far", who="bob")
    assert registry.champion() == ids[1]
    assert [(one.who, one.name, one.from_id, one.to_id, one.reason) for one in registry.audit()] == [
        ("ann", "champion", None, ids[0], "first"),
        ("bob", "champion", ids[0], ids[1], "better\nby far"),
    ]


def test_roll_back_returns_to_the_previous_champion(registry: Registry, ids: list[str]) -> None:
    for bundle_id in ids:
        registry.promote(bundle_id, reason="next", who="test")
    registry.promote("previous", reason="roll back", who="test")
    assert registry.champion() == ids[1]
    assert registry.previous_champion() == ids[2]


def test_promoting_the_champion_again_keeps_its_predecessor(registry: Registry, ids: list[str]) -> None:
    for bundle_id in (ids[0], ids[1], ids[1]):
        registry.promote(bundle_id, reason="again", who="test")
    assert registry.previous_champion() == ids[0]


def test_promotion_that_expects_another_champion_is_refused(registry: Registry, ids: list[str]) -> None:
    registry.promote(ids[0], reason="first", who="test")
    registry.promote(ids[1], reason="better", who="test", expected=ids[0])
    with pytest.raises(Moved, match=f"champion is {ids[1]} by now, not {ids[0]}"):
        registry.promote(ids[2], reason="late", who="test", expected=ids[0])
    assert registry.champion() == ids[1]


def test_damaged_bundle_is_not_promoted(registry: Registry, ids: list[str]) -> None:
    registry.promote(ids[0], reason="first", who="test")
    file = registry.path(ids[1]) / "factors.npy"
    file.chmod(0o644)
    file.write_bytes(b"factorS")
    with pytest.raises(BundleError, match=r"'factors\.npy' failed the sha256 check"):
        registry.promote(ids[1], reason="better", who="test")
    assert registry.champion() == ids[0]
    assert len(registry.audit()) == 1


@in_a_folder
def test_champion_whose_folder_is_gone_is_refused(registry: Registry, ids: list[str]) -> None:
    registry.promote(ids[0], reason="first", who="test")
    shutil.rmtree(registry.path(ids[0]))
    with pytest.raises(RegistryError, match=f"no bundle '{ids[0]}'"):
        registry.path("champion")


def test_bundle_is_found_by_any_name_that_it_has_and_keeps_its_others(registry: Registry, ids: list[str]) -> None:
    registry.name("challenger", ids[0], reason="try it", who="test")
    registry.name("golden", ids[0], reason="keep it", who="test")
    registry.name("challenger", ids[1], reason="try that", who="test")
    assert (registry.path("golden").name, registry.path("challenger").name) == (ids[0], ids[1])
    registry.unname("golden", reason="enough", who="test")
    assert registry.names() == {"challenger": ids[1]}
    with pytest.raises(RegistryError, match="no bundle 'golden'"):
        registry.path("golden")


def test_name_that_nothing_has_and_that_of_the_champion_are_not_taken_away(registry: Registry, ids: list[str]) -> None:
    registry.promote(ids[0], reason="first", who="test")
    with pytest.raises(RegistryError, match="no bundle has the name 'shadow'"):
        registry.unname("shadow", reason="enough", who="test")
    with pytest.raises(RegistryError, match="something has to serve"):
        registry.unname("champion", reason="enough", who="test")


# --- prune ---


@pytest.fixture
def seven(registry: Registry, tmp_path: Path) -> list[str]:
    """Seven published bundles, oldest first."""
    return [registry.publish(make_bundle(tmp_path / f"bundle-{day}", day=day)) for day in range(1, 8)]


def test_only_what_nothing_needs_is_pruned_oldest_first(registry: Registry, seven: list[str]) -> None:
    registry.promote(seven[0], reason="first", who="test")
    registry.promote(seven[2], reason="better", who="test")
    registry.name("golden", seven[1], reason="keep it", who="test")
    assert registry.dispensable(keep=1, needed={seven[4]}) == [seven[3], seven[5]]
    assert registry.prune(keep=1, needed={seven[4]}) == [seven[3], seven[5]]
    assert [one.id for one in registry.list()] == [seven[number] for number in (6, 4, 2, 1, 0)]
    assert registry.dispensable(keep=1, needed={seven[4]}) == []
    assert not (registry.root / "incoming").exists()


def test_bundle_that_is_named_while_others_are_pruned_stays(
    registry: Registry, seven: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote(seven[6], reason="first", who="test")
    asked = Registry.dispensable

    def name_one(self: Registry, **told: Any) -> list[str]:
        found = asked(self, **told)
        registry.name("shadow", seven[1], reason="late", who="test")
        return found

    monkeypatch.setattr(Registry, "dispensable", name_one)
    assert registry.prune(keep=5, needed=set()) == [seven[0]]
    assert registry.path("shadow").name == seven[1]


def test_bundle_that_was_pruned_meanwhile_is_not_named(
    registry: Registry, seven: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote(seven[6], reason="first", who="test")
    resolve = registry.resolve

    def prune_then_resolve(reference: str) -> str:
        found = resolve(reference)
        monkeypatch.setattr("recsys.registry.verify", read_then_remove)
        return found

    def read_then_remove(path: Path, trusted: TrustedKeys | None = None) -> Manifest:
        manifest = read_manifest(path, trusted)
        shutil.rmtree(path)
        return manifest

    monkeypatch.setattr(registry, "resolve", prune_then_resolve)
    with pytest.raises(BundleError, match=r"'manifest\.json' failed the presence check"):
        registry.name("shadow", seven[0], reason="late", who="test")
    assert "shadow" not in registry.names()


def test_next_prune_removes_what_a_killed_one_left(registry: Registry, seven: list[str]) -> None:
    (registry.root / "incoming" / seven[0]).mkdir(parents=True)
    registry.promote(seven[6], reason="first", who="test")
    assert registry.prune(keep=6, needed=set()) == [seven[0]]
    assert not (registry.root / "incoming").exists()


def test_bundle_that_is_needed_meanwhile_is_back_whole_and_others_go(place: Place, seven: list[str]) -> None:
    registry, asked = place.registry, []

    def again() -> set[str]:
        asked.append([one for one in seven if place.has(one)])
        return {seven[1]}

    assert registry.prune(keep=4, needed=set(), again=again) == [seven[0], seven[2]]
    assert [one in there for one, there in zip(seven[:3], asked, strict=True)] == [False] * 3  # it is away when asked
    assert registry.resolve(seven[1]) == seven[1]
    verify(registry.path(seven[1]))


def test_where_nobody_can_say_what_is_needed_nothing_goes(registry: Registry, seven: list[str]) -> None:
    def away() -> set[str]:
        raise LookupError("the store is away")

    with pytest.raises(LookupError):
        registry.prune(keep=1, needed=set(), again=away)
    assert [one.id for one in registry.list()] == seven[::-1]

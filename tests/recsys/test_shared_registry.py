"""Several machines and one object store: at once, interrupted, damaged, refused, gone."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recsys import bundle_store, object_store
from recsys.bundle_store import BundleStore
from recsys.changes import Change
from recsys.errors import BundleError, Moved, RegistryError, SignatureError
from recsys.manifest import verify, write_manifest
from recsys.object_store import ObjectStore
from recsys.registry import Registry
from recsys.shared_registry import SharedRegistry
from recsys.signature import TrustedKeys, fingerprint, read_signatures
from tests.gcs_endpoint import GcsEndpoint
from tests.s3_endpoint import S3Endpoint, refusal

Machines = Callable[[str], SharedRegistry]


def make_bundle(directory: Path, *, day: int = 1, hour: int = 12) -> Path:
    (directory / "index").mkdir(parents=True)
    (directory / "factors.npy").write_bytes(b"factors" * 100)
    (directory / "index" / "items.faiss").write_bytes(b"items")
    write_manifest(directory, fields={"created": f"2025-06-{day:02}T{hour:02}:00:00Z"})
    return directory


def put_of(request: dict[str, Any], part: str) -> bool:
    return request["REQUEST_METHOD"] == "PUT" and part in request["PATH_INFO"]


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each of them returned or raised, all begun in the same moment."""
    ready = threading.Barrier(len(calls))

    def call(one: Callable[[], Any]) -> Any:
        ready.wait()
        try:
            return one()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(call, calls))


@pytest.fixture(params=["memory", "s3", "gcs"])
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def machine(url: str, tmp_path: Path) -> Machines:
    """A registry on the same store in another folder for each name, as on another machine."""
    return lambda name: SharedRegistry(tmp_path / name, ObjectStore(url))


@pytest.fixture
def objects(url: str) -> ObjectStore:
    return ObjectStore(url)


# What one process has in memory is not made for several threads, so what happens at once happens there:
on_s3 = pytest.mark.parametrize("url", ["s3"], indirect=True)
on_servers = pytest.mark.parametrize("url", ["s3", "gcs"], indirect=True)


@pytest.fixture
def ids(machine: Machines, tmp_path: Path) -> list[str]:
    """Three bundles, oldest first, the last of which is the champion; published by machine a."""
    a = machine("a")
    ids = [a.publish(make_bundle(tmp_path / f"bundle-{day}", day=day)) for day in (1, 2, 3)]
    a.promote(ids[2], reason="first", who="test")
    return ids


# --- what another machine sees ---


def test_another_machine_lists_by_manifests_alone_and_fetches_what_it_wants_whole(
    machine: Machines, ids: list[str]
) -> None:
    b = machine("b")
    assert [one.id for one in b.list()] == ids[::-1]
    assert b.names() == {"champion": ids[2]}
    assert not (b.root / "bundles").exists()
    path = b.path("champion")
    assert [one.name for one in (b.root / "bundles").iterdir()] == [ids[2]] == [path.name]
    assert verify(path).id == ids[2]
    assert all(file.stat().st_mode & 0o222 == 0 for file in path.rglob("*") if file.is_file())
    assert not (b.root / "incoming").exists()


def test_layout_on_the_store_is_that_of_a_folder(objects: ObjectStore, machine: Machines, ids: list[str]) -> None:
    assert set(objects.sizes("bundles")) == {
        f"{one}/{name}" for one in ids for name in ("manifest.json", "factors.npy", "index/items.faiss")
    }
    assert list(objects.sizes("changes")) == ["00000001.json"]
    assert objects.sizes("underway") == objects.sizes("probes") == {}
    root = machine("copied").root
    for folder in ("bundles", "changes"):
        for path in objects.sizes(folder):
            (root / folder / path).parent.mkdir(parents=True, exist_ok=True)
            (root / folder / path).write_bytes(objects.read(f"{folder}/{path}") or b"")
    assert Registry(root).champion() == ids[2]
    assert [one.id for one in Registry(root).list()] == ids[::-1]


def test_bundles_of_a_folder_are_published_by_naming_them(machine: Machines, tmp_path: Path) -> None:
    before = Registry(tmp_path / "a")
    bundle_id = before.publish(make_bundle(tmp_path / "bundle"))
    key = Ed25519PrivateKey.generate()
    before.sign(bundle_id, key)
    machine("a").promote(bundle_id, reason="to the store", who="test")
    assert list(read_signatures(machine("b").path("champion"))) == [fingerprint(key.public_key())]


# --- publishing ---


@on_servers
def test_publishers_of_the_same_and_of_other_bundles_at_once_do_not_meet(machine: Machines, tmp_path: Path) -> None:
    one, *others = [make_bundle(tmp_path / f"bundle-{day}", day=day) for day in (1, 2, 3)]
    folders = [one, one, one, *others]
    ids = at_once(*(lambda n=n, folder=folder: machine(f"m{n}").publish(folder) for n, folder in enumerate(folders)))
    assert len(set(ids[:3])) == 1
    fresh = machine("fresh")
    assert {found.id for found in fresh.list()} == set(ids)
    assert all(verify(fresh.path(bundle_id)).id == bundle_id for bundle_id in ids)


def test_the_first_of_two_manifests_of_the_same_files_counts(machine: Machines, tmp_path: Path) -> None:
    a, b, key = machine("a"), machine("b"), Ed25519PrivateKey.generate()
    bundle_id = a.publish(make_bundle(tmp_path / "noon"))
    a.sign(bundle_id, key)
    b.list()
    assert b.publish(make_bundle(tmp_path / "one", hour=13)) == bundle_id
    assert b.list()[0].created.hour == verify(b.path(bundle_id)).created.hour == 12
    trusted = TrustedKeys({fingerprint(key.public_key()): key.public_key()})
    assert verify(b.path(bundle_id), trusted).id == bundle_id


@on_s3
def test_interrupted_upload_is_not_listed_and_completed_by_the_next(
    s3: S3Endpoint, machine: Machines, objects: ObjectStore, tmp_path: Path
) -> None:
    source = make_bundle(tmp_path / "bundle")

    def fail(request: dict[str, Any], start_response: Any, answer: Callable) -> Iterable[bytes]:
        broken = put_of(request, "items.faiss")
        return refusal(start_response, "403 Forbidden", "AccessDenied") if broken else answer()

    s3.spoil = fail
    with pytest.raises(RegistryError, match=r"cannot write s3://.*items\.faiss: .*let these credentials"):
        machine("a").publish(source)
    s3.spoil = None
    assert list(objects.sizes("bundles"))
    assert machine("b").list() == []
    assert verify(machine("b").path(machine("a").publish(source)))


@on_s3
def test_bundle_that_is_not_whole_after_its_upload_gets_no_manifest(
    s3: S3Endpoint, machine: Machines, tmp_path: Path
) -> None:
    def swallow(request: dict[str, Any], start_response: Any, answer: Callable) -> Iterable[bytes]:
        if not put_of(request, "items.faiss"):
            return answer()
        request["wsgi.input"].read(int(request["CONTENT_LENGTH"]))
        start_response("200 OK", [])
        return []

    s3.spoil = swallow
    with pytest.raises(RegistryError, match=r"not whole after its upload: index/items\.faiss has no bytes, not 5"):
        machine("a").publish(make_bundle(tmp_path / "bundle"))
    assert machine("b").list() == []


def test_publishing_over_a_damaged_one_says_what_to_remove(
    machine: Machines, objects: ObjectStore, ids: list[str], tmp_path: Path
) -> None:
    objects.write(f"bundles/{ids[0]}/factors.npy", b"half")
    with pytest.raises(BundleError, match=r"is damaged: factors\.npy has 4 bytes, not 700; remove its manifest"):
        machine("a").publish(tmp_path / "bundle-1")
    objects.remove(f"bundles/{ids[0]}/manifest.json")
    machine("a").publish(tmp_path / "bundle-1")
    assert verify(machine("b").path(ids[0]))


# --- fetching ---


def test_copy_that_is_damaged_here_is_fetched_again_and_one_that_is_whole_is_not(
    machine: Machines, ids: list[str], objects: ObjectStore
) -> None:
    b = machine("b")
    path = b.path("champion")
    whole = path.stat().st_ino
    with pytest.raises(BundleError, match="feature"):  # it holds nothing that could serve
        b.load("champion")
    assert path.stat().st_ino == whole
    (path / "factors.npy").chmod(0o644)
    (path / "factors.npy").write_bytes(b"FACTORS")
    with pytest.raises(BundleError, match="feature"):
        b.load("champion")
    assert verify(path).id == ids[2]
    (path / "factors.npy").chmod(0o644)
    (path / "factors.npy").write_bytes(b"FACTORS")
    for name in objects.sizes(f"bundles/{ids[2]}"):
        objects.remove(f"bundles/{ids[2]}/{name}")
    with pytest.raises(BundleError, match=r"factors\.npy"):  # nobody has a whole one
        b.load(ids[2])


@pytest.mark.parametrize("content", [b"half", b"f" * 700, None])
def test_damaged_bundle_is_refused_and_nothing_of_it_stays(
    machine: Machines, objects: ObjectStore, ids: list[str], content: bytes | None
) -> None:
    path = f"bundles/{ids[0]}/factors.npy"
    objects.remove(path) if content is None else objects.write(path, content)
    b = machine("b")
    with pytest.raises(BundleError, match=r"what came from \w+://.* is damaged: .*factors\.npy"):
        b.path(ids[0])
    assert not (b.root / "incoming").exists()
    assert list((b.root / "bundles").glob("*")) == []
    assert verify(b.path(ids[1]))


def test_bundle_under_the_id_of_another_is_refused(machine: Machines, objects: ObjectStore, ids: list[str]) -> None:
    wrong = "20250609-0123456789ab"
    for path in objects.sizes(f"bundles/{ids[0]}"):
        objects.write(f"bundles/{wrong}/{path}", objects.read(f"bundles/{ids[0]}/{path}") or b"")
    b = machine("b")
    assert f"holds bundle {ids[0]}; remove it there" in str(b.damaged()[wrong])
    with pytest.raises(BundleError, match=f"holds bundle {ids[0]}; remove it there"):
        b.path(wrong)


def test_bundle_that_goes_while_it_is_looked_at_is_named(
    machine: Machines, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    b = machine("b")
    monkeypatch.setattr(BundleStore, "manifest", lambda *_: None)
    with pytest.raises(RegistryError, match=f"no bundle .*{ids[0]}; run"):
        b.path(ids[0])
    assert "was pruned just now" in str(b.damaged()[ids[0]])


def test_folder_that_cannot_be_written_is_refused(machine: Machines, ids: list[str]) -> None:
    b = machine("b")
    b.root.mkdir()
    (b.root / "seen").touch()
    with pytest.raises(RegistryError, match=rf"cannot write to .*seen/{ids[0]}: .*folder is writable"):
        b.list()


# --- names ---


@on_servers
def test_of_promoters_who_expect_the_same_champion_one_wins(machine: Machines, ids: list[str]) -> None:
    for expected, wanted in ((ids[2], ids[0]), (ids[0], ids[1])):
        promote = [
            lambda n=n, expected=expected, wanted=wanted: machine(f"m{n}").promote(
                wanted, reason="swap", who=f"m{n}", expected=expected
            )
            for n in range(4)
        ]
        told = at_once(*promote)
        assert [type(one) for one in told].count(Change) == 1
        assert [type(one) for one in told].count(Moved) == 3
    assert [one.to_id for one in machine("a").audit()] == [ids[2], ids[0], ids[1]]


@on_s3
def test_store_without_conditional_writes_is_refused(s3: S3Endpoint, machine: Machines, ids: list[str]) -> None:
    def ignore(request: dict[str, Any], _: Any, answer: Callable) -> Iterable[bytes]:
        request.pop("HTTP_IF_NONE_MATCH", None)
        return answer()

    s3.spoil = ignore
    with pytest.raises(RegistryError, match=r"does not create objects exclusively: of 4 who .* 4 were told"):
        machine("b").promote(ids[0], reason="better", who="test")
    assert machine("b").champion() == ids[2]


@pytest.mark.parametrize("url", ["gcs"], indirect=True)
def test_bucket_without_preconditions_is_refused(gcs: GcsEndpoint, machine: Machines, ids: list[str]) -> None:
    gcs.conditional = False
    try:
        with pytest.raises(RegistryError, match=r"does not create objects exclusively: of 4 who .* 4 were told"):
            machine("b").promote(ids[0], reason="better", who="test")
    finally:
        gcs.conditional = True
    assert machine("b").champion() == ids[2]


@on_servers
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of what gcsfs hands to it
def test_file_of_many_parts_comes_back_as_it_was(objects: ObjectStore, tmp_path: Path) -> None:
    large = tmp_path / "factors.npy"
    large.write_bytes(bytes(range(256)) * 220_000)  # 56 MB: drivers send more than 50 in parts
    objects.upload(large, "bundles/one/factors.npy")
    assert objects.sizes("bundles") == {"one/factors.npy": large.stat().st_size}
    objects.download("bundles/one/factors.npy", tmp_path / "again", large.stat().st_size)
    assert (tmp_path / "again").read_bytes() == large.read_bytes()


@on_s3
def test_change_whose_answer_got_lost_is_made_once(s3: S3Endpoint, machine: Machines, ids: list[str]) -> None:
    lost = []

    def lose(request: dict[str, Any], start_response: Any, answer: Callable) -> Iterable[bytes]:
        said = answer()
        if put_of(request, "/changes/") and not lost:
            lost.append(request["PATH_INFO"])
            return refusal(start_response, "500 Internal Server Error", "InternalError")
        return said

    a = machine("a")
    s3.spoil = lose
    assert a.promote(ids[0], reason="better", who="test", expected=ids[2]).number == 2
    assert lost
    assert len(a.audit()) == 2


@on_s3
@pytest.mark.parametrize(("refused", "made"), [(1, True), (9, False)])
def test_conflict_that_nobody_won_is_tried_again_but_not_for_ever(
    s3: S3Endpoint, machine: Machines, ids: list[str], refused: int, made: bool
) -> None:
    left = [None] * refused

    def conflict(request: dict[str, Any], start_response: Any, answer: Callable) -> Iterable[bytes]:
        if put_of(request, "/changes/") and left:
            left.pop()
            return refusal(start_response, "409 Conflict", "ConditionalRequestConflict")
        return answer()

    a = machine("a")
    s3.spoil = conflict
    if made:
        a.promote(ids[0], reason="better", who="test")
    else:
        with pytest.raises(RegistryError, match=r"cannot create .*changes/00000002\.json: .*Conflict"):
            a.promote(ids[0], reason="better", who="test")
    assert len(a.audit()) == (2 if made else 1)


# --- pruning ---


@on_servers
def test_bundle_that_is_named_while_it_is_removed_is_uploaded_again(
    machine: Machines, objects: ObjectStore, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = machine("a"), machine("b")
    away, named, give = threading.Event(), threading.Event(), b._changes.give

    def give_when_it_is_away(*args: Any, **told: Any) -> Change:
        away.wait(30)
        change = give(*args, **told)
        named.set()
        return change

    def again() -> set[str]:  # names were asked for before, so whoever prunes does not see the new one
        away.set()
        assert named.wait(30)
        return set()

    monkeypatch.setattr(b._changes, "give", give_when_it_is_away)
    b.path(ids[0])
    with ThreadPoolExecutor(1) as threads:
        naming = threads.submit(b.name, "shadow", ids[0], reason="late", who="test")
        while not (b.root / "names.lock").exists():  # it has looked that the bundle is there
            time.sleep(0.01)
        assert a.prune(keep=1, needed={ids[1]}, again=again) == [ids[0]]
        assert naming.result().to_id == ids[0]
    assert verify(machine("c").path("shadow")).id == ids[0]
    assert objects.sizes("underway") == {}


def test_bundle_that_was_named_before_names_are_asked_for_stays(
    machine: Machines, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, b = Registry.dispensable, machine("b")

    def name_one(self: Registry, **told: Any) -> list[str]:
        found = asked(self, **told)
        b.name("shadow", ids[0], reason="late", who="test")
        return found

    monkeypatch.setattr(Registry, "dispensable", name_one)
    assert machine("a").prune(keep=1, needed=set()) == [ids[1]]
    assert verify(machine("c").path("shadow")).id == ids[0]


@on_servers
def test_whoever_prunes_and_names_at_once_no_named_bundle_lacks_a_file(machine: Machines, ids: list[str]) -> None:
    a, b = machine("a"), machine("b")
    for name in ("one", "two", "three"):
        copies = [b.path(bundle_id).name for bundle_id in ids[:2]]
        told = at_once(
            lambda: a.prune(keep=1, needed=set()),
            lambda: machine("d").prune(keep=1, needed=set()),
            *(
                lambda n=n, one=one, name=name: b.name(f"{name}-{n}", one, reason="race", who="b")
                for n, one in enumerate(copies)
            ),
        )
        assert [one for one in told[:2] if isinstance(one, Exception)] == []
        fresh = machine(f"fresh-{name}")
        for label, bundle_id in fresh.names().items():
            assert verify(fresh.path(label)).id == bundle_id
        for label in fresh.names().keys() - {"champion"}:
            b.unname(label, reason="again", who="test")


def test_one_who_prunes_leaves_what_somebody_else_is_at(
    machine: Machines, objects: ObjectStore, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.create(f"underway/{ids[0]}/upload-of-another", b"")
    a = machine("a")
    assert a.prune(keep=1, needed=set()) == [ids[1]]
    monkeypatch.setattr(bundle_store, "FORGOTTEN_S", -1.0)  # a day later, and nobody is at it any more
    assert a.prune(keep=1, needed=set()) == [ids[0]]
    assert objects.sizes("underway") == {}


def test_upload_does_not_wait_for_ever_for_a_removal(
    machine: Machines, objects: ObjectStore, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = machine("a")
    assert a.prune(keep=1, needed={ids[1]}) == [ids[0]]
    objects.create(f"underway/{ids[0]}/removal-of-a-dead-one", b"")
    monkeypatch.setattr(bundle_store, "WAIT_S", 0.0)
    with pytest.raises(RegistryError, match=r"is being pruned; .*remove \w+://.*removal-of-a-dead-one if no"):
        a.publish(tmp_path / "bundle-1")
    objects.remove(f"underway/{ids[0]}/removal-of-a-dead-one")
    assert a.publish(tmp_path / "bundle-1") == ids[0]


def test_what_an_interrupted_upload_left_goes_after_a_day_unless_it_is_needed(
    machine: Machines, objects: ObjectStore, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = machine("a")
    for one in ids[:2]:
        objects.remove(f"bundles/{one}/manifest.json")
    a.prune(keep=1, needed=set())
    assert {path.partition("/")[0] for path in objects.sizes("bundles")} == set(ids)
    monkeypatch.setattr(bundle_store, "FORGOTTEN_S", -1.0)
    a.prune(keep=1, needed={ids[1]})
    assert {path.partition("/")[0] for path in objects.sizes("bundles")} == set(ids[1:])


def test_copies_of_what_others_pruned_go_with_the_next_prune_here_unless_needed(
    machine: Machines, ids: list[str]
) -> None:
    a, b = machine("a"), machine("b")
    b.list()
    for one in ids:
        b.path(one)
    assert a.prune(keep=1, needed=set()) == ids[:2]
    assert b.path(ids[0]).name == ids[0]  # what is here is loaded, whatever others did
    assert b.prune(keep=1, needed={ids[1]}) == []
    assert {one.name for one in (b.root / "bundles").iterdir()} == set(ids[1:])
    assert {one.name for one in (b.root / "seen").iterdir()} == set(ids[1:])


# --- signatures ---


def test_newest_signatures_come_with_a_bundle_that_is_here_already(machine: Machines, ids: list[str], url: str) -> None:
    b = machine("b")
    b.path(ids[0])
    ours, theirs = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    trusted = TrustedKeys({fingerprint(ours.public_key()): ours.public_key()})
    guarded = SharedRegistry(b.root, ObjectStore(url), trusted)
    with pytest.raises(SignatureError, match="it is not signed"):
        guarded.promote(ids[0], reason="better", who="test")
    machine("a").sign(ids[0], theirs)
    machine("c").sign(ids[0], ours)
    guarded.promote(ids[0], reason="better", who="test")
    assert len(read_signatures(guarded.path("champion"))) == 2


# --- a store that is away, or refuses ---


def test_bundle_that_is_here_is_loaded_and_all_else_refused_where_the_store_is_gone(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = S3Endpoint()
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    fsspec.filesystem("s3").clear_instance_cache()
    a = SharedRegistry(tmp_path / "a", ObjectStore(s3_url))
    bundle_id = a.publish(make_bundle(tmp_path / "bundle"))
    a.promote(bundle_id, reason="first", who="test")
    endpoint.stop()
    began = time.monotonic()
    assert verify(a.path(bundle_id))
    for operation in (a.names, a.list, a.audit, lambda: a.path("champion"), lambda: a.prune(keep=1, needed=set())):
        with pytest.raises(RegistryError, match=r"cannot list s3://.*check network, endpoint and credentials"):
            operation()
    assert time.monotonic() - began < 30
    fsspec.filesystem("s3").clear_instance_cache()


def test_bucket_that_is_not_there_is_named(s3_url: str, tmp_path: Path) -> None:
    nowhere = SharedRegistry(tmp_path / "a", ObjectStore(s3_url.replace("test-", "none-")))
    for operation in (nowhere.names, nowhere.list, lambda: nowhere.publish(make_bundle(tmp_path / "bundle"))):
        with pytest.raises(RegistryError, match=r"s3://none-.*bucket does not exist; create the bucket, or correct"):
            operation()


@on_s3
def test_store_that_forbids_and_one_that_never_answers_are_told(
    s3: S3Endpoint, machine: Machines, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    b = machine("b")
    s3.spoil = lambda _, start_response, __: refusal(start_response, "403 Forbidden", "AccessDenied")
    with pytest.raises(RegistryError, match=r"cannot list s3://.*let these credentials list, read, write and delete"):
        b.champion()

    over = threading.Event()

    def hang(_: Any, __: Any, answer: Callable) -> Iterable[bytes]:
        over.wait(30)
        return answer()

    s3.spoil = hang
    monkeypatch.setattr(object_store, "TIMEOUT_S", 0.5)
    began = time.monotonic()
    try:
        with pytest.raises(RegistryError, match=r"cannot list s3://.*FSTimeoutError; check network"):
            b.champion()
    finally:
        over.set()
    assert time.monotonic() - began < 10
    assert verify(machine("a").path(ids[0]))  # the signatures that are here have to do


def test_url_that_its_driver_refuses_is_told() -> None:
    with pytest.raises(RegistryError, match=r"cannot use nothing://at/all: .*nothing"):
        ObjectStore("nothing://at/all")

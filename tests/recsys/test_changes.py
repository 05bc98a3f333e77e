"""Names of bundles: a log that several write at once, and that nobody writes twice."""

import json
import multiprocessing
import os
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from recsys.change_files import ChangeFiles, ChangeFolder, StoredChanges
from recsys.changes import Changes
from recsys.errors import Moved, RegistryError
from recsys.object_store import ObjectStore

processes = multiprocessing.get_context("spawn")
ONE, TWO = "20250601-00000000000a", "20250602-00000000000b"


def files_at(place: str) -> ChangeFiles:
    return StoredChanges(ObjectStore(place)) if "://" in place else ChangeFolder(Path(place))


def give_when_all_are_ready(place: str, bundle_id: str, times: int, ready: Barrier) -> None:
    ready.wait()
    for _ in range(times):
        Changes(files_at(place)).give("champion", bundle_id, who="racer", reason=f"race for {bundle_id}")


def swap_when_all_are_ready(place: str, bundle_id: str, ready: Barrier) -> None:
    ready.wait()
    try:
        Changes(files_at(place)).give("champion", bundle_id, who="racer", reason="swap", expected=ONE)
    except Moved:
        os._exit(3)


@pytest.fixture
def changes(tmp_path: Path) -> Changes:
    return Changes(ChangeFolder(tmp_path / "changes"))


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a log is: a folder or a URL."""
    return str(tmp_path / "changes") if request.param == "folder" else request.getfixturevalue(f"{request.param}_url")


def give(changes: Changes, name: str, to: str | None) -> None:
    changes.give(name, to, who="test", reason="because")


def test_each_change_says_what_is_so_after_it(place: str) -> None:
    changes = Changes(files_at(place))
    assert (changes.names(), changes.all(), changes.previous()) == ({}, [], None)
    give(changes, "champion", ONE)
    give(changes, "shadow", TWO)
    give(changes, "champion", TWO)
    give(changes, "shadow", None)
    assert changes.names() == {"champion": TWO}
    assert changes.previous() == ONE
    assert [one.number for one in changes.all()] == [1, 2, 3, 4]
    written = json.loads(files_at(place).read("00000003.json"))
    assert written.pop("time").endswith("+00:00")
    assert len(written.pop("token")) == 32
    assert written == {
        "number": 3,
        "who": "test",
        "name": "champion",
        "from": ONE,
        "to": TWO,
        "reason": "because",
        "names": {"champion": TWO, "shadow": TWO},
    }


def test_files_are_read_only_and_nothing_else_is_left(changes: Changes, tmp_path: Path) -> None:
    give(changes, "champion", ONE)
    (file,) = (tmp_path / "changes").iterdir()
    assert file.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("name", ["", "Champion", "9lives", "a b", "previous", "x" * 41, "../up", "shadow\n"])
def test_what_is_no_name_is_refused(changes: Changes, name: str) -> None:
    with pytest.raises(RegistryError, match="is no name for a bundle"):
        give(changes, name, ONE)


@pytest.mark.parametrize(("who", "reason"), [("test", " "), ("", "because")])
def test_change_without_a_reason_or_somebody_is_refused(changes: Changes, who: str, reason: str) -> None:
    with pytest.raises(RegistryError, match="needs a reason and somebody"):
        changes.give("shadow", ONE, who=who, reason=reason)
    assert changes.names() == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"x":' + b"[" * 100_000])
def test_damaged_newest_change_is_refused_by_name_and_the_one_before_counts_without_it(
    changes: Changes, tmp_path: Path, content: bytes
) -> None:
    give(changes, "champion", ONE)
    newest = tmp_path / "changes" / "00000002.json"
    newest.write_bytes(content)
    for operation in (changes.names, changes.all, changes.previous, lambda: give(changes, "champion", TWO)):
        with pytest.raises(RegistryError, match=r"00000002\.json cannot be used: .*remove it, if it is the newest"):
            operation()
    newest.unlink()
    assert changes.names() == {"champion": ONE}


def test_renamed_change_is_refused(changes: Changes, tmp_path: Path) -> None:
    give(changes, "champion", ONE)
    (tmp_path / "changes" / "00000001.json").rename(tmp_path / "changes" / "00000007.json")
    with pytest.raises(RegistryError, match=r"00000007\.json holds change 1"):
        changes.names()


def test_other_files_are_passed_over(changes: Changes, tmp_path: Path) -> None:
    give(changes, "champion", ONE)
    for name in (".tmpabc", "notes.json", "000000009.json"):
        (tmp_path / "changes" / name).write_text("{")
    assert changes.names() == {"champion": ONE}


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RegistryError, match=r"cannot write to .*file"):
        give(Changes(ChangeFolder(tmp_path / "file")), "champion", ONE)


def test_writer_that_always_comes_second_gives_up(changes: Changes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChangeFolder, "create", lambda *_: False)
    with pytest.raises(RegistryError, match="100 other changes came first"):
        give(changes, "champion", ONE)


def test_change_of_before_tokens_is_read(changes: Changes, tmp_path: Path) -> None:
    give(changes, "champion", ONE)
    file = tmp_path / "changes" / "00000001.json"
    file.chmod(0o644)
    file.write_text(json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "token"}))
    assert changes.names() == {"champion": ONE}


def test_stored_change_that_is_gone_when_it_is_read_is_named(s3_url: str) -> None:
    class Forgetful(StoredChanges):
        def names(self) -> list[str]:
            return ["00000001.json"]

    with pytest.raises(RegistryError, match=r"s3://.*00000001\.json cannot be used: it is gone"):
        Changes(Forgetful(ObjectStore(s3_url))).names()


@pytest.mark.parametrize(("place", "times"), [("folder", 1), ("folder", 25), ("s3", 5)], indirect=["place"])
def test_two_processes_at_once_leave_an_unbroken_log(place: str, times: int) -> None:
    ready = processes.Barrier(2)
    of = [(place, bundle_id, times, ready) for bundle_id in (ONE, TWO)]
    _run_all(give_when_all_are_ready, of, codes=[0, 0])
    log = Changes(files_at(place)).all()
    assert [one.number for one in log] == list(range(1, 2 * times + 1))
    assert sorted(str(one.to_id) for one in log) == [ONE] * times + [TWO] * times
    assert [one.from_id for one in log] == [None, *(one.to_id for one in log[:-1])]


@pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)
def test_of_some_that_swap_the_same_champion_all_but_one_are_told_that_they_came_late(place: str) -> None:
    changes = Changes(files_at(place))
    give(changes, "champion", ONE)
    ready = processes.Barrier(3)
    _run_all(swap_when_all_are_ready, [(place, TWO, ready)] * 3, codes=[0, 3, 3])
    assert len(changes.all()) == 2


def _run_all(target: object, of: list[tuple], *, codes: list[int]) -> None:
    started = [processes.Process(target=target, args=arguments) for arguments in of]  # type: ignore[arg-type]
    for one in started:
        one.start()
    for one in started:
        one.join(60)
    assert sorted(one.exitcode for one in started) == codes  # type: ignore[type-var]

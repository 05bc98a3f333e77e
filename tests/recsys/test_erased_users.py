"""The list of who was forgotten: durable, without their ids."""

from pathlib import Path

import pytest

from recsys.erased_users import ErasedUsers, user_digest
from recsys.errors import ArchiveError


def test_who_is_added_is_on_the_list_without_the_id(tmp_path: Path) -> None:
    path = tmp_path / "archive" / "erased.json"
    ErasedUsers(path).add({user_digest("ann of the hill"): 5})
    ErasedUsers(path).add({user_digest("用户"): 7})
    listed = ErasedUsers(path)
    assert listed.read() == {user_digest("ann of the hill"): 5, user_digest("用户"): 7}
    assert listed.among(["bob", "用户", "ann of the hill"]) == {"用户", "ann of the hill"}
    assert "ann of" not in path.read_text("utf-8")
    assert [one.name for one in path.parent.iterdir()] == ["erased.json"]


def test_a_later_moment_replaces_an_earlier_one(tmp_path: Path) -> None:
    listed = ErasedUsers(tmp_path / "erased.json")
    listed.add({user_digest("ann"): 5})
    listed.add({user_digest("ann"): 9})
    assert listed.read() == {user_digest("ann"): 9}


def test_without_a_file_nobody_is_on_it(tmp_path: Path) -> None:
    listed = ErasedUsers(tmp_path / "erased.json")
    assert listed.read() == {}
    assert listed.among(["ann"]) == set()


def test_a_damaged_list_and_a_disk_that_refuses_are_named(tmp_path: Path) -> None:
    path = tmp_path / "erased.json"
    path.write_text('{"half": ')
    for use in (lambda listed: listed.read(), lambda listed: listed.add({"a": 1})):
        with pytest.raises(ArchiveError, match=r"erased\.json cannot be read"):
            use(ErasedUsers(path))
    with pytest.raises(ArchiveError, match="cannot write"):
        ErasedUsers(_below_a_file(tmp_path)).add({"a": 1})


def _below_a_file(folder: Path) -> Path:
    """A place that is not there and cannot be made."""
    (folder / "long").mkdir()
    return folder / "long" / ("x" * 250 + ".json")


def test_another_list_is_told_from_the_one_before_without_reading_it(tmp_path: Path) -> None:
    users = ErasedUsers(tmp_path / "erased.json")
    seen = [users.as_of()]
    for number in range(3):
        users.add({f"{number}": number})
        seen.append(users.as_of())
    assert len({*seen}) == 4
    assert users.as_of() == seen[-1]

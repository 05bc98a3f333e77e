"""What was left out of the data of bundles, in a home: kept as long as they are, forgotten with its users."""

from pathlib import Path

import pytest

from recsys.datasets.junk import Junk
from recsys.erased_users import user_digest
from recsys.errors import ArchiveError, DatasetError
from recsys.manifest import Manifest
from service.archives import erased_users
from service.junk import drop_junk, forget_in_junk, is_lost, junk_of, keep_junk
from service.settings import Settings

A, B = user_digest("a"), user_digest("b")
LOOKS = (Junk(0, 9, flooding=(A,)), Junk(10, 19, blind=(A, B)))


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings(home=str(tmp_path / "home"))


def test_a_bundle_is_asked_what_was_left_out_of_its_data(home: Settings) -> None:
    keep_junk(home, "one", LOOKS)
    assert junk_of(home, "one") == LOOKS
    assert junk_of(home, "another") == ()
    assert junk_of(home, None) == ()
    keep_junk(home, "one", ())
    assert junk_of(home, "one") == ()


def test_it_goes_when_its_bundle_has_gone(home: Settings) -> None:
    keep_junk(home, "one", LOOKS)
    keep_junk(home, "two", LOOKS)
    drop_junk(home, ["one", "never kept"])
    assert (junk_of(home, "one"), junk_of(home, "two")) == ((), LOOKS)


def test_a_bundle_of_screened_data_of_which_nothing_is_kept_is_told_from_others(home: Settings) -> None:
    screened = Manifest(version=1, kind="bundle", id="one", files={}, fields={"dataset": {"screened_since_ms": 7}})
    whole = Manifest(version=1, kind="bundle", id="one", files={}, fields={"dataset": {"screened_since_ms": None}})
    assert (is_lost(home, screened), is_lost(home, whole)) == (True, False)
    keep_junk(home, "one", LOOKS)
    assert not is_lost(home, screened)
    forget_in_junk(home, {A: 1, B: 1})
    assert not is_lost(home, screened)  # who it was is forgotten, and so are their events


def test_who_is_forgotten_is_not_in_it(home: Settings) -> None:
    keep_junk(home, "one", LOOKS)
    forget_in_junk(home, {A: 1})
    assert junk_of(home, "one") == (Junk(10, 19, blind=(B,)),)
    forget_in_junk(home, {B: 1})
    assert junk_of(home, "one") == ()
    erased_users(home).add({A: 1, B: 1})
    keep_junk(home, "two", LOOKS)  # of who was forgotten while it was trained
    assert junk_of(home, "two") == ()


def test_what_a_death_left_of_writing_goes_with_whoever_is_forgotten(home: Settings) -> None:
    forget_in_junk(home, {A: 1})  # where nothing was ever kept
    keep_junk(home, "one", LOOKS)
    (home.home_path / "junk" / "two.writing").write_text(A)
    forget_in_junk(home, {A: 1})
    assert sorted(path.name for path in (home.home_path / "junk").iterdir()) == ["lock", "one.json"]


def test_a_file_that_cannot_be_read_says_so(home: Settings) -> None:
    keep_junk(home, "one", LOOKS)
    (home.home_path / "junk" / "one.json").write_text('[{"since_ms": "yesterday"}]')
    for read in (lambda: junk_of(home, "one"), lambda: forget_in_junk(home, {A: 1})):
        with pytest.raises(DatasetError, match=r"one\.json cannot be read.*is trained on again"):
            read()


def test_what_cannot_be_kept_says_so(home: Settings) -> None:
    home.home_path.mkdir()
    (home.home_path / "junk").write_text("not a folder")
    with pytest.raises(DatasetError, match="cannot be written"):
        keep_junk(home, "one", LOOKS)
    (home.home_path / "junk").unlink()
    (home.home_path / "junk" / "one.json" / "a").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"one\.json cannot be removed"):
        drop_junk(home, ["one"])
    with pytest.raises(DatasetError, match=r"one\.json cannot be written"):
        keep_junk(home, "one", LOOKS)


def test_a_damaged_list_of_the_forgotten_is_not_taken_for_empty(home: Settings) -> None:
    erased_users(home).add({A: 1})
    (home.home_path / "archive" / "erased-users.json").write_text("?")
    with pytest.raises(ArchiveError):
        keep_junk(home, "one", LOOKS)

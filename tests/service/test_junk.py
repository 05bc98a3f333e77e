"""What was left out of the data of bundles, in a home: kept as long as they are, forgotten with its users."""

from pathlib import Path

import pytest

from recsys.datasets.junk import Junk
from recsys.erased_users import user_digest
from recsys.errors import ArchiveError, DatasetError
from recsys.training.train import train, write
from service.archives import erased_users
from service.junk import forget_in_junk, junk_of, keep_junk
from service.settings import Settings
from service.world import registry
from tests import worlds

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


def test_it_goes_when_its_bundle_has_gone(home: Settings, tmp_path: Path) -> None:
    tastes, folder = worlds.two_tastes(), tmp_path / "bundle"
    write(train(tastes, worlds.SMALL), tastes, folder, code_commit="0" * 12, parent=None)
    bundle = registry(home).publish(folder)
    keep_junk(home, bundle, LOOKS)
    keep_junk(home, "gone", LOOKS)
    keep_junk(home, "new", LOOKS)
    assert (junk_of(home, bundle), junk_of(home, "gone"), junk_of(home, "new")) == (LOOKS, (), LOOKS)


def test_who_is_forgotten_is_not_in_it(home: Settings) -> None:
    keep_junk(home, "one", LOOKS)
    forget_in_junk(home, {A: 1})
    assert junk_of(home, "one") == (Junk(10, 19, blind=(B,)),)
    forget_in_junk(home, {B: 1})
    assert junk_of(home, "one") == ()
    erased_users(home).add({A: 1, B: 1})
    keep_junk(home, "two", LOOKS)  # of who was forgotten while it was trained
    assert junk_of(home, "two") == ()


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


def test_a_damaged_list_of_the_forgotten_is_not_taken_for_empty(home: Settings) -> None:
    erased_users(home).add({A: 1})
    (home.home_path / "archive" / "erased-users.json").write_text("?")
    with pytest.raises(ArchiveError):
        keep_junk(home, "one", LOOKS)

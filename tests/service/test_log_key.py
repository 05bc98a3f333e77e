"""The key by which logs name users: made once, kept to its owner, and refused where it can be none."""

import stat
from pathlib import Path

import pytest

from service.errors import StackError
from service.settings import Settings
from service.stack.log_key import key_file, log_key


def test_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path))
    key = log_key(settings)
    assert len(key) == 64
    assert log_key(settings) == key
    assert stat.S_IMODE(key_file(settings).stat().st_mode) == 0o600
    assert log_key(Settings(home=str(tmp_path / "other"))) != key


def test_key_of_the_settings_is_taken_and_nothing_is_made(tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path), log_key="k" * 32)
    assert log_key(settings) == "k" * 32
    assert not key_file(settings).exists()


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64])
def test_kept_key_that_can_be_none_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    settings = Settings(home=str(tmp_path))
    key_file(settings).parent.mkdir(parents=True)
    key_file(settings).write_bytes(content)
    with pytest.raises(StackError, match="log-key"):
        log_key(settings)


def test_key_that_cannot_be_written_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no folder")
    with pytest.raises(StackError, match="log-key"):
        log_key(Settings(home=str(tmp_path)))

"""The demo wheel: verified before it is opened, downloaded once, two files unpacked."""

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from recsys.datasets.demo import MEMBERS, WHEEL_NAME, fetch_demo_wheel, read_demo
from recsys.errors import DatasetError
from tests.recsys.datasets import releases


def made_up_wheel(directory: Path, members: tuple[str, ...] = MEMBERS) -> tuple[Path, str]:
    directory.mkdir(exist_ok=True)
    wheel = directory / WHEEL_NAME
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, data in zip(members, releases.recbole_files(), strict=False):
            archive.writestr(member, data)
        archive.writestr("recbole/__init__.py", "raise SystemExit('never run')")
    return wheel, hashlib.sha256(wheel.read_bytes()).hexdigest()


def stand_in_pip(tmp_path: Path, script: str) -> str:
    """An interpreter that records its arguments and the requirements, then runs `script` in place of pip."""
    path = tmp_path / "python"
    path.write_text(
        f"#!{sys.executable}\nimport pathlib, shutil, sys\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "(here / 'arguments').write_text('\\n'.join(sys.argv[1:]))\n"
        "shutil.copy(sys.argv[-1], here / 'requirements')\n"
        "directory = pathlib.Path(sys.argv[sys.argv.index('--dest') + 1])\n"
        f"{script}\n"
    )
    path.chmod(0o755)
    return str(path)


def test_demo_unpacks_only_the_two_data_files_and_reads_them(tmp_path: Path) -> None:
    wheel, sha256 = made_up_wheel(tmp_path / "wheels")
    dataset = read_demo(wheel, tmp_path / "data", positive_rating=4.0, sha256=sha256)
    assert dataset.name == "ml-100k"
    assert len(dataset.events) == releases.EVENTS
    assert dataset.item_title == releases.TITLES
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["ml-100k.inter", "ml-100k.item"]


def test_wheel_with_another_hash_is_never_opened(tmp_path: Path) -> None:
    wheel, _ = made_up_wheel(tmp_path / "wheels")
    with pytest.raises(DatasetError, match=r"has the SHA-256 .* not the pinned 9c99"):
        read_demo(wheel, tmp_path / "data", positive_rating=4.0)
    assert not (tmp_path / "data").exists()


def test_missing_wheel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist: download the demo data first"):
        read_demo(tmp_path / WHEEL_NAME, tmp_path / "data", positive_rating=4.0)


def test_wheel_without_the_data_is_refused(tmp_path: Path) -> None:
    wheel, sha256 = made_up_wheel(tmp_path / "wheels", MEMBERS[:1])
    with pytest.raises(DatasetError, match="cannot unpack the demo data"):
        read_demo(wheel, tmp_path / "data", positive_rating=4.0, sha256=sha256)


def test_verified_wheel_in_the_directory_needs_no_pip(tmp_path: Path) -> None:
    wheel, sha256 = made_up_wheel(tmp_path / "wheels")
    assert fetch_demo_wheel(tmp_path / "wheels", python=str(tmp_path / "no-python"), sha256=sha256) == wheel


def test_pip_is_asked_for_the_pinned_hash_without_dependencies(tmp_path: Path) -> None:
    source, sha256 = made_up_wheel(tmp_path / "index")
    python = stand_in_pip(tmp_path, f"shutil.copy({str(source)!r}, directory)")
    wheel = fetch_demo_wheel(tmp_path / "new" / "wheels", python=python, sha256=sha256)
    assert wheel.read_bytes() == source.read_bytes()
    arguments = (tmp_path / "arguments").read_text().split("\n")
    assert arguments[:3] == ["-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(arguments)
    assert (tmp_path / "requirements").read_text() == f"recbole==1.2.1 --hash=sha256:{sha256}\n"


def test_wheel_that_pip_leaves_with_another_hash_is_refused(tmp_path: Path) -> None:
    source, _ = made_up_wheel(tmp_path / "index")
    python = stand_in_pip(tmp_path, f"shutil.copy({str(source)!r}, directory)")
    with pytest.raises(DatasetError, match="not the pinned 9c99"):
        fetch_demo_wheel(tmp_path / "wheels", python=python)


@pytest.mark.parametrize(
    ("script", "said"),
    [("sys.exit('no route to the index')", "no route to the index"), ("sys.exit(1)", "no message")],
)
def test_failing_pip_is_one_sentence_with_what_to_do(script: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as refused:
        fetch_demo_wheel(tmp_path / "wheels", python=stand_in_pip(tmp_path, script))
    message = str(refused.value)
    assert said in message
    assert "\n" not in message
    assert f"place {WHEEL_NAME} in" in message


def test_absent_interpreter_is_a_data_set_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot download the demo data with pip"):
        fetch_demo_wheel(tmp_path / "wheels", python=str(tmp_path / "no-python"))

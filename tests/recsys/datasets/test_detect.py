"""What is recognised, and how unreadable sources are refused."""

import gzip
import zipfile
from pathlib import Path

import pytest

from recsys.datasets.detect import read_dataset
from recsys.errors import DatasetError
from tests.recsys.datasets import releases


def test_unrecognised_folder_is_refused_with_the_layouts_that_are_understood(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError) as refused:
        read_dataset(tmp_path, positive_rating=4.0)
    message = str(refused.value)
    assert "found: notes.txt" in message
    for layout in (
        "ratings.csv + movies.csv",
        "u.data + u.item",
        "ml-100k.inter",
        "ratings.dat",
        "interactions(",
    ):
        assert layout in message


def test_single_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.xlsx").touch()
    with pytest.raises(DatasetError, match=r"no layout that is understood \(found: table\.xlsx\)"):
        read_dataset(tmp_path / "table.xlsx", positive_rating=4.0)


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="found: no file"):
        read_dataset(tmp_path, positive_rating=4.0)


def test_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="absent does not exist"):
        read_dataset(tmp_path / "absent", positive_rating=4.0)


def test_path_that_the_system_refuses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot open .*x: .*name too long"):
        read_dataset(tmp_path / ("x" * 300), positive_rating=4.0)


def test_broken_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ml-small.zip").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(DatasetError, match=r"cannot open .*ml-small\.zip: File is not a zip file"):
        read_dataset(tmp_path / "ml-small.zip", positive_rating=4.0)


def test_zip_with_a_damaged_file_is_refused_by_its_name(tmp_path: Path) -> None:
    path = releases.zipped(releases.csv_release(tmp_path / "ml-small"), inner="")
    data = bytearray(path.read_bytes())
    start = data.index(b"movieId,rating")
    data[start : start + 5] = b"XXXXX"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"cannot read ratings\.csv in .*CRC"):
        read_dataset(path, positive_rating=4.0)


def test_zip_that_holds_a_file_twice_is_refused(tmp_path: Path) -> None:
    path = releases.zipped(releases.csv_release(tmp_path / "ml-small"), inner="a/")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b/ratings.csv", "")
        archive.writestr("__MACOSX/movies.csv", "")
    with pytest.raises(DatasetError, match=r"holds ratings\.csv 2 times \(a/ratings\.csv, b/ratings\.csv\)"):
        read_dataset(path, positive_rating=4.0)


_BODY = "user_id,item_id,timestamp\n" + "".join(f"u{n},i{n * n},{n}\n" for n in range(500))
_GZIP = gzip.compress(_BODY.encode())


@pytest.mark.parametrize("damaged", [_GZIP[:-20], b"plain text", _GZIP[:12] + b"\xff" * 9 + _GZIP[21:]])
def test_damaged_gzip_is_refused_by_its_name(damaged: bytes, tmp_path: Path) -> None:
    (tmp_path / "e.csv.gz").write_bytes(damaged)
    with pytest.raises(DatasetError, match=r"cannot read e\.csv\.gz"):
        read_dataset(tmp_path / "e.csv.gz", positive_rating=4.0)

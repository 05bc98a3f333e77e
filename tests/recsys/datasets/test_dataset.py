"""Save and load: the same data set comes back, and anything else is refused by file."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.datasets.dataset import MANIFEST, Dataset, load, save
from recsys.datasets.detect import read_dataset
from recsys.datasets.impressions import Impressions
from recsys.datasets.synthetic import synthetic
from recsys.errors import DatasetError
from tests.recsys.datasets import releases

FILES = ("users.parquet", "items.parquet", "events.parquet")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    folder = releases.csv_release(tmp_path / "ml-small")
    with (folder / "ratings.csv").open("a") as file:
        file.write("1,99,never,1\n")
    return read_dataset(folder, positive_rating=4.0)


def assert_same(left: Dataset, right: Dataset) -> None:
    for name in Dataset.__dataclass_fields__:
        ours, theirs = getattr(left, name), getattr(right, name)
        if name == "events":
            for column in ours.__dataclass_fields__:
                np.testing.assert_array_equal(getattr(ours, column), getattr(theirs, column))
                assert getattr(ours, column).dtype == getattr(theirs, column).dtype
        elif isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
        else:
            assert ours == theirs


def test_saved_data_set_comes_back_as_it_was(dataset: Dataset, tmp_path: Path) -> None:
    assert dataset.report.rows_malformed == 1
    save(dataset, tmp_path / "deep" / "saved")
    assert_same(load(tmp_path / "deep" / "saved"), dataset)


def test_positions_and_impressions_come_back_and_leave_no_file_where_there_are_none(
    dataset: Dataset, tmp_path: Path
) -> None:
    save(dataset, tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {*FILES, MANIFEST}
    assert "position" not in pq.read_schema(tmp_path / "saved" / "events.parquet").names
    n = len(dataset.events)
    number = np.arange(n, dtype=np.int32)
    shown = Impressions(number, number, number.astype(np.int64), number + 1)
    placed = replace(dataset, events=replace(dataset.events, position=number), impressions=shown)
    save(placed, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert_same(replace(loaded, impressions=None), replace(placed, impressions=None))
    assert loaded.impressions is not None
    for name in ("user", "item", "ts_ms", "position"):
        ours, theirs = getattr(loaded.impressions, name), getattr(shown, name)
        assert (ours.tolist(), ours.dtype) == (theirs.tolist(), theirs.dtype)
    (tmp_path / "saved" / "impressions.parquet").unlink()
    with pytest.raises(DatasetError, match=r"impressions\.parquet cannot be read"):
        load(tmp_path / "saved")


def test_saving_again_replaces_the_data_set_and_leaves_nothing_beside_it(dataset: Dataset, tmp_path: Path) -> None:
    home = tmp_path / "home"
    save(dataset, home / "saved")
    (home / ".saved.writing").mkdir()  # as a crash leaves it
    other = synthetic(1, users=5, items=12, sessions=2)
    save(other, home / "saved")
    assert_same(load(home / "saved"), other)
    assert [path.name for path in home.iterdir()] == ["saved"]


def test_disk_that_fails_while_saving_leaves_the_data_set_that_was_there(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    save(dataset, tmp_path / "home" / "saved")
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(DatasetError, match="No space left on device"):
        save(synthetic(1, users=5, items=12, sessions=2), tmp_path / "home" / "saved")
    assert_same(load(tmp_path / "home" / "saved"), dataset)


def test_place_that_cannot_be_written_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="cannot save the data set to"):
        save(dataset, tmp_path / "file" / "saved")


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_refused_by_name(name: str, dataset: Dataset, tmp_path: Path) -> None:
    save(dataset, tmp_path / "saved")
    (tmp_path / "saved" / name).unlink()
    with pytest.raises(DatasetError, match=f"{name} cannot be read"):
        load(tmp_path / "saved")


@pytest.mark.parametrize("name", FILES)
def test_truncated_file_is_refused_by_name(name: str, dataset: Dataset, tmp_path: Path) -> None:
    save(dataset, tmp_path / "saved")
    path = tmp_path / "saved" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=f"{name} has .* bytes"):
        load(tmp_path / "saved")


@pytest.mark.parametrize("name", FILES)
def test_file_with_one_flipped_bit_is_refused_by_name(name: str, dataset: Dataset, tmp_path: Path) -> None:
    save(dataset, tmp_path / "saved")
    path = tmp_path / "saved" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=f"{name} is not the file that dataset.json describes"):
        load(tmp_path / "saved")


def test_folder_without_a_manifest_holds_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"dataset\.json is missing: .* holds no data set"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"{}", b"\xff"])
def test_damaged_manifest_is_refused(content: bytes, dataset: Dataset, tmp_path: Path) -> None:
    save(dataset, tmp_path / "saved")
    (tmp_path / "saved" / MANIFEST).write_bytes(content)
    with pytest.raises(DatasetError, match=r"dataset\.json cannot be read"):
        load(tmp_path / "saved")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 3}, "has format 3, expected 2"), ({"files": {}}, r"does not list users\.parquet")],
)
def test_manifest_of_another_format_or_without_a_file_is_refused(
    change: dict[str, object], message: str, dataset: Dataset, tmp_path: Path
) -> None:
    save(dataset, tmp_path / "saved")
    path = tmp_path / "saved" / MANIFEST
    path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), **change}))
    with pytest.raises(DatasetError, match=message):
        load(tmp_path / "saved")

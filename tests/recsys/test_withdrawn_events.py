"""What forgotten users did to items: numbered by erasure, kept without them and for a while."""

from pathlib import Path

import pyarrow as pa
import pytest

from recsys.errors import ArchiveError
from recsys.withdrawn_events import EVENT, WithdrawnEvents


def taken(*sequences: int, dataset: str = "") -> pa.Table:
    columns = [[dataset], [3], [1000], [0], [7], [2], [1_700_000_000]]
    rows = {name: column * len(sequences) for name, column in zip(EVENT.names, columns, strict=True)}
    return pa.table(rows | {"sequence": list(sequences)}).cast(EVENT)


def of(path: Path) -> dict[tuple[str, int], int]:
    """By data set and sequence: which erasure took it."""
    rows = WithdrawnEvents(path).read().rows
    keys = zip(rows["dataset"].to_pylist(), rows["sequence"].to_pylist(), strict=True)
    return dict(zip(keys, rows["erasure"].to_pylist(), strict=True))


def test_each_erasure_that_takes_something_has_the_next_number(tmp_path: Path) -> None:
    path = tmp_path / "archive" / "withdrawn.parquet"
    kept = WithdrawnEvents(path)
    assert (kept.read().before, kept.read().erased_ms) == (None, [])
    kept.add(taken(), 5, before={"somebody": 3})
    assert (kept.read().before, kept.read().erased_ms) == ([("somebody", 3)], [])
    kept.add(taken(1, 2), 10, before={"somebody": 3, "another": 4})
    assert kept.read().before == [("somebody", 3)]
    kept.add(taken(), 15, before={})
    kept.add(pa.concat_tables([taken(3), taken(1, dataset="an import")]), 20, before={})
    assert kept.read().erased_ms == [10, 20]
    assert of(path) == {("", 1): 1, ("", 2): 1, ("", 3): 2, ("an import", 1): 2}
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_what_was_taken_once_is_not_taken_again(tmp_path: Path) -> None:
    kept = WithdrawnEvents(tmp_path / "withdrawn.parquet")
    kept.add(taken(1, 2), 10, before={})
    kept.add(taken(1, 2), 20, before={})
    assert kept.read().erased_ms == [10]
    kept.add(taken(2, 3), 30, before={})
    assert of(tmp_path / "withdrawn.parquet") == {("", 1): 1, ("", 2): 1, ("", 3): 2}


def test_in_time_the_events_go_and_the_numbers_stay(tmp_path: Path) -> None:
    kept = WithdrawnEvents(tmp_path / "withdrawn.parquet")
    kept.expire(5)
    for number in range(3):
        kept.add(taken(number), 10 * number, before={})
    for before_ms, expired, left in ((0, 0, 3), (15, 2, 1), (10, 2, 1), (21, 3, 0)):
        kept.expire(before_ms)
        found = kept.read()
        assert (found.expired, len(found.rows), len(found.erased_ms)) == (expired, left, 3)
    kept.add(taken(9), 40, before={})
    assert of(tmp_path / "withdrawn.parquet") == {("", 9): 4}


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"PAR1rubbish"])
def test_a_damaged_file_is_named_and_stays(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "withdrawn.parquet"
    path.write_bytes(damage)
    kept = WithdrawnEvents(path)
    for use in (kept.read, lambda: kept.add(taken(1), 5, before={}), lambda: kept.expire(5)):
        with pytest.raises(ArchiveError, match=r"withdrawn\.parquet cannot be read"):
            use()
    assert path.read_bytes() == damage


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"a": [1]}), tmp_path / "withdrawn.parquet")
    with pytest.raises(ArchiveError, match="cannot be read"):
        WithdrawnEvents(tmp_path / "withdrawn.parquet").read()


def test_a_disk_that_refuses_is_said_and_the_file_is_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = WithdrawnEvents(tmp_path / "withdrawn.parquet")
    kept.add(taken(1), 5, before={})

    def refuse(*_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ArchiveError, match=r"cannot write .*No space left"):
        kept.add(taken(2), 6, before={})
    monkeypatch.undo()
    assert kept.read().erased_ms == [5]

"""The archive: what is appended is there once, in order, whoever dies or comes second."""

import os
import time
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.archive import START, Archive
from recsys.archive_files import GROUP_ROWS, Position
from recsys.errors import ArchiveError
from tests.workers import end, start

DAY_MS = 86_400_000
TODAY = date(2026, 11, 23)
NOON = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp() * 1000)
WORD = pa.field("word", pa.string())


def archive_at(root: Path, streams: int = 2) -> Archive:
    return Archive(root / "archive", streams=streams, columns=[WORD])


def rows(*entries: tuple[int, int, int, str]) -> pa.Table:
    """Of (stream, ms, sequence, word)."""
    stream, ms, sequence, word = zip(*entries, strict=True) if entries else ((), (), (), ())
    return pa.table(
        {
            "stream": pa.array(stream, pa.uint8()),
            "ms": pa.array(ms, pa.uint64()),
            "sequence": pa.array(sequence, pa.uint64()),
            "word": pa.array(word, pa.string()),
        }
    )


def words(archive: Archive, **which: object) -> list[str]:
    return archive.read(**which)["word"].to_pylist()


def add(archive: Archive, *entries: tuple[int, int, int, str], until: list[Position] | None = None) -> bool:
    after = archive.until()
    reached = list(after)
    for stream, ms, sequence, _ in entries:
        reached[stream] = (ms, sequence)
    return archive.append(rows(*entries), after=after, until=until or reached)


def files(archive: Archive) -> list[str]:
    return sorted(str(path.relative_to(archive.root)) for path in archive.root.rglob("*.parquet"))


def test_an_archive_that_is_not_there_is_empty_and_at_the_start(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    assert archive.until() == [START, START]
    assert words(archive) == []
    assert not archive.root.exists()


def test_what_is_appended_is_read_in_order_with_the_position_it_reaches(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    assert add(archive, (1, NOON, 0, "b"), (0, NOON, 0, "a"), (1, NOON, 1, "c"))
    assert add(archive, (1, NOON + 5, 0, "d"))
    assert archive.until() == [(NOON, 0), (NOON + 5, 0)]
    assert words(archive) == ["a", "b", "c", "d"]
    assert words(archive, stream=1) == ["b", "c", "d"]
    assert archive.read(stream=1, columns=["ms", "word"]).column_names == ["ms", "word"]


def test_who_comes_second_adds_nothing(tmp_path: Path) -> None:
    first, second = archive_at(tmp_path), archive_at(tmp_path)
    after = second.until()
    assert add(first, (0, NOON, 0, "once"))
    assert not second.append(rows((0, NOON, 0, "once")), after=after, until=[(NOON, 0), START])
    assert words(second) == ["once"]


def test_rows_of_two_days_lie_in_two_folders_and_each_file_knows_how_far_it_reaches(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    midnight = (NOON // DAY_MS + 1) * DAY_MS
    add(archive, (0, midnight - 1, 0, "late"), (0, midnight, 0, "early"), (1, midnight + 1, 0, "other"))
    assert files(archive) == [
        "day=2026-11-23/0000000000-0000000000.parquet",
        "day=2026-11-24/0000000001-0000000001.parquet",
    ]
    assert words(archive, days=[date(2026, 11, 24)]) == ["early", "other"]
    (archive.root / files(archive)[1]).unlink()  # as if the process had died between the two
    assert archive.until() == [(midnight - 1, 0), START]


def test_where_nothing_is_worth_keeping_the_position_goes_on(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    assert add(archive, until=[(NOON, 3), START])
    assert archive.until() == [(NOON, 3), START]
    assert words(archive) == []


def test_days_that_are_over_become_one_file_and_today_only_when_it_has_many(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    for number in range(40):
        add(archive, (number % 2, NOON - DAY_MS + number, 0, f"{number}"))
    for number in range(31):
        add(archive, (0, NOON + number, 0, f"today {number}"))
    before, until = words(archive, stream=0), archive.until()
    assert archive.merge(today=TODAY) == 39
    assert len(files(archive)) == 1 + 31
    add(archive, (0, NOON + 31, 0, "today 31"))
    assert archive.merge(today=TODAY) == 31
    assert len(files(archive)) == 2
    assert archive.merge(today=TODAY) == 0
    assert words(archive, stream=0) == [*before, "today 31"]
    assert archive.until() == [(NOON + 31, 0), until[1]]


def test_merging_holds_some_groups_in_memory_and_not_all_rows(tmp_path: Path) -> None:
    archive, long, n = archive_at(tmp_path), "x" * 1000, GROUP_ROWS // 2
    for number in range(20):
        add(archive, *((number % 2, NOON - DAY_MS + number, row, f"{row}{long}") for row in range(n)))
    pool, usual = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        assert archive.merge(today=TODAY) == 19
    finally:
        pa.set_memory_pool(usual)
    assert pool.max_memory() < 20 * n * len(long) / 2
    for stream in range(2):
        found = archive.read(stream=stream, columns=["ms", "sequence"])
        assert len(found) == 10 * n
        assert (np.diff(found["ms"].to_numpy() * n + found["sequence"].to_numpy()) > 0).all()


def test_a_file_that_is_damaged_inside_is_named_and_merging_leaves_all_as_it_was(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    for number in range(3):
        add(archive, (0, NOON - DAY_MS + number, 0, f"{number}" * 1000))
    second = archive.root / files(archive)[1]
    content = second.read_bytes()
    second.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
    before = sorted(archive.root.rglob("*"))
    with pytest.raises(ArchiveError, match=f"{second.name} cannot be read"):
        archive.merge(today=TODAY)
    assert sorted(archive.root.rglob("*")) == before


def test_a_row_group_of_several_streams_is_refused(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    for number in range(2):
        add(archive, (number, NOON - DAY_MS + number, 0, f"{number}"))
    second = archive.root / files(archive)[1]
    several = rows((0, NOON, 0, "a"), (1, NOON, 0, "b"))
    pq.write_table(several.replace_schema_metadata(pq.read_schema(second).metadata), second)
    with pytest.raises(ArchiveError, match=f"{second.name} cannot be read: it has a row group that is not of one"):
        archive.merge(today=TODAY)


def test_a_death_while_merging_leaves_each_row_once(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    for number in range(3):
        add(archive, (0, NOON - DAY_MS + number, 0, f"{number}"))
    kept = {name: (archive.root / name).read_bytes() for name in files(archive)}
    archive.merge(today=TODAY)
    for name, content in kept.items():  # what was to be removed after the merged file was there
        (archive.root / name).write_bytes(content)
    assert words(archive) == ["0", "1", "2"]
    add(archive, (0, NOON, 0, "3"))
    assert words(archive) == ["0", "1", "2", "3"]


def test_a_half_written_file_does_not_count(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    add(archive, (0, NOON, 0, "whole"))
    (archive.root / "day=2026-11-23" / "0000000001-0000000001.writing").write_bytes(b"PAR1")
    assert words(archive) == ["whole"]
    assert add(archive, (0, NOON, 1, "next"))
    assert words(archive) == ["whole", "next"]


def test_rewriting_takes_rows_out_and_keeps_the_position(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    add(archive, (0, NOON, 0, "stays"), (0, NOON, 1, "goes"))
    add(archive, (0, NOON, 2, "goes"))
    add(archive, (0, NOON, 3, "stays"))
    untouched = (archive.root / files(archive)[2]).stat().st_ino

    def without(table: pa.Table) -> pa.Table:
        kept = table.filter(pa.array([word != "goes" for word in table["word"].to_pylist()], pa.bool_()))
        return table if len(kept) == len(table) else kept

    archive.rewrite(without)
    assert words(archive) == ["stays", "stays"]
    assert archive.until() == [(NOON, 3), START]
    assert (archive.root / files(archive)[2]).stat().st_ino == untouched
    changed = [(archive.root / name).stat().st_ino for name in files(archive)]
    archive.rewrite(without)
    assert [(archive.root / name).stat().st_ino for name in files(archive)] == changed


def test_rewriting_looks_once_at_each_row_and_keeps_the_groups_around_the_changed_one(tmp_path: Path) -> None:
    archive, n = archive_at(tmp_path, streams=1), GROUP_ROWS
    add(archive, *((0, NOON + number, 0, f"{number}") for number in range(3 * n)))
    seen: list[str] = []

    def without_middle(table: pa.Table) -> pa.Table:
        found = table["word"].to_pylist()
        seen.extend(found)
        return table.slice(0, 0) if f"{n}" in found else table

    archive.rewrite(without_middle)
    assert seen == [str(number) for number in range(3 * n)]
    assert words(archive) == [*seen[:n], *seen[2 * n :]]
    assert archive.until() == [(NOON + 3 * n - 1, 0)]


def test_rewriting_reads_only_files_with_rows_that_are_meant_and_makes_nothing_where_there_is_no_archive(
    tmp_path: Path,
) -> None:
    archive, seen = archive_at(tmp_path), []
    archive.rewrite(lambda table: seen.append(table) or table)
    assert not archive.root.exists()
    add(archive, (0, NOON, 0, "a"))
    add(archive, (0, NOON, 1, "b"))
    archive.rewrite(lambda table: seen.append(table["word"].to_pylist()) or table, where=[("word", "in", {"b", "c"})])
    assert seen == [["b"]]


def test_rewriting_removes_what_a_death_has_left(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    for number in range(2):
        add(archive, (0, NOON - DAY_MS + number, 0, f"{number}"))
    kept = {name: (archive.root / name).read_bytes() for name in files(archive)}
    archive.merge(today=TODAY)
    (merged,) = files(archive)
    for name, content in kept.items():
        (archive.root / name).write_bytes(content)
    (archive.root / merged).with_suffix(".writing").write_bytes(b"half")
    archive.rewrite(lambda table: table)
    assert [str(path.relative_to(archive.root)) for path in archive.root.glob("day=*/*")] == [merged]
    assert words(archive) == ["0", "1"]


def test_newest_parts_come_first_across_days_files_and_groups_and_older_days_are_not_read(tmp_path: Path) -> None:
    archive, n = archive_at(tmp_path, streams=1), GROUP_ROWS + 10
    add(archive, *((0, NOON - DAY_MS + number, 0, f"{number}") for number in range(n)))
    add(archive, (0, NOON, 0, "a"), (0, NOON, 1, "b"))
    add(archive, (0, NOON, 2, "c"))
    parts = [part["word"].to_pylist() for part in archive.newest(columns=["word"])]
    assert [word for part in parts for word in reversed(part)] == ["c", "b", "a", *map(str, reversed(range(n)))]
    assert len(parts) == 4
    assert [len(part) for part in archive.newest(columns=["ms"], since_ms=NOON)] == [1, 2]
    assert list(archive_at(tmp_path / "other").newest(columns=["ms"])) == []


def test_newest_parts_are_those_of_the_beginning_though_files_are_merged_meanwhile(tmp_path: Path) -> None:
    archive = archive_at(tmp_path, streams=1)
    for number in range(3):
        add(archive, (0, NOON - DAY_MS + number, 0, f"{number}"))
    parts = archive.newest(columns=["word"])
    found = next(parts)["word"].to_pylist()
    archive.merge(today=TODAY)
    assert [*found, *(part["word"][0].as_py() for part in parts)] == ["2", "1", "0"]


def test_only_rows_that_meet_the_conditions_are_read(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    add(archive, (0, NOON, 0, "a"), (0, NOON, 1, "b"), (1, NOON, 0, "b"))
    assert len(archive.read(where=[("word", "=", "b")])) == 2
    assert words(archive, stream=1, where=[("word", "=", "b")]) == ["b"]
    assert words(archive, where=[("word", "=", "b"), ("ms", ">", NOON)]) == []


@pytest.mark.parametrize("damage", [b"", b"PAR1 and then rubbish", b"\0" * 4096])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    archive = archive_at(tmp_path)
    add(archive, (0, NOON, 0, "a"))
    path = archive.root / files(archive)[0]
    path.write_bytes(damage)
    for read in (archive.until, archive.read):
        with pytest.raises(ArchiveError, match=r"0000000000-0000000000\.parquet cannot be read"):
            read()


def test_an_archive_of_other_streams_is_refused(tmp_path: Path) -> None:
    add(archive_at(tmp_path, streams=2), (0, NOON, 0, "a"))
    with pytest.raises(ArchiveError, match="about 2 streams, not 3"):
        archive_at(tmp_path, streams=3).until()


def test_a_folder_that_refuses_is_one_sentence_and_what_was_there_stays(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    add(archive, (0, NOON, 0, "a"))
    folder = archive.root / "day=2026-11-24"
    folder.write_text("in the way")
    with pytest.raises(ArchiveError, match="cannot write"):
        add(archive, (0, NOON + DAY_MS, 0, "b"))
    assert words(archive) == ["a"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="cannot use the archive"):
        add(archive_at(tmp_path / "file"), (0, NOON, 0, "a"))


def work(folder: str) -> None:
    """A writer, until it is killed."""
    archive = archive_at(Path(folder))
    while True:
        after = archive.until()
        n = max(after)[0] - NOON + 1 if max(after)[0] else 0
        archive.append(rows((0, NOON + n, 0, str(n))), after=after, until=[(NOON + n, 0), (0, 0)])


def test_two_writers_that_are_killed_leave_each_row_once_and_in_order(tmp_path: Path) -> None:
    archive, rng = archive_at(tmp_path), np.random.default_rng(5)
    for _ in range(6):
        writers = [start(work, str(tmp_path)) for _ in range(2)]
        before = len(archive.read())
        deadline = time.monotonic() + 60
        while len(archive.read()) < before + 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 0.05))
        for writer in writers:
            end(writer)
    found = [int(word) for word in words(archive)]
    assert len(found) >= 30
    assert found == list(range(len(found)))
    assert os.listdir(archive.root)


def test_oldest_parts_come_first_and_groups_that_came_before_are_not_read(tmp_path: Path) -> None:
    archive, n = archive_at(tmp_path), GROUP_ROWS + 10
    add(archive, *((0, NOON - DAY_MS + number, 0, f"{number}") for number in range(n)))
    add(archive, (0, NOON, 0, "a"), (1, NOON + 1, 0, "b"))
    add(archive, (0, NOON + 2, 0, "c"))
    parts = [part["word"].to_pylist() for part in archive.oldest(columns=["word"])]
    assert [word for part in parts for word in part] == [*map(str, range(n)), "a", "b", "c"]
    later = [part["word"].to_pylist() for part in archive.oldest(columns=["word"], since_ms=NOON + 1)]
    assert later == [["b"], ["c"]]
    assert list(archive_at(tmp_path / "other").oldest(columns=["ms"])) == []

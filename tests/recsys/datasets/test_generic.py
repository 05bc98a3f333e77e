"""CSV and Parquet of one's own: columns, verbs, malformed rows, and the limit beyond which it is refused."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.datasets.dataset import Dataset
from recsys.datasets.detect import read_dataset
from recsys.errors import DatasetError
from recsys.verbs import Verb


def import_csv(path: Path, header: str, rows: list[str]) -> Dataset:
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return read_dataset(path, positive_rating=4.0)


def plain(count: int) -> list[str]:
    return [f"u{number % 7},i{number % 5},{1_700_000_000 + number}" for number in range(count)]


def test_rows_without_verb_or_value_are_views(tmp_path: Path) -> None:
    dataset = import_csv(tmp_path / "My Shop.csv", "user_id,item_id,timestamp", plain(10))
    assert set(dataset.events.verb) == {Verb.VIEW}
    assert (dataset.name, dataset.attribution, dataset.synthetic) == ("my-shop", "", False)
    assert dataset.item_title == dataset.item_id == ["i0", "i1", "i2", "i3", "i4"]
    assert dataset.categories == []
    assert dataset.item_category_indptr.tolist() == [0] * 6


def test_rows_with_a_value_and_no_verb_are_ratings_against_the_threshold(tmp_path: Path) -> None:
    rows = ["a,x,1700000000,5", "a,y,1700000001,3", "a,z,1700000002,"]
    events = import_csv(tmp_path / "e.csv", "user_id,item_id,timestamp,value", rows).events
    assert events.verb.tolist() == [Verb.LIKE, Verb.RATING, Verb.VIEW]
    np.testing.assert_array_equal(events.value, np.array([5, 3, np.nan], dtype=np.float32))


def test_verbs_are_taken_from_their_column_and_high_ratings_are_likes(tmp_path: Path) -> None:
    rows = ["a,x,1,purchase,9.99", "a,y,2,hide,", "a,z,3,rating,2", "a,w,4,rating,4"]
    events = import_csv(tmp_path / "e.csv", "user_id,item_id,timestamp,verb,value", rows).events
    assert events.verb.tolist() == [Verb.PURCHASE, Verb.HIDE, Verb.RATING, Verb.LIKE]


def test_impressions_stand_beside_the_interactions_with_their_positions(tmp_path: Path) -> None:
    rows = ["a,x,30,impression,2", "a,x,40,click,2", "b,y,20,impression,1", "c,z,10,impression,", "a,y,5,like,"]
    dataset = import_csv(tmp_path / "e.csv", "user_id,item_id,timestamp,verb,position", rows)
    assert dataset.events.verb.tolist() == [Verb.LIKE, Verb.CLICK]
    assert dataset.events.position.tolist() == [0, 2]
    shown = dataset.impressions
    assert shown is not None
    assert [dataset.user_id[user] for user in shown.user] == ["b", "a"]
    assert [dataset.item_id[item] for item in shown.item] == ["y", "x"]
    assert (shown.ts_ms.tolist(), shown.position.tolist()) == ([20_000, 30_000], [1, 2])
    assert dataset.report.rows_read == 5
    assert "3 impressions are no interactions; 2 have a position" in dataset.report.summary()


def test_position_that_is_none_is_malformed(tmp_path: Path) -> None:
    rows = [*(f"{row},view,3" for row in plain(150)), "u1,i1,1,view,0"]
    report = import_csv(tmp_path / "e.csv", "user_id,item_id,timestamp,verb,position", rows).report
    assert [reason for *_, reason in report.malformed] == ["position '0' is no whole number from 1 to 10000"]


def test_impressions_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no interaction"):
        import_csv(tmp_path / "e.csv", "user_id,item_id,timestamp,verb", ["a,x,1,impression"])


def test_events_are_sorted_by_time_and_equal_times_keep_their_order(tmp_path: Path) -> None:
    rows = ["c,x,9", "b,y,5", "a,z,5", "a,x,1"]
    dataset = import_csv(tmp_path / "e.csv", "user_id,item_id,timestamp", rows)
    assert dataset.user_id == ["c", "b", "a"]
    assert [dataset.user_id[number] for number in dataset.events.user] == ["a", "b", "a", "c"]
    assert [dataset.item_id[number] for number in dataset.events.item] == ["x", "y", "z", "x"]
    assert dataset.events.ts_ms.tolist() == [1000, 5000, 5000, 9000]


def test_folder_takes_titles_and_categories_from_its_items_file(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv.gz").write_bytes(gzip.compress(b"user_id,item_id,timestamp\na,x,1\na,new,2\n"))
    (tmp_path / "items.csv").write_text('item_id,title,categories,price\nx,"Lamp, blue",home|light|home,3\nunsold,,,\n')
    dataset = read_dataset(tmp_path, positive_rating=4.0)
    assert dataset.item_id == ["x", "unsold", "new"]
    assert dataset.item_title == ["Lamp, blue", "unsold", "new"]
    assert dataset.categories == ["home", "light"]
    assert dataset.item_category_indptr.tolist() == [0, 2, 2, 2]
    assert dataset.item_category.tolist() == [0, 1]
    assert (dataset.report.items_read, dataset.report.unlisted_items, dataset.report.unlisted_events) == (
        2,
        1,
        1,
    )
    assert "items.csv: ignored columns: price" in dataset.report.summary()


def test_parquet_gives_the_same_events_as_csv(tmp_path: Path) -> None:
    from_csv = import_csv(tmp_path / "e.csv", "user_id,item_id,timestamp,extra", [f"{r},z" for r in plain(50)])
    cells = [row.split(",") for row in plain(50)]
    table = pa.table(
        {
            "user_id": pa.array([user for user, _, _ in cells]).dictionary_encode(),
            "item_id": [item for _, item, _ in cells],
            "timestamp": pa.array([int(seconds) for _, _, seconds in cells], pa.timestamp("s", "UTC")),
            "extra": [0] * 50,
        }
    )
    pq.write_table(table, tmp_path / "e.parquet", row_group_size=20)
    from_parquet = read_dataset(tmp_path / "e.parquet", positive_rating=4.0)
    for name in ("user", "item", "ts_ms", "verb", "value"):
        np.testing.assert_array_equal(getattr(from_csv.events, name), getattr(from_parquet.events, name))
    assert from_csv.user_id == from_parquet.user_id
    assert from_csv.report.notes == ["e.csv: ignored columns: extra"]
    assert from_parquet.report.notes == ["e.parquet: ignored columns: extra"]


def test_parquet_items_may_hold_categories_as_lists(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"user_id": [1], "item_id": [2], "timestamp": [1_700_000_000_123]}),
        tmp_path / "interactions.parquet",
    )
    pq.write_table(pa.table({"item_id": [2, 3], "categories": [["b", "a"], None]}), tmp_path / "items.parquet")
    dataset = read_dataset(tmp_path, positive_rating=4.0)
    assert (dataset.item_id, dataset.categories) == (["2", "3"], ["a", "b"])
    assert dataset.item_category_indptr.tolist() == [0, 2, 2]
    assert dataset.events.ts_ms.tolist() == [1_700_000_000_123]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("u1,i1", "2 columns instead of 5"),
        (",i1,1700000000,view,", "user_id '' is empty, over 256 bytes or not UTF-8"),
        (f"u1,{'é' * 129},1700000000,view,", "is empty, over 256 bytes or not UTF-8"),
        ("u1,i1,1e14,view,", "timestamp '1e14' is neither epoch seconds"),
        ("u1,i1,1700000000,buy,", "verb 'buy' is none of impression, view, click, like"),
        ("u1,i1,1700000000,like,much", "value 'much' is not a finite number"),
        ("u1,i1,1700000000,rating,", "value '' is missing, but this is a rating"),
    ],
)
def test_malformed_row_is_left_out_and_reported_by_file_line_and_reason(row: str, reason: str, tmp_path: Path) -> None:
    rows = [f"{r},view," for r in plain(150)]
    rows.insert(100, row)
    dataset = import_csv(tmp_path / "e.csv", "user_id,item_id,timestamp,verb,value", rows)
    assert len(dataset.events) == 150
    assert (dataset.report.rows_read, dataset.report.rows_malformed) == (151, 1)
    [(file, line, said)] = dataset.report.malformed
    assert (file, line) == ("e.csv", 102)
    assert reason in said
    assert f"e.csv line 102: {said}" in dataset.report.summary()


def test_bad_utf_8_is_malformed_and_shown_escaped(tmp_path: Path) -> None:
    body = "\n".join(["user_id,item_id,timestamp", *plain(150)]).encode() + b"\nu\xff,i1,1700000000\n"
    (tmp_path / "e.csv").write_bytes(body)
    [(_, line, reason)] = read_dataset(tmp_path / "e.csv", positive_rating=4.0).report.malformed
    assert line == 152
    assert r"u\\xff" in reason


def test_parquet_row_that_is_malformed_is_reported_by_its_row_number(tmp_path: Path) -> None:
    users = [f"u{number}" for number in range(200)]
    users[41] = ""
    pq.write_table(pa.table({"user_id": users, "item_id": users[::-1], "timestamp": [1] * 200}), tmp_path / "e.parquet")
    report = read_dataset(tmp_path / "e.parquet", positive_rating=4.0).report
    assert [line for _, line, _ in report.malformed] == [42, 159]


def test_user_and_item_of_a_malformed_row_alone_do_not_exist(tmp_path: Path) -> None:
    dataset = import_csv(tmp_path / "e.csv", "user_id,item_id,timestamp", ["ghost,phantom,never", *plain(150)])
    assert "ghost" not in dataset.user_id
    assert "phantom" not in dataset.item_id
    assert dataset.events.user.max() == len(dataset.user_id) - 1


def test_only_the_first_twenty_malformed_rows_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    rows = plain(10_000)
    rows[500:500] = ["short"] * 15 + ["a,b,never"] * 25
    report = import_csv(tmp_path / "e.csv", "user_id,item_id,timestamp", rows).report
    assert report.rows_malformed == 40
    assert [line for _, line, _ in report.malformed] == list(range(502, 522))


def test_import_beyond_one_percent_malformed_is_refused_with_lines_and_advice(tmp_path: Path) -> None:
    exactly = [*plain(99), "short"]
    assert import_csv(tmp_path / "e.csv", "user_id,item_id,timestamp", exactly).report.rows_malformed == 1
    with pytest.raises(DatasetError) as refused:
        import_csv(tmp_path / "e.csv", "user_id,item_id,timestamp", [*plain(98), "short", "a,b,never"])
    message = str(refused.value)
    assert message.startswith("e.csv: 2 of 100 rows are malformed, more than 1%. First: line 100: 1 columns")
    assert "line 101: timestamp 'never'" in message
    assert message.endswith("Correct or remove these rows and import again")


def test_refusal_of_many_long_rows_stays_readable(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as refused:
        import_csv(tmp_path / "e.csv", "user_id,item_id,timestamp", [f"{'x' * 500},b,never"] * 100)
    assert len(str(refused.value)) < 900


def test_malformed_items_are_counted_by_their_own_file(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *plain(10)]))
    items = [f"i{number},Thing {number}".encode() for number in range(400)]
    (tmp_path / "items.csv").write_bytes(b"\n".join([b"item_id,title", *items, b"i0,Again", b",None", b"i999,\xff"]))
    report = read_dataset(tmp_path, positive_rating=4.0).report
    assert (report.rows_malformed, report.items_read, report.items_malformed) == (0, 403, 3)
    assert [(file, line) for file, line, _ in report.malformed] == [("items.csv", line) for line in (402, 403, 404)]
    assert [reason for _, _, reason in report.malformed] == [
        "item_id 'i0' is listed twice",
        "item_id is empty, over 256 bytes or not UTF-8",
        "the text is not UTF-8",
    ]
    (tmp_path / "items.csv").write_bytes(b"item_id\ni0\ni0\n")
    with pytest.raises(DatasetError, match=r"items\.csv: 1 of 2 rows are malformed"):
        read_dataset(tmp_path, positive_rating=4.0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": ["a"], "item_id": ["b"]}, "has no column timestamp; its columns are user_id, item_id"),
        ({"user_id": [1.5], "item_id": ["b"], "timestamp": [1]}, "column user_id has the type double"),
        ({"user_id": ["a"], "item_id": ["b"], "timestamp": [[1]]}, "column timestamp has the type list"),
    ],
)
def test_unusable_parquet_columns_are_refused_by_name(
    columns: dict[str, list[object]], message: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path / "e.parquet", positive_rating=4.0)


def test_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "e.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DatasetError, match=r"cannot read e\.parquet as Parquet"):
        read_dataset(tmp_path / "e.parquet", positive_rating=4.0)


def test_two_files_for_one_part_are_refused(tmp_path: Path) -> None:
    for name in ("interactions.csv", "interactions.parquet"):
        (tmp_path / name).touch()
    with pytest.raises(DatasetError, match=r"holds interactions\.csv and interactions\.parquet"):
        read_dataset(tmp_path, positive_rating=4.0)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_data_set_without_rows_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"e.{suffix}"
    if suffix == "csv":
        path.write_text("user_id,item_id,timestamp\n")
    else:
        empty = pa.array([], pa.string())
        pq.write_table(pa.table({"user_id": empty, "item_id": empty, "timestamp": empty}), path)
    with pytest.raises(DatasetError, match="holds no interaction"):
        read_dataset(path, positive_rating=4.0)

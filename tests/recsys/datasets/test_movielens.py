"""Every MovieLens layout gives the same Dataset for the same made-up ratings."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from recsys.datasets.detect import read_dataset
from recsys.datasets.movielens import ATTRIBUTION, display_title
from recsys.errors import DatasetError
from recsys.verbs import Verb
from tests.recsys.datasets import releases

RATED = [releases.csv_release, releases.release_100k, releases.recbole_release, releases.release_1m]
ALL = [*RATED, releases.release_1m_without_ratings]
Release = Callable[[Path], Path]


def categories_of(dataset: Dataset, item: int) -> list[str]:
    start, end = dataset.item_category_indptr[item : item + 2]
    return [dataset.categories[number] for number in dataset.item_category[start:end]]


@pytest.mark.parametrize("release", ALL)
def test_every_layout_gives_titles_with_the_article_in_front_and_genres(release: Release, tmp_path: Path) -> None:
    dataset = read_dataset(release(tmp_path / "ml-small"), positive_rating=4.0)
    assert dataset.item_id == ["1", "2", "3", "4", "5", "6"]
    assert dataset.item_title == releases.TITLES
    assert [categories_of(dataset, item) for item in range(6)] == releases.CATEGORIES
    assert dataset.categories == ["Comedy", "Drama", "Film-Noir", "Sci-Fi"]
    assert dataset.user_id == [str(user) for user in range(1, 41)]
    assert (dataset.synthetic, dataset.attribution) == (False, ATTRIBUTION)


@pytest.mark.parametrize("release", RATED)
def test_ratings_at_the_threshold_are_likes_and_below_it_ratings_with_their_value(
    release: Release, tmp_path: Path
) -> None:
    events = read_dataset(release(tmp_path / "ml-small"), positive_rating=4.0).events
    assert len(events) == releases.EVENTS
    assert np.count_nonzero(events.verb == Verb.LIKE) == releases.LIKES
    np.testing.assert_array_equal(events.verb == Verb.LIKE, events.value >= 4.0)
    assert set(np.unique(events.verb)) == {Verb.LIKE, Verb.RATING}
    assert events.value.tolist() == [rating for _, _, rating, _ in releases.RATINGS]
    assert events.ts_ms.tolist() == [1000 * seconds for _, _, _, seconds in releases.RATINGS]
    assert [column.dtype for column in (events.user, events.item, events.ts_ms, events.verb, events.value)] == [
        np.int32,
        np.int32,
        np.int64,
        np.uint8,
        np.float32,
    ]


def test_source_without_rating_values_makes_every_row_a_like_and_the_report_says_so(tmp_path: Path) -> None:
    dataset = read_dataset(releases.release_1m_without_ratings(tmp_path / "ml-1m"), positive_rating=4.0)
    assert set(dataset.events.verb) == {Verb.LIKE}
    assert np.isnan(dataset.events.value).all()
    assert "every row is taken as a like" in dataset.report.summary()


@pytest.mark.parametrize("inner", ["", "ml-small/"])
@pytest.mark.parametrize("release", ALL)
def test_zip_gives_the_same_dataset_as_its_folder(release: Release, inner: str, tmp_path: Path) -> None:
    folder = release(tmp_path / "ml-small")
    from_folder = read_dataset(folder, positive_rating=4.0)
    from_zip = read_dataset(releases.zipped(folder, inner=inner), positive_rating=4.0)
    assert from_zip.name == from_folder.name == "ml-small"
    assert from_zip.fingerprint == from_folder.fingerprint
    assert from_zip.events.ts_ms.tolist() == from_folder.events.ts_ms.tolist()


@pytest.mark.parametrize(
    ("release", "folder", "name", "title"),
    [
        (releases.csv_release, "ml-25m", "ml-25m", "MovieLens 25M"),
        (releases.csv_release, "ML-latest-small", "ml-latest-small", "MovieLens latest-small"),
        (releases.csv_release, "download", "movielens", "MovieLens"),
        (releases.recbole_release, "demo", "ml-100k", "MovieLens 100K"),
        (releases.release_1m, "download", "ml-1m", "MovieLens 1M"),
    ],
)
def test_name_and_title_follow_the_release(
    release: Release, folder: str, name: str, title: str, tmp_path: Path
) -> None:
    dataset = read_dataset(release(tmp_path / folder), positive_rating=4.0)
    assert (dataset.name, dataset.title) == (name, title)


def test_fingerprint_changes_with_the_threshold_and_with_one_byte_of_the_source(tmp_path: Path) -> None:
    folder = releases.csv_release(tmp_path / "ml-small")
    fingerprints = [read_dataset(folder, positive_rating=rating).fingerprint for rating in (4.0, 3.5, 4.0)]
    assert fingerprints[0] == fingerprints[2] != fingerprints[1]
    with (folder / "movies.csv").open("a") as file:
        file.write("7,Late (2004),Drama\n")
    assert read_dataset(folder, positive_rating=4.0).fingerprint != fingerprints[0]


def test_rating_equal_to_a_threshold_that_no_binary_fraction_hits_is_a_like(tmp_path: Path) -> None:
    folder = releases.csv_release(tmp_path / "ml-small")
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,4.1,1000000000\n")
    assert read_dataset(folder, positive_rating=4.1).events.verb.tolist() == [Verb.LIKE]


@pytest.mark.parametrize("row", ["41,1,,1000000000", "41,1,nan,1000000000", "41,1,four,1000000000"])
def test_row_without_a_rating_is_malformed_where_the_release_has_ratings(row: str, tmp_path: Path) -> None:
    folder = releases.csv_release(tmp_path / "ml-small")
    with (folder / "ratings.csv").open("a") as file:
        file.write(f"{row}\n")
    report = read_dataset(folder, positive_rating=4.0).report
    assert (report.rows_read, report.rows_malformed) == (241, 1)
    assert [(file, line) for file, line, _ in report.malformed] == [("ratings.csv", 242)]
    assert report.malformed[0][2].startswith("value ")


def test_rated_film_missing_from_the_films_is_kept_with_its_id_as_title_and_counted(tmp_path: Path) -> None:
    folder = releases.csv_release(tmp_path / "ml-small")
    with (folder / "ratings.csv").open("a") as file:
        file.write("1,99,5.0,1100000000\n2,99,5.0,1100000000\n2,98,5.0,1100000000\n")
    dataset = read_dataset(folder, positive_rating=4.0)
    assert dataset.item_id[6:] == dataset.item_title[6:] == ["99", "98"]
    assert (dataset.report.unlisted_items, dataset.report.unlisted_events) == (2, 3)
    assert "3 interactions with 2 items that are not in the items file" in dataset.report.summary()
    assert len(dataset.item_category_indptr) == 9


def test_release_without_the_expected_column_is_refused_by_name(tmp_path: Path) -> None:
    folder = releases.csv_release(tmp_path / "ml-small")
    (folder / "ratings.csv").write_text("userId,movieId,stars,timestamp\n1,1,5,1000000000\n")
    with pytest.raises(DatasetError, match=r"ratings\.csv has no column rating; its columns are userId, movieId"):
        read_dataset(folder, positive_rating=4.0)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("Heron, The (1999)", "The Heron (1999)"),
        ("Apple, An (1999)", "An Apple (1999)"),
        ("Heron, The (Grue, La) (1995)", "The Heron (La Grue) (1995)"),
        ("Homme, L' (1990)", "L'Homme (1990)"),
        ("Me, Myself, I (2000)", "Me, Myself, I (2000)"),
        ("Salt, Rope & Wire (2001)", "Salt, Rope & Wire (2001)"),
        ("Long, Long Way, The", "The Long, Long Way"),
        ("Theory, Thermal (2001)", "Theory, Thermal (2001)"),
    ],
)
def test_trailing_article_moves_to_the_front(stored: str, shown: str) -> None:
    assert display_title(stored) == shown

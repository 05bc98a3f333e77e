"""Invented catalogues: as large as asked, the same for the same seed, and a bundle that the service can load."""

import sys
from pathlib import Path

import numpy as np
import pytest

from loadtest import index_table, large_catalogue
from loadtest.index_types import TYPES
from loadtest.invented_bundle import Invented, invent
from loadtest.invented_vectors import Tastes, user_vectors
from recsys.bundle import Recipe
from recsys.bundle_files import load
from recsys.errors import BundleError
from recsys.recommend import recommend
from recsys.retrieval import index
from recsys.types import World
from recsys.verbs import Verb
from tests.worlds import Ask, batch_of

ITEMS = 3_000
RECIPE = Recipe(factors=32, spectral_factors=16, neighbours=20, trees=10, seed=5)  # 200 trees take 20 s


@pytest.fixture(scope="module")
def invented() -> Invented:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "EXACT_MAX", 1_000)
        return invent(ITEMS, RECIPE, users=50)


def test_a_written_bundle_is_loaded_and_answers(invented: Invented, tmp_path: Path) -> None:
    bundle_id = large_catalogue.write(invented, tmp_path)
    bundle, manifest = load(tmp_path)
    assert (manifest.id, len(bundle.vocabulary), len(bundle.index)) == (bundle_id, ITEMS, ITEMS)
    assert (tmp_path / "index.code.npy").exists()
    world = World(bundle, bundle.item_stats)
    ids = [bundle.vocabulary.item_id[row] for row in invented.liked[0].tolist()]
    slates = recommend(
        world, batch_of(world, [Ask([(one, Verb.LIKE, 1_700_000_000 + at) for at, one in enumerate(ids)])])
    )
    assert len(slates.item) == 10
    assert not np.isin(slates.item, invented.liked[0]).any()


def test_index_files_are_verified_as_all_others_are(invented: Invented, tmp_path: Path) -> None:
    large_catalogue.write(invented, tmp_path)
    path = tmp_path / "spectral_index.reach.npy"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(BundleError, match=r"spectral_index\.reach\.npy.*sha256"):
        load(tmp_path)


def test_the_same_seed_invents_the_same_bundle(invented: Invented) -> None:
    again = invent(ITEMS, RECIPE, users=50).bundle
    for name in (
        "factors",
        "title.text",
        "vocabulary.key",
        "transitions.item",
        "item_category.values",
        "item_stats.trend",
    ):
        first, second = invented.bundle, again
        for part in name.split("."):
            first, second = getattr(first, part), getattr(second, part)
        np.testing.assert_array_equal(first, second)


def test_each_item_has_its_own_neighbours_and_more_where_it_was_taken_more(invented: Invented) -> None:
    table, taken = invented.bundle.similar, invented.bundle.item_stats.popularity
    for row, near in enumerate(table.item):
        known = near[near >= 0]
        assert len(np.unique(known)) == len(known)
        assert row not in known
    has = (table.item >= 0).sum(axis=1)
    assert has[np.argmax(taken)] == 20
    assert has[np.argmin(taken)] == 8


def test_popular_items_have_long_vectors_and_users_are_near_what_they_like() -> None:
    tastes = Tastes.draw(5_000, seed=1)
    vectors = tastes.vectors(64, seed=1)
    length = np.linalg.norm(vectors, axis=1)
    assert np.corrcoef(np.log1p(tastes.taken), length)[0, 1] > 0.9
    liked = tastes.liked(50, seed=1)
    users = user_vectors(vectors, liked)
    for user, own in zip(users, liked, strict=True):
        cosine = vectors @ user / length
        assert cosine[own].mean() > cosine.mean() + 2 * cosine.std()


def test_every_index_type_finds_more_the_more_it_reads() -> None:
    tastes = Tastes.draw(4_000, seed=1)
    vectors = tastes.vectors(32, seed=1)
    queries = user_vectors(vectors, tastes.liked(20, seed=1))
    rows = index_table.measure(vectors, queries, list(TYPES), seed=1, threads=1)
    assert {row["type"] for row in rows} == set(TYPES)
    for name in TYPES:
        recall = [row["recall"] for row in rows if row["type"] == name]
        assert recall == sorted(recall), name
    assert next(row["recall"] for row in rows if row["type"] == "exact") == 1
    assert all(row["file_mb"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        (index_table, ["--types", "ivf-flat,tree"], "--types knows no tree; it knows exact, bands"),
        (index_table, ["--items", "10"], "--items must be at least 2,000"),
        (index_table, ["--items", "3000000"], "beyond 2,000,000 items give --large as well"),
        (large_catalogue, ["--items", "10"], "--items must lie between 1,000 and 100,000,000"),
        (large_catalogue, ["--neighbours", "0"], "--neighbours and --threads must be at least 1"),
    ],
)
def test_bad_options_are_refused(
    module: object, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["it", *arguments])
    with pytest.raises(SystemExit) as ended:
        module.main()  # type: ignore[attr-defined]
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_too_small_a_disk_is_said_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("RIFFLE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["it", "--items", "90000000", "--neighbours", "100000"])
    assert large_catalogue.main() == 1
    said = capsys.readouterr().err
    assert "make room, or give fewer --items or --neighbours" in said
    assert list(tmp_path.iterdir()) == []

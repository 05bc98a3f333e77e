"""`riffle bundles card`: for people, for a page, for a program."""

import json
import shutil
from pathlib import Path

import pytest

from recsys.datasets.dataset import Dataset
from service.settings import Settings
from tests.service.test_cli import Home, refused, write_csv


@pytest.fixture
def home(published_home: Settings, tmp_path: Path) -> Home:
    shutil.copytree(published_home.home, tmp_path / "state")
    return Home(tmp_path)


def test_card_is_printed_in_three_forms(home: Home) -> None:
    text, page, plain = (
        home.riffle("bundles", "card", "champion", "--format", form) for form in ("text", "markdown", "json")
    )
    assert [run.code for run in (text, page, plain)] == [0, 0, 0]
    champion = str(home.registry.champion())
    assert page.out.startswith(f"# Model card of {champion}\n")
    assert "Caveats and recommendations" in text.out
    card = json.loads(plain.out)
    assert card["id"] == champion
    for one in card["limits"]:
        assert f"- {one['sentence']}\n" in page.out
    assert text.out == home.riffle("bundles", "card").out


def test_card_of_a_bundle_that_is_not_there_or_damaged_is_refused(home: Home) -> None:
    assert "no bundle 'nothing'" in refused(home.riffle("bundles", "card", "nothing"))
    home.damage("bundle.json")
    assert "sha256" in refused(home.riffle("bundles", "card"))


def test_two_measurements_are_compared_and_what_is_none_is_refused(home: Home, synthetic_dataset: Dataset) -> None:
    assert home.riffle("import", str(write_csv(home.path / "shop", synthetic_dataset))).code == 0
    measured = home.riffle("bundles", "measure", "champion", "--to", "base.json")
    assert measured.code == 0, measured
    compared = home.riffle("bundles", "compare", "base.json", "base.json", "--to", "tables/table.md")
    assert compared.code == 0, compared
    table = (home.path / "tables" / "table.md").read_text("utf-8")
    assert table in compared.out
    assert json.loads((home.path / "tables" / "table.json").read_text("utf-8"))["passed"] is True
    worse = json.loads((home.path / "base.json").read_text("utf-8"))
    worse["values"]["NDCG@10"] = [0.0] * len(worse["question"])
    (home.path / "head.json").write_text(json.dumps(worse), "utf-8")
    assert home.riffle("bundles", "compare", "base.json", "head.json").code == 1
    assert "cannot be read" in refused(home.riffle("bundles", "compare", "absent.json", "base.json"))
    assert "is no measurement" in refused(home.riffle("bundles", "compare", "tables/table.json", "base.json"))
    assert "cannot be written" in refused(home.riffle("bundles", "measure", "champion", "--to", "base.json/no.json"))

"""`riffle bundles card`: for people, for a page, for a program."""

import json
import shutil
from pathlib import Path

import pytest

from service.settings import Settings
from tests.service.test_cli import Home, refused


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

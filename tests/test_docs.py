"""The documentation against the code: its links, commands, settings and versions, and that no number is still owed."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.main import get_command

from service.cli import app
from service.settings import Settings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DECISIONS = ROOT / "docs" / "decisions"
INDEX = DECISIONS / "README.md"
RECORDS = sorted(DECISIONS.glob("[0-9]*.md"))
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")), INDEX, *RECORDS]

SECTIONS = ["Context", "Decision", "Evidence", "Consequences", "Revisit when"]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?\n(.*?)```|(?<!`)`([^`\n]+)`(?!`)", re.DOTALL)
_COMMAND = re.compile(r"(?:^|[/;&| ])(riffle|make) (?=[a-z-])(.*)")
_SETTING = re.compile(r"^\| `(\w+)` \| `([^`]*)` \|", re.MULTILINE)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands(page: Path, program: str) -> list[list[str]]:
    """What follows a program's name in the code of a page, a list of words for each use; comments are left out."""
    found = []
    for block, inline in _CODE.findall(page.read_text("utf-8")):
        for line in (block or inline).splitlines():
            use = _COMMAND.search(line.partition(" #")[0])
            if use and use[1] == program:
                found.append(use[2].split())
    return found


def below(command: Any) -> dict[str, Any]:
    """The commands of a group; none of a command."""
    return getattr(command, "commands", {})


def wrong_words(command: Any, words: list[str]) -> list[str]:
    """The words that are neither a command where one is due, nor an option of the command that they belong to."""
    if below(command) and words and not words[0].startswith("-"):
        inner = below(command).get(words[0])
        return [words[0]] if inner is None else wrong_words(inner, words[1:])
    known = {"--help", *(option for one in command.params for option in (*one.opts, *one.secondary_opts))}
    return [word for word in words if word.startswith("-") and word not in known]


def test_pages_are_found() -> None:
    assert len(RECORDS) >= 8
    assert all(page.is_file() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_resolves(page: Path) -> None:
    targets = [link.partition("#")[0] for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_riffle_command_and_option_exists(page: Path) -> None:
    command = get_command(app)
    wrong = {" ".join(words): found for words in commands(page, "riffle") if (found := wrong_words(command, words))}
    assert wrong == {}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {words[0] for words in commands(page, "make")} <= targets


def test_commands_are_recognised_where_they_stand() -> None:
    """A pattern that finds nothing would let everything pass."""
    assert ["up"] in commands(README, "make")
    assert ["bundles", "list"] in commands(README, "riffle")
    assert wrong_words(get_command(app), ["bundles", "destroy"]) == ["destroy"]
    assert wrong_words(get_command(app), ["train", "--no-promote", "--fast"]) == ["--fast"]


def test_readme_names_every_command() -> None:
    named = {tuple(word for word in words[:2] if word.islower()) for words in commands(README, "riffle")}
    for name, command in below(get_command(app)).items():
        for path in [(name, inner) for inner in below(command)] or [(name,)]:
            assert any(words[: len(path)] == path for words in named), f"riffle {' '.join(path)}"


def test_readme_lists_every_setting_with_its_default() -> None:
    section = README.read_text("utf-8").partition("### Settings")[2].partition("###")[0]
    names = [field.name for field in msgspec.structs.fields(Settings)]
    defaults = {name: json.dumps(getattr(Settings(), name)) for name in names}
    assert _SETTING.findall(section) == list(defaults.items())


def test_index_of_decisions_is_complete_and_titled_as_the_records_are() -> None:
    listed = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \| (.+?) \| (\w+) \|$", INDEX.read_text("utf-8"), re.MULTILINE)
    written = []
    for number, record in enumerate(RECORDS, 1):
        text = record.read_text("utf-8")
        title = re.match(r"# (\d{4}): (.+)\n", text)
        status = re.search(r"^- Status: (\w+)", text, re.MULTILINE)
        assert title, f"{record.name} has no title"
        assert status, f"{record.name} has no status"
        assert title[1] == record.name[:4] == f"{number:04d}"
        written.append((title[1], record.name, title[2], status[1]))
    assert listed == written


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_record_has_a_date_and_every_section(record: Path) -> None:
    text = record.read_text("utf-8")
    assert re.search(r"^- Date: \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS


def test_newest_version_of_the_changelog_is_that_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    listed = re.findall(r"^## \[(.+?)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert listed[0] == version


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_number_is_still_owed(page: Path) -> None:
    assert re.findall(r"«MEASURE[^»]*»?", page.read_text("utf-8")) == []

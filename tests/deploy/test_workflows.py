"""The workflows: they parse, run targets and name files that exist, pin what they use and may do no more than read."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
ACTIONS = {"actions/checkout", "actions/upload-artifact"}
PINNED = re.compile(r"([\w.-]+/[\w.-]+)@[0-9a-f]{40}")
TARGET = re.compile(r"\bmake ([a-z-]+)")
OUTPUT = ".riffle-ci"


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


def events(workflow: dict[str, Any]) -> dict[str, Any]:
    """What starts it; YAML 1.1 reads the key `on` as true."""
    return workflow.get("on", workflow.get(True))


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def runs(path: Path) -> list[str]:
    return [step["run"] for step in steps(path) if "run" in step]


def test_workflows_are_found_and_run_what_a_developer_runs() -> None:
    assert {path.name for path in WORKFLOWS} == {"test.yaml", "model.yaml"}
    assert runs(ROOT / ".github/workflows/test.yaml") == [".ci/run"]
    assert "make ml-ci" in runs(ROOT / ".github/workflows/model.yaml")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_target_and_file_that_is_run_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for run in runs(path):
        assert set(TARGET.findall(run)) <= targets
        for word in run.split():
            if word.startswith((".ci/", "deploy/", "loadtest/", "tests/")):
                assert (ROOT / word).is_file(), word
    for event in events(read(path)).values():
        for pattern in (event or {}).get("paths", ()):
            assert list(ROOT.glob(pattern)), pattern


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_few_and_pinned_by_commit(path: Path) -> None:
    for step in steps(path):
        if "uses" in step:
            found = PINNED.fullmatch(step["uses"])
            assert found, step["uses"]
            assert found[1] in ACTIONS
            if found[1] == "actions/checkout":
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_may_only_read_and_ends_by_itself(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in events(workflow)
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert 0 < job["timeout-minutes"] <= 60
        assert job["runs-on"] == "ubuntu-24.04"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_nothing_from_outside_is_pasted_into_a_script(path: Path) -> None:
    """`${{ }}` in a script is replaced before the shell reads it: a branch's name could be a command."""
    assert [run for run in runs(path) if "${{" in run] == []


def test_secret_key_is_asked_for_on_pushes_alone_and_removed() -> None:
    path = ROOT / ".github/workflows/model.yaml"
    asking = [step for step in steps(path) if "secrets." in str(step)]
    assert [step["if"] for step in asking] == ["github.event_name == 'push'"]
    assert "umask 077" in asking[0]["run"]
    after = steps(path)[steps(path).index(asking[0]) + 1 :]
    assert any("rm -f" in step.get("run", "") and step["if"] == "always()" for step in after)


def test_what_is_kept_is_what_the_script_writes_and_no_home_or_key() -> None:
    script = (ROOT / "deploy" / "model_ci.py").read_text("utf-8")
    (upload,) = (
        step for step in steps(ROOT / ".github/workflows/model.yaml") if "upload-artifact" in step.get("uses", "")
    )
    kept = upload["with"]["path"].split()
    assert f'"{OUTPUT}"' in script
    for path in kept:
        folder, name = path.split("/")
        assert folder == OUTPUT
        assert f'"{name}"' in script or name == "comparison.json"
    assert not {"head", "base"} & {path.split("/")[1] for path in kept}

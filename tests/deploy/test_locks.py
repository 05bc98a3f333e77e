"""The lock files: every package at one version, by hash, from no particular index."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RUNTIME: list[str] = PROJECT["dependencies"]
LOCKS = {
    "requirements.lock": RUNTIME,
    "requirements-stores.lock": [
        *RUNTIME,
        *PROJECT["optional-dependencies"]["s3"],
        *PROJECT["optional-dependencies"]["gcs"],
    ],
    "requirements-dev.lock": [*RUNTIME, *PROJECT["optional-dependencies"]["dev"]],
    "requirements-peers.lock": [*RUNTIME, *PROJECT["optional-dependencies"]["peers"]],
}
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def entries(name: str) -> list[str]:
    """The lines of a lock file, continued ones joined."""
    return (ROOT / name).read_text("utf-8").replace("\\\n", " ").splitlines()


def pins(name: str) -> set[tuple[str, str, str]]:
    """(package, version, marker) of every entry."""
    found = set()
    for entry in entries(name):
        requirement = Requirement(entry.partition("--hash")[0])
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        found.add((canonicalize_name(requirement.name), specifier.version, str(requirement.marker or "")))
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_is_a_version_and_its_hashes_and_names_no_index(name: str) -> None:
    for entry in entries(name):
        _, *options = re.split(r"\s+(?=--)", entry.strip())
        assert options, f"{entry} has no hash"
        assert [option for option in options if not HASH.fullmatch(option)] == []
        assert "://" not in entry
    assert pins(name)


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_of_the_project_is_locked_within_its_bounds(name: str) -> None:
    here = {package: version for package, version, marker in pins(name) if not marker or Marker(marker).evaluate()}
    for line in LOCKS[name]:
        requirement = Requirement(line)
        assert here[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("name", ["requirements-dev.lock", "requirements-stores.lock"])
def test_development_and_object_stores_add_packages_and_change_none(name: str) -> None:
    runtime, more = ({pin[:2] for pin in pins(one)} for one in ("requirements.lock", name))
    assert runtime < more


def test_peers_compute_with_the_versions_of_the_service() -> None:
    """Otherwise a comparison would be one of two releases of a library."""
    computing = {"catboost", "faiss-cpu", "hiredis", "msgspec", "numba", "numpy", "orjson", "ray", "redis", "scipy"}
    serving = {"fastapi", "starlette", "uvicorn", "uvloop", "httptools"}
    runtime, peers = (
        {pin for pin in pins(name) if pin[0] in computing | serving}
        for name in ("requirements.lock", "requirements-peers.lock")
    )
    assert runtime == peers
    assert {pin[0] for pin in peers} == computing | serving

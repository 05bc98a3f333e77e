"""The bundles of several homes in one place: which URLs can be one, and that a second machine serves from it."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from recsys.errors import RegistryError
from recsys.object_store import ObjectStore
from recsys.registry import Registry
from recsys.shared_registry import SharedRegistry
from service import registry_url
from service.cli import app
from service.errors import SettingsError
from service.settings import Settings, load
from service.world import load_world, registry


def refusal(url: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(environ={"RIFFLE_REGISTRY_URL": url})
    return str(refused.value)


@pytest.mark.parametrize("url", ["bucket/prefix", "s3://", "s3:///", "://bucket"])
def test_what_is_no_url_of_bundles_is_refused(url: str) -> None:
    assert "is not like s3://bucket/prefix" in refusal(url)


def test_relative_folder_is_refused() -> None:
    assert "does not name a folder from the root on" in refusal("file://registry")


def test_unknown_protocol_is_refused() -> None:
    assert "registry_url is of nothing://, which cannot be used here" in refusal("nothing://bucket/prefix")


def test_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_url, "find_spec", lambda name: None if name == "gcsfs" else find_spec(name))
    assert "needs the package gcsfs: install riffle[gcs], or requirements-stores.lock" in refusal("gs://bucket/prefix")


@pytest.mark.parametrize("url", ["memory://bundles", "http://shop/bundles", "https://shop/bundles"])
def test_what_cannot_keep_bundles_is_refused(url: str) -> None:
    assert "cannot hold bundles" in refusal(url)


def test_folder_and_store_are_told_apart(tmp_path: Path) -> None:
    home = Settings(home=str(tmp_path))
    assert type(registry(home)) is Registry
    shared = registry(msgspec.structs.replace(home, registry_url=f"file://{tmp_path}/a%20folder"))
    assert (type(shared), shared.root) == (Registry, tmp_path / "a folder")
    assert type(registry(msgspec.structs.replace(home, registry_url="s3://bucket/prefix"))) is SharedRegistry


def test_second_machine_lists_promotes_and_serves_what_the_first_published(
    published_home: Settings, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Settings(home=str(tmp_path / "first"), registry_url=s3_url)
    bundle_id = registry(first).publish(registry(published_home).path("champion"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RIFFLE_HOME", str(tmp_path / "second"))
    monkeypatch.setenv("RIFFLE_REGISTRY_URL", s3_url)
    monkeypatch.setenv("COLUMNS", "200")
    listed = CliRunner().invoke(app, ["bundles", "list"])
    assert bundle_id in listed.output, listed.output
    assert not (tmp_path / "second" / "registry" / "bundles").exists()
    promoted = CliRunner().invoke(app, ["bundles", "promote", bundle_id, "--force", "--reason", "the first one"])
    assert f"champion is now {bundle_id}" in promoted.output, (promoted.output, promoted.exception)
    assert "past the gate: the first one" in CliRunner().invoke(app, ["bundles", "audit"]).output
    assert load_world(first).bundle.id == load_world(load()).bundle.id == bundle_id

    shutil.rmtree(tmp_path / "second")  # a third machine, where nothing is yet
    assert load_world(load()).bundle.id == bundle_id
    objects = ObjectStore(s3_url)
    for name in objects.sizes(f"bundles/{bundle_id}"):
        objects.remove(f"bundles/{bundle_id}/{name}")
    assert load_world(load(), bundle_id).bundle.id == bundle_id
    with pytest.raises(RegistryError, match="no bundles in s3://"):
        load_world(load())

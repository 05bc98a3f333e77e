"""The Serve config file: what it names exists, what it says is what we deploy, and wrong arguments are refused."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from recsys.errors import RegistryError
from service.autoscaling import LOOK_BACK_S, UPSCALE_DELAY_S
from service.errors import SettingsError
from service.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own models, where it is imported
FILE = Path(__file__).resolve().parents[2] / "deploy" / "serve.yaml"
STORE = "redis://127.0.0.1:1/0"


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text("utf-8"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIFFLE_HOME", str(tmp_path))
    monkeypatch.setenv("RIFFLE_REDIS_URL", STORE)
    return tmp_path


def named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def test_serve_takes_the_file(config: dict[str, Any]) -> None:
    from ray.serve.schema import ServeDeploySchema

    parsed = ServeDeploySchema.model_validate(config)
    assert [one.name for one in parsed.applications] == [
        "riffle",
        "riffle-features-0",
        "riffle-items",
        "riffle-archive",
        "riffle-rollouts",
    ]


def test_every_builder_and_policy_is_there(config: dict[str, Any]) -> None:
    for one in config["applications"]:
        assert inspect.isfunction(named(one["import_path"]))
    policy = config["applications"][0]["deployments"][0]["autoscaling_config"]["policy"]["policy_function"]
    assert named(policy).__name__ == "policy"


def test_numbers_are_those_of_the_code(config: dict[str, Any]) -> None:
    gateway = config["applications"][0]["deployments"][0]
    waiting = Settings().max_waiting + Settings().max_batch
    assert (gateway["max_ongoing_requests"], gateway["max_queued_requests"]) == (2 * waiting, waiting)
    scaling = gateway["autoscaling_config"]
    assert scaling["look_back_period_s"] == LOOK_BACK_S
    assert scaling["upscale_delay_s"] == UPSCALE_DELAY_S
    assert scaling["downscale_delay_s"] == Settings().downscale_delay_s


def test_every_application_but_the_gateways_is_built_without_a_bundle(config: dict[str, Any], home: Path) -> None:
    for one in config["applications"][1:]:
        assert named(one["import_path"])(one["args"]) is not None
    assert list(home.iterdir()) == []


def test_gateways_need_a_champion_or_a_bundle_that_exists() -> None:
    with pytest.raises(RegistryError, match="no champion to serve; run `riffle train`"):
        named("service.serve_config:gateway")({})
    with pytest.raises(RegistryError, match="no bundles in"):
        named("service.serve_config:gateway")({"bundle": "20261127-0"})


@pytest.mark.parametrize("builder", ["gateway", "updater", "item_updater", "archiver"])
def test_unknown_arguments_and_a_missing_store_are_refused(monkeypatch: pytest.MonkeyPatch, builder: str) -> None:
    build = named(f"service.serve_config:{builder}")
    with pytest.raises(SettingsError, match="args: unknown key bundles"):
        build({"bundles": "1"})
    monkeypatch.delenv("RIFFLE_REDIS_URL")
    with pytest.raises(SettingsError, match="RIFFLE_REDIS_URL is not set"):
        build({})


@pytest.mark.parametrize("number", [-1, 1, "0", 0.5])
def test_updater_that_is_not_there_is_refused(number: Any) -> None:
    with pytest.raises(SettingsError, match="is not one of 1 updaters"):
        named("service.serve_config:updater")({"number": number})

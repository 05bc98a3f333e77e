"""What the preflight finds, on the machine at hand."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from service import doctor
from service.doctor import Finding
from service.settings import Settings
from service.stack import valkey
from tests.free_ports import free_port


def settings_at(home: Path, **values: object) -> Settings:
    names = (
        "http_port",
        "dashboard_port",
        "valkey_port",
        "ray_port",
        "haproxy_stats_port",
        "haproxy_metrics_port",
        "metrics_port",
    )
    return Settings(home=str(home), **{**{name: free_port() for name in names}, **values})  # type: ignore[arg-type]


def named(findings: list[Finding], name: str) -> list[Finding]:
    return [finding for finding in findings if finding.name == name]


def test_machine_that_runs_these_tests_has_the_interpreter_the_packages_and_the_ports(tmp_path: Path) -> None:
    findings = doctor.check(settings_at(tmp_path))
    for name in ("python", "system", "packages", "haproxy", "home", "ports"):
        (finding,) = named(findings, name)
        assert (finding.level, finding.remedy) == ("ok", "")


def test_every_finding_that_is_not_ok_says_what_to_do(tmp_path: Path) -> None:
    taken = free_port()
    findings = doctor.check(settings_at(tmp_path / "file" / "home", http_port=taken, dashboard_port=taken))
    assert all(finding.remedy for finding in findings if finding.level != "ok")


def test_taken_port_fails_with_its_owner(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        (finding,) = named(doctor.check(settings_at(tmp_path, ray_port=port)), "ports")
    assert finding.level == "fail"
    assert f"port {port} (ray_port)" in finding.detail
    assert f"pid {os.getpid()}" in finding.detail
    assert "RIFFLE_RAY_PORT=" in finding.remedy


def test_port_that_two_settings_share_fails(tmp_path: Path) -> None:
    port = free_port()
    (finding,) = named(doctor.check(settings_at(tmp_path, http_port=port, ray_port=port)), "ports")
    assert finding.level == "fail"
    assert f"both {port}" in finding.detail


@pytest.mark.valkey
def test_ports_held_by_our_own_processes_are_fine(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    valkey.start(settings)
    try:
        (finding,) = named(doctor.check(settings), "ports")
        assert finding.level == "ok"
    finally:
        valkey.stop(settings)


def test_named_haproxy_that_cannot_be_executed_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", str(tmp_path / "haproxy"))
    (finding,) = named(doctor.check(settings_at(tmp_path)), "haproxy")
    assert finding.level == "fail"
    assert "RAY_SERVE_HAPROXY_BINARY_PATH" in finding.remedy


def test_home_under_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (finding,) = named(doctor.check(settings_at(tmp_path / "file" / "home")), "home")
    assert finding.level == "fail"
    assert "RIFFLE_HOME" in finding.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_home_that_cannot_be_written_fails(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (finding,) = named(doctor.check(settings_at(tmp_path / "home")), "home")
    assert finding.level == "fail"


@pytest.mark.valkey
def test_reachable_store_is_named_with_its_version(tmp_path: Path) -> None:
    embedded = settings_at(tmp_path)
    url = valkey.start(embedded).url
    try:
        (finding,) = named(doctor.check(settings_at(tmp_path / "other", redis_url=url)), "store")
        assert finding.level == "ok"
        assert "version" in finding.detail
    finally:
        valkey.stop(embedded)


def test_unreachable_store_fails_without_showing_the_password(tmp_path: Path) -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    (finding,) = named(doctor.check(settings_at(tmp_path, redis_url=url)), "store")
    assert finding.level == "fail"
    assert "secret" not in finding.detail + finding.remedy


def test_findings_of_others_come_last(tmp_path: Path) -> None:
    bundle = Finding("bundle", "warn", "no champion", "riffle train")
    assert doctor.check(settings_at(tmp_path), extra=[bundle])[-1] == bundle


def test_looking_does_not_import_ray(tmp_path: Path) -> None:
    """Ray reads its variables at import; an import before they are set would fix the wrong ones."""
    code = (
        "import sys; from service import doctor; from service.settings import Settings;"
        f" doctor.check(Settings(home={str(tmp_path)!r})); sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

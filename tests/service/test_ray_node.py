"""A machine that cannot join the Ray cluster of another one is told why. `loadtest.nodes` has those that can."""

import os
from pathlib import Path

import pytest

from service.errors import SettingsError, StackError
from service.settings import Settings, load
from service.stack import processes, ray_head, ray_node
from service.stack.ray_environment import environment, token_file
from tests.free_ports import free_port


def node_in(home: Path) -> Settings:
    ports = {name: free_port() for name in ray_node.PORTS}
    settings = Settings(home=str(home), node_host="127.0.0.9", http_host="0.0.0.0", **ports)
    token_file(settings).parent.mkdir(parents=True)
    token_file(settings).write_text("0" * 64)
    return settings


def test_without_the_clusters_token_it_says_where_to_put_it(tmp_path: Path) -> None:
    settings = node_in(tmp_path)
    token_file(settings).unlink()
    with pytest.raises(StackError, match=r"copy run/ray-token of the head's home to .*/run/ray-token"):
        ray_node.start(settings, "127.0.0.1:6380", cpus=1)


def test_a_home_whose_ray_runs_is_left_alone(tmp_path: Path) -> None:
    settings = node_in(tmp_path)
    mine = processes.Recorded(pid=os.getpid(), birth=processes.birth(os.getpid()) or "")
    ray_head.record(settings, mine)
    with pytest.raises(StackError, match="runs already; run `riffle down` first"):
        ray_node.start(settings, "127.0.0.1:6380", cpus=1)
    processes.save(tmp_path / "run" / "ray.json", processes.Recorded(pid=os.getpid(), birth="another"))
    assert not ray_head.has_leader(settings)


def test_where_no_head_answers_nothing_is_started(tmp_path: Path) -> None:
    settings, nobody = node_in(tmp_path), free_port()
    with pytest.raises(StackError, match=f"no Ray answers at 127.0.0.1:{nobody}"):
        ray_node.start(settings, f"127.0.0.1:{nobody}", cpus=1)
    assert not (tmp_path / "run" / "ray.json").exists()


@pytest.mark.parametrize("head", ["", "10.0.0.1", ":6380", "10.0.0.1:ray"])
def test_a_head_without_host_or_port_is_refused(tmp_path: Path, head: str) -> None:
    with pytest.raises(StackError, match="is no host:port"):
        ray_node.start(node_in(tmp_path), head, cpus=1)


def test_ray_is_open_to_other_machines_only_where_an_address_says_so(tmp_path: Path) -> None:
    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    assert environment(Settings(home=str(tmp_path)))[name] == "0"
    assert environment(Settings(home=str(tmp_path), node_host="10.0.0.1", http_host="0.0.0.0"))[name] == "1"


def test_an_address_for_other_machines_needs_gateways_that_they_reach() -> None:
    with pytest.raises(SettingsError, match=r"set it to 0\.0\.0\.0"):
        load(environ={"RIFFLE_NODE_HOST": "10.0.0.1"})

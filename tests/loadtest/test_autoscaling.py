"""What the autoscaling run reads of HAProxy, and what it makes of it."""

from pathlib import Path
from typing import Any

from loadtest.autoscaling import changes, plot, servers_up
from loadtest.overload import table

STATISTICS = """# pxname,svname,act,status,
http_frontend,FRONTEND,,OPEN,
HTTP-riffle,SERVE_REPLICA_a,1,UP,
HTTP-riffle,SERVE_REPLICA_b,1,UP 1/2,
HTTP-riffle,SERVE_REPLICA_c,1,DOWN,
HTTP-riffle,fallback,0,UP,
HTTP-riffle,BACKEND,2,UP,
other,SERVE_REPLICA_d,1,UP,
"""


def test_servers_in_rotation_are_those_that_are_up_and_no_backup() -> None:
    assert servers_up(STATISTICS) == 2
    assert servers_up("# pxname,svname,act,status,\n") == 0


def test_changes_are_told_once_each() -> None:
    assert changes([1, 1, 2, 2, 2, 3, 2, 1, 1]) == [1, 2, 3, 2, 1]
    assert changes([]) == []


def test_plot_is_a_picture_also_where_a_second_has_no_answer(tmp_path: Path) -> None:
    seconds = [{"second": 0, "due": 5, "answered": 5, "p99": 3.0}, {"second": 1, "due": 5, "answered": 0}]
    plot({"outcome": {"by_second": seconds}, "replicas": [{"second": 0.5, "gateways": 1}]}, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def step(**changed: Any) -> dict[str, Any]:
    return {
        "factor": 2,
        "goodput_rps": 990.4,
        "of_capacity": 0.97,
        "answered_p99_ms": 71.0,
        "refused": 12345,
        "refused_p99_ms": 8.0,
        "failed": 0,
        "generator_late": False,
        "after": {"answered_ms": {"p99": 9.0}, "errors": {}},
    } | changed


def test_table_of_an_overload_says_what_is_not_well() -> None:
    late = step(
        factor=10, generator_late=True, refused_p99_ms=None, after={"answered_ms": {"p99": 9}, "errors": {"x": 3}}
    )
    _, _, well, bad = table({"steps": [step(), late]}).splitlines()
    assert well == "| 2 x | 990 | 0.97 | 71.0 | 12,345 | 8.0 | 0 | 9.0 |"
    assert bad.startswith("| 10 x (generator late) |")
    assert bad.endswith("| 9.0, 3 failed |")

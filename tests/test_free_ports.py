"""What the tests themselves rely on to start servers beside one another."""

import socket
import subprocess
import sys

from tests.free_ports import free_port, ports_in_a_row

ASK = "from tests.free_ports import free_port; print(*(free_port() for _ in range(20)))"


def test_no_port_is_given_twice_in_a_row_nor_one_of_those_kept_together() -> None:
    given = [free_port() for _ in range(800)]
    assert len(set(given)) == len(given)
    assert set(given).isdisjoint(range(ports_in_a_row(), ports_in_a_row() + 100))


def test_a_port_that_somebody_holds_is_passed_over() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", free_port()))
        held.listen()
        assert held.getsockname()[1] not in {free_port() for _ in range(2000)}


def test_another_process_is_given_other_ports() -> None:
    ours = {free_port() for _ in range(2000)}
    theirs = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout
    assert len(theirs.split()) == 20
    assert ours.isdisjoint(map(int, theirs.split()))

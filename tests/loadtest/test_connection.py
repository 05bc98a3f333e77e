"""Kept-alive connections whose answers are awaited."""

import asyncio

import pytest

from loadtest.connection import Answer, Connections
from tests.free_ports import free_port
from tests.loadtest.server import ANSWER, Behaviour, server


def posts(
    port: int, bodies: list[bytes], *, limit: int = 8, timeout_s: float = 2.0, at_once: bool = False
) -> list[Answer]:
    """The answers to bodies, sent one after the other or all at once."""

    async def run() -> list[Answer]:
        connections = Connections("127.0.0.1", port, limit=limit)
        calls = [connections.post("/v1/x", body, timeout_s=timeout_s) for body in bodies]
        answers = await asyncio.gather(*calls) if at_once else [await call for call in calls]
        opened.append(connections.opened)
        await connections.close()
        return answers

    opened.clear()
    return asyncio.run(run())


opened: list[int] = []


def test_one_connection_serves_requests_one_after_the_other() -> None:
    behaviour = Behaviour(body_of=lambda path, body: path.encode() + b" " + body)
    with server(behaviour) as port:
        answers = posts(port, [b"1", b"2", b"3"])
    assert answers == [Answer(200, b"/v1/x 1"), Answer(200, b"/v1/x 2"), Answer(200, b"/v1/x 3")]
    assert opened == [1]


def test_refusals_are_answers_with_their_status() -> None:
    with server(Behaviour(refuse_every=1)) as port:
        assert posts(port, [b"1"]) == [Answer(429, ANSWER)]


def test_requests_beyond_the_limit_fail_at_once() -> None:
    with server(Behaviour(delay_s=0.05)) as port:
        answers = posts(port, [b"1"] * 5, limit=2, at_once=True)
    assert sorted(answer.failure for answer in answers) == ["", "", *["no free connection"] * 3]


@pytest.mark.parametrize(
    ("behaviour", "failure"),
    [
        (Behaviour(delay_s=5), "timeout"),
        (Behaviour(hang_up=True), "connection lost"),
        (Behaviour(raw=b"hello\r\n\r\n"), "not HTTP"),
    ],
)
def test_no_answer_is_a_failure_with_its_kind(behaviour: Behaviour, failure: str) -> None:
    with server(behaviour) as port:
        assert posts(port, [b"1"], timeout_s=0.2) == [Answer(0, failure=failure)]


def test_nobody_who_listens_is_a_failure() -> None:
    assert posts(free_port(), [b"1"]) == [Answer(0, failure="not connected")]


def test_a_call_that_is_given_up_leaves_the_others_alone() -> None:
    async def run(port: int) -> Answer:
        connections = Connections("127.0.0.1", port, limit=8)
        given_up, kept = (asyncio.create_task(connections.post("/", b"1", timeout_s=2)) for _ in range(2))
        await asyncio.sleep(0.05)
        given_up.cancel()
        answer = await kept
        await asyncio.sleep(0.05)  # the answer to the call that nobody waits for
        await connections.close()
        return answer

    with server(Behaviour(delay_s=0.1)) as port:
        assert asyncio.run(run(port)).status == 200


def test_a_connection_that_is_being_opened_is_closed_with_the_others() -> None:
    async def run(port: int) -> tuple[Answer, int]:
        connections = Connections("127.0.0.1", port, limit=8)
        call = asyncio.create_task(connections.post("/", b"1", timeout_s=2))
        await asyncio.sleep(0)  # it is on its way
        await connections.close()
        return await call, len(connections.open)

    with server(Behaviour(delay_s=1)) as port:
        assert asyncio.run(run(port)) == (Answer(0, failure="connection lost"), 0)

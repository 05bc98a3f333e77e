"""Paths find their handlers: exact ones as they are, templates with the ids in them decoded."""

from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import MethodNotAllowed, NotFound
from service.routes import Answer, Route, Routes, parameters

TEMPLATES = [
    "/v1/things",
    "/v1/things:batch",
    "/v1/things/{thing_id}",
    "/v1/things/{thing_id}:merge",
    "/v1/things/{thing_id}/parts/{part_id}",
]


async def handler(body: bytes, *ids: str) -> Answer:
    return Answer(200, (), body + repr(ids).encode())


ROUTES = Routes({path: {"POST": Route(handler, reads_body=True), "DELETE": Route(handler)} for path in TEMPLATES})


def found(raw_path: str) -> tuple[str, tuple[str, ...]]:
    """The template that a path is taken for, and its ids."""
    route, ids = ROUTES.find("POST", unquote(raw_path, errors="replace"), raw_path.encode("ascii"))
    by_template = {id(methods["POST"]): path for path, methods in ROUTES.table.items()}
    return by_template[id(route)], ids


def test_parameters_are_the_names_in_their_order() -> None:
    assert [parameters(path) for path in TEMPLATES] == [[], [], ["thing_id"], ["thing_id"], ["thing_id", "part_id"]]


@pytest.mark.parametrize("path", TEMPLATES[:2])
def test_exact_path_has_no_ids(path: str) -> None:
    assert found(path) == (path, ())


@pytest.mark.parametrize(
    ("raw_path", "template", "ids"),
    [
        ("/v1/things/a", "/v1/things/{thing_id}", ("a",)),
        ("/v1/things/a%2Fb", "/v1/things/{thing_id}", ("a/b",)),
        ("/v1/things/a%2fb%20%25%C3%BC", "/v1/things/{thing_id}", ("a/b %ü",)),
        ("/v1/things/a+b", "/v1/things/{thing_id}", ("a+b",)),
        ("/v1/things/a:merge", "/v1/things/{thing_id}:merge", ("a",)),
        ("/v1/things/a:b:merge", "/v1/things/{thing_id}:merge", ("a:b",)),
        ("/v1/things/a%3Amerge", "/v1/things/{thing_id}", ("a:merge",)),
        ("/v1/things/:merge", "/v1/things/{thing_id}", (":merge",)),
        ("/v1/things/a:split", "/v1/things/{thing_id}", ("a:split",)),
        ("/v1/things/a/parts/b%2Fc", "/v1/things/{thing_id}/parts/{part_id}", ("a", "b/c")),
    ],
)
def test_path_is_taken_apart_before_its_ids_are_decoded(raw_path: str, template: str, ids: tuple[str, ...]) -> None:
    assert found(raw_path) == (template, ids)


@given(first=st.text(min_size=1), second=st.text(min_size=1))
def test_every_id_reaches_its_handler_as_it_was(first: str, second: str) -> None:
    one, other = quote(first, safe=""), quote(second, safe="")
    assert found(f"/v1/things/{one}") == ("/v1/things/{thing_id}", (first,))
    assert found(f"/v1/things/{one}:merge") == ("/v1/things/{thing_id}:merge", (first,))
    assert found(f"/v1/things/{one}/parts/{other}") == ("/v1/things/{thing_id}/parts/{part_id}", (first, second))


@pytest.mark.parametrize("raw_path", ["/v1/things/", "/v1/things//parts/b", "/v1/things/a/b", "/v1/thing/a", "/v1x"])
def test_path_that_fits_no_template_is_not_found(raw_path: str) -> None:
    with pytest.raises(NotFound, match="no route"):
        found(raw_path)


def test_id_that_is_not_utf_8_is_not_found() -> None:
    with pytest.raises(NotFound, match="is not UTF-8"):
        found("/v1/things/%ff")


@pytest.mark.parametrize("path", ["/v1/things", "/v1/things/a", "/v1/things/a:merge"])
def test_other_methods_are_refused_with_those_that_there_are(path: str) -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        ROUTES.find("PUT", path, path.encode())
    assert refused.value.allow == "POST, DELETE"


def test_each_method_has_its_own_way_with_bodies() -> None:
    path = "/v1/things/a"
    assert [ROUTES.find(method, path, path.encode())[0].reads_body for method in ("POST", "DELETE")] == [True, False]

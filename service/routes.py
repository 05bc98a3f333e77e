"""Which handler a path and a method belong to: exact paths by one dict lookup, then templates with ids in them.

A template is a path in which `{name}` stands for one segment, or for the part of one before a literal such as
`:replay`. Ids are percent-decoded after the path is taken apart, so an id may hold an encoded slash or colon.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from service.errors import MethodNotAllowed, NotFound

Headers = tuple[tuple[bytes, bytes], ...]

_PARAMETER = re.compile(r"\{(\w+)\}")


class Answer(NamedTuple):
    """A response without what every response has (length, request id)."""

    status: int
    headers: Headers
    body: bytes


class Route(NamedTuple):
    """What answers a method of a path.

    Attributes:
        handler: Of the body and the ids in the path, in order.
        reads_body: Whether a JSON body is read and has to be there; without, the handler gets b"", and a POST
            that has fields is refused.
        waited: Whether the handler gets, after the body, how long the request has waited, in seconds.
        template: Of its path, which `Routes` fills in: what a request is called where ids must not be.
    """

    handler: Callable[..., Awaitable[Answer]]
    reads_body: bool = False
    waited: bool = False
    template: str = ""


Methods = Mapping[str, Route]


def parameters(template: str) -> list[str]:
    """The names in a template, in order; none in an exact path."""
    return _PARAMETER.findall(template)


class Routes:
    """All routes of an application.

    Args:
        table: What answers each method, by path or template.
    """

    def __init__(self, table: Mapping[str, Methods]) -> None:
        self.table = table = {
            path: {method: route._replace(template=path) for method, route in methods.items()}
            for path, methods in table.items()
        }
        self._exact = {path: methods for path, methods in table.items() if not parameters(path)}
        templates = [path for path in table if parameters(path)]
        # The longest literals first: `/{id}:replay` before `/{id}`, which would take the verb for a part of the id.
        templates.sort(key=lambda path: -len(_PARAMETER.sub("", path)))
        self._templates = [(_pattern(path), table[path]) for path in templates]

    def find(self, method: str, path: str, raw_path: bytes) -> tuple[Route, tuple[str, ...]]:
        """The route of a request and the ids in its path.

        Args:
            path: Decoded. raw_path: As it was sent, without the query.
        Raises:
            NotFound: no such path, or an id in it is not UTF-8.
            MethodNotAllowed: the path takes other methods only.
        """
        methods = self._exact.get(path)
        ids: tuple[str, ...] = ()
        if methods is None:
            methods, ids = self._by_template(path, raw_path)
        route = methods.get(method)
        if route is None:
            allow = ", ".join(methods)
            raise MethodNotAllowed(f"{method[:20]!r} is not allowed on {path[:200]!r}; use {allow}", allow)
        return route, ids

    def _by_template(self, path: str, raw_path: bytes) -> tuple[Methods, tuple[str, ...]]:
        for pattern, methods in self._templates:
            if match := pattern.fullmatch(raw_path):
                try:
                    return methods, tuple(unquote_to_bytes(part).decode("utf-8") for part in match.groups())
                except UnicodeDecodeError as error:
                    raise NotFound(f"an id in {path[:200]!r} is not UTF-8") from error
        raise NotFound(f"no route {path[:200]!r}; /openapi.json lists the routes")


def _pattern(template: str) -> re.Pattern[bytes]:
    literals = (re.escape(part) for part in _PARAMETER.split(template)[::2])
    return re.compile("([^/]+)".join(literals).encode("ascii"))

"""What Ray calls back, by the import paths in `ray_environment`: once in `ray start`, once in every HTTP server."""

from typing import Any

from starlette.middleware import Middleware

from service.client_headers import ClientHeaders
from service.one_write import OneWrite


def without_client_server(ray_params: Any, head: bool) -> None:  # noqa: ARG001 - the signature is Ray's
    """Keep `ray start` from running a Ray Client server: 90 MB, and one more port that runs code."""
    ray_params.ray_client_server_port = None


def http_middlewares() -> list[Middleware]:
    """What stands before Serve's own handling of a request, in replicas and in the fallback proxy."""
    return [Middleware(ClientHeaders), Middleware(OneWrite)]  # the last one is the outermost

"""The address of an OpenTelemetry collector, as a setting has it."""

from urllib.parse import urlsplit


def check_endpoint(endpoint: str) -> None:
    """Raises ValueError where it is no http(s)://host[:port] without credentials, query or path."""
    try:
        url = urlsplit(endpoint)
        has_port = url.port is None or url.port > 0
    except ValueError as error:
        raise ValueError(f"otlp_endpoint {endpoint!r}: {error}") from error
    usual = url.scheme in ("http", "https") and url.hostname and has_port and url.path in ("", "/")
    if not usual or url.username or url.query or url.fragment or endpoint != endpoint.strip():
        raise ValueError(
            f"otlp_endpoint {endpoint!r} is no http://host:port of a collector; /v1/traces and /v1/metrics are added"
        )

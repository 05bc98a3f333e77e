"""The address of a collector."""

import pytest

from service.telemetry.endpoint import check_endpoint


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:4318", "https://collector.example", "http://[::1]:4318/"])
def test_address_of_a_collector_is_taken(endpoint: str) -> None:
    check_endpoint(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        *(
            "collector:4318",
            "collector",
            "ftp://collector:4318",
            "http://",
            "http://collector:port",
            " http://collector",
        ),
        *("http://collector:99999", "http://user:secret@collector", "http://collector/v1/traces", "http://c?x=1", "\0"),
        *("http://[::1", "http://collector:0"),
    ],
)
def test_what_is_no_address_is_refused_by_name(endpoint: str) -> None:
    with pytest.raises(ValueError, match="otlp_endpoint"):
        check_endpoint(endpoint)

"""Whose traceparent is honoured."""

import pytest

from service.telemetry.callers import networks


def test_addresses_and_networks_are_read() -> None:
    assert networks(" 10.0.0.0/8, 192.168.1.7 ,fd00::/8") == ["10.0.0.0/8", "192.168.1.7/32", "fd00::/8"]
    assert networks("") == []


@pytest.mark.parametrize("wrong", ["everybody", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8; acl x", "*"])
def test_what_is_no_network_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(ValueError, match="trace_trusted"):
        networks(f"10.0.0.0/8,{wrong}")

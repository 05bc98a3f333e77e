"""Callers whose `traceparent` is honoured: they may have a request traced, and see it in a trace of theirs."""

from ipaddress import ip_network


def networks(trusted: str) -> list[str]:
    """Networks in the notation of HAProxy, from addresses and networks with commas between them.

    Raises:
        ValueError: one of them is neither; the message names it.
    """
    found = []
    for one in filter(None, (part.strip() for part in trusted.split(","))):
        try:
            found.append(str(ip_network(one)))
        except ValueError as error:
            raise ValueError(f"trace_trusted: {one!r} is no address and no network: {error}") from error
    return found

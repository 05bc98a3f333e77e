"""Which hash slot of a Redis Cluster a command belongs to."""

import binascii
from functools import lru_cache

from service.node_connections import Command

SLOTS = 16_384
_KEY_AT = {b"EVAL": 3, b"XINFO": 2}  # of all other commands the first argument is the key


def slot_of(key: str | bytes) -> int:
    """The slot of a key: CRC-16 of what its first braces hold, or of all of it, modulo SLOTS."""
    raw = key.encode() if isinstance(key, str) else key
    start = raw.find(b"{")
    end = raw.find(b"}", start + 1) if start >= 0 else -1
    return _slot(raw[start + 1 : end] if end > start + 1 else raw)


def slot_of_command(command: Command) -> int | None:
    """The slot of the key that a command names first; None of WAIT, which belongs to the command before it.

    Raises:
        ValueError: it names no key, so no node is the one to ask.
    """
    name = command[0].encode() if isinstance(command[0], str) else command[0]
    if name == b"WAIT":
        return None
    if name == b"XREAD":
        words = [one.encode() if isinstance(one, str) else one for one in command]
        return slot_of(words[words.index(b"STREAMS") + 1])
    at = _KEY_AT.get(name, 1)
    if len(command) <= at or name in (b"TIME", b"SCAN", b"INFO", b"PING", b"BGREWRITEAOF", b"CLUSTER"):
        raise ValueError(f"{name.decode()} names no key; ask each node")
    return slot_of(command[at])


@lru_cache(1024)
def _slot(hashed: bytes) -> int:
    return binascii.crc_hqx(hashed, 0) % SLOTS

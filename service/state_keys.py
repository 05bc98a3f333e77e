"""Where user states lie: shards of users, and namespaces, one of which is live.

A namespace is named by the feature schema that its states are of and by a generation. States of another schema, or of a
rebuild under way, lie beside the live ones, never mixed; one key says which namespace is live.
"""

import zlib
from functools import lru_cache

from recsys.erased_users import user_digest
from recsys.features.matrix import SCHEMA_HASH

_RECENT = 16_384  # users whose digest is remembered: who does something does more, and then it costs 0.2 us, not 2.7
SHARDS = 16  # event shards; the keys of one shard share a hash tag, so they stay together on Redis Cluster


def shard(user_id: str) -> int:
    """The event shard of a user: CRC-32 of the id's UTF-8 bytes, modulo SHARDS."""
    return zlib.crc32(user_id.encode()) % SHARDS


def live_key(schema_hash: str = SCHEMA_HASH) -> str:
    """Where the name of a schema's live namespace lies; nothing there means `first`."""
    return f"riffle:features:{schema_hash[:8]}"


def rebuilt_key(schema_hash: str = SCHEMA_HASH) -> str:
    """Where the name of the namespace lies that is being rebuilt: what its states do not know stays in the log."""
    return f"{live_key(schema_hash)}:rebuilt"


def namespace(generation: int, schema_hash: str = SCHEMA_HASH) -> str:
    """The name of a generation of a schema's states."""
    return f"{schema_hash[:8]}.{generation}"


FIRST = namespace(0)  # live until a rebuild has made another: that of a store which nobody has filled


def live_name(value: bytes | None) -> str:
    """The live namespace, from what lies at `live_key`."""
    return value.decode() if value else FIRST


def state_key(namespace: str, user_id: str) -> str:
    """Where a user's state lies."""
    return f"riffle:{{s{shard(user_id):02d}}}:{namespace}:user:{user_id}"


@lru_cache(_RECENT)
def refused_key(user_id: str) -> str:
    """What lies here while a user who was forgotten is refused: the receipt. No state of theirs is written then."""
    return f"riffle:{{s{shard(user_id):02d}}}:refused:{user_digest(user_id)}"


def fence_key(number: int) -> str:
    """What is written here tells that everything before it in a shard's slot has reached the replicas."""
    return f"riffle:{{s{number:02d}}}:fence"


def beside(key: str, name: str, *, is_cluster: bool) -> str:
    """A name for what changes together with `key`: on a cluster one of the same slot."""
    return f"{name}:{{{key}}}" if is_cluster and "{" not in key else name


def position_key(namespace: str, number: int) -> str:
    """Where the position of the last event applied to a shard's states lies."""
    return f"riffle:{{s{number:02d}}}:{namespace}:position"

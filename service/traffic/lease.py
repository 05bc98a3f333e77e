"""Who may act where one is enough: a lease in the store, which ends by itself when its holder does."""

import uuid

from service.round_trips import RoundTrips

LEASE_S = 10.0

_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class Lease:
    """A lease of a name. key: Where it lies."""

    def __init__(self, store: RoundTrips, key: str, *, lease_s: float = LEASE_S) -> None:
        self._store, self._key, self._ms = store, key, str(int(lease_s * 1000))
        self._token = uuid.uuid4().hex

    async def held(self) -> bool:
        """Take it, or keep it; False where another has it. Raises RedisError, OSError, TimeoutError."""
        return bool((await self._store.demand([("EVAL", _TAKE, "1", self._key, self._token, self._ms)]))[0])

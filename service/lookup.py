"""User states from the store: one round trip a micro-batch, tight timeouts, never an exception.

On a cluster it is one round trip to each node that has states of the batch, all of them at the same time.
"""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ClusterDownError, ConnectionError, RedisError, TryAgainError

from service.round_trips import RoundTrips
from service.state_keys import FIRST, live_key, live_name, state_key

States = tuple[list[bytes | None], list[str | None]]


class StateLookup:
    """Reads packed user states of the live namespace.

    Attributes:
        namespace: The one that was live when `refresh` last looked.
    """

    def __init__(self, store: RoundTrips) -> None:
        self._store = store
        self.namespace = FIRST

    async def refresh(self) -> None:
        """See which namespace is live.

        Raises:
            RedisError, OSError, TimeoutError: the store does not say; the one known so far stays.
        """
        (found,) = await self._store.demand([("GET", live_key())])
        self.namespace = live_name(found)

    async def fetch(self, user_ids: Sequence[str]) -> States:
        """The packed state of each user, None where there is none.

        Returns:
            For each user the value, and None or why it could not be read: "timeout", "unavailable" or "error". Of a
            store that is one server, either all were read or none.
        """
        keys = [state_key(self.namespace, one) for one in user_ids]
        try:
            # On a cluster MGET takes keys of one slot, and of a slot on its way to another node only those on one side.
            if self._store.is_cluster:
                replies = await self._store.call([("GET", key) for key in keys])
            else:
                (values,) = await self._store.call([("MGET", *keys)])
                replies = [values] * len(keys) if isinstance(values, Exception) else values
        except (RedisError, OSError, TimeoutError) as error:
            replies = [error] * len(keys)
        causes = [_cause(one) if isinstance(one, Exception) else None for one in replies]
        return [None if isinstance(one, Exception) else one for one in replies], causes


def _cause(error: Any) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionError | OSError | ClusterDownError | TryAgainError):
        return "unavailable"
    return "error"

"""User states from Redis: one round trip a micro-batch, tight timeouts, never an exception."""

from collections.abc import Sequence

from redis.exceptions import ConnectionError, RedisError

from service.round_trips import RoundTrips
from service.state_keys import FIRST, live_key, live_name, state_key


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

    async def fetch(self, user_ids: Sequence[str]) -> tuple[list[bytes | None], str | None]:
        """The packed state of each user, None where there is none.

        Returns:
            The values, and None or why they could not be read: "timeout", "unavailable" or "error"; then all are None.
        """
        namespace = self.namespace
        try:
            (values,) = await self._store.call([("MGET", *(state_key(namespace, one) for one in user_ids))])
            if not isinstance(values, Exception):
                return values, None
            cause = "error"
        except TimeoutError:
            cause = "timeout"
        except (ConnectionError, OSError):
            cause = "unavailable"
        except RedisError:
            cause = "error"
        return [None] * len(user_ids), cause

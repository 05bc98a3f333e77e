"""Writing user states to Redis in bulk, from the import's interactions."""

from collections.abc import Callable

import numpy as np
import redis

from recsys.datasets.dataset import Dataset
from recsys.features.codec import pack, unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.training.log import Log
from service.errors import StackError
from service.lookup import NAMESPACE, SHARDS, state_key
from service.updater import position_key

CHUNK = 2048
_LOADED = f"riffle:{NAMESPACE}:loaded"  # fingerprint of the data set whose states are all there


def load_states(url: str, dataset: Dataset, *, progress: Callable[[int], None] = lambda _: None) -> int:
    """Replay the whole log through the online `update` and write every user's state; returns how many.

    Does nothing where the states of this very data set are already there.

    Raises:
        StackError: Redis failed; the states may be there in part and the next call writes them all again.
    """
    log = Log.of(dataset)
    try:
        with redis.Redis.from_url(url, socket_timeout=10) as client:
            if client.get(_LOADED) == dataset.fingerprint.encode() and _decodes(client, dataset):
                return 0
            client.delete(_LOADED)
            users = np.arange(len(dataset.user_id), dtype=np.int32)
            for start in range(0, len(users), CHUNK):
                chunk = users[start : start + CHUNK]
                states = log.states_at(chunk, np.full(len(chunk), np.iinfo(np.int64).max))
                pipeline = client.pipeline(transaction=False)
                for number, value in zip(chunk, pack(states, SCHEMA_HASH), strict=True):
                    pipeline.set(state_key(dataset.user_id[number]), value)
                pipeline.execute()
                progress(len(chunk))
            # Whatever events the log still has are applied again, to the states just written; others know theirs.
            client.delete(*map(position_key, range(SHARDS)))
            client.set(_LOADED, dataset.fingerprint)
            return len(users)
    except redis.RedisError as error:
        raise StackError(
            f"user states could not be written to Redis: {error}; check that it runs and has memory"
        ) from error


def _decodes(client: redis.Redis, dataset: Dataset) -> bool:
    """Whether a stored state is one that this version reads."""
    value = client.get(state_key(dataset.user_id[0]))
    return isinstance(value, bytes) and not unpack([value], SCHEMA_HASH)[1]


def some_user(dataset: Dataset) -> str:
    """A user with a history of ordinary length (the median), for an example."""
    counts = np.bincount(dataset.events.user, minlength=len(dataset.user_id))
    return dataset.user_id[int(np.argsort(counts, kind="stable")[len(counts) // 2])]

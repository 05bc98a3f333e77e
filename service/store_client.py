"""A client of the store for commands, rebuilds and checks: patient, unlike `round_trips`."""

from typing import cast

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError, RedisClusterException

from service.store_url import is_cluster, node_url, seeds

StoreClient = redis.Redis


def store_client(url: str, *, timeout_s: float) -> StoreClient:
    """A client of one server or of a cluster; a context manager that closes it.

    Of a cluster it may be used as that of a server, where each command, script and pipeline has keys of one slot.

    Raises:
        RedisError: it is a cluster, and no node of it answers.
    """
    if not is_cluster(url):
        return redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    nodes = seeds(url)
    try:
        cluster = RedisCluster(
            url=node_url(url, nodes[0]),
            startup_nodes=[ClusterNode(*one) for one in nodes],
            require_full_coverage=False,  # states of other nodes can be read while one is down
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
        )
    except RedisClusterException as error:  # which is no RedisError
        raise ConnectionError(str(error)) from error
    return cast(redis.Redis, cluster)


def is_cluster_client(client: StoreClient) -> bool:
    """Whether keys of different slots lie apart."""
    return isinstance(client, RedisCluster)


def now_ms(client: StoreClient) -> int:
    """This moment of the store's clock, UTC epoch ms; of a cluster's clocks the one most behind. Raises RedisError."""
    if isinstance(client, RedisCluster):
        told = list(client.time(target_nodes=RedisCluster.PRIMARIES).values())
    else:
        told = [client.time()]
    return min(int(seconds) * 1000 + int(micros) // 1000 for seconds, micros in told)

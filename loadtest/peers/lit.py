"""LitServe: processes that take HTTP, and beside them inference workers, each with the whole recommender.

A worker is synchronous; with batches, the states of a batch are one MGET.
"""

from collections.abc import Sequence
from typing import Any

import litserve
import redis

from loadtest.peers import job
from loadtest.peers.bodies import Query, Recommendations
from loadtest.peers.pipeline import MAX_BATCH, Ask, Items, Pipeline

BATCH_WAIT_S = 0.01  # that of the example in the docs; 0 would poll the queue without a pause


class Recommender(litserve.LitAPI):
    """The four steps of a LitAPI; what they take and give is a list of it where batches are made."""

    def setup(self, device: str) -> None:
        """Once in each worker."""
        del device
        self._pipeline = Pipeline.of_environment()
        self._store = redis.Redis.from_url(job.of_environment().redis_url)

    def decode_request(self, request: Query) -> tuple[str, Ask]:
        """The user, and the request as it begins; LitServe's server has validated the body by its type."""
        return request.user_id, Ask.now(request.count)

    def predict(self, x: Any) -> Any:
        """The list, or the lists."""
        return self._lists(x) if self.max_batch_size > 1 else self._lists([x])[0]

    def encode_response(self, output: Items) -> Recommendations:
        """The body; the server encodes it by the declared type."""
        return {"items": output}  # type: ignore[return-value]  # a dict is what crosses to the server cheaply

    def _lists(self, asked: Sequence[tuple[str, Ask]]) -> list[Items]:
        packed = self._store.mget([self._pipeline.key(user_id) for user_id, _ in asked])
        return self._pipeline.recommend([ask for _, ask in asked], packed)


def main() -> None:
    """Serve until the process is ended."""
    mine = job.of_environment()
    batches = {"max_batch_size": MAX_BATCH, "batch_timeout": BATCH_WAIT_S} if mine.batching else {}
    server = litserve.LitServer(
        Recommender(api_path="/v1/recommendations", **batches),
        accelerator="cpu",
        workers_per_device=mine.workers,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=mine.port,
        num_api_servers=mine.workers,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
        loop="uvloop",
        http="httptools",
    )


if __name__ == "__main__":
    main()

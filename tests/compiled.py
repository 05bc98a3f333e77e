"""Uses what numba compiles, so that it is compiled: `python -m tests.compiled`.

In a new clone that takes one core 40 s, once; `make test` has it done beside mypy.
"""

import tempfile
from pathlib import Path

from recsys.bundle_files import load
from recsys.explanations.explanation import explanation, finished
from recsys.features.codec import pack, unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.user import UserStates
from recsys.training.train import train, write
from recsys.types import World
from service.warm_up import warm_up
from tests import worlds


def main() -> None:
    """Train a tiny bundle and recommend with it as a replica does, its arrays mapped from files."""
    dataset = worlds.two_tastes()
    with tempfile.TemporaryDirectory() as folder:
        write(train(dataset, worlds.SMALL), dataset, Path(folder) / "bundle", code_commit="", parent=None)
        bundle, _ = load(Path(folder) / "bundle")
        unpack(pack(UserStates.empty(1), SCHEMA_HASH), SCHEMA_HASH)
        world = World(bundle, bundle.item_stats)
        warm_up(world, max_batch=32)
        asked = worlds.Ask(history=worlds.likes("left-01", "left-02"), diversity=0.1)
        finished(explanation(world, worlds.batch_of(world, [asked])))


if __name__ == "__main__":
    main()

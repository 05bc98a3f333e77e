"""What a replica does before it is ready, step by step, in a process of its own.

echo -n <bundle id> | RIFFLE_HOME=.riffle-large python -m loadtest.replica_start
"""

import json
import sys
import time

import psutil

from recsys.bundle_files import load as load_bundle
from recsys.manifest import verify
from recsys.types import World
from service.settings import load
from service.warm_up import warm_up
from service.world import registry

_MB = 2**20


def main() -> None:
    """Read a bundle's id from standard input; print seconds of each step and this process's own memory, as JSON."""
    settings = load()
    path = registry(settings).path(sys.stdin.read().strip())
    began = time.monotonic()
    verify(path)
    verified = time.monotonic()
    bundle, _ = load_bundle(path)
    loaded = time.monotonic()
    warm_up(World(bundle, bundle.item_stats, settings.candidates), max_batch=settings.max_batch)
    warm = time.monotonic()
    memory = psutil.Process().memory_info()
    seconds = {
        "verify_s": verified - began,
        "load_s": loaded - verified,  # it verifies first, from memory now
        "warm_up_s": warm - loaded,
        "total_s": warm - verified,
    }
    rounded = {name: round(value, 2) for name, value in seconds.items()}
    print(
        json.dumps(
            rounded
            | {"own_mb": round((memory.rss - memory.shared) / _MB, 1), "mapped_mb": round(memory.shared / _MB, 1)}
        )
    )


if __name__ == "__main__":
    main()

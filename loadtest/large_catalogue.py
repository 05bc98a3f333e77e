"""Puts a bundle of a million invented items, or as many as wanted, into the registry, for `riffle serve`.

    RIFFLE_HOME=.riffle-large python -m loadtest.large_catalogue --items 1000000 --promote
    RIFFLE_HOME=.riffle-large riffle serve
    RIFFLE_HOME=.riffle-large python -m loadtest.served_catalogue

Files of a million items at the defaults take 3.4 GB, of which 2.4 GB are neighbours; the registry copies them once. It
wants a home of its own: a bundle that was not trained on the imported data is nothing to promote there.
"""

import argparse
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from loadtest import machine
from loadtest.invented_bundle import Invented, invent
from recsys.bundle import Recipe
from recsys.bundle_files import save
from recsys.datasets.synthetic import END_MS
from recsys.errors import RecsysError
from recsys.features.matrix import FEATURES, SCHEMA_HASH
from recsys.features.schema import described
from recsys.manifest import write_manifest
from service.errors import ServiceError, StackError
from service.settings import load
from service.world import registry

USERS = 2_000  # whose likes are kept for measurements
LIKED = "liked.npy"
ITEMS_MIN, ITEMS_MAX = 1_000, 100_000_000
_DAY_S = 86_400


def needed_bytes(n: int, recipe: Recipe) -> int:
    """Size of the files, nearly."""
    vectors = 5 * (recipe.factors + recipe.spectral_factors)  # 32 bits, and 8 in the index
    return n * (vectors + 4 * 8 * recipe.neighbours + 150)


def write(invented: Invented, directory: Path) -> str:
    """The files and the manifest of an invented bundle; its id."""
    save(invented.bundle, directory)
    np.save(directory / LIKED, invented.liked)
    end_s = END_MS // 1000
    first, last = (datetime.fromtimestamp(at, UTC).isoformat() for at in (end_s - 180 * _DAY_S, end_s))
    n = len(invented.bundle.vocabulary)
    fields = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "parent": None,
        "code_commit": machine.commit(),
        "dataset": {
            "name": f"invented-{n}",
            "title": f"{n:,} invented items",
            "synthetic": True,
            "fingerprint": f"invented-{n}-{invented.bundle.recipe.seed}",
            "attribution": "",
        },
        "protocol": "none",
        "data_window": {"first": first, "split": last, "last": last},
        "feature_schema_hash": SCHEMA_HASH,
        "features": described(FEATURES),
        "vocabulary_hash": invented.bundle.vocabulary.content_hash(),
        "recipe": msgspec.to_builtins(invented.bundle.recipe),
        "metrics": invented.report.to_json(),
    }
    return write_manifest(directory, fields=fields).id


def make(n: int, recipe: Recipe, *, promote: bool, threads: int) -> str:
    """Invent, write and publish a bundle; its id.

    Raises:
        StackError: the disk lacks room. RecsysError: the registry refuses.
    """
    settings = load()
    settings.home_path.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(settings.home_path).free, 2 * needed_bytes(n, recipe)
    if free < needed:
        raise StackError(
            f"{n:,} items take {needed / 1e9:.1f} GB in {settings.home} while they are published, {free / 1e9:.1f} GB "
            "are free; make room, or give fewer --items or --neighbours"
        )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=settings.home_path, prefix="invented-") as folder:
        invented = invent(n, recipe, users=USERS, threads=threads)
        _say(f"invented after {time.monotonic() - began:.0f} s")
        bundle_id = write(invented, Path(folder))
        del invented
        _say(f"written after {time.monotonic() - began:.0f} s")
        registry(settings).publish(Path(folder))
        _say(f"published after {time.monotonic() - began:.0f} s")
    if promote:
        registry(settings).promote(bundle_id, reason=f"{n:,} invented items, to measure with", who="large_catalogue")
    return bundle_id


def _say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def main() -> int:
    """Make a bundle; the exit code is 1, with one sentence, where that cannot be done."""
    default = Recipe()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--factors", type=int, default=default.factors)
    parser.add_argument("--spectral-factors", type=int, default=default.spectral_factors)
    parser.add_argument("--neighbours", type=int, default=default.neighbours, help="of an item, in each of four tables")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--threads", type=int, default=2, help="of k-means")
    parser.add_argument("--promote", action="store_true", help="make it the champion")
    parser.add_argument("--dry-run", action="store_true", help="only say what disk and memory it takes")
    given = parser.parse_args()
    if not ITEMS_MIN <= given.items <= ITEMS_MAX:
        parser.error(f"--items must lie between {ITEMS_MIN:,} and {ITEMS_MAX:,}")
    if min(given.factors, given.spectral_factors, given.neighbours, given.threads) < 1:
        parser.error("--factors, --spectral-factors, --neighbours and --threads must be at least 1")
    recipe = Recipe(
        factors=given.factors,
        spectral_factors=given.spectral_factors,
        neighbours=given.neighbours,
        seed=given.seed,
    )
    size = needed_bytes(given.items, recipe)
    _say(f"{given.items:,} items: {size / 1e9:.1f} GB of files, twice that meanwhile; {1.6 * size / 1e9:.1f} GB memory")
    if given.dry_run:
        return 0
    try:
        print(make(given.items, recipe, promote=given.promote, threads=given.threads))
    except (RecsysError, ServiceError) as error:
        print(f"large_catalogue: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

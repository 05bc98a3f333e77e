"""The same data and seed give the same bundle, bit for bit, in whatever process and with however many threads."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from recsys.bundle import Recipe
from recsys.datasets.synthetic import synthetic
from recsys.ranking.fit import fit_ranker
from recsys.training.fit import fit
from recsys.training.log import Log

TRAIN = """
import sys
from pathlib import Path
from recsys.datasets.synthetic import synthetic
from recsys.training.train import train, write
from tests import worlds
dataset = synthetic(7, users=120, items=400, sessions=25)
print(write(train(dataset, worlds.SMALL), dataset, Path(sys.argv[1]), code_commit="abc", parent=None))
"""


def trained_in_a_process(folder: Path, *, threads: int, hash_seed: int) -> str:
    """The part of the bundle's id that is the hash of its files and fields."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(folder)],
        env={**os.environ, **counts, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()[-1].partition("-")[2]


def test_two_processes_give_the_same_bundle_with_one_thread_and_with_four(tmp_path: Path) -> None:
    one = trained_in_a_process(tmp_path / "one", threads=1, hash_seed=1)
    four = trained_in_a_process(tmp_path / "four", threads=4, hash_seed=2)
    names = sorted(path.name for path in (tmp_path / "one").iterdir() if path.name != "manifest.json")
    differing = [n for n in names if (tmp_path / "one" / n).read_bytes() != (tmp_path / "four" / n).read_bytes()]
    assert differing == []
    assert one == four


def test_models_are_the_same_however_many_threads_blas_may_use() -> None:
    """Large enough that it would use them."""
    dataset = synthetic(7, users=300, items=2000, sessions=10)
    log, recipe = Log.of(dataset), Recipe(als_iterations=2)
    made = []
    for threads in (1, 4):
        with threadpool_limits(threads, "blas"):
            made.append(fit(dataset, log, recipe, until_s=int(log.ts_s[-1]) + 1, threads=threads))
    for part in ("factors", "gram"):
        assert getattr(made[0], part).tobytes() == getattr(made[1], part).tobytes(), part
    assert made[0].spectral.vector.tobytes() == made[1].spectral.vector.tobytes()


def test_ranker_is_the_same_whatever_the_number_of_threads() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((20_000, 12)).astype(np.float32)
    label = (features[:, 0] + features[:, 1] * features[:, 2] + rng.standard_normal(20_000) > 2).astype(np.float32)
    group, weight = np.arange(20_000) // 50, rng.random(20_000).astype(np.float32) + 0.1
    made = [
        fit_ranker(
            features, label, group, weight, names=tuple("abcdefghijkl"), recipe=Recipe(trees=20), threads=threads
        )
        for threads in (1, 2, 5)
    ]
    for other in made[1:]:
        for part in ("low", "high", "plain", "root"):
            assert getattr(other.linear, part).tobytes() == getattr(made[0].linear, part).tobytes(), part
        for part in ("feature", "border", "leaf"):
            assert getattr(other.trees, part).tobytes() == getattr(made[0].trees, part).tobytes(), part

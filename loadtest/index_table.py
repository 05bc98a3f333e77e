"""Recall, latency, memory and size of index types by the size of the catalogue; chooses the default (decision 0023).

    python -m loadtest.index_table --items 10000,100000,1000000
    python -m loadtest.index_table --items 10000000 --factors 64 --types bands,ivf-sq8 --large
    python -m loadtest.index_table --bundle .riffle/registry/bundles/<id>

Inner products of invented vectors (`loadtest.invented_vectors`), or those of a real bundle, whose queries are its own
user vectors of invented tastes. Each query is searched alone, by one thread, with the bitmap of what may be shown as
the service has it: one item in fifty may not. Recall@200 is the share of the 200 best that was found, beside exact
search. Latency is of the wall clock, so that it needs a quiet machine. One JSON file in results/, a Markdown table
printed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil

from loadtest import machine
from loadtest.deployed import RESULTS
from loadtest.index_types import TYPES, K
from loadtest.invented_vectors import Tastes, user_vectors
from recsys.bundle_files import load
from recsys.errors import RecsysError

WITHHELD = 50  # one item in so many may not be shown
LARGE = 2_000_000  # items, above which --large has to be given
_WARM_UP = 20  # queries
_MB = 2**20
_READ = """
import sys, faiss, psutil
before = psutil.Process().memory_info().rss
index = faiss.read_index(sys.argv[1])
print(psutil.Process().memory_info().rss - before)
"""


def needed_bytes(n: int, d: int) -> int:
    """Memory that the table takes at its worst: vectors, an index of them, and what building it takes beside."""
    return int(n * d * 4 * 3.2)


def measure(
    vectors: np.ndarray, queries: np.ndarray, types: list[str], *, seed: int, threads: int
) -> list[dict[str, Any]]:
    """A row for each setting of each type. vectors: float32 [n, d]. queries: float32 [q, d]."""
    n = len(vectors)
    shown = np.random.default_rng([seed, 6]).random(n) >= 1 / WITHHELD
    eligible = np.packbits(shown, bitorder="little")
    best = _exact(vectors, queries, shown)
    rows = []
    for name in types:
        faiss.omp_set_num_threads(threads)
        began = time.monotonic()
        built = TYPES[name](vectors, seed)
        build_s = time.monotonic() - began
        faiss.omp_set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            size_mb = built.save(Path(folder)) / _MB
            memory_mb = _read_bytes(Path(folder)) / _MB
        for setting, search in built.settings(eligible):
            found, lasted_us = _searched(search, queries)
            row = {"items": n, "d": vectors.shape[1], "type": name, "setting": setting}
            row |= {"recall": round(_recall(found, best), 4), **_percentiles(lasted_us)}
            row |= {"build_s": round(build_s, 1), "memory_mb": round(memory_mb, 1), "file_mb": round(size_mb, 1)}
            rows.append(row)
            _say(_line(row))
        del built
    return rows


def _exact(vectors: np.ndarray, queries: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The K best rows that may be shown, int64 [q, K], by another code than any index: blocks of a matrix product."""
    score, row = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    for first in range(0, len(vectors), 1 << 16):
        block = queries @ vectors[first : first + (1 << 16)].T
        block[:, ~shown[first : first + (1 << 16)]] = -np.inf
        score = np.concatenate([score, block], axis=1)
        row = np.concatenate([row, np.broadcast_to(np.arange(first, first + block.shape[1]), block.shape)], axis=1)
        if score.shape[1] > K:
            kept = np.argpartition(-score, K - 1, axis=1)[:, :K]
            score, row = np.take_along_axis(score, kept, axis=1), np.take_along_axis(row, kept, axis=1)
    return row


def _searched(search: Callable[[np.ndarray], np.ndarray], queries: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    for query in queries[:_WARM_UP]:
        search(query)
    found, lasted_us = [], []
    for query in queries:
        began = time.perf_counter_ns()
        found.append(search(query))
        lasted_us.append((time.perf_counter_ns() - began) / 1e3)
    return found, lasted_us


def _recall(found: list[np.ndarray], best: np.ndarray) -> float:
    return float(
        np.mean([len(np.intersect1d(one, other)) / len(other) for one, other in zip(found, best, strict=True)])
    )


def _percentiles(lasted_us: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(lasted_us, [50, 99])
    return {"p50_us": round(float(p50), 1), "p99_us": round(float(p99), 1)}


def _read_bytes(folder: Path) -> int:
    """Memory of the index when it is read instead of mapped, in a process of its own that has freed nothing before."""
    if not (folder / "index.faiss").exists():  # arrays: read, they take what their files take
        return sum(path.stat().st_size for path in folder.iterdir())
    done = subprocess.run([sys.executable, "-c", _READ, str(folder / "index.faiss")], capture_output=True, check=True)
    return int(done.stdout)


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table."""
    lines = ["| items | d | index | recall@200 | p50 us | p99 us | memory MB | file MB | build s |", "|" + "---|" * 9]
    return "\n".join([*lines, *(_line(row) for row in rows)])


def _line(row: dict[str, Any]) -> str:
    name = f"{row['type']}, {row['setting']}" if row["setting"] else row["type"]
    cells = (
        f"{row['items']:,}",
        row["d"],
        name,
        f"{row['recall']:.3f}",
        f"{row['p50_us']:,.0f}",
        f"{row['p99_us']:,.0f}",
        f"{row['memory_mb']:,.0f}",
        f"{row['file_mb']:,.0f}",
        f"{row['build_s']:,.1f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _of_bundle(directory: Path, queries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors that are not 0, and user vectors of invented tastes among them."""
    factors = load(directory)[0].factors
    vectors = np.ascontiguousarray(factors[np.any(factors != 0, axis=1)])
    return vectors, user_vectors(vectors, Tastes.draw(len(vectors), seed=seed).liked(queries, seed=seed))


def _numbers(text: str) -> list[int]:
    return [int(one.replace("_", "")) for one in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure index types.")
    parser.add_argument("--items", type=_numbers, default=[10_000, 100_000, 1_000_000], help="separated by commas")
    parser.add_argument("--factors", type=_numbers, default=[64, 128], help="d, separated by commas")
    parser.add_argument("--types", type=lambda text: text.split(","), default=list(TYPES), help=", ".join(TYPES))
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="for building; searches have one")
    parser.add_argument(
        "--large", action="store_true", help=f"go beyond {LARGE:,} items, after saying what memory it takes"
    )
    parser.add_argument("--bundle", type=Path, help="measure the factors of this bundle instead")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    return parser


def main() -> int:
    """Measure; the exit code is 1, with one sentence, where that cannot be done."""
    parser = _parser()
    given = parser.parse_args()
    if unknown := [name for name in given.types if name not in TYPES]:
        parser.error(f"--types knows no {', '.join(unknown)}; it knows {', '.join(TYPES)}")
    if min(given.items) < 10 * K or min(given.factors) < 8 or given.queries < 1:
        parser.error(f"--items must be at least {10 * K:,}, --factors at least 8 and --queries at least 1")
    needed = 0 if given.bundle else needed_bytes(max(given.items), max(given.factors))
    if max(given.items) > LARGE and not given.bundle:
        _say(
            f"{max(given.items):,} items of {max(given.factors)} dimensions take up to {needed / 1e9:.1f} GB of memory"
        )
        if not given.large:
            parser.error(f"beyond {LARGE:,} items give --large as well")
    if needed > (free := psutil.virtual_memory().available):
        print(f"index_table: {needed / 1e9:.1f} GB of memory are needed, {free / 1e9:.1f} GB are free", file=sys.stderr)
        return 1
    rows = []
    try:
        if given.bundle:
            vectors, queries = _of_bundle(given.bundle, given.queries, given.seed)
            rows += measure(vectors, queries, given.types, seed=given.seed, threads=given.threads)
        for n in [] if given.bundle else given.items:
            tastes = Tastes.draw(n, seed=given.seed)
            for d in given.factors:
                vectors = tastes.vectors(d, seed=given.seed)
                queries = user_vectors(vectors, tastes.liked(given.queries, seed=given.seed))
                rows += measure(vectors, queries, given.types, seed=given.seed, threads=given.threads)
    except RecsysError as error:
        print(f"index_table: {error}", file=sys.stderr)
        return 1
    now = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"time": now, "commit": machine.commit(), "machine": machine.describe(), "versions": machine.versions()}
    about |= {"k": K, "queries": given.queries, "seed": given.seed, "threads": given.threads, "withheld": 1 / WITHHELD}
    about["vectors"] = f"bundle {given.bundle.name}" if given.bundle else "invented"
    given.results.mkdir(parents=True, exist_ok=True)
    of = "bundle" if given.bundle else "-".join(map(str, given.items))
    path = given.results / f"{now[:10]}-index-table-{of}.json"
    path.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n", "utf-8")
    print(f"{markdown(rows)}\n\nWritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

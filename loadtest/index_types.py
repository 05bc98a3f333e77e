"""The index types that `loadtest.index_table` compares, each with the settings that trade recall for time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from recsys.retrieval.band_index import BandIndex
from recsys.retrieval.faiss_index import FaissIndex
from recsys.retrieval.index import Index

Search = Callable[[np.ndarray], np.ndarray]  # a query, float32 [d], to the rows found, int64 [K], -1 for none
K = 200
SHARES = (1 / 32, 1 / 8, 1 / 4, 1 / 2)  # of the lists that are read
EF_SEARCH = (200, 400, 800, 1600)
REFINED = ((1 / 8, 4), (1 / 4, 4), (1 / 2, 8))  # share of the lists that are read; times K that are scored exactly
REACHES = (0.8, 1.0, 1.2, 1.4)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An index that was built.

    Attributes:
        save: Writes its files into a folder; their bytes. settings: Given the eligible bits, names and searches.
    """

    save: Callable[[Path], int]
    settings: Callable[[np.ndarray], Iterator[tuple[str, Search]]]


def exact(vectors: np.ndarray, _seed: int) -> Candidate:
    """What the service does below EXACT_MAX."""
    index = FaissIndex.build(vectors)
    return Candidate(lambda folder: _saved(index, folder), lambda eligible: iter([("", _service(index, eligible))]))


def bands(vectors: np.ndarray, seed: int) -> Candidate:
    """What the service does above EXACT_MAX: lists by bands of length, eight bits a number."""
    index = BandIndex.build(vectors, seed=seed)

    def settings(eligible: np.ndarray) -> Iterator[tuple[str, Search]]:
        for share in REACHES:
            yield f"{share:g} of its reach", _service(index.reaching(share), eligible)

    return Candidate(lambda folder: _saved(index, folder), settings)


def _inverted(kind: str) -> Callable[[np.ndarray, int], Candidate]:
    """Inverted lists of k-means over the raw vectors."""

    def build(vectors: np.ndarray, seed: int) -> Candidate:
        index = _factory(f"IVF{_lists(len(vectors))},{kind}", vectors, seed)

        def settings(eligible: np.ndarray) -> Iterator[tuple[str, Search]]:
            selector = faiss.IDSelectorBitmap(eligible)  # type: ignore[call-arg]
            for share in SHARES:
                nprobe = max(1, int(share * index.nlist))
                parameters = faiss.SearchParametersIVF(sel=selector, nprobe=nprobe)  # type: ignore[call-arg]
                yield f"1/{1 / share:.0f} of the lists", _plain(index, parameters)

        return Candidate(lambda folder: _written(index, folder), settings)

    return build


def refined(vectors: np.ndarray, seed: int) -> Candidate:
    """Fast scan of 4-bit product codes of two dimensions each, the best of which are scored exactly."""
    d = vectors.shape[1]
    index = _factory(f"IVF{_lists(len(vectors))},PQ{d // 2}x4fs,RFlat", vectors, seed)
    lists = faiss.downcast_index(index.base_index).nlist

    def settings(eligible: np.ndarray) -> Iterator[tuple[str, Search]]:
        selector = faiss.IDSelectorBitmap(eligible)  # type: ignore[call-arg]
        for share, factor in REFINED:
            base = faiss.SearchParametersIVF(sel=selector, nprobe=max(1, int(share * lists)))  # type: ignore[call-arg]
            parameters = faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=base)  # type: ignore[call-arg]
            yield f"1/{1 / share:.0f} of the lists, {factor}x", _plain(index, parameters)

    return Candidate(lambda folder: _written(index, folder), settings)


def _graph(kind: str, *, augmented: bool) -> Callable[[np.ndarray, int], Candidate]:
    """HNSW over inner products, or over distances after one more coordinate has made all vectors equally long.

    Source of the reduction: Bachrach et al., "Speeding up the Xbox recommender system using a Euclidean transformation
    for inner-product spaces", RecSys 2014.
    """

    def build(vectors: np.ndarray, seed: int) -> Candidate:
        metric = faiss.METRIC_INNER_PRODUCT
        if augmented:
            squared = np.einsum("nd,nd->n", vectors, vectors)
            missing = np.sqrt(np.maximum(squared.max() - squared, 0))
            vectors, metric = np.concatenate([vectors, missing[:, None]], axis=1), faiss.METRIC_L2
        index = _factory(kind, vectors, seed, metric)

        def settings(eligible: np.ndarray) -> Iterator[tuple[str, Search]]:
            selector = faiss.IDSelectorBitmap(eligible)  # type: ignore[call-arg]
            for ef in EF_SEARCH:
                parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=ef)  # type: ignore[call-arg]
                yield f"ef {ef}", _plain(index, parameters, more=int(augmented))

        return Candidate(lambda folder: _written(index, folder), settings)

    return build


TYPES: dict[str, Callable[[np.ndarray, int], Candidate]] = {
    "exact": exact,
    "bands": bands,
    "ivf-flat": _inverted("Flat"),
    "ivf-sq8": _inverted("SQ8"),
    "ivf-pq-fs-refined": refined,
    "hnsw": _graph("HNSW16,Flat", augmented=False),
    "hnsw-mips": _graph("HNSW16,Flat", augmented=True),
}


def _lists(n: int) -> int:
    return int(4 * np.sqrt(n))


def _factory(described: str, vectors: np.ndarray, seed: int, metric: int = faiss.METRIC_INNER_PRODUCT) -> Any:
    index: Any = faiss.index_factory(vectors.shape[1], described, metric)
    inner = faiss.downcast_index(getattr(index, "base_index", index))
    if hasattr(inner, "cp"):
        inner.cp.seed, inner.cp.niter, inner.cp.max_points_per_centroid = seed, 10, 64
        inner.cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    return index


def _service(index: Index, eligible: np.ndarray) -> Search:
    return lambda query: index.search(query, K, eligible)[0]


def _plain(index: Any, parameters: faiss.SearchParameters, *, more: int = 0) -> Search:
    """Search; `more` zeros at the end of a query."""

    def search(query: np.ndarray) -> np.ndarray:
        return index.search(np.pad(query, (0, more))[None], K, params=parameters)[1][0]

    return search


def _saved(index: Index, folder: Path) -> int:
    index.save(folder / "index.faiss")
    return sum(path.stat().st_size for path in folder.iterdir())


def _written(index: Any, folder: Path) -> int:
    faiss.write_index(index, str(folder / "index.faiss"))
    return (folder / "index.faiss").stat().st_size

"""Maximum inner product search over item factors, exact."""

import threading
from pathlib import Path
from typing import Any

import faiss
import numpy as np

# One code path for one query and for many: above this many queries FAISS would switch to BLAS, whose sums differ in
# the last bits, and a row's answer would depend on its batch.
faiss.cvar.distance_compute_blas_threshold = 1 << 30
faiss.omp_set_num_threads(1)


class FaissIndex:
    """An index over rows 0..N-1; rows whose factor is zero (items never seen in training) are not in it.

    Args:
        index: Of FAISS, exact, with rows as ids.
    """

    def __init__(self, index: faiss.IndexIDMap2) -> None:
        self._index: Any = index
        self._empty = index.ntotal == 0
        self._mine = threading.local()

    @classmethod
    def build(cls, factors: np.ndarray) -> "FaissIndex":
        """factors: float32 [N, d]."""
        rows = np.flatnonzero(np.any(factors != 0, axis=1))
        index = faiss.IndexIDMap2(faiss.IndexFlatIP(factors.shape[1]))
        index.add_with_ids(np.ascontiguousarray(factors[rows]), rows.astype(np.int64))
        return cls(index)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """d of its vectors."""
        return int(self._index.d)

    @property
    def highest_row(self) -> int:
        """The largest row that a search can return; -1 of an empty index."""
        return int(faiss.vector_to_array(self._index.id_map).max(initial=-1))

    def search(self, vector: np.ndarray, k: int, eligible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Eligible rows of the largest inner products, best first, and these; -1 and 0 where there are fewer.

        Args:
            vector: float32 [d]. eligible: uint8 bits, row `i` is bit `i & 7` of byte `i >> 3`.
        Returns:
            int32 [k], float32 [k].
        """
        if self._empty:
            return np.full(k, -1, np.int32), np.zeros(k, np.float32)
        row, product = np.empty((1, k), np.int64), np.empty((1, k), np.float32)
        # One query a call: a selector holds for all queries of a call.
        self._index.search(vector[None], k, params=self._selecting(eligible), D=product, I=row)
        item = row[0].astype(np.int32)
        return item, np.where(item >= 0, product[0], np.float32(0))

    def _selecting(self, eligible: np.ndarray) -> faiss.SearchParameters:
        """Parameters with these bits as the selector. Each thread keeps its own: to make them takes 11 us of 57."""
        mine = self._mine
        if not hasattr(mine, "selector"):
            mine.selector = faiss.IDSelectorBitmap(eligible)  # type: ignore[call-arg, arg-type]  # FAISS adds them
            mine.parameters = faiss.SearchParameters(sel=mine.selector)  # type: ignore[call-arg]
        mine.bits = eligible  # it must outlive the search
        mine.selector.bitmap, mine.selector.n = faiss.swig_ptr(eligible), len(eligible)
        return mine.parameters

    def extended(self, row_of: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> "FaissIndex":
        """A copy in which each row has another number, and which has some more.

        Args:
            row_of: int32 [N], the new number of each row. vectors: float32 [m, d]; those that are 0 are left out.
            rows: int32 [m], their numbers.
        """
        index: Any = faiss.deserialize_index(faiss.serialize_index(self._index))  # a clone of a mapped one is mapped
        some = np.any(vectors != 0, axis=1)
        faiss.copy_array_to_vector(row_of[faiss.vector_to_array(index.id_map)].astype(np.int64), index.id_map)
        index.construct_rev_map()
        if some.any():
            index.add_with_ids(np.ascontiguousarray(vectors[some], np.float32), rows[some].astype(np.int64))
        return type(self)(index)

    def save(self, path: Path) -> None:
        """Write the index file."""
        faiss.write_index(self._index, str(path))

    @classmethod
    def load(cls, path: Path) -> "FaissIndex":
        """Map an index file. The caller has verified its hash: FAISS parsers trust their input.

        Raises:
            RuntimeError: it is no index, or of another kind.
        """
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        if not isinstance(index, faiss.IndexIDMap2):
            raise RuntimeError(f"it holds a {type(index).__name__}, not the index of a bundle")
        held = faiss.downcast_index(index.index)
        if not isinstance(held, faiss.IndexFlatIP):
            raise RuntimeError(f"it holds a {type(held).__name__}, not the index of a bundle")
        return cls(index)

"""Maximum inner product search over item factors."""

import threading
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from recsys.retrieval.norm_bands import REACH, Lists, divide, most_promising

# One code path for one query and for many: above this many queries FAISS would switch to BLAS, whose sums differ in
# the last bits, and a row's answer would depend on its batch.
faiss.cvar.distance_compute_blas_threshold = 1 << 30
faiss.omp_set_num_threads(1)

EXACT_MAX = 20_000  # rows; decision 0023, as are the two that follow
READ, DIMENSIONS_PER_READ = 32, 4  # inverted lists that a search looks into: READ, and one more for so many dimensions
REACH_SUFFIX = ".reach.npy"


class FaissIndex:
    """An index over rows 0..N-1; rows whose factor is zero (items never seen in training) are not in it.

    Args:
        index: Of FAISS, with rows as ids. reach: float32 [lists], how far above its mean an inverted list is read for;
            None where the index finds the lists by itself, or has none.
    """

    def __init__(self, index: faiss.Index, reach: np.ndarray | None = None) -> None:
        self._index: Any = index
        inner: Any = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap2) else index
        self._nprobe = int(getattr(inner, "nprobe", 0))
        self._empty = index.ntotal == 0
        self._reach = reach
        self._mean: Any = None if reach is None else inner.quantizer.reconstruct_n(0, inner.nlist)
        self._mine = threading.local()

    @classmethod
    def build(cls, factors: np.ndarray, *, seed: int, exact_max: int | None = None) -> "FaissIndex":
        """Exact up to `exact_max` rows (None: EXACT_MAX), beyond that inverted lists by bands of length.

        factors: float32 [N, d].
        """
        rows = np.flatnonzero(np.any(factors != 0, axis=1))
        vectors = factors if len(rows) == len(factors) else factors[rows]
        if len(rows) > (EXACT_MAX if exact_max is None else exact_max):
            lists = divide(vectors, seed=seed)
            return cls(_inverted(vectors, rows, lists), np.float32(REACH) * lists.deviation)
        index = faiss.IndexIDMap2(faiss.IndexFlatIP(factors.shape[1]))
        index.add_with_ids(np.ascontiguousarray(vectors), rows.astype(np.int64))
        return cls(index)

    def reading(self, lists: int) -> "FaissIndex":
        """The same index of inverted lists that looks into another number of them; to measure with."""
        other = type(self)(self._index, self._reach)
        other._nprobe = min(lists, self._index.nlist)
        return other

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """d of its vectors."""
        return int(self._index.d)

    @property
    def highest_row(self) -> int:
        """The largest row that a search can return; -1 of an empty index."""
        if isinstance(self._index, faiss.IndexIDMap2):
            return int(faiss.vector_to_array(self._index.id_map).max(initial=-1))
        return max((int(ids.max(initial=-1)) for ids in _ids(self._index)), default=-1)

    def search(
        self, vector: np.ndarray, k: int, eligible: np.ndarray, *, share: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Eligible rows of the largest inner products, best first, and these; -1 and 0 where there are fewer.

        Args:
            vector: float32 [d]. eligible: uint8 bits, row `i` is bit `i & 7` of byte `i >> 3`.
            share: How many of the rows are eligible, above 0 to 1; where they are few, more lists are read for as many.
        Returns:
            int32 [k], float32 [k].
        """
        if self._empty:
            return np.full(k, -1, np.int32), np.zeros(k, np.float32)
        row, product = np.empty((1, k), np.int64), np.empty((1, k), np.float32)
        # One query a call: a selector holds for all queries of a call.
        if self._reach is None:
            parameters = self._selecting(eligible, self._nprobe)
            self._index.search(vector[None], k, params=parameters, D=product, I=row)
        else:
            lists = len(self._reach)
            wanted = min(lists, int(np.ceil(self._nprobe / share)))
            self._read(most_promising(self._mean, self._reach, vector, wanted), vector, eligible, row, product)
            if row[0, -1] < 0 and wanted < lists:
                self._read(np.arange(lists), vector, eligible, row, product)
        item = row[0].astype(np.int32)
        return item, np.where(item >= 0, product[0], np.float32(0))

    def _read(
        self, chosen: np.ndarray, vector: np.ndarray, eligible: np.ndarray, row: np.ndarray, product: np.ndarray
    ) -> None:
        """Search the `chosen` lists, into `row` and `product`."""
        unused = np.zeros(len(chosen), np.float32)  # a list's own product, which the codes do not build on
        vector = np.ascontiguousarray(vector)
        self._index.search_preassigned_c(
            1,
            faiss.swig_ptr(vector),
            row.shape[1],
            faiss.swig_ptr(chosen),
            faiss.swig_ptr(unused),
            faiss.swig_ptr(product),
            faiss.swig_ptr(row),
            False,
            self._selecting(eligible, len(chosen)),
            None,
        )

    def _selecting(self, eligible: np.ndarray, nprobe: int) -> faiss.SearchParameters:
        """Parameters with these bits as the selector. Each thread keeps its own: to make them takes 11 us of 57."""
        mine = self._mine
        if not hasattr(mine, "selector"):
            mine.selector = faiss.IDSelectorBitmap(eligible)  # type: ignore[call-arg, arg-type]  # FAISS adds them
            inverted = faiss.SearchParametersIVF if nprobe else faiss.SearchParameters
            mine.parameters = inverted(sel=mine.selector)  # type: ignore[call-arg]
        mine.bits = eligible  # it must outlive the search
        mine.selector.bitmap, mine.selector.n = faiss.swig_ptr(eligible), len(eligible)
        if nprobe:
            mine.parameters.nprobe = nprobe
        return mine.parameters

    def extended(self, row_of: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> "FaissIndex":
        """A copy in which each row has another number, and which has some more.

        Args:
            row_of: int32 [N], the new number of each row. vectors: float32 [m, d]; those that are 0 are left out.
            rows: int32 [m], their numbers.
        """
        index: Any = faiss.deserialize_index(faiss.serialize_index(self._index))  # a clone of a mapped one is mapped
        some = np.any(vectors != 0, axis=1)
        vectors = np.ascontiguousarray(vectors[some], np.float32)
        new = rows[some].astype(np.int64)
        if isinstance(index, faiss.IndexIDMap2):
            faiss.copy_array_to_vector(row_of[faiss.vector_to_array(index.id_map)].astype(np.int64), index.id_map)
            index.construct_rev_map()
            if len(new):
                index.add_with_ids(vectors, new)
        else:
            for ids in _ids(index):
                ids[:] = row_of[ids]
            if len(new):
                nearest = faiss.knn(vectors, self._mean, 1)[1][:, 0]
                index.add_core(len(new), *map(faiss.swig_ptr, (vectors, new, nearest)))
        return type(self)(index, self._reach)

    def save(self, path: Path) -> None:
        """Write the index file, and beside it what an index of inverted lists is read by."""
        faiss.write_index(self._index, str(path))
        if self._reach is not None:
            np.save(path.with_suffix(REACH_SUFFIX), self._reach)

    @classmethod
    def load(cls, path: Path) -> "FaissIndex":
        """Map an index file. The caller has verified its hash: FAISS parsers trust their input.

        Raises:
            RuntimeError: it is no index, or of another kind.
        """
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        beside = path.with_suffix(REACH_SUFFIX)
        if isinstance(index, faiss.IndexIDMap2):
            return cls(index)
        if not isinstance(index, faiss.IndexIVFScalarQuantizer) or not beside.exists():
            raise RuntimeError(f"it holds a {type(index).__name__}, not the index of a bundle")
        reach = np.load(beside, allow_pickle=False)
        if reach.dtype != np.float32 or reach.shape != (index.nlist,):
            raise RuntimeError(f"{beside.name} is {reach.dtype}{list(reach.shape)} beside {index.nlist} lists")
        return cls(index, reach)


def _inverted(vectors: np.ndarray, rows: np.ndarray, lists: Lists) -> faiss.Index:
    d = vectors.shape[1]
    quantizer = faiss.IndexFlatIP(d)
    quantizer.add(lists.mean)
    index: Any = faiss.IndexIVFScalarQuantizer(
        quantizer, d, len(lists.mean), faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    index.is_trained = True  # 16-bit floats learn nothing
    index.nprobe = min(READ + d // DIMENSIONS_PER_READ, len(lists.mean))
    given = np.ascontiguousarray(vectors, np.float32), rows.astype(np.int64), lists.of
    index.add_core(len(rows), *[faiss.swig_ptr(one) for one in given])
    return index


def _ids(index: Any) -> list[np.ndarray]:
    """The rows in each inverted list, int64, as views."""
    lists = index.invlists
    sizes = [lists.list_size(one) for one in range(lists.nlist)]
    return [faiss.rev_swig_ptr(lists.get_ids(one), size) for one, size in enumerate(sizes) if size]

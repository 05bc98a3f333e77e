"""Maximum inner product search in lists of 8-bit vectors, read in order of promise until none promises more."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recsys.retrieval.band_scan import best, promises
from recsys.retrieval.norm_bands import divide

REACH, DIMENSIONS_PER_REACH = 2.4, 80  # a list is read for REACH deviations, and one more for so many dimensions
LEVEL = 127  # the largest number in a code
FOUND, FOUND_OF = 0.99, 128  # share of so many exact best that queries of training have to find: decision 0026
SHARES = (1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0)  # of the reach, the first that finds them is taken
_PARTS = {"code": np.int8, "scale": np.float32, "row": np.int32, "start": np.int64, "mean": np.float32}
_PARTS |= {"reach": np.float32}


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """Vectors of eight bits a number.

    Attributes:
        code: int8 [n, d], the vector over its scale. scale: float32 [n]. row: int32 [n], the item's.
    """

    code: np.ndarray
    scale: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, rows: np.ndarray) -> "Codes":
        """vectors: float32 [n, d], none of them 0. rows: int32 [n]."""
        scale = np.abs(vectors).max(axis=1, initial=0) / np.float32(LEVEL)
        code = np.rint(vectors / scale[:, None]).astype(np.int8)
        return cls(code, scale.astype(np.float32), rows.astype(np.int32))


@dataclass(frozen=True, slots=True, eq=False)
class BandIndex:
    """An index over rows 0..N-1; rows whose factor is zero (items never seen in training) are not in it.

    Attributes:
        codes: [n], list by list. start: int64 [l + 1], where each list begins.
        mean: float32 [l, d], of each list. reach: float32 [l], how far above its mean a list is read for.
        fresh: Codes [m], what came after the lists were made: all of it is read.
    """

    codes: Codes
    start: np.ndarray
    mean: np.ndarray
    reach: np.ndarray
    fresh: Codes

    @classmethod
    def build(cls, factors: np.ndarray, *, seed: int, queries: np.ndarray | None = None) -> "BandIndex":
        """The same seed and thread count give the same index.

        Args:
            factors: float32 [N, d].
            queries: float32 [q, d], what will be searched for, for example; lists reach as far as these need. None: as
                far as vectors need whose lists are round.
        """
        rows = np.flatnonzero(np.any(factors != 0, axis=1))
        vectors = factors if len(rows) == len(factors) else factors[rows]
        lists, d = divide(vectors, seed=seed), factors.shape[1]
        by_list = np.argsort(lists.of, kind="stable")
        start = np.searchsorted(lists.of[by_list], np.arange(len(lists.mean) + 1))
        reach = np.float32(REACH + d / DIMENSIONS_PER_REACH) * lists.deviation
        index = cls(Codes.of(vectors[by_list], rows[by_list]), start, lists.mean, reach, _none(d))
        return index if queries is None else index._finding(factors, queries)

    def _finding(self, factors: np.ndarray, queries: np.ndarray) -> "BandIndex":
        """The same index that reaches as far as it has to, to find FOUND of the FOUND_OF best of these queries."""
        every = np.full(len(factors) + 7 >> 3, 255, np.uint8)
        k = min(FOUND_OF, len(self))
        asked = queries[np.any(queries != 0, axis=1)]
        missing = np.flatnonzero(~np.any(factors != 0, axis=1))
        best_of = []
        for one in asked:
            product = factors @ one
            product[missing] = -np.inf  # no list holds them: they are nothing to find
            best_of.append(np.argpartition(-product, k - 1)[:k])
        for share in SHARES:
            index = self.reaching(share)
            found = [np.isin(rows, index.search(one, k, every)[0]) for one, rows in zip(asked, best_of, strict=True)]
            if not found or np.mean(found) >= FOUND:
                break
        return index

    def reaching(self, share: float) -> "BandIndex":
        """The same index that reads lists for this share of its reach; to measure with."""
        return replace(self, reach=np.float32(share) * self.reach)

    def __len__(self) -> int:
        return len(self.codes.row) + len(self.fresh.row)

    @property
    def dimension(self) -> int:
        """d of its vectors."""
        return int(self.mean.shape[1])

    @property
    def highest_row(self) -> int:
        """The largest row that a search can return; -1 of an empty index."""
        return int(max(self.codes.row.max(initial=-1), self.fresh.row.max(initial=-1)))

    def search(self, vector: np.ndarray, k: int, eligible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Eligible rows of the largest inner products, best first, and these; -1 and 0 where there are fewer.

        Products are those of codes: their error is a thousandth of the product of both lengths (standard deviation).

        Args:
            vector: float32 [d]. eligible: uint8 bits, row `i` is bit `i & 7` of byte `i >> 3`.
        Returns:
            int32 [k], float32 [k].
        """
        most = min(32_767, (2**31 - 1) // ((LEVEL + 1) * len(vector)))  # no sum of products overflows 32 bits
        unit = np.float32(max(np.abs(vector).max(), np.finfo(np.float32).tiny) / most)
        return best(
            np.rint(vector / unit).astype(np.int16),
            unit,
            promises(self.mean, self.reach, vector),
            self.start,
            (self.codes.code, self.codes.scale, self.codes.row),
            (self.fresh.code, self.fresh.scale, self.fresh.row),
            eligible,
            k,
        )

    def extended(self, row_of: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> "BandIndex":
        """A copy in which each row has another number, and which has some more; the codes are shared.

        Args:
            row_of: int32 [N], the new number of each row. vectors: float32 [m, d]; those that are 0 are left out.
            rows: int32 [m], their numbers.
        """
        some = np.any(vectors != 0, axis=1)
        new, old = Codes.of(np.asarray(vectors[some], np.float32), rows[some]), self.fresh
        fresh = Codes(
            np.concatenate([old.code, new.code]),
            np.concatenate([old.scale, new.scale]),
            np.concatenate([row_of[old.row], new.row]).astype(np.int32),
        )
        moved = row_of[self.codes.row].astype(np.int32)
        for array in (moved, fresh.code, fresh.scale, fresh.row):
            array.flags.writeable = False
        return replace(self, codes=replace(self.codes, row=moved), fresh=fresh)

    def save(self, path: Path) -> None:
        """Write each part as `.npy`, its name in place of the suffix. `fresh` is empty in what is published."""
        for part in _PARTS:
            np.save(_file(path, part), getattr(self.codes if part in Codes.__slots__ else self, part))

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether an index was saved under this name."""
        return _file(path, "code").exists()

    @classmethod
    def load(cls, path: Path) -> "BandIndex":
        """Map what was saved.

        Raises:
            ValueError, OSError: a file is missing, no array, or does not fit the others.
        """
        part = {name: np.asarray(np.load(_file(path, name), mmap_mode="r", allow_pickle=False)) for name in _PARTS}
        (n, d), lists = part["code"].shape if part["code"].ndim == 2 else (0, 0), len(part["mean"])
        wanted = {
            "code": (n, d),
            "scale": (n,),
            "row": (n,),
            "start": (lists + 1,),
            "mean": (lists, d),
            "reach": (lists,),
        }
        for name, dtype in _PARTS.items():
            if part[name].dtype != dtype or part[name].shape != wanted[name]:
                found = f"{part[name].dtype}{list(part[name].shape)}"
                raise ValueError(f"{_file(path, name).name} is {found} beside {n} codes of {d} in {lists} lists")
        start = part["start"]
        if start[0] != 0 or start[-1] != n or np.any(np.diff(start) < 0) or part["row"].min(initial=0) < 0:
            raise ValueError(f"{_file(path, 'start').name} and row.npy do not divide {n} codes")
        codes = Codes(part["code"], part["scale"], part["row"])
        return cls(codes, start, part["mean"], part["reach"], _none(d))


def _file(path: Path, part: str) -> Path:
    return path.with_suffix(f".{part}.npy")


def _none(d: int) -> Codes:
    none = Codes(np.zeros((0, d), np.int8), np.zeros(0, np.float32), np.zeros(0, np.int32))
    for array in (none.code, none.scale, none.row):
        array.flags.writeable = False  # as mapped ones are: compiled code is compiled anew for writable ones
    return none

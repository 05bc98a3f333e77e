"""Many short texts as two arrays, so that processes share them by memory mapping."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from recsys.errors import BundleError

_PARTS = {"text": np.uint8, "offset": np.int64}


@dataclass(frozen=True, slots=True, eq=False)
class TextColumn:
    """Texts by row.

    Attributes:
        text: uint8 [t], UTF-8 bytes one after the other.
        offset: int64 [n + 1], where each starts.
    """

    text: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, values: Sequence[str]) -> "TextColumn":
        encoded = [value.encode() for value in values]
        offset = np.concatenate([[0], np.cumsum([len(e) for e in encoded])]).astype(np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offset)

    def __len__(self) -> int:
        return len(self.offset) - 1

    def __getitem__(self, row: int) -> str:
        return self.text[self.offset[row] : self.offset[row + 1]].tobytes().decode()

    def tolist(self) -> list[str]:
        """All texts in row order."""
        data = self.text.tobytes()
        return [data[a:b].decode() for a, b in pairwise(self.offset.tolist())]

    def save(self, directory: Path, name: str) -> None:
        """Write `<name>.text.npy` and `<name>.offset.npy`."""
        np.save(directory / f"{name}.text.npy", self.text)
        np.save(directory / f"{name}.offset.npy", self.offset)

    @classmethod
    def load(cls, directory: Path, name: str) -> "TextColumn":
        """Memory-map a saved column.

        Raises:
            BundleError: the two arrays do not fit together.
        """
        text, offset = (load_array(directory / f"{name}.{part}.npy", dtype) for part, dtype in _PARTS.items())
        if not len(offset) or offset[0] != 0 or offset[-1] != len(text) or np.any(np.diff(offset) < 0):
            raise BundleError(f"{directory / name}.offset.npy does not fit {name}.text.npy; train a new bundle")
        return cls(text, offset)


def load_array(path: Path, dtype: type) -> np.ndarray:
    """Map a one-dimensional array; a plain ndarray, because np.memmap's bookkeeping costs 1 us an operation.

    Raises:
        BundleError: it is missing, no array, or of another type.
    """
    try:
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}; train a new bundle") from error
    if array.dtype != dtype or array.ndim != 1:
        raise BundleError(f"{path} holds {array.dtype}{list(array.shape)}; train a new bundle")
    return array

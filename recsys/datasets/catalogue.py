"""The catalogue of an import: every item once, with its title and its categories."""

from itertools import chain

import numpy as np

from recsys.datasets.fields import NO_ID, as_bytes, parse_ids
from recsys.datasets.malformed import MalformedRows
from recsys.datasets.raw import RawItems, Rows


class Catalogue:
    """Items numbered in the order in which they are added."""

    def __init__(self) -> None:
        self.item_id: list[str] = []
        self.title: list[str] = []
        self._categories: list[list[str]] = []
        self._number: dict[str, int] = {}

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._number

    def __len__(self) -> int:
        return len(self.item_id)

    def add(self, item_id: str, title: str, categories: list[str]) -> None:
        """Append an item that is not in the catalogue; an empty title becomes the id."""
        self._number[item_id] = len(self.item_id)
        self.item_id.append(item_id)
        self.title.append(title or item_id)
        self._categories.append(categories)

    def number(self, item_id: str) -> int:
        """The item's position; an unknown item is added without categories."""
        if item_id not in self._number:
            self.add(item_id, item_id, [])
        return self._number[item_id]

    def category_rows(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Sorted names, and each item's category numbers as CSR: indptr int64 [i+1], category int32 [nnz]."""
        names = sorted(set(chain.from_iterable(self._categories)))
        number = {name: position for position, name in enumerate(names)}
        rows = [sorted({number[name] for name in row}) for row in self._categories]
        indptr = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=indptr[1:])
        return names, indptr, np.array(list(chain.from_iterable(rows)), dtype=np.int32)


def read_catalogue(items: RawItems | None, malformed: MalformedRows) -> Catalogue:
    """Build the catalogue of an items file; None gives an empty one.

    Raises:
        DatasetError: more than 1 % of its rows are malformed (no id, not UTF-8, an id listed before).
    """
    catalogue = Catalogue()
    if items is None:
        return catalogue
    rows = items.rows
    ids = parse_ids(rows.columns["item_id"])
    rejected: list[tuple[int, str]] = []
    for position, fields in enumerate(_texts(rows)):
        item_id = ids.distinct[ids.number[position]]
        if ids.bad[position]:
            rejected.append((int(rows.line_number[position]), f"item_id is {NO_ID}"))
        elif fields is None:
            rejected.append((int(rows.line_number[position]), "the text is not UTF-8"))
        elif item_id in catalogue:
            rejected.append((int(rows.line_number[position]), f"item_id {item_id!r} is listed twice"))
        else:
            catalogue.add(item_id, *items.describe(fields))
    malformed.add(rows.file, len(rejected), rejected)
    malformed.refuse_beyond_allowed(rows.file, rows.rows_read)
    return catalogue


def _texts(rows: Rows) -> list[dict[str, str] | None]:
    names = list(rows.columns)
    columns = [as_bytes(column).to_pylist() for column in rows.columns.values()]
    texts: list[dict[str, str] | None] = []
    for values in zip(*columns, strict=True):
        try:
            texts.append({name: value.decode() for name, value in zip(names, values, strict=True)})
        except UnicodeDecodeError:
            texts.append(None)
    return texts

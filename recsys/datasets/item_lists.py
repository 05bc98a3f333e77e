"""Files that give each user's items on one line, `user item item ...`: how sequence and graph papers publish data.

In sequences (SASRec, S3-Rec) the items stand in the order of time; in adjacency lists (LightGCN) in no order. A file
does not say which, so who imports it does; where nearly all lines are sorted by number, they are in no order whatever
is said: a model would only learn that the next number is larger. There are no times: events are counted in minutes
from EPOCH_S. Attributes of items may stand beside it as `<name>_item2attributes.json`, `{"item": [attribute, ...]}`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.datasets.assemble import assemble
from recsys.datasets.dataset import Dataset
from recsys.datasets.malformed import MalformedRows
from recsys.datasets.raw import RawInteractions, RawItems, Rows
from recsys.datasets.source import Source
from recsys.errors import DatasetError

EPOCH_S = 946_684_800  # 2000-01-01
STEP_S = 60
_SEED = 7
_SORTED = 0.9  # of the lines of three items and more; time sorts one in six of three, and fewer of longer ones
_SUFFIXES = (".txt", ".txt.gz")
_ATTRIBUTES = "_item2attributes.json"

LAYOUTS = (
    'one .txt or .txt.gz file with "user item item ..." on each line, items in the order of time',
    f"a folder with one such NAME.txt and NAME{_ATTRIBUTES}",
)


def lists_name(source: Source) -> str | None:
    """The file of item lists; None where the source holds none in this layout."""
    if source.single_file:
        return source.names[0] if source.names[0].endswith(_SUFFIXES) else None
    found = [name for name in source.names if name.endswith(_SUFFIXES) and source.has(_attributes(name))]
    return found[0] if len(found) == 1 else None


def read_lists(source: Source, name: str, *, ordered: bool, positive_rating: float) -> Dataset:
    """Read item lists.

    Args:
        ordered: The items of a line are in the order of time; if not, they are shuffled, so that nothing can be learnt
            from how the file was written.
    Raises:
        DatasetError: the file is no text of this kind, or holds no interaction.
    """
    user, item, line, step = _cells(source, name)
    is_sorted = ordered and _sorted(item, line)
    ordered = ordered and not is_sorted
    note = "no times: the order of a user's items is known" if ordered else "no times and no order"
    if is_sorted:
        note += ": nearly every line is sorted by number"
    if not ordered:
        order = np.random.default_rng(_SEED).permutation(len(user))
        user, item, line = user.take(pa.array(order)), item.take(pa.array(order)), line[order]
        step = np.zeros(len(order), np.int64)
    rows = Rows(
        file=name,
        rows_read=len(user),
        line_number=line,
        columns={"user_id": user, "item_id": item, "timestamp": pa.array(EPOCH_S + STEP_S * step)},
        ignored=[],
    )
    attributes = _attributes(name)
    return assemble(
        name=Path(name).name.split(".")[0].lower() if source.single_file else source.slug,
        title=source.slug,
        attribution="",
        source=source,
        interactions=RawInteractions(rows),
        items=_items(source, attributes) if source.has(attributes) else None,
        malformed=MalformedRows(),
        positive_rating=positive_rating,
        notes=[note],
        timing="order" if ordered else "none",
    )


def _attributes(name: str) -> str:
    return name.split(".txt")[0] + _ATTRIBUTES


def _cells(source: Source, name: str) -> tuple[pa.Array, pa.Array, np.ndarray, np.ndarray]:
    """Of each interaction: user, item, line number and place in the line."""
    lines = [line.split() for line in source.read(name).split(b"\n")]
    if any(b"," in one or b"\t" in one for line in lines[:5] for one in line):
        raise DatasetError(f"{name} in {source.path} has commas where items stand apart by spaces; name it .csv")
    lengths = np.array([max(len(line) - 1, 0) for line in lines])
    number = np.repeat(np.arange(len(lines)), lengths)
    step = np.arange(len(number)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    users = pa.array([line[0] if line else b"" for line in lines], pa.binary()).take(pa.array(number))
    items = pa.array([one for line in lines for one in line[1:]], pa.binary())
    return users, items, number + 1, step


def _sorted(item: pa.Array, line: np.ndarray) -> bool:
    """Whether nearly all lines give their items by rising number."""
    text = item.to_pylist()
    if not all(one.isdigit() and len(one) < 19 for one in text):
        return False
    number = np.array([int(one) for one in text], np.int64)
    distinct, start, length = np.unique(line, return_index=True, return_counts=True)
    falls = np.concatenate([[False], (np.diff(number) <= 0) & (np.diff(line) == 0)])
    rising = np.add.reduceat(falls, start) == 0 if len(distinct) else np.zeros(0, bool)
    return bool((length >= 3).any() and rising[length >= 3].mean() >= _SORTED)


def _items(source: Source, name: str) -> RawItems:
    try:
        found = json.loads(source.read(name))
        items = {item: "|".join(map(str, of)) for item, of in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DatasetError(f"{name} in {source.path} is not {{item: [attribute, ...]}}: {error}") from error
    columns = {"item_id": pa.array(list(items), pa.string()), "categories": pa.array(items.values(), pa.string())}
    rows = Rows(name, len(items), np.arange(1, len(items) + 1), columns, [])
    return RawItems(rows, _describe)


def _describe(row: Mapping[str, str]) -> tuple[str, list[str]]:
    return "", [one for one in row["categories"].split("|") if one]

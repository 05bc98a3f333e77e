"""What every adapter yields: the untyped columns of one interactions file and of one items file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys.verbs import Verb


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one file that have the right number of columns; their values are not checked yet.

    Args:
        file: Base name.
        rows_read: Rows in the file, those of a wrong shape included.
        line_number: int64 [n]; in a Parquet file the row number. Both count from 1.
        columns: Name to array [n]: binary from text files, any type from Parquet. Interactions have user_id,
            item_id, timestamp, maybe verb, value and position; items have item_id and whatever their adapter describes.
        ignored: Columns of the file that are not used.
    """

    file: str
    rows_read: int
    line_number: np.ndarray
    columns: dict[str, pa.Array]
    ignored: list[str]


@dataclass(frozen=True, eq=False)
class RawInteractions:
    """Interactions before parsing.

    Args:
        rows: Columns user_id, item_id, timestamp [, verb] [, value] [, position].
        bare_verb: The verb of a row that has neither a verb nor a value.
        value_required: A row without a value is malformed.
    """

    rows: Rows
    bare_verb: Verb = Verb.VIEW
    value_required: bool = False


@dataclass(frozen=True, eq=False)
class RawItems:
    """Items before parsing; `describe` turns one row's text into (title, category names)."""

    rows: Rows
    describe: Callable[[Mapping[str, str]], tuple[str, list[str]]]

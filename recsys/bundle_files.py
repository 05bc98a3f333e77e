"""A bundle as files: written by training, verified and mapped by whoever serves it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from recsys.bundle import Bundle, Recipe
from recsys.errors import BundleError
from recsys.features.matrix import NAMES, SCHEMA_HASH
from recsys.manifest import Manifest, verify
from recsys.ranking.linear import Linear
from recsys.ranking.ranker import Ranker
from recsys.ranking.trees import Trees
from recsys.retrieval.index import Index, load_index
from recsys.retrieval.neighbours import Neighbours
from recsys.retrieval.spectral import Spectral
from recsys.signature import TrustedKeys
from recsys.text_column import TextColumn
from recsys.types import ItemStats, Ragged
from recsys.vocabulary import Vocabulary


class Described(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`bundle.json`: what is not an array."""

    recipe: Recipe
    categories: tuple[str, ...]
    item_stats_version: str
    ranker_features: tuple[str, ...]
    ranker_bias: float


@dataclass(frozen=True)
class _Array:
    """One `.npy` file: `<owner>.<part>` of the bundle.

    `shape` names its sides: N items, d factors, C categories, F features, * any; `below` says what its numbers index,
    so that no compiled loop reads outside an array; `least` is -1 where -1 stands for nothing.
    """

    name: str
    dtype: str
    shape: tuple[str, ...]
    below: str | None = None
    least: int = 0


_ARRAYS = (
    _Array("factors", "float32", ("N", "d")),
    _Array("gram", "float32", ("d", "d")),
    *(
        one
        for table in ("transitions", "nearby", "similar", "content")
        for one in (
            _Array(f"{table}.item", "int32", ("N", "*"), below="N", least=-1),
            _Array(f"{table}.weight", "float32", ("N", "*")),
        )
    ),
    _Array("spectral.vector", "float32", ("N", "s")),
    _Array("spectral.count", "float32", ("N",)),
    _Array("item_category.indptr", "int64", ("N+1",)),
    _Array("item_category.values", "int32", ("*",), below="C"),
    _Array("category_item.indptr", "int64", ("C+1",)),
    _Array("category_item.values", "int32", ("*",), below="N"),
    _Array("item_stats.available", "bool", ("N",)),
    _Array("item_stats.popularity", "float32", ("N",)),
    _Array("item_stats.trend", "float32", ("N",)),
    _Array("item_stats.trend_day", "float32", ("N",)),
    _Array("item_stats.trend_year", "float32", ("N",)),
    _Array("item_stats.positive_rate", "float32", ("N",)),
    _Array("item_stats.order", "int32", ("*",), below="N"),
    _Array("ranker.linear.low", "float32", ("F",)),
    _Array("ranker.linear.high", "float32", ("F",)),
    _Array("ranker.linear.plain", "float64", ("F",)),
    _Array("ranker.linear.root", "float64", ("F",)),
    _Array("ranker.trees.feature", "int32", ("*", "*"), below="F"),
    _Array("ranker.trees.border", "float32", ("*", "*")),
    _Array("ranker.trees.leaf", "float64", ("*", "*")),
)


def save(bundle: Bundle, directory: Path) -> None:
    """Write all files of a trained bundle, without the manifest.

    Raises:
        BundleError: it has no ranker.
    """
    if bundle.ranker is None:
        raise BundleError("a bundle without a ranker cannot be saved; train it first")
    directory.mkdir(parents=True, exist_ok=True)
    bundle.vocabulary.save(directory)
    bundle.title.save(directory, "title")
    for one in _ARRAYS:
        value: Any = bundle
        for part in one.name.split("."):
            value = getattr(value, part)
        np.save(directory / f"{one.name}.npy", value)
    bundle.index.save(directory / "index.faiss")
    bundle.spectral_index.save(directory / "spectral_index.faiss")
    names, bias = bundle.ranker.names, bundle.ranker.trees.bias
    described = Described(bundle.recipe, bundle.category_name, bundle.item_stats.version, names, bias)
    plain = msgspec.to_builtins(described)
    (directory / "bundle.json").write_text(json.dumps(plain, indent=1, ensure_ascii=False), "utf-8")


def load(directory: Path, trusted: TrustedKeys | None = None) -> tuple[Bundle, Manifest]:
    """Verify every file of a published bundle, then memory-map it.

    Args:
        trusted: As of `read_manifest`.
    Raises:
        SignatureError: no trusted key has signed it.
        BundleError: a file is missing, changed or does not fit the others, or the bundle was trained with other
            feature definitions than this version's; the message names the file.
    """
    manifest = verify(directory, trusted)
    _check_schema(manifest)
    described = _described(directory)
    _check_features(directory, described)
    vocabulary = Vocabulary.load(directory)
    sides = {
        "N": len(vocabulary),
        "d": described.recipe.factors,
        "s": described.recipe.spectral_factors,
        "C": len(described.categories),
        "F": len(described.ranker_features),
    }
    arrays = {one.name: _load_array(directory, one, sides) for one in _ARRAYS}
    title = TextColumn.load(directory, "title")
    if len(title) != len(vocabulary):
        raise _misfit(directory, "title.offset.npy", f"{len(title)} titles for {len(vocabulary)} items")
    if manifest.fields.get("vocabulary_hash") != vocabulary.content_hash():
        raise _misfit(directory, "vocabulary.item_id.text.npy", "the ids are not those that the manifest names")
    return (
        Bundle(
            id=manifest.id,
            recipe=described.recipe,
            vocabulary=vocabulary,
            title=title,
            category_name=described.categories,
            item_category=_ragged(directory, "item_category", arrays),
            category_item=_ragged(directory, "category_item", arrays),
            factors=arrays["factors"],
            gram=arrays["gram"],
            index=_index(directory, "index.faiss", sides, "d"),
            transitions=_neighbours(directory, "transitions", arrays),
            nearby=_neighbours(directory, "nearby", arrays),
            similar=_neighbours(directory, "similar", arrays),
            content=_neighbours(directory, "content", arrays),
            spectral=_spectral(directory, arrays),
            spectral_index=_index(directory, "spectral_index.faiss", sides, "s"),
            item_stats=ItemStats(
                version=described.item_stats_version,
                **{name.split(".")[1]: array for name, array in arrays.items() if name.startswith("item_stats.")},
            ),
            ranker=_ranker(directory, described, arrays),
        ),
        manifest,
    )


def _check_schema(manifest: Manifest) -> None:
    found = manifest.fields.get("feature_schema_hash")
    if found != SCHEMA_HASH:
        raise BundleError(
            f"bundle {manifest.id} was trained with feature schema {str(found)[:12]}, this version computes "
            f"{SCHEMA_HASH[:12]}; train a new bundle with `riffle train`"
        )


def _check_features(directory: Path, described: Described) -> None:
    if described.ranker_features != NAMES:
        found = f"the ranker was trained on features {', '.join(described.ranker_features)}"
        raise _misfit(directory, "bundle.json", found)


def _described(directory: Path) -> Described:
    try:
        return msgspec.json.decode((directory / "bundle.json").read_bytes(), type=Described)
    except (OSError, msgspec.DecodeError) as error:
        raise _misfit(directory, "bundle.json", str(error)) from error


def _load_array(directory: Path, one: _Array, sides: dict[str, int]) -> np.ndarray:
    """A mapped array; a plain ndarray, because np.memmap's bookkeeping costs 1 us an operation."""
    try:
        array = np.asarray(np.load(directory / f"{one.name}.npy", mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise _misfit(directory, f"{one.name}.npy", str(error)) from error
    lengths = sides | {f"{side}+1": length + 1 for side, length in sides.items()}
    fits = array.ndim == len(one.shape) and all(
        lengths.get(side, length) == length for side, length in zip(one.shape, array.shape, strict=True)
    )
    if array.dtype != one.dtype or not fits:
        wanted = ", ".join(str(lengths.get(side, side)) for side in one.shape)
        found = f"{array.dtype}{list(array.shape)} where {one.dtype}[{wanted}] was expected"
        raise _misfit(directory, f"{one.name}.npy", found)
    if one.below and array.size and not one.least <= array.min() <= array.max() < sides[one.below]:
        found = f"numbers {array.min()}..{array.max()} outside {one.least}..{sides[one.below] - 1}"
        raise _misfit(directory, f"{one.name}.npy", found)
    return array


def _ragged(directory: Path, name: str, arrays: dict[str, np.ndarray]) -> Ragged:
    indptr, values = arrays[f"{name}.indptr"], arrays[f"{name}.values"]
    if indptr[0] != 0 or indptr[-1] != len(values) or np.any(np.diff(indptr) < 0):
        raise _misfit(directory, f"{name}.indptr.npy", f"it does not divide the {len(values)} values")
    return Ragged(indptr, values)


def _neighbours(directory: Path, name: str, arrays: dict[str, np.ndarray]) -> Neighbours:
    item, weight = arrays[f"{name}.item"], arrays[f"{name}.weight"]
    if item.shape != weight.shape:
        raise _misfit(directory, f"{name}.weight.npy", f"{weight.shape} beside items of {item.shape}")
    return Neighbours(item, weight)


def _spectral(directory: Path, arrays: dict[str, np.ndarray]) -> Spectral:
    count = arrays["spectral.count"]
    if not np.all(count >= 1):
        raise _misfit(directory, "spectral.count.npy", "a number below 1 where users are counted")
    return Spectral(arrays["spectral.vector"], count)


def _index(directory: Path, name: str, sides: dict[str, int], side: str) -> Index:
    try:
        index = load_index(directory / name)
    except (RuntimeError, ValueError, OSError) as error:
        raise _misfit(directory, name, str(error).splitlines()[0]) from error
    if index.dimension != sides[side] or index.highest_row >= sides["N"]:
        found = f"{index.dimension} dimensions, rows up to {index.highest_row}"
        raise _misfit(directory, name, f"{found} where {sides[side]} and below {sides['N']} were expected")
    return index


def _ranker(directory: Path, described: Described, arrays: dict[str, np.ndarray]) -> Ranker:
    linear = Linear(*(arrays[f"ranker.linear.{part}"] for part in ("low", "high", "plain", "root")))
    feature, border, leaf = (arrays[f"ranker.trees.{part}"] for part in ("feature", "border", "leaf"))
    if not all(np.isfinite(part).all() for part in (linear.low, linear.high, linear.plain, linear.root, leaf)):
        raise _misfit(directory, "ranker.linear.plain.npy", "a number that is not finite in the ranker")
    if border.shape != feature.shape or leaf.shape != (len(feature), 1 << feature.shape[1]):
        found = f"trees of {feature.shape} beside borders of {border.shape} and leaves of {leaf.shape}"
        raise _misfit(directory, "ranker.trees.feature.npy", found)
    return Ranker(NAMES, linear, Trees(feature, border, leaf, described.ranker_bias))


def _misfit(directory: Path, name: str, found: str) -> BundleError:
    return BundleError(f"{directory / name} does not fit the bundle: {found}; train a new one or promote another")

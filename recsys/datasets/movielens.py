"""The MovieLens releases, each layout as its own page distributes it; nothing of the data is kept here.

F. M. Harper and J. A. Konstan, 2015. The MovieLens Datasets: History and Context. ACM TiiS 5(4), article 19.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from recsys.datasets.assemble import assemble
from recsys.datasets.dataset import Dataset
from recsys.datasets.delimited import Delimited, read_delimited
from recsys.datasets.malformed import MalformedRows
from recsys.datasets.raw import RawInteractions, RawItems
from recsys.datasets.source import Source
from recsys.verbs import Verb

ATTRIBUTION = (
    "MovieLens, GroupLens Research, University of Minnesota. F. M. Harper and J. A. Konstan. 2015. "
    "The MovieLens Datasets: History and Context. ACM Transactions on Interactive Intelligent Systems 5(4), "
    "article 19. Redistribution of the data is not permitted, nor commercial use without permission."
)

# in the order of the flags of u.item
_GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *(
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
)
_NO_GENRE = {"", "unknown", "(no genres listed)"}

# "City of Lost Children, The (Haine, La) (1995)": the article ends a title or a title in parentheses.
_ARTICLES = "The|An?|L'|La|Le|Les|Las|Los|Lo|El|Il|Gli|Der|Die|Das|Det|Den|Une?|Una|Eine?"
_TRAILING_ARTICLE = re.compile(rf"([^\s()][^()]*), ({_ARTICLES})(?=\s*(?:[()]|$))")


def display_title(title: str) -> str:
    """Put a trailing article in front: "Matrix, The (1999)" becomes "The Matrix (1999)"."""
    return _TRAILING_ARTICLE.sub(_article_first, title.strip())


def _article_first(match: re.Match[str]) -> str:
    title, article = match.groups()
    return f"{article}{title}" if article.endswith("'") else f"{article} {title}"


def _describe(row: Mapping[str, str]) -> tuple[str, list[str]]:
    genres = [genre.strip() for genre in row["categories"].split("|")]
    return display_title(row["title"]), [genre for genre in genres if genre not in _NO_GENRE]


def _describe_100k(row: Mapping[str, str]) -> tuple[str, list[str]]:
    genres = [genre for genre in _GENRES_100K if row[genre] == "1"]
    return display_title(row["title"]), [genre for genre in genres if genre not in _NO_GENRE]


def _describe_recbole(row: Mapping[str, str]) -> tuple[str, list[str]]:
    title, year = display_title(row["title"]), row["year"]
    if re.fullmatch(r"\d{4}", year):
        title = f"{title} ({year})"
    return title, [genre for genre in row["categories"].split(" ") if genre not in _NO_GENRE]


@dataclass(frozen=True)
class _Release:
    """One layout: its two files, how they are written and which of our columns theirs are."""

    name: str
    interactions: str
    items: str
    interactions_layout: Delimited
    items_layout: Delimited
    interaction_columns: dict[str, str]
    item_columns: dict[str, str]
    describe: Callable[[Mapping[str, str]], tuple[str, list[str]]] = _describe
    latin_1: bool = False
    has_ratings: bool = True


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_RATING_COLUMNS = ("user_id", "item_id", "value", "timestamp")
_ITEM_COLUMNS = ("item_id", "title", "categories")
_ITEM_COLUMNS_100K = ("item_id", "title", "release_date", "video_release_date", "url", *_GENRES_100K)

_RELEASES = (
    _Release(  # latest-small, 20M, 25M, 32M
        name="movielens",
        interactions="ratings.csv",
        items="movies.csv",
        interactions_layout=Delimited(),
        items_layout=Delimited(),
        interaction_columns={
            "user_id": "userId",
            "item_id": "movieId",
            "value": "rating",
            "timestamp": "timestamp",
        },
        item_columns={"item_id": "movieId", "title": "title", "categories": "genres"},
    ),
    _Release(
        name="ml-100k",
        interactions="u.data",
        items="u.item",
        interactions_layout=Delimited(b"\t", quoted=False, header=_RATING_COLUMNS),
        items_layout=Delimited(b"|", quoted=False, header=_ITEM_COLUMNS_100K),
        interaction_columns=_same(*_RATING_COLUMNS),
        item_columns=_same("item_id", "title", *_GENRES_100K),
        describe=_describe_100k,
        latin_1=True,
    ),
    _Release(  # the atomic files of RecBole
        name="ml-100k",
        interactions="ml-100k.inter",
        items="ml-100k.item",
        interactions_layout=Delimited(b"\t", quoted=False),
        items_layout=Delimited(b"\t", quoted=False),
        interaction_columns={
            "user_id": "user_id:token",
            "item_id": "item_id:token",
            "value": "rating:float",
            "timestamp": "timestamp:float",
        },
        item_columns={
            "item_id": "item_id:token",
            "title": "movie_title:token_seq",
            "year": "release_year:token",
            "categories": "class:token_seq",
        },
        describe=_describe_recbole,
    ),
    _Release(
        name="ml-1m",
        interactions="ratings.dat",
        items="movies.dat",
        interactions_layout=Delimited(b"::", quoted=False, header=_RATING_COLUMNS),
        items_layout=Delimited(b"::", quoted=False, header=_ITEM_COLUMNS),
        interaction_columns=_same(*_RATING_COLUMNS),
        item_columns=_same(*_ITEM_COLUMNS),
        latin_1=True,
    ),
    _Release(  # a part of 1M that was passed on without the rating values
        name="ml-1m",
        interactions="interactions.csv.gz",
        items="movies.dat",
        interactions_layout=Delimited(),
        items_layout=Delimited(b"::", quoted=False, header=_ITEM_COLUMNS),
        interaction_columns=_same("user_id", "item_id", "timestamp"),
        item_columns=_same(*_ITEM_COLUMNS),
        latin_1=True,
        has_ratings=False,
    ),
)

LAYOUTS = tuple(f"{release.interactions} + {release.items}" for release in _RELEASES)


def is_movielens(source: Source) -> bool:
    """True where the source holds both files of a known release."""
    return any(source.has(release.interactions, release.items) for release in _RELEASES)


def read_movielens(source: Source, *, positive_rating: float) -> Dataset:
    """Read the release that the source holds; `is_movielens(source)` is true.

    Raises:
        DatasetError: see `assemble`; also a missing column.
    """
    release = next(r for r in _RELEASES if source.has(r.interactions, r.items))
    malformed = MalformedRows()
    interactions = RawInteractions(
        read_delimited(
            release.interactions,
            source.read(release.interactions),
            release.interactions_layout,
            release.interaction_columns,
            malformed,
        ),
        bare_verb=Verb.LIKE,
        value_required=release.has_ratings,
    )
    item_data = source.read(release.items)
    items = RawItems(
        read_delimited(
            release.items,
            _as_utf_8(item_data) if release.latin_1 else item_data,
            release.items_layout,
            release.item_columns,
            malformed,
        ),
        release.describe,
    )
    name = source.slug if source.slug.startswith("ml-") else release.name
    size = name.removeprefix("ml-")
    return assemble(
        name=name,
        title="MovieLens" if name == "movielens" else f"MovieLens {size.upper() if size[:1].isdigit() else size}",
        attribution=ATTRIBUTION,
        source=source,
        interactions=interactions,
        items=items,
        malformed=malformed,
        positive_rating=positive_rating,
        notes=[] if release.has_ratings else ["the source has no rating values: every row is taken as a like"],
    )


def _as_utf_8(data: bytes) -> bytes:
    """Latin-1 as UTF-8; a file that is UTF-8 already (10M) is left as it is."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1").encode("utf-8")
    return data

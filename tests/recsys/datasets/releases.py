"""Made-up files in the exact layouts of the releases: 40 users, 6 films nobody has seen, 240 ratings."""

import gzip
import zipfile
from pathlib import Path

RATINGS = [
    (user, film, [0.5, 2.0, 3.5, 4.0, 5.0, 4.5][(user + film) % 6], 1_000_000_000 + 1_000 * user + film)
    for user in range(1, 41)
    for film in range(1, 7)
]
EVENTS = len(RATINGS)
LIKES = sum(rating >= 4.0 for _, _, rating, _ in RATINGS)

TITLES = [
    "The Glass Heron (1999)",
    "Ähre (1987)",
    "Salt, Rope & Wire (2001)",
    "The Postcard (La Carte) (1994)",
    "Nobody's Ferry (2003)",
    "Unlisted Year",
]
CATEGORIES = [["Comedy", "Drama"], ["Drama"], ["Film-Noir"], ["Comedy"], ["Drama", "Sci-Fi"], []]
_STORED_TITLES = [
    "Glass Heron, The (1999)",
    "Ähre (1987)",
    "Salt, Rope & Wire (2001)",
    "Postcard, The (Carte, La) (1994)",
    "Nobody's Ferry (2003)",
    "Unlisted Year",
]
_FLAGS = (
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


def csv_release(folder: Path) -> Path:
    """ratings.csv and movies.csv with headers, as latest-small, 20M, 25M and 32M have them."""
    folder.mkdir()
    rows = "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in RATINGS)
    (folder / "ratings.csv").write_text(f"userId,movieId,rating,timestamp\n{rows}", "utf-8")
    films = "".join(
        f'{number},"{title}",{"|".join(genres) or "(no genres listed)"}\n'
        for number, (title, genres) in enumerate(zip(_STORED_TITLES, CATEGORIES, strict=True), 1)
    )
    (folder / "movies.csv").write_text(f"movieId,title,genres\n{films}", "utf-8")
    return folder


def release_100k(folder: Path) -> Path:
    """u.data and u.item, Latin-1, with the 19 genre flags."""
    folder.mkdir()
    rows = "".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in RATINGS)
    (folder / "u.data").write_text(rows, "latin-1")
    films = ""
    for number, (title, genres) in enumerate(zip(_STORED_TITLES, CATEGORIES, strict=True), 1):
        flags = "|".join(str(int(flag in (genres or ["unknown"]))) for flag in _FLAGS)
        films += f"{number}|{title}|01-Jan-1999||http://localhost/{number}|{flags}\n"
    (folder / "u.item").write_text(films, "latin-1")
    return folder


def recbole_files() -> tuple[bytes, bytes]:
    """ml-100k.inter and ml-100k.item, the atomic files of RecBole."""
    rows = "".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in RATINGS)
    films = ""
    for number, (title, genres) in enumerate(zip(_STORED_TITLES, CATEGORIES, strict=True), 1):
        name, _, year = title.rpartition(" (")
        year = year.removesuffix(")") if name else "V"
        films += f"{number}\t{name or title}\t{year}\t{' '.join(genres) or 'unknown'}\n"
    return (
        f"user_id:token\titem_id:token\trating:float\ttimestamp:float\n{rows}".encode(),
        f"item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n{films}".encode(),
    )


def recbole_release(folder: Path) -> Path:
    """The atomic files in a folder."""
    folder.mkdir()
    for name, data in zip(("ml-100k.inter", "ml-100k.item"), recbole_files(), strict=True):
        (folder / name).write_bytes(data)
    return folder


def _films_1m() -> bytes:
    films = zip(_STORED_TITLES, CATEGORIES, strict=True)
    return "".join(f"{n}::{title}::{'|'.join(genres)}\n" for n, (title, genres) in enumerate(films, 1)).encode(
        "latin-1"
    )


def release_1m(folder: Path) -> Path:
    """ratings.dat and movies.dat, `::` between columns, Latin-1."""
    folder.mkdir()
    (folder / "ratings.dat").write_text("".join(f"{u}::{i}::{r}::{t}\n" for u, i, r, t in RATINGS), "latin-1")
    (folder / "movies.dat").write_bytes(_films_1m())
    return folder


def release_1m_without_ratings(folder: Path) -> Path:
    """interactions.csv.gz without rating values and movies.dat."""
    folder.mkdir()
    rows = "".join(f"{u},{i},{t}\n" for u, i, _, t in RATINGS)
    (folder / "interactions.csv.gz").write_bytes(gzip.compress(f"user_id,item_id,timestamp\n{rows}".encode()))
    (folder / "movies.dat").write_bytes(_films_1m())
    return folder


def zipped(folder: Path, *, inner: str) -> Path:
    """The folder's files as a zip beside it, under the folder `inner` ("" for none)."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.writestr(f"{inner}{file.name}", file.read_bytes())
    return path

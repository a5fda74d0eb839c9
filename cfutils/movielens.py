"""MovieLens 100K as a `Dataset`, from whichever source answers, checked by one fingerprint.

`python -m cfutils.movielens` fetches it if it is not there yet and says where it lies.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable

import filelock
import numpy as np
import pandas as pd
import platformdirs

from cfutils.data import Dataset

__all__ = ["DataError", "data_folder", "load_movielens"]

URLS = (
    "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
    "https://huggingface.co/datasets/Recommenders/MovieLens/resolve/main/ml-100k.zip",
)
PAGE = "https://grouplens.org/datasets/movielens/100k/"
WHEEL = "recbole==1.2.1"
# (connect, read) in seconds, for each attempt to open a source and each wait for more of it.
TIMEOUT = (5, 20)
LOCK_TIMEOUT = 600

# What the frames must be, whichever source they come from.
FINGERPRINT = "71f855fef783428007e46bb6f84bb56ff89d0efd2a588a1d8a5eee9d97fa1fa8"

_GENRES = [
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
]
_GROUPLENS = ("u.data", "u.item", "u.user")
_RECBOLE = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
_USER_COLUMNS = ["original_id", "age", "gender", "occupation", "zip_code"]


class DataError(ValueError):
    """A data source is missing, altered or unreadable; the message says which and what to do."""


def load_movielens(path: str | os.PathLike | None = None) -> Dataset:
    """Loads MovieLens 100K, fetching it on first use.

    Without `path` the data lies in `data_folder()`, directly (`u.data` and its neighbours) or in a
    sub-folder `ml-100k`. A folder without it is filled: from a file `ml-100k.zip` put there by
    hand, from GroupLens, from a public mirror, or from a package on the Python package index. A
    copy that was altered is set aside and fetched again, with a warning.

    Args:
        path: a folder or zip file with the data, in GroupLens' layout or that of the package index.
            It is only read: nothing is fetched, and an altered copy is an error.

    Returns:
        A `Dataset` of 943 users (`age` in years, `gender`, `occupation`, `zip_code`), 1,682 items
        (`title`, `year`, missing for one, `genres`, and `genre`, the rarest of them, for
        colouring) and 100,000 ratings from 1 to 5 with a `timestamp` in UTC, the same to the last
        character from every source.

    Raises:
        DataError: if no source could be had (with what was tried and what helps), or `path` holds
            something else than MovieLens 100K.

    Source: Harper and Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015.
    """
    if path is not None:
        return _read(pathlib.Path(path))
    folder = data_folder()
    if folder.is_file():
        raise DataError(f"CFUTILS_DATA should be a folder. Received: the file {folder}")
    with contextlib.suppress(DataError):
        return _read(folder)
    # Absent or altered: settled under the lock, where no other process interferes.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock", timeout=LOCK_TIMEOUT):
            return _fill(folder)
    except filelock.Timeout:
        raise DataError(
            f"{folder} has been locked by another process for {LOCK_TIMEOUT} seconds. "
            "Wait for that process to end, or stop it, and try again."
        ) from None
    except OSError as error:
        raise DataError(
            f"MovieLens 100K can't be kept in {folder}: {error}. "
            "Set CFUTILS_DATA to a folder that can be written."
        ) from error


def data_folder() -> pathlib.Path:
    """The folder of MovieLens 100K: `CFUTILS_DATA`, else the repository's, else the user cache."""
    if os.environ.get("CFUTILS_DATA"):
        return pathlib.Path(os.environ["CFUTILS_DATA"]).expanduser()
    repository = pathlib.Path(__file__).resolve().parents[1]
    if (repository / "pyproject.toml").is_file() and (repository / "data" / "README.md").is_file():
        return repository / "data"
    return platformdirs.user_cache_path("cfutils")


def _read(path: pathlib.Path) -> Dataset:
    """What a folder (itself, or its `ml-100k`) or a zip file holds, checked."""
    if path.is_file():
        with tempfile.TemporaryDirectory(prefix="cfutils-") as folder:
            _unzip(path, pathlib.Path(folder))
            return _read_folder(pathlib.Path(folder), path)
    problem = DataError(
        f"{path} should be a folder or zip file that holds MovieLens 100K "
        f"({', '.join(_GROUPLENS)}). Received: "
        + ("a folder without them" if path.is_dir() else "no such folder or file")
    )
    for place in (path, path / "ml-100k"):
        if any((place / name).exists() for name in _GROUPLENS + _RECBOLE):
            try:
                return _read_folder(place, place)
            except DataError as error:
                problem = error
    raise problem


def _read_folder(folder: pathlib.Path, origin: object) -> Dataset:
    recbole = any((folder / name).exists() for name in _RECBOLE)
    names, reader = (_RECBOLE, _read_recbole) if recbole else (_GROUPLENS, _read_grouplens)
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise DataError(f"{origin} should hold the files {', '.join(names)}. Missing: {absent[0]}")
    try:
        users, movies, ratings = reader(folder)
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{origin} can't be read as MovieLens 100K: {error}") from error
    digest = hashlib.sha256()  # of the contents, however a source writes them
    for frame in (users, movies.assign(genres=movies["genres"].str.join("|")), ratings):
        digest.update(frame.to_csv(index=False, lineterminator="\n").encode())
    if digest.hexdigest() != FINGERPRINT:
        raise DataError(
            f"{origin} differs from MovieLens 100K: it has {len(users)} users, {len(movies)} "
            f"movies and {len(ratings)} ratings with fingerprint {digest.hexdigest()[:12]}, which "
            f"should be {FINGERPRINT[:12]}. Take a fresh copy of ml-100k.zip from {PAGE}"
        )
    return _assembled(users, movies, ratings)


def _read_grouplens(folder: pathlib.Path) -> tuple:
    ratings = pd.read_csv(
        folder / "u.data", sep="\t", names=["user", "item", "rating", "timestamp"], dtype="int64"
    )
    read = functools.partial(
        pd.read_csv, sep="|", encoding="latin-1", header=None, quoting=3, keep_default_na=False
    )
    users = read(folder / "u.user", names=_USER_COLUMNS, dtype={"zip_code": str})
    unused = ["released", "video", "url"]
    items = read(folder / "u.item", names=["original_id", "title", *unused, *_GENRES])
    genres = [[_GENRES[g] for g in np.flatnonzero(row)] for row in items[_GENRES].to_numpy()]
    movies = items[["original_id"]].assign(title=items["title"].str.strip(), genres=genres)
    return users, movies, ratings


def _read_recbole(folder: pathlib.Path) -> tuple:
    read = functools.partial(pd.read_csv, sep="\t", skiprows=1, quoting=3, keep_default_na=False)
    interactions, item_file, user_file = (folder / name for name in _RECBOLE)
    ratings = read(
        interactions, names=["user", "item", "rating", "timestamp"], dtype="float64"
    ).astype("int64")
    users = read(user_file, names=_USER_COLUMNS, dtype={"zip_code": str})
    items = read(item_file, names=["original_id", "title", "year", "genres"], dtype={"year": str})
    # The title and what stands in brackets behind it are two columns here; the one movie without
    # brackets is spelt "unkonwn" in both.
    titles = items["title"] + " (" + items["year"] + ")"
    movies = items[["original_id"]].assign(
        title=titles.where(items["title"] != "unkonwn", "unknown"),
        genres=items["genres"].str.split(" "),
    )
    return users, movies, ratings


def _assembled(users: pd.DataFrame, movies: pd.DataFrame, ratings: pd.DataFrame) -> Dataset:
    """A Dataset whose row i is id i of the files, with what the files only imply."""
    users = users.sort_values("original_id", ignore_index=True)
    movies = movies.sort_values("original_id", ignore_index=True)
    years = movies["title"].str.extract(r"\((\d{4})\)(?: \(V\))?$", expand=False)
    counts = movies["genres"].explode().value_counts()
    items = movies.assign(
        year=years.astype("Int64"),
        genre=[min(genres, key=lambda g: (counts[g], g)) for genres in movies["genres"]],
    )[["original_id", "title", "year", "genres", "genre"]]
    return Dataset(
        users=users.rename(columns={"original_id": "user_id"}).rename_axis("user_num"),
        items=items.rename(columns={"original_id": "item_id"}).rename_axis("item_num"),
        ratings=pd.DataFrame(
            {
                "user_num": users["original_id"].searchsorted(ratings["user"]),
                "item_num": movies["original_id"].searchsorted(ratings["item"]),
                "rating": ratings["rating"].astype("float64"),
                "timestamp": pd.to_datetime(ratings["timestamp"], unit="s"),
            }
        ),
    )


def _fill(folder: pathlib.Path) -> Dataset:
    """Fetches the data into `folder`/ml-100k; the caller holds the lock."""
    for leftover in folder.glob(".fetch-*"):
        shutil.rmtree(leftover)  # of a process that was killed: whoever holds the lock owns it
    try:
        return _read(folder)  # another process was faster
    except DataError as error:
        problem = error
    sources: list[tuple[str, Callable[[pathlib.Path], pathlib.Path]]]
    sources = [(url, functools.partial(_download, url)) for url in URLS]
    sources.append((f"{WHEEL} from the Python package index", _download_wheel))
    by_hand = folder / "ml-100k.zip"
    if by_hand.exists():
        sources.insert(0, (str(by_hand), lambda target: by_hand))
    failures = [str(problem)]
    for name, fetch in sources:
        scratch = pathlib.Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
        try:
            unpacked = scratch / "ml-100k"
            unpacked.mkdir()
            _unzip(fetch(scratch), unpacked)
            data = _read_folder(unpacked, name)
            aside = _set_aside(folder)
            os.replace(unpacked, folder / "ml-100k")
            if aside is not None:
                warnings.warn(
                    f"{problem} What was there now lies in {aside}; a fresh copy is in its place.",
                    stacklevel=3,
                )
            return data
        except (DataError, OSError, subprocess.SubprocessError) as error:
            failures.append(f"{name}: {' '.join(str(error).split())[:300]}")
            print(f"Not from {failures[-1]}", file=sys.stderr)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    raise DataError(
        "MovieLens 100K could not be fetched. Tried:\n- "
        + "\n- ".join(failures)
        + f"\nWhat helps: connect to the internet and try again; or download ml-100k.zip from "
        f"{PAGE} by any other way and put it into {folder}; or set CFUTILS_DATA to a folder "
        "that holds its files (u.data, u.item, u.user)."
    )


def _download(url: str, target: pathlib.Path) -> pathlib.Path:
    import pooch  # slow to import, and seldom needed

    pooch.get_logger().setLevel("ERROR")
    print(f"Fetching {url}", file=sys.stderr)
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
    return pathlib.Path(
        pooch.retrieve(url, known_hash=None, fname="ml.zip", path=target, downloader=downloader)
    )


def _download_wheel(target: pathlib.Path) -> pathlib.Path:
    print(f"Fetching {WHEEL} from the Python package index", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    options = ["--quiet", "--disable-pip-version-check", "--retries=1", f"--dest={target}"]
    done = subprocess.run(
        [*command, *options, WHEEL], capture_output=True, text=True, timeout=LOCK_TIMEOUT
    )
    if done.returncode != 0:
        raise DataError(done.stderr.strip() or f"pip ended with {done.returncode}")
    return next(target.glob("*.whl"))


def _unzip(archive: pathlib.Path, target: pathlib.Path) -> None:
    """Extracts the data files of a zip file, and nothing else, into the folder `target`."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            for name in zipped.namelist():
                if name.startswith(("/", "\\")) or ":" in name or ".." in re.split(r"[/\\]", name):
                    raise DataError(f"{archive} has an entry that points outside of it: {name!r}")
                base = name.rsplit("/", 1)[-1]
                if base in _GROUPLENS + _RECBOLE + ("README",):
                    with zipped.open(name) as source, open(target / base, "wb") as copy:
                        shutil.copyfileobj(source, copy)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{archive} is not a whole zip file: {error}") from error


def _set_aside(folder: pathlib.Path) -> pathlib.Path | None:
    """Moves what is in the way of a fresh copy to a new folder; returns it, or None if nothing."""
    names = (*_GROUPLENS, *_RECBOLE, "ml-100k")
    in_the_way = [folder / name for name in names if (folder / name).exists()]
    if not in_the_way:
        return None
    number = next(n for n in itertools.count(1) if not (folder / f"ml-100k.altered-{n}").exists())
    aside = folder / f"ml-100k.altered-{number}"
    aside.mkdir()
    for path in in_the_way:
        os.replace(path, aside / path.name)
    return aside


if __name__ == "__main__":
    try:
        loaded = load_movielens()
    except DataError as problem:
        sys.exit(str(problem))
    print(
        f"MovieLens 100K lies in {data_folder()}: {loaded.num_users} users, "
        f"{loaded.num_items} items, {len(loaded.ratings)} ratings."
    )

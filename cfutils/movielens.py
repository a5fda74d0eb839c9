"""The MovieLens releases as a `Dataset`, from whichever source answers, and checked.

`python -m cfutils.movielens 1m` fetches a release (100k by itself) if it is not there yet and says
where it lies.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import itertools
import lzma
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
from typing import Any

import filelock
import numpy as np
import pandas as pd
import platformdirs

from cfutils import _reading
from cfutils.data import Dataset
from cfutils.tables import load_ratings

__all__ = ["DataError", "data_folder", "load_movielens"]

# GroupLens has every release, the mirror 100K alone.
URLS = (
    "https://files.grouplens.org/datasets/movielens/ml-{}.zip",
    "https://huggingface.co/datasets/Recommenders/MovieLens/resolve/main/ml-100k.zip",
)
PAGE = "https://grouplens.org/datasets/movielens/{}/"
WHEEL = "recbole==1.2.1"
# (connect, read) in seconds, for each attempt to open a source and each wait for more of it.
TIMEOUT = (5, 20)
LOCK_TIMEOUT = 600
# More bytes than any release unpacks to.
LIMIT = 4 * 2**30

# What the frames of 100K must be, whichever source they come from.
FINGERPRINT = "71f855fef783428007e46bb6f84bb56ff89d0efd2a588a1d8a5eee9d97fa1fa8"
# The MD5 that GroupLens publishes for the zip file of each other release; it replaces the two
# `latest` from time to time, and publishes none for them.
MD5 = {
    "100k": None,
    "1m": "c4d9eecfca2ab87c1945afe126590906",
    "10m": "ce571fd55effeba0271552578f2648bd",
    "20m": "cd245b17a1ae2cc31bb14903e1204af3",
    "25m": "6b51fb2759a8657d3bfcbfc42b592ada",
    "32m": "d472be332d4daa821edc399621853b57",
    "latest-small": None,
    "latest": None,
}

_GENRES = [
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
]
_RATINGS = ["user_id", "item_id", "rating", "timestamp"]
_USERS = ["user_id", "age", "gender", "occupation", "zip_code"]
# The files of a release, the ratings first: 100K in GroupLens' layout or the package index's.
_LAYOUTS: dict[str, list[tuple[str, ...]]] = {
    **{release: [("ratings.csv", "movies.csv")] for release in MD5},
    "100k": [("u.data", "u.item", "u.user"), ("ml-100k.inter", "ml-100k.item", "ml-100k.user")],
    "1m": [("ratings.dat", "movies.dat", "users.dat")],
    "10m": [("ratings.dat", "movies.dat")],
}


class DataError(ValueError):
    """A data source is missing, altered or unreadable; the message says which and what to do."""


def load_movielens(release: str = "100k", path: str | os.PathLike | None = None) -> Dataset:
    """Loads a release of MovieLens, fetching it on first use.

    Without `path` the data lies in `data_folder()`, in a sub-folder `ml-<release>` (100K also
    directly). If it does not, it is fetched: from a file `ml-<release>.zip` put there by hand, or
    from GroupLens, checked by the MD5 published for it (there is none for the two `latest`, which
    GroupLens replaces at times); 100K also from a public mirror or from a package on the Python
    package index. A copy that is damaged is set aside and fetched again, with a warning.

    Args:
        release: "100k", "1m", "10m", "20m", "25m", "32m", "latest-small" or "latest".
        path: a folder (itself, or its `ml-<release>`) or zip file with the data, in GroupLens'
            layout; 100K also in that of the package index. It is only read: nothing is fetched, and
            a damaged copy is an error.

    Returns:
        A `Dataset` whose rows follow the sorted ids: all items of the release (`title`, `year`,
        missing where the title has none, `genres`, and `genre`, the rarest of them, for
        colouring), rated or not; ratings up to 5, in half stars from 10M on, with a `timestamp` in
        UTC. The users of 100K and 1M have `age`, `gender`, `occupation` and `zip_code`; age and
        occupation of 1M are the codes that its README explains. 100K has 943 users, 1,682 items
        and 100,000 ratings, the same to the last character from every source.

    Raises:
        ValueError: if there is no such release.
        DataError: if no source could be had (with what was tried and what helps), or `path` holds
            something else than the release.

    Source: Harper and Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015.
    """
    if not isinstance(release, str) or release not in MD5:
        raise ValueError(
            f"release should be one of {', '.join(MD5)}. Received: {str(release)!r}. "
            "A folder or zip file is named by path=."
        )
    if path is not None:
        return _read(release, pathlib.Path(os.path.expanduser(path)))
    folder = data_folder()
    if folder.is_file():
        raise DataError(f"CFUTILS_DATA should be a folder. Received: the file {folder}")
    place = folder if release == "100k" else folder / f"ml-{release}"
    with contextlib.suppress(DataError):
        return _read(release, place)
    # Absent or damaged: settled under the lock, where no other process interferes.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock", timeout=LOCK_TIMEOUT):
            return _fill(release, folder, place)
    except filelock.Timeout:
        raise DataError(
            f"{folder} has been locked by another process for {LOCK_TIMEOUT} seconds. "
            "Wait for that process to end, or stop it, and try again."
        ) from None
    except OSError as error:
        raise DataError(
            f"{_called(release)} can't be kept in {folder}: {error}. "
            "Set CFUTILS_DATA to a folder that can be written."
        ) from error


def data_folder() -> pathlib.Path:
    """The folder of the releases: `CFUTILS_DATA`, else the repository's, else the user cache."""
    if named := os.environ.get("CFUTILS_DATA"):
        try:
            return pathlib.Path(named).expanduser()
        except RuntimeError as error:
            raise DataError(
                f"CFUTILS_DATA should be a folder. Received: {named!r} ({error}). Set it to the "
                "whole path of a folder."
            ) from None
    repository = pathlib.Path(__file__).resolve().parents[1]
    if (repository / "pyproject.toml").is_file() and (repository / "data" / "README.md").is_file():
        return repository / "data"
    return platformdirs.user_cache_path("cfutils")


def _called(release: str) -> str:
    return f"MovieLens {release if release.startswith('latest') else release.upper()}"


def _read(release: str, path: pathlib.Path) -> Dataset:
    """What a folder (itself, or its sub-folder) or a zip file holds, checked."""
    if path.is_file():
        with tempfile.TemporaryDirectory(prefix="cfutils-") as folder:
            _unzip(release, path, pathlib.Path(folder))
            return _read_folder(release, pathlib.Path(folder), path)
    problem = DataError(
        f"{path} should be a folder or zip file that holds {_called(release)} "
        f"({', '.join(_LAYOUTS[release][0])}). Received: "
        + ("a folder without them" if path.is_dir() else "no such folder or file")
    )
    # The zip file of 10M holds a folder of another name.
    for place in (path, path / f"ml-{release}", *[path / "ml-10M100K"] * (release == "10m")):
        if any((place / name).exists() for name in itertools.chain(*_LAYOUTS[release])):
            try:
                return _read_folder(release, place, place)
            except DataError as error:
                problem = error
    raise problem


def _read_folder(release: str, folder: pathlib.Path, origin: object) -> Dataset:
    for names in reversed(_LAYOUTS[release]):  # the first of them, if it is none
        if any((folder / name).exists() for name in names):
            break
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise DataError(f"{origin} should hold the files {', '.join(names)}. Missing: {absent[0]}")
    try:
        data = _load(*(folder / name for name in names))
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise DataError(f"{origin} can't be read as {_called(release)}: {error}") from error
    # What the files only imply.
    years = data.items["title"].str.extract(r"\((\d{4})\)(?: \(V\))?$", expand=False)
    data.items.insert(2, "year", years.astype("Int64"))
    lists = data.items["genres"]
    counts = lists.explode().value_counts().to_dict()
    rarest = [min(genres, key=lambda g: (counts[g], g), default=None) for genres in lists]
    data.items["genre"] = pd.array(rarest, dtype="str")
    return data


def _load(ratings: pathlib.Path, items: pathlib.Path, *users: pathlib.Path) -> Dataset:
    """The files of a release as a Dataset whose rows follow the sorted ids."""
    form: dict[str, Any] = {"timestamp": "timestamp"}
    if ratings.name == "ratings.csv":
        data = load_ratings(ratings, items=items, user="userId", item="movieId", **form)
    elif ratings.name == "ratings.dat":
        encoding = "latin-1" if users else "utf-8"
        form["items"] = _read_dat(items, ["item_id", "title", "genres"], encoding)
        for path in users:
            names = ["user_id", "gender", "age", "occupation", "zip_code"]
            form["users"] = _read_dat(path, names, encoding)[_USERS]
        data = load_ratings(ratings, sep="::", names=_RATINGS, **form)
    else:
        read = _read_grouplens if ratings.name == "u.data" else _read_recbole
        frames: tuple = read(ratings, items, *users)
        _check_fingerprint(*frames)
        data = load_ratings(frames[0], items=frames[1], users=frames[2], **form)
    data.ratings["timestamp"] = pd.to_datetime(data.ratings["timestamp"], unit="s")
    return data


def _read_grouplens(ratings: pathlib.Path, items: pathlib.Path, users: pathlib.Path) -> tuple:
    read = functools.partial(
        pd.read_csv, sep="|", encoding="latin-1", header=None, quoting=3, keep_default_na=False
    )
    unused = ["released", "video", "url"]
    table = read(items, names=["item_id", "title", *unused, *_GENRES])
    genres = [[_GENRES[g] for g in np.flatnonzero(row)] for row in table[_GENRES].to_numpy()]
    return (
        pd.read_csv(ratings, sep="\t", names=_RATINGS, dtype="int64"),
        table[["item_id"]].assign(title=table["title"].str.strip(), genres=genres),
        read(users, names=_USERS, dtype={"zip_code": str}),
    )


def _read_recbole(ratings: pathlib.Path, items: pathlib.Path, users: pathlib.Path) -> tuple:
    read = functools.partial(pd.read_csv, sep="\t", skiprows=1, quoting=3, keep_default_na=False)
    table = read(items, names=["item_id", "title", "year", "genres"], dtype={"year": str})
    # The title and what stands in brackets behind it are two columns here; the one movie without
    # brackets is spelt "unkonwn" in both.
    titles = table["title"] + " (" + table["year"] + ")"
    titles = titles.where(table["title"] != "unkonwn", "unknown")
    return (
        read(ratings, names=_RATINGS, dtype="float64").astype("int64"),
        table[["item_id"]].assign(title=titles, genres=table["genres"].str.split(" ")),
        read(users, names=_USERS, dtype={"zip_code": str}),
    )


def _check_fingerprint(ratings: pd.DataFrame, items: pd.DataFrame, users: pd.DataFrame) -> None:
    """100K is known by its contents, however a source writes them."""
    items = items.assign(genres=items["genres"].str.join("|"))
    digest = hashlib.sha256()
    for frame, header in (
        (users, ["original_id", *_USERS[1:]]),
        (items, ["original_id", "title", "genres"]),
        (ratings, ["user", "item", "rating", "timestamp"]),
    ):
        digest.update(frame.to_csv(index=False, header=header, lineterminator="\n").encode())
    if digest.hexdigest() != FINGERPRINT:
        raise ValueError(
            f"it differs from MovieLens 100K: {len(users)} users, {len(items)} movies and "
            f"{len(ratings)} ratings have the fingerprint {digest.hexdigest()[:12]}, which should "
            f"be {FINGERPRINT[:12]}. Take a fresh copy of ml-100k.zip from GroupLens."
        )


def _read_dat(path: pathlib.Path, names: list[str], encoding: str) -> pd.DataFrame:
    """A file of 1M or 10M, without header and quotes, which belong to the titles."""
    form = _reading.Form("::", encoding, names, quoting=False)
    texts = {name: (name, "text") for name in names if name in ("title", "genres", "zip_code")}
    return _reading.read(path.name, path, texts, form, every=True)[0]


def _fill(release: str, folder: pathlib.Path, place: pathlib.Path) -> Dataset:
    """Fetches a release into `folder`/ml-<release>; the caller holds the lock."""
    for leftover in folder.glob(".fetch-*"):
        shutil.rmtree(leftover)  # of a process that was killed: whoever holds the lock owns it
    try:
        return _read(release, place)  # another process was faster
    except DataError as error:
        problem = error
    kept, archive = f"ml-{release}", f"ml-{release}.zip"
    urls = [url.format(release) for url in URLS[: None if release == "100k" else 1]]
    sources: list[tuple[str, Callable[[pathlib.Path], pathlib.Path]]]
    sources = [(url, functools.partial(_download, url, MD5[release])) for url in urls]
    if release == "100k":
        sources.append((f"{WHEEL} from the Python package index", _download_wheel))
    by_hand = folder / archive
    if by_hand.exists():
        sources.insert(0, (str(by_hand), lambda target: by_hand))
    failures = [str(problem)]
    for name, fetch in sources:
        scratch = pathlib.Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
        try:
            unpacked = scratch / kept
            unpacked.mkdir()
            _unzip(release, fetch(scratch), unpacked)
            data = _read_folder(release, unpacked, name)
            aside = _set_aside(release, folder)
            os.replace(unpacked, folder / kept)
            if aside is not None:
                warnings.warn(
                    f"{problem} What was there now lies in {aside}; a fresh copy is in its place.",
                    stacklevel=3,
                )
            return data
        except (ValueError, OSError, subprocess.SubprocessError) as error:
            failures.append(f"{name}: {' '.join(str(error).split())[:300]}")
            print(f"Not from {failures[-1]}", file=sys.stderr)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    raise DataError(
        f"{_called(release)} could not be fetched. Tried:\n- "
        + "\n- ".join(failures)
        + f"\nWhat helps: connect to the internet and try again; or download {archive} from "
        f"{PAGE.format(release.removesuffix('-small'))} by any other way and put it into {folder}; "
        f"or set CFUTILS_DATA to a folder that holds {kept} with its files "
        f"({', '.join(_LAYOUTS[release][0])})."
    )


def _download(url: str, md5: str | None, target: pathlib.Path) -> pathlib.Path:
    import pooch  # slow to import, and seldom needed

    pooch.get_logger().setLevel("ERROR")
    print(f"Fetching {url}", file=sys.stderr)
    fetch = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
    known = md5 and f"md5:{md5}"
    return pathlib.Path(pooch.retrieve(url, known, fname="ml.zip", path=target, downloader=fetch))


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


def _unzip(release: str, archive: pathlib.Path, target: pathlib.Path) -> None:
    """Extracts the files of a release from a zip file, and nothing else, into a folder."""
    files = [*itertools.chain(*_LAYOUTS[release])]
    found: dict[str, zipfile.ZipInfo] = {}
    try:
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                name, base = entry.filename, entry.filename.rsplit("/", 1)[-1]
                if name.startswith(("/", "\\")) or ":" in name or ".." in re.split(r"[/\\]", name):
                    raise DataError(f"{archive} has an entry that points outside of it: {name!r}")
                if base in found and base in files:
                    raise DataError(f"{archive} should hold one {base}. Received: two. Unpack it.")
                if base in files or base in ("README", "README.txt", "README.html"):
                    found[base] = entry
            size = sum(entry.file_size for entry in found.values())
            if size > LIMIT:
                raise DataError(
                    f"{archive} should unpack to {LIMIT} bytes at most, more than any release has. "
                    f"Received: {size} bytes. Take a fresh copy from GroupLens."
                )
            for base, entry in found.items():
                with zipped.open(entry) as source, open(target / base, "wb") as copy:
                    shutil.copyfileobj(source, copy)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise DataError(f"{archive} is not a whole zip file: {error}") from error


def _set_aside(release: str, folder: pathlib.Path) -> pathlib.Path | None:
    """Moves what is in the way of a fresh copy to a new folder; returns it, or None if nothing."""
    kept = f"ml-{release}"
    names = [kept, *(itertools.chain(*_LAYOUTS[release]) if release == "100k" else ())]
    in_the_way = [folder / name for name in names if (folder / name).exists()]
    if not in_the_way:
        return None
    number = next(n for n in itertools.count(1) if not (folder / f"{kept}.altered-{n}").exists())
    aside = folder / f"{kept}.altered-{number}"
    aside.mkdir()
    for path in in_the_way:
        os.replace(path, aside / path.name)
    return aside


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetches a release of MovieLens.")
    parser.add_argument("release", nargs="?", default="100k", choices=MD5)
    release = parser.parse_args().release
    try:
        loaded = load_movielens(release)
    except DataError as problem:
        sys.exit(str(problem))
    folder = data_folder()
    folder = next(place for place in (folder / f"ml-{release}", folder) if place.is_dir())
    print(
        f"{_called(release)} lies in {folder}: {loaded.num_users} users, "
        f"{loaded.num_items} items, {len(loaded.ratings)} ratings."
    )

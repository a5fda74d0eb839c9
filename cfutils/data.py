"""From sources to validated frames: MovieLens 100K, your own ratings, the split, the counts.

And back: embeddings with the ids and titles of their rows, as files that viewers read.

Everything downstream relies on one promise made here: ids are 0-based integers and row `i` of the
users' or movies' frame is id `i`. The ids of the source stay beside them as `original_id`.

`python -m cfutils.data` fetches MovieLens 100K if it is not there yet and says where it lies.
"""

import contextlib
import dataclasses
import functools
import gzip
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

import filelock
import numpy as np
import pandas as pd
import platformdirs
from tqdm import tqdm

from cfutils import _progress
from cfutils._files import replace_files

GENRES = [
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
]

URLS = (
    "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
    "https://huggingface.co/datasets/Recommenders/MovieLens/resolve/main/ml-100k.zip",
)
PAGE = "https://grouplens.org/datasets/movielens/100k/"
WHEEL = "recbole==1.2.1"
# (connect, read) in seconds, for each attempt to open a source and each wait for more of it.
TIMEOUT = (5, 20)
LOCK_TIMEOUT = 600

_ROWS = 2**20  # of a file, read at once
_NUMBERS = {np.dtype("int64"), np.dtype("float64")}

# What the frames must be, whichever source they come from.
FINGERPRINT = "71f855fef783428007e46bb6f84bb56ff89d0efd2a588a1d8a5eee9d97fa1fa8"

_GROUPLENS = ("u.data", "u.item", "u.user")
_RECBOLE = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
# What ends a field or a line for one reader or another.
_BREAKS = re.compile("[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_USER_COLUMNS = ["original_id", "age", "gender", "occupation", "zip_code"]


class DataError(ValueError):
    """A data source is missing, altered or unreadable; the message says which and what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class MovieLens:
    """Users, movies and ratings, with 0-based ids: row i is id i.

    Attributes:
        users: one row per user: `user_id` (0..N-1), `original_id`; from MovieLens also
            `age` in years, `gender`, `occupation`, `zip_code`.
        movies: one row per movie: `movie_id` (0..M-1), `original_id`, `title`; from
            MovieLens also `year` (missing for one movie), `genres` (a list), `genre` (the
            movie's rarest genre, for colouring) and one 0/1 column per genre of `GENRES`.
        ratings: one row per rating, in the order of the source: `user_id`, `movie_id`,
            `rating` and, where the source has one, `timestamp`.

    Raises:
        ValueError: if the ids are not the row numbers, or a rating refers to no row.

    Cost: O(users + movies + ratings) time and memory to check the ids.
    """

    users: pd.DataFrame
    movies: pd.DataFrame
    ratings: pd.DataFrame

    def __post_init__(self):
        for name, id_column in (("users", "user_id"), ("movies", "movie_id")):
            frame = getattr(self, name)
            if not np.array_equal(frame[id_column], np.arange(len(frame))):
                raise ValueError(
                    f"{name}.{id_column} should be the row numbers 0..{len(frame) - 1} in order. "
                    "load_ratings() makes such ids from any table."
                )
            ids = self.ratings[id_column]
            if not pd.api.types.is_integer_dtype(ids):
                raise ValueError(f"ratings.{id_column} should be integers. Received: {ids.dtype}")
            outside = ids[(ids < 0) | (ids >= len(frame))]
            if len(outside):
                raise ValueError(
                    f"ratings.{id_column} should lie in 0..{len(frame) - 1}. "
                    f"Received: {outside.iloc[0]} in row {outside.index[0]}"
                )

    @property
    def num_users(self):
        """N, the number of users, with or without ratings. O(1)."""
        return len(self.users)

    @property
    def num_items(self):
        """M, the number of movies (items), with or without ratings. O(1)."""
        return len(self.movies)


def load_movielens(path=None):
    """Loads MovieLens 100K, fetching it on first use.

    Without `path` the data lies in the folder named by the environment variable
    `CFUTILS_DATA`, or else in the repository's `data/`, or, when `cfutils` is installed
    elsewhere, in the user's cache folder: either directly (`u.data` and its neighbours) or in a
    sub-folder `ml-100k`. A folder without it is filled: from a file `ml-100k.zip` put there by
    hand, from GroupLens, from a public mirror, or from a package on the Python package index. A
    copy that was altered is set aside and fetched again, with a warning.

    Args:
        path: a folder or zip file with the data, in GroupLens' layout or that of the package index.
            It is only read: nothing is fetched, and an altered copy is an error.

    Returns:
        A `MovieLens` of 943 users, 1,682 movies and 100,000 ratings from 1 to 5 with timestamps
        in UTC, the same to the last character from every source.

    Raises:
        DataError: if no source could be had (the message lists each one that was tried and how to
            help), or `path` holds something else than MovieLens 100K.

    Source: Harper and Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015.
    Cost: O(number of ratings), about half a second.
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


def data_folder():
    """The folder where MovieLens 100K lies or is put, as a path; see `load_movielens`.

    Cost: O(1).
    """
    if os.environ.get("CFUTILS_DATA"):
        return pathlib.Path(os.environ["CFUTILS_DATA"]).expanduser()
    repository = pathlib.Path(__file__).resolve().parents[1]
    if (repository / "pyproject.toml").is_file() and (repository / "data" / "README.md").is_file():
        return repository / "data"
    return platformdirs.user_cache_path("cfutils")


def load_ratings(
    table,
    *,
    user="user_id",
    item="item_id",
    rating="rating",
    timestamp=None,
    sep=",",
    encoding="utf-8",
    progress=None,
):
    """Loads a table of ratings with ids of any kind.

    Args:
        table: a frame, or the path of a CSV file with a header line (also compressed:
            .gz, .bz2, .zip, .xz) or of a Parquet file (.parquet, .pq). Ids may be strings or
            numbers with gaps; in a CSV file they are numbers only where nothing is lost by it
            ("007" stays a string), in a Parquet file what they are there. Each (user, item) pair
            stands once.
        user: name of the column of user ids.
        item: name of the column of item ids.
        rating: name of the column of ratings: finite numbers, on any scale.
        timestamp: name of a column to keep as `timestamp`, as it is; in a CSV file text where not
            all of it are numbers; None for none.
        sep: what stands between the fields of a CSV file.
        encoding: of a CSV file.
        progress: whether to show a bar on standard error while a file is read; None if that is a
            terminal.

    Returns:
        A `MovieLens` whose 0-based ids follow the sorted original ids; `movies.title` is the
        original id as text. Columns not named here are left out.

    Raises:
        ValueError: if a column is missing, the table is empty, an id is missing, a rating is not a
            finite number or a pair stands twice, or if ids of a CSV file hold line breaks or differ
            by blanks around them alone; the message names the column, row (from 0, through the
            whole file) and value. Or if the file is damaged or of another kind.
        FileNotFoundError: if there is no such file.

    Cost: O(n log n) time for n ratings. Memory O(n): the frame takes 24 bytes per rating, 32 with a
    numeric timestamp. Files are read a million rows at a time; with 25 million ratings by 162,000
    users the peak was 49 to 56 bytes per rating, 65 to 86 with a timestamp.
    """
    columns = {user: "user", item: "item", rating: "rating"}
    if timestamp is not None:
        columns[timestamp] = "timestamp"
    if len(columns) < 3 + (timestamp is not None):
        raise ValueError(
            "user, item, rating and timestamp should be different columns. "
            f"Received: {user!r}, {item!r}, {rating!r}, {timestamp!r}"
        )
    is_csv, source, counted = False, "table", " (counted from 0, below the header)"
    read_csv = functools.partial(_read_csv, table, columns, {"sep": sep, "encoding": encoding})
    if isinstance(table, pd.DataFrame):
        chunks, total, counted = [table], len(table), ""
    elif not _can_be_read(table):
        raise FileNotFoundError(
            f"table should be a frame or the path of a file. Received: {str(table)!r}, which is "
            f"none in {pathlib.Path.cwd()}. Give its path from there, or the whole path."
        )
    elif str(table).lower().endswith((".parquet", ".pq")):
        source = f"pandas.read_parquet({str(table)!r})"
        chunks, total = _read_parquet(pathlib.Path(table).expanduser(), columns)
    else:
        is_csv, total = True, None
        chunks = read_csv({user: str, item: str})
    users, items, values, times, labels, faults = _Ids(), _Ids(), [], [], [], {}
    with _progress.bar(total, "row", progress) as bar:
        for chunk in chunks:
            _check_columns(chunk.columns, columns)
            for column in (user, item):
                _note(faults, chunk[column].isna(), chunk, column, "should not be missing")
            values.append(_as_floats(chunk[rating]))
            _note(faults, ~np.isfinite(values[-1]), chunk, rating, "should be a finite number")
            users.add(chunk[user])
            items.add(chunk[item])
            labels.append(chunk.index)
            if timestamp is not None:
                times.append(chunk[timestamp])
            bar.update(len(chunk))
    if not sum(map(len, values)):
        raise ValueError("table should have at least one rating. Received: an empty table")
    for column in (user, item, rating):
        _raise(faults, column, counted)
    users, items = (
        ids.numbered(name, is_csv) for ids, name in zip((users, items), (user, item), strict=True)
    )
    ratings = {"user_id": users[0], "movie_id": items[0], "rating": np.concatenate(values)}
    values.clear()
    if timestamp is not None:
        if is_csv and not (len(kinds := {part.dtype for part in times}) == 1 or kinds <= _NUMBERS):
            # As in one read of the whole file, a column that is not all numbers is text.
            times = [part[timestamp] for part in read_csv({timestamp: str})]
        times = pd.concat(times) if times[1:] else times[0]
        ratings["timestamp"] = times.reset_index(drop=True)
    keys = users[0] * len(items[1]) + items[0]
    ordered = keys if (keys[1:] > keys[:-1]).all() else np.sort(keys)
    if (ordered[1:] == ordered[:-1]).any():
        row = int(np.argmax(pd.Series(keys).duplicated()))
        pair = users[1][users[0][row]], items[1][items[0][row]]
        raise ValueError(
            f"(user, item) pairs should be unique. Received: ({pair[0]}, {pair[1]}) again "
            f"in row {labels[0].append(labels[1:])[row]}{counted}. To keep the last of each, "
            + (
                f"load 'once.csv' after pandas.read_csv({str(table)!r}, dtype=str, sep={sep!r}, "
                f"encoding={encoding!r}, keep_default_na=False).drop_duplicates([{user!r}, "
                f"{item!r}], keep='last').to_csv('once.csv', index=False, sep={sep!r}, "
                f"encoding={encoding!r})"
                if is_csv
                else f"pass {source}.drop_duplicates([{user!r}, {item!r}], keep='last')"
            )
        )
    del keys, ordered
    users, items = users[1], items[1]
    return MovieLens(
        users=pd.DataFrame({"user_id": range(len(users)), "original_id": users}),
        movies=pd.DataFrame(
            {"movie_id": range(len(items)), "original_id": items, "title": items.astype(str)}
        ),
        ratings=pd.DataFrame(ratings, copy=False),
    )


def split_ratings(ratings, *, test_fraction=0.1, seed):
    """Splits ratings at random, row by row, into a training and a test frame.

    Args:
        ratings: a frame with one row per rating.
        test_fraction: share of the rows that go to the test frame, between 0 and 1; rounded to the
            nearest whole number of rows.
        seed: an integer; the same seed gives the same split.

    Returns:
        `(train, test)`, disjoint, together all rows; each in the order of `ratings` with a new
        index. Some users and movies may have no row in one of them, so pass `num_users` and
        `num_items` on explicitly.

    Raises:
        ValueError: if `test_fraction` leaves one of the two frames empty.

    Cost: O(n) time and memory for n ratings.
    """
    num_test = round(test_fraction * len(ratings)) if 0 < test_fraction < 1 else 0
    if not 0 < num_test < len(ratings):
        raise ValueError(
            "test_fraction should lie between 0 and 1 and leave ratings on both sides. "
            f"Received: {test_fraction} of {len(ratings)} ratings"
        )
    rows = pd.Series(np.arange(len(ratings))).sample(num_test, random_state=seed)
    is_test = np.zeros(len(ratings), dtype=bool)
    is_test[rows] = True
    return (
        ratings[~is_test].reset_index(drop=True),
        ratings[is_test].reset_index(drop=True),
    )


def rating_stats(ratings, by, num_rows):
    """Counts and means of the ratings per user or per movie.

    Args:
        ratings: a frame with the column `rating` and the column named by `by`.
        by: `"user_id"` or `"movie_id"`.
        num_rows: number of users or movies, with or without ratings.

    Returns:
        A frame whose row i is id i: `num_ratings` and `mean_rating`, which is NaN without a
        rating.

    Raises:
        ValueError: if an id or a rating is missing, or an id is not in 0..num_rows-1.

    Cost: O(n + num_rows) time and memory for n ratings, and a sort of the ids that occur.
    """
    for column in (by, "rating"):
        _refuse(ratings[column].isna(), ratings, column, "should not be missing")
    groups = ratings.groupby(by)["rating"]
    stats = pd.DataFrame({"num_ratings": groups.size(), "mean_rating": groups.mean()})
    outside = stats.index.difference(range(num_rows))
    if len(outside):
        raise ValueError(f"{by} should lie in 0..{num_rows - 1}. Received: {outside[0]}")
    stats = stats.reindex(range(num_rows))
    stats["num_ratings"] = stats["num_ratings"].fillna(0).astype("int64")
    return stats.rename_axis(by)


def movie_features(data):
    """What movies are made up of, for models that embed genres and years beside the movie itself.

    Args:
        data: a `MovieLens` whose movies have the column `genres` or `year` or both.

    Returns:
        A dict of float32 arrays with one row per movie: `genres` [M, number of genres], the genres
        in alphabetical order and 1/n for each of a movie's n; `decade` [M, number of decades], the
        earliest first and 1 for the movie's. A row of zeros where it is missing.

    Raises:
        ValueError: if the movies have neither.

    Cost: O(M (genres + decades)) time and memory.
    """
    features = {}
    if "genres" in data.movies:
        lists = data.movies["genres"]
        names = sorted({genre for genres in lists for genre in genres})
        features["genres"] = np.array(
            [[(name in genres) / max(1, len(genres)) for name in names] for genres in lists],
            dtype="float32",
        )
    if "year" in data.movies:
        decades = data.movies["year"].astype("float64") // 10
        known = np.arange(decades.min(), decades.max() + 1)
        features["decade"] = np.equal.outer(decades.to_numpy(), known).astype("float32")
    if not features:
        raise ValueError(
            "data.movies should have the column genres (lists) or year (numbers). Received: "
            f"{list(data.movies.columns)}. Without them, train on the movies alone."
        )
    return features


def save_embeddings(path, embeddings, frame):
    """Writes embeddings and what their rows stand for as a pair of files that viewers read.

    `<path>_vectors.tsv` has one line per embedding, `<path>_metadata.tsv` one per row of the frame,
    below a header line if there is more than one column: the format of the TensorFlow Embedding
    Projector. Fields are separated by tabs and never quoted. The numbers are those of float32, to
    the last bit. Tabs and line breaks in a text become blanks and a list is joined by "|"; what is
    missing is empty.

    Args:
        path: where to, and how the two names begin: "out/books" gives out/books_vectors.tsv.
        embeddings: array [n, d] of a model, `user_embeddings` or `item_embeddings`.
        frame: n rows in the same order, for example `data.users`, `data.movies` or some of their
            columns.

    Returns:
        The paths of the two files. They are replaced at once: there is never half a file, nor a new
        one beside an old one.

    Raises:
        ValueError: if the rows don't match, a number is not finite, a row has nothing but blanks
            (viewers would skip it), or a column `..._id` has a tab or line break in it.
        FileNotFoundError: if the folder does not exist.

    Cost: O(n d), about a microsecond per number.
    """
    path = pathlib.Path(path).expanduser()
    if not path.name or not path.parent.is_dir():
        raise FileNotFoundError(
            f"path should be a name in a folder that exists. Received: {path}. "
            "Make the folder first: pathlib.Path(...).mkdir(parents=True)."
        )
    values = np.asarray(embeddings)
    if values.ndim != 2 or len(values) != len(frame) or not values.size:
        raise ValueError(
            f"embeddings should have shape [{len(frame)}, d], one row per row of frame. Received: "
            f"{list(values.shape)}. Items go with data.movies, users with data.users."
        )
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and refused below
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(
            "embeddings should be finite numbers in float32. "
            f"Received: {values[row, column]} in row {row}, column {column}"
        )
    lines = _metadata(frame)
    vectors = ["\t".join(map(str, row)) for row in values]
    files = [path.with_name(f"{path.name}_{part}.tsv") for part in ("vectors", "metadata")]
    contents = ["".join(f"{line}\n" for line in part).encode() for part in (vectors, lines)]
    replace_files(dict(zip(files, contents, strict=True)))
    return tuple(files)


def _metadata(frame):
    """The lines of a table of texts, below a header if there is more than one column."""
    columns = []
    for name, column in frame.items():
        texts = pd.Series([_as_text(value) for value in column], frame.index, dtype=object)
        if str(name).endswith("_id"):
            broken = texts.map(lambda text: bool(_BREAKS.search(text))).astype(bool)
            _refuse(broken, frame, name, "should hold no tab or line break; rename it")
        columns.append([_BREAKS.sub(" ", text) for text in texts])
    lines = ["\t".join(fields) for fields in zip(*columns, strict=True)] or [""] * len(frame)
    for row, line in enumerate(lines):
        if re.fullmatch(r"[\s\ufeff]*", line):
            raise ValueError(
                f"frame should have a text in each row. Received: nothing but blanks in row {row}. "
                "Add a column of ids."
            )
    header = ["\t".join(_BREAKS.sub(" ", str(name)) for name in frame.columns)]
    return header + lines if len(columns) > 1 else lines


def _as_text(value):
    if isinstance(value, (list, tuple, np.ndarray)):
        return "|".join(map(str, value))
    return "" if pd.isna(value) else str(value)


class _Ids:
    """A column of ids that comes in chunks: those of each chunk, and their places in its rows."""

    def __init__(self):
        self.values, self.codes = [], []

    def add(self, column):
        codes, distinct = pd.factorize(column)
        self.values.append(distinct)
        self.codes.append(codes.astype(np.int32))

    def numbered(self, name, as_text):
        """The ids counted from 0 in their order [n], int64, and the sorted values."""
        values = self.values[0].append(self.values[1:]) if self.values[1:] else self.values[0]
        if as_text:
            values = pd.Index(_as_numbers_if_lossless(values.to_series()))
        places, distinct = pd.factorize(values, sort=True)
        if as_text and distinct.dtype.kind != "i":
            _check_ids(name, distinct)
        if distinct.dtype == object:
            texts = pd.Series([str(value) for value in distinct])
            if texts.duplicated().any():
                raise ValueError(
                    f"{name} should not hold an id both as text and as something else. Received: "
                    f"{texts[texts.duplicated()].iloc[0]!r} twice. Make all of them text: "
                    f"frame[{name!r}].astype(str)."
                )
        numbers, row, start = np.empty(sum(map(len, self.codes)), np.int64), 0, 0
        for codes, ids in zip(self.codes, self.values, strict=True):
            numbers[row : row + len(codes)] = places[start : start + len(ids)][codes]
            row, start = row + len(codes), start + len(ids)
        self.codes.clear()
        return numbers, distinct


def _check_ids(column, ids):
    """Refuse texts of a CSV file that are surely not meant as ids of their own."""
    seen = {}
    for text in ids:
        if "\n" in text:
            raise ValueError(
                f"{column} should hold no line break. Received: {text[:60]!r}. A quote that is not "
                "closed? Mend the file there."
            )
        other = seen.setdefault(text.strip(), text)
        if other != text:
            raise ValueError(
                f"{column} should not differ by blanks alone. Received: {other!r} and {text!r}. "
                "Take the blanks off in the file."
            )


def _check_columns(names, columns):
    for column, role in columns.items():
        if column not in names:
            raise ValueError(
                f"{role}={column!r} should be a column of the table. Its columns: "
                f"{', '.join(map(repr, names)) or 'none'}. Name the column, or, where the fields "
                "of a CSV file are not separated by commas, what separates them: sep=';'."
            )
        if list(names).count(column) > 1:
            raise ValueError(f"{role}={column!r} should be one column. Received: several of it")


def _as_floats(ratings):
    """Ratings as a float64 series; what is not a number is NaN."""
    if ratings.dtype.kind in "mMc":
        raise ValueError(f"{ratings.name} should hold real numbers. Received: {ratings.dtype}")
    return pd.to_numeric(ratings, errors="coerce").astype("float64")


def _read_parquet(path, columns):
    """The columns of a Parquet file as frames of up to `_ROWS` rows, and the number of rows."""
    import pyarrow.parquet  # slow to import, and seldom needed

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} should be a Parquet file. Received: {error}") from error
    _check_columns(file.schema_arrow.names, columns)

    def chunks():
        start = 0
        try:
            with file:
                for batch in file.iter_batches(batch_size=_ROWS, columns=list(columns)):
                    frame = batch.to_pandas().reset_index()  # what was the index is a column again
                    for name, column in frame.items():
                        if isinstance(column.dtype, pd.CategoricalDtype):  # others in each batch
                            frame[name] = column.astype(column.cat.categories.dtype)
                    yield frame.set_axis(pd.RangeIndex(start, start + len(frame)))
                    start += len(frame)
        except (OSError, pyarrow.ArrowException) as error:
            raise ValueError(f"{path} should be a whole Parquet file. Received: {error}") from error
        pyarrow.default_memory_pool().release_unused()

    return chunks(), file.metadata.num_rows


def _read_csv(path, columns, form, dtypes):
    """A CSV file as frames of up to `_ROWS` rows; `dtypes` says which columns are read as text."""
    missing = {name: [""] for name in columns}
    missing.update(
        {name: ["", "NA", "NaN", "nan", "null"] for name in columns if columns[name] == "rating"}
    )
    options = form | {"dtype": dtypes, "keep_default_na": False, "na_values": missing}
    options |= {"index_col": False, "low_memory": False}  # each chunk in one piece
    try:
        with pd.read_csv(path, chunksize=_ROWS, **options) as chunks:
            while True:
                with warnings.catch_warnings():  # pandas only warns of what it then cuts off
                    warnings.simplefilter("error", pd.errors.ParserWarning)
                    chunk = next(chunks, None)
                if chunk is None:
                    return
                yield chunk
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} should be in {form['encoding'].upper()}. Received: {error}. Name its "
            "encoding, for example encoding='cp1252', or save it as UTF-8."
        ) from error
    except pd.errors.ParserWarning:
        problem = "lines with more fields than the header has names"
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        problem = error
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        problem = error
    raise ValueError(
        f"{path} should be a CSV file with a header line and as many fields in each line. "
        f"Received: {problem}. A text that holds the separator belongs between two quotes; "
        "another separator is named by sep=';'."
    )


def _can_be_read(path):
    """Whether a path leads to something to read, here or at an address that pandas opens."""
    local = pathlib.Path(str(path)).expanduser()
    return "://" in str(path) or (local.exists() and not local.is_dir())


def _as_numbers_if_lossless(ids):
    """Ids read as text, as integers if each of them is written as one."""
    if not ids.str.fullmatch(r"0|-?[1-9][0-9]{0,17}").all():
        return ids
    return ids.astype("int64")


def _refuse(bad, table, column, rule):
    """Raise on the first bad row."""
    faults = {}
    _note(faults, bad, table, column, rule)
    _raise(faults, column)


def _note(faults, bad, table, column, rule):
    """Keep what is wrong with a column of (a chunk of) a table: the first bad row, and how many."""
    if bad.any():
        position = int(np.argmax(bad.to_numpy()))
        first = rule, table[column].iloc[position], table.index[position]
        first, count = faults.get(column, (first, 0))
        faults[column] = first, count + int(bad.sum())


def _raise(faults, column, counted=""):
    if column in faults:
        (rule, value, row), count = faults[column]
        more = f", the first of {count} such rows" if count > 1 else ""
        raise ValueError(f"{column} {rule}. Received: {value} in row {row}{counted}{more}")


# Reading ------------------------------------------------------------------------------------------


def _read(path):
    """Reads and checks a folder (itself, or its `ml-100k`) or a zip file."""
    if path.is_file():
        with tempfile.TemporaryDirectory(prefix="cfutils-") as folder:
            _unzip(path, pathlib.Path(folder))
            return _read_folder(pathlib.Path(folder), origin=path)
    places = [place for place in (path, path / "ml-100k") if _holds_data(place)]
    if not places:
        raise DataError(
            f"{path} should be a folder or zip file that holds MovieLens 100K "
            f"({', '.join(_GROUPLENS)}). Received: "
            + ("a folder without them" if path.is_dir() else "no such folder or file")
        )
    for place in places[:-1]:
        with contextlib.suppress(DataError):
            return _read_folder(place, origin=place)
    return _read_folder(places[-1], origin=places[-1])


def _holds_data(folder):
    return any((folder / name).exists() for name in _GROUPLENS + _RECBOLE)


def _read_folder(folder, origin):
    recbole = any((folder / name).exists() for name in _RECBOLE)
    names, reader = (_RECBOLE, _read_recbole) if recbole else (_GROUPLENS, _read_grouplens)
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise DataError(f"{origin} should hold the files {', '.join(names)}. Missing: {absent[0]}")
    try:
        users, movies, ratings = reader(folder)
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{origin} can't be read as MovieLens 100K: {error}") from error
    received = _fingerprint(users, movies, ratings)
    if received != FINGERPRINT:
        raise DataError(
            f"{origin} differs from MovieLens 100K: it has {len(users)} users, {len(movies)} "
            f"movies and {len(ratings)} ratings with fingerprint {received[:12]}, which should be "
            f"{FINGERPRINT[:12]}. Take a fresh copy of ml-100k.zip from {PAGE}"
        )
    return _assemble(users, movies, ratings)


def _read_grouplens(folder):
    ratings = pd.read_csv(
        folder / "u.data", sep="\t", names=["user", "item", "rating", "timestamp"], dtype="int64"
    )
    read = functools.partial(
        pd.read_csv, sep="|", encoding="latin-1", header=None, quoting=3, keep_default_na=False
    )
    users = read(folder / "u.user", names=_USER_COLUMNS, dtype={"zip_code": str})
    unused = ["released", "video", "url"]
    items = read(folder / "u.item", names=["original_id", "title", *unused, *GENRES])
    genres = [[GENRES[g] for g in np.flatnonzero(row)] for row in items[GENRES].to_numpy()]
    movies = items[["original_id"]].assign(title=items["title"].str.strip(), genres=genres)
    return users, movies, ratings


def _read_recbole(folder):
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


def _fingerprint(users, movies, ratings):
    """A digest of the frames' contents, independent of how any source writes them."""
    digest = hashlib.sha256()
    for frame in (users, movies.assign(genres=movies["genres"].str.join("|")), ratings):
        digest.update(frame.to_csv(index=False, lineterminator="\n").encode())
    return digest.hexdigest()


def _assemble(users, movies, ratings):
    """Turns the ids of the files into 0-based ids and adds what the files only imply."""
    users = users.sort_values("original_id", ignore_index=True)
    movies = movies.sort_values("original_id", ignore_index=True)
    years = movies["title"].str.extract(r"\((\d{4})\)(?: \(V\))?$", expand=False)
    indicators = pd.DataFrame(
        {genre: [int(genre in genres) for genres in movies["genres"]] for genre in GENRES}
    )
    counts = indicators.sum()
    movies = movies.assign(
        year=years.astype("Int64"),
        genre=[min(genres, key=lambda g: (counts[g], g)) for genres in movies["genres"]],
    )[["original_id", "title", "year", "genres", "genre"]]
    return MovieLens(
        users=users.rename_axis("user_id").reset_index(),
        movies=pd.concat([movies, indicators], axis=1).rename_axis("movie_id").reset_index(),
        ratings=pd.DataFrame(
            {
                "user_id": users["original_id"].searchsorted(ratings["user"]),
                "movie_id": movies["original_id"].searchsorted(ratings["item"]),
                "rating": ratings["rating"].astype("float64"),
                "timestamp": pd.to_datetime(ratings["timestamp"], unit="s"),
            }
        ),
    )


# Fetching -----------------------------------------------------------------------------------------


def _fill(folder):
    """Fetches the data into `folder`/ml-100k; the caller holds the lock."""
    for leftover in folder.glob(".fetch-*"):
        shutil.rmtree(leftover)  # of a process that was killed: whoever holds the lock owns it
    try:
        return _read(folder)  # another process was faster
    except DataError as error:
        problem = error
    places = [place for place in (folder, folder / "ml-100k") if _holds_data(place)]
    sources = [(url, functools.partial(_download, url)) for url in URLS]
    sources.append((f"{WHEEL} from the Python package index", _download_wheel))
    by_hand = folder / "ml-100k.zip"
    if by_hand.exists():
        sources.insert(0, (str(by_hand), lambda target: by_hand))
    failures = [str(problem)] if places else []
    for name, fetch in sources:
        scratch = pathlib.Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
        try:
            unpacked = scratch / "ml-100k"
            unpacked.mkdir()
            _unzip(fetch(scratch), unpacked)
            data = _read_folder(unpacked, origin=name)
            aside = _set_aside(folder)
            os.replace(unpacked, folder / "ml-100k")
            if places:
                warnings.warn(
                    f"{problem} What was there now lies in {aside}; a fresh copy is in its place.",
                    stacklevel=3,
                )
            return data
        except (DataError, OSError, subprocess.SubprocessError) as error:
            failures.append(f"{name}: {' '.join(str(error).split())[:300]}")
            tqdm.write(f"Not from {failures[-1]}", file=sys.stderr)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    raise DataError(
        "MovieLens 100K could not be fetched. Tried:\n- "
        + "\n- ".join(failures)
        + f"\nWhat helps: connect to the internet and try again; or download ml-100k.zip from "
        f"{PAGE} by any other way and put it into {folder}; or set CFUTILS_DATA to a folder "
        "that holds its files (u.data, u.item, u.user)."
    )


def _download(url, target):
    import pooch  # slow to import, and seldom needed

    pooch.get_logger().setLevel("ERROR")
    bar = tqdm(desc=url, unit="B", unit_scale=True, total=1)  # pooch puts the real total
    downloader = pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT)
    with bar:
        return pathlib.Path(
            pooch.retrieve(url, known_hash=None, fname="ml.zip", path=target, downloader=downloader)
        )


def _download_wheel(target):
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    options = ["--quiet", "--disable-pip-version-check", "--retries=1", f"--dest={target}"]
    with tqdm(desc=f"{WHEEL} from the Python package index", total=1, unit="file") as bar:
        done = subprocess.run(
            [*command, *options, WHEEL], capture_output=True, text=True, timeout=LOCK_TIMEOUT
        )
        if done.returncode != 0:
            raise DataError(done.stderr.strip() or f"pip ended with {done.returncode}")
        bar.update()
    return next(target.glob("*.whl"))


def _unzip(archive, target):
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


def _set_aside(folder):
    """Moves what is in the way of a fresh copy to a new folder; returns it, or None if nothing."""
    in_the_way = [folder / name for name in _GROUPLENS + _RECBOLE if (folder / name).exists()]
    old = folder / "ml-100k"
    if old.exists():
        in_the_way += old.iterdir()
    if not in_the_way:
        return None
    number = next(n for n in itertools.count(1) if not (folder / f"ml-100k.altered-{n}").exists())
    aside = folder / f"ml-100k.altered-{number}"
    aside.mkdir()
    for path in in_the_way:
        place = aside / path.parent.name if (aside / path.name).exists() else aside
        place.mkdir(exist_ok=True)
        os.replace(path, place / path.name)
    return aside


if __name__ == "__main__":
    try:
        loaded = load_movielens()
    except DataError as problem:
        sys.exit(str(problem))
    print(
        f"MovieLens 100K lies in {data_folder()}: {loaded.num_users} users, "
        f"{loaded.num_items} movies, {len(loaded.ratings)} ratings."
    )

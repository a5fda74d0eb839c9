"""Any table of ratings becomes a `Dataset`: frames, CSV and Parquet files, ids of any kind."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import os
import pathlib
import urllib.request
import zipfile
import zlib
from typing import Any

import numpy as np
import pandas as pd

from cfutils.data import Dataset, as_floats, check_pairs, refuse_rows

__all__ = ["load_ratings"]

_MISSING = ("", "NA", "NaN", "nan", "null")
_UNPACK: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def load_ratings(
    table: pd.DataFrame | str | os.PathLike,
    *,
    user: str = "user_id",
    item: str = "item_id",
    rating: str = "rating",
    timestamp: str | None = None,
    sep: str = ",",
    encoding: str = "utf-8",
) -> Dataset:
    """Loads a table of ratings with ids of any kind.

    Args:
        table: a frame, or the path of a CSV file with a header line (also .gz, .bz2, .xz, .zip, or
            at an address) or of a Parquet file (.parquet, .pq). Ids may be texts or numbers with
            gaps; in a CSV file they are numbers only where nothing is lost by it ("007" stays a
            text), elsewhere what they are there. Each (user, item) pair stands once.
        user: name of the column of user ids.
        item: name of the column of item ids.
        rating: name of the column of ratings: finite numbers, on any scale.
        timestamp: name of a column to keep as `timestamp`; None for none.
        sep: the character between the fields of a CSV file.
        encoding: of a CSV file.

    Returns:
        A `Dataset` whose row numbers follow the sorted ids; a title is the id as text. Columns not
        named here are left out.

    Raises:
        ValueError: if a column is missing, the table is empty or damaged, an id is missing, a
            rating is not a finite number, or a pair stands twice; the message names column, row
            (from 0, below the header) and value.
        FileNotFoundError: if there is no such file.

    Time O(n log n) for n ratings. The result takes 24 bytes per rating, 32 with a timestamp; the
    peak while loading 25 million ratings is in the README.
    """
    names = {"user": user, "item": item, "rating": rating}
    if timestamp is not None:
        names["timestamp"] = timestamp
    if len(set(names.values())) < len(names):
        raise ValueError(
            f"user, item, rating and timestamp should be different columns. Received: {names}."
        )
    if not isinstance(table, pd.DataFrame):
        table, texts = _read_file(table, names, sep, encoding)
    else:
        _check_names(list(table.columns), names, "")
        texts = False
    if not len(table):
        raise ValueError("table should have at least one rating. Received: an empty table.")
    users, user_ids = _numbered(user, table[user], texts)
    items, item_ids = _numbered(item, table[item], texts)
    values = as_floats(table[rating], rating)
    if not np.isfinite(values).all():
        given = table[rating].to_numpy()
        rule = f"{rating} should be a finite number"
        remedy = "Drop the row, or, for decimal commas, read it by pandas with decimal=','."
        refuse_rows(~np.isfinite(values), given, rule, remedy)
    # A column of the right kind is shared with the table, and copied by pandas if it changes.
    shared = {} if timestamp is None else {"timestamp": table[timestamp].reset_index(drop=True)}
    if table[rating].dtype == "float64":
        values = table[rating].reset_index(drop=True)
    del table  # of large data every copy counts
    check_pairs(
        users,
        items,
        values,
        (len(user_ids), len(item_ids)),
        columns=(user, item, rating),
        ids=(user_ids, item_ids),
        remedy=f"Keep the last of each: load the table as a frame and pass frame.drop_duplicates("
        f"[{user!r}, {item!r}], keep='last').",
    )
    ratings = {"user_num": users, "item_num": items, "rating": values} | shared
    return Dataset._of_checked(
        users=pd.DataFrame({"user_id": user_ids}).rename_axis("user_num"),
        items=pd.DataFrame({"item_id": item_ids, "title": item_ids.astype(str)}).rename_axis(
            "item_num"
        ),
        ratings=pd.DataFrame(ratings, copy=False),
    )


def _numbered(name: str, column: pd.Series, texts: bool) -> tuple[np.ndarray, pd.Index]:
    """The rows of ids counted from 0 in their order, int64 [n], and the sorted ids.

    `texts` says that the ids come from a file of texts, where numbers have to be told apart.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, values = column.cat.codes.to_numpy(), column.cat.categories
    else:
        codes, values = pd.factorize(column)
        values = pd.Index(values)
    bad = codes < 0
    if texts:
        bad |= np.append(values == "", False)[codes]
    if bad.any():
        refuse_rows(bad, column.astype(object).to_numpy(), f"{name} should not be missing")
    used = np.bincount(codes, minlength=len(values)) > 0
    kept = _told_apart(name, values[used]) if texts else values[used]
    again = kept.astype(str).duplicated()
    try:
        if again.any():
            raise TypeError(f"{str(kept[again][0])!r} twice, as text and as something else")
        places, ids = pd.factorize(kept, sort=True)
    except TypeError as error:
        raise ValueError(
            f"{name} should hold ids of one kind. Received: {error}. Make all of them text: "
            f"frame[{name!r}].astype(str)."
        ) from None
    rows = np.full(len(values), -1)
    rows[used] = places
    return rows[codes], ids


def _told_apart(name: str, ids: pd.Index) -> pd.Index:
    """Ids of a text file: as integers if nothing is lost by it, else texts that were meant."""
    if ids.str.fullmatch(r"0|-?[1-9][0-9]{0,17}").all():
        return ids.astype("int64")
    broken = ids[ids.str.contains("\n")]
    if len(broken):
        raise ValueError(
            f"{name} should hold no line break. Received: {broken[0][:60]!r}. A quote that is not "
            "closed? Mend the file there."
        )
    again = ids[ids.str.strip().duplicated(keep=False)]
    if len(again):
        same = again[again.str.strip() == again[0].strip()]
        raise ValueError(
            f"{name} should not differ by blanks alone. Received: {same[0]!r} and {same[1]!r}. "
            "Take the blanks off in the file."
        )
    return ids


# Files --------------------------------------------------------------------------------------------


def _read_file(path: Any, names: dict[str, str], sep: str, encoding: str) -> tuple:
    """The named columns of a file as a frame, and whether its ids come as texts."""
    import pyarrow  # slow to import, and not needed for frames

    name = str(path)
    local = pathlib.Path(name).expanduser()
    if "://" not in name and not local.is_file():
        raise FileNotFoundError(
            f"table should be a frame or the path of a file. Received: {name!r}, which is none in "
            f"{pathlib.Path.cwd()}. Give its path from there, or the whole path."
        )
    parquet = name.lower().endswith((".parquet", ".pq"))
    read = _read_parquet if parquet else functools.partial(_read_csv, sep=sep, encoding=encoding)
    try:
        table = read(name if "://" in name else local, names)
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{name} should be a whole file. Received: {error}.") from error
    frame = table.to_pandas(split_blocks=True, self_destruct=True)
    del table
    pyarrow.default_memory_pool().release_unused()
    return frame, not parquet


def _read_parquet(path: Any, names: dict[str, str]) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check_names(file.schema_arrow.names, names, "")
            table = file.read(columns=list(names.values()))
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path} should be a whole Parquet file. Received: {error}.") from error
    for role in ("user", "item"):
        at = table.column_names.index(names[role])
        table = table.set_column(at, names[role], table.column(at).dictionary_encode())
    return table.unify_dictionaries().replace_schema_metadata()


def _read_csv(path: Any, names: dict[str, str], sep: str, encoding: str) -> Any:
    import pyarrow
    import pyarrow.csv

    if not isinstance(sep, str) or len(sep) != 1:
        raise ValueError(f"sep should be one character. Received: {sep!r}. Replace it in the file.")
    form = pyarrow.csv.ReadOptions(encoding=encoding)
    parse = pyarrow.csv.ParseOptions(delimiter=sep)
    text = pyarrow.string()
    kinds = dict.fromkeys(
        (names["user"], names["item"]), pyarrow.dictionary(pyarrow.int32(), text)
    ) | {names["rating"]: pyarrow.float64()}

    def read(kinds):
        convert = pyarrow.csv.ConvertOptions(
            column_types=kinds, include_columns=list(names.values()), null_values=_MISSING
        )
        with _opened(path) as file:
            return pyarrow.csv.read_csv(file, form, parse, convert).unify_dictionaries()

    try:
        with _opened(path) as file:
            header = pyarrow.csv.open_csv(file, form, parse).schema.names
        other = next((mark for mark in ";\t|, " if len(header) == 1 and mark in header[0]), None)
        _check_names(header, names, f" Or name what separates the fields: sep={other!r}.")
        try:
            return read(kinds)
        except pyarrow.ArrowInvalid as error:
            if "conversion error" not in str(error):
                raise
            rest = dict.fromkeys(list(names.values())[2:], text)  # which row it is, is seen later
            return read(kinds | rest)
    except (UnicodeError, LookupError, pyarrow.ArrowException) as error:
        about = " ".join(str(error).split())
    if "UTF8" in about or "codec" in about or "encoding" in about:
        remedy = "Name its encoding, for example encoding='cp1252', or save it as UTF-8."
    else:
        remedy = "A text that holds the separator belongs between two quotes."
    raise ValueError(
        f"{path} should be a CSV file with a header line and as many fields in each line, in "
        f"{encoding.upper()}. Received: {about}. {remedy}"
    )


def _opened(path: Any) -> Any:
    """A file to read bytes from, unpacked; here or at an address."""
    name = str(path)
    if "://" in name:
        file = urllib.request.urlopen(name, timeout=60)
    elif not name.lower().endswith((*_UNPACK, ".zip")):
        return open(path, "rb")
    else:
        file = path
    if name.lower().endswith(".zip"):
        archive = zipfile.ZipFile(io.BytesIO(file.read()) if "://" in name else file)
        inside = [entry for entry in archive.namelist() if not entry.endswith("/")]
        if len(inside) != 1:
            raise ValueError(f"{name} should hold one file. Received: {inside}. Unpack it.")
        return archive.open(inside[0])
    unpack = _UNPACK.get(pathlib.PurePath(name.lower()).suffix)
    return unpack(file) if unpack else file


def _check_names(found: list[Any], names: dict[str, str], also: str) -> None:
    """Each column that was named is there, once."""
    for role, column in names.items():
        if found.count(column) != 1:
            raise ValueError(
                f"{role}={column!r} should be a column of the table, once. Received the columns: "
                f"{', '.join(map(repr, found)) or 'none'}. Name the column."
                + (also if len(found) == 1 else "")
            )

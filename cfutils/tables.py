"""Any table of ratings becomes a `Dataset`, with what is known of its items and users."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from cfutils import _checks, _reading
from cfutils.data import Dataset, as_floats, check_pairs, refuse_rows

__all__ = ["load_ratings"]

Table: TypeAlias = pd.DataFrame | str | os.PathLike | Any  # Any: whatever gives an Arrow table
_INTEGER = r"0|-?[1-9][0-9]{0,17}"
_NO_GENRES = "(no genres listed)"  # as MovieLens says it


def load_ratings(
    ratings: Table,
    *,
    items: Table | None = None,
    users: Table | None = None,
    user: str = "user_id",
    item: str = "item_id",
    rating: str | None = "rating",
    timestamp: str | None = None,
    title: str | None = "title",
    genres: str | None = "genres",
    year: str | None = "year",
    genre_sep: str = "|",
    unrated: str = "keep",
    duplicates: str = "error",
    sep: str = ",",
    encoding: str = "utf-8",
    names: Sequence[str] | None = None,
    quoting: bool | None = None,
    decimal: str = ".",
    thousands: str | None = None,
) -> Dataset:
    """Loads a table of ratings with ids of any kind, and tables of its items and users.

    A table is a frame, an Arrow table (or what gives one: Polars, DuckDB), or the path or address
    of a file: text with a line for each row, JSON lines, Parquet or a folder of Parquet files, told
    apart by what they hold; also compressed (gzip, bzip2, xz, zstd, zip).

    Args:
        ratings: one row per rating. Ids may be texts or numbers with gaps; in text files they are
            numbers only where nothing is lost by it ("007" stays a text).
        items, users: what else is known, joined by id. All of their columns are kept.
        user, item, rating, timestamp: names of the columns; `rating=None` makes every row a 1.
        title, genres, year: names of columns of `items`, None for none. A missing title is the id
            as text. Genres are lists, or texts that `genre_sep` splits.
        unrated: "keep" or "drop" items and users without ratings that stand in their tables.
        duplicates: what becomes of a pair rated more than once: "error", "last" (by `timestamp` if
            named, else by row), "mean", or "sum", which suits plays and purchases. `timestamp` is
            then that of the last.
        sep, encoding, decimal, thousands: how text files are written.
        names: the columns of `ratings`, in their order, if the file has no header line.
        quoting: whether a quote at the start of a field opens a text that may hold separators.
            True lets it hold line breaks too; None refuses them, since a quote that is a letter
            would join lines unnoticed; False takes quotes as letters.

    Returns:
        A `Dataset` whose row numbers follow the sorted ids.

    Raises:
        ValueError: if a column is missing, a table is empty or damaged, an id is missing, a rating
            is not a finite number, or a pair stands twice; the message names column, row (from 0,
            below the header) and value.
        FileNotFoundError: if there is no such file.

    Time O(n log n) for n ratings. The result takes 24 bytes per rating, 32 with a timestamp; the
    peak while loading 25 million ratings is in the README.
    """
    roles = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
    named = [column for column in roles.values() if column is not None]
    if len(set(named)) < len(named):
        raise ValueError(
            f"user, item, rating and timestamp should be different columns. Received: {roles}."
        )
    _one_of("unrated", unrated, "keep", "drop")
    _one_of("duplicates", duplicates, "error", "last", "mean", "sum")
    form = _reading.Form(sep, encoding, names, quoting, decimal, thousands)
    kinds = {"user": "id", "item": "id", "rating": "number", "timestamp": "any"}
    columns = {column: (role, kinds[role]) for role, column in roles.items() if column is not None}
    table, texts = _reading.read("ratings", ratings, columns, form)
    if not len(table):
        raise ValueError("ratings should have at least one rating. Received: an empty table.")
    user_nums, user_ids = _numbered(user, table[user], texts)
    item_nums, item_ids = _numbered(item, table[item], texts)
    values = _values(table, rating, texts)
    # A column of the right kind is shared with the table, and copied by pandas if it changes.
    found = {"user_num": user_nums, "item_num": item_nums, "rating": values}
    if timestamp is not None:
        found["timestamp"] = table[timestamp].reset_index(drop=True)
    del table, values  # of large data every copy counts
    if duplicates != "error":
        found = _merged(found, len(item_ids), duplicates)
    check_pairs(
        found["user_num"],
        found["item_num"],
        found["rating"],
        (len(user_ids), len(item_ids)),
        columns=(user, item, rating or "rating"),
        ids=(user_ids, item_ids),
        remedy="Say what to do with them: duplicates='last', 'mean' or 'sum'.",
    )
    known = {"user": (user_ids, users), "item": (item_ids, items)}
    frames, own = {}, {"title": title, "genres": genres, "year": year, "genre_sep": genre_sep}
    for kind, (ids, about) in known.items():
        frame = pd.DataFrame({f"{kind}_id": ids})
        if about is not None:
            described = _described(kind, roles[kind], about, own, form)
            ids, rows, frame = _joined(kind, ids, described, unrated == "keep")
            found[f"{kind}_num"] = rows[found[f"{kind}_num"]]
        frames[f"{kind}s"] = frame.rename_axis(f"{kind}_num")
    if "title" not in frames["items"]:
        frames["items"].insert(1, "title", frames["items"]["item_id"].astype("str"))
    return Dataset._of_checked(**frames, ratings=pd.DataFrame(found, copy=False))


def _one_of(name: str, value: Any, *allowed: str) -> None:
    if value not in allowed:
        raise ValueError(f"{name} should be one of {', '.join(allowed)}. Received: {value!r}.")


def _values(table: pd.DataFrame, rating: str | None, texts: bool) -> np.ndarray | pd.Series:
    """The ratings, float64 [n]; 1 for each where there is no such column."""
    if rating is None:
        return np.ones(len(table))
    values = as_floats(table[rating], rating)
    if not np.isfinite(values).all():
        remedy = "Drop the row."
        if texts:
            remedy += " Or say how numbers are written: decimal=',' or thousands=','."
        given = table[rating].to_numpy()
        refuse_rows(~np.isfinite(values), given, f"{rating} should be a finite number", remedy)
    return table[rating].reset_index(drop=True) if table[rating].dtype == "float64" else values


def _merged(columns: dict[str, Any], num_items: int, how: str) -> dict[str, Any]:
    """One rating of each pair, in the order of the rows that stay."""
    keys = columns["user_num"] * num_items + columns["item_num"]
    times = columns.get("timestamp")
    by_time = [] if times is None else [pd.Series(times).rank(method="dense").to_numpy()]
    order = np.lexsort([*by_time, keys])  # stable: equal ones stay in the order of the rows
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    sizes = np.diff(starts, append=len(keys))
    kept = order[starts + sizes - 1]
    values = np.asarray(columns["rating"])
    if how != "last":
        sums = np.add.reduceat(values[order], starts)
        values = values.copy()
        values[kept] = sums / sizes if how == "mean" else sums
    kept.sort()
    merged = {name: np.asarray(columns[name])[kept] for name in ("user_num", "item_num")}
    merged["rating"] = values[kept]
    return merged if times is None else merged | {"timestamp": times.iloc[kept].array}


# Ids ----------------------------------------------------------------------------------------------


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
        bad |= np.append(values.str.strip() == "", False)[codes]
    if bad.any():
        refuse_rows(bad, column.astype(object).to_numpy(), f"{name} should not be missing")
    used = np.bincount(codes, minlength=len(values)) > 0
    _refuse_alike(name, values[used])
    kept = _told_apart(values[used]) if texts else _whole(values[used])
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


def _refuse_alike(name: str, ids: pd.Index) -> None:
    """Texts that look the same are hardly two users or items."""
    if ids.dtype != "str":
        return
    looks = ids.str.strip().str.normalize("NFC")
    if len(again := ids[looks.duplicated(keep=False)]):
        same = ids[looks == looks[ids.get_loc(again[0])]]
        raise ValueError(
            f"{name} should not differ by blanks or by how letters are composed alone. Received: "
            f"{same[0]!a} and {same[1]!a}. Make them one, or tell them apart."
        )


def _told_apart(ids: pd.Index) -> pd.Index:
    """Ids of a text file: as integers if nothing is lost by it, else texts without blanks."""
    ids = ids.str.strip()
    return ids.astype("int64") if ids.str.fullmatch(_INTEGER).all() else ids


def _whole(ids: pd.Index) -> pd.Index:
    """Ids of a frame; integers that pandas has made decimal numbers are integers again."""
    if ids.dtype.kind != "f" or not (np.abs(ids) < 2**53).all() or (ids % 1 != 0).any():
        return ids
    return ids.astype("int64")


# Items and users ----------------------------------------------------------------------------------


def _described(
    kind: str, id_column: Any, table: Table, own: dict[str, Any], form: _reading.Form
) -> pd.DataFrame:
    """A table of items or users with our names, indexed by the ids as texts."""
    where, sep = f"{kind}s", own["genre_sep"]
    asked = {f"{kind}_id": id_column}
    if kind == "item":
        asked |= {name: own[name] for name in ("title", "genres", "year") if own[name] is not None}
    form = _reading.Form(form.sep, form.encoding, None, form.quoting, form.decimal, form.thousands)
    needed = {
        column: (name, "text" if name in (f"{kind}_id", "title") else "any")
        for name, column in asked.items()
        if name in (f"{kind}_id", "title") or column != name
    }
    frame, texts = _reading.read(where, table, needed, form, every=True)
    asked = {name: column for name, column in asked.items() if column in frame}
    renamed = frame.rename(columns={column: name for name, column in asked.items()})
    if twice := renamed.columns[renamed.columns.duplicated()].tolist():
        raise ValueError(
            f"{where} should have one column {twice[0]!r}. Received: {list(frame.columns)}, of "
            f"which {asked[twice[0]]!r} was named as it too. Drop or rename the other one."
        )
    frame = renamed[[*asked, *(name for name in renamed if name not in asked)]].copy()
    rows, ids = _numbered(f"{where}: {id_column}", frame[f"{kind}_id"], texts)
    frame[f"{kind}_id"] = ids.take(rows)
    if len(ids) < len(frame):
        again = frame.loc[frame[f"{kind}_id"].duplicated(), f"{kind}_id"].tolist()[0]
        raise ValueError(
            f"{where} should hold each id once. Received: {again!r} twice. Drop one of its rows: "
            f"frame.drop_duplicates({id_column!r})."
        )
    if "title" in frame:
        given = frame["title"].astype("str").str.strip()
        fallback = frame["item_id"].astype("str")
        frame["title"] = given.where(frame["title"].notna() & (given != ""), fallback)
    if "genres" in frame:
        frame["genres"] = [_genres(value, sep) for value in frame["genres"].array]
    if "year" in frame:
        frame["year"] = _years(frame["year"], asked["year"])
    return frame.set_axis(frame[f"{kind}_id"].astype(str), axis=0)


def _genres(value: Any, sep: str) -> list[str]:
    if isinstance(value, str):
        if value.startswith("["):
            raise ValueError(
                f"genres should be lists, or texts that genre_sep={sep!r} splits. Received: "
                f"{value[:60]!r}. Make lists of them: frame['genres'].map(ast.literal_eval)."
            )
        names = [part.strip() for part in value.split(sep)]
        return [name for name in names if name and name != _NO_GENRES]
    if pd.api.types.is_list_like(value):
        return [str(name) for name in value]
    if pd.isna(value):
        return []
    raise ValueError(
        f"genres should be lists, or texts that genre_sep={sep!r} splits. Received: {value!r}. "
        "Name another column by genres=, or None."
    )


def _years(column: pd.Series, name: str) -> pd.Series:
    texts = column.astype("str").str.strip()
    missing = column.isna() | (texts == "")
    numbers = pd.to_numeric(texts.where(~missing), errors="coerce")
    bad = (~missing & (numbers.isna() | (numbers % 1 != 0))).to_numpy()
    remedy = "Leave it empty where it is unknown, or take no column: year=None."
    refuse_rows(bad, column.to_numpy(), f"items: {name} should be whole years", remedy)
    return numbers.astype("Int64")


def _joined(
    kind: str, ids: pd.Index, about: pd.DataFrame, keep: bool
) -> tuple[pd.Index, np.ndarray, pd.DataFrame]:
    """All ids in their order, the new row of each old one, and what is known of them."""
    keys = ids.astype(str)
    strange = ids[~keys.isin(about.index)]
    if len(strange):
        warnings.warn(
            f"{len(strange)} of the {len(ids)} {kind}s of ratings are not in {kind}s: "
            f"{_checks.shown(strange.tolist())}. They are kept, and have nothing but their id.",
            stacklevel=3,
        )
    extra = about[f"{kind}_id"][~about.index.isin(keys)] if keep else about[f"{kind}_id"][:0]
    every = pd.Index([*ids, *extra])
    if {type(ids[0]), *map(type, extra)} != {type(ids[0])}:  # 17 here and "17" there
        every = every.astype("str")
        every = every.astype("int64") if every.str.fullmatch(_INTEGER).all() else every
    rows, every = pd.factorize(every, sort=True)
    frame = about.reindex(every.astype(str)).reset_index(drop=True)
    frame[f"{kind}_id"] = every
    if kind == "item" and "title" in frame:
        frame["title"] = frame["title"].where(frame["title"].notna(), every.astype("str"))
    if "genres" in frame:
        frame["genres"] = [each if isinstance(each, list) else [] for each in frame["genres"]]
    return every, rows[: len(ids)], frame


# A command line -----------------------------------------------------------------------------------


def add_options(parser: Any) -> None:
    """The arguments of `load_ratings` as options of a command; `from_options` loads by them."""
    add = parser.add_argument
    add("--items", help="file of items, joined by id")
    add("--users", help="file of users, joined by id")
    add("--user", default="user_id", help="column of user ids")
    add("--item", default="item_id", help="column of item ids")
    add("--rating", default="rating", help="column of ratings; '' if there is none")
    add("--timestamp", help="column of times")
    add("--title", default="title", help="column of titles; '' for none")
    add("--genres", default="genres", help="column of genres; '' for none")
    add("--year", default="year", help="column of years; '' for none")
    add("--genre-sep", default="|", help="what stands between two genres")
    add("--unrated", choices=["keep", "drop"], default="keep", help="items without ratings")
    add("--duplicates", choices=["error", "last", "mean", "sum"], default="error")
    add("--sep", default=",", help="what stands between two fields; \\t for a tabulator")
    add("--encoding", default="utf-8")
    add("--names", nargs="+", help="the columns, if there is no header line")
    add("--quoting", choices=["yes", "no"], help="yes: texts in quotes may hold line breaks")
    add("--decimal", default=".")
    add("--thousands")


def from_options(ratings: Table, options: argparse.Namespace) -> Dataset:
    """Loads ratings as the options of `add_options` say."""
    names = "items users user item timestamp genre_sep unrated duplicates encoding names"
    kept = {name: getattr(options, name) for name in f"{names} decimal thousands".split()}
    kept |= {name: getattr(options, name) or None for name in ("rating", "title", "genres", "year")}
    kept["quoting"] = {"yes": True, "no": False, None: None}[options.quoting]
    return load_ratings(ratings, sep=options.sep.replace("\\t", "\t"), **kept)

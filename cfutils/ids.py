"""Which row is which: ids and titles that people write, rows of a data set, rows of a model.

Arrays speak in rows, `user_num` and `item_num`. What a person names is an id or a title of the
table; here, and nowhere else, it becomes a row.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import numbers
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cfutils import _checks
from cfutils.data import Dataset

__all__ = ["Alignment", "align", "describe", "find_item", "find_user", "match_item", "texts"]


def texts(ids: Iterable[Any]) -> pd.Index:
    """Ids of any kind as an Index of texts: the form in which models keep them."""
    return pd.Index([str(value) for value in ids], dtype="str")


@dataclasses.dataclass(frozen=True)
class Alignment:
    """The model's row of each user and item of a data set, -1 where the model has none."""

    users: np.ndarray  # integers [N]
    items: np.ndarray  # [M]

    def require(self, data: Dataset, *kinds: str) -> None:
        """Raises ValueError if a "user" or an "item" of the data is not in the model."""
        for kind in kinds:
            frame, rows = (data.users, self.users) if kind == "user" else (data.items, self.items)
            strange = frame[f"{kind}_id"].to_numpy()[rows < 0].tolist()
            if strange:
                raise ValueError(
                    f"data should have {kind}s of the model only. Received: {len(strange)} of "
                    f"{len(frame)} that are not in it: {_checks.shown(strange)}. "
                    "model.for_data(data) makes a model that goes on with them, or leave their "
                    "ratings out."
                )


def align(model: Any, data: Dataset) -> Alignment:
    """Find the model's row of each user and item of `data`, by their ids.

    Args:
        model: a model with `user_ids` and `item_ids`, Indexes of texts; where it has none, with
            as many rows as the data (`num_users`, `num_items`), taken as they are. Or a pair of
            arrays [N, d], [M, d].

    A model without a table of users has row -1 for each of them. Raises ValueError if a model
    without ids has another number of rows, or not one item is known.
    """
    items = _rows(model, _dataset(data).items["item_id"], "item", 1)
    if not (items >= 0).any():
        raise ValueError(
            f"data should have items of the model. Received: {len(items)} others, "
            f"{str(data.items['item_id'].iloc[0])!r} the first, where the model has "
            f"{model.item_ids[0]!r}. Load the data that the model was made for."
        )
    return Alignment(users=_rows(model, data.users["user_id"], "user", 0), items=items)


def _rows(model: Any, ids: pd.Series, kind: str, place: int) -> np.ndarray:
    known = getattr(model, f"{kind}_ids", None)
    if known is not None:
        return known.get_indexer(texts(ids))
    count = getattr(model, f"num_{kind}s", None)
    if count is None:
        pair = isinstance(model, (tuple, list))
        table = model[place] if pair else getattr(model, f"{kind}_embeddings", None)
        if table is None:
            return np.full(len(ids), -1)
        count = len(table)
    if count != len(ids):
        raise ValueError(
            f"data should have the model's {count} {kind}s. Received: {len(ids)}. Load the data "
            "that the model was trained on, or make the model for a Dataset, so that it knows ids."
        )
    return np.arange(count)


def find_user(data: Dataset, user: Any) -> int:
    """The row of a user, by id: 17, 17.0 and "17" are the same user. Raises as `find_users`."""
    return int(find_users(data, [user])[0])


def find_users(data: Dataset, users: Iterable[Any]) -> np.ndarray:
    """The rows [n] of users, by their ids. Raises ValueError if one is no id of `data.users`."""
    ids, users = texts(_dataset(data).users["user_id"]), list(users)
    rows = ids.get_indexer(pd.Index([_name(user) for user in users], dtype="str"))
    if (rows < 0).any():
        user = users[int(np.argmin(rows))]
        near = difflib.get_close_matches(str(user), ids.tolist(), n=3, cutoff=0.6)
        raise ValueError(
            f"user should be an id of data.users, no row number. Received: {user!r}. "
            + (f"Closest: {', '.join(near)}." if near else 'Look for it in data.users["user_id"].')
        )
    return rows


def match_item(data: Dataset, item: Any) -> int:
    """The row of an item, by its id or its whole title.

    A number is an id. A text is an id or a title; case, year and article of a title may be left
    out where one item fits.

    Raises LookupError if it is neither, with titles that hold it, or the closest; ValueError if
    several items fit, or it is neither a number nor a text.
    """
    return match_items(data, [item])[0]


def match_items(data: Dataset, items: Iterable[Any]) -> list[int]:
    """The rows of items, as `match_item` finds each; all titles are read once."""
    by_id = {name: row for row, name in enumerate(texts(_dataset(data).items["item_id"]))}

    @functools.cache
    def by_title(spell):
        rows: dict[str, list[int]] = {}
        for row, title in enumerate(data.items["title"].tolist()):
            for name in spell(title):
                rows.setdefault(name, []).append(row)
        return rows

    return [_match(data, item, by_id, by_title) for item in items]


def _match(data, item, by_id, by_title):
    name = _name(item)
    if name is None:
        raise ValueError(
            f"An item should be an id (a number or a text) or a title. Received: {item!r}."
        )
    found = [by_id[name]] if name in by_id else []
    if isinstance(item, str):
        plain = item.strip().casefold()
        for spell, text in zip(_SPELLINGS, (item, plain, plain), strict=True):
            if rows := by_title(spell).get(text):
                found += [row for row in rows if row not in found]
                break
    elif not found:
        raise LookupError(
            f"item should be an id of data.items, no row number. Received: {item!r}. Find it by "
            "its title: find_item(data, text)."
        )
    if not found:
        try:
            near = f"Titles that hold it: {_named(data, find_item(data, item).index.tolist())}"
        except (LookupError, ValueError) as error:
            near = f"Closest: {str(error).partition('Closest: ')[2] or 'none'}"
        raise LookupError(
            f"item should be a whole title or an id. Received: {item!r}. {near}. Write one of "
            "them, or its id."
        )
    if len(found) > 1:
        raise ValueError(
            f"item should be one item. Received: {item!r}, which fits {_named(data, found)}. Write "
            "the whole title, or the id."
        )
    return found[0]


def find_item(data: Dataset, text: str) -> pd.DataFrame:
    """Find the items whose title contains a text, whatever the case.

    The text is taken literally; blanks around it do not count. Returns a frame of all matches,
    most rated first, by `item_num`: `item_id`, `title`, `genres` (text) and `year` where the data
    has them, `num_ratings`. Raises LookupError if there is none, with the closest titles;
    ValueError if the text is empty.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text should be part of a title. Received: {text!r}.")
    wanted = text.strip().casefold()
    titles = _dataset(data).items["title"].tolist()
    found = [row for row, title in enumerate(titles) if wanted in title.casefold()]
    if not found:
        names = {min(_spellings(title), key=len): title for title in reversed(titles)}
        close = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
        nearest = "; ".join(names[name] for name in close) or "none; try a shorter part of it"
        raise LookupError(f"text should be part of a title. Received: {text!r}. Closest: {nearest}")
    return describe(data, found).sort_values("num_ratings", ascending=False, kind="stable")


def describe(data: Dataset, item_nums: Sequence[int] | np.ndarray) -> pd.DataFrame:
    """What lists say of items, by `item_num`: id, title, genres as text, year, num_ratings."""
    rows, places = np.unique(np.asarray(item_nums, np.int64), return_inverse=True)
    wanted = ("item_id", "title", "genres", "year")
    frame = data.items.iloc[rows][[name for name in wanted if name in data.items]]
    if "genres" in frame:
        frame = frame.assign(genres=[", ".join(genres) for genres in frame["genres"]])
    counts = np.bincount(data.ratings["item_num"], minlength=data.num_items)
    return frame.assign(num_ratings=counts[rows]).iloc[places]


def _dataset(data: Any) -> Dataset:
    if not isinstance(data, Dataset):
        raise ValueError(
            f"data should be a Dataset. Received: {type(data).__name__}. The order of arguments is "
            "(model, data, what); load_ratings makes a Dataset of any table."
        )
    return data


def _name(value: Any) -> str | None:
    """The text by which an id is compared; None of what can be none."""
    if not isinstance(value, (str, numbers.Real)) or isinstance(value, bool):
        return None
    if isinstance(value, str) or float(value) % 1:
        return str(value)
    return str(int(value))  # type: ignore[call-overload]


def _named(data: Dataset, rows: list[int]) -> str:
    items = data.items.iloc[rows[:8]]
    shown = [
        f"{title!r} (id {id_})" for title, id_ in zip(items["title"], items["item_id"], strict=True)
    ]
    return ", ".join(shown) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")


def _spellings(title: str) -> set[str]:
    """How one may write a title: without year or article, or with the article in front."""
    match = re.fullmatch(r"(.*?)( \(\d{4}\))?", title.strip().casefold(), re.DOTALL)
    name, year = match.groups("") if match else (title, "")
    names = {name}
    if behind := re.fullmatch(r"(.*), (the|a|an)", name, re.DOTALL):
        names |= {behind[1], f"{behind[2]} {behind[1]}"}
    elif front := re.fullmatch(r"(?:the|a|an) (.*)", name, re.DOTALL):
        names.add(front[1])
    return names | {name + year for name in names}


_SPELLINGS = (lambda title: [title], lambda title: [title.strip().casefold()], _spellings)

"""Which row is which: ids and titles that people write, rows of a data set, rows of a model.

Arrays speak in rows, `user_num` and `item_num`. What a person names is an id or a title of the
table; here, and nowhere else, it becomes a row.
"""

from __future__ import annotations

import dataclasses
import difflib
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
    """The model's row of each user and item of a data set, -1 where the model has none.

    Attributes:
        users: integers [N].
        items: integers [M].
    """

    users: np.ndarray
    items: np.ndarray

    def require(self, data: Dataset, *kinds: str) -> None:
        """Refuse data that has a "user" or an "item" which is not in the model.

        Raises:
            ValueError: with the number and the first ids of what is not.
        """
        for kind in kinds:
            frame, rows = (data.users, self.users) if kind == "user" else (data.items, self.items)
            strange = frame[f"{kind}_id"].to_numpy()[rows < 0].tolist()
            if strange:
                raise ValueError(
                    f"data should have {kind}s of the model only. Received: {len(strange)} of "
                    f"{len(frame)} that are not in it: {_checks.shown(strange)}. Make a new model "
                    "for this data, or leave their ratings out."
                )


def align(model: Any, data: Dataset) -> Alignment:
    """Find the model's row of each user and item of `data`, by their ids.

    Args:
        model: a model with `user_ids` and `item_ids`, Indexes of texts; where it has none, with
            as many rows as the data (`num_users`, `num_items`), taken as they are. Or a pair of
            arrays [N, d], [M, d].
        data: a `Dataset`.

    Returns:
        An `Alignment`. A model without a table of users has row -1 for each of them.

    Raises:
        ValueError: if a model without ids has another number of rows, or not one item is known.
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
    """The row of a user, by id: 17 and "17" are the same user.

    Raises:
        ValueError: if it is no id of `data.users`.
    """
    ids = texts(_dataset(data).users["user_id"])
    found = np.flatnonzero(ids == str(user)) if _is_name(user) else np.array([])
    if not len(found):
        near = difflib.get_close_matches(str(user), ids.tolist(), n=3, cutoff=0.6)
        raise ValueError(
            f"user should be an id of data.users, no row number. Received: {user!r}. "
            + (f"Closest: {', '.join(near)}." if near else 'Look for it in data.users["user_id"].')
        )
    return int(found[0])


def match_item(data: Dataset, item: Any) -> int:
    """The row of an item, by its id or its whole title.

    An integer is an id. A text is an id or a title; case, year and article of a title may be left
    out where one item fits.

    Raises:
        LookupError: if it is neither; the message lists titles that hold it, or the closest.
        ValueError: if several items fit, or it is neither an integer nor a text.
    """
    if not _is_name(item):
        raise ValueError(
            f"An item should be an id (an integer or a text) or a title. Received: {item!r}."
        )
    by_id = np.flatnonzero(texts(_dataset(data).items["item_id"]) == str(item)).tolist()
    if not isinstance(item, str):
        if not by_id:
            raise LookupError(
                f"item should be an id of data.items, no row number. Received: {item!r}. Find it "
                "by its title: find_item(data, text)."
            )
        return by_id[0]
    titles = data.items["title"].tolist()
    wanted = item.strip().casefold()
    for is_meant in (
        lambda title: title == item,
        lambda title: title.strip().casefold() == wanted,
        lambda title: wanted in _spellings(title),
    ):
        found = [row for row, title in enumerate(titles) if is_meant(title)]
        if found:
            break
    found = by_id + [row for row in found if row not in by_id]
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

    Args:
        data: a `Dataset`.
        text: taken literally; blanks around it do not count.

    Returns:
        A frame of all matches, most rated first, by `item_num`: `item_id`, `title`, `genres`
        (text) and `year` where the data has them, `num_ratings`.

    Raises:
        LookupError: if there is none; the message names the closest titles.
        ValueError: if the text is empty.
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
    rows = np.asarray(item_nums, np.int64)
    wanted = ("item_id", "title", "genres", "year")
    frame = data.items.iloc[rows][[name for name in wanted if name in data.items]]
    if "genres" in frame:
        frame = frame.assign(genres=[", ".join(genres) for genres in frame["genres"]])
    counts = np.bincount(data.ratings["item_num"], minlength=data.num_items)
    return frame.assign(num_ratings=counts[rows])


def _dataset(data: Any) -> Dataset:
    if not isinstance(data, Dataset):
        raise ValueError(
            f"data should be a Dataset. Received: {type(data).__name__}. The order of arguments is "
            "(model, data, what); load_ratings makes a Dataset of any table."
        )
    return data


def _is_name(value: Any) -> bool:
    return isinstance(value, (str, numbers.Integral)) and not isinstance(value, bool)


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

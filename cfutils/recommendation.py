"""Lists for people: recommendations and neighbours, by the ids and titles of the table."""

from __future__ import annotations

import contextlib
import numbers
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from cfutils import _checks
from cfutils.data import Dataset
from cfutils.ids import align, describe, find_item, find_user, match_item
from cfutils.scores import best_columns, compute_scores

__all__ = ["embeddings", "item_ratings", "neighbours", "recommend"]


def recommend(
    model: Any,
    data: Dataset,
    user: int | str | None = None,
    *,
    ratings: Mapping[int | str, float] | None = None,
    k: int = 10,
    measure: str = "dot",
    alpha: float | None = None,
    rated: str = "exclude",
) -> pd.DataFrame:
    """Lists the k items with the highest scores for a user of the data, or for somebody new.

    Nothing is trained: who is not in the model is folded in (`model.fold_in`) from their ratings.
    With gravity a low rating raises the scores of similar items as well, only less than a high one:
    what is not rated counts as 0. So does any rating in a softmax model.

    Args:
        model: a trained model, or a pair of arrays [N, d], [M, d]. Items that it lacks are left
            out, with a warning.
        user: an id of `data.users`.
        ratings: {id or title: rating} of somebody new, in the place of `user`. A title's case, year
            and article may be left out where one item fits.
        measure, alpha: as for `cfutils.compute_scores`.
        rated: "exclude" leaves rated items out, "mark" adds the column `rating`.

    Returns: a frame, best first, by `rank` 1..k, shorter where fewer items remain: `item_id`,
    `title`, `genres` (text) and `year` where the data has them, `num_ratings`, `score`; marked,
    `rating`, NaN where there is none; with `ratings`, `because`: the title of the own rating that
    adds most to the score, missing where none raises it.
    Raises: ValueError if an option is wrong, the model is untrained, the user is unknown or has no
    ratings to fold in, or a rating is out of the range of `data.ratings`; LookupError if an item is
    unknown, with the closest titles.
    """
    if rated not in ("exclude", "mark"):
        raise ValueError(f"rated should be 'exclude' or 'mark'. Received: {rated!r}.")
    if (user is None) == (ratings is None):
        raise ValueError(
            "recommend should be given either user or ratings. Received: "
            f"{'neither' if user is None else 'both'}. Give one: user=17, or ratings={{title: 5}}."
        )
    users, items, rows = _aligned(model, data)
    if ratings is None:
        user_num = find_user(data, user)
        place, given = rows.users[user_num], f"user {user!r}"
        own = data.ratings[data.ratings["user_num"] == user_num].set_index("item_num")["rating"]
    else:
        place, given = -1, f"ratings of {_checks.shown(ratings)}"
        own = pd.Series(item_ratings(data, ratings))
    known = own[rows.items[own.index] >= 0].astype("float64")
    places = rows.items[known.index]
    query = users[place] if place >= 0 else _folded(model, places, known.to_numpy(), given)
    if ratings is None and getattr(model, "user_ids", None) is not None and rows.users.max() < 0:
        warnings.warn(
            f"None of the users of data is in the model, which has {model.user_ids[0]!r} and "
            "others: they are folded in. Are their ids written as before?",
            stacklevel=2,
        )
    scores = compute_scores(query, items, measure, alpha=alpha)
    scores[rows.items < 0] = -np.inf
    if rated == "exclude":
        scores[own.index] = -np.inf
    best, frame = _best(data, scores, k)
    if rated == "mark":
        frame["rating"] = own.reindex(best).to_numpy("float64")
    if ratings is not None:
        parts = model.fold_in_parts(places, known.to_numpy())  # [n, d]
        terms = items[best] @ parts.T  # [k, n]: a score is linear in its parts
        titles = data.items["title"].to_numpy()[known.index[terms.argmax(axis=1)]]
        frame["because"] = pd.Series(titles, frame.index, dtype="str").where(terms.max(axis=1) > 0)
    return frame


def neighbours(
    model: Any,
    data: Dataset,
    item: int | str,
    *,
    k: int = 10,
    measure: str = "cosine",
    alpha: float | None = None,
) -> pd.DataFrame:
    """Lists the k items nearest to an item, itself left out.

    Args:
        model, data, k, measure, alpha: as for `recommend`.
        item: an id, a title, or part of a title, of which the most rated match is taken. A number
            has to be an id or a whole title.

    Returns: a frame as that of `recommend`. The heading of its columns says which item was taken
    and how many other titles hold the text; `frame.attrs` has its `item_id` and all
    `other_matches`, a dict of titles by item id.
    Raises: LookupError if nothing matches, with the closest titles; ValueError if an option is
    wrong, the model is untrained, or the item is not in it.
    """
    _, items, rows = _aligned(model, data)
    item_num, others = _matched(data, item)
    title = data.items["title"].iloc[item_num]
    if rows.items[item_num] < 0:
        raise ValueError(
            f"item should be in the model. Received: {title!r}, which is not. Train a new model to "
            "have it."
        )
    scores = compute_scores(items[item_num], items, measure, alpha=alpha)
    scores[(rows.items < 0) | (np.arange(len(items)) == item_num)] = -np.inf
    _, frame = _best(data, scores, k)
    (item_id,) = data.items["item_id"].iloc[[item_num]].tolist()
    frame.attrs = {"item_id": item_id, "other_matches": others}
    more = f" ({len(others)} more matched)" if others else ""
    return frame.rename_axis(columns=f"nearest to {title}{more}")


def embeddings(model: Any, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The embeddings U [N, d] and V [M, d] of all users and items of the data, in its order.

    A model without a table of users folds them in from `data.ratings`.

    Raises: ValueError if the model is untrained, or an item of the data, or a user where it has a
    table of them, is not in it.
    """
    users, items = _tables(model)
    rows = align(model, data)
    rows.require(data, "item")
    if users is None:
        return model.fold_in(data), items[rows.items]
    rows.require(data, "user")
    return users[rows.users], items[rows.items]


def item_ratings(data: Dataset, ratings: Mapping[int | str, float]) -> dict[int, float]:
    """Ratings by row, from a dict by id or title; what `recommend` refuses is refused here."""
    if not isinstance(ratings, Mapping):
        raise TypeError(
            "ratings should be a dict {title: rating}. Received: "
            f"{type(ratings).__name__}. Make one: dict(zip(titles, ratings)), or, of a panel's "
            "file, panel.read_own_ratings(path, data)."
        )
    if not ratings:
        raise ValueError("ratings should hold at least one rating. Received: none. Rate an item.")
    lowest, highest = data.ratings["rating"].min(), data.ratings["rating"].max()
    found: dict[int, float] = {}
    for item, rating in ratings.items():
        item_num = match_item(data, item)
        if item_num in found:
            raise ValueError(
                "ratings should hold each item once. Received: "
                f"{data.items['title'].iloc[item_num]!r} again as {item!r}. Keep one."
            )
        number = isinstance(rating, numbers.Real) and not isinstance(rating, bool)
        if not number or not lowest <= rating <= highest:
            raise ValueError(
                f"A rating should be a number from {lowest:g} to {highest:g}, the range of "
                f"data.ratings. Received: {rating!r} for {item!r}."
            )
        found[item_num] = float(rating)
    return found


def _tables(model):
    """The arrays U [N, d], or None, and V [M, d] of a trained model or a pair."""
    if isinstance(model, (tuple, list)) and len(model) == 2:
        users, items = model
    elif not hasattr(model, "item_embeddings"):
        raise ValueError(
            "model should have item_embeddings, or be a pair (user_embeddings, item_embeddings). "
            f"Received: {type(model).__name__}. load_model reads a saved one."
        )
    elif getattr(model, "iteration", None) == 0:
        raise ValueError(
            f"model should be trained. Received: a new {type(model).__name__}. Call model.train."
        )
    else:
        users, items = getattr(model, "user_embeddings", None), model.item_embeddings
    return None if users is None else np.asarray(users), np.asarray(items)


def _aligned(model, data):
    """U, or None; V in the order of the data, any row where the model has none; and the rows."""
    users, items = _tables(model)
    rows = align(model, data)
    strange = data.items["item_id"][rows.items < 0]
    if len(strange):
        warnings.warn(
            f"{len(strange)} of the {data.num_items} items of data are not in the model and are "
            f"left out: {_checks.shown(strange)}. Train a new model to have them.",
            stacklevel=3,
        )
    return users, items[rows.items], rows


def _folded(model, places, ratings, given):
    """The embedding [d] of somebody who is not in the model, from ratings of the model's rows."""
    if not hasattr(model, "fold_in"):
        raise ValueError(
            "model should have fold_in for whoever is not in it. Received: "
            f"{type(model).__name__}, and {given}. Train a CFModel or a SoftmaxModel."
        )
    if not len(places):
        raise ValueError(
            "Whoever is not in the model should have rated items that are. Received: "
            f"{given}. Rate such an item, or train a new model."
        )
    shape = 1, len(model.item_embeddings)
    return model.fold_in(scipy.sparse.csr_array((ratings, (0 * places, places)), shape))[0]


def _best(data, scores, k):
    """Rows of the k best items, and the frame that lists them by rank."""
    (best,) = best_columns(scores[None], _checks.positive_integer("k", k))
    best = best[best >= 0]
    frame = describe(data, best).assign(score=scores[best])
    return best, frame.set_index(pd.RangeIndex(1, len(best) + 1, name="rank"))


def _matched(data, item):
    """The row of an item, and {id: title} of the others that a part of a title fits."""
    try:
        item_num = match_item(data, item)
    except (LookupError, ValueError):
        if not isinstance(item, str) or item.strip().isdecimal():
            raise
        item_num = find_item(data, item).index[0]
    if isinstance(item, str):
        with contextlib.suppress(LookupError):  # an id is in no title, or in those of others
            fits = find_item(data, item).drop(item_num)
            return item_num, dict(zip(fits["item_id"].tolist(), fits["title"], strict=True))
    return item_num, {}

"""Lists for people: recommendations and neighbours, by the ids and titles of the table."""

from __future__ import annotations

import contextlib
import numbers
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from cfutils import _checks
from cfutils.data import Dataset, check_dataset
from cfutils.ids import align, describe, find_item, find_users, match_item, match_items, texts
from cfutils.scores import best_columns, compute_scores, top_k

_FOLDED = 4096  # users folded in at once

__all__ = ["embeddings", "item_ratings", "neighbours", "recommend"]


def recommend(
    model: Any,
    data: Dataset,
    user: Any = None,
    *,
    ratings: Mapping[int | str, float] | None = None,
    k: int = 10,
    items: Iterable[int | str] | None = None,
    without: Iterable[int | str] = (),
    exclude: Dataset | None = None,
    measure: str = "dot",
    alpha: float | None = None,
    rated: str = "exclude",
    progress: bool | None = None,
) -> pd.DataFrame:
    """Lists the k items with the highest scores for a user, for many, or for somebody new.

    Nothing is trained: who is not in the model is folded in (`model.fold_in`) from their ratings.
    With gravity a low rating raises the scores of similar items as well, only less than a high one:
    what is not rated counts as 0. So does any rating in a softmax model. Whoever the model can say
    nothing of gets the most rated items.

    Args:
        model: a trained model, or a pair of arrays [N, d], [M, d]. Items that it lacks are left
            out, with a warning.
        user: an id of `data.users`, or several in a list; None for all users.
        ratings: {id or title: rating} of somebody new, in the place of `user`. A title's case, year
            and article may be left out where one item fits.
        items, without: ids or titles: only these items, not these.
        exclude: a Dataset of what users have seen besides `data`, which is left out too.
        measure, alpha: as for `cfutils.compute_scores`.
        rated: "exclude" leaves items out that are rated in `data`, "mark" adds the column `rating`.
        progress: whether to show a bar on standard error; None if that is a terminal.

    Returns: a frame, best first, by `rank` 1..k, shorter where fewer items remain: `item_id`,
    `title`, `genres` (text) and `year` where the data has them, `num_ratings`, `score`; marked,
    `rating`, NaN where there is none; with `ratings`, `because`: the title of the own rating that
    adds most to the score, missing where none raises it. For several users one frame of all, with
    the columns `user_id` and `rank` before and `basis` behind: "model", "ratings" if they were
    folded in, or "popularity" (no score). A single list has `basis` if it is "popularity", and a
    warning.
    Raises: ValueError if an option is wrong, the model is untrained, a user is unknown, or a rating
    is out of the range of `data.ratings`; LookupError if an item is unknown, with the closest
    titles.
    Cost: that of `top_k`, and of `fold_in` for those who are not in the model.
    """
    if rated not in ("exclude", "mark"):
        raise ValueError(f"rated should be 'exclude' or 'mark'. Received: {rated!r}.")
    if ratings is not None and (user is not None or exclude is not None):
        other = "user" if user is not None else "exclude"
        raise ValueError(
            f"{other} should not be given with ratings, which are of somebody new. Received: both. "
            "Leave one of them out; without= leaves items out."
        )
    k, single = _checks.positive_integer("k", k), ratings is not None or np.ndim(user) == 0
    users, V, rows = _aligned(model, data)
    if ratings is not None:
        own = item_ratings(data, ratings)
        cells = np.zeros(len(own), int), np.array(list(own))
        seen = scipy.sparse.csr_array((list(own.values()), cells), (1, data.num_items))
        rated_in = scipy.sparse.csr_array((np.ones(len(own)), cells), (1, data.num_items))
        places = np.array([-1])
    else:
        user_nums = _user_nums(data, user, single and user is not None)
        single = single and user is not None
        # What is rated 0 is rated: the two matrices are read apart.
        seen, rated_in = (data.interactions(binary=b)[user_nums] for b in (False, True))
        places = rows.users[user_nums]
        _warn_of_strangers(model, rows)
    queries, basis = _queries(model, users, rows, places, seen)
    left_out = rated_in if rated == "exclude" else scipy.sparse.csr_array(seen.shape)
    if exclude is not None:
        left_out = left_out + _also_seen(data, exclude, user_nums)
    chosen = _candidates(data, rows, items, without)
    how = {"exclude": left_out[:, chosen], "progress": progress}
    found, scores = top_k(queries, V[chosen], k, measure=measure, alpha=alpha, **how)
    known = np.flatnonzero(basis == "popularity")
    if len(known):
        counts = np.bincount(data.ratings["item_num"], minlength=data.num_items)[chosen]
        how["exclude"] = how["exclude"][known]
        found[known], _ = top_k(np.ones((len(known), 1)), counts[:, None], k, **how)
        scores[known] = np.nan
        if single:
            _warn_of_popularity()
    who, rank = np.nonzero(found >= 0)
    best = chosen[found[who, rank]]
    frame = describe(data, best).assign(score=scores[who, rank])
    if rated == "mark":
        frame["rating"] = np.where(rated_in[who, best] > 0, seen[who, best], np.nan)
    if ratings is not None:
        reasons = _reasons(model, data, rows, own, V[best]) if basis[0] == "ratings" else None
        frame["because"] = pd.array(reasons or [None] * len(best), dtype="str")
    if single:
        frame = frame.assign(basis=basis[0]) if len(known) else frame
        return frame.set_index(pd.RangeIndex(1, len(best) + 1, name="rank"))
    frame.insert(0, "user_id", data.users["user_id"].to_numpy()[user_nums[who]])
    frame.insert(1, "rank", rank + 1)
    return frame.assign(basis=basis[who]).reset_index(drop=True)


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
            f"item should be in the model. Received: {title!r}, which is not. "
            "model.for_data(data), trained, has it."
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
            f"left out: {_checks.shown(strange)}. model.for_data(data), trained, has them.",
            stacklevel=3,
        )
    return users, items[rows.items], rows


def _warn_of_popularity():
    warnings.warn(
        "The model can say nothing of this user: the list is of the most rated items. Train a "
        "model on their ratings, or give ratings=.",
        stacklevel=3,
    )


def _warn_of_strangers(model, rows):
    if getattr(model, "user_ids", None) is not None and rows.users.max() < 0:
        warnings.warn(
            f"None of the users of data is in the model, which has {model.user_ids[0]!r} and "
            "others: they are folded in. Are their ids written as before?",
            stacklevel=3,
        )


def _user_nums(data, user, single):
    """The rows of one user, of those in a list, each once, or of all."""
    if user is None:
        return np.arange(data.num_users)
    found = find_users(data, [user] if single else user)
    again = pd.Series(found).duplicated()
    if again.any() or not len(found):
        raise ValueError(
            "user should be an id, or a list that holds each id once. Received: "
            f"{list(user)[int(again.argmax())]!r} again."
            if len(found)
            else "user should be an id, or a list of ids. Received: an empty list."
        )
    return found


def _queries(model, users, rows, places, seen):
    """The embeddings [n, d] of users, and what each rests on: "model", "ratings", "popularity".

    `places` are their rows in the model, -1 for none; `seen` their ratings [n, M] of the data.
    """
    num_items, dim = _tables(model)[1].shape
    queries = np.zeros((len(places), dim), np.float32)
    trained = places >= 0
    counts = getattr(model, "user_num_ratings", None)
    if counts is not None:
        trained[trained] = counts[places[trained]] > 0
    if users is not None:
        queries[trained] = users[places[trained]]
        trained &= queries.any(axis=1)
    basis = np.where(trained, "model", "ratings").astype(object)
    cells = seen.tocoo()
    kept = (rows.items[cells.col] >= 0) & ~trained[cells.row]
    told = np.unique(cells.row[kept])
    if not hasattr(model, "fold_in"):
        told = told[
            places[told] < 0
        ]  # who has a row of zeros there can only be told what is popular
    if len(told) and not hasattr(model, "fold_in"):
        raise ValueError(
            "model should have fold_in for whoever is not in it. Received: "
            f"{type(model).__name__}. Train a CFModel or a SoftmaxModel."
        )
    columns = cells.row[kept], rows.items[cells.col[kept]]
    history = scipy.sparse.csr_array((cells.data[kept], columns), (len(places), num_items))
    for start in range(0, len(told), _FOLDED):
        block = told[start : start + _FOLDED]
        queries[block] = model.fold_in(history[block])
    basis[~queries.any(axis=1)] = "popularity"
    return queries, basis


def _also_seen(data, exclude, user_nums):
    """What the users have rated in another Dataset, found by ids: bool [n, M]."""
    check_dataset("exclude", exclude)
    wanted = texts(data.users["user_id"].iloc[user_nums])
    places = texts(exclude.users["user_id"]).get_indexer(wanted)
    there = np.flatnonzero(places >= 0)
    cells = exclude.interactions()[places[there]].tocoo()
    columns = texts(data.items["item_id"]).get_indexer(texts(exclude.items["item_id"]))[cells.col]
    kept = columns >= 0
    if not kept.any():
        users_there = texts(exclude.users["user_id"]).isin(texts(data.users["user_id"])).any()
        items_there = texts(exclude.items["item_id"]).isin(texts(data.items["item_id"])).any()
        if not (users_there and items_there):
            raise ValueError(
                "exclude should hold users and items of data. Received: a Dataset that has no "
                f"{'user' if not users_there else 'item'} of it. Are its ids written alike?"
            )
    pairs = there[cells.row[kept]], columns[kept]
    shape = len(user_nums), data.num_items
    return scipy.sparse.csr_array((np.ones(len(pairs[0]), bool), pairs), shape)


def _candidates(data, rows, items, without):
    """Rows of the items that may be recommended, in their order."""
    may = rows.items >= 0
    for name, given in (("items", items), ("without", without)):
        if isinstance(given, (str, int)):
            raise ValueError(f"{name} should be a list of ids or titles. Received: {given!r}.")
    if items is not None:
        only = np.zeros_like(may)
        only[match_items(data, items)] = True
        may &= only
    may[match_items(data, without)] = False
    if not may.any():
        raise ValueError(
            "items and without should leave an item that the model has. Received: "
            f"items={items!r}, without={without!r}."
        )
    return np.flatnonzero(may)


def _reasons(model, data, rows, own, V):
    """Titles of the ratings that add most to the scores of embeddings [k, d]."""
    known = [row for row in own if rows.items[row] >= 0]
    given = np.array([own[row] for row in known])
    parts = model.fold_in_parts(rows.items[known], given)  # [n, d]
    terms = V @ parts.T  # [k, n]: a score is linear in its parts
    titles = data.items["title"].to_numpy()[np.array(known)[terms.argmax(axis=1)]]
    best = zip(titles, terms.max(axis=1), strict=True)
    return [title if term > 0 else None for title, term in best]


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

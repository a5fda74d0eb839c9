"""Arguments that are refused with the name, the rule, the value and the remedy."""

import warnings

import numpy as np
import pandas as pd


def ids(name, column, count, count_name, remedy=None):
    """A column of ids as int64, all of them integers from 0 to count - 1."""
    if len(column) == 0:
        return np.zeros(0, np.int64)
    rule = f"{name} should be an integer from 0 to {count_name} - 1 = {count - 1}"
    if remedy is None:
        remedy = f"Renumber the ids from 0 (pandas.factorize), or pass a larger {count_name}."
    refuse(column.isna(), column, rule, "Drop the row.")
    if not pd.api.types.is_integer_dtype(column):
        whole = [
            isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in column
        ]
        refuse(
            ~np.asarray(whole), column, rule, f"Convert whole numbers with astype(int). {remedy}"
        )
    refuse(((column < 0) | (column >= count)), column, rule, remedy)
    return column.to_numpy(np.int64)


def refuse(bad, values, rule, remedy):
    """Raise on the first bad row."""
    bad = np.asarray(bad, bool)
    if bad.any():
        row = int(np.argmax(bad))
        value = values.iloc[row] if isinstance(values, pd.Series) else values[row]
        raise ValueError(f"{rule}. Received: {value!r} in row {row} (counted from 0). {remedy}")


def integer(name, value, least):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} should be an integer, {least} or more. Received: {value!r}.")
    return int(value)


def positive_integer(name, value):
    return integer(name, value, 1)


def finite(name, value, positive=False):
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or value < 0 or (positive and value == 0):
        rule = "positive" if positive else "0 or more"
        raise ValueError(f"{name} should be a finite number, {rule}. Received: {value!r}.")
    return float(value)


def texts(ids):
    """Ids of any kind as an Index of texts: the form in which models keep them."""
    return pd.Index([str(value) for value in ids], dtype="str")


def item_rows(model, data):
    """The model's row of each movie of the data, -1 where it has none. An untrained one is refused.

    Without ids of its own the model has to have as many rows, and row i is movie i.
    """
    if getattr(model, "iteration", None) == 0:
        raise ValueError(
            f"model should be trained. Received: a new {type(model).__name__}. Call model.train."
        )
    known = getattr(model, "item_ids", None)
    if known is None:
        return np.arange(data.num_items)
    ids = texts(data.movies["original_id"])
    rows = known.get_indexer(ids)
    strange = ids[rows < 0]
    if len(strange) == len(ids):
        raise ValueError(
            f"data should have movies of the model. Received: {len(ids)} others, {ids[0]!r} the "
            f"first, where the model has {known[0]!r}. Load the data that the model was made for."
        )
    if len(strange):
        shown = ", ".join(map(repr, strange[:5])) + (", ..." if len(strange) > 5 else "")
        warnings.warn(
            f"{len(strange)} of the {len(ids)} movies of data are not in the model and are left "
            f"out: {shown}. Train a new model to have them.",
            stacklevel=4,
        )
    return rows


def own_ratings(item_ids, ratings, num_items):
    """The ids and ratings of one user, as int64 and float64 arrays [n]."""
    remedy = (
        "They are the model's rows; cfutils.panel.recommend_for takes titles and finds the rows."
    )
    column = pd.Series(np.asarray(item_ids))
    item_ids = ids("item_ids", column, num_items, "num_items", remedy)
    ratings = np.asarray(ratings, np.float64)
    if ratings.shape != item_ids.shape:
        raise ValueError(
            f"ratings should have one value per item id. Received: shape {ratings.shape} for "
            f"{len(item_ids)} ids."
        )
    refuse(~np.isfinite(ratings), ratings, "ratings should be finite", "Leave it out.")
    refuse(pd.Series(item_ids).duplicated(), item_ids, "item_ids should be distinct", "Keep one.")
    return item_ids, ratings

"""Ratings on their way into a model: checked sparse tensors, sorted by user and then item."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from cfutils import ids
from cfutils._tensorflow import tf
from cfutils.data import Dataset, as_floats, check_pairs

_LARGEST = 1e15  # of a rating: float32 still holds the sum of the squares of many


def ratings_tensor(data: Dataset) -> tf.SparseTensor:
    """The ratings of a data set as a `tf.SparseTensor` [N, M], float32, by user and then item.

    Users and items without ratings have an empty row or column. Raises ValueError if a rating is
    of the size of 1e15 or more.
    """
    users, items, values = _columns(data)
    return _sorted("ratings", users, items, values, (data.num_users, data.num_items))


def _columns(data):
    columns = {"user_num": np.int64, "item_num": np.int64, "rating": float}
    return [data.ratings[name].to_numpy(kind) for name, kind in columns.items()]


def of_model(model: Any, data: Dataset, *, any_users: bool) -> tf.SparseTensor:
    """The ratings of a data set in the rows of a model; rated ids that it lacks are refused.

    With `any_users` the rows are the data's users, [n, M], whoever they are.
    """
    if any_users:
        model = types.SimpleNamespace(item_ids=model.item_ids, num_items=model.num_items)
    rows = ids.align(model, data)
    by_user = np.arange(data.num_users) if any_users else rows.users
    users, items, values = _columns(data)
    ids.Alignment(
        users=np.where(np.bincount(users, minlength=data.num_users), by_user, 0),
        items=np.where(np.bincount(items, minlength=data.num_items), rows.items, 0),
    ).require(data, "user", "item")
    shape = (data.num_users if any_users else model.num_users, model.num_items)
    return _sorted("ratings", by_user[users], rows.items[items], values, shape)


def canonical(name: str, ratings: Any, shape: tuple, *, empty: bool = False) -> tf.SparseTensor:
    """A `tf.SparseTensor` of ratings, checked, as float32 and in canonical order.

    In `shape`, None allows any number. Where it may be `empty` it can be a SciPy matrix too.
    """
    if empty and scipy.sparse.issparse(ratings):
        ratings = to_tensor(ratings)
    if not isinstance(ratings, tf.SparseTensor):
        raise ValueError(
            f"{name} should be a Dataset or a tf.SparseTensor. Received: {type(ratings)}. "
            "load_ratings makes a Dataset of any table."
        )
    found = tuple(map(int, ratings.shape))
    if not _fits(found, shape):
        raise ValueError(
            f"{name} should have the model's shape {['any' if n is None else n for n in shape]}. "
            f"Received: {list(found)}. Make a new model for other users and items."
        )
    if empty and not len(ratings.values):
        return tf.cast(ratings, tf.float32)
    users, items = ratings.indices.numpy().T
    return _sorted(name, users, items, ratings.values.numpy(), found, ratings)


def _sorted(name, users, items, values, shape, tensor=None):
    """Checked ratings as a tensor in canonical order: the one at hand if it is that already."""
    with np.errstate(invalid="ignore"):
        good = values.dtype.kind in "biuf" and np.abs(values) < _LARGEST  # NaN is not
    if not len(values) or not np.all(good):
        raise ValueError(
            f"{name} should hold at least one rating, all finite and of a size below "
            f"{_LARGEST:g}. Received: {values[~np.atleast_1d(good)][:5]}."
        )
    columns = (f"{name}: user_num", f"{name}: item_num", f"{name}: rating")
    order = check_pairs(users, items, values, shape, columns=columns)
    if tensor is not None and order is None and values.dtype == np.float32:
        return tensor  # of large data every copy counts
    if order is not None:
        users, items, values = users[order], items[order], values[order]
    return tf.SparseTensor(np.stack([users, items], axis=1), values.astype(np.float32), shape)


def to_tensor(matrix: Any) -> tf.SparseTensor:
    """A sparse matrix of SciPy as a tensor."""
    entries = matrix.tocoo()
    places = np.stack([entries.row, entries.col], axis=1).astype(np.int64)
    return tf.SparseTensor(places, entries.data, entries.shape)


def _fits(found, wanted):
    return len(found) == 2 and all(w in (None, f) for w, f in zip(wanted, found, strict=True))


def checked_elements(name: str, data: Any, shape: tuple, tensor_of: Callable, faults: list) -> Any:
    """A tf.data dataset of whole tensors, each checked by `tensor_of`; `faults` collects errors.

    The data is such a dataset, or whatever else `tensor_of` makes a tensor of.
    """
    if not isinstance(data, tf.data.Dataset):
        data = tf.data.Dataset.from_tensors(tensor_of(name, data))
        data.is_checked = True
    if hasattr(data, "is_checked"):  # as what Keras' fit gives to evaluate has it
        return data
    spec = data.element_spec
    if not isinstance(spec, tf.SparseTensorSpec) or not _fits(spec.shape.as_list(), shape):
        raise ValueError(
            f"{name} should be a Dataset, a tf.SparseTensor, or a tf.data dataset of whole "
            f"SparseTensors of the model's shape {list(shape)}. Received: a tf.data dataset of "
            f"{spec}. Make it by tf.data.Dataset.from_tensors, without batch."
        )

    def check(*parts):
        try:
            tensor = tensor_of(name, tf.SparseTensor(*parts))
        except ValueError as error:
            faults.append(error)
            raise
        return tensor.indices.numpy(), tensor.values.numpy()

    def checked(tensor):
        parts = [tensor.indices, tensor.values, tensor.dense_shape]
        pairs, values = tf.numpy_function(check, parts, [tf.int64, tf.float32])
        pairs, values = tf.ensure_shape(pairs, [None, 2]), tf.ensure_shape(values, [None])
        made = tf.SparseTensor(pairs, values, parts[2])
        made.set_shape(spec.shape)
        return made

    data = data.map(checked)
    data.is_checked = True
    return data


def own_ratings(item_nums: Any, ratings: Any, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows and ratings of one user, as int64 and float64 arrays [n], in the order given."""
    items, values = np.asarray(item_nums), as_floats(pd.Series(ratings), "ratings")
    whole = items.dtype.kind in "iu" or len(items) == 0
    if items.ndim != 1 or not whole or len(items) != len(values):
        raise ValueError(
            "item_nums should be integers [n], rows of the model, and ratings numbers [n]. "
            f"Received: {items.dtype} {list(items.shape)} and {len(values)} ratings. recommend "
            "takes ids and titles."
        )
    items = items.astype(np.int64)
    if len(items):
        columns = ("user_num", "item_nums", "ratings")
        check_pairs(np.zeros_like(items), items, values, (1, num_items), columns=columns)
    return items, values

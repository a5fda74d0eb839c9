"""Histories on their way through a softmax model: sparse weights [n, M], sorted by row.

They are pooled, split into inputs and labels, dealt into batches and shared out among workers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from cfutils._descent import sparse_product
from cfutils._tensorflow import keras, tf
from cfutils._tensors import to_tensor


@keras.saving.register_keras_serializable(package="cfutils")
class HistoryPooling(keras.layers.Layer):
    """The mean of the rows of a table that a history lists, each by its weight; 0 if it is empty.

    The table is an argument: it may serve elsewhere too, or hold only the rows that a step needs.
    """

    def call(self, history: tf.SparseTensor, table: tf.Tensor) -> tf.Tensor:
        """sum_j w_j table_j / sum_j w_j [n, width] of weights w [n, M] and a table [M, width]."""
        rows, shape = history.indices[:, 0], tf.unstack(tf.shape(history, tf.int64))
        totals = tf.math.unsorted_segment_sum(history.values, rows, shape[0])
        shares = tf.math.divide_no_nan(history.values, tf.gather(totals, rows))
        return sparse_product(history.indices, shares, shape, tf.convert_to_tensor(table))

    def compute_output_shape(self, history_shape: tuple, table_shape: tuple) -> tuple:
        """[n, width]."""
        return history_shape[0], table_shape[1]


def split(history: tf.SparseTensor, share: Any, seed: int, number: Any) -> list[tf.SparseTensor]:
    """Inputs and labels: of each row a share, chosen by seed and number; see `split_histories`."""
    rows, count = history.indices[:, 0], tf.shape(history.values)[0]
    seeds = tf.stack([tf.constant(seed, tf.int64), tf.cast(number, tf.int64)])
    places = tf.random.stateless_uniform([count], seeds, dtype=tf.float64)
    order = tf.argsort(tf.cast(rows, tf.float64) + places)  # at random within a row
    num_rows = tf.shape(history, tf.int32)[0]
    sizes = tf.math.bincount(tf.cast(rows, tf.int32), minlength=num_rows)
    wanted = tf.cast(tf.round(share * tf.cast(sizes, tf.float32)), tf.int32)
    wanted = tf.minimum(tf.maximum(wanted, 1), sizes - 1)
    rank = tf.range(count) - tf.gather(tf.cumsum(sizes, exclusive=True), rows)
    is_label = tf.gather(rank < tf.gather(wanted, rows), tf.math.invert_permutation(order))
    return [tf.sparse.retain(history, part) for part in (~is_label, is_label)]


def batches(histories: Any, size: int, seed: int) -> Callable[[int], tf.SparseTensor]:
    """What step 0, 1 and so on sees: that many users in a random order, all once per epoch."""
    num_users = histories.shape[0]
    per_epoch = -(-num_users // size)
    if per_epoch == 1:
        whole = to_tensor(histories)
        return lambda number: whole

    @functools.lru_cache(maxsize=1)
    def order(epoch):
        return np.random.default_rng([seed, epoch]).permutation(num_users)

    def batch(number):
        epoch, at = divmod(number, per_epoch)
        return to_tensor(histories[order(epoch)[at * size : (at + 1) * size]])

    return batch


def samples(histories: Any, size: int, seed: int) -> Callable[[int], tuple[tf.Tensor, tf.Tensor]]:
    """Items for step 0, 1..., drawn in proportion to 1 + their number of ratings; their chances."""
    chances = 1.0 + np.bincount(histories.indices, minlength=histories.shape[1])
    chances /= chances.sum()
    cumulated = np.cumsum(chances)

    def sample(number):
        places = np.random.default_rng([seed, number, 1]).random(size)
        drawn = np.minimum(np.searchsorted(cumulated, places), len(chances) - 1)
        return tf.constant(drawn, tf.int64), tf.constant(chances[drawn], tf.float32)

    return sample


def touched_only(history: tf.SparseTensor, others: tf.Tensor) -> tuple[Any, tf.Tensor, tf.Tensor]:
    """Number anew the columns that occur in a history or among others [S], and drop the rest.

    Returns the history [n, K], the new numbers of the others, and the former ones of all [K].
    """
    touched, now = tf.unique(tf.concat([history.indices[:, 1], others], axis=0), tf.int64)
    count = tf.shape(history.values)[0]
    cells = tf.stack([history.indices[:, 0], now[:count]], axis=1)
    shape = tf.stack([tf.shape(history, tf.int64)[0], tf.size(touched, tf.int64)])
    return tf.SparseTensor(cells, history.values, shape), now[count:], touched


def rows_from(first: int, step: int, tensor: tf.SparseTensor) -> tf.SparseTensor:
    """Rows first, first + step, first + 2 step and so on, numbered anew."""
    tensor = tf.sparse.retain(tensor, tensor.indices[:, 0] % step == first)
    rows, columns = tf.unstack(tf.shape(tensor, tf.int64))
    cells = tf.stack([tensor.indices[:, 0] // step, tensor.indices[:, 1]], axis=1)
    return tf.SparseTensor(cells, tensor.values, [(rows - first + step - 1) // step, columns])


def to_matrix(tensor: tf.SparseTensor) -> scipy.sparse.csr_array:
    """The same in SciPy, where rows are quickly taken out; `to_tensor` goes back."""
    places = tuple(tensor.indices.numpy().T)
    return scipy.sparse.csr_array((tensor.values.numpy(), places), tuple(tensor.shape))

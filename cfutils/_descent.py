"""The arithmetic of gradient descent on a matrix factorization, and of measuring it.

The gradients computed are those of

    weight / 2 sum_{(i,j) in Omega} (U_i.V_j - A_ij)^2 + pull / 2 sum_{all i, j} (U_i.V_j)^2,

S V [N, d] and S^T U [M, d] where S_ij = pull U_i.V_j, plus weight (U_i.V_j - A_ij) on Omega, in
two forms:

- dense: S is an N x M table, best while that is small or well filled.
- sparse: XLA computes the errors of a batch of ratings without writing the gathered embeddings to
  memory; as sparse matrices, by user and by item, they multiply the tables. All ratings are done in
  a few large batches, which bound the memory. The second sum comes from Gram matrices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from cfutils._tensorflow import tf
from cfutils.losses import gravity, l2_penalty

FULL = 2**22  # ratings per batch where all are wanted: a batch needs about 100 bytes for each
TABLE = tf.TensorSpec([None, None], tf.float32)  # one graph serves tables of all sizes
_CHUNK = 16384  # ratings whose embeddings are looked up at once


def choose_kernel(num_users: int, num_items: int, num_ratings: int) -> str:
    """Name the faster full-batch form: "dense" or "sparse".

    Sparse work has a twentieth of the speed per entry; below 2^16 cells dense starts sooner
    (nothing to compile), above 2^24 (64 MiB a table) it is not considered.
    """
    cells = num_users * num_items
    dense = cells <= 2**16 or (cells <= 2**24 and cells <= 20 * num_ratings)
    return "dense" if dense else "sparse"


def step_function(kind, tables, optimizer, has_l2, has_pull, compiled) -> Callable[..., None]:
    """A step of descent on the variables U and V, `step(number, parts, weights, factors)`.

    Its kind is "dense", "sparse" (all batches), or "batch" (the one of that number). It takes
    tensors only, so that no graph keeps an old coefficient: what `dense_tables` or `sparse_tables`
    made; the weight of each batch, or of all; the factors of gravity and of l2 for users and for
    items, looked at only if the model has them. XLA compiles what the optimizer does if `compiled`.
    """

    def apply(gradients, factors):
        if has_l2:
            gradients = [g + f * t for g, f, t in zip(gradients, factors, tables, strict=True)]
        optimizer.apply(gradients, tables)

    if compiled:
        apply = tf.function(apply, autograph=False, jit_compile=True)

    def step(number, parts, weights, factors):
        pull, *factors = tf.unstack(factors, 3)
        U, V = (tf.convert_to_tensor(table) for table in tables)
        if kind == "dense":
            gradients = dense_gradient(parts, U, V)
        else:
            batches = number[None] if kind == "batch" else tf.range(tf.size(parts[-1]) - 1)
            weight = weights[number] if kind == "batch" else weights[0]
            gradients = sparse_gradient(parts, batches, weight, pull if has_pull else None, U, V)
        apply(gradients, factors)

    return step


def dense_tables(users, items, ratings, shape, weight, pull) -> tuple[tf.Tensor, tf.Tensor]:
    """Two [N, M] tables: the factor of U_i.V_j in S, and what is subtracted from the product."""
    factors = np.full(shape, pull, np.float32)
    factors[users, items] += np.float32(weight)
    offsets = np.zeros_like(factors)
    offsets[users, items] = np.float32(weight) * ratings
    return tf.constant(factors), tf.constant(offsets)


def dense_gradient(parts, U, V) -> tuple[tf.Tensor, tf.Tensor]:
    """S V and S^T U by three dense products."""
    factors, offsets = parts
    slopes = factors * tf.matmul(U, V, transpose_b=True) - offsets
    return tf.matmul(slopes, V), tf.matmul(slopes, U, transpose_a=True)


def sparse_tables(users, items, ratings, num_batches, generator=None, share=(0, 1)) -> tuple:
    """Deal ratings, in canonical order or at random, into batches of equal size, give or take one.

    A share (w, W) keeps of each batch the ratings of users w, w + W, w + 2 W...

    Returns a tuple of tensors, batch after batch, each in the order dealt: the pairs of user and
    item, int32 and flat [2 n], since to cut a piece off is slow in two dimensions; the ratings [n];
    where each batch starts and the last one ends [num_batches + 1]. And the size of each batch, all
    shares together.
    """
    starts = -(-np.arange(num_batches + 1) * len(users) // num_batches)
    sizes = np.diff(starts)
    if generator is not None:
        small = np.min_scalar_type(num_batches)  # batch numbers of few bytes are sorted faster
        numbers = np.repeat(np.arange(num_batches, dtype=small), sizes)
        order = np.argsort(generator.permutation(numbers), kind="stable")
        users, items, ratings = users[order], items[order], ratings[order]
        del order, numbers
    mine = users % share[1] == share[0]
    if not mine.all():
        starts = np.concatenate([[0], np.cumsum(mine)])[starts]
        users, items, ratings = users[mine], items[mine], ratings[mine]
    pairs = np.stack([users, items], axis=1, dtype=np.int32).ravel()
    return tuple(map(tf.constant, (pairs, ratings, starts))), sizes


def sparse_gradient(parts, batches, weight, pull, U, V) -> tuple[tf.Tensor, tf.Tensor]:
    """S V and S^T U of the ratings of the listed batches, at least one; pull may be None."""
    pairs, ratings, starts = parts

    def gradient(number):
        first, last = starts[batches[number]], starts[batches[number] + 1]
        chosen = tf.reshape(pairs[2 * first : 2 * last], [-1, 2])
        errors = _errors(chosen, ratings[first:last], U, V)
        matrix = _compressed(chosen, errors, [tf.shape(U)[0], tf.shape(V)[0]])
        return _times(matrix, V), _times(_transposed(matrix), U)

    def add(number, by_user, by_item):
        new_by_user, new_by_item = gradient(number)
        return number + 1, by_user + new_by_user, by_item + new_by_item

    count, sums = tf.size(batches), gradient(0)
    if batches.shape != [1]:
        start = 1, *sums
        _, *sums = tf.while_loop(lambda at, *_: at < count, add, start, parallel_iterations=1)
    by_user, by_item = (weight * total for total in sums)
    if pull is not None:
        by_user += pull * tf.matmul(U, tf.matmul(V, V, transpose_a=True))
        by_item += pull * tf.matmul(V, tf.matmul(U, U, transpose_a=True))
    return by_user, by_item


@tf.function(jit_compile=True, autograph=False)
def _errors(pairs, ratings, U, V):
    rows = tf.gather(U, pairs[:, 0])
    return tf.reduce_sum(rows * tf.gather(V, pairs[:, 1]), axis=1) - ratings  # [n]


def sparse_product(cells: Any, values: Any, shape: Any, table: tf.Tensor) -> tf.Tensor:
    """A sparse matrix times a table [columns, d], for which it has a gradient: a tensor [rows, d].

    The matrix is as in `_compressed`.
    """
    matrix = _compressed(cells, values, shape)

    # TensorFlow's own gradient also wants the matrix', and fails on an unknown shape.
    @tf.custom_gradient
    def product(table):
        return _times(matrix, table), lambda slopes: _times(_transposed(matrix), slopes)

    return product(table)


def _compressed(cells, values, shape):
    """A compressed matrix of float32 values [n] in cells [n, 2], sorted by row.

    `tf.sparse`'s own product takes several times as long.
    """
    shape = tf.stack([tf.cast(n, tf.int64) for n in shape])
    return tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=tf.cast(cells, tf.int64), values=values, dense_shape=shape
    )


def _transposed(matrix):
    # Formed, since the product's option for it adds up in the order in which threads finish.
    return tf.raw_ops.SparseMatrixTranspose(input=matrix, type=tf.float32)


def _times(matrix, table):
    product = tf.raw_ops.SparseMatrixMatMul(a=matrix, b=table)
    return tf.ensure_shape(product, [None, table.shape[1]])


def squared_error(pairs, ratings, U, V, dense=False) -> tf.Tensor:
    """Sum of squared errors, float64, a chunk of embeddings at a time.

    `dense` goes through the whole product, twice as fast where `choose_kernel` says "dense".
    """
    if dense:
        product = tf.matmul(U, V, transpose_b=True)
        cells = pairs[:, 0] * tf.shape(V, tf.int64)[0] + pairs[:, 1]
        errors = tf.gather(tf.reshape(product, [-1]), cells) - ratings
        return tf.reduce_sum(tf.square(tf.cast(errors, tf.float64)))

    def add(start, total):
        part = slice(start, start + _CHUNK)
        rows, columns = tf.gather(U, pairs[part, 0]), tf.gather(V, pairs[part, 1])
        errors = tf.reduce_sum(rows * columns, axis=1) - ratings[part]
        return start + _CHUNK, total + tf.cast(tf.reduce_sum(tf.square(errors)), tf.float64)

    count, start = tf.shape(ratings)[0], (tf.constant(0), tf.constant(0.0, tf.float64))
    return tf.while_loop(lambda at, _: at < count, add, start, parallel_iterations=1)[1]


@functools.cache
def measure_function(number: int, dense: bool) -> Callable[..., tf.Tensor]:
    """A function of `number` (pairs, ratings) and U, V: the squared errors of each, l2, gravity."""

    def measure(tensors, U, V):
        errors = [squared_error(pairs, ratings, U, V, dense) for pairs, ratings in tensors]
        pulls = [l2_penalty(U, V), gravity(U, V)]
        return tf.stack(errors + [tf.cast(pull, tf.float64) for pull in pulls])

    each = tf.TensorSpec([None, 2], tf.int64), tf.TensorSpec([None], tf.float32)
    return tf.function(measure, [[each] * number, TABLE, TABLE], autograph=False)

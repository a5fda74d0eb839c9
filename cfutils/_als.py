"""The arithmetic of alternating least squares on a matrix factorization."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from cfutils._descent import TABLE
from cfutils._tensorflow import tf

_CHUNK = 16384  # padded ratings per batch of least-squares rows


def least_squares_tables(rows, columns, ratings) -> tuple:
    """Group ratings [n], sorted by the rows to be solved, by the lengths of rows, for `solve_rows`.

    Returns tensors: the rows that have ratings, ordered by padded length; their columns and
    ratings, each row padded to its length with column -1; a table [chunks, 4] of chunks of rows of
    one length: first row, row count, first slot, length; and a bound of sum a_j^2 over rows.
    Lengths grow by a third, so that padding adds about a sixth.
    """
    solved, first, lengths = np.unique(rows, return_index=True, return_counts=True)
    grid = [4]
    while grid[-1] < lengths.max():
        grid.append(max(grid[-1] + 4, int(grid[-1] * 1.35) // 4 * 4))
    padded = np.asarray(grid)[np.searchsorted(grid, lengths)]
    order = np.argsort(padded, kind="stable")
    solved, first, lengths, padded = solved[order], first[order], lengths[order], padded[order]
    offsets = np.concatenate([[0], np.cumsum(padded)])
    within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    source = np.repeat(first, lengths) + within
    target = np.repeat(offsets[:-1], lengths) + within
    padded_columns = np.full(offsets[-1], -1, np.int32)
    padded_columns[target] = columns[source]
    padded_ratings = np.zeros([offsets[-1], 1], np.float32)
    padded_ratings[target, 0] = ratings[source]
    chunks, start = [], 0
    while start < len(solved):
        length = padded[start]
        end = np.searchsorted(padded, length, side="right")
        stop = min(end, start + max(1, _CHUNK // int(length)))
        chunks.append((start, stop - start, offsets[start], length))
        start = stop
    energy = np.bincount(rows, weights=np.square(ratings, dtype=np.float64)).max()
    made = solved.astype(np.int32), padded_columns, padded_ratings, np.asarray(chunks, np.int32)
    return *map(tf.constant, made), tf.constant(2.0 * energy + 1.0, tf.float32)


def solve_rows(target, fixed, tables, *, ridge, unobserved, proximal) -> tf.Tensor:
    """Replace each rated row x of the target [rows, d] by its least-squares solution.

    Row by row it solves (unobserved F^T F + sum_j F_j F_j^T + ridge I) x = sum_j a_j F_j, the sums
    over the row's ratings a_j, for F = `fixed` [columns, d]. With the ratings as one more column of
    the gathered embeddings one product gives matrix and right-hand side, and one Cholesky
    factorization of the bordered matrix solves the first triangle on the way.

    Without a ridge the matrix may be singular. `proximal` adds 1e-5 of the matrix' trace times
    |x - previous x|^2, above the rounding of float32: the loss still cannot grow, its minima stay
    where they are, and what the ratings leave open stays as it was.
    """
    solved, columns, ratings, chunks, energy = tables
    dim = tf.shape(fixed)[1]
    padded = tf.pad(fixed, [[1, 0], [0, 0]])  # row 0 is the zero row that padding points at
    last = tf.one_hot(dim, dim + 1)[:, None]  # [d + 1, 1]
    base = unobserved * tf.matmul(fixed, fixed, transpose_a=True) + ridge * tf.eye(dim)
    base = tf.pad(base, [[0, 1], [0, 1]]) + energy * last * tf.transpose(last)  # [d + 1, d + 1]

    def solve(index, solutions):
        first, count, slot, length = tf.unstack(chunks[index])
        part = slice(slot, slot + count * length)
        gathered = tf.gather(padded, columns[part] + 1)
        bordered = tf.concat([gathered, ratings[part]], axis=1)  # in two dimensions: twice as fast
        bordered = tf.reshape(bordered, [count, length, dim + 1])
        matrix = tf.matmul(bordered, bordered, transpose_a=True) + base  # [[H, b], [b^T, c]]
        if proximal:
            matrix += _proximal_term(matrix, tf.gather(target, solved[first : first + count]), last)
        factor = tf.linalg.cholesky(matrix)  # [[L, 0], [y^T, s]] with y = L^-1 b
        right = -last * factor[:, dim:, dim:]
        solution = tf.linalg.triangular_solve(factor, right, adjoint=True)  # [L^-T y, -1]
        return index + 1, solutions.write(index, solution[:, :dim, 0])

    count = tf.shape(chunks)[0]
    solutions = tf.TensorArray(tf.float32, count, infer_shape=False)
    start = 0, solutions
    _, solutions = tf.while_loop(lambda at, _: at < count, solve, start, parallel_iterations=4)
    return tf.tensor_scatter_nd_update(target, solved[:, None], solutions.concat())


def _proximal_term(matrix, previous, last):
    """What damping * |x - previous|^2 adds to the bordered matrices [B, d + 1, d + 1]."""
    dim = tf.shape(previous)[1]
    diagonal = tf.linalg.diag_part(matrix)[:, :dim]
    damping = 1e-5 * tf.reduce_sum(diagonal, axis=1, keepdims=True)  # [B, 1]
    pull = damping * previous  # [B, d]
    corner = tf.reduce_sum(pull * previous, axis=1, keepdims=True)
    added = tf.linalg.diag(tf.concat([tf.tile(damping, [1, dim]), corner], axis=1))
    return added + last * tf.pad(pull, [[0, 0], [0, 1]])[:, None, :]


@functools.cache
def sweeps_function(proximal: bool) -> Callable[..., tuple]:
    """A function of U, V, what `sweep_inputs` made, and a count: U and V after so many sweeps."""

    def sweeps(U, V, kept, tables, weights, count):
        by_user, by_item = tables
        user_ridge, item_ridge, unobserved = tf.unstack(weights)
        common = {"unobserved": unobserved, "proximal": proximal}

        def sweep(done, U, V):
            U = solve_rows(U * kept[0], V, by_user, ridge=user_ridge, **common)
            V = solve_rows(V * kept[1], U, by_item, ridge=item_ridge, **common)
            return done + 1, U, V

        start = tf.constant(0), U, V
        return tf.while_loop(lambda done, *_: done < count, sweep, start, parallel_iterations=1)[1:]

    column = tf.TensorSpec([None, 1], tf.float32)
    rows = tf.TensorSpec([None], tf.int32)
    table = (rows, rows, column, tf.TensorSpec([None, 4], tf.int32), tf.TensorSpec([], tf.float32))
    weights, count = tf.TensorSpec([3], tf.float32), tf.TensorSpec([], tf.int32)
    signature = [TABLE, TABLE, [column, column], (table, table), weights, count]
    return tf.function(sweeps, signature, autograph=False)


def sweep_inputs(users, items, ratings, shape, *, l2_coeff, gravity_coeff) -> tuple:
    """What a sweep needs beside U and V: which rows stay, tables by user and by item, weights."""
    by_item = np.argsort(items, kind="stable")
    tables = (
        least_squares_tables(users, items, ratings),
        least_squares_tables(items[by_item], users[by_item], ratings[by_item]),
    )
    count, (num_users, num_items) = len(ratings), shape
    l2, pull = l2_coeff * count, gravity_coeff * count / (num_users * num_items)
    weights = tf.constant([l2 / num_users, l2 / num_items, pull], tf.float32)
    free = l2_coeff == 0 and gravity_coeff == 0  # else a row without ratings has its minimum at 0
    kept = [
        tf.constant(free | (np.bincount(rows, minlength=number) > 0)[:, None], tf.float32)
        for rows, number in ((users, num_users), (items, num_items))
    ]
    return kept, tables, weights

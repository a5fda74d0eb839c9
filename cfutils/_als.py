"""The arithmetic of alternating least squares on a matrix factorization.

NumPy in threads does it: on large data faster than TensorFlow, and without padded copies of the
ratings.
"""

from __future__ import annotations

import concurrent.futures
import functools
import os
from collections.abc import Callable

import numpy as np
import scipy.sparse
from threadpoolctl import ThreadpoolController

# Small enough that the allocator keeps the memory: pages given back cost as much as the work.
_PIECE = 2**18  # numbers in the embeddings that a thread looks up at once, 1 MiB
_BLOCK = 20_000  # what a thread solves in one go; a row counts as its ratings and 4 d more
_WORKERS = min(8, os.cpu_count() or 1)
_threadpools = functools.cache(ThreadpoolController)


def sweeps_function(users, items, ratings, shape, dim, *, l2_coeff, gravity_coeff) -> Callable:
    """A function of U [N, d], V [M, d] and a count: U and V after so many sweeps.

    Users, items, int32 [n], and ratings, float32 [n], are in canonical order. What is solved
    together, and so its rounding, follows from them, not from the number of threads.
    """
    count, (num_users, num_items) = len(ratings), shape
    by_user = scipy.sparse.csr_array((ratings, items, _starts(users, num_users)), shape=shape)
    ratings_of = [by_user, by_user.tocsc()]
    blocks = [_blocks(np.diff(each.indptr), dim) for each in ratings_of]
    unobserved = gravity_coeff * count / (num_users * num_items)
    ridges = [l2_coeff * count / number for number in shape]
    free = l2_coeff == 0 and gravity_coeff == 0  # else a row without ratings has its minimum at 0

    def sweeps(U, V, count):
        tables = [U, V]
        # Our threads take the place of the BLAS library's.
        with (
            _threadpools().limit(limits=1, user_api="blas"),
            concurrent.futures.ThreadPoolExecutor(_WORKERS) as executor,
        ):
            for half in [0, 1] * count:
                target, fixed = tables[half], tables[1 - half]
                solved = target.copy() if free else np.zeros_like(target)
                base = unobserved * fixed.T @ fixed
                base += ridges[half] * np.eye(dim)
                solve = functools.partial(
                    solve_rows, target, np.pad(fixed, [(0, 1), (0, 0)]), ratings_of[half],
                    base=base, proximal=l2_coeff == 0,
                )  # fmt: skip
                found = executor.map(solve, blocks[half])
                for rows, solutions in zip(blocks[half], found, strict=True):
                    solved[rows] = solutions
                tables[half] = solved
        return tables

    return sweeps


def _starts(rows, number):
    return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=number))])


def _blocks(lengths, dim):
    """Cut the rows that have ratings, the longest first, into arrays of about equal work."""
    rows = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    work = np.cumsum(lengths[rows] + 4 * dim)
    return np.split(rows, np.flatnonzero(np.diff(work // _BLOCK)) + 1)


def solve_rows(target, fixed, ratings, rows, *, base, proximal) -> np.ndarray:
    """The least-squares solutions x [n, d] of some rows of the target [rows, d].

    Row by row it solves (base + sum_j F_j F_j^T) x = sum_j a_j F_j, the sums over the row's ratings
    a_j, for F = `fixed` [columns + 1, d], whose last row is zero. The ratings are a compressed
    sparse matrix, by the rows to be solved; those asked for have some, the longest first. The
    Cholesky factorization of the matrix bordered by its right-hand side also solves the first
    triangle.

    Without a ridge the matrix may be singular. `proximal` adds 1e-5 of the matrix' trace times
    |x - previous x|^2, above the rounding of float32: the loss still cannot grow, its minima stay
    where they are, and what the ratings leave open stays as it was.
    """
    first, dim = ratings.indptr[rows], fixed.shape[1]
    lengths = ratings.indptr[rows + 1] - first
    bordered = np.empty([len(rows), dim + 1, dim + 1], np.float32)  # [[H, b], [b^T, c]]
    matrix, right = bordered[:, :dim, :dim], bordered[:, dim, :dim]
    start = 0
    with np.errstate(all="ignore"):  # what is not finite shows in the loss
        while start < len(rows):
            part = slice(start, start + max(1, _PIECE // (int(lengths[start]) * dim)))
            within = np.arange(lengths[start])
            places = first[part, None] + within  # [rows, length]: padded to that of the longest
            columns = np.take(ratings.indices, places, mode="clip")
            columns[within >= lengths[part, None]] = len(fixed) - 1
            values = np.take(ratings.data, places, mode="clip")
            rated = np.take(fixed, columns, axis=0, mode="clip")  # [rows, length, d]
            np.matmul(rated.transpose(0, 2, 1), rated, out=matrix[part])
            right[part] = (values[:, None, :] @ rated)[:, 0]
            start = part.stop
        matrix += base
        if proximal:
            damping = 1e-5 * np.trace(matrix, axis1=1, axis2=2)[:, None]
            np.einsum("ndd->nd", matrix)[:] += damping
            right += damping * target[rows]
        bordered[:, :dim, dim] = right  # OpenBLAS reads it too: it must not hold what overflows
        bordered[:, dim, dim] = 1e38  # c only has to leave something positive
        try:
            factor = np.linalg.cholesky(bordered)  # [[L, 0], [y^T, s]] with y = L^-1 b
        except np.linalg.LinAlgError as error:
            raise FloatingPointError(str(error)) from error
        solution = factor[:, dim, :dim].copy()
        for k in reversed(range(dim)):  # L^-T y, for all rows at once
            solution[:, k] /= factor[:, k, k]
            solution[:, :k] -= solution[:, k, None] * factor[:, k, :k]
    return solution

"""The arithmetic under `CFModel`: gradients of the loss, and rows of least squares.

Everything here is a function of tensors and of index tables made once per training run. The
gradients computed are those of

    weight / 2 sum_{(i,j) in Omega} (U_i.V_j - A_ij)^2 + pull / 2 sum_{all i, j} (U_i.V_j)^2,

S V and S^T U where S_ij = pull U_i.V_j, plus weight (U_i.V_j - A_ij) on Omega. Three forms:

- dense: S is an N x M table, three matrix products; the second sum costs nothing extra. Best while
  that table is small or well filled.
- sparse: the errors of a batch of ratings are computed by XLA without writing the gathered
  embeddings to memory; laid out as sparse matrices, by user and by item, they multiply the tables.
  O(batch d + (N + M) d) time. All ratings are done in a few large batches, which bound the memory.

The latter takes the second sum from Gram matrices. `choose_kernel` picks for full-batch training;
tests hold both to the same gradients.
"""

import itertools

import numpy as np

from cfutils._tensorflow import tf

FULL = 2**22  # ratings per batch where all are wanted: a batch needs about 100 bytes for each
_CHUNK = 16384  # ratings whose embeddings are looked up at once
_ROWS_CHUNK = 16384  # padded ratings per batch of least-squares rows


def choose_kernel(num_users, num_items, num_ratings):
    """Name the faster full-batch form: "dense" or "sparse".

    Dense work grows with N M, sparse work with |Omega|, at about a twentieth of the speed per
    entry; below 65,536 cells dense starts sooner (nothing to compile), above 2^24 cells (64 MiB a
    table) it is not considered.
    """
    cells = num_users * num_items
    dense = cells <= 2**16 or (cells <= 2**24 and cells <= 20 * num_ratings)
    return "dense" if dense else "sparse"


def dense_tables(users, items, ratings, num_users, num_items, weight, pull):
    """Two [N, M] tables: the factor of U_i.V_j in S, and what is subtracted from the product."""
    factors = np.full((num_users, num_items), pull, np.float32)
    factors[users, items] += np.float32(weight)
    offsets = np.zeros_like(factors)
    offsets[users, items] = np.float32(weight) * ratings
    return tf.constant(factors), tf.constant(offsets)


def dense_gradient(tables, user_embeddings, item_embeddings):
    """(S V [N, d], S^T U [M, d]) by three dense products. Time O(N M d), memory O(N M)."""
    factors, offsets = tables
    product = tf.matmul(user_embeddings, item_embeddings, transpose_b=True)
    slopes = factors * product - offsets
    return (
        tf.matmul(slopes, item_embeddings),
        tf.matmul(slopes, user_embeddings, transpose_a=True),
    )


def sparse_tables(users, items, ratings, num_batches, generator=None, share=(0, 1)):
    """Deal ratings, sorted by user and then item, into batches of equal size, give or take one.

    Args:
        users: int32 [n].
        items: int32 [n].
        ratings: float32 [n].
        num_batches: Number of batches, up to n.
        generator: NumPy generator that deals them out at random; None for slices as they come.
        share: (w, W) keeps of each batch the ratings of users w, w + W, w + 2 W...

    Returns:
        A tuple of tensors, batch after batch: the pairs (user, item) of a batch in the order given
        and the pairs (item, user) in the order of items, int64 [n, 2]; ratings [n] in the former
        order; for the latter order the places in the former [n]; where each batch starts and the
        last one ends [num_batches + 1]; the size of each batch, all shares together, float32
        [num_batches]. Time O(n log n), memory O(n).
    """
    count = len(users)
    starts = -(-np.arange(num_batches + 1) * count // num_batches)
    if generator is not None:
        small = np.min_scalar_type(num_batches)  # batch numbers of few bytes are sorted faster
        numbers = np.repeat(np.arange(num_batches, dtype=small), np.diff(starts))
        order = np.argsort(generator.permutation(numbers), kind="stable")
        users, items, ratings = users[order], items[order], ratings[order]
        del order, numbers
    sizes = np.diff(starts).astype(np.float32)
    mine = users % share[1] == share[0]
    if not mine.all():
        starts = np.concatenate([[0], np.cumsum(mine)])[starts]
        users, items, ratings = users[mine], items[mine], ratings[mine]
        count = len(users)
    # One after the other, and each let go once TensorFlow has its copy.
    ratings = tf.constant(ratings)
    pairs = np.empty((count, 2), np.int64)
    pairs[:, 0], pairs[:, 1] = users, items
    del users
    by_user = tf.constant(pairs)
    moves = np.empty(count, np.int32)
    for start, stop in itertools.pairwise(starts):
        moves[start:stop] = np.argsort(items[start:stop], kind="stable")
        pairs[start:stop] = pairs[start:stop][moves[start:stop], ::-1]
    del items
    by_item = tf.constant(pairs)
    del pairs
    return by_user, by_item, ratings, *map(tf.constant, (moves, starts.astype(np.int32), sizes))


def sparse_gradient(tables, batches, weight, pull, user_embeddings, item_embeddings):
    """(S V [N, d], S^T U [M, d]) of the listed batches of ratings.

    Args:
        tables: What `sparse_tables` returned.
        batches: int32 tensor [number], at least one.
        weight: Scalar tensor.
        pull: Python number.
        user_embeddings: U, float32 [N, d].
        item_embeddings: V, float32 [M, d].

    Time O(n d + (N + M) d) for n ratings, O((N + M) d^2) more with a pull; memory O(n + (N + M) d)
    for the largest batch.
    """
    *columns, starts, _ = tables

    def gradient(number):
        part = slice(starts[batches[number]], starts[batches[number] + 1])
        return _batch_gradient(
            *(column[part] for column in columns), user_embeddings, item_embeddings
        )

    def add(number, by_user, by_item):
        new_by_user, new_by_item = gradient(number)
        return number + 1, by_user + new_by_user, by_item + new_by_item

    count = tf.size(batches)
    sums = tf.while_loop(
        lambda number, *_: number < count, add, (1, *gradient(0)), parallel_iterations=1
    )[1:]
    by_user, by_item = (weight * total for total in sums)
    if pull:
        user_pull, item_pull = _pulls(user_embeddings, item_embeddings)
        by_user, by_item = by_user + pull * user_pull, by_item + pull * item_pull
    return by_user, by_item


def _batch_gradient(by_user, by_item, ratings, moves, user_embeddings, item_embeddings):
    """E V and E^T U for the errors E of a batch."""
    errors = _errors(by_user, ratings, user_embeddings, item_embeddings)
    shape = [tf.shape(user_embeddings, tf.int64)[0], tf.shape(item_embeddings, tf.int64)[0]]
    return (
        sparse_product(by_user, errors, shape, item_embeddings),
        sparse_product(by_item, tf.gather(errors, moves), shape[::-1], user_embeddings),
    )


def sparse_product(cells, values, shape, table):
    """A sparse matrix times a dense one, tensor [rows, d]; it has a gradient for the latter.

    `tf.sparse`'s own product takes several times as long.

    Args:
        cells: int64 [n, 2], sorted by row.
        values: float32 [n].
        shape: The matrix's, a pair of integers or tensors.
        table: float32 [columns, d].

    Time O(n d + rows d), memory O(n + rows d).
    """
    matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=cells, values=values, dense_shape=tf.stack([tf.cast(n, tf.int64) for n in shape])
    )

    def times(matrix, dense):
        product = tf.raw_ops.SparseMatrixMatMul(a=matrix, b=dense)
        return tf.ensure_shape(product, [None, dense.shape[1]])

    # TensorFlow's own gradient also wants the matrix', and fails on an unknown shape. The transpose
    # is formed, since the product's option for it adds up in the order in which threads finish.
    @tf.custom_gradient
    def product(table):
        return times(matrix, table), lambda slopes: times(
            tf.raw_ops.SparseMatrixTranspose(input=matrix, type=tf.float32), slopes
        )

    return product(table)


def _pulls(user_embeddings, item_embeddings):
    """U V^T V [N, d] and V U^T U [M, d]."""
    user_gram = tf.matmul(user_embeddings, user_embeddings, transpose_a=True)
    item_gram = tf.matmul(item_embeddings, item_embeddings, transpose_a=True)
    return tf.matmul(user_embeddings, item_gram), tf.matmul(item_embeddings, user_gram)


def squared_error(pairs, ratings, user_embeddings, item_embeddings, dense=False):
    """Sum of squared errors, float64.

    Time O(|Omega| d), memory O(|Omega|), a chunk of embeddings at a time. `dense` goes through the
    whole product: time O(N M d), memory O(N M), twice as fast where `choose_kernel` says "dense".
    """
    if dense:
        product = tf.matmul(user_embeddings, item_embeddings, transpose_b=True)
        cells = pairs[:, 0] * tf.shape(item_embeddings, tf.int64)[0] + pairs[:, 1]
        errors = tf.gather(tf.reshape(product, [-1]), cells) - ratings
        return tf.reduce_sum(tf.square(tf.cast(errors, tf.float64)))
    count = tf.shape(ratings)[0]

    def add(start, total):
        part = slice(start, start + _CHUNK)
        rows = tf.gather(user_embeddings, pairs[part, 0])
        columns = tf.gather(item_embeddings, pairs[part, 1])
        errors = tf.reduce_sum(rows * columns, axis=1) - ratings[part]
        return start + _CHUNK, total + tf.cast(tf.reduce_sum(tf.square(errors)), tf.float64)

    start = tf.constant(0), tf.constant(0.0, tf.float64)
    return tf.while_loop(lambda at, _: at < count, add, start, parallel_iterations=1)[1]


def least_squares_tables(rows, columns, ratings):
    """Group the rows of a rating table by length, for `solve_rows`.

    Args:
        rows: int32 [n], sorted: the side to be solved.
        columns: int32 [n]: the other side, held fixed.
        ratings: float32 [n].

    Returns:
        A tuple of tensors: the rows that have ratings, ordered by padded length; their columns
        and ratings, each row padded to its length with column -1; a table [chunks, 4] of
        chunks of rows of one length: first row, row count, first slot, length; and a bound of
        sum a_j^2 over rows. Lengths grow by a third, so that padding adds about a sixth.
        Memory O(n).
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
    padded_ratings = np.zeros(offsets[-1], np.float32)
    padded_ratings[target] = ratings[source]
    chunks, start = [], 0
    while start < len(solved):
        length = padded[start]
        stop = min(
            np.searchsorted(padded, length, side="right"),
            start + max(1, _ROWS_CHUNK // int(length)),
        )
        chunks.append((start, stop - start, offsets[start], length))
        start = stop
    energy = np.bincount(rows, weights=np.square(ratings, dtype=np.float64)).max()
    return (
        tf.constant(solved.astype(np.int32)),
        tf.constant(padded_columns),
        tf.constant(padded_ratings[:, None]),
        tf.constant(np.asarray(chunks, np.int32)),
        tf.constant(2.0 * energy + 1.0, tf.float32),
    )


def solve_rows(target, fixed, tables, ridge, unobserved, proximal):
    """Replace every rated row x of `target` by its least-squares solution, `fixed` F held constant.

    Row by row it solves (unobserved F^T F + sum_j F_j F_j^T + ridge I) x = sum_j a_j F_j, the sums
    over the row's ratings a_j. The ratings are appended to the gathered embeddings as one more
    column, so that one product gives matrix and right-hand side, and one Cholesky factorization
    of the bordered matrix solves the first triangle on the way.

    Without a ridge the matrix may be singular. `proximal` adds 1e-5 of the matrix' trace times
    |x - previous x|^2, above the rounding of float32: the loss still cannot grow, its minima stay
    where they are, and what the ratings leave open stays as it was.

    Args:
        target: float tensor [rows, d].
        fixed: float tensor [columns, d].
        tables: What `least_squares_tables` returned.
        ridge: Scalar tensor.
        unobserved: Scalar tensor, the weight of every pair, observed or not.
        proximal: Python bool.

    Returns:
        float tensor [rows, d]; rows without ratings are those of `target`.

    Time O(|Omega| d^2 + rows d^3); memory O(|Omega|) for the tables and O(d^2 + chunk d) beside.
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
    _, solutions = tf.while_loop(
        lambda index, _: index < count, solve, (0, solutions), parallel_iterations=4
    )
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


@tf.function(jit_compile=True, autograph=False)
def _errors(pairs, ratings, user_embeddings, item_embeddings):
    rows = tf.gather(user_embeddings, pairs[:, 0])
    return tf.reduce_sum(rows * tf.gather(item_embeddings, pairs[:, 1]), axis=1) - ratings  # [n]

"""From embeddings to scores, and to the items with the highest: arrays in, arrays out."""

from __future__ import annotations

import concurrent.futures
import math
import os

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from cfutils import _checks, _progress

MEASURES = ("dot", "cosine")

# A thread holds the scores of a block of queries and items, 4 MiB, about what stays in the cache.
_CELLS, _ROWS, _COLUMNS, _PER_K = 2**20, 256, 8192, 200
_WORKERS = min(8, os.cpu_count() or 1)
_GROUPS = 512  # of columns, at least


def compute_scores(
    queries: ArrayLike,
    item_embeddings: ArrayLike,
    measure: str = "dot",
    *,
    alpha: float | None = None,
) -> np.ndarray:
    """Scores every item for each query.

    With u a query and v an item,

      dot:              <u, v>
      dot with alpha:   <u, v> / |v|^alpha,  from the dot product (0) to the order of cosine (1)
      cosine:           <u, v> / (|u| |v|)

    A zero vector scores 0 by every measure.

    Args:
        queries: [n, d], or one query [d]; users' or items' embeddings.
        item_embeddings: [num_items, d].
        measure: "dot" or "cosine".
        alpha: power of the item's norm to divide by, 0 or more; with "dot" only.

    Returns: float32 array [n, num_items], or [num_items] for one query.
    Raises: ValueError if a shape, the measure or alpha is wrong, or scores would not be finite.
    """
    queries = np.asarray(queries)
    single = queries.ndim == 1
    queries, items = _prepare(queries[None] if single else queries, item_embeddings, measure, alpha)
    scores = queries @ items.T
    return scores[0] if single else scores


def top_k(
    queries: ArrayLike,
    item_embeddings: ArrayLike,
    k: int,
    *,
    measure: str = "dot",
    alpha: float | None = None,
    exclude: scipy.sparse.sparray | scipy.sparse.spmatrix | None = None,
    progress: bool | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k items with the highest scores for each query, exactly, in bounded memory.

    Equal scores stand in the order of the items; `metrics.rank_candidates` draws their order.

    Args:
        queries, item_embeddings, measure, alpha: as for `compute_scores`, queries [n, d].
        k: length of a list.
        exclude: SciPy sparse matrix [n, num_items]; its stored entries are left out.
        progress: whether to show a bar on standard error; None if that is a terminal.

    Returns: `(items [n, k], scores [n, k])`, row numbers of items and float32, best first; -1 and
    NaN where fewer than k items remain.
    Raises: ValueError as for `compute_scores`, or if k or `exclude` is wrong.
    Cost: O(n num_items d) time, in threads; beyond inputs and result a float32 copy of the
    embeddings and about 6 MiB for each of up to 8 threads.
    """
    vectors, items = _prepare(queries, item_embeddings, measure, alpha)
    found = np.full((len(vectors), _checks.positive_integer("k", k)), -1)
    best = np.full(found.shape, np.nan, np.float32)
    shape = [len(vectors), len(items)]
    if exclude is not None:
        if not scipy.sparse.issparse(exclude) or list(exclude.shape) != shape:
            raise ValueError(
                f"exclude should be a SciPy sparse matrix {shape}, a row per query. Received: "
                f"{type(exclude).__name__} {getattr(exclude, 'shape', '')}. For ratings: "
                "data.interactions()."
            )
        exclude = exclude.tocsr()
    if not len(items):
        return found, best
    blocks = math.ceil(len(items) / max(_COLUMNS, _PER_K * k))  # each gives k candidates
    width = math.ceil(len(items) / blocks)
    rows = max(1, min(_ROWS, _CELLS // width))

    def block(start):
        chosen, above, parts = slice(start, start + rows), None, []
        left_out = None if exclude is None else exclude[chosen].tocoo()
        for first in range(0, len(items), width):
            scores = vectors[chosen] @ items[first : first + width].T
            if left_out is not None:
                here = (left_out.col >= first) & (left_out.col < first + width)
                scores[left_out.row[here], left_out.col[here] - first] = -np.inf
            columns = best_columns(scores, k, above=above)
            values = np.take_along_axis(scores, columns, axis=1)
            values[columns < 0] = -np.inf
            parts.append((columns + first, values))
            above = np.max([values[:, -1:] for _, values in parts], axis=0)
        columns, values = (np.hstack(part) for part in zip(*parts, strict=True))
        if len(parts) > 1:  # place -1, where there are too few, is one of them: -inf
            places = best_columns(values, k)
            columns = np.take_along_axis(columns, places, axis=1)
            values = np.take_along_axis(values, places, axis=1)
        found[chosen] = np.where(values > -np.inf, columns, -1)
        best[chosen] = np.where(values > -np.inf, values, np.nan)
        return len(values)

    # Our threads take the place of the BLAS library's: they share out the choosing too.
    with (
        _progress.bar(len(vectors), "query", progress) as bar,
        threadpool_limits(1, "blas"),
        concurrent.futures.ThreadPoolExecutor(_WORKERS) as executor,
    ):
        for done in executor.map(block, range(0, len(vectors), rows)):
            bar.update(done)
    return found, best


def best_columns(scores: np.ndarray, k: int, *, above: np.ndarray | None = None) -> np.ndarray:
    """Finds the columns [n, k] of the k highest values in each row of an array [n, m] without NaN.

    The highest come first, equal values in the order of the columns; -1 where fewer than k values
    are higher than -inf, or than `above`, an array [n, 1].
    """
    num_rows, num_columns = scores.shape
    found = np.full((num_rows, k), -1)
    wanted = min(k, num_columns)
    if not wanted or not num_rows:
        return found
    many = 4 * num_rows * wanted
    candidates = None if above is None else scores > above
    if candidates is None or np.count_nonzero(candidates) > many:
        # Column j is in group j % width. The k-th highest value is no lower than the k-th highest
        # maximum of a group, and few are as high: a comparison of each in the place of a selection.
        width = max(_GROUPS, 4 * wanted)
        maxima = scores
        if num_columns >= 2 * width:
            whole = num_columns // width * width
            maxima = scores[:, :whole].reshape(num_rows, -1, width).max(axis=1)
        lowest = np.partition(maxima, -wanted, axis=1)[:, -wanted, None]
        high = scores >= np.nan_to_num(lowest)  # -inf becomes finite: it is never high
        candidates = high if candidates is None else high & candidates
        if np.count_nonzero(candidates) > many:
            for row in range(num_rows):  # of many equal values the first are enough
                equal = np.flatnonzero(scores[row] == lowest[row])
                candidates[row, equal[wanted:]] = False
    rows, columns = np.divmod(np.flatnonzero(candidates), num_columns)
    order = np.lexsort((-scores[rows, columns], rows))  # stable: equal values stay in their order
    rows, columns = rows[order], columns[order]
    places = np.arange(len(rows)) - np.searchsorted(rows, rows)
    best = places < wanted
    found[rows[best], places[best]] = columns[best]
    return found


def _prepare(queries, item_embeddings, measure, alpha):
    """Float32 queries and items whose dot products are the scores."""
    if measure not in MEASURES:
        raise ValueError(f"measure should be one of {', '.join(MEASURES)}. Received: {measure!r}.")
    if alpha is not None and measure != "dot":
        raise ValueError(
            f"alpha should be None with measure={measure!r}. Received: {alpha!r}. "
            "It is for measure='dot'."
        )
    cosine = measure == "cosine"
    power = 1.0 if cosine else _checks.finite("alpha", 0 if alpha is None else alpha)
    queries, items = _matrix("queries", queries), _matrix("item_embeddings", item_embeddings)
    if queries.shape[1] != items.shape[1]:
        raise ValueError(
            f"queries should have as many columns as item_embeddings, {items.shape[1]}. "
            f"Received: {queries.shape[1]}."
        )
    items = _divided(items, power) if power else items
    queries = _divided(queries, 1.0) if cosine else queries
    # Cauchy and Schwarz: no score can be larger than this.
    highest = [_norms(vectors).max(initial=0) for vectors in (queries, items)]
    if not highest[0] * highest[1] < 1e38:
        raise ValueError(
            "queries and item_embeddings should give scores below 1e38. Received: norms up to "
            f"{highest[0]:.3g} and, after division, {highest[1]:.3g}. Has the training diverged?"
        )
    return queries, items


def _divided(vectors, power):
    """Vectors by a power of their norms; zero vectors stay as they are."""
    norms = _norms(vectors)[:, None]
    with np.errstate(all="ignore"):  # `_prepare` refuses what is not finite
        return np.where(norms > 0, vectors * norms**-power, 0).astype(np.float32)


def _norms(vectors):
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))


def _matrix(name, values):
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} should be a table of numbers, [rows, d]. Received: shape "
            f"{list(values.shape)}, {values.dtype}."
        )
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise ValueError(
            f"{name} should be finite in float32. Received: {values[row].tolist()} in row {row}. "
            "Has the training diverged?"
        )
    return values

"""Checks answers to the exercises of the notebooks.

Each takes the function that you wrote, tries it on a few small cases, and says in a sentence or two
whether it is right and, where it is not, what is likely to be wrong:

    >>> exercises.gravity(lambda U, V: tf.reduce_sum((U @ tf.transpose(V)) ** 2))
    Not yet: you add up the squared scores; divide by the number of pairs, N M.

What is right is computed here with NumPy, apart from the code of the package. No answer makes a
check raise, whether it is wrong, half done or stops with an error. Everywhere A [N, M] are ratings,
U [N, d] and V [M, d] embeddings of users and movies, tensors where nothing else is said.
"""

from __future__ import annotations

import tracemalloc
import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import approx_fprime
from scipy.special import log_softmax

from cfutils.course._checking import Case, NotYet, call, close, exercise, kind, read_array
from cfutils.course._checking import Result as Result


def _ratings(seed: int, N: int, M: int) -> np.ndarray:
    """Ratings [N, M], NaN where nothing is observed; nobody has rated the last movie."""
    rng = np.random.default_rng(seed)
    A = rng.integers(1, 6, (N, M)).astype(float)
    A[rng.random((N, M)) < 0.5] = np.nan
    A[:2, :2] = [[4.0, np.nan], [2.0, 5.0]]
    A[:, -1] = np.nan
    return A


def _normal(seed: Any, *shapes: Any) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=shape) for shape in shapes)


_MATRICES = [  # ratings [N, M] with NaN, U [N, d] and V [M, d]
    (_ratings(seed, N, M), *_normal([seed, 1], (N, d), (M, d)))
    for seed, N, M, d in ((0, 3, 4, 2), (1, 6, 5, 3), (2, 4, 9, 1))
]


def _tensors(*values: Any) -> Case:
    """Arrays as tensors, those with NaN as sparse ones; all else as it is."""
    from cfutils._tensorflow import tf

    def tensor(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        seen = ~np.isnan(value)
        value = value.astype(np.int32 if value.dtype.kind == "i" else np.float32)
        sparse = np.argwhere(seen), value[seen], value.shape
        return tf.constant(value) if seen.all() else tf.SparseTensor(*sparse)

    return tuple(map(tensor, values))


def _sums(seed: int, k: float, mu: float) -> Case:
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 60, 6 + seed)
    return n * rng.uniform(1, 5, len(n)).round(2), n, k, mu


@exercise(
    [_sums(0, 20, 3.5), _sums(1, 3, 2.75), _sums(2, 0.5, 4.0)],
    [(np.array([0.0, 9.0]), np.array([0, 2]), 4, 3.0)],
    praise="few ratings stay close to the overall mean, many leave it, and none at all give mu.",
)
def shrunken_mean(total, n, k, mu):
    """Check f(total, n, k, mu): from arrays of sums and numbers of ratings to shrunk means [M]."""
    right = (total + k * mu) / (n + k)
    if 0 in n:
        zero = "a movie without ratings should get mu = {right}, and yours gets {mine}. "
        return right, {zero + "Don't divide by n alone.": None}
    return right, {
        "this is the plain mean; add k imagined ratings of mu to the real ones.": total / n,
        "the k imagined ratings are not in your count; divide by n + k.": (total + k * mu) / n,
        "the k imagined ratings are not in your sum; add k mu.": total / (n + k),
        "each of the k imagined ratings is worth mu; you add mu only once.": (total + mu) / (n + k),
        "`total` is a sum already; don't multiply by n.": (n * total + k * mu) / (n + k),
    }


def _counts(seed: int, size: int, fraction: float) -> Case:
    rng = np.random.default_rng(seed)
    distinct = np.cumsum(1 + (rng.pareto(0.5, size) * 10).astype(int))
    return pd.Series(rng.permutation(distinct), rng.permutation(size)), fraction


@exercise(
    [_counts(0, 100, 0.1), _counts(1, 50, 0.2), _counts(2, 40, 0.5), _counts(3, 400, 0.1)],
    praise="your shares are right for every fraction and every order of the movies.",
)
def top_share(counts, fraction):
    """Check f(counts, fraction): a Series to the share of its sum in the highest fraction of it."""
    some, tenth = round(fraction * len(counts)), round(0.1 * len(counts))
    sizes, all_of_them = np.sort(counts)[::-1], counts.sum()
    right = sizes[:some].sum() / all_of_them
    return right, {
        "a share of 1 is everything; yours is in percent.": 100 * right,
        "you take the movies as they come; sort them.": counts.iloc[:some].sum() / all_of_them,
        "these are the least rated movies; sort downwards.": sizes[-some:].sum() / all_of_them,
        "you always take 10 movies; use `fraction`.": sizes[:10].sum() / all_of_them,
        "you always take a tenth of the movies; use `fraction`.": sizes[:tenth].sum() / all_of_them,
        "this is how many ratings the movies hold; divide by all ratings.": sizes[:some].sum(),
    }


def _rated(seed: int, N: int, M: int) -> Case:
    A = _ratings(seed, N, M)
    users, items = np.nonzero(~np.isnan(A))
    columns = {"item_num": items, "rating": A[users, items].astype(int), "user_num": users}
    return pd.DataFrame(columns), N, M


def _read_sparse(answer: Any, right: np.ndarray) -> np.ndarray:
    """The ratings of a sparse tensor [N, M], NaN elsewhere."""
    from cfutils._tensorflow import tf

    if not isinstance(answer, tf.SparseTensor):
        raise NotYet(f"return a tf.SparseTensor, of the observed cells; this is {kind(answer)}.")
    wanted, pairs = np.argwhere(~np.isnan(right)), answer.indices.numpy()
    if pairs.shape != wanted.shape:
        text = f"a frame of {len(wanted)} ratings became {len(pairs)} entries in {pairs.shape[1]} "
        raise NotYet(f"{text}dimensions; one entry [user, movie] per row is wanted.")
    found, expected = pairs.tolist(), wanted.tolist()
    if sorted(found) != expected and sorted(pairs[:, ::-1].tolist()) == expected:
        raise NotYet("rows and columns are swapped; users are rows, so `user_num` goes first.")
    if answer.shape != right.shape:
        raise NotYet(f"the shape is {answer.shape}, not {right.shape}; give it as dense_shape.")
    if sorted(found) != expected:
        raise NotYet("the indices are not those of the frame; take both columns by name.")
    dense = np.full(right.shape, np.nan)
    dense[tuple(pairs.T)] = answer.values.numpy()
    if answer.dtype != tf.float32 and close(dense, right):
        raise NotYet(f"the values are {answer.dtype.name}; embeddings need them as float32.")
    return dense


@exercise(
    [_rated(0, 4, 6), _rated(1, 7, 5)],
    praise="users are rows, movies are columns, and only what is observed is stored.",
    read=_read_sparse,
)
def sparse_tensor(frame, num_users, num_items):
    """Check f(frame, N, M): `user_num`, `item_num`, `rating` to a float32 `tf.SparseTensor`."""
    A = np.full((num_users, num_items), np.nan)
    A[frame["user_num"], frame["item_num"]] = frame["rating"]
    return A, {"the values are not the ratings of the frame, each in its own cell.": None}


@exercise(
    _MATRICES,
    praise="only observed pairs count, and your error is the mean of their squares.",
    given=_tensors,
)
def mean_squared_error(A, U, V):
    """Check f(A, U, V), A sparse: the mean over the observed pairs of (A_ij - <U_i, V_j>)^2."""
    e, dense = (A - U @ V.T)[~np.isnan(A)], np.nan_to_num(A) - U @ V.T
    filled = [np.mean(dense**2), np.sum(dense**2) / len(e), np.sum(dense**2), np.mean(abs(dense))]
    return np.mean(e**2), {
        "an unobserved cell counts in your loss; only observed pairs may.": filled,
        "you divide by all N M cells; divide by the number of observed pairs.": sum(e**2) / A.size,
        "you take the mean of the errors; square them first.": [np.mean(e), -np.mean(e)],
        "you take the size of the errors; square them instead.": np.mean(abs(e)),
        "you add the squared errors up; take their mean.": np.sum(e**2),
        "this is the root of the mean squared error; leave the root out.": np.mean(e**2) ** 0.5,
        "you square the mean; take the mean of the squares.": np.mean(e) ** 2,
    }


def _read_tables(answer: Any, right: np.ndarray) -> np.ndarray:
    """The tables (U, V), one below the other."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise NotYet(f"return the two new tables, (U, V); you return {kind(answer)}.")
    return np.vstack([read_array(table, right) for table in answer])


@exercise(
    [(*_MATRICES[0], 0.1), (_ratings(1, 5, 4), *_normal([1, 1], (5, 3), (4, 3)), 0.02)],
    praise="your step goes down the gradient, which agrees with finite differences.",
    read=_read_tables,
)
def gradient_step(A, U, V, rate):
    """Check f(A, U, V, learning_rate), arrays, A with NaN: `(U, V)` after a step down the MSE."""
    UV, seen, (N, d) = np.vstack([U, V]), ~np.isnan(A), U.shape

    def loss(numbers):
        at = numbers.reshape(-1, d)
        return np.nanmean((A - at[:N] @ at[N:].T) ** 2)

    def step(A, U, V, number):
        E = -2 * np.nan_to_num(A - U @ V.T) / number
        return np.vstack([U - rate * E @ V, V - rate * E.T @ U])

    slopes = approx_fprime(UV.ravel(), loss).reshape(UV.shape)
    down = -rate * slopes
    right = UV + down
    filled = [step(np.nan_to_num(A), U, V, number) for number in (A.size, seen.sum())]
    second = np.vstack([right[:N], step(A, right[:N], V, seen.sum())[N:]])
    return right, {
        "you go uphill; subtract the gradient from the tables.": UV - down,
        "your gradient is half of what it should be; mind the factor of 2.": (UV + right) / 2,
        "this is the gradient of the sum; divide by the number of ratings.": UV + down * seen.sum(),
        "you divide by all N M cells; divide by the number of ratings.": UV + down * seen.mean(),
        "you return the gradients; subtract them, times the learning rate, from U and V.": slopes,
        "your step of V uses the new U; both gradients belong to the old tables.": second,
        "an unobserved cell moved the tables; only observed pairs may count.": filled,
        "your new tables hold NaN. It marks what is not observed; put 0 for these errors before "
        "you multiply.": lambda mine: np.isnan(mine).any(),
        "your step is not that of finite differences{place}, U above V: {mine}, not {right}.": None,
    }


_VECTORS = [_normal(0, 2, (4, 2)), _normal(1, 3, (7, 3)), _normal(2, 5, (3, 5))]


@exercise(
    [(*case, "dot") for case in _VECTORS],
    [(*case, "cosine") for case in _VECTORS],
    [(np.array([x, 0.0]), np.array([[0.0, 0.0], [3.0, 4.0]]), "cosine") for x in (1.0, 0.0)],
    praise="both measures are right, also for vectors of zeros.",
)
def scores(query, items, measure):
    """Check f(query, items, measure), arrays [d], [M, d]: the scores [M]; 0 is a cosine with 0."""
    dot, q, v = items @ query, np.linalg.norm(query), np.linalg.norm(items, axis=1)
    cosine, table = dot / np.where(q * v, q * v, 1), np.linalg.norm(items)
    if measure == "dot":
        return dot, {
            'by "dot" you give the cosine; look at `measure` before you divide by norms.': cosine,
            'by "dot" you divide by a norm; the dot product is left as it is.': dot / q,
        }
    if 0 in v:
        zero = "the cosine with a vector of zeros should be {right}, and yours is {mine}. "
        return cosine, {zero + "Don't divide by a norm of 0.": None}
    return cosine, {
        'by "cosine" you give the dot product; divide by both norms.': dot,
        "your cosine lacks the items' norms; divide by those as well.": dot / q,
        "your cosine lacks the query's norm; divide by that as well.": dot / v,
        "your cosine divides by squared norms; take their roots.": dot / (q * v) ** 2,
        "you divide by the norm of the table; each item has its own (axis=1).": dot / (q * table),
    }


def _listing(seed: int, number: int, k: int, shift: float) -> Case:
    given = np.random.default_rng(seed).permutation(number) / number + shift
    best = np.argsort(-given).tolist()
    return given, {best[0]: 5.0, best[3]: 1.0, best[-1]: 4.0}, k


@exercise(
    [_listing(0, 12, 4, 0.0), _listing(1, 30, 10, 5.0)],
    [_listing(2, 15, 6, -5.0)],
    praise="the best movies come first, and none of the own ones is among them.",
)
def own_ratings(scores, own, k):
    """Check f(scores, own, k): from an array [M] to the k best item_num not in the dict `own`."""
    order = [item for item in np.argsort(-scores).tolist() if item not in own]
    best, lowest_first = order[:k], [order[:k][::-1], order[::-1][:k]]
    listed_own = "your list holds a movie that is rated already; leave the own ones out."
    if scores.max() < 0:
        listed_own = "leave the own movies out, or give them minus infinity: 0 is above the others."
    return best, {
        "your list holds numbers that are no item_num; don't return scores.": (
            lambda mine: not np.isin(mine, np.arange(len(scores))).all()
        ),
        listed_own: lambda mine: not own.keys().isdisjoint(mine.tolist()),
        "a movie stands in your list twice.": lambda mine: len({*mine.tolist()}) < len(mine),
        f"{k} movies are asked for; take the own ones out before you count.": lambda m: len(m) != k,
        "your list begins with the lowest score; the best one comes first.": lowest_first,
        "these are the right movies in another order.": lambda mine: {*mine} == {*best},
    }


@exercise(
    *[[(*case, a, b) for case in _MATRICES] for a, b in ((0, 0), (0.7, 0), (0, 0.3), (0.2, 0.4))],
    praise="the error, the l2 penalty and gravity are each what they should be.",
    given=_tensors,
)
def regularized_loss(A, U, V, a, b):
    """Check f(A, U, V, l2_coeff, gravity_coeff): the mean squared error plus l2_coeff times
    (1/N sum_i |U_i|^2 + 1/M sum_j |V_j|^2) plus gravity_coeff times 1/(N M) sum_ij <U_i, V_j>^2.
    """
    S, u, v = U @ V.T, np.sum(U**2, axis=1), np.sum(V**2, axis=1)
    e, l2, pull = np.nanmean((A - S) ** 2), u.mean() + v.mean(), np.mean(S**2)
    if a == b == 0:
        filled, total = np.mean((np.nan_to_num(A) - S) ** 2), np.nansum((A - S) ** 2)
        return e, {
            "without penalties your loss counts unobserved cells; it may not.": filled,
            "without penalties your loss adds the squared errors up; take their mean.": total,
            "with coefficients of 0 you still add a penalty; multiply by them.": e + l2 + pull,
            "with coefficients of 0 your loss is not the mean squared error.": None,
        }
    if b == 0:
        sums, norms = u.sum() + v.sum(), np.sqrt(u).mean() + np.sqrt(v).mean()
        small, joint = np.mean(U**2) + np.mean(V**2), np.mean([*u, *v])
        return e + a * l2, {
            "your loss has no l2 penalty, or not times `l2_coeff`.": e,
            "the coefficients are swapped: `l2_coeff` belongs to the norms.": e + a * pull,
            "your l2 penalty adds the squared norms up; take the mean of each table.": e + a * sums,
            "your l2 penalty is a mean over all numbers; add up each row's squares.": e + a * small,
            "your l2 penalty takes norms; square them.": e + a * norms,
            "your l2 penalty is a mean over all rows; take one for each table.": e + a * joint,
            "your l2 penalty should be the users' mean squared norm plus the movies'.": None,
        }
    if a == 0:
        seen = np.mean(S[~np.isnan(A)] ** 2)
        return e + b * pull, {
            "your loss has no gravity, or not times `gravity_coeff`.": e,
            "your gravity counts observed pairs only; it pulls on all N M.": e + b * seen,
            "your gravity is a sum; divide by the number of pairs, N M.": e + b * np.sum(S**2),
            "your gravity is the mean of the scores; square them first.": e + b * np.mean(S),
            "your gravity should be the mean squared score of all pairs.": None,
        }
    return e + a * l2 + b * pull, {}


def _forms_all_pairs(function: Any) -> str | None:
    """What to say of a function of (U, V) that makes an array of N M numbers."""
    from cfutils._tensorflow import tf

    N, M = 211, 307
    U, V = _tensors(np.ones((N, 3)), np.ones((M, 3)))
    function = getattr(function, "python_function", function)  # of a tf.function
    try:
        with warnings.catch_warnings(action="ignore"):
            graph = tf.function(function, autograph=False).get_concrete_function(U, V).graph
        sizes = [out.shape.num_elements() for op in graph.get_operations() for out in op.outputs]
        largest = max(size or 0 for size in sizes)
    except Exception:  # not made of TensorFlow's operations, so its memory is NumPy's
        tracemalloc.start()
        try:
            call(function, U, V)
            largest = tracemalloc.get_traced_memory()[1] / 4
        finally:
            tracemalloc.stop()
    text = "the value is right, but you form all N M scores on the way. Multiply the two Gram "
    text += "matrices, U^T U and V^T V, entry by entry instead."
    return text if largest >= N * M else None


@exercise(
    [case[1:] for case in _MATRICES],
    praise="the value is right, and nothing larger than the tables is formed on the way.",
    given=_tensors,
    also=_forms_all_pairs,
)
def gravity(U, V):
    """Check f(U, V): 1/(N M) sum_ij <U_i, V_j>^2, of which the N M scores are never formed."""
    S, N, M = U @ V.T, len(U), len(V)
    squares, product, entries = np.sum(S**2), U.T @ U @ V.T @ V, (U.T @ U) * (V.T @ V)
    return squares / (N * M), {
        "you add up the squared scores; divide by the number of pairs, N M.": squares,
        "you divide by the users only; divide by the number of movies as well.": squares / N,
        "you divide by the movies only; divide by the number of users as well.": squares / M,
        "you take the mean of the scores; square them first.": np.mean(S),
        "you multiply the Gram matrices; multiply entry by entry.": np.sum(product) / (N * M),
        "this is a mean over d x d entries; add them up and divide by N M.": np.mean(entries),
    }


@exercise(
    [
        (*_normal(seed, (n, d), (M, d)), np.arange(0, n * 5, 5) % M)
        for seed, n, M, d in ((0, 3, 4, 2), (1, 5, 6, 3), (2, 2, 9, 1))
    ],
    [(np.zeros((2, 3)), np.zeros((8, 3)), np.array([1, 5]))],
    [(np.array([[300.0], [-300.0]]), np.array([[1.0], [0.5], [-1.0]]), np.array([1, 2]))],
    praise="the loss is right, is log M where nothing is known, and large scores do it no harm.",
    given=_tensors,
)
def softmax_loss(psi, V, labels):
    """Check f(psi, V, labels), psi [n, d], labels [n]: mean of -log p(label), p a softmax."""
    S, cells = psi @ V.T, (np.arange(len(labels)), labels)
    logs, by_user = log_softmax(S, axis=1), log_softmax(S, axis=0)
    log_p = logs[cells]
    if not S.any():
        return np.log(8), {"with embeddings of 0 the loss of 8 movies is log 8, not {mine}.": None}
    if S.max() > 100:
        large = "your loss is right for small scores, and {mine} instead of {right} for scores of "
        large += "300: exp overflows. Subtract the largest score first, or use reduce_logsumexp."
        return -log_p.mean(), {large: None}
    return -log_p.mean(), {
        "you add the losses of the labels up; take their mean.": -log_p.sum(),
        "the sign is wrong; the loss is minus the logarithm of the probability.": log_p.mean(),
        "this is the mean probability; take minus its logarithm first.": np.exp(log_p).mean(),
        "take the mean of the logarithms, not their reverse.": -np.log(np.exp(log_p).mean()),
        "you average over all movies; only the label's probability counts.": -logs.mean(),
        "you normalize over the users; sum over the movies (axis=1).": -by_user[cells].mean(),
    }


@exercise(
    [
        (np.random.default_rng(seed).permutation(M)[:n], *_normal(seed, (M, d)))
        for seed, M, d, n in ((0, 5, 2, 2), (1, 8, 3, 4), (2, 6, 4, 3))
    ],
    praise="your scores are those of the mean of the history, in whatever order it comes.",
)
def softmax_model(nums, V):
    """Check f(nums, V), rows in V of a history, V an array: V's products with these rows' mean."""
    psi, n, ends = V[nums].mean(axis=0), len(nums), [V @ V[nums[0]], V @ V[nums[-1]]]
    right, norms = V @ psi, np.linalg.norm(V, axis=1) * np.linalg.norm(psi)
    return right, {
        "this is the embedding of the history; return its scores, one per movie.": psi,
        "you add the history's rows up; take their mean, for histories of any length.": right * n,
        "these are probabilities; return scores, before the softmax.": np.exp(log_softmax(right)),
        "you divide by all movies; divide by the length of the history.": right * n / len(V),
        "you divide by the root of the length; divide by the length.": right * n**0.5,
        "these are cosines; take dot products with the mean as it is.": right / norms,
        "the order of the history changes your scores; a mean has no order.": ends,
        "a movie outside of the history changed the scores of others.": V @ V.mean(axis=0),
    }

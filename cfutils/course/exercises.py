"""Checks answers to the exercises of the notebooks.

Each takes the function that you wrote, tries it on a few small cases, and says in a sentence or two
whether it is right and, where it is not, what is likely to be wrong:

    >>> exercises.gravity(lambda U, V: tf.reduce_sum((U @ tf.transpose(V)) ** 2))
    Not yet: you add up the squared scores; divide by the number of pairs, N M.

What is right is computed here with NumPy, apart from the code of the package. No answer makes a
check raise, whether it is wrong, half done or stops with an error. An exercise is a table: a
function from a case to the right answer and {what to say: wrong answer}, under `@exercise`.
"""

from __future__ import annotations

import copy
import dataclasses
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import approx_fprime
from scipy.special import log_softmax

Case = tuple[Any, ...]
Table = Callable[..., tuple[Any, dict[str, Any]]]


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """What a check found; it shows itself as a sentence or two."""

    passed: bool
    message: str

    def __repr__(self) -> str:
        return f"{'Passed' if self.passed else 'Not yet'}: {self.message}"


class _NotYet(Exception):
    """What is wrong with an answer, for the learner to read."""


def _read(answer: Any, right: np.ndarray) -> np.ndarray:
    """An answer as an array of float64, leading axes of length 1 taken off."""
    try:
        values = np.asarray(answer, np.float64)
    except (TypeError, ValueError, RuntimeError):
        raise _NotYet(f"return {_wanted(right)}; you return {_kind(answer)}.") from None
    while values.ndim > right.ndim and len(values) == 1:
        values = values[0]
    return values


def exercise(
    *trials: list[Case],
    praise: str,
    given: Callable[..., Case] = lambda *case: case,
    read: Callable[[Any, np.ndarray], np.ndarray] = _read,
    also: Callable[[Any], str | None] = lambda function: None,
) -> Callable[[Table], Callable[[Any], Result]]:
    """Make a check of a table.

    The table is a function from a case to the right answer, a number or an array, and a dict
    {what to say: wrong answer}. What is said is the first that fits an answer on all cases of a
    trial. A list holds several wrong answers, a function says by itself whether it fits an answer,
    and None stands for all that is not known. In what is said, {mine}, {right} and {place} stand
    for the first number that is not right.

    Args:
        trials: Lists of cases; one is tried if the answer is right on those before.
        praise: What to say of the right answer.
        given: From a case to the arguments of the answer; the case by default.
        read: From what a function returns, and the right answer, to an array.
        also: From a function whose results are right to what else is wrong with it, or None.

    Returns:
        A decorator; it makes a function from an answer to a `Result`.
    """

    def decorate(table: Table) -> Callable[[Any], Result]:
        def check(function: Any) -> Result:
            try:
                for cases in trials:
                    _try(function, table, cases, given, read)
                message = also(function)
            except _NotYet as found:
                message = str(found)
            except Exception as error:  # an answer of a kind that no check expects
                name = type(error).__name__
                message = f"your answer has a form that can't be read here ({name})."
            return Result(message is None, message or praise)

        check.__name__ = check.__qualname__ = table.__name__
        check.__doc__ = table.__doc__
        return check

    return decorate


def _try(function: Any, table: Table, cases: list[Case], given: Any, read: Any) -> None:
    """Raise `_NotYet` on a function that is not right on all cases."""
    right, wrong, mine = [], [], []
    for case in cases:
        answer, mistakes = table(*case)
        right.append(np.asarray(answer, np.float64))
        wrong.append(mistakes)
        arguments = given(*copy.deepcopy(case))
        before = _text(arguments)
        mine.append(read(_call(function, *arguments), right[-1]))
        if _text(arguments) != before and _close(mine[-1], right[-1]):
            raise _NotYet("the result is right, but you change what you are given; copy it first.")
    agree = list(map(_close, mine, right))
    if not all(agree):
        at = agree.index(False)
        raise _NotYet(_fill(_explain(mine, right[at], wrong, at), mine[at], right[at]))


def _explain(mine: list[Any], right: np.ndarray, wrong: list[dict[str, Any]], at: int) -> str:
    """What is likely to be wrong with answers of which that to case `at` is not right."""
    for message, value in wrong[at].items():
        if callable(value) and mine[at].ndim == right.ndim and value(mine[at]):
            return message
        if value is not None and not callable(value):
            each = [w[message] if isinstance(value, list) else [w[message]] for w in wrong]
            if any(all(map(_close, mine, values)) for values in zip(*each, strict=True)):
                return message
    if mine[at].shape != right.shape:
        return f"return {_wanted(right)}; yours has the shape {mine[at].shape}."
    for message, value in wrong[at].items():
        if value is None:
            return message
    if not np.isfinite(mine[at]).all():
        return "your answer holds NaN or infinity in a case where it should not."
    return "in a small case your function gives {mine}{place}, and {right} is right."


def _fill(message: str, mine: np.ndarray, right: np.ndarray) -> str:
    """Put the first number that is wrong, the right one and its place into a message."""
    if "{mine}" not in message:
        return message
    at = np.unravel_index(np.argmin(np.isclose(mine, right, 1e-3, 1e-5)), right.shape)
    place = f" at position {', '.join(map(str, at))}" if at else ""
    return message.format(mine=f"{mine[at]:.4g}", right=f"{right[at]:.4g}", place=place)


def _call(function: Any, *arguments: Any) -> Any:
    """What a function answers; `_NotYet` if it is none, stops with an error or answers nothing."""
    if callable(function):
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                function = function(*arguments)
        except (Exception, SystemExit) as error:
            line = (str(error).strip().splitlines() or [""])[0]
            line = line if len(line) <= 150 else f"{line[:150]} ..."
            raise _NotYet(f"your function stopped with {type(error).__name__}: {line}") from None
    elif function is not None and function is not ...:
        raise _NotYet(
            f"a function is checked here, and you passed {_kind(function)}. Pass the function's "
            "name, without parentheses."
        )
    if function is None or function is ...:
        raise _NotYet(
            "your function returns nothing. Write it in the place of the dots, and end it with "
            "`return`."
        )
    return function


def _close(mine: Any, expected: Any) -> bool:
    same_shape = np.shape(mine) == np.shape(expected)
    return same_shape and np.allclose(mine, expected, 1e-3, 1e-5, equal_nan=True)


def _text(arguments: Case) -> str:
    return repr([value for value in arguments if isinstance(value, (np.ndarray, dict))])


def _wanted(right: np.ndarray) -> str:
    return f"an array of shape {right.shape}" if right.ndim else "one number"


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"


# Cases --------------------------------------------------------------------------------------------


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
        if seen.all():
            return tf.constant(value)
        return tf.SparseTensor(np.argwhere(seen), value[seen], value.shape)

    return tuple(map(tensor, values))


# Notebook 01 --------------------------------------------------------------------------------------


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
    """Check f(total, n, k, mu): from sums of ratings [M], their numbers [M], the strength k > 0 and
    the overall mean mu to the shrunken means [M].
    """
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
    """Check f(counts, fraction): from the ratings of each movie (a Series, in no order) to the
    share, from 0 to 1, of all ratings that this fraction of the movies has, the most rated ones.
    """
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


# Notebook 02 --------------------------------------------------------------------------------------


def _rated(seed: int, N: int, M: int) -> Case:
    A = _ratings(seed, N, M)
    users, items = np.nonzero(~np.isnan(A))
    columns = {"item_num": items, "rating": A[users, items].astype(int), "user_num": users}
    return pd.DataFrame(columns), N, M


def _read_sparse(answer: Any, right: np.ndarray) -> np.ndarray:
    """The ratings of a sparse tensor [N, M], NaN elsewhere."""
    from cfutils._tensorflow import tf

    if not isinstance(answer, tf.SparseTensor):
        raise _NotYet(f"return a tf.SparseTensor, of the observed cells; this is {_kind(answer)}.")
    wanted, pairs = np.argwhere(~np.isnan(right)), answer.indices.numpy()
    if pairs.shape != wanted.shape:
        raise _NotYet(
            f"a frame of {len(wanted)} ratings became {len(pairs)} entries in {pairs.shape[1]} "
            "dimensions; one entry [user, movie] per row is wanted."
        )
    found, expected = set(map(tuple, pairs.tolist())), set(map(tuple, wanted.tolist()))
    if found != expected and found == {(item, user) for user, item in expected}:
        raise _NotYet("rows and columns are swapped; users are rows, so `user_num` goes first.")
    if answer.shape != right.shape:
        raise _NotYet(
            f"the shape is {tuple(answer.shape)} and should be {right.shape}, whatever occurs in "
            "the frame; give it as dense_shape."
        )
    if found != expected:
        raise _NotYet("the indices are not those of the frame; take both columns by name.")
    dense = np.full(right.shape, np.nan)
    dense[tuple(pairs.T)] = answer.values.numpy()
    if answer.dtype != tf.float32 and _close(dense, right):
        raise _NotYet(
            f"the values are {answer.dtype.name}, which can't be multiplied with float32 "
            "embeddings; convert them to float32."
        )
    return dense


@exercise(
    [_rated(0, 4, 6), _rated(1, 7, 5)],
    praise="users are rows, movies are columns, and only what is observed is stored.",
    read=_read_sparse,
)
def sparse_tensor(frame, num_users, num_items):
    """Check f(frame, num_users, num_items): from a frame with `user_num`, `item_num` and `rating`
    to a `tf.SparseTensor` [num_users, num_items] of float32.
    """
    A = np.full((num_users, num_items), np.nan)
    A[frame["user_num"], frame["item_num"]] = frame["rating"]
    return A, {"the values are not the ratings of the frame, each in its own cell.": None}


@exercise(
    _MATRICES,
    praise="only observed pairs count, and your error is the mean of their squares.",
    given=_tensors,
)
def mean_squared_error(A, U, V):
    """Check f(A, U, V): from a `tf.SparseTensor` [N, M] and tensors [N, d], [M, d] to the mean over
    the observed pairs of (A_ij - <U_i, V_j>)^2.
    """
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
        raise _NotYet(f"return the two new tables, (U, V); you return {_kind(answer)}.")
    return np.vstack([_read(table, right) for table in answer])


@exercise(
    [(*_MATRICES[0], 0.1), (_ratings(1, 5, 4), *_normal([1, 1], (5, 3), (4, 3)), 0.02)],
    praise="your step goes down the gradient, which agrees with finite differences.",
    read=_read_tables,
)
def gradient_step(A, U, V, rate):
    """Check f(A, U, V, learning_rate), one step of gradient descent on the mean squared error: from
    arrays [N, M] (NaN where nothing is observed), [N, d] and [M, d] to the new `(U, V)`.
    """
    UV, seen, (N, d) = np.vstack([U, V]), ~np.isnan(A), U.shape

    def loss(numbers):
        at = numbers.reshape(-1, d)
        return np.nanmean((A - at[:N] @ at[N:].T) ** 2)

    def step(A, U, V, number):
        E = -2 * np.nan_to_num(A - U @ V.T) / number
        return np.vstack([U - rate * E @ V, V - rate * E.T @ U])

    slopes = approx_fprime(UV.ravel(), loss).reshape(UV.shape)
    right = UV - rate * slopes
    second = np.vstack([right[:N], step(A, right[:N], V, seen.sum())[N:]])
    return right, {
        "you go uphill; subtract the gradient from the tables.": UV + rate * slopes,
        "your gradient is half of what it should be; mind the factor of 2.": (UV + right) / 2,
        "your gradient is that of the sum; divide by the number of ratings.": (
            UV - rate * slopes * seen.sum()
        ),
        "you divide by all N M cells; divide by the number of ratings.": (
            UV - rate * slopes * seen.mean()
        ),
        "you return the gradients; subtract them, times the learning rate, from U and V.": slopes,
        "your step of V uses the new U; both gradients belong to the old tables.": second,
        "an unobserved cell moved the tables; only observed pairs may count.": [
            step(np.nan_to_num(A), U, V, number) for number in (A.size, seen.sum())
        ],
        "your new tables hold NaN. It marks what is not observed; put 0 for these errors before "
        "you multiply.": lambda mine: np.isnan(mine).any(),
        "your step is not that of finite differences{place}, U above V: {mine}, not {right}.": None,
    }


# Notebook 03 --------------------------------------------------------------------------------------

_VECTORS = [_normal(0, 2, (4, 2)), _normal(1, 3, (7, 3)), _normal(2, 5, (3, 5))]
_WITH_ZERO = np.array([[0.0, 0.0], [3.0, 4.0]])


@exercise(
    [(*case, "dot") for case in _VECTORS],
    [(*case, "cosine") for case in _VECTORS],
    [(np.array(query), _WITH_ZERO, "cosine") for query in ([1.0, 0.0], [0.0, 0.0])],
    praise="both measures are right, also for vectors of zeros.",
)
def scores(query, items, measure):
    """Check f(query, items, measure): from arrays [d] and [M, d] and "dot" or "cosine" to the
    scores [M]. The cosine with a vector of zeros is 0.
    """
    dot, q, v = items @ query, np.linalg.norm(query), np.linalg.norm(items, axis=1)
    cosine = dot / np.where(q * v, q * v, 1)
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
        "you divide by the norm of the whole table; each item has its own (axis=1).": (
            dot / (q * np.linalg.norm(v))
        ),
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
    """Check f(scores, own, k): from the scores of all movies [M], a dict from item_num to the own
    ratings and a length to the item_num of the k best movies without the own ones, best first.
    """
    order = [item for item in np.argsort(-scores).tolist() if item not in own]
    listed_own = "your list holds a movie that is rated already; leave the own ones out."
    if scores.max() < 0:
        listed_own = (
            "leave the own movies out, or give them minus infinity, for 0 is the best here."
        )
    return order[:k], {
        "your list holds numbers that are no item_num; don't return scores.": (
            lambda mine: not np.isin(mine, np.arange(len(scores))).all()
        ),
        listed_own: lambda mine: not own.keys().isdisjoint(mine.tolist()),
        "a movie stands in your list twice; each may be there once.": (
            lambda mine: len(set(mine.tolist())) < len(mine)
        ),
        f"your list should have {k} movies; take the own ones out before you count to k.": (
            lambda mine: len(mine) != k
        ),
        "your list begins with the lowest score; the best one comes first.": (
            [order[:k][::-1], order[::-1][:k]]
        ),
        "these are the right movies in another order; the best one comes first.": (
            lambda mine: sorted(mine) == sorted(order[:k])
        ),
    }


# Notebook 04 --------------------------------------------------------------------------------------


@exercise(
    *[[(*case, a, b) for case in _MATRICES] for a, b in ((0, 0), (0.7, 0), (0, 0.3), (0.2, 0.4))],
    praise="the error, the l2 penalty and gravity are each what they should be.",
    given=_tensors,
)
def regularized_loss(A, U, V, a, b):
    """Check f(A, U, V, l2_coeff, gravity_coeff): from a `tf.SparseTensor` [N, M] and tensors
    [N, d], [M, d] to the mean squared error over the observed pairs, plus l2_coeff times
    (1/N sum_i |U_i|^2 + 1/M sum_j |V_j|^2), plus gravity_coeff times 1/(N M) sum_ij <U_i, V_j>^2.
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
        small = np.mean(U**2) + np.mean(V**2)
        return e + a * l2, {
            "your loss has no l2 penalty, or not times `l2_coeff`.": e,
            "the coefficients are swapped: `l2_coeff` belongs to the norms.": e + a * pull,
            "your l2 penalty adds the squared norms up; take the mean over users and that over "
            "movies.": e + a * (u.sum() + v.sum()),
            "your l2 penalty is the mean over all numbers in the tables; it should be the mean "
            "over the rows of their squared norms.": e + a * small,
            "your l2 penalty takes norms; square them.": e
            + a * (np.sqrt(u).mean() + np.sqrt(v).mean()),
            "your l2 penalty is one mean over users and movies; take one for each table.": (
                e + a * np.mean([*u, *v])
            ),
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = tf.function(function, autograph=False).get_concrete_function(U, V).graph
        sizes = [out.shape.num_elements() for op in graph.get_operations() for out in op.outputs]
        largest = max(size or 0 for size in sizes)
    except Exception:  # not made of TensorFlow's operations, so its memory is NumPy's
        tracemalloc.start()
        try:
            _call(function, U, V)
            largest = tracemalloc.get_traced_memory()[1] / 4
        finally:
            tracemalloc.stop()
    return (
        None
        if largest < N * M
        else (
            "the value is right, but you form all N M scores on the way. Multiply the two Gram "
            "matrices, U^T U and V^T V, entry by entry instead."
        )
    )


@exercise(
    [case[1:] for case in _MATRICES],
    praise="the value is right, and nothing larger than the tables is formed on the way.",
    given=_tensors,
    also=_forms_all_pairs,
)
def gravity(U, V):
    """Check f(U, V): from tensors [N, d], [M, d] to 1/(N M) sum_ij <U_i, V_j>^2, and that the N M
    scores are never formed.
    """
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


# Notebook 05 --------------------------------------------------------------------------------------


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
    """Check f(user_embeddings, item_embeddings, labels): from tensors [n, d], [M, d] and integers
    [n] to the mean of -log p(label), p = softmax of the scores.
    """
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
        "your normalizer runs over the users; each user's probabilities add up to 1 over the "
        "movies (axis=1).": -by_user[cells].mean(),
    }


def _history(seed: int, M: int, d: int, n: int) -> Case:
    rng = np.random.default_rng(seed)
    return rng.permutation(M)[:n], rng.normal(size=(M, d))


@exercise(
    [_history(0, 5, 2, 2), _history(1, 8, 3, 4), _history(2, 6, 4, 3)],
    praise="your scores are those of the mean of the history, in whatever order it comes.",
)
def softmax_model(nums, V):
    """Check f(history_nums, item_embeddings): from the rows of the movies in one history [n] and an
    array V [M, d] to the scores [M], the dot product of each row of V with the mean of these rows.
    """
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
        "a movie outside of the history changed the scores of others; leave it out.": (
            V @ V.mean(axis=0)
        ),
    }

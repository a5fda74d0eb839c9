"""Checks answers to the exercises of the notebooks.

Each function takes the function that you wrote, tries it on a few small cases, and says in a
sentence or two whether it is right and, where it is not, what is likely to be wrong:

    >>> exercises.gravity(lambda U, V: tf.reduce_sum((U @ tf.transpose(V)) ** 2))
    Not yet: you add up the squared scores; divide by the number of pairs, N M.

What is right is computed here with NumPy, apart from the code of the package. No answer makes a
check raise, whether it is wrong, half done or stops with an error.
"""

import dataclasses
import functools
import tracemalloc
import warnings

import numpy as np
import pandas as pd

__all__ = [
    "Result",
    "gradient_step",
    "gravity",
    "mean_squared_error",
    "own_ratings",
    "regularized_loss",
    "scores",
    "shrunken_mean",
    "softmax_loss",
    "softmax_model",
    "sparse_tensor",
    "top_share",
]

_NO_ANSWER = (
    "your function returns nothing. Write it in the place of the dots, and end it with `return`."
)


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """What a check found; it shows itself as a sentence or two.

    Attributes:
        passed: Whether the answer is right.
        message: What was found, without the "Passed" or "Not yet" that the repr begins with.

    Cost: O(1).
    """

    passed: bool
    message: str

    def __repr__(self):
        return f"{'Passed' if self.passed else 'Not yet'}: {self.message}"


class _NotYet(Exception):
    """What is wrong with an answer, for the learner to read."""


def _checker(check):
    """Make a check return a `Result`; it raises `_NotYet` or returns the praise."""

    @functools.wraps(check)
    def checked(function):
        try:
            return Result(True, check(function))
        except _NotYet as found:
            return Result(False, str(found))
        except Exception as error:  # an answer of a kind that no check expects
            name = type(error).__name__
            return Result(False, f"your answer has a form that can't be read here ({name}).")

    return checked


# Notebook 01 --------------------------------------------------------------------------------------


@_checker
def shrunken_mean(function):
    """Check a shrunken mean.

    Args:
        function: Your f(total, n, k, mu): from the sum of each movie's ratings [M], their number
            [M], the strength k > 0 and the overall mean mu to the shrunken means [M].

    Returns:
        A `Result`.

    Cost: O(1) calls of the function, on cases of fixed size.
    """
    cases = []
    for seed, k, mu in ((0, 20, 3.5), (1, 3, 2.75), (2, 0.5, 4.0)):
        rng = np.random.default_rng(seed)
        n = rng.integers(1, 60, 6 + seed)
        cases.append((n * rng.uniform(1, 5, len(n)).round(2), n, k, mu))

    def values(formula):
        return [formula(*case) for case in cases]

    received = [_array(_call(function, *case), case[1].shape) for case in cases]
    _judge(
        received,
        values(lambda total, n, k, mu: (total + k * mu) / (n + k)),
        {
            "this is the plain mean; add k imagined ratings of mu to the real ones.": values(
                lambda total, n, k, mu: total / n
            ),
            "the k imagined ratings are in your sum and not in your count; divide by n + k.": (
                values(lambda total, n, k, mu: (total + k * mu) / n)
            ),
            "the k imagined ratings are in your count and not in your sum; add k mu.": values(
                lambda total, n, k, mu: total / (n + k)
            ),
            "each of the k imagined ratings is worth mu; you add mu only once.": values(
                lambda total, n, k, mu: (total + mu) / (n + k)
            ),
            "`total` is a sum already; don't multiply it by n again.": values(
                lambda total, n, k, mu: (n * total + k * mu) / (n + k)
            ),
        },
    )
    total, n = np.array([0.0, 9.0]), np.array([0, 2])
    with_none = _array(_call(function, total, n, 4, 3.0), (2,), finite=False)
    if not _close(with_none, [3.0, 3.5]):
        raise _NotYet(
            f"a movie without ratings should get mu = 3, and yours gets {_show(with_none[0])}. "
            "Don't divide by n alone."
        )
    return "few ratings stay close to the overall mean, many leave it, and none at all give mu."


@_checker
def top_share(function):
    """Check the share of ratings that the most rated movies hold.

    Args:
        function: Your f(counts, fraction): from the number of ratings of each movie (a Series,
            in no order) and a fraction such as 0.1 to the share, from 0 to 1, of all ratings
            that belong to this fraction of the movies, the most rated ones.

    Returns:
        A `Result`.

    Cost: O(1) calls of the function, on cases of fixed size.
    """
    cases = []
    for seed, size, fraction in ((0, 100, 0.1), (1, 50, 0.2), (2, 40, 0.5), (3, 400, 0.1)):
        rng = np.random.default_rng(seed)
        distinct = np.cumsum(1 + (rng.pareto(0.5, size) * 10).astype(int))
        counts = pd.Series(rng.permutation(distinct), rng.permutation(size))
        cases.append((counts, fraction))

    def values(formula):
        return [formula(counts.to_numpy(), fraction) for counts, fraction in cases]

    def first(counts, number):
        return counts[: round(number)].sum() / counts.sum()

    def falling(counts):
        return np.sort(counts)[::-1]

    received = [_number(_call(function, counts.copy(), part)) for counts, part in cases]
    _judge(
        received,
        values(lambda counts, part: first(falling(counts), part * len(counts))),
        {
            "a share of 1 is everything; yours is in percent.": values(
                lambda counts, part: 100 * first(falling(counts), part * len(counts))
            ),
            "you take the movies as they come; sort them by their ratings first.": values(
                lambda counts, part: first(counts, part * len(counts))
            ),
            "these are the least rated movies; sort from the most rated one down.": values(
                lambda counts, part: first(np.sort(counts), part * len(counts))
            ),
            "you always take 10 movies; take the given fraction of them.": values(
                lambda counts, part: first(falling(counts), 10)
            ),
            "you always take a tenth of the movies; use `fraction`.": values(
                lambda counts, part: first(falling(counts), 0.1 * len(counts))
            ),
            "this is how many ratings the movies hold; divide by all ratings.": values(
                lambda counts, part: falling(counts)[: round(part * len(counts))].sum()
            ),
        },
    )
    return "your shares are right for every fraction and every order of the movies."


# Notebook 02 --------------------------------------------------------------------------------------


@_checker
def sparse_tensor(function):
    """Check a sparse tensor made from a frame.

    Args:
        function: Your f(frame, num_users, num_movies): from a frame with `user_id`, `movie_id`
            and `rating` to a `tf.SparseTensor` [num_users, num_movies] of float32.

    Returns:
        A `Result`.

    Cost: O(1) calls of the function, on cases of fixed size.
    """
    from cfutils._tensorflow import tf

    for seed, shape in ((0, (4, 6)), (1, (7, 5))):
        A = _ratings(seed, *shape)
        users, movies = np.nonzero(~np.isnan(A))
        columns = {"movie_id": movies, "rating": A[users, movies].astype(int), "user_id": users}
        answer = _call(function, pd.DataFrame(columns), *shape)
        if not isinstance(answer, tf.SparseTensor):
            raise _NotYet(
                f"you return {_kind(answer)}; a tf.SparseTensor holds the observed cells only."
            )
        size, indices = answer.shape.as_list(), answer.indices.numpy()
        if len(size) != 2 or len(indices) != len(users):
            raise _NotYet(
                f"a frame of {len(users)} ratings became {len(indices)} entries in "
                f"{len(size)} dimensions; one entry [user, movie] per row is wanted."
            )
        pairs = set(map(tuple, indices.tolist()))
        right = set(zip(users.tolist(), movies.tolist(), strict=True))
        if pairs != right and pairs == {(movie, user) for user, movie in right}:
            raise _NotYet("rows and columns are swapped; users are rows, so `user_id` goes first.")
        if size != list(shape):
            raise _NotYet(
                f"the shape is {tuple(size)} and should be {shape}, whichever ids occur in the "
                "frame; give it as dense_shape."
            )
        if pairs != right:
            raise _NotYet("the indices are not the ids of the frame; take both columns by name.")
        dense = np.full(shape, np.nan)
        dense[tuple(indices.T)] = answer.values.numpy()
        if not _close(dense, A):
            raise _NotYet("the values are not the ratings of the frame, each in its own cell.")
        if answer.dtype != tf.float32:
            raise _NotYet(
                f"the values are {answer.dtype.name}, which can't be multiplied with float32 "
                "embeddings; convert them to float32."
            )
    return "users are rows, movies are columns, and only what is observed is stored."


@_checker
def mean_squared_error(function):
    """Check the mean squared error over the observed ratings.

    Args:
        function: Your f(A, U, V): from a `tf.SparseTensor` [N, M] and tensors [N, d], [M, d] to
            the mean over the observed pairs of (A_ij - <U_i, V_j>)^2.

    Returns:
        A `Result`.

    Cost: O(1) calls of the function, on cases of fixed size.
    """
    cases = [_matrices(*sizes) for sizes in ((0, 3, 4, 2), (1, 6, 5, 3), (2, 4, 9, 1))]
    received = [_number(_call(function, *_tensors(*case))) for case in cases]
    for (A, U, V), before in zip(cases, received, strict=True):
        V_moved = V.copy()
        V_moved[-1] += 10.0  # of the movie that nobody has rated
        if not _close(_number(_call(function, *_tensors(A, U, V_moved))), before):
            raise _NotYet("an unobserved cell changed the loss; only observed pairs may count.")

    def values(formula):
        return [formula((A - U @ V.T)[~np.isnan(A)], A.size) for A, U, V in cases]

    _judge(
        received,
        values(lambda errors, cells: np.mean(errors**2)),
        {
            "you divide by all N M cells; divide by the number of observed pairs.": values(
                lambda errors, cells: np.sum(errors**2) / cells
            ),
            "you take the mean of the errors; square them first.": values(
                lambda errors, cells: np.mean(errors)
            ),
            "this is minus the mean of the errors; square them first.": values(
                lambda errors, cells: -np.mean(errors)
            ),
            "you take the size of the errors; square them instead.": values(
                lambda errors, cells: np.mean(np.abs(errors))
            ),
            "you add the squared errors up; take their mean.": values(
                lambda errors, cells: np.sum(errors**2)
            ),
            "this is the root of the mean squared error; leave the root out.": values(
                lambda errors, cells: np.sqrt(np.mean(errors**2))
            ),
            "you square the mean; take the mean of the squares.": values(
                lambda errors, cells: np.mean(errors) ** 2
            ),
        },
    )
    return "only observed pairs count, and your error is the mean of their squares."


@_checker
def gradient_step(function):
    """Check one step of gradient descent on the mean squared error, against finite differences.

    Args:
        function: Your f(A, U, V, learning_rate): from arrays [N, M] (NaN where nothing is
            observed), [N, d] and [M, d] to the new `(U, V)`.

    Returns:
        A `Result`.

    Cost: O(1) calls of the function, on cases of fixed size.
    """
    cases = [(*_matrices(*sizes), rate) for *sizes, rate in ((0, 3, 4, 2, 0.1), (1, 5, 4, 3, 0.02))]
    received = []
    for A, U, V, rate in cases:
        given = A.copy(), U.copy(), V.copy()
        answer = _call(function, *given, rate)
        if not isinstance(answer, (tuple, list)) or len(answer) != 2:
            raise _NotYet(f"return the two new tables, (U, V); you return {_kind(answer)}.")
        received.append(
            [
                _array(part, table.shape, finite=False)
                for part, table in zip(answer, (U, V), strict=True)
            ]
        )
        if not all(np.isfinite(part).all() for part in received[-1]):
            raise _NotYet(
                "your new tables hold NaN. It marks what is not observed; put 0 for these errors "
                "before you multiply."
            )
        for name, now, before in zip("AUV", given, (A, U, V), strict=True):
            if not np.array_equal(now, before, equal_nan=True):
                raise _NotYet(
                    f"you change {name} itself; compute a new table and leave the given one as "
                    "it is."
                )

    def values(formula):
        return [tables for case in cases for tables in formula(*case)]

    def slopes(A, U, V):
        errors = np.nan_to_num(A - U @ V.T)
        return (-2 * part / np.sum(~np.isnan(A)) for part in (errors @ V, errors.T @ U))

    def step(factor):
        def formula(A, U, V, rate):
            by_U, by_V = slopes(A, U, V)
            return U - rate * factor(A) * by_U, V - rate * factor(A) * by_V

        return formula

    def one_by_one(A, U, V, rate):
        U = U - rate * next(slopes(A, U, V))
        return U, V - rate * list(slopes(A, U, V))[1]

    _judge(
        [table for tables in received for table in tables],
        values(step(lambda A: 1)),
        {
            "you go uphill; subtract the gradient from the tables.": values(step(lambda A: -1)),
            "your gradient is half of what it should be; the square gives a factor of 2.": values(
                step(lambda A: 0.5)
            ),
            "your gradient is that of the sum; divide by the number of observed ratings.": values(
                step(lambda A: np.sum(~np.isnan(A)))
            ),
            "you divide by all N M cells; divide by the number of observed ratings.": values(
                step(lambda A: np.mean(~np.isnan(A)))
            ),
            "you return the gradients; subtract them, times the learning rate, from U and V.": (
                values(lambda A, U, V, rate: slopes(A, U, V))
            ),
            "your step of V uses the new U; both gradients belong to the old tables.": values(
                one_by_one
            ),
            "an unobserved cell moved the tables; only observed pairs may count.": values(
                lambda A, U, V, rate: step(lambda A: 1)(np.nan_to_num(A), U, V, rate)
            ),
        },
        lambda: _compare_slopes(cases, received),
    )
    return "your step goes down the gradient, which agrees with finite differences."


def _compare_slopes(cases, received):
    """Name the first entry where a step does not follow the slope of the loss."""
    for (A, U, V, rate), new in zip(cases, received, strict=True):
        for which, name in enumerate("UV"):
            old = (U, V)[which]
            for place in np.ndindex(old.shape):
                mine = (old[place] - new[which][place]) / rate
                slope = _slope(A, [U, V], which, place)
                if not _close(mine, slope):
                    return (
                        "the gradient differs from finite differences at "
                        f"{name}[{place[0]}, {place[1]}]: {_show(mine)} against {_show(slope)}."
                    )
    return "your tables are close to the right ones, but not equal; compute in float64."


def _slope(A, tables, which, place, width=1e-5):
    """Central difference of the mean squared error at one entry of U or V."""
    losses = []
    for side in (width, -width):
        moved = [table.copy() for table in tables]
        moved[which][place] += side
        losses.append(np.nanmean((A - moved[0] @ moved[1].T) ** 2))
    return (losses[0] - losses[1]) / (2 * width)


# Notebook 03 --------------------------------------------------------------------------------------


@_checker
def scores(function):
    """Check scores by dot product and by cosine.

    Args:
        function: Your f(query, items, measure): from arrays [d] and [M, d] and "dot" or "cosine"
            to the scores [M]. The cosine with a vector of zeros is 0.

    Returns:
        A `Result`.

    Cost: O(1) calls of the function, on cases of fixed size.
    """
    cases = []
    for seed, number, dim in ((0, 4, 2), (1, 7, 3), (2, 3, 5)):
        rng = np.random.default_rng(seed)
        cases.append((rng.normal(size=dim), rng.normal(size=(number, dim))))

    def values(formula):
        found = []
        for query, items in cases:
            lengths = np.linalg.norm(query), np.linalg.norm(items, axis=1)
            found.append(formula((query * items).sum(axis=1), *lengths))
        return found

    def received(measure):
        answers = (_call(function, query.copy(), V.copy(), measure) for query, V in cases)
        return [_array(answer, (len(V),)) for answer, (_, V) in zip(answers, cases, strict=True)]

    dot = values(lambda dot, q, v: dot)
    cosine = values(lambda dot, q, v: dot / (q * v))
    by_query = values(lambda dot, q, v: dot / q)
    _judge(
        received("dot"),
        dot,
        {
            'by "dot" you give the cosine; look at `measure` before you divide by norms.': cosine,
            'by "dot" you divide by a norm; the dot product is left as it is.': by_query,
        },
    )
    _judge(
        received("cosine"),
        cosine,
        {
            'by "cosine" you give the dot product; divide by both norms.': dot,
            "your cosine lacks the items' norms; divide by those as well.": by_query,
            "your cosine lacks the query's norm; divide by that as well.": values(
                lambda dot, q, v: dot / v
            ),
            "your cosine divides by squared norms; take their roots.": values(
                lambda dot, q, v: dot / (q * v) ** 2
            ),
            "you divide by the norm of the whole table; each item has its own (axis=1).": values(
                lambda dot, q, v: dot / (q * np.linalg.norm(v))
            ),
        },
    )
    items = np.array([[0.0, 0.0], [3.0, 4.0]])
    for query, right in (([1.0, 0.0], [0.0, 0.6]), ([0.0, 0.0], [0.0, 0.0])):
        answer = _array(_call(function, np.array(query), items.copy(), "cosine"), (2,), False)
        if not _close(answer, right):
            raise _NotYet(
                f"the cosine with a vector of zeros should be 0, and yours is {_show(answer[0])}. "
                "Don't divide by a norm of 0."
            )
    return "both measures are right, also for vectors of zeros."


@_checker
def own_ratings(function):
    """Check a list of recommendations that leaves out what somebody has rated.

    Args:
        function: Your f(scores, own, k): from the scores of all movies (an array [M]), the own
            ratings (a dict from movie id to rating) and a length to the ids of the k best movies
            without the own ones, best first.

    Returns:
        A `Result`.

    Cost: O(1) calls of the function, on cases of fixed size.
    """
    for seed, number, k, shift in ((0, 12, 4, 0.0), (1, 30, 10, 5.0), (2, 15, 6, -5.0)):
        rng = np.random.default_rng(seed)
        given = rng.permutation(number) / number + shift
        best = np.argsort(-given).tolist()
        own = {best[0]: 5.0, best[3]: 1.0, best[-1]: 4.0}
        now, own_now = given.copy(), dict(own)
        answer = _call(function, now, own_now, k)
        listed = np.asarray(answer)
        if listed.ndim != 1 or (listed.size and listed.dtype.kind not in "iuf"):
            raise _NotYet(f"return a list of {k} movie ids; you return {_kind(answer)}.")
        if not np.isin(listed, np.arange(number)).all():
            raise _NotYet("your list holds numbers that are no movie ids; don't return scores.")
        listed = listed.astype(int).tolist()
        right = [movie for movie in best if movie not in own][:k]
        if set(listed) & set(own):
            raise _NotYet(
                "an own movie is recommended where all scores are below 0; leave the own ones "
                "out, or give them minus infinity rather than 0."
                if shift < 0
                else "your list holds a movie that is rated already; leave the own ones out."
            )
        if len(set(listed)) < len(listed):
            raise _NotYet("a movie stands in your list twice; each may be there once.")
        if len(listed) != k:
            raise _NotYet(
                f"your list has {len(listed)} movies and {k} are asked for; take the own ones out "
                "before you count to k."
            )
        if listed == right[::-1] or listed == best[::-1][1 : k + 1]:
            raise _NotYet("your list begins with the lowest score; the best one comes first.")
        if sorted(listed) == sorted(right) and listed != right:
            raise _NotYet("these are the right movies in another order; the best one comes first.")
        if listed != right:
            raise _NotYet(f"for one case your list is {listed}, and {right} is right.")
        if not np.array_equal(now, given) or own_now != own:
            raise _NotYet("the list is right, but you change what you are given; work on a copy.")
    return "the best movies come first, and none of the own ones is among them."


# Notebook 04 --------------------------------------------------------------------------------------


@_checker
def regularized_loss(function):
    """Check the loss with both regularizers.

    Args:
        function: Your f(A, U, V, l2_coeff, gravity_coeff): from a `tf.SparseTensor` [N, M] and
            tensors [N, d], [M, d] to the mean squared error over the observed pairs, plus
            l2_coeff times (1/N sum_i |U_i|^2 + 1/M sum_j |V_j|^2), plus gravity_coeff times
            1/(N M) sum_ij <U_i, V_j>^2.

    Returns:
        A `Result`.

    Cost: O(1) calls of the function, on cases of fixed size.
    """
    cases = [_matrices(*sizes) for sizes in ((0, 3, 4, 2), (1, 6, 5, 3), (2, 4, 9, 1))]

    def received(l2, pull):
        return [_number(_call(function, *_tensors(*case), l2, pull)) for case in cases]

    def error(A, U, V):
        return np.nanmean((A - U @ V.T) ** 2)

    def values(formula, coefficient=1.0):
        return [error(*case) + coefficient * formula(*case) for case in cases]

    def l2(A, U, V):
        return (U**2).sum() / len(U) + (V**2).sum() / len(V)

    def pull(A, U, V):
        return np.mean((U @ V.T) ** 2)

    _judge(
        received(0.0, 0.0),
        values(lambda A, U, V: 0.0),
        {
            "without penalties your loss is not the mean squared error: unobserved cells count.": [
                np.mean((np.nan_to_num(A) - U @ V.T) ** 2) for A, U, V in cases
            ],
            "without penalties your loss adds the squared errors up; take their mean.": [
                np.nansum((A - U @ V.T) ** 2) for A, U, V in cases
            ],
            "with both coefficients 0 you still add a penalty; multiply each by its own.": values(
                lambda A, U, V: l2(A, U, V) + pull(A, U, V)
            ),
        },
        "with both coefficients 0 your loss is not the mean squared error over observed pairs.",
    )
    _judge(
        received(0.7, 0.0),
        values(l2, 0.7),
        {
            "your loss has no l2 penalty, or not times `l2_coeff`.": values(lambda *case: 0.0),
            "the coefficients are swapped: `l2_coeff` belongs to the norms.": values(pull, 0.7),
            "your l2 penalty adds the squared norms up; take the mean over users and that over "
            "movies.": values(lambda A, U, V: (U**2).sum() + (V**2).sum(), 0.7),
            "your l2 penalty is the mean over all numbers in the tables; it should be the mean "
            "over the rows of their squared norms.": values(
                lambda A, U, V: np.mean(U**2) + np.mean(V**2), 0.7
            ),
            "your l2 penalty takes norms; square them.": values(
                lambda A, U, V: sum(np.linalg.norm(table, axis=1).mean() for table in (U, V)), 0.7
            ),
            "your l2 penalty is the mean over users and movies together; take one for each "
            "table.": values(
                lambda A, U, V: ((U**2).sum() + (V**2).sum()) / (len(U) + len(V)), 0.7
            ),
        },
        "the l2 penalty of your loss is not right: it should be the users' mean squared norm plus "
        "the movies'.",
    )
    _judge(
        received(0.0, 0.3),
        values(pull, 0.3),
        {
            "your loss has no gravity, or not times `gravity_coeff`.": values(lambda *case: 0.0),
            "your gravity is summed over observed pairs only; it pulls on all N M pairs.": values(
                lambda A, U, V: np.mean((U @ V.T)[~np.isnan(A)] ** 2), 0.3
            ),
            "your gravity is a sum; divide by the number of pairs, N M.": values(
                lambda A, U, V: np.sum((U @ V.T) ** 2), 0.3
            ),
            "your gravity is the mean of the scores; square them first.": values(
                lambda A, U, V: np.mean(U @ V.T), 0.3
            ),
        },
        "the gravity of your loss is not right: it should be the mean squared score of all pairs.",
    )
    _judge(received(0.2, 0.4), values(lambda *case: 0.2 * l2(*case) + 0.4 * pull(*case)), {})
    return "the error, the l2 penalty and gravity are each what they should be."


@_checker
def gravity(function):
    """Check gravity, and that the N M scores are never formed.

    Args:
        function: Your f(U, V): from tensors [N, d], [M, d] to 1/(N M) sum_ij <U_i, V_j>^2.

    Returns:
        A `Result`.

    Cost: O(1) calls of the function, on cases of fixed size.
    """
    cases = [_matrices(*sizes)[1:] for sizes in ((0, 3, 4, 2), (1, 6, 5, 3), (2, 4, 9, 1))]

    def values(formula):
        return [formula(U, V) for U, V in cases]

    _judge(
        [_number(_call(function, *_floats(U, V))) for U, V in cases],
        values(lambda U, V: np.mean((U @ V.T) ** 2)),
        {
            "you add up the squared scores; divide by the number of pairs, N M.": values(
                lambda U, V: np.sum((U @ V.T) ** 2)
            ),
            "you divide by the number of users only; divide by that of the movies as well.": (
                values(lambda U, V: np.sum((U @ V.T) ** 2) / len(U))
            ),
            "you divide by the number of movies only; divide by that of the users as well.": (
                values(lambda U, V: np.sum((U @ V.T) ** 2) / len(V))
            ),
            "you take the mean of the scores; square them first.": values(
                lambda U, V: np.mean(U @ V.T)
            ),
            "you multiply the Gram matrices as matrices; multiply them entry by entry.": values(
                lambda U, V: np.sum(U.T @ U @ V.T @ V) / (len(U) * len(V))
            ),
            "you take the mean over the d x d entries; add them up and divide by N M.": values(
                lambda U, V: np.mean((U.T @ U) * (V.T @ V))
            ),
        },
    )
    if _forms_all_pairs(function):
        raise _NotYet(
            "the value is right, but you form all N M scores on the way. Multiply the two Gram "
            "matrices, U^T U and V^T V, entry by entry instead."
        )
    return "the value is right, and nothing larger than the tables is formed on the way."


def _forms_all_pairs(function):
    """Whether a function of (U, V) makes an array of N M numbers."""
    from cfutils._tensorflow import tf

    N, M = 211, 307
    U, V = _floats(np.ones((N, 3)), np.ones((M, 3)))
    function = getattr(function, "python_function", function)  # of a tf.function
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = tf.function(function, autograph=False).get_concrete_function(U, V).graph
    except Exception:  # not made of TensorFlow's operations, so its memory is NumPy's
        tracemalloc.start()
        try:
            _call(function, U, V)
            return tracemalloc.get_traced_memory()[1] >= 4 * N * M
        finally:
            tracemalloc.stop()
    sizes = (out.shape.num_elements() for op in graph.get_operations() for out in op.outputs)
    return max(size or 0 for size in sizes) >= N * M


# Notebook 05 --------------------------------------------------------------------------------------


@_checker
def softmax_loss(function):
    """Check the mean cross-entropy of the softmax.

    Args:
        function: Your f(user_embeddings, item_embeddings, labels): from tensors [n, d], [M, d]
            and integers [n] to the mean of -log p(label), p = softmax of the scores.

    Returns:
        A `Result`.

    Cost: O(1) calls of the function, on cases of fixed size.
    """
    from cfutils._tensorflow import tf

    cases = []
    for seed, n, M, d in ((0, 3, 4, 2), (1, 5, 6, 3), (2, 2, 9, 1)):
        rng = np.random.default_rng(seed)
        cases.append((rng.normal(size=(n, d)), rng.normal(size=(M, d)), rng.integers(0, M, n)))

    def answer(psi, V, labels):
        return _number(_call(function, *_floats(psi, V), tf.constant(labels, tf.int32)), False)

    def values(formula):
        found = []
        for psi, V, labels in cases:
            p = np.exp(psi @ V.T)
            p /= p.sum(axis=1, keepdims=True)
            found.append(formula(p[np.arange(len(p)), labels], p, psi, V))
        return found

    _judge(
        [answer(*case) for case in cases],
        values(lambda chosen, p, psi, V: -np.log(chosen).mean()),
        {
            "you add the losses of the labels up; take their mean.": values(
                lambda chosen, p, psi, V: -np.log(chosen).sum()
            ),
            "the sign is wrong; the loss is minus the logarithm of the probability.": values(
                lambda chosen, p, psi, V: np.log(chosen).mean()
            ),
            "this is the mean probability; take minus its logarithm, label by label.": values(
                lambda chosen, p, psi, V: chosen.mean()
            ),
            "you take the logarithm of the mean; take the mean of the logarithms.": values(
                lambda chosen, p, psi, V: -np.log(chosen.mean())
            ),
            "you average over all movies; only the label's probability counts.": values(
                lambda chosen, p, psi, V: -np.log(p).mean()
            ),
            "your normalizer runs over the users; each user's probabilities add up to 1 over the "
            "movies (axis=1).": [
                np.mean(
                    [
                        np.log(np.exp(psi @ V[label]).sum()) - psi[row] @ V[label]
                        for row, label in enumerate(labels)
                    ]
                )
                for psi, V, labels in cases
            ],
        },
    )
    nothing = answer(np.zeros((2, 3)), np.zeros((8, 3)), [1, 5])
    if not _close(nothing, np.log(8)):
        raise _NotYet(f"with embeddings of 0 the loss of 8 movies is log 8, not {_show(nothing)}.")
    large = answer(np.array([[300.0], [-300.0]]), np.array([[1.0], [0.5], [-1.0]]), [1, 2])
    if not _close(large, 75.0):
        raise _NotYet(
            f"your loss is right for small scores, and {_show(large)} instead of 75 for scores "
            "of 300: exp overflows. Subtract the largest score first, or use reduce_logsumexp."
        )
    return "the loss is right, is log M where nothing is known, and large scores do it no harm."


@_checker
def softmax_model(function):
    """Check the scores of a tower that takes the mean over a history.

    Args:
        function: Your f(history_ids, item_embeddings): from the ids of the movies in one history,
            an array [n], and V, an array [M, d], to the scores [M]: the dot product of each row
            of V with the mean of the history's rows.

    Returns:
        A `Result`.

    Cost: O(1) calls of the function, on cases of fixed size.
    """
    cases = []
    for seed, M, d, n in ((0, 5, 2, 2), (1, 8, 3, 4), (2, 6, 4, 3)):
        rng = np.random.default_rng(seed)
        cases.append((rng.permutation(M)[:n], rng.normal(size=(M, d))))

    def values(formula):
        return [formula(V[ids], V) for ids, V in cases]

    def softmax(values):
        return np.exp(values) / np.exp(values).sum()

    received = []
    for ids, V in cases:
        answer = _call(function, ids.copy(), V.copy())
        shape = np.shape(answer)
        if shape == (V.shape[1],) and _close(answer, V[ids].mean(axis=0)):
            raise _NotYet("this is the embedding of the history; return its scores, one per movie.")
        received.append(
            _array(np.reshape(answer, -1) if shape == (1, len(V)) else answer, (len(V),))
        )
        if not _close(_array(_call(function, ids[::-1].copy(), V.copy()), None), received[-1]):
            raise _NotYet("the order of the history changes your scores; a mean has no order.")
        outside = np.setdiff1d(np.arange(len(V)), ids)[0]
        V_moved = V.copy()
        V_moved[outside] += 3.0
        moved = np.reshape(_array(_call(function, ids.copy(), V_moved), None), -1)
        rest = np.arange(len(V)) != outside
        changed = not _close(moved[rest], received[-1][rest])
        if changed and not _close(received[-1].sum(), 1.0):
            raise _NotYet(
                "a movie outside of the history changed the scores of others; only the rows of "
                "the history may enter its embedding."
            )
    _judge(
        received,
        values(lambda rows, V: V @ rows.mean(axis=0)),
        {
            "you add the rows of the history up; take their mean, so that long histories do not "
            "score higher.": values(lambda rows, V: V @ rows.sum(axis=0)),
            "these are probabilities; return the scores, before the softmax.": values(
                lambda rows, V: softmax(V @ rows.mean(axis=0))
            ),
            "you divide by all movies; divide by the length of the history.": values(
                lambda rows, V: V @ rows.sum(axis=0) / len(V)
            ),
            "you divide by the root of the history's length; divide by the length.": values(
                lambda rows, V: V @ rows.sum(axis=0) / len(rows) ** 0.5
            ),
            "these are cosines; take dot products with the mean as it is.": values(
                lambda rows, V: (
                    V
                    @ rows.mean(axis=0)
                    / np.linalg.norm(V, axis=1)
                    / np.linalg.norm(rows.mean(axis=0))
                )
            ),
        },
    )
    return "your scores are those of the mean of the history, in whatever order it comes."


# Details ------------------------------------------------------------------------------------------


def _call(function, *arguments):
    """What a function answers; `_NotYet` if it is none, stops with an error or answers nothing."""
    if function is None or function is ...:
        raise _NotYet(_NO_ANSWER)
    if not callable(function):
        raise _NotYet(
            f"a function is checked here, and you passed {_kind(function)}. Pass the function's "
            "name, without parentheses."
        )
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            answer = function(*arguments)
    except (Exception, SystemExit) as error:
        line = (str(error).strip().splitlines() or [""])[0]
        line = line if len(line) <= 150 else f"{line[:150]} ..."
        raise _NotYet(f"your function stopped with {type(error).__name__}: {line}") from None
    if answer is None or answer is ...:
        raise _NotYet(_NO_ANSWER)
    return answer


def _number(answer, finite=True):
    """One number as a float."""
    return float(_array(answer, (), finite))


def _array(answer, shape, finite=True):
    """An answer as an array of float64 of a shape; any shape if that is None."""
    try:
        values = np.asarray(answer, np.float64)
    except (TypeError, ValueError, RuntimeError):
        wanted = "one number" if shape == () else "an array of numbers"
        raise _NotYet(f"return {wanted}; you return {_kind(answer)}.") from None
    if shape == () and values.size == 1:
        values = values.reshape(())
    if shape is not None and values.shape != shape:
        wanted = "one number" if shape == () else f"an array of shape {shape}"
        raise _NotYet(f"return {wanted}; yours has the shape {values.shape}.")
    if finite and not np.isfinite(values).all():
        raise _NotYet("your answer holds NaN or infinity in a case where it should not.")
    return values


def _judge(received, expected, mistakes, otherwise=None):
    """Raise on answers that differ from what is right, by a known mistake or another one."""
    if all(map(_close, received, expected)):
        return
    for message, values in mistakes.items():
        if all(map(_close, received, values)):
            raise _NotYet(message)
    if callable(otherwise):
        otherwise = otherwise()
    if otherwise is None:
        pairs = zip(received, expected, strict=True)
        mine, right = next((a, b) for a, b in pairs if not _close(a, b))
        place = ""
        if np.ndim(right):
            at = int(np.argmin(np.isclose(mine, right, 1e-3, 1e-5)))
            mine, right, place = mine[at], right[at], f" at position {at}"
        mine, right = _show(mine), _show(right)
        otherwise = f"in a small case your function gives {mine}{place}, and {right} is right."
    raise _NotYet(otherwise)


def _close(received, expected):
    return np.shape(received) == np.shape(expected) and np.allclose(
        received, expected, rtol=1e-3, atol=1e-5, equal_nan=True
    )


def _show(number):
    return f"{float(number):.4g}"


def _kind(value):
    return f"a value of type {type(value).__name__}"


def _ratings(seed, N, M):
    """Ratings [N, M], NaN where nothing is observed; nobody has rated the last movie."""
    rng = np.random.default_rng(seed)
    A = rng.integers(1, 6, (N, M)).astype(float)
    A[rng.random((N, M)) < 0.5] = np.nan
    A[:2, :2] = [[4.0, np.nan], [2.0, 5.0]]
    A[:, -1] = np.nan
    return A


def _matrices(seed, N, M, d):
    """Ratings [N, M] with NaN, U [N, d] and V [M, d]."""
    rng = np.random.default_rng([seed, 1])
    return _ratings(seed, N, M), rng.normal(size=(N, d)), rng.normal(size=(M, d))


def _tensors(A, U, V):
    """The same as a sparse tensor and two tensors, all float32."""
    from cfutils._tensorflow import tf

    observed = ~np.isnan(A)
    values = A[observed].astype(np.float32)
    return tf.SparseTensor(np.argwhere(observed), values, A.shape), *_floats(U, V)


def _floats(*arrays):
    from cfutils._tensorflow import tf

    return tuple(tf.constant(array, tf.float32) for array in arrays)

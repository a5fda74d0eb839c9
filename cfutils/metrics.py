"""How well a model ranks, what it recommends, and how sure we are: intervals over seeds."""

import numpy as np
import pandas as pd
import scipy.sparse
import scipy.stats

from cfutils import _progress
from cfutils.scores import best_columns, top_k

_CELLS = 2**21  # scores ranked at once: 16 MiB


def rank_candidates(scores, train, user_ids, num_items, *, k=10, seed=0, progress=None):
    """The k best movies for each user, among those that are not in the user's training ratings.

    Equal scores are put in a random order of the movies that `seed` fixes: in MovieLens low ids
    are popular, so an order by id would reward a model that knows nothing.

    Args:
        scores: a pair of arrays (user embeddings [num_users, d], item embeddings [num_items, d])
            whose dot products are the scores: the way for large data. Or an array [num_users,
            num_items], or a function that takes an array of n user ids and returns their scores
            [n, num_items], called with blocks of users. Higher is better.
        train: frame with `user_id` and `movie_id` of what is left out.
        user_ids: array [n] of the users to rank for.
        num_items: number of movies.
        k: length of a list.
        seed: of the order among equal scores.
        progress: whether to show a bar on standard error; None if that is a terminal.

    Returns:
        Movie ids [n, k], best first; -1 where a user has fewer than k candidates.

    Raises:
        ValueError: if a score is NaN, or the scores have the wrong shape.

    Cost: O(n num_items) time, and d times that from embeddings; memory O(n k + len(train)) and a
    block of scores: 16 MiB, or one row if that is more (from embeddings see `scores.top_k`).
    """
    user_ids = np.asarray(user_ids)
    seen = interactions(train, int(user_ids.max(initial=-1)) + 1, num_items)
    order = np.random.default_rng(seed).permutation(num_items)
    if isinstance(scores, tuple):
        users, items = map(np.asarray, scores)
        if len(items) != num_items:
            raise ValueError(
                f"scores should have {num_items} item embeddings. Received: {len(items)}"
            )
        exclude = seen[user_ids][:, order]
        best, _ = top_k(users[user_ids], items[order], k, exclude=exclude, progress=progress)
        return np.where(best >= 0, order[best], -1)
    ranked = np.full((len(user_ids), k), -1)
    rows = max(1, _CELLS // num_items)
    with _progress.bar(len(user_ids), "user", progress) as bar:
        for start in range(0, len(user_ids), rows):
            block = user_ids[start : start + rows]
            values = np.array(scores(block) if callable(scores) else scores[block], dtype="float64")
            if values.shape != (len(block), num_items):
                raise ValueError(
                    f"scores should have shape [{len(block)}, {num_items}] for {len(block)} users. "
                    f"Received: {list(values.shape)}"
                )
            if np.isnan(values).any():
                row, item = np.argwhere(np.isnan(values))[0]
                raise ValueError(
                    f"scores should be numbers. Received: NaN for user {block[row]}, movie {item}"
                )
            values[seen[block].nonzero()] = -np.inf
            best = best_columns(values[:, order], k)
            ranked[start : start + rows] = np.where(best >= 0, order[best], -1)
            bar.update(len(block))
    return ranked


def ranking_metrics(scores, train, test, num_items, *, k=10, relevant_rating=4.0, progress=None):
    """Recall, NDCG and precision at k of each user who has something relevant in the test ratings.

    The candidates are all movies outside the user's training ratings, and a movie is relevant if
    the user gave it `relevant_rating` or more in the test ratings. With h the hits among the k
    best candidates, R the number of relevant movies, and rank positions p = 1..k,

      recall = |h| / R,   precision = |h| / k,
      NDCG = sum over hits of 1/log2(p+1)  /  sum over p = 1..min(k, R) of 1/log2(p+1).

    Args:
        scores: as for `rank_candidates`.
        train: frame with `user_id` and `movie_id`; never candidates.
        test: frame with `user_id`, `movie_id` and `rating`.
        num_items: number of movies.
        k: length of the lists.
        relevant_rating: the lowest rating that counts as relevant.
        progress: as for `rank_candidates`.

    Returns:
        A frame with one row per user with a relevant movie, by `user_id`: `num_relevant`,
        `recall`, `ndcg`, `precision`. A model's figure is the mean over users.

    Source: Jarvelin and Kekalainen, Cumulated gain-based evaluation, 2002 (binary gains).
    Cost: that of `rank_candidates`, O(users num_items) time at least.
    """
    relevant = _relevant(test, relevant_rating, num_items)
    users = np.flatnonzero(_per_row(relevant))
    ranked = rank_candidates(scores, train, users, num_items, k=k, progress=progress)
    rows = np.repeat(users[:, None], k, axis=1)
    hits = np.asarray(relevant[rows.ravel(), ranked.ravel()]).reshape(ranked.shape) > 0
    hits &= ranked >= 0
    num_relevant = _per_row(relevant)[users]
    discounts = 1 / np.log2(np.arange(k) + 2)
    ideal = np.concatenate([[0], np.cumsum(discounts)])[np.minimum(num_relevant, k)]
    return pd.DataFrame(
        {
            "num_relevant": num_relevant,
            "recall": hits.sum(axis=1) / num_relevant,
            "ndcg": hits @ discounts / ideal,
            "precision": hits.mean(axis=1),
        },
        index=pd.Index(users, name="user_id"),
    )


def chance_metrics(train, test, num_items, *, k=10, relevant_rating=4.0):
    """What ranking the candidates at random gives: the exact expectation, by the same protocol.

    Each of C candidates is equally likely at each position, so a position is a hit with
    probability R/C.

    Args:
        train: as for `ranking_metrics`.
        test: as for `ranking_metrics`.
        num_items: number of movies.
        k: length of the lists.
        relevant_rating: the lowest rating that counts as relevant.

    Returns:
        A frame like that of `ranking_metrics`.

    Cost: O(ratings + users) time and memory.
    """
    relevant = _relevant(test, relevant_rating, num_items)
    seen = interactions(train, relevant.shape[0], num_items)
    users = np.flatnonzero(_per_row(relevant))
    num_relevant = _per_row(relevant)[users]
    candidates = num_items - _per_row(seen)[users]
    positions = np.minimum(k, candidates)
    discounts = np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(k) + 2))])
    hit = num_relevant / candidates
    return pd.DataFrame(
        {
            "num_relevant": num_relevant,
            "recall": positions / candidates,
            "ndcg": hit * discounts[positions] / discounts[np.minimum(num_relevant, k)],
            "precision": hit * positions / k,
        },
        index=pd.Index(users, name="user_id"),
    )


def list_metrics(ranked, popularity):
    """Describes which movies lists recommend: how popular, how many different, how evenly.

      median_popularity: median of `popularity` over all places of all lists
      coverage: share of the M movies that stand in at least one list
      gini: sum_i (2i - M - 1) x_i / (M sum_i x_i) for x the number of lists each movie stands in,
            in ascending order, i = 1..M; 0 if all movies are recommended alike, 1 - 1/M if one is

    Args:
        ranked: movie ids [n, k] as from `rank_candidates` or `top_k`; -1 for an empty place.
        popularity: array [M], such as the number of training ratings of each movie.

    Returns:
        A series `median_popularity`, `coverage`, `gini`.

    Raises:
        ValueError: if an id is not in -1..M-1, or all places are empty.

    Cost: O(n k + M log M) time.
    """
    ranked, popularity = np.asarray(ranked), np.asarray(popularity)
    num_items = len(popularity)
    wrong = ranked[(ranked < -1) | (ranked >= num_items)]
    if len(wrong):
        raise ValueError(f"ranked should hold ids from -1 to {num_items - 1}. Received: {wrong[0]}")
    ids = ranked[ranked >= 0]
    if not len(ids):
        raise ValueError("ranked should hold a movie at least. Received: only empty places")
    counts = np.sort(np.bincount(ids, minlength=num_items))
    weights = 2 * np.arange(1, num_items + 1) - num_items - 1
    return pd.Series(
        {
            "median_popularity": float(np.median(popularity[ids])),
            "coverage": float(np.mean(counts > 0)),
            "gini": float(weights @ counts / (num_items * counts.sum())),
        }
    )


def mean_interval(values, confidence=0.95):
    """The mean of independent repetitions and its interval by Student's t distribution.

    Args:
        values: one figure per repetition (seed or split), at least two. To compare two models, give
            the differences on the same splits.
        confidence: probability that such intervals cover the true mean.

    Returns:
        A series with `mean`, `low`, `high` and `n`.

    Raises:
        ValueError: if there are fewer than two values, or one is not finite.

    Cost: O(n) time and memory for n values.
    """
    try:
        numbers = np.asarray(values, dtype="float64")
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.ndim != 1 or len(numbers) < 2 or not (np.abs(numbers) < 1e150).all():
        raise ValueError(f"values should be two or more finite numbers. Received: {values}")
    values = numbers
    mean, error = values.mean(), scipy.stats.sem(values)
    half = error * scipy.stats.t.ppf((1 + confidence) / 2, len(values) - 1)
    return pd.Series({"mean": mean, "low": mean - half, "high": mean + half, "n": len(values)})


def verdict(differences, confidence=0.95):
    """Reads from repetitions whether a quantity that a claim says is positive is so.

    Args:
        differences: one figure per repetition, as for `mean_interval`; positive where the claim
            holds.
        confidence: as for `mean_interval`.

    Returns:
        The series of `mean_interval` with `verdict` added: "holds" if the whole interval is above
        0, "does not hold" if it is below, else "undecided".

    Raises:
        ValueError: as `mean_interval`.

    Cost: O(n) time and memory for n values.
    """
    interval = mean_interval(differences, confidence)
    reading = "undecided"
    if interval["low"] > 0:
        reading = "holds"
    elif interval["high"] < 0:
        reading = "does not hold"
    return pd.Series({**interval, "n": int(interval["n"]), "verdict": reading})


def interactions(ratings, num_users, num_items, *, binary=True):
    """Ratings as a sparse matrix of histories.

    Args:
        ratings: frame with `user_id`, `movie_id` and, unless `binary`, `rating`; rows of
            users beyond `num_users` are left out.
        num_users: number of rows.
        num_items: number of columns.
        binary: whether an entry is 1, rather than the rating.

    Returns:
        A SciPy CSR matrix [num_users, num_items], float32.

    Cost: O(n + num_users) time and memory for n ratings.
    """
    kept = ratings[["user_id", "movie_id"] if binary else ["user_id", "movie_id", "rating"]]
    inside = kept["user_id"] < num_users
    if not inside.all():
        kept = kept[inside]
    values = np.ones(len(kept), "float32") if binary else kept["rating"].to_numpy("float32")
    return scipy.sparse.csr_array(
        (values, (kept["user_id"].to_numpy(), kept["movie_id"].to_numpy())),
        shape=(num_users, num_items),
    )


def _relevant(test, relevant_rating, num_items):
    relevant = test[test["rating"] >= relevant_rating]
    if relevant.empty:
        raise ValueError(
            f"test should have a rating of at least relevant_rating={relevant_rating}. "
            f"Received: {len(test)} ratings, highest {test['rating'].max()}"
        )
    return interactions(relevant, int(relevant["user_id"].max()) + 1, num_items)


def _per_row(matrix):
    return np.diff(matrix.indptr)

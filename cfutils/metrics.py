"""How well a model ranks, what it recommends, and how sure we are: intervals over seeds."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse
import scipy.stats

from cfutils import _checks, _progress
from cfutils.data import Dataset, as_array, check_dataset
from cfutils.recommendation import embeddings
from cfutils.scores import best_columns, top_k

_CELLS = 2**21  # scores ranked at once: 16 MiB


def rank_candidates(
    scores: Any,
    train: Dataset,
    user_nums: npt.ArrayLike | None = None,
    *,
    k: int = 10,
    seed: int = 0,
    progress: bool | None = None,
) -> np.ndarray:
    """The k best items for each user, among those that are not in the user's training ratings.

    Equal scores are put in a random order of the items that `seed` fixes: in MovieLens the first
    items are popular, so an order by row would reward a model that knows nothing.

    Args:
        scores: for large data a model or a pair of arrays [N, d], [M, d], whose dot products are
            the scores. Or an array [N, M], or a function from an array of n users' rows, a block
            of all, to their scores [n, M]. Higher is better; what has score -inf is never listed.
        user_nums: array [n] of the users to rank for; None for all.
        progress: whether to show a bar on standard error; None if that is a terminal.

    Returns: rows of items [n, k], best first; -1 where a user has fewer than k candidates.
    Raises: ValueError if a score is NaN, the scores' shape is wrong, or a user is out of range.
    Cost: O(n M) time, d times that from embeddings; 16 MiB beside the result (see `top_k`).
    """
    k = _checks.positive_integer("k", k)
    check_dataset("train", train)
    users = _user_nums(user_nums, train.num_users)
    num_items = train.num_items
    seen = train.interactions()[users]
    order = np.random.default_rng(_checks.integer("seed", seed, 0)).permutation(num_items)
    pair = isinstance(scores, (tuple, list)) and len(scores) == 2 and np.ndim(scores[0]) == 2
    if pair or hasattr(scores, "item_embeddings"):
        U, V = embeddings(scores, train)
        best, _ = top_k(U[users], V[order], k, exclude=seen[:, order], progress=progress)
        return np.where(best >= 0, order[best], -1)
    if not callable(scores):
        scores = _table(scores, (train.num_users, num_items)).__getitem__
    ranked = np.full((len(users), k), -1)
    rows = max(1, _CELLS // num_items)
    with _progress.bar(len(users), "user", progress) as bar:
        for start in range(0, len(users), rows):
            block = users[start : start + rows]
            values = _table(scores(block), (len(block), num_items)).astype("float64")
            if np.isnan(values).any():
                row, item = np.argwhere(np.isnan(values))[0]
                raise ValueError(
                    f"scores should be numbers. Received: NaN for user_num {block[row]}, "
                    f"item_num {item}"
                )
            values[seen[start : start + rows].nonzero()] = -np.inf
            best = best_columns(values[:, order], k)
            ranked[start : start + rows] = np.where(best >= 0, order[best], -1)
            bar.update(len(block))
    return ranked


def ranking_metrics(
    scores: Any,
    train: Dataset,
    test: Dataset,
    *,
    k: int = 10,
    relevant_rating: float | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Recall, NDCG and precision at k of each user who has something relevant in the test ratings.

    The candidates are all items outside the user's training ratings, and an item is relevant if
    the user gave it `relevant_rating` or more in the test ratings. With h the hits among the k
    best candidates, R the number of relevant items, and rank positions p = 1..k,

      recall = |h| / R,   precision = |h| / k,
      NDCG = sum over hits of 1/log2(p+1)  /  sum over p = 1..min(k, R) of 1/log2(p+1).

    Args:
        scores, k, progress: as for `rank_candidates`.
        train, test: two parts of the ratings of the same users and items.
        relevant_rating: None stands for 4 where ratings are stars up to 5, and for 1 where all are
            1; on another scale it has to be said.

    Returns: a frame with one row per user with a relevant item, by `user_num`: `num_relevant`,
    `recall`, `ndcg`, `precision`. A model's figure is the mean over users.
    Raises: ValueError if `train` and `test` have other users or items, or a rating in common, if
    nothing is relevant or the scale leaves open what is, or as `rank_candidates`.
    Source: Jarvelin and Kekalainen, Cumulated gain-based evaluation, 2002 (binary gains).
    """
    relevant, frame = _relevant(train, test, relevant_rating)
    users, num_relevant = frame.index.to_numpy(), frame["num_relevant"].to_numpy()
    ranked = rank_candidates(scores, train, users, k=k, progress=progress)
    rows = np.repeat(users[:, None], k, axis=1)
    hits = relevant[rows.ravel(), ranked.ravel()].reshape(ranked.shape) & (ranked >= 0)
    discounts = 1 / np.log2(np.arange(k) + 2)
    ideal = np.cumsum(discounts)[np.minimum(num_relevant, k) - 1]
    recall, ndcg = hits.sum(axis=1) / num_relevant, hits @ discounts / ideal
    return frame.assign(recall=recall, ndcg=ndcg, precision=hits.mean(axis=1))


def chance_metrics(
    train: Dataset, test: Dataset, *, k: int = 10, relevant_rating: float | None = None
) -> pd.DataFrame:
    """What ranking the candidates at random gives: the exact expectation, by the same protocol.

    Each of C candidates is equally likely at each position, so a position is a hit with
    probability R/C. Arguments and result are those of `ranking_metrics`.
    """
    k = _checks.positive_integer("k", k)
    _, frame = _relevant(train, test, relevant_rating)
    num_relevant = frame["num_relevant"].to_numpy()
    known = np.bincount(train.ratings["user_num"], minlength=train.num_users)
    candidates = train.num_items - known[frame.index]
    positions, hit = np.minimum(k, candidates), num_relevant / candidates
    discounts = np.cumsum(1 / np.log2(np.arange(k) + 2))
    ndcg = hit * discounts[positions - 1] / discounts[np.minimum(num_relevant, k) - 1]
    return frame.assign(recall=positions / candidates, ndcg=ndcg, precision=hit * positions / k)


def list_metrics(ranked: npt.ArrayLike, popularity: npt.ArrayLike) -> pd.Series:
    """Describes which items lists recommend: how popular, how many different, how evenly.

    Returns a series:

      median_popularity: median of `popularity` over all places of all lists
      coverage: share of the M items that stand in at least one list
      gini: sum_i (2i - M - 1) x_i / (M sum_i x_i) for x the number of lists each item stands in,
            in ascending order, i = 1..M; 0 if all items are recommended alike, 1 - 1/M if one is

    Takes rows of items [n, k] as from `rank_candidates` or `top_k`, -1 for an empty place, and an
    array [M] such as the number of training ratings of each item.

    Raises: ValueError if a row is not in -1..M-1, all places are empty, or a popularity is missing.
    """
    ranked = as_array("ranked", ranked, None, None, kinds="iu")
    popularity = as_array("popularity", popularity, None)
    num_items = len(popularity)
    wrong = ranked[(ranked < -1) | (ranked >= num_items)]
    if len(wrong):
        raise ValueError(f"ranked should hold -1 to {num_items - 1}. Received: {wrong[0]}")
    rows = ranked[ranked >= 0]
    if not len(rows):
        raise ValueError("ranked should hold an item at least. Received: only empty places")
    counts = np.sort(np.bincount(rows, minlength=num_items))
    weights = 2 * np.arange(1, num_items + 1) - num_items - 1
    gini = weights @ counts / (num_items * counts.sum())
    median, coverage = np.median(popularity[rows]), np.mean(counts > 0)
    return pd.Series({"median_popularity": median, "coverage": coverage, "gini": gini}, dtype=float)


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> pd.Series:
    """The mean of independent repetitions and its interval by Student's t distribution.

    Takes one figure per repetition (seed or split), at least two; to compare two models, the
    differences on the same splits. `confidence` is how probably such intervals cover the true mean.

    Returns: a series with `mean`, `low`, `high` and `n`.
    Raises: ValueError if there are fewer than two values, one is not finite, or `confidence` is not
    between 0 and 1.
    """
    confidence = _checks.share("confidence", confidence)
    try:
        figures = np.asarray(values, dtype="float64")
    except (TypeError, ValueError):
        figures = np.empty(0)
    if figures.ndim != 1 or len(figures) < 2 or not (np.abs(figures) < 1e150).all():
        raise ValueError(f"values should be two or more finite numbers. Received: {values!r}")
    mean, error = figures.mean(), scipy.stats.sem(figures)
    half = error * scipy.stats.t.ppf((1 + confidence) / 2, len(figures) - 1)
    return pd.Series({"mean": mean, "low": mean - half, "high": mean + half, "n": len(figures)})


def verdict(differences: npt.ArrayLike, confidence: float = 0.95) -> pd.Series:
    """Reads from repetitions whether a quantity that a claim says is positive is so.

    Returns the series of `mean_interval`, which has the same arguments, with `verdict` added:
    "holds" if the whole interval is above 0, "does not hold" if it is below, else "undecided".
    """
    interval = mean_interval(differences, confidence)
    reading = "does not hold" if interval["high"] < 0 else "undecided"
    reading = "holds" if interval["low"] > 0 else reading
    return pd.Series({**interval, "n": int(interval["n"]), "verdict": reading})


def _user_nums(user_nums: npt.ArrayLike | None, num_users: int) -> np.ndarray:
    users = np.arange(num_users) if user_nums is None else np.asarray(user_nums)
    rows = users.ndim == 1 and users.dtype.kind in "iu"
    wrong = users[(users < 0) | (users >= num_users)] if rows else users
    if wrong.size:
        raise ValueError(
            f"user_nums should be a list of rows of train.users, 0..{num_users - 1}. Received: "
            f"{_checks.shown(wrong.ravel().tolist())}"
        )
    return users.astype("int64")


def _table(scores: npt.ArrayLike, shape: tuple[int, int]) -> np.ndarray:
    table = np.asarray(scores)
    if table.shape != shape or table.dtype.kind not in "biuf":
        raise ValueError(
            f"scores should be numbers of shape {list(shape)}, users by items. Received: "
            f"{list(table.shape)}, {table.dtype}"
        )
    return table


def _relevant(
    train: Dataset, test: Dataset, relevant_rating: float | None
) -> tuple[scipy.sparse.csr_array, pd.DataFrame]:
    """Where the relevant test ratings are, [N, M], and the users who have any: `num_relevant`."""
    check_dataset("train", train)
    check_dataset("test", test)
    for kind in ("user", "item"):
        known, ids = (getattr(data, f"{kind}s")[f"{kind}_id"].tolist() for data in (train, test))
        if ids != known:
            raise ValueError(
                f"test should have the {len(known)} {kind}s of train, {_checks.shown(known)}. "
                f"Received: {len(ids)}, {_checks.shown(ids)}. Load one table and take parts of it: "
                "train, test = data.split(seed=...)."
            )
    users, items = (test.ratings[name].to_numpy() for name in ("user_num", "item_num"))
    twice = np.flatnonzero(train.interactions()[users, items])
    if len(twice):
        user, item = users[twice[0]], items[twice[0]]
        raise ValueError(
            "test should have no rating of train: what is known is no candidate. Received: "
            f"{len(twice)} of {len(users)} in both, the first that of user_id "
            f"{train.users['user_id'][user]} for item_id {train.items['item_id'][item]}. Take "
            "parts without common ratings: train, test = data.split(seed=...)."
        )
    relevant_rating = _least_relevant(train, test, relevant_rating)
    relevant = (test.ratings["rating"] >= relevant_rating).to_numpy()
    if not relevant.any():
        raise ValueError(
            f"test should have a rating of at least relevant_rating={relevant_rating}. "
            f"Received: {len(relevant)} ratings, highest {test.ratings['rating'].max()}"
        )
    places = users[relevant], items[relevant]
    counts = np.bincount(places[0])
    shape = test.num_users, test.num_items
    matrix = scipy.sparse.csr_array((np.ones(len(places[0]), bool), places), shape)
    by_user = pd.Index(np.flatnonzero(counts), name="user_num")
    return matrix, pd.DataFrame({"num_relevant": counts[counts > 0]}, by_user)


def _least_relevant(train: Dataset, test: Dataset, given: float | None) -> float:
    """What is said, or 4 of five stars, or 1 where every rating is 1."""
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, numbers.Real) or not np.isfinite(given):
            raise ValueError(f"relevant_rating should be a number or None. Received: {given!r}.")
        return float(given)
    ratings = np.concatenate([part.ratings["rating"].to_numpy("float64") for part in (train, test)])
    lowest, highest = ratings.min(), ratings.max()
    if lowest == highest == 1:
        return 1.0
    if lowest >= 0.5 and 4 < highest <= 5:
        return 4.0
    raise ValueError(
        "relevant_rating should say which ratings count as relevant where they are not stars up to "
        f"5. Received: None, of ratings from {lowest:g} to {highest:g}. Say it: "
        f"relevant_rating={ratings.mean():.3g}, their mean, for instance."
    )

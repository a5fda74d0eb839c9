"""The references that stand beside every figure: what simple or exact methods reach."""

import numpy as np

from cfutils.data import rating_stats
from cfutils.metrics import interactions


def fit_biases(train, num_users, num_items, *, damping=5.0):
    """The mean rating, and how far each user and movie departs from it.

    The bias of movie j is the damped mean of r - mu over its ratings, and that of user i the damped
    mean of r - mu - b_j over the user's ratings; damped means that `damping` zeros are added.

    Args:
        train: frame with `user_id`, `movie_id` and `rating`.
        num_users: number of users.
        num_items: number of movies.
        damping: how many ratings without any bias are imagined; 0 for plain means.

    Returns:
        `(mean, user_biases [num_users], item_biases [num_items])`; a row without ratings has bias
        0. The prediction for a pair is `mean + user_biases[i] + item_biases[j]`.

    Source: Koren and Bell, Advances in Collaborative Filtering, 2011, section 2.1.

    Cost: O(n + num_users + num_items) time and memory for n ratings.
    """
    mean = train["rating"].mean()

    def damped(residuals, by, num_rows):
        stats = rating_stats(train[[by]].assign(rating=residuals), by, num_rows)
        total = (stats["mean_rating"] * stats["num_ratings"]).fillna(0)
        return (total / (stats["num_ratings"] + damping).clip(lower=1e-12)).to_numpy()

    residuals = train["rating"] - mean
    item_biases = damped(residuals, "movie_id", num_items)
    residuals = residuals - item_biases[train["movie_id"]]
    return mean, damped(residuals, "user_id", num_users), item_biases


def popularity_scores(train, num_users, num_items):
    """The number of training ratings of each movie, as the score of every user.

    Returns:
        An array [num_users, num_items] in which all rows are the same (a view, not a copy).

    Cost: O(n + num_items) time and memory for n ratings.
    """
    counts = rating_stats(train, "movie_id", num_items)["num_ratings"].to_numpy()
    return np.broadcast_to(counts, (num_users, num_items))


def ease_weights(train, num_users, num_items, *, l2, binary=True):
    """EASE, the closed-form linear autoencoder: how much each movie speaks for each other one.

    With X the histories [N, M], B minimises |X - XB|^2 + l2 |B|^2 under diag(B) = 0. For
    P = (X'X + l2 I)^-1 the solution is B_ij = -P_ij / P_jj off the diagonal. The scores of any
    histories, those of new users too, are `histories @ B`.

    Args:
        train: frame with `user_id`, `movie_id` and `rating`.
        num_users: number of users.
        num_items: number of movies.
        l2: strength of the penalty, above 0; hundreds for binary histories, thousands for ratings.
        binary: whether a history says only what was rated, rather than how.

    Returns:
        B, an array [num_items, num_items].

    Source: Steck, Embarrassingly Shallow Autoencoders for Sparse Data, 2019, equation 8.
    Cost: O(num_items^3) time and O(num_items^2) memory.
    """
    if not l2 > 0:
        raise ValueError(f"l2 should be positive. Received: {l2}")
    histories = interactions(train, num_users, num_items, binary=binary)
    gram = (histories.T @ histories).toarray().astype("float64")
    gram[np.diag_indices(num_items)] += l2
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def ease_scores(train, num_users, num_items, *, l2, binary=True):
    """The scores of `ease_weights` for the users that it was computed from.

    Args:
        train: as for `ease_weights`.
        num_users: number of users.
        num_items: number of movies.
        l2: as for `ease_weights`.
        binary: as for `ease_weights`.

    Returns:
        An array [num_users, num_items].

    Cost: O(num_items^3 + n num_items) time for n ratings, O(num_items (num_users + num_items))
    memory.
    """
    histories = interactions(train, num_users, num_items, binary=binary)
    return histories @ ease_weights(train, num_users, num_items, l2=l2, binary=binary)

"""The references that stand beside every figure: what simple or exact methods reach."""

from __future__ import annotations

import numpy as np

from cfutils import _checks
from cfutils.data import Dataset, check_dataset


def fit_biases(train: Dataset, *, damping: float = 5.0) -> tuple[float, np.ndarray, np.ndarray]:
    """The mean rating, and how far each user and item departs from it.

    The bias of item j is the damped mean of r - mu over its ratings, and that of user i the damped
    mean of r - mu - b_j over the user's ratings; damped means that `damping` zeros are added.

    Returns: `(mean, user_biases [N], item_biases [M])`; a row without ratings has bias 0. The
    prediction for a pair is `mean + user_biases[i] + item_biases[j]`.
    Source: Koren and Bell, Advances in Collaborative Filtering, 2011, section 2.1.
    """
    check_dataset("train", train)
    damping = _checks.finite("damping", damping)
    users, items = (train.ratings[name].to_numpy() for name in ("user_num", "item_num"))
    ratings = train.ratings["rating"].to_numpy("float64")
    mean = float(ratings.mean())

    def damped(residuals: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
        total = np.bincount(rows, residuals, count)
        return total / np.maximum(np.bincount(rows, minlength=count) + damping, 1)

    item_biases = damped(ratings - mean, items, train.num_items)
    return mean, damped(ratings - mean - item_biases[items], users, train.num_users), item_biases


def popularity_scores(train: Dataset) -> np.ndarray:
    """The number of training ratings of each item, as the score of every user: a view [N, M]."""
    check_dataset("train", train)
    counts = np.bincount(train.ratings["item_num"], minlength=train.num_items)
    return np.broadcast_to(counts, (train.num_users, train.num_items))


def ease_weights(train: Dataset, *, l2: float, binary: bool = True) -> np.ndarray:
    """EASE, the closed-form linear autoencoder: how much each item speaks for each other one.

    With X the histories [N, M], B minimises |X - XB|^2 + l2 |B|^2 under diag(B) = 0. For
    P = (X'X + l2 I)^-1 the solution is B_ij = -P_ij / P_jj off the diagonal. The scores of any
    histories, those of new users too, are `histories @ B`.

    l2 is above 0: hundreds for binary histories, which say only what was rated; thousands for
    ratings.

    Returns: B, an array [M, M].
    Source: Steck, Embarrassingly Shallow Autoencoders for Sparse Data, 2019, equation 8.
    Cost: O(M^3) time and O(M^2) memory.
    """
    check_dataset("train", train)
    l2 = _checks.finite("l2", l2, positive=True)
    histories = train.interactions(binary=binary)
    gram = (histories.T @ histories).toarray().astype("float64")
    gram[np.diag_indices(train.num_items)] += l2
    try:
        inverse = np.linalg.inv(gram)
    except np.linalg.LinAlgError:
        raise ValueError(f"l2 should be larger: no inverse at this. Received: {l2}.") from None
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def ease_scores(train: Dataset, *, l2: float, binary: bool = True) -> np.ndarray:
    """The scores [N, M] by `ease_weights` of the users of `train`; its arguments."""
    weights = ease_weights(train, l2=l2, binary=binary)
    return train.interactions(binary=binary) @ weights

"""The losses of the models, as pure functions of tensors (arrays and nested lists will do).

U is the table of user embeddings [N, d], V the table of item embeddings [M, d], A the ratings
[N, M] and Omega the set of its observed (user, item) pairs. The loss that `CFModel` minimizes is

    MSE over Omega  +  l2_coeff * l2_penalty(U, V)  +  gravity_coeff * gravity(U, V).

For `SoftmaxModel` a row of U is psi(x), computed from a history, and a label is an item.
"""

from __future__ import annotations

from typing import Literal

from cfutils._tensorflow import tf

__all__ = [
    "gravity",
    "l2_penalty",
    "sampled_softmax_loss",
    "softmax_loss",
    "sparse_mean_squared_error",
]


def sparse_mean_squared_error(
    ratings: tf.SparseTensor,
    user_embeddings: tf.Tensor,
    item_embeddings: tf.Tensor,
    method: Literal["gather", "full"] = "gather",
) -> tf.Tensor:
    """Mean squared error over the observed ratings: 1/|Omega| sum_Omega (A_ij - U_i.V_j)^2.

    Args:
        ratings: A [N, M]; the pairs that it stores are Omega, no other has any influence.
        user_embeddings, item_embeddings: U and V, floats [N, d] and [M, d].
        method: "gather" looks up the two embeddings of each observed pair: time and memory
            O(|Omega| d). "full" computes all of U V^T and picks the observed entries: time
            O(N M d), memory O(N M). Values and gradients are the same.

    Returns:
        Scalar, the average over Omega in squared rating units; NaN if nothing is observed.

    Source: Koren, Bell, Volinsky (2009), "Matrix factorization techniques for recommender
    systems", equation 2 without its penalty.
    """
    if method == "gather":
        rows = tf.gather(user_embeddings, ratings.indices[:, 0])  # [|Omega|, d]
        columns = tf.gather(item_embeddings, ratings.indices[:, 1])  # [|Omega|, d]
        predictions = tf.reduce_sum(rows * columns, axis=1)
    elif method == "full":
        product = tf.matmul(user_embeddings, item_embeddings, transpose_b=True)  # [N, M]
        predictions = tf.gather_nd(product, ratings.indices)
    else:
        raise ValueError(f'method should be "gather" or "full". Received: {method!r}.')
    return tf.reduce_mean(tf.square(ratings.values - predictions))


def l2_penalty(user_embeddings: tf.Tensor, item_embeddings: tf.Tensor) -> tf.Tensor:
    """Mean squared norm of the embeddings: r(U, V) = 1/N sum_i |U_i|^2 + 1/M sum_j |V_j|^2.

    U is [N, d], V is [M, d]. Returns a scalar: the average over all users plus the average over
    all items, rated or not.

    Source: Koren et al. (2009), equation 2, averaged per table instead of summed per rating.
    """
    tables = user_embeddings, item_embeddings
    return tf.add_n([tf.reduce_mean(tf.reduce_sum(tf.square(table), axis=1)) for table in tables])


def gravity(user_embeddings: tf.Tensor, item_embeddings: tf.Tensor) -> tf.Tensor:
    """Mean squared score over all pairs: g(U, V) = 1/(N M) sum_i sum_j (U_i.V_j)^2.

    U is [N, d], V is [M, d]. Returns a scalar, the average over all N M pairs, observed or not,
    whose predictions it pulls towards zero. The double sum is never formed: it is
    trace(U^T U V^T V), the sum of the elementwise product of two Gram matrices [d, d], in time
    O((N + M) d^2) instead of O(N M d).

    Source: Krichene et al. (2019), "Efficient training on very large corpora via Gramian
    estimation", equation 3; the same term is the unobserved weight of Hu, Koren, Volinsky (2008).
    """
    user_gram, item_gram = (
        tf.matmul(table, table, transpose_a=True) / tf.cast(tf.shape(table)[0], table.dtype)
        for table in map(tf.convert_to_tensor, (user_embeddings, item_embeddings))
    )
    return tf.reduce_sum(user_gram * item_gram)


def softmax_loss(
    user_embeddings: tf.Tensor,
    item_embeddings: tf.Tensor,
    labels: tf.Tensor | tf.SparseTensor,
) -> tf.Tensor:
    """Mean cross-entropy of labels under p = softmax(U V^T): -log p(label), averaged.

    Args:
        user_embeddings, item_embeddings: U and V, floats [n, d] and [M, d].
        labels: Integers [n], one label from 0 to M - 1 per row of U; or a `tf.SparseTensor`
            [n, M] of weights, for any number of labels of each row.

    Returns:
        Scalar in nats, the average over all labels by their weights; log M where all scores are
        equal. Time O(n M d), memory O(n M).

    Raises:
        ValueError: If the widths of U and V differ, or there is not one label per row of U.

    Source: Covington, Adams, Sargin (2016), "Deep neural networks for YouTube recommendations".
    """
    return tf.divide(*summed_softmax_loss(user_embeddings, item_embeddings, labels))


def sampled_softmax_loss(
    user_embeddings: tf.Tensor,
    item_embeddings: tf.Tensor,
    labels: tf.Tensor | tf.SparseTensor,
    sampled: tf.Tensor,
    sampling_probabilities: tf.Tensor,
) -> tf.Tensor:
    """Estimate of `softmax_loss`, with its arguments and errors, from S items instead of all M.

    With s_j the score of item j and S items drawn from a distribution Q, with replacement, the
    normalizer sum_j exp(s_j) of a label y is replaced by

        exp(s_y)  +  sum over sampled j != y of exp(s_j - log(S Q_j)),

    which has the same expectation. Without the log-Q correction, items that are drawn often would
    be pushed down for being drawn. By Jensen's inequality the loss is too low on average.

    Args:
        sampled: Integers [S], items drawn from Q with replacement.
        sampling_probabilities: Floats [S], Q of each of them, above 0.

    Returns:
        Scalar, averaged as in `softmax_loss`. For L labels time O(n S d + L (S + d)), whatever M.

    Source: Yi et al. (2019), "Sampling-bias-corrected neural modeling for large corpus item
    recommendations", equations 3 and 4; a label's own score is not corrected, as it isn't drawn.
    """
    sample = sampled, sampling_probabilities
    return tf.divide(*summed_softmax_loss(user_embeddings, item_embeddings, labels, *sample))


def summed_softmax_loss(users, items, labels, sampled=None, sampling_probabilities=None):
    """Weighted sum of the losses of labels, and the sum of their weights; sampled if asked for."""
    users, items = map(tf.convert_to_tensor, (users, items))
    rows, ids, weights = _labels(users, items, labels)  # [L] each
    if sampled is None:
        scores = tf.matmul(users, items, transpose_b=True)  # [n, M]
        own = tf.gather_nd(scores, tf.stack([rows, ids], axis=1))
        normalizers = tf.gather(tf.reduce_logsumexp(scores, axis=1), rows)
    else:
        own = tf.reduce_sum(tf.gather(users, rows) * tf.gather(items, ids), axis=1)
        scores = tf.matmul(users, tf.gather(items, sampled), transpose_b=True)
        number = tf.cast(tf.size(sampled), scores.dtype)
        scores -= tf.math.log(number * tf.cast(sampling_probabilities, scores.dtype))  # [n, S]
        # One sum per row serves all its labels, but for the H labels that are in the sample.
        sampled = tf.cast(sampled, ids.dtype)
        ordered = tf.sort(sampled)
        nearest = tf.minimum(tf.searchsorted(ordered, ids), tf.size(ordered) - 1)
        drawn = tf.where(tf.equal(tf.gather(ordered, nearest), ids))  # [H, 1]
        hit = tf.equal(tf.gather(ids, drawn), sampled)  # [H, S]
        rest = tf.where(hit, scores.dtype.min, tf.gather(scores, tf.gather(rows, drawn[:, 0])))
        others = tf.gather(tf.reduce_logsumexp(scores, axis=1), rows)  # [L]
        others = tf.tensor_scatter_nd_update(others, drawn, tf.reduce_logsumexp(rest, axis=1))
        normalizers = tf.reduce_logsumexp(tf.stack([own, others], axis=1), axis=1)
    return tf.reduce_sum(weights * (normalizers - own)), tf.reduce_sum(weights)


def _labels(users, items, labels):
    """Row, item and weight of each label, [L] each, once the shapes fit."""
    (n, width), (num_items, item_width) = users.shape, items.shape
    if width != item_width:
        raise ValueError(
            "user_embeddings should have as many columns as item_embeddings, "
            f"{item_width}. Received: {width}. Bring both to one embedding dimension."
        )
    if isinstance(labels, tf.SparseTensor):
        if not labels.shape.is_compatible_with([n, num_items]):
            raise ValueError(
                f"labels should have shape {[n, num_items]}. Received: {labels.shape.as_list()}."
            )
        return labels.indices[:, 0], labels.indices[:, 1], labels.values
    labels = tf.convert_to_tensor(labels)
    if not labels.dtype.is_integer or not labels.shape.is_compatible_with([n]):
        raise ValueError(
            f"labels should be integers [{n}], one per row of user_embeddings, or a SparseTensor. "
            f"Received: {labels.dtype.name} {labels.shape.as_list()}."
        )
    return tf.range(tf.size(labels, labels.dtype)), labels, tf.ones(tf.shape(labels), users.dtype)

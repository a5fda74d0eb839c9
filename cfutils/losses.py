"""The losses of the models, as pure functions of tensors.

U is the table of user embeddings [N, d], V the table of item embeddings [M, d], A the ratings
[N, M] and Omega the set of its observed (user, item) pairs. The loss that `CFModel` minimizes is

    MSE over Omega  +  l2_coeff * l2_penalty(U, V)  +  gravity_coeff * gravity(U, V).

In the losses of `SoftmaxModel` a row of U is psi(x), computed from a history, and a label is an
item.
"""

from cfutils._tensorflow import tf

__all__ = [
    "gravity",
    "l2_penalty",
    "sampled_softmax_loss",
    "softmax_loss",
    "sparse_mean_squared_error",
]


def sparse_mean_squared_error(ratings, user_embeddings, item_embeddings, method="gather"):
    """Mean squared error over the observed ratings: 1/|Omega| sum_Omega (A_ij - U_i.V_j)^2.

    The two methods give the same value and the same gradients; they differ in what they hold in
    memory on the way.

    Args:
        ratings: `tf.SparseTensor` [N, M]; the pairs that it stores are Omega, all others are
            unknown and have no influence.
        user_embeddings: U, float tensor [N, d].
        item_embeddings: V, float tensor [M, d].
        method: "gather" looks up the two embeddings of each observed pair, time and memory
            O(|Omega| d). "full" computes all of U V^T and picks the observed entries, time
            O(N M d), memory O(N M).

    Returns:
        Scalar tensor, the average over Omega in squared rating units; NaN if nothing is observed.

    Raises:
        ValueError: If `method` is neither "gather" nor "full".

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
        raise ValueError(
            f'method should be "gather" or "full". Received: {method!r}. Use "gather" unless '
            "the full N x M product is small enough to hold."
        )
    return tf.reduce_mean(tf.square(ratings.values - predictions))


def l2_penalty(user_embeddings, item_embeddings):
    """Mean squared norm of the embeddings: r(U, V) = 1/N sum_i |U_i|^2 + 1/M sum_j |V_j|^2.

    Args:
        user_embeddings: U, float tensor [N, d].
        item_embeddings: V, float tensor [M, d].

    Returns:
        Scalar tensor: the average over all N users plus the average over all M items, rated or
        not. Time O((N + M) d).

    Source: the l2 term of Koren et al. (2009), equation 2, averaged per table instead of summed
    per rating.
    """
    return _mean_squared_norm(user_embeddings) + _mean_squared_norm(item_embeddings)


def gravity(user_embeddings, item_embeddings):
    """Mean squared score over all pairs: g(U, V) = 1/(N M) sum_i sum_j (U_i.V_j)^2.

    It pulls every prediction, observed or not, towards zero. The double sum is never formed:
    sum_ij (U_i.V_j)^2 = trace(U^T U V^T V), the sum of the elementwise product of two Gram
    matrices [d, d].

    Args:
        user_embeddings: U, float tensor [N, d].
        item_embeddings: V, float tensor [M, d].

    Returns:
        Scalar tensor, the average over all N M pairs. Time O((N + M) d^2), memory O(d^2), where
        the double sum needs O(N M d).

    Source: Krichene et al. (2019), "Efficient training on very large corpora via Gramian
    estimation", equation 3; the same term is the unobserved weight of Hu, Koren, Volinsky (2008).
    """
    user_gram = tf.matmul(user_embeddings, user_embeddings, transpose_a=True)  # [d, d]
    item_gram = tf.matmul(item_embeddings, item_embeddings, transpose_a=True)  # [d, d]
    return tf.reduce_sum(
        user_gram / _num_rows(user_embeddings) * (item_gram / _num_rows(item_embeddings))
    )


def softmax_loss(user_embeddings, item_embeddings, labels):
    """Mean cross-entropy of labels under p = softmax(U V^T): -log p(label), averaged.

    Args:
        user_embeddings: U, float tensor [n, d].
        item_embeddings: V, float tensor [M, d].
        labels: Integer tensor [n], one label from 0 to M - 1 per row of U; or a `tf.SparseTensor`
            [n, M] that holds, for any number of labels of each row, their weights.

    Returns:
        Scalar tensor in nats: the average over the n labels, or over all labels by their weights;
        log M where all scores are equal. Time O(n M d), memory O(n M).

    Raises:
        ValueError: If the dimensions of the embeddings differ, or there is not one label, or one
            row of weights, per row of U.

    Source: Covington, Adams, Sargin (2016), "Deep neural networks for YouTube recommendations",
    section 3.1.
    """
    losses, weights = summed_softmax_loss(user_embeddings, item_embeddings, labels)
    return losses / weights


def sampled_softmax_loss(user_embeddings, item_embeddings, labels, sampled, sampling_probabilities):
    """Estimate of `softmax_loss` from a few sampled items instead of all M.

    With s_j the score of item j and S items drawn from a distribution Q, with replacement, the
    normalizer sum_j exp(s_j) of a label y is replaced by

        exp(s_y)  +  sum over sampled j != y of exp(s_j - log(S Q_j)),

    which has the same expectation. The subtraction is the log-Q correction: without it, items that
    are drawn often would be pushed down for being drawn. By Jensen's inequality the loss itself is
    too low on average; the gap closes as S grows.

    Args:
        user_embeddings: U, float tensor [n, d].
        item_embeddings: V, float tensor [M, d].
        labels: As for `softmax_loss`.
        sampled: Integer tensor [S], items drawn from Q with replacement.
        sampling_probabilities: Float tensor [S], Q of each of them, above 0.

    Returns:
        Scalar tensor, averaged as in `softmax_loss`. For L labels, H of them among the sampled,
        time O((n + H) S + (n S + L) d + L log S), memory O((n + H) S + L d): nothing grows with M.

    Raises:
        ValueError: As `softmax_loss`.

    Source: Yi et al. (2019), "Sampling-bias-corrected neural modeling for large corpus item
    recommendations", equations 3 and 4; the label's own score is left as it is because it is always
    there, not drawn.
    """
    losses, weights = summed_softmax_loss(
        user_embeddings, item_embeddings, labels, sampled, sampling_probabilities
    )
    return losses / weights


def summed_softmax_loss(
    user_embeddings, item_embeddings, labels, sampled=None, sampling_probabilities=None
):
    """Weighted sum of the losses of labels, and the sum of their weights; sampled if asked for."""
    rows, ids, weights = _labels(user_embeddings, item_embeddings, labels)
    if sampled is None:
        scores = tf.matmul(user_embeddings, item_embeddings, transpose_b=True)  # [n, M]
        own = tf.gather_nd(scores, tf.stack([rows, ids], axis=1))
        normalizers = tf.gather(tf.reduce_logsumexp(scores, axis=1), rows)
        return tf.reduce_sum(weights * (normalizers - own)), tf.reduce_sum(weights)
    own = tf.reduce_sum(
        tf.gather(user_embeddings, rows) * tf.gather(item_embeddings, ids), axis=1
    )  # [L]
    scores = tf.matmul(user_embeddings, tf.gather(item_embeddings, sampled), transpose_b=True)
    number = tf.cast(tf.size(sampled), scores.dtype)
    scores -= tf.math.log(number * tf.cast(sampling_probabilities, scores.dtype))  # [n, S]
    # One sum per row serves all its labels, but for the H labels that are in the sample themselves.
    sampled = tf.cast(sampled, ids.dtype)
    ordered = tf.sort(sampled)
    nearest = tf.gather(ordered, tf.minimum(tf.searchsorted(ordered, ids), tf.size(ordered) - 1))
    drawn = tf.where(tf.equal(nearest, ids))[:, 0]  # [H]
    hit = tf.equal(tf.gather(ids, drawn)[:, None], sampled[None, :])  # [H, S]
    rest = tf.where(hit, scores.dtype.min, tf.gather(scores, tf.gather(rows, drawn)))
    others = tf.tensor_scatter_nd_update(
        tf.gather(tf.reduce_logsumexp(scores, axis=1), rows),
        drawn[:, None],
        tf.reduce_logsumexp(rest, axis=1),
    )  # [L]
    normalizers = tf.reduce_logsumexp(tf.stack([own, others], axis=1), axis=1)
    return tf.reduce_sum(weights * (normalizers - own)), tf.reduce_sum(weights)


def _labels(user_embeddings, item_embeddings, labels):
    """Row, item and weight of each label, [L] each, once the shapes fit."""
    user_embeddings = tf.convert_to_tensor(user_embeddings)
    n, width = user_embeddings.shape
    num_items, item_width = tf.convert_to_tensor(item_embeddings).shape
    if width != item_width:
        raise ValueError(
            "user_embeddings should have as many columns as item_embeddings, "
            f"{item_width}. Received: {width}. Bring both to one embedding dimension."
        )
    if isinstance(labels, tf.SparseTensor):
        expected = (n, num_items)
        if any(
            None not in pair and pair[0] != pair[1]
            for pair in zip(labels.shape, expected, strict=True)
        ):
            raise ValueError(
                f"labels should have shape {list(expected)}, a row per user embedding and a column "
                f"per item. Received: {labels.shape.as_list()}."
            )
        return labels.indices[:, 0], labels.indices[:, 1], labels.values
    labels = tf.convert_to_tensor(labels)
    if (
        not labels.dtype.is_integer
        or labels.shape.rank != 1
        or (None not in (n, labels.shape[0]) and labels.shape[0] != n)
    ):
        raise ValueError(
            f"labels should be integers [{n}], one per row of user_embeddings, or a SparseTensor. "
            f"Received: {labels.dtype.name} {labels.shape.as_list()}."
        )
    rows = tf.range(tf.size(labels, labels.dtype), dtype=labels.dtype)
    return rows, labels, tf.ones(tf.shape(labels), user_embeddings.dtype)


def _mean_squared_norm(table):
    return tf.reduce_sum(tf.square(table)) / _num_rows(table)


def _num_rows(table):
    return tf.cast(tf.shape(table)[0], table.dtype)

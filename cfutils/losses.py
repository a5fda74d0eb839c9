"""The losses of matrix factorization, as pure functions of tensors.

U is the table of user embeddings [N, d], V the table of item embeddings [M, d], A the ratings
[N, M] and Omega the set of its observed (user, item) pairs. The loss that `CFModel` minimizes is

    MSE over Omega  +  l2_coeff * l2_penalty(U, V)  +  gravity_coeff * gravity(U, V).
"""

from cfutils._tensorflow import tf

__all__ = ["gravity", "l2_penalty", "sparse_mean_squared_error"]


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


def _mean_squared_norm(table):
    return tf.reduce_sum(tf.square(table)) / _num_rows(table)


def _num_rows(table):
    return tf.cast(tf.shape(table)[0], table.dtype)

"""The losses against arithmetic and dense float64 NumPy."""

import itertools

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from cfutils._tensorflow import tf
from cfutils.losses import (
    gravity,
    l2_penalty,
    sampled_softmax_loss,
    softmax_loss,
    sparse_mean_squared_error,
)

METHODS = ["gather", "full"]
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(0, 999))


def example(num_users, num_items, dim, seed, dtype=np.float64):
    """Random tables, ratings and a mask with at least one observed pair, all dense."""
    rng = np.random.default_rng(seed)
    U, V = rng.normal(size=(num_users, dim)), rng.normal(size=(num_items, dim))
    A = rng.integers(1, 6, (num_users, num_items)).astype(dtype)
    mask = rng.random(A.shape) < 0.5
    mask[rng.integers(num_users), rng.integers(num_items)] = True
    return U.astype(dtype), V.astype(dtype), A, mask


def sparse(A, mask):
    return tf.SparseTensor(np.argwhere(mask), A[mask], A.shape)


def value_and_gradients(loss, U, V):
    U, V = tf.constant(U), tf.constant(V)
    with tf.GradientTape() as tape:
        tape.watch([U, V])
        value = loss(U, V)
    gradients = tape.gradient(value, [U, V])
    return value.numpy(), [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def test_mean_squared_error_by_hand():
    ratings = tf.SparseTensor([[0, 1], [1, 0], [1, 2]], [5.0, 3.0, 1.0], (2, 3))
    U = tf.constant([[1.0, 2.0], [0.0, 1.0]])
    V = tf.constant([[1.0, 1.0], [1.0, 0.5], [2.0, 4.0]])
    # predictions: 1*1 + 2*0.5 = 2, 1, 4; errors 3, 2, -3; (9 + 4 + 9) / 3
    for method in METHODS:
        value = sparse_mean_squared_error(ratings, U, V, method=method)
        assert value.numpy() == pytest.approx(22 / 3)


def test_penalties_by_hand():
    U, V = tf.constant([[1.0, 2.0], [3.0, 0.0]]), tf.constant([[1.0, 1.0], [0.0, 2.0], [2.0, 0.0]])
    # (5 + 9) / 2 + (2 + 4 + 4) / 3
    assert l2_penalty(U, V).numpy() == pytest.approx(7 + 10 / 3)
    # scores (3, 4, 2), (3, 0, 6): (9 + 16 + 4 + 9 + 0 + 36) / 6
    assert gravity(U, V).numpy() == pytest.approx(74 / 6)


@settings(deadline=None, max_examples=25)
@given(SHAPES)
def test_values_and_gradients_equal_dense_float64(shape):
    U, V, A, mask = example(*shape)
    (N, M), scores, n = A.shape, U @ V.T, mask.sum()
    E = mask * (scores - A)
    mse = np.sum(E**2) / n, 2 / n * E @ V, 2 / n * E.T @ U
    for loss, expected in (
        (lambda U, V: sparse_mean_squared_error(sparse(A, mask), U, V), mse),
        (lambda U, V: sparse_mean_squared_error(sparse(A, mask), U, V, "full"), mse),
        (l2_penalty, (np.sum(U**2) / N + np.sum(V**2) / M, 2 * U / N, 2 * V / M)),
        (gravity, (np.mean(scores**2), 2 * scores @ V / (N * M), 2 * scores.T @ U / (N * M))),
    ):
        value, gradients = value_and_gradients(loss, U, V)
        for found, wanted in zip([value, *gradients], expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)


def test_nothing_observed_is_undefined():
    empty = tf.SparseTensor(np.zeros((0, 2), np.int64), np.zeros(0), (2, 2))
    for method in METHODS:
        assert np.isnan(sparse_mean_squared_error(empty, np.ones((2, 1)), np.ones((2, 1)), method))
    with pytest.raises(ValueError, match='"gather" or "full". Received: \'dense\''):
        sparse_mean_squared_error(empty, np.ones((2, 1)), np.ones((2, 1)), method="dense")


# Softmax


def test_softmax_loss_of_three_items_by_hand():
    # psi = (1, 2); scores 1, 2, 3 of the items; e + e^2 + e^3 = 30.1929; log of that 3.4076.
    V = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    losses = [softmax_loss([[1.0, 2.0]], V, [label]).numpy() for label in range(3)]
    np.testing.assert_allclose(losses, [2.4076, 1.4076, 0.4076], atol=1e-4)
    # Two users: the mean. The second has psi = 0, so log 3 = 1.0986 whatever the label.
    both = softmax_loss([[1.0, 2.0], [0.0, 0.0]], V, [0, 2])
    np.testing.assert_allclose(both, (2.4076 + 1.0986) / 2, atol=1e-4)


def softmax_case(seed=0, n=4, m=6, d=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)), rng.integers(0, m, n)


def test_softmax_loss_is_its_formula_and_has_its_gradient():
    U, V, labels = softmax_case()
    p = scipy.special.softmax(U @ V.T, axis=1)
    loss, gradients = value_and_gradients(lambda U, V: softmax_loss(U, V, labels), U, V)
    np.testing.assert_allclose(loss, -np.log(p[range(4), labels]).mean(), rtol=1e-10)
    # d loss / d scores = (p - one-hot) / n
    slopes = (p - np.eye(6)[labels]) / 4
    np.testing.assert_allclose(gradients[0], slopes @ V, rtol=1e-8)
    np.testing.assert_allclose(gradients[1], slopes.T @ U, rtol=1e-8)
    # With weights, 11 together, their mean.
    weights = np.array([[0, 2, 0, 0, 1, 0], [0] * 6, [5, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]], float)
    loss = softmax_loss(U, V, sparse(weights, weights > 0))
    np.testing.assert_allclose(loss, -(weights * np.log(p)).sum() / 11, rtol=1e-10)


def test_softmax_losses_do_not_overflow():
    U, V = [[1e4, 0.0]], [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]
    np.testing.assert_allclose([softmax_loss(U, V, [0]), softmax_loss(U, V, [1])], [0, 2e4])
    drawn = [0, 2], [0.5, 0.5]
    np.testing.assert_allclose(sampled_softmax_loss(U, V, [1], *drawn), 2e4)


def test_sampled_normalizer_has_the_full_one_as_its_expectation():
    """All samples of two from four items, with their probabilities: no chance is left."""
    U, V, _ = softmax_case(n=1, m=4)
    Q = np.array([0.1, 0.2, 0.3, 0.4])
    scores = (U @ V.T)[0]
    for label in range(4):
        expected, uncorrected = 0.0, 0.0
        for pair in itertools.product(range(4), repeat=2):
            loss = sampled_softmax_loss(U, V, [label], list(pair), Q[list(pair)]).numpy()
            expected += Q[list(pair)].prod() * np.exp(loss + scores[label])
            flat = sampled_softmax_loss(U, V, [label], list(pair), [0.25, 0.25]).numpy()
            uncorrected += Q[list(pair)].prod() * np.exp(flat + scores[label])
        full = np.exp(scores).sum()
        np.testing.assert_allclose(expected, full, rtol=1e-10)
        assert abs(uncorrected / full - 1) > 0.01  # without log Q it would be another number


def test_sampled_softmax_loss_with_weights_and_hits_by_hand():
    # Scores of the user: 0, log 2, log 3. Label 1 (weight 3) and label 0 (weight 1); the sample
    # is 1, 2 with Q = 1/2 each, so S Q = 1. For label 1 its own draw does not count:
    # 2 / (2 + 3) -> log 5/2. For label 0: 1 / (1 + 2 + 3) -> log 6.
    V = np.log([[1.0], [2.0], [3.0]])
    labels = tf.SparseTensor([[0, 0], [0, 1]], np.array([1.0, 3.0]), (1, 3))
    loss = sampled_softmax_loss(np.ones((1, 1)), V, labels, [1, 2], [0.5, 0.5])
    np.testing.assert_allclose(loss, (np.log(6) + 3 * np.log(2.5)) / 4, rtol=1e-10)


def test_sampled_softmax_loss_touches_labels_and_samples_only():
    U, V, _ = softmax_case(n=2)
    _, (_, gradient) = value_and_gradients(
        lambda U, V: sampled_softmax_loss(U, V, [0, 2], [2, 5], [0.5, 0.5]), U, V
    )
    np.testing.assert_array_equal(gradient.any(axis=1), [True, False, True, False, False, True])


@pytest.mark.parametrize("loss", [softmax_loss, lambda *a: sampled_softmax_loss(*a, [0], [1.0])])
@pytest.mark.parametrize(
    ("width", "labels", "message"),
    [
        (2, [0, 1, 2, 3], "user_embeddings should have as many columns as item_embeddings, 3"),
        (3, [0, 1], r"labels should be integers \[4\], one per row"),
        (3, [0.0, 1.0, 2.0, 3.0], r"labels should be integers \[4\].* Received: float32"),
        (3, tf.SparseTensor([[0, 0]], [1.0], (4, 5)), r"labels should have shape \[4, 6\]"),
    ],
)
def test_softmax_losses_refuse(loss, width, labels, message):
    with pytest.raises(ValueError, match=message):
        loss(tf.zeros([4, width]), tf.zeros([6, 3]), labels)

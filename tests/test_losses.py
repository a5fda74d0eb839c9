"""The losses against arithmetic, dense float64 NumPy, finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfutils._tensorflow import tf
from cfutils.losses import gravity, l2_penalty, sparse_mean_squared_error

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


def finite_differences(loss, U, V, step=1e-6):
    gradients = [np.zeros_like(U), np.zeros_like(V)]
    for table, gradient in zip((U, V), gradients, strict=True):
        for at in np.ndindex(table.shape):
            kept = table[at]
            table[at] = kept + step
            above = loss(U, V).numpy()
            table[at] = kept - step
            below = loss(U, V).numpy()
            table[at] = kept
            gradient[at] = (above - below) / (2 * step)
    return gradients


@pytest.mark.parametrize("method", METHODS)
def test_mean_squared_error_by_hand(method):
    ratings = tf.SparseTensor([[0, 1], [1, 0], [1, 2]], [5.0, 3.0, 1.0], (2, 3))
    U = tf.constant([[1.0, 2.0], [0.0, 1.0]])
    V = tf.constant([[1.0, 1.0], [1.0, 0.5], [2.0, 4.0]])
    # predictions: 1*1 + 2*0.5 = 2, 1, 4; errors 3, 2, -3; (9 + 4 + 9) / 3
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
    num_users, num_items = A.shape
    E = mask * (U @ V.T - A)
    scores = U @ V.T
    for method in METHODS:
        value, (dU, dV) = value_and_gradients(
            lambda U, V, method=method: sparse_mean_squared_error(sparse(A, mask), U, V, method),
            U,
            V,
        )
        np.testing.assert_allclose(value, np.sum(E**2) / mask.sum(), rtol=1e-10)
        np.testing.assert_allclose(dU, 2 / mask.sum() * E @ V, atol=1e-10)
        np.testing.assert_allclose(dV, 2 / mask.sum() * E.T @ U, atol=1e-10)
    value, (dU, dV) = value_and_gradients(l2_penalty, U, V)
    np.testing.assert_allclose(value, np.sum(U**2) / num_users + np.sum(V**2) / num_items)
    np.testing.assert_allclose(dU, 2 * U / num_users)
    np.testing.assert_allclose(dV, 2 * V / num_items)
    value, (dU, dV) = value_and_gradients(gravity, U, V)
    np.testing.assert_allclose(value, np.mean(scores**2), rtol=1e-10)
    np.testing.assert_allclose(dU, 2 * scores @ V / scores.size, atol=1e-10)
    np.testing.assert_allclose(dV, 2 * scores.T @ U / scores.size, atol=1e-10)


@pytest.mark.parametrize("name", [*METHODS, "l2", "gravity"])
def test_gradients_equal_finite_differences(name):
    U, V, A, mask = example(3, 4, 2, seed=1)
    losses = {"l2": l2_penalty, "gravity": gravity}
    loss = losses.get(name, lambda U, V: sparse_mean_squared_error(sparse(A, mask), U, V, name))
    _, gradients = value_and_gradients(loss, U, V)
    for ours, expected in zip(gradients, finite_differences(loss, U, V), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_unobserved_pairs_have_no_influence(method):
    U, V, A, mask = example(5, 4, 3, seed=2)
    changed = np.where(mask, A, 1e6)
    values = [
        sparse_mean_squared_error(sparse(table, mask), U, V, method).numpy()
        for table in (A, changed)
    ]
    assert values[0] == values[1]
    # A user and an item that nobody rated move nothing, whatever their embeddings.
    more_U, more_V = np.vstack([U, np.full(3, 1e6)]), np.vstack([V, np.full(3, 1e6)])
    larger = tf.SparseTensor(np.argwhere(mask), A[mask], (6, 5))
    assert sparse_mean_squared_error(larger, more_U, more_V, method).numpy() == values[0]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_observed_is_undefined(method):
    empty = tf.SparseTensor(np.zeros((0, 2), np.int64), np.zeros(0), (2, 2))
    assert np.isnan(sparse_mean_squared_error(empty, np.ones((2, 1)), np.ones((2, 1)), method))


def test_unknown_method_is_refused():
    U, V, A, mask = example(2, 2, 1, seed=3)
    with pytest.raises(ValueError, match='"gather" or "full". Received: \'dense\''):
        sparse_mean_squared_error(sparse(A, mask), U, V, method="dense")

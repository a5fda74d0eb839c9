"""Scores against plain loops, lists against Python's own sort."""

import io
import math
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from cfutils import scores
from cfutils.scores import best_columns, compute_scores, top_k


def integers(seed, rows, d=3, high=3):
    """Small integers: float32 products are exact and ties are many."""
    return np.random.default_rng(seed).integers(-high, high + 1, (rows, d)).astype("float32")


def full_sort(table, k, excluded=()):
    """The k best columns of each row by Python's own sort: highest first, then lowest id."""
    lists = []
    for row, values in enumerate(table):
        left = [j for j in range(len(values)) if (row, j) not in excluded]
        best = sorted(left, key=lambda j, values=values: (-values[j], j))[:k]
        lists.append(best + [-1] * (k - len(best)))
    return np.array(lists).reshape(len(table), k)


# Scores -------------------------------------------------------------------------------------------


def test_scores_by_hand():
    # u = (3, 4) with |u| = 5; v = (1, 0), (6, 8) with |v| = 10, and zero
    items = [[1, 0], [6, 8], [0, 0]]
    np.testing.assert_allclose(compute_scores([3, 4], items), [3, 50, 0])
    np.testing.assert_allclose(compute_scores([3, 4], items, "cosine"), [3 / 5, 1, 0], rtol=1e-6)
    # 50 / 10^0.5 and 50 / 10
    np.testing.assert_allclose(
        compute_scores([3, 4], items, alpha=0.5), [3, 50 / math.sqrt(10), 0], rtol=1e-6
    )
    np.testing.assert_allclose(compute_scores([3, 4], items, alpha=1), [3, 5, 0], rtol=1e-6)
    np.testing.assert_allclose(compute_scores([3, 4], items, alpha=2), [3, 0.5, 0], rtol=1e-6)


def test_shapes_and_types():
    items = integers(0, 5)
    assert compute_scores(items[0], items).shape == (5,)
    assert compute_scores(items[:2], items).shape == (2, 5)
    assert compute_scores(items.astype("float64"), items).dtype == np.float32
    before = items.copy()
    compute_scores(items, items, "cosine")
    np.testing.assert_array_equal(items, before)


@pytest.mark.parametrize("alpha", [0, 0.3, 1, 2])
def test_zero_vectors_score_zero(alpha):
    zeros = np.zeros((2, 3))
    assert (compute_scores(zeros, zeros, "cosine") == 0).all()
    assert (compute_scores(zeros, integers(0, 4), "cosine") == 0).all()
    assert (compute_scores(integers(0, 4), zeros, alpha=alpha) == 0).all()


@given(seed=st.integers(0, 500), alpha=st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5]))
def test_scores_equal_a_plain_loop(seed, alpha):
    users, items = integers(seed, 4), integers(seed + 1, 6)
    dot, cosine, between = (
        compute_scores(users, items),
        compute_scores(users, items, "cosine"),
        compute_scores(users, items, alpha=alpha),
    )
    for i, u in enumerate(users.astype(float)):
        for j, v in enumerate(items.astype(float)):
            product = sum(u * v)
            length, other = math.sqrt(sum(v * v)), math.sqrt(sum(u * u))
            assert dot[i, j] == product
            expected = product / (length * other) if length * other else 0
            assert cosine[i, j] == pytest.approx(expected, abs=1e-6)
            expected = product / length**alpha if length else 0
            assert between[i, j] == pytest.approx(expected, rel=1e-5, abs=1e-5)
    if alpha == 0:
        np.testing.assert_array_equal(between, dot)


@given(seed=st.integers(0, 500), power=st.integers(-60, 60))
def test_cosine_does_not_change_with_lengths(seed, power):
    users, items = integers(seed, 4), integers(seed + 1, 6)
    factor = np.float32(2.0**power)
    same = compute_scores(users * factor, items * np.float32(3), "cosine")
    np.testing.assert_allclose(same, compute_scores(users, items, "cosine"), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1]], [[1]], "euclid"), r"measure should be one of dot, cosine. Received: 'euclid'"),
        (([[1]], [[1, 2]]), r"queries .* columns as item_embeddings, 2. Received: 1"),
        (([[1]], [1]), r"item_embeddings should be a table .* shape \[1\]"),
        (([["a"]], [[1]]), r"queries should be a table of numbers"),
        (([[1.0]], [[1], [math.nan]]), r"item_embeddings should be finite.*\[nan\] in row 1"),
        (([[1.0]], [[1e60]]), r"item_embeddings should be finite.*\[inf\] in row 0"),
        (([[1e20]], [[1e20]]), r"scores below 1e38.*diverged"),
    ],
)
def test_bad_tables_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        compute_scores(*arguments)
    queries, items, *measure = arguments
    options = {"measure": measure[0]} if measure else {}
    with pytest.raises(ValueError, match=message):
        top_k(queries, items, 1, **options)


@pytest.mark.parametrize("alpha", [-1, math.nan, math.inf, "1", True])
def test_bad_alpha_is_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha should be a finite number, 0 or more. Received"):
        compute_scores([[1]], [[1]], alpha=alpha)
    with pytest.raises(ValueError, match=r"alpha should be None with measure='cosine'"):
        compute_scores([[1]], [[1]], "cosine", alpha=0.5)


# Top k --------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 10_000),
    num_items=st.integers(1, 60),
    k=st.integers(1, 70),
    share=st.sampled_from([0, 0.2, 0.95, 1]),
    small=st.booleans(),
)
def test_top_k_is_a_full_sort(seed, num_items, k, share, small):
    users, items = integers(seed, 20, high=1), integers(seed + 1, num_items, high=1)
    exclude = np.random.default_rng(seed).random((20, num_items)) < share
    with pytest.MonkeyPatch.context() as patch:
        if small:  # several groups, blocks of both and workers
            for name, value in {
                "_GROUPS": 2,
                "_COLUMNS": 7,
                "_PER_K": 1,
                "_ROWS": 6,
                "_WORKERS": 3,
            }.items():
                patch.setattr(scores, name, value)
        found, best = top_k(users, items, k, exclude=scipy.sparse.csr_array(exclude))
    table = users @ items.T
    expected = full_sort(table, k, set(zip(*np.nonzero(exclude), strict=True)))
    np.testing.assert_array_equal(found, expected)
    values = np.where(found >= 0, np.take_along_axis(table, np.maximum(found, 0), axis=1), np.nan)
    np.testing.assert_array_equal(best, values)
    assert best.dtype == np.float32


@pytest.mark.parametrize("options", [{}, {"measure": "cosine"}, {"alpha": 0.5}])
def test_top_k_of_continuous_scores(options):
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(300, 8)), rng.normal(size=(5000, 8))
    ids, best = top_k(users, items, 10, **options)
    table = compute_scores(users, items, **options)
    np.testing.assert_array_equal(ids, np.argsort(-table, axis=1)[:, :10])
    np.testing.assert_allclose(best, np.take_along_axis(table, ids, axis=1), rtol=1e-5)


def test_nothing_in_nothing_out():
    assert top_k(np.ones((0, 2)), np.ones((3, 2)), 4)[0].shape == (0, 4)
    ids, best = top_k(np.ones((2, 2)), np.ones((0, 2)), 1)
    assert (ids == -1).all()
    assert np.isnan(best).all()


def test_what_is_excluded_is_where_an_entry_is_stored():
    zero = scipy.sparse.coo_array(([0.0], ([0], [1])), shape=(1, 3))
    assert top_k([[1]], [[1], [3], [2]], 3, exclude=zero)[0].tolist() == [[2, 0, -1]]


def test_bad_k_and_bad_exclude_are_refused():
    for k in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match=r"k should be an integer, 1 or more. Received"):
            top_k([[1]], [[1]], k)
    with pytest.raises(ValueError, match=r"exclude .*\[1, 2\].*Received: csr_array \(2, 2\)"):
        top_k([[1]], [[1], [2]], 1, exclude=scipy.sparse.csr_array((2, 2)))
    with pytest.raises(ValueError, match=r"exclude should be a SciPy sparse.*ndarray"):
        top_k([[1]], [[1], [2]], 1, exclude=np.zeros((1, 2)))


@pytest.mark.parametrize("high", [0, 3])  # 0: every score is the same
def test_memory_is_bounded(monkeypatch, high):
    monkeypatch.setattr(scores, "_WORKERS", 2)
    users, items = integers(0, 2000, 4, high), integers(1, 20_000, 4)
    tracemalloc.start()
    found, _ = top_k(users, items, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # two blocks of 4 MiB and half as much for comparing; all scores would be 160 MB
    assert peak < 20e6
    if high == 0:
        assert (found == np.arange(10)).all()


def test_progress_is_shown_on_request_only(monkeypatch):
    for progress, shown in ((True, True), (False, False), (None, False)):
        text = io.StringIO()
        monkeypatch.setattr(sys, "stderr", text)
        top_k(integers(0, 9), integers(1, 9), 2, progress=progress)
        assert bool(text.getvalue()) == shown


@given(seed=st.integers(0, 1000), k=st.integers(1, 12), columns=st.integers(0, 9))
def test_best_columns_is_a_full_sort(seed, k, columns):
    table = np.random.default_rng(seed).integers(0, 4, (5, columns)).astype(float)
    table[table == 0] = -np.inf
    excluded = set(zip(*np.nonzero(table == -np.inf), strict=True))
    np.testing.assert_array_equal(best_columns(table, k), full_sort(table, k, excluded))


def test_best_columns_of_wide_tables():
    """Where groups of columns are compared first; ties, infinities and whatever is left out."""
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        table = rng.integers(-3, 300, (5, 4000)).astype(dtype)
        table[0], table[1, :3990], table[2, 7] = 1, -np.inf, np.inf
        table[3] = -np.inf
        for k in (1, 10, 200):
            expected = np.argsort(-table, axis=1, kind="stable")[:, :k]
            expected[np.take_along_axis(table, expected, axis=1) == -np.inf] = -1
            np.testing.assert_array_equal(best_columns(table, k), expected)
            np.testing.assert_array_equal(best_columns(np.asfortranarray(table), k), expected)

"""Input that means no good: either a ValueError that names the argument, or a right answer."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cfutils._tensorflow import tf
from cfutils.data import MovieLens, load_ratings, rating_stats, split_ratings
from cfutils.factorization import CFModel, ratings_tensor
from cfutils.metrics import (
    chance_metrics,
    interactions,
    list_metrics,
    mean_interval,
    rank_candidates,
    ranking_metrics,
)
from cfutils.scores import compute_scores, find_movie, neighbours, recommend, top_k
from cfutils.softmax import SoftmaxModel, split_histories

IDS = st.one_of(
    st.integers(-3, 5),
    st.sampled_from([2**31, 2**62, 2**63, 10**30, -(2**63), 1e300, 1.5, 2.0]),
    st.sampled_from([math.nan, math.inf, -math.inf, None, True, False, "1", "x", ""]),
)
RATINGS = st.one_of(
    st.floats(-10, 10),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e39, 1e300, None, "5", "five", True]),
)
ROWS = st.lists(st.tuples(IDS, IDS, RATINGS), max_size=5)
few = settings(max_examples=40)


def frame(rows, item="movie_id"):
    table = pd.DataFrame(rows, columns=["user_id", item, "rating"], dtype=object)
    return table.infer_objects()


def is_id(value, count):
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and 0 <= value < count


def is_rating(value):
    try:
        return math.isfinite(np.float32(float(value))) if abs(float(value)) < 3e38 else False
    except (TypeError, ValueError):
        return False


# Frames and tensors


@settings(max_examples=200)
@given(ROWS)
def test_tensors_of_any_table(rows):
    """A tensor holds every row as it stands, or one of the rows is named as wrong."""
    good = bool(rows) and len({(u, i) for u, i, _ in rows}) == len(rows)
    good = good and all(is_id(u, 4) and is_id(i, 5) and is_rating(r) for u, i, r in rows)
    table = frame(rows)
    try:
        A = ratings_tensor(table, 4, 5)
    except ValueError as error:
        assert not good, error
        assert any(name in str(error) for name in ("user_id", "movie_id", "rating"))
        assert "should" in str(error)
        return
    found = {
        (int(u), int(i)): float(r)
        for (u, i), r in zip(A.indices.numpy(), A.values.numpy(), strict=True)
    }
    assert len(found) == len(rows)
    for u, i, r in rows:
        assert found[int(u), int(i)] == pytest.approx(float(r), rel=1e-6)


@settings(max_examples=200)
@given(ROWS)
def test_loading_of_any_table(rows):
    """Every row is kept under the ids that it had, or a ValueError says what is wrong."""
    table = frame(rows, "item_id")
    try:
        data = load_ratings(table)
    except (ValueError, TypeError) as error:
        assert isinstance(error, ValueError), error
        assert "should" in str(error)
        return
    assert len(data.ratings) == len(rows) > 0
    users = data.users["original_id"].to_numpy()[data.ratings["user_id"]]
    items = data.movies["original_id"].to_numpy()[data.ratings["movie_id"]]
    for (u, i, r), user, item, rating in zip(
        rows, users, items, data.ratings["rating"], strict=True
    ):
        assert (user, item) == (u, i)
        assert rating == float(r)
        assert math.isfinite(rating)


@given(st.lists(IDS, max_size=4), st.lists(IDS, max_size=4))
def test_frames_of_any_ids(users, movies):
    """Ids other than the row numbers are refused."""
    ratings = pd.DataFrame({"user_id": [0], "movie_id": [0], "rating": [1.0]})
    tables = pd.DataFrame({"user_id": users}), pd.DataFrame({"movie_id": movies})
    right = all(
        len(ids) > 0 and all(is_id(x, 9) or x == float(n) for n, x in enumerate(ids))
        and list(ids) == list(range(len(ids)))
        for ids in (users, movies)
    )  # fmt: skip
    try:
        data = MovieLens(*tables, ratings)
    except ValueError as error:
        assert not right, error
        assert "user_id should" in str(error) or "movie_id should" in str(error)
    else:
        assert data.num_users == len(users) > 0
        assert data.num_items == len(movies) > 0


def test_one_user_one_movie_equal_ratings_duplicate_titles():
    data = load_ratings(pd.DataFrame({"user_id": ["u"], "item_id": [7], "rating": [3]}))
    assert (data.num_users, data.num_items) == (1, 1)
    assert rating_stats(data.ratings, "movie_id", 1)["mean_rating"].tolist() == [3.0]
    with pytest.raises(ValueError, match="test_fraction should lie between 0 and 1"):
        split_ratings(data.ratings, seed=0)
    movies = pd.DataFrame({"movie_id": [0, 1], "original_id": [5, 6], "title": ["Same", "Same"]})
    users = pd.DataFrame({"user_id": [0], "original_id": [1]})
    ratings = pd.DataFrame({"user_id": [0, 0], "movie_id": [0, 1], "rating": [2.0, 2.0]})
    same = MovieLens(users, movies, ratings)
    assert find_movie("same", same)["movie_id"].tolist() == [0, 1]
    listed = neighbours((np.ones((1, 2)), np.ones((2, 2))), 0, same, k=5)
    assert listed["movie_id"].tolist() == [1]


# Models


def outcome(model, train):
    """What a call did: "refused" leaves the model as it was, and it is finite whatever happens."""
    before = [variable.numpy() for variable in model.weights]
    done = "trained"
    try:
        train()
    except ValueError as error:
        assert "should" in str(error)
        for variable, values in zip(model.weights, before, strict=True):
            np.testing.assert_array_equal(variable.numpy(), values)
        done = "refused"
    except FloatingPointError as error:
        assert "The loss should stay finite" in str(error)
        done = "stopped"
    assert all(np.isfinite(variable.numpy()).all() for variable in model.weights)
    return done


SHAPES = [(1, 1, 1), (4, 1, 9), (3, 2, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", [0.0, -3.0, 1e30])
def test_factorizations_of_any_shape(shape, value):
    """One user, one movie, empty users, equal ratings, d = 1, d above N and M."""
    N, M, d = shape
    table = pd.DataFrame({"user_id": [0] * M, "movie_id": range(M), "rating": [value] * M})
    A = ratings_tensor(table, N, M)
    ways = {
        "train": lambda m: m.train(A, num_iterations=3, learning_rate=0.01),
        "batches": lambda m: m.train(A, num_iterations=3, learning_rate=0.01, batch_size=2),
        "train_als": lambda m: m.train_als(A, num_iterations=3),
    }
    for name, way in ways.items():
        for l2_coeff in (0.0, 0.1):
            model = CFModel(N, M, d, l2_coeff=l2_coeff, gravity_coeff=l2_coeff)
            done = outcome(model, lambda w=way, m=model: w(m))
            if value == 1e30:
                assert done == "refused"
            elif value or l2_coeff or name != "train_als":
                assert done == "trained"
            else:  # zeros shrink the embeddings until there is nothing left to solve with
                assert done in ("trained", "stopped")
            if done == "trained" and name == "train_als" and l2_coeff == 0:
                # One user's ratings are always fitted exactly: rank one is enough.
                predicted = model.user_embeddings[0] @ model.item_embeddings.T
                np.testing.assert_allclose(predicted, value, atol=1e-3 * max(1, abs(value)))
            assert model.predict([[N - 1, M - 1]]).shape == (1,)


@few
@given(
    arrays(np.float32, 3, elements=st.floats(width=32)),
    st.lists(st.tuples(st.integers(-2, 4), st.integers(-2, 5)), min_size=3, max_size=3),
)
def test_training_on_any_tensor(values, pairs):
    """Values that are not finite, indices outside or twice: refused, the model unchanged."""
    A = tf.SparseTensor(np.array(pairs, np.int64), values, (3, 4))
    inside = all(0 <= u < 3 and 0 <= i < 4 for u, i in pairs) and len(set(pairs)) == 3
    good = inside and np.isfinite(values).all() and np.abs(values).max() < 1e15
    model = CFModel(3, 4, 2)
    done = outcome(model, lambda: model.train(A, num_iterations=1, learning_rate=1e-3))
    assert done == "refused" or good
    if good and np.abs(values).max() < 1e3:
        assert done == "trained"
    tower = SoftmaxModel(4, input_dims=2)
    done = outcome(tower, lambda: tower.train(A, num_iterations=1, learning_rate=1e-3))
    assert done == "refused" or good
    if not good:
        for function in (tower.user_embeddings, lambda A: split_histories(A, 0.5)):
            with pytest.raises(ValueError, match="A should"):
                function(A)


@few
@given(st.lists(IDS, max_size=3), st.lists(RATINGS, max_size=3))
def test_fold_in_of_anything(ids, ratings):
    """Somebody's ratings give a finite embedding, or are refused by name."""
    good = len(ids) == len(ratings) and all(is_id(i, 5) for i in ids) and len(set(ids)) == len(ids)
    good = good and all(isinstance(r, float) and math.isfinite(r) and abs(r) < 1e9 for r in ratings)
    for model in FOLDING:
        try:
            embedding = model.fold_in(ids, ratings)
        except ValueError as error:
            assert not good, error
        except TypeError as error:  # numpy's word for None or text among the numbers
            pytest.fail(str(error))
        else:
            assert embedding.shape == (3,)
            assert np.isfinite(embedding).all()


def trained():
    A = ratings_tensor(
        pd.DataFrame({"user_id": [0, 0, 1], "movie_id": [0, 4, 2], "rating": [1.0, 5.0, 3.0]}), 2, 5
    )
    model, tower = CFModel(2, 5, 3, l2_coeff=0.1), SoftmaxModel(5, input_dims=3)
    model.train_als(A, num_iterations=2)
    tower.train(A, num_iterations=2)
    return model, tower


FOLDING = trained()


@few
@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=3))
def test_predictions_for_any_pairs(pairs):
    model = FOLDING[0]
    try:
        predicted = model.predict(pd.DataFrame(pairs, dtype=object).infer_objects())
    except ValueError as error:
        assert "id should be an integer" in str(error)
        assert not all(is_id(u, 2) and is_id(i, 5) for u, i in pairs)
    else:
        for (u, i), value in zip(pairs, predicted, strict=True):
            expected = model.user_embeddings[int(u)] @ model.item_embeddings[int(i)]
            assert value == pytest.approx(expected, abs=1e-5)


# Scores and metrics

NUMBERS = st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=True, allow_infinity=True))


@given(arrays(float, (2, 2), elements=NUMBERS), arrays(float, (3, 2), elements=NUMBERS))
def test_scores_of_any_embeddings(queries, items):
    """Finite embeddings have finite scores or are refused; others are refused by name."""
    with np.errstate(over="ignore"):
        finite = all(np.isfinite(part.astype(np.float32)).all() for part in (queries, items))
    for measure in ("dot", "cosine"):
        for work in (compute_scores, lambda q, v, measure: top_k(q, v, 2, measure=measure)[1]):
            try:
                scores = work(queries, items, measure=measure)
            except ValueError as error:
                assert "should" in str(error)
                assert not finite or max(np.abs(queries).max(), np.abs(items).max()) > 1e15
            else:
                assert finite
                assert np.isfinite(scores).all()


@given(arrays(float, (2, 4), elements=NUMBERS))
def test_rankings_of_any_scores(scores):
    """Without NaN every list is in order and leaves out what is known; with NaN it is refused."""
    train = pd.DataFrame({"user_id": [0], "movie_id": [3]})
    test = pd.DataFrame({"user_id": [0, 1], "movie_id": [1, 2], "rating": [5.0, 5.0]})
    if np.isnan(scores).any():
        with pytest.raises(ValueError, match="scores should be numbers. Received: NaN"):
            rank_candidates(scores, train, [0, 1], 4, k=4)
        return
    ranked = rank_candidates(scores, train, [0, 1], 4, k=4)
    for user, listed in enumerate(ranked):
        listed = listed[listed >= 0]
        assert len(set(listed)) == len(listed)
        assert (np.sort(scores[user, listed])[::-1] == scores[user, listed]).all()
    assert 3 not in ranked[0]
    measured = ranking_metrics(scores, train, test, 4, k=2)
    assert np.isfinite(measured.to_numpy()).all()
    assert measured[["recall", "ndcg", "precision"]].to_numpy().min() >= 0
    assert measured[["recall", "ndcg", "precision"]].to_numpy().max() <= 1


@given(st.lists(st.one_of(NUMBERS, st.sampled_from([None, "x"])), max_size=4))
def test_intervals_of_anything(values):
    good = len(values) > 1 and all(isinstance(v, float) and abs(v) < 1e150 for v in values)
    try:
        interval = mean_interval(values)
    except ValueError as error:
        assert not good, error
    else:
        assert np.isfinite(interval.to_numpy(float)).all()
        assert interval["low"] <= interval["mean"] <= interval["high"]


def test_empty_frames_and_lists():
    nothing = pd.DataFrame({"user_id": [], "movie_id": [], "rating": []})
    for function, arguments, name in (
        (ratings_tensor, (nothing, 2, 2), "ratings"),
        (load_ratings, (nothing.rename(columns={"movie_id": "item_id"}),), "table"),
        (ranking_metrics, (np.ones((2, 2)), nothing, nothing, 2), "test"),
        (chance_metrics, (nothing, nothing, 2), "test"),
        (list_metrics, (np.full((2, 3), -1), np.ones(2)), "ranked"),
    ):
        with pytest.raises(ValueError, match=f"{name} should"):
            function(*arguments)
    assert interactions(nothing.astype({"user_id": int, "movie_id": int}), 3, 2).nnz == 0
    assert rank_candidates(np.ones((2, 2)), nothing.astype(int), [], 2, k=3).shape == (0, 3)


def test_a_user_without_ratings_gets_a_list():
    data = load_ratings(pd.DataFrame({"user_id": [0], "item_id": [0], "rating": [1]}))
    model = np.ones((1, 2)), np.ones((1, 2))
    nobody = data.ratings.iloc[:0]
    assert recommend(model, 0, data, ratings=nobody)["movie_id"].tolist() == [0]
    assert recommend(model, 0, data)["movie_id"].tolist() == []

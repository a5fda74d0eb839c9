"""The softmax model: what it computes, what it must not see, and how it trains."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from cfutils._tensorflow import keras, tf
from cfutils.data import MovieLens, movie_features, split_ratings
from cfutils.factorization import ratings_tensor
from cfutils.metrics import chance_metrics, ranking_metrics
from cfutils.panel import recommend_for
from cfutils.scores import recommend
from cfutils.softmax import SoftmaxModel, split_histories

# Keras itself still converts tensors the way that NumPy 2.4 warns of, when it saves.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

N, M = 30, 12


def tensor(table):
    table = np.asarray(table, np.float32)
    return tf.SparseTensor(np.argwhere(table), table[table != 0], table.shape)


@pytest.fixture(scope="module")
def table():
    """Ratings 1..5 of 30 users, a third of the cells; user 28 has one rating, user 29 none."""
    rng = np.random.default_rng(0)
    table = rng.integers(1, 6, (N, M)) * (rng.random((N, M)) < 0.35)
    table[:28, :2] = [3, 4]  # every other user has two at least
    table[28:] = 0
    table[28, 5] = 2
    return table.astype(np.float32)


@pytest.fixture(scope="module")
def A(table):
    return tensor(table)


FEATURES = {
    "genres": np.random.default_rng(1).random((M, 3)).astype(np.float32),
    "decade": np.eye(M, 4, dtype=np.float32),
}
DIMS = {"item": 5, "genres": 2, "decade": 3}
TOWERS = [
    {},
    {"rating_power": 2.0},
    {"tied": False},
    {"item_features": FEATURES, "input_dims": DIMS},
    {"hidden_dims": (7,), "rating_power": 1.0},
    {"item_features": FEATURES, "input_dims": DIMS, "hidden_dims": (7, 4), "tied": False},
]


def small(**options):
    return SoftmaxModel(M, **({"input_dims": 5, "seed": 3} | options))


def psi_in_numpy(model, table, features=None):
    """The tower, user by user."""
    weights = {v.name: v.numpy().astype(np.float64) for v in model.trainable_variables}
    inputs = weights["item_embeddings" if model.tied else "input_embeddings"]
    result = []
    for row in table:
        w = np.where(row > 0, row.astype(np.float64) ** model.rating_power, 0)
        w = w / w.sum() if w.any() else w
        bags = [w @ inputs]
        for name, values in (features or {}).items():
            bags.append(w @ values @ weights[f"{name}_embeddings"])
        h = np.concatenate(bags)
        for layer in range(len(model.hidden_dims)):
            h = np.maximum(h @ weights[f"hidden_{layer}"] + weights[f"hidden_{layer}_bias"], 0)
        result.append(h @ weights["projection"] if "projection" in weights else h)
    return np.array(result)


def cross_entropy_in_numpy(model, inputs, labels):
    """The mean of -log p over labels, weighted as the model weighs ratings."""
    inputs, labels = (tf.sparse.to_dense(part).numpy() for part in (inputs, labels))
    logits = psi_in_numpy(model, inputs) @ model.item_embeddings.T.astype(np.float64)
    w = np.where(labels > 0, labels.astype(np.float64) ** model.rating_power, 0)
    return -(w * scipy.special.log_softmax(logits, axis=1)).sum() / w.sum()


def assert_same(one, other):
    for a, b in zip(one.variables, other.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


# Splitting histories


@settings(deadline=None, max_examples=40)
@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 9))).filter(np.any),
    st.floats(0.01, 0.99),
    st.integers(0, 1000),
)
def test_each_entry_is_input_or_label(filled, share, seed):
    values = filled * (1.0 + np.arange(filled.size).reshape(filled.shape))
    inputs, labels = split_histories(tensor(values), share, seed)
    inputs, labels = (tf.sparse.to_dense(part).numpy() for part in (inputs, labels))
    np.testing.assert_array_equal(inputs + labels, values)
    assert not ((inputs > 0) & (labels > 0)).any()
    for row, label in zip(filled, labels > 0, strict=True):
        size = row.sum()
        if size < 2:
            assert label.sum() == 0
        else:
            assert 1 <= label.sum() <= size - 1
            assert abs(label.sum() - np.clip(share * size, 1, size - 1)) <= 0.5 + 1e-4


def test_every_entry_is_a_label_equally_often():
    row = tensor(np.ones((1, 4)))
    counts = sum(
        tf.sparse.to_dense(split_histories(row, 0.5, seed)[1]).numpy()[0] for seed in range(400)
    )
    # Binomial with n = 400, p = 1/2: standard deviation 10.
    assert np.abs(counts - 200).max() < 40


def test_split_follows_the_seed_and_not_the_order(A):
    once, again, other = (split_histories(A, 0.5, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(once.indices, again.indices)
    assert not np.array_equal(once.indices, other.indices)
    order = np.random.default_rng(0).permutation(len(A.values))
    shuffled = tf.SparseTensor(A.indices.numpy()[order], A.values.numpy()[order], A.shape)
    np.testing.assert_array_equal(split_histories(shuffled, 0.5, 1)[1].indices, once.indices)


@pytest.mark.parametrize("share", [0, 1, -0.1, np.nan, "half"])
def test_split_refuses_a_share(A, share):
    with pytest.raises(ValueError, match="fraction should be"):
        split_histories(A, share)


# What the tower computes


@pytest.mark.parametrize("options", TOWERS)
def test_tower_is_its_formula(table, A, options):
    model = small(**options)
    for variable in model.trainable_variables:  # biases are not zero then
        variable.assign_add(0.1 * tf.ones(variable.shape))
    expected = psi_in_numpy(model, table, options.get("item_features"))
    found = model.user_embeddings(A)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(model(A), found @ model.item_embeddings.T, atol=1e-5)


def test_plain_psi_is_a_mean_of_rows():
    model = small()
    # Movies 2 and 7, however they were rated: (V_2 + V_7) / 2.
    V = model.item_embeddings
    np.testing.assert_allclose(model.fold_in([7, 2], [5, 1]), (V[2] + V[7]) / 2, atol=1e-6)
    # With power 1, ratings 1 and 3 weigh 1/4 and 3/4.
    weighted = small(rating_power=1.0)
    V = weighted.item_embeddings
    np.testing.assert_allclose(weighted.fold_in([2, 7], [1, 3]), V[2] / 4 + V[7] * 3 / 4, atol=1e-6)


def test_one_table_is_input_and_output(A):
    model = small()
    each = tensor(np.eye(M))
    np.testing.assert_array_equal(model.user_embeddings(each), model.item_embeddings)
    assert [v.name for v in model.trainable_variables] == ["item_embeddings"]
    model.train(A, num_iterations=5, learning_rate=0.1)
    np.testing.assert_array_equal(model.user_embeddings(each), model.item_embeddings)
    np.testing.assert_array_equal(model.input_embeddings, model.item_embeddings)
    untied = small(tied=False)
    assert len(untied.trainable_variables) == 2
    np.testing.assert_array_equal(untied.user_embeddings(each), untied.input_embeddings)
    assert not np.array_equal(untied.input_embeddings, untied.item_embeddings)


def test_a_row_depends_on_itself_alone(table, A):
    model = small(hidden_dims=(4,))
    whole = model.user_embeddings(A)
    order = np.random.default_rng(0).permutation(N)
    np.testing.assert_allclose(model.user_embeddings(tensor(table[order])), whole[order], atol=1e-6)
    np.testing.assert_allclose(model.user_embeddings(tensor(table[4:5])), whole[4:5], atol=1e-6)


@pytest.mark.parametrize("options", TOWERS)
def test_fold_in_is_a_row(table, A, options):
    model = small(**options)
    (ids,) = np.nonzero(table[6])
    psi = model.fold_in(ids, table[6, ids])
    np.testing.assert_allclose(psi, model.user_embeddings(A)[6], atol=1e-6)
    parts = model.fold_in_parts(ids, table[6, ids])
    for at, part in enumerate(parts):
        row = table[6].copy()
        row[ids[at]] = 0
        without = psi_in_numpy(model, [row], options.get("item_features"))[0]
        np.testing.assert_allclose(part, psi - without, atol=1e-5)
    np.testing.assert_array_equal(small().fold_in([], []), np.zeros(5))
    assert small().fold_in_parts([], []).shape == (0, 5)


# What it must not see


@pytest.mark.parametrize("options", TOWERS)
def test_no_score_changes_with_a_held_out_rating(table, options):
    """Scores are computed from the inputs; whatever the labels were, they are the same."""
    model = small(**options)
    inputs, labels = split_histories(tensor(table), 0.5, seed=0)
    before = model(inputs).numpy()
    for user, movie in labels.indices.numpy():
        changed = table.copy()
        changed[user, movie] = 1 if changed[user, movie] == 5 else 5
        again, other = split_histories(tensor(changed), 0.5, seed=0)
        assert tf.sparse.to_dense(other).numpy()[user, movie] == changed[user, movie]
        np.testing.assert_array_equal(model(again).numpy(), before)
    # The same change to an input is seen, where ratings count.
    user, movie = inputs.indices.numpy()[0]
    changed = table.copy()
    changed[user, movie] = 1 if changed[user, movie] == 5 else 5
    moved = model(split_histories(tensor(changed), 0.5, seed=0)[0]).numpy()
    assert np.array_equal(moved, before) == (model.rating_power == 0)


def test_a_training_step_never_shows_its_labels(A, monkeypatch):
    """Every loss that training computes: no entry is input and label at once."""
    seen = []

    def tower(self, places, weights, num_rows, tables=None):
        seen.append(places.numpy())
        return original(self, places, weights, num_rows, tables)

    def loss(users, items, labels):
        given = {tuple(pair) for pair in seen[-1]}
        asked = {tuple(pair) for pair in labels.indices.numpy()}
        assert given
        assert asked
        assert not given & asked
        assert given | asked == {tuple(pair) for pair in A.indices.numpy()}
        return tf.reduce_sum(users) * 0, 1.0

    original = SoftmaxModel._tower
    monkeypatch.setattr(SoftmaxModel, "_tower", tower)
    monkeypatch.setattr("cfutils.softmax.summed_softmax_loss", loss)
    model = small()
    for step in range(20):
        model._iteration.assign(step)
        model._loss_parts(A)
    assert len({part.tobytes() for part in seen}) > 15  # and each step splits anew


def structureless(num_users=300, num_items=60, share=0.3, seed=0):
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((num_users, num_items)) < share)
    ratings = rng.integers(1, 6, len(users))
    return pd.DataFrame({"user_id": users, "movie_id": items, "rating": ratings.astype(float)})


def standard_errors_from_chance(scores, train, test, num_items):
    found = ranking_metrics(scores, train, test, num_items)
    chance = chance_metrics(train, test, num_items)
    gap = found - chance
    names = ["recall", "ndcg", "precision"]
    return (gap[names].mean() / gap[names].sem()).to_numpy()


@pytest.mark.parametrize(
    "options", [{}, {"rating_power": 2.0}, {"hidden_dims": (16,)}, {"tied": False}]
)
def test_structureless_data_give_chance(options):
    ratings = structureless()
    train, test = split_ratings(ratings, test_fraction=0.2, seed=0)
    A = ratings_tensor(train, 300, 60)
    model = SoftmaxModel(60, input_dims=16, seed=1, **options)
    model.train(A, num_iterations=60, learning_rate=0.03, eval_every=60)
    scores = model.user_embeddings(A) @ model.item_embeddings.T
    assert np.abs(standard_errors_from_chance(scores, train, test, 60)).max() < 4
    # Users never seen in training.
    others = structureless(seed=9)
    history, hidden = split_ratings(others, test_fraction=0.2, seed=0)
    new = model.user_embeddings(ratings_tensor(history, 300, 60)) @ model.item_embeddings.T
    assert np.abs(standard_errors_from_chance(new, history, hidden, 60)).max() < 4
    # The same figures if the test ratings are in the histories: far from chance.
    leak = model.user_embeddings(ratings_tensor(ratings, 300, 60)) @ model.item_embeddings.T
    if "hidden_dims" not in options and "tied" not in options:
        assert standard_errors_from_chance(leak, train, test, 60).min() > 4


def test_checkerboard_gives_back_what_was_withheld():
    # Users rate the movies of their own parity; one each is withheld.
    rows = [(u, m, 4.0) for u in range(40) for m in range(20) if u % 2 == m % 2]
    ratings = pd.DataFrame(rows, columns=["user_id", "movie_id", "rating"])
    withheld = ratings["movie_id"] // 2 == ratings["user_id"] % 10
    train, test = ratings[~withheld], ratings[withheld]
    A = ratings_tensor(train, 40, 20)
    model = SoftmaxModel(20, input_dims=4)
    model.train(A, num_iterations=100, learning_rate=0.05)
    scores = model.user_embeddings(A) @ model.item_embeddings.T
    assert ranking_metrics(scores, train, test, 20, k=1)["recall"].min() == 1


# Training


@pytest.mark.parametrize("options", [{}, {"batch_size": 7}, {"batch_size": 7, "num_sampled": 20}])
@pytest.mark.parametrize("tower", [{}, TOWERS[-1]])
def test_training_goes_on_also_from_a_file(A, options, tower, tmp_path):
    once, twice = small(**tower), small(**tower)
    options = {"learning_rate": 0.05, **options}
    once.train(A, num_iterations=14, **options)
    twice.train(A, num_iterations=6, **options)
    twice.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for model in (twice, loaded):
        history = model.train(A, num_iterations=8, **options)
        assert history["iteration"].tolist() == [14]
        assert_same(once, model)
    np.testing.assert_array_equal(loaded(A), once(A))


@pytest.mark.parametrize("power", [0.0, 2.0])
def test_history_holds_the_cross_entropies(table, A, power):
    model = small(rating_power=power)
    held_out = tensor(table[:10])
    untrained = small(rating_power=power)
    history = model.train(A, held_out, num_iterations=25, learning_rate=0.03, eval_every=10)
    assert history.columns.tolist() == ["iteration", "seconds", "train_loss", "validation_loss"]
    assert history["iteration"].tolist() == [0, 10, 20, 25]
    for row, at in ((0, untrained), (3, model)):
        for column, data in (("train_loss", A), ("validation_loss", held_out)):
            expected = cross_entropy_in_numpy(at, *split_histories(data, 0.2, seed=3))
            np.testing.assert_allclose(history[column][row], expected, rtol=1e-5)
    assert history["train_loss"].is_monotonic_decreasing
    pair = split_histories(A, 0.4, seed=8)
    row = small(rating_power=power).train(A, pair, num_iterations=1).iloc[0]
    np.testing.assert_allclose(
        row["validation_loss"], cross_entropy_in_numpy(untrained, *pair), rtol=1e-5
    )
    assert np.isnan(small().train(A, num_iterations=1)["validation_loss"]).all()


def test_losses_are_measured_in_blocks_alike(A, monkeypatch):
    whole = small().train(A, A, num_iterations=1)
    monkeypatch.setattr("cfutils.softmax._CELLS", 4 * M)
    blocks = small().train(A, A, num_iterations=1)
    columns = ["train_loss", "validation_loss"]
    np.testing.assert_allclose(whole[columns], blocks[columns], rtol=1e-5)


def test_patience_goes_back_to_the_best_row(A):
    model = small(input_dims=8)
    rng = np.random.default_rng(5)
    other = tensor(rng.integers(1, 6, (20, M)))  # nothing to learn about these
    options = {"learning_rate": 0.3, "eval_every": 1}
    history = model.train(A, other, num_iterations=200, patience=4, **options)
    best = int(history["validation_loss"].idxmin())
    assert len(history) == best + 5
    again = small(input_dims=8)
    if best:
        again.train(A, num_iterations=best, **options)
    assert_same_weights(model, again)
    assert model.iteration == best


def assert_same_weights(one, other):
    for a, b in zip(one.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_divergence_keeps_the_last_finite_weights(A):
    model = small()
    model.train(A, num_iterations=2, learning_rate=0.01, optimizer="sgd")
    with pytest.raises(FloatingPointError, match="Lower learning_rate"):
        model.train(A, num_iterations=300, learning_rate=1e30, optimizer="sgd", eval_every=1)
    assert np.isfinite(model.item_embeddings).all()


def test_many_samples_come_near_the_full_softmax(A):
    full, sampled = small(), small()
    for model, number in ((full, None), (sampled, 20_000)):
        model.train(A, num_iterations=20, learning_rate=0.05, num_sampled=number)
    change = full.item_embeddings - small().item_embeddings
    gap = sampled.item_embeddings - full.item_embeddings
    assert np.abs(gap).max() < 0.05 * np.abs(change).max()


def test_sampled_steps_leave_other_items_alone():
    # 6 users who rate movies 0..9 of 5,000; 5 samples a step.
    rows = [(u, m, 3.0) for u in range(6) for m in range(10) if (u + m) % 3]
    frame = pd.DataFrame(rows, columns=["user_id", "movie_id", "rating"])
    A = ratings_tensor(frame, 6, 5000)
    model = SoftmaxModel(5000, input_dims=4)
    before = model.item_embeddings
    model.train(A, num_iterations=3, learning_rate=1.0, optimizer="sgd", num_sampled=5)
    changed = (model.item_embeddings != before).any(axis=1)
    assert changed[:10].all()
    assert changed[10:].sum() <= 15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_iterations": 0}, "num_iterations should be an integer, 1 or more. Received: 0"),
        ({"batch_size": 0}, "batch_size should be"),
        ({"num_sampled": 0}, "num_sampled should be"),
        ({"learning_rate": -1}, "learning_rate should be positive"),
        ({"patience": 2}, "A_validation should hold validation ratings if patience is given"),
        ({"A_validation": 3}, "A_validation should be a SparseTensor of histories or a pair"),
    ],
)
def test_train_refuses(A, change, message):
    with pytest.raises(ValueError, match=message):
        small().train(A, **({"num_iterations": 1} | change))


def test_train_refuses_tensors(table, A):
    with pytest.raises(ValueError, match="A_train should be a tf.SparseTensor"):
        small().train(table, num_iterations=1)
    with pytest.raises(ValueError, match=r"A_train should have the model's shape \(30, 12\)"):
        small().train(tensor(table[:, :5]), num_iterations=1)
    with pytest.raises(ValueError, match="A_train should have a history of two ratings or more"):
        small().train(tensor(np.eye(M)), num_iterations=1)
    with pytest.raises(ValueError, match="same users. Received: 30 and 10 rows"):
        small().train(A, (A, tensor(table[:10])), num_iterations=1)
    with pytest.raises(ValueError, match="A_validation should have a label, so a history of two"):
        small().train(A, tensor(np.eye(M)), num_iterations=1)
    zeros = tf.SparseTensor(A.indices, tf.zeros_like(A.values), A.shape)
    with pytest.raises(ValueError, match="A_train should have a label of positive weight"):
        small(rating_power=1.0).train(zeros, num_iterations=1)
    with pytest.raises(ValueError, match="A_train should hold no negative ratings"):
        small(rating_power=2.0).train(tensor(-table), num_iterations=1)
    assert np.isfinite(small().train(tensor(-table), num_iterations=1)["train_loss"]).all()


# Keras


def test_keras_fit_and_evaluate(A):
    model = small()
    model.compile(keras.optimizers.Adam(0.05))
    done = model.fit(A, validation_data=A, epochs=4, verbose=0)
    assert list(done.history) == ["loss", "val_loss"]
    assert done.history["loss"][-1] < done.history["loss"][0]
    # The same 4 steps by `train`, and the loss that it measures.
    other = small()
    history = other.train(A, A, num_iterations=4, learning_rate=0.05)
    np.testing.assert_allclose(other.item_embeddings, model.item_embeddings, atol=1e-5)
    np.testing.assert_allclose(
        model.evaluate(A, verbose=0), history["validation_loss"].iloc[-1], rtol=1e-5
    )
    shuffled = np.random.default_rng(0).permutation(len(A.values))
    unsorted = tf.SparseTensor(A.indices.numpy()[shuffled], A.values.numpy()[shuffled], A.shape)
    np.testing.assert_allclose(
        model.evaluate(unsorted, verbose=0), model.evaluate(A, verbose=0), rtol=1e-5
    )
    batches = tf.data.Dataset.from_tensors(A).repeat(2)
    model.fit(batches, epochs=1, verbose=0)
    assert model.iteration == 6
    with pytest.raises(ValueError, match="the model's loss is fixed"):
        model.compile("adam", loss="mse")


def test_saved_model_has_its_features(A, tmp_path):
    model = small(item_features=FEATURES, input_dims=DIMS, hidden_dims=[6])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(A), model(A))
    assert loaded.get_config() == model.get_config()


# Recommendations


def test_recommends_to_anybody(table):
    data = MovieLens(
        users=pd.DataFrame({"user_id": range(N)}),
        movies=pd.DataFrame(
            {"movie_id": range(M), "title": [f"Movie {m}" for m in "abcdefghijkl"]}
        ),
        ratings=pd.DataFrame(
            [(u, m, float(table[u, m])) for u, m in np.argwhere(table)],
            columns=["user_id", "movie_id", "rating"],
        ),
    )
    model = small(rating_power=1.0)
    model.train(tensor(table), num_iterations=5, learning_rate=0.05)
    mine = {"Movie c": 5, 4: 1}
    found = recommend_for(mine, model, data, k=3)
    psi = model.fold_in([2, 4], [5, 1])
    scores = model.item_embeddings @ psi
    scores[[2, 4]] = -np.inf
    assert found["movie_id"].tolist() == np.argsort(-scores)[:3].tolist()
    own = pd.DataFrame({"movie_id": [2, 4], "rating": [5.0, 1.0]})
    listed = recommend(model, psi, data, ratings=own, k=3)
    assert listed["movie_id"].tolist() == found["movie_id"].tolist()
    without = {2: model.fold_in([4], [1]), 4: model.fold_in([2], [5])}
    for row in found.itertuples():
        drop = {j: model.item_embeddings[row.movie_id] @ (psi - v) for j, v in without.items()}
        best = max(drop, key=drop.get)
        expected = data.movies["title"][best] if drop[best] > 0 else None
        assert row.because == expected or (expected is None and pd.isna(row.because))


def test_movie_features_by_hand():
    movies = pd.DataFrame(
        {
            "movie_id": [0, 1, 2],
            "title": list("abc"),
            "genres": [["War", "Action"], ["War"], []],
            "year": [1995, 1978, None],
        }
    )
    ratings = pd.DataFrame({"user_id": [0], "movie_id": [0], "rating": [1.0]})
    data = MovieLens(pd.DataFrame({"user_id": [0]}), movies, ratings)
    features = movie_features(data)
    np.testing.assert_array_equal(features["genres"], [[0.5, 0.5], [0, 1], [0, 0]])
    np.testing.assert_array_equal(features["decade"], [[0, 0, 1], [1, 0, 0], [0, 0, 0]])
    bare = MovieLens(data.users, movies[["movie_id", "title"]], ratings)
    with pytest.raises(ValueError, match="data.movies should have the column genres"):
        movie_features(bare)


# Arguments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_items": 0}, "num_items should be an integer, 1 or more"),
        ({"input_dims": 0}, "input_dims should be an integer, 1 or more"),
        ({"input_dims": {"movie": 3}}, r"input_dims should have a width for each of \['item'\]"),
        ({"hidden_dims": (0,)}, "hidden_dims should be"),
        ({"rating_power": -1}, "rating_power should be"),
        ({"dropout": 1}, "dropout should be above 0 and below 1"),
        ({"init_stddev": 0}, "init_stddev should be"),
        ({"seed": -1}, "seed should be"),
        ({"item_features": {"genres": np.ones((3, 2))}}, r"finite arrays \[12, size\]"),
        ({"item_features": {"item": np.ones((M, 2))}}, "other than 'item'"),
    ],
)
def test_constructor_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxModel(**({"num_items": M} | change))


def test_threads_do_not_change_what_is_learned(movielens):
    # At this size every product is shared between threads; on small ones a race would not show.
    A = ratings_tensor(movielens.ratings, movielens.num_users, movielens.num_items)
    once, twice = (SoftmaxModel(movielens.num_items, seed=1) for _ in range(2))
    once.train(A, num_iterations=12, learning_rate=0.05)
    for _ in range(2):
        twice.train(A, num_iterations=6, learning_rate=0.05)
    np.testing.assert_array_equal(once.item_embeddings, twice.item_embeddings)

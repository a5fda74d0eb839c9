"""CFModel against NumPy in float64, closed forms, and what withheld cells must be."""

import contextlib
import dataclasses
import functools
import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cfutils import _als, _descent, factorization
from cfutils._tensorflow import keras, tf
from cfutils.data import Dataset
from cfutils.factorization import CFModel, load_model, ratings_tensor

# Keras itself still converts tensors the way that NumPy 2.4 warns of, when it saves.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

COEFFICIENTS = [(0.1, 1.0), (0.1, 0.0), (0.0, 1.0), (0.0, 0.0)]


def frame(*rows):
    return pd.DataFrame(rows, columns=["user_num", "item_num", "rating"])


def dataset(ratings, num_users, num_items):
    """Users 100, 101... and items "i0", "i1"... with these ratings."""
    users = pd.DataFrame({"user_id": np.arange(num_users) + 100})
    ids = [f"i{row}" for row in range(num_items)]
    return Dataset(users, pd.DataFrame({"item_id": ids, "title": ids}), ratings)


def tensor(ratings, num_users, num_items):
    return ratings_tensor(dataset(ratings, num_users, num_items))


def random_frame(num_users, num_items, density=0.5, seed=0):
    """Random ratings; the last user and the last item have none."""
    rng = np.random.default_rng(seed)
    mask = rng.random((num_users, num_items)) < density
    mask[-1], mask[:, -1], mask[0, 0] = False, False, True
    users, items = np.nonzero(mask)
    return frame(*zip(users, items, rng.integers(1, 6, len(users)), strict=True))


def dense(A):
    """A SparseTensor as float64 ratings and mask."""
    table, mask = np.zeros(A.shape), np.zeros(A.shape, bool)
    at = tuple(A.indices.numpy().T)
    table[at], mask[at] = A.values.numpy(), True
    return table, mask


def loss_in_numpy(model, A):
    """mse, l2 term, gravity term of the model, float64 and dense."""
    table, mask = dense(A)
    U, V = (x.astype(np.float64) for x in (model.user_embeddings, model.item_embeddings))
    mse = np.mean((U @ V.T - table)[mask] ** 2)
    l2 = model.l2_coeff * (np.sum(U**2) / len(U) + np.sum(V**2) / len(V))
    return mse, l2, model.gravity_coeff * np.mean((U @ V.T) ** 2)


def gradients_in_numpy(model, A):
    table, mask = dense(A)
    U, V = (x.astype(np.float64) for x in (model.user_embeddings, model.item_embeddings))
    S = 2 / mask.sum() * mask * (U @ V.T - table) + 2 * model.gravity_coeff / mask.size * U @ V.T
    return (
        S @ V + 2 * model.l2_coeff / len(U) * U,
        S.T @ U + 2 * model.l2_coeff / len(V) * V,
    )


def solve_in_numpy(fixed, table, mask, l2_coeff, gravity_coeff):
    """One half of an ALS sweep: every row of table's embeddings, one at a time."""
    num_rows, num_columns = table.shape
    count = mask.sum()
    rows = []
    for ratings, seen in zip(table, mask, strict=True):
        matrix = fixed[seen].T @ fixed[seen]
        matrix += gravity_coeff * count / (num_rows * num_columns) * fixed.T @ fixed
        matrix += l2_coeff * count / num_rows * np.eye(fixed.shape[1])
        rows.append(np.linalg.lstsq(matrix, fixed[seen].T @ ratings[seen])[0])
    return np.array(rows)


def assert_same(model, other):
    np.testing.assert_array_equal(model.user_embeddings, other.user_embeddings)
    np.testing.assert_array_equal(model.item_embeddings, other.item_embeddings)
    assert model.iteration == other.iteration


@pytest.fixture
def A():
    return tensor(random_frame(12, 9), 12, 9)


def small(seed=0, **kwargs):
    return CFModel((12, 9), 3, init_stddev=0.5, seed=seed, **kwargs)


# Ratings on their way in


def test_ratings_tensor_keeps_every_rating():
    A = tensor(frame((4, 2, 3), (0, 6, -5), (4, 0, 2.5), (0, 1, 0)), 5, 7)
    assert A.indices.numpy().tolist() == [[0, 1], [0, 6], [4, 0], [4, 2]]  # by user, then item
    assert A.values.numpy().tolist() == [0, -5, 2.5, 3]
    assert (A.shape, A.dtype) == ((5, 7), tf.float32)


def test_ratings_too_large_for_float32_are_refused():
    for value in (1e15, 1e39):
        with pytest.raises(ValueError, match=r"size below 1e\+15. Received: \[1"):
            tensor(frame((0, 0, 1), (0, 1, value)), 1, 2)


def shuffled(data, seed=1):
    """The same users, items and ratings in other rows."""
    rng = np.random.default_rng(seed)
    new_users, new_items = rng.permutation(data.num_users), rng.permutation(data.num_items)
    users = data.users.iloc[np.argsort(new_users)].reset_index(drop=True)
    items = data.items.iloc[np.argsort(new_items)].reset_index(drop=True)
    ratings = data.ratings.assign(
        user_num=new_users[data.ratings["user_num"]], item_num=new_items[data.ratings["item_num"]]
    )
    return Dataset(users, items, ratings.sample(frac=1, random_state=seed))


def test_a_model_finds_the_rows_of_other_data_by_id():
    data, held_out = (dataset(random_frame(12, 9, seed=seed), 12, 9) for seed in (0, 5))
    models = [CFModel(data, 3, init_stddev=0.5, l2_coeff=0.1) for _ in range(2)]
    ways = [(data, held_out), (shuffled(data), shuffled(held_out, seed=2))]
    losses = []
    for model, (train, test) in zip(models, ways, strict=True):
        model.train(train, test, num_iterations=5, optimizer="adam", learning_rate=0.1)
        model.train_als(train, num_iterations=1)
        model.fit(train, epochs=2, validation_data=test, verbose=0)
        losses.append(model.evaluate(test, verbose=0))
    assert_same(*models)
    np.testing.assert_allclose(*losses, rtol=1e-6)
    other = shuffled(data)
    folded = models[0].fold_in(other)  # its rows are those of the data
    places = [data.users["user_id"].tolist().index(user) for user in other.users["user_id"]]
    np.testing.assert_allclose(folded, models[0].fold_in(data)[places], atol=1e-6)


def test_ids_that_a_model_lacks_are_refused_if_they_have_ratings():
    model = CFModel(dataset(random_frame(12, 9), 12, 9), 3, l2_coeff=0.1)
    larger = dataset(frame((0, 0, 1), (13, 1, 2), (12, 10, 3)), 14, 11)
    for call in (model.train, model.train_als):
        with pytest.raises(ValueError, match="users of the model only. Received: 2 of 14 .*112, 1"):
            call(larger, num_iterations=1)
    more_items = dataset(frame((0, 0, 1), (1, 10, 2)), 12, 11)
    model.compile()
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="items of the model only. Received: 1 of 11 .*'i10'"):
            call(more_items, verbose=0)
    assert model.iteration == 0
    model.train_als(dataset(frame((0, 0, 1), (1, 1, 2)), 14, 11), num_iterations=1)  # no ratings
    with pytest.raises(ValueError, match="items of the model only"):
        model.fold_in(more_items)
    folded = model.fold_in(dataset(frame((0, 0, 1), (13, 1, 2)), 14, 9))  # users may be anybody
    assert np.flatnonzero(folded.any(axis=1)).tolist() == [0, 13]


def test_ids_of_equal_text_are_equal():
    data = dataset(frame((0, 0, 1), (1, 1, 2)), 2, 2)
    model = CFModel(data, 2)
    assert (model.user_ids.tolist(), model.item_ids.tolist()) == (["100", "101"], ["i0", "i1"])
    texts = Dataset(data.users.astype({"user_id": str}), data.items, data.ratings)
    model.train(texts, num_iterations=1, learning_rate=0.1)
    plain = CFModel((2, 2), 2)
    assert plain.user_ids is plain.item_ids is None
    plain.train(data, num_iterations=1, learning_rate=0.1)
    assert_same(model, plain)
    with pytest.raises(ValueError, match="should have the model's 2 users. Received: 3"):
        plain.train(dataset(frame((0, 0, 1)), 3, 2), num_iterations=1)


# Other data: today's users and items


def rows_by_id(model, data, old_data):
    """The rows of the old tables in the order of data, NaN where they are new: a join of frames."""
    tables = []
    for kind, table in (("user", model.user_embeddings), ("item", model.item_embeddings)):
        ids = getattr(old_data, f"{kind}s")[f"{kind}_id"].astype(str)
        new_ids = getattr(data, f"{kind}s")[f"{kind}_id"].astype(str)
        tables.append(pd.DataFrame(table, index=ids).reindex(new_ids).to_numpy())
    return tables


@pytest.fixture
def yesterday():
    return dataset(random_frame(12, 9), 12, 9)


@pytest.fixture
def today(yesterday):
    """Users 103, 104... and two new ones, items "i2", "i3"... and a new one, in another order."""
    more = dataset(random_frame(14, 10, seed=4), 14, 10)
    kept = more.ratings[(more.ratings["user_num"] >= 3) & (more.ratings["item_num"] >= 2)]
    users = more.users[3:].sample(frac=1, random_state=0)
    items = more.items[2:].sample(frac=1, random_state=0)
    places = [{old: new for new, old in enumerate(frame.index)} for frame in (users, items)]
    ratings = kept.assign(
        user_num=kept["user_num"].map(places[0]), item_num=kept["item_num"].map(places[1])
    )
    return Dataset(users.reset_index(drop=True), items.reset_index(drop=True), ratings)


GONE = r"^data lacks 3 of 12 users and 2 of 9 items of the model: they are dropped\.$"


def trained(data, **options):
    model = CFModel(data, 3, init_stddev=0.5, seed=1, l2_coeff=0.1, **options)
    model.train(data, num_iterations=7, optimizer="adam", learning_rate=0.1)
    return model


def test_a_model_goes_on_with_other_users_and_items(yesterday, today, tmp_path):
    model = trained(yesterday)
    model.gravity_coeff = 0.5
    model.save(tmp_path / "a.keras")
    before = model.get_weights()
    with pytest.raises(ValueError, match="users of the model only. Received: 1 of 11"):
        model.train(today, num_iterations=1)
    expected = rows_by_id(model, today, yesterday)
    fresh = CFModel(today, 3, init_stddev=0.5, seed=1)
    for old in (model, load_model(tmp_path / "a.keras")):
        old.gravity_coeff = 0.5
        with pytest.warns(UserWarning, match=GONE):
            new = old.for_data(today)
        assert new.get_config() == old.get_config() | {
            "num_users": 11,
            "num_items": 8,
            "ids": {
                k: getattr(today, k)[f"{k[:-1]}_id"].astype(str).tolist()
                for k in ("users", "items")
            },
        }
        assert new.iteration == 7
        for table, rows, first in zip(
            (new.user_embeddings, new.item_embeddings),
            expected,
            (fresh.user_embeddings, fresh.item_embeddings),
            strict=True,
        ):
            assert 0 < np.isnan(rows[:, 0]).sum() < 3
            np.testing.assert_array_equal(table, np.where(np.isnan(rows), first, rows))
        counts = yesterday.ratings.groupby(yesterday.ratings["user_num"] + 100).size()
        known = counts.reindex(today.users["user_id"], fill_value=0)
        assert new.user_num_ratings.tolist() == known.tolist()
        assert new.user_num_ratings.dtype == np.int64
    for values, same in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(values, same)


@pytest.mark.parametrize("way", ["train", "batches", "als", "fit"])
@pytest.mark.filterwarnings("ignore:data lacks")
def test_training_on_other_data_is_that_of_the_same_tables(yesterday, today, way):
    """As for a model whose tables were filled by hand; the optimizer is the same, without state."""
    model = trained(yesterday)
    new, hand = model.for_data(today), CFModel(today, 3, init_stddev=0.5, seed=1, l2_coeff=0.1)
    old = rows_by_id(model, today, yesterday)
    for table, rows in zip((hand._users, hand._items), old, strict=True):
        table.assign(np.where(np.isnan(rows), table.numpy(), rows))
    hand._iteration.assign(7)
    hand.compile(keras.optimizers.Adam(0.1))
    for each in (new, hand):
        if way == "als":
            each.train_als(today, num_iterations=2)
        elif way == "fit":
            each.fit(today, epochs=3, verbose=0)
        else:
            how = {"batch_size": 7} if way == "batches" else {}
            history = each.train(
                today, num_iterations=8, optimizer="adam", learning_rate=0.1, **how
            )
            assert history["iteration"].tolist() == [15]
    assert_same(new, hand)
    assert new.optimizer is not model.optimizer
    assert new.user_num_ratings.tolist() == today.user_stats()["num_ratings"].tolist()
    model.train(yesterday, num_iterations=1, optimizer="adam")  # and it goes on as well


def test_the_same_data_give_the_same_model(yesterday):
    for model in (trained(yesterday), CFModel(yesterday, 3)):
        new = model.for_data(shuffled(yesterday))
        places = [yesterday.users["user_id"].tolist().index(int(user)) for user in new.user_ids]
        columns = [yesterday.items["item_id"].tolist().index(item) for item in new.item_ids]
        scores = model.user_embeddings @ model.item_embeddings.T
        pairs = np.argwhere(np.ones((12, 9)))
        expected = scores[places][:, columns].ravel()
        np.testing.assert_allclose(new.predict(pairs), expected, rtol=1e-5, atol=1e-6)
        assert new.user_num_ratings.tolist() == model.user_num_ratings[places].tolist()
        assert (new.iteration, new.compiled) == (model.iteration, model.compiled)
        if model.iteration:
            same, ratings = model.for_data(yesterday), yesterday.interactions(binary=False)
            np.testing.assert_array_equal(same.fold_in(ratings), model.fold_in(ratings))


def test_for_data_refuses_what_it_can_not_match(yesterday):
    pair = CFModel((12, 9), 3)
    with pytest.raises(
        ValueError, match="a model with ids. Received: one made for a pair. Make one"
    ):
        pair.for_data(yesterday)
    made = CFModel(yesterday, 3, seed=1)  # the advice
    made.set_weights(pair.get_weights())
    assert_same(pair, made.for_data(yesterday))
    for data in (random_frame(12, 9), (12, 9), tensor(random_frame(12, 9), 12, 9)):
        with pytest.raises(ValueError, match="data should be a Dataset"):
            made.for_data(data)
    ids = [f"j{row}" for row in range(9)]
    others = dataclasses.replace(yesterday, items=pd.DataFrame({"item_id": ids, "title": ids}))
    with pytest.raises(ValueError, match="data should have items of the model. Received: 9 others"):
        made.for_data(others)
    with pytest.raises(TypeError, match="item_features"):
        made.for_data(yesterday, {"genres": np.ones((9, 2))})


@pytest.mark.parametrize("way", ["train", "batches", "als", "fit"])
def test_the_model_knows_how_many_ratings_each_user_had(A, way, tmp_path):
    def train(model, A):
        if way == "als":
            model.train_als(A, num_iterations=1)
        elif way == "fit":
            model.compile(keras.optimizers.SGD(0.1))
            model.fit(A, verbose=0)
        else:
            batch = {"batch_size": 7} if way == "batches" else {}
            model.train(A, num_iterations=3, learning_rate=0.1, **batch)

    model = small(l2_coeff=0.1)
    assert model.user_num_ratings.tolist() == [0] * 12
    other = tf.SparseTensor([[3, 0], [3, 2], [5, 1]], [1.0, 2.0, 3.0], (12, 9))
    for ratings in (other, A):  # of the last training
        train(model, ratings)
        expected = dense(ratings)[1].sum(axis=1)
        assert model.user_num_ratings.tolist() == expected.tolist()
    assert expected[-1] == 0 < expected[0]
    assert model.user_num_ratings.dtype == np.int64
    model.user_num_ratings[:] = 0  # a copy
    model.save(tmp_path / "a.keras")
    assert load_model(tmp_path / "a.keras").user_num_ratings.tolist() == expected.tolist()
    bad = tf.SparseTensor([[0, 0]], [np.nan], (12, 9))
    with pytest.raises(ValueError, match="all finite"):
        train(model, bad)
    assert model.user_num_ratings.tolist() == expected.tolist()


# The kernels


def test_kernels_give_the_gradients_of_dense_float64():
    A = tensor(random_frame(40, 70, density=0.6), 40, 70)
    table, mask = dense(A)
    rng = np.random.default_rng(0)
    U, V = rng.normal(size=(40, 5)), rng.normal(size=(70, 5))
    S = 0.5 * mask * (U @ V.T - table) + 0.1 * U @ V.T
    users, items = A.indices.numpy().T.astype(np.int32)
    ratings = users, items, A.values.numpy()
    tables = tf.constant(U, tf.float32), tf.constant(V, tf.float32)
    found = {
        "dense": _descent.dense_gradient(
            _descent.dense_tables(*ratings, (40, 70), 0.5, 0.1), *tables
        )
    }
    for number, generator in [(1, None), (7, None), (7, rng)]:
        parts, sizes = _descent.sparse_tables(*ratings, number, generator=generator)
        assert sizes.sum() == len(users)
        found[number, generator] = _descent.sparse_gradient(
            parts, tf.range(number), 0.5, 0.1, *tables
        )
    for name, (by_user, by_item) in found.items():
        np.testing.assert_allclose(by_user, S @ V, atol=2e-3, err_msg=str(name))
        np.testing.assert_allclose(by_item, S.T @ U, atol=2e-3, err_msg=str(name))
    for dense_form in (False, True):
        error = _descent.squared_error(A.indices, A.values, *tables, dense=dense_form)
        np.testing.assert_allclose(error, np.sum((mask * (U @ V.T - table)) ** 2), rtol=1e-5)


# Gradient descent


@pytest.mark.parametrize(
    ("l2_coeff", "gravity_coeff", "batch_size"),
    [(*pair, None) for pair in COEFFICIENTS] + [(0.1, 1.0, 10**6)],
)
def test_a_step_is_minus_learning_rate_times_gradient(A, l2_coeff, gravity_coeff, batch_size):
    model = small(l2_coeff=l2_coeff, gravity_coeff=gravity_coeff)
    U, V = model.user_embeddings, model.item_embeddings
    dU, dV = gradients_in_numpy(model, A)
    model.train(A, num_iterations=1, learning_rate=0.5, batch_size=batch_size)
    np.testing.assert_allclose(model.user_embeddings, U - 0.5 * dU, atol=1e-5)
    np.testing.assert_allclose(model.item_embeddings, V - 0.5 * dV, atol=1e-5)


def test_history_is_the_loss(A):
    held_out = tensor(random_frame(12, 9, seed=5), 12, 9)
    model = small(l2_coeff=0.1, gravity_coeff=0.5)
    first = loss_in_numpy(model, A)
    history = model.train(A, held_out, num_iterations=25, learning_rate=0.1, eval_every=10)
    columns = ["iteration", "seconds", "train_mse", "test_mse", "l2_loss", "gravity_loss", "loss"]
    assert list(history.columns) == columns
    assert history["iteration"].tolist() == [0, 10, 20, 25]
    assert history["seconds"].is_monotonic_increasing
    assert history["loss"].is_monotonic_decreasing
    parts = ["train_mse", "l2_loss", "gravity_loss"]
    np.testing.assert_allclose(history.loc[0, parts].to_numpy(float), first, rtol=1e-5)
    last = history.iloc[-1]
    np.testing.assert_allclose(last[parts].to_numpy(float), loss_in_numpy(model, A), rtol=1e-5)
    assert last["test_mse"] == pytest.approx(loss_in_numpy(model, held_out)[0], rel=1e-5)
    assert last["loss"] == pytest.approx(sum(loss_in_numpy(model, A)), rel=1e-5)
    assert model.train(A, num_iterations=5, learning_rate=0.1)["test_mse"].isna().all()


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.05),
    "named": lambda: "adam",
    "falling": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.2, 10, 0.5)
    ),
}


@pytest.mark.parametrize(
    ("name", "batch_size"),
    [("momentum", None), ("adam", None), ("adam", 7), ("named", None), ("falling", 7)],
)
@pytest.mark.slow
def test_training_goes_on_also_from_a_file(A, name, batch_size, tmp_path):
    options = {"batch_size": batch_size, "eval_every": 5}
    options["optimizer"] = OPTIMIZERS[name]()  # one instance serves several models
    once, twice = (small(l2_coeff=0.1, gravity_coeff=0.5) for _ in range(2))
    whole = once.train(A, num_iterations=40, **options)
    first = twice.train(A, num_iterations=15, **options)
    twice.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert loaded.get_config() == twice.get_config()
    for model in (twice, loaded):
        both = pd.concat([first, model.train(A, num_iterations=25, **options)], ignore_index=True)
        assert_same(once, model)
        pd.testing.assert_frame_equal(both.drop(columns="seconds"), whole.drop(columns="seconds"))
        np.testing.assert_array_equal(model.fold_in(A), once.fold_in(A))


def test_another_optimizer_starts_afresh_and_another_rate_does_not(A):
    model = small()
    model.train(A, num_iterations=5, optimizer="adam", learning_rate=0.05)
    first = model.optimizer
    model.train(A, num_iterations=5, optimizer="adam", learning_rate=0.01)
    assert model.optimizer is first
    assert float(first.learning_rate) == pytest.approx(0.01)
    model.train(A, num_iterations=5, optimizer="adam")
    assert float(first.learning_rate) == pytest.approx(0.001)  # what Keras documents for Adam
    model.train(A, num_iterations=5, learning_rate=0.05)
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert model.iteration == 20


def test_mini_batches_see_every_rating_once_an_epoch(A):
    # Steps so small that the gradients are those of the start: an epoch of batches of equal size
    # moves the model as many full-batch steps do.
    count = len(A.values) // 2 * 2
    even = tf.SparseTensor(A.indices[:count], A.values[:count], A.shape)
    full, batches = (small(l2_coeff=0.1, gravity_coeff=0.5) for _ in range(2))
    start = full.user_embeddings
    full.train(even, num_iterations=count // 2, learning_rate=1e-5)
    batches.train(even, num_iterations=count // 2, learning_rate=1e-5, batch_size=2)
    moved = full.user_embeddings - start
    difference = batches.user_embeddings - full.user_embeddings
    assert np.abs(difference).max() < 0.01 * np.abs(moved).max()


def test_seeds_decide_and_global_state_and_order_do_not(A):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    models = [small(seed=3) for _ in range(3)]
    models[2].seed = 4  # batches are dealt by it
    backwards = tf.SparseTensor(A.indices[::-1], A.values[::-1], A.shape)
    for number, (model, ratings) in enumerate(zip(models, (A, backwards, A), strict=True)):
        tf.random.set_seed(number)
        model.train_als(ratings, num_iterations=2)
        model.train(ratings, num_iterations=10, learning_rate=0.1, batch_size=5)
    assert_same(*models[:2])
    assert np.abs(models[0].user_embeddings - models[2].user_embeddings).max() > 1e-4
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert np.abs(small(seed=3).user_embeddings - small(seed=4).user_embeddings).max() > 0


def test_first_embeddings_are_normal():
    model = CFModel((2000, 3000), 10, init_stddev=0.3)
    for table in (model.user_embeddings, model.item_embeddings):
        assert table.std() == pytest.approx(0.3, rel=0.02)
        assert abs(table.mean()) < 0.01


@pytest.mark.parametrize(
    ("way", "options", "kernel", "large", "first"),
    [
        ("train", {}, "dense", 2**20, (0.0, 0.1)),
        ("train", {}, "sparse", 2**20, (0.01, 0.0)),
        ("train", {}, "sparse", 0, (0.0, 0.1)),
        ("train", {"batch_size": 9}, None, 2**20, (0.01, 0.0)),
        ("train", {"batch_size": 9}, None, 0, (0.0, 0.1)),
        ("train_als", {}, "dense", 2**20, (0.0, 0.1)),
        ("fit", {}, "dense", 2**20, (0.01, 0.0)),
    ],
)
def test_changed_coefficients_take_effect(A, monkeypatch, way, options, kernel, large, first):
    """Trained, changed and trained on, it is what a new model makes of the same state."""
    monkeypatch.setattr(_descent, "choose_kernel", lambda *_: kernel)
    monkeypatch.setattr(factorization, "_LARGE", large)
    options = options | ({"verbose": 0} if way == "fit" else {"num_iterations": 3})

    def made(l2_coeff, gravity_coeff):
        model = small(l2_coeff=l2_coeff, gravity_coeff=gravity_coeff)
        model.compile(keras.optimizers.SGD(0.1))
        return model

    model = made(*first)
    getattr(model, way)(A, **options)
    for then in ((0.01, 0.1), (5.0, 2.0)):  # a term appears, then both change
        other = made(*then)
        other.set_weights(model.get_weights())
        model.l2_coeff, model.gravity_coeff = then
        for each in (model, other):
            getattr(each, way)(A, **options)
        assert_same(model, other)
        np.testing.assert_array_equal(model.fold_in(A), other.fold_in(A))
    model.l2_coeff = -1
    with pytest.raises((ValueError, tf.errors.OpError), match="l2_coeff should be"):
        getattr(model, way)(A, **options)


# What training does when it does not simply end


def test_early_stopping_restores_the_best():
    ratings = random_frame(12, 9, density=0.8)
    A, A_valid = tensor(ratings[::2], 12, 9), tensor(ratings[1::2], 12, 9)
    model, again, als = (CFModel((12, 9), 8, init_stddev=0.3) for _ in range(3))
    history = model.train(A, A_valid, num_iterations=3000, learning_rate=0.5, patience=4)
    best = history["test_mse"].idxmin()
    assert len(history) == best + 5  # four rows without a better one, then the end
    assert history["iteration"].iloc[-1] < 3000
    assert model.iteration == history.loc[best, "iteration"]
    assert loss_in_numpy(model, A_valid)[0] == pytest.approx(history["test_mse"].min(), rel=1e-5)
    again.train(A, num_iterations=model.iteration, learning_rate=0.5)
    assert_same(model, again)
    history = als.train_als(A, A_valid, num_iterations=100, patience=2)
    assert als.iteration == history.loc[history["test_mse"].idxmin(), "iteration"]


@pytest.mark.parametrize("batch_size", [None, 7])
def test_divergence_keeps_the_last_finite_weights(A, batch_size):
    model = small()
    with pytest.raises(FloatingPointError, match="Lower learning_rate"):
        model.train(A, num_iterations=500, learning_rate=20.0, batch_size=batch_size, eval_every=2)
    assert np.isfinite(loss_in_numpy(model, A)[0])
    assert model.iteration % 2 == 0
    again = small()
    if model.iteration:
        again.train(A, num_iterations=model.iteration, learning_rate=20.0, batch_size=batch_size)
    assert_same(model, again)


def test_counts_diverge_and_train_as_the_error_advises():
    rng = np.random.default_rng(0)
    ratings = random_frame(30, 20)
    counts = np.floor(np.exp(rng.random(len(ratings)) * np.log(400_000)))
    data = dataset(ratings.assign(rating=counts), 30, 20)
    model = CFModel(data, 4)
    with pytest.raises(
        FloatingPointError, match="about 1 to 5; if they are counts: data = "
    ) as caught:
        model.train(data, num_iterations=100, learning_rate=0.5)
    assert model.iteration == model.user_num_ratings.sum() == 0  # as before
    advice = re.search(r"data = (.*\))\. The model has", str(caught.value))[1]
    rescaled = eval(advice, {"data": data, "dataclasses": dataclasses, "np": np})
    assert rescaled.ratings["rating"].max() < np.log(400_001)
    loss = model.train(rescaled, num_iterations=100, learning_rate=0.5)["loss"]
    assert loss.iloc[-1] < 0.5 * np.mean(rescaled.ratings["rating"] ** 2)


def test_interruption_keeps_what_was_learned(A, monkeypatch):
    options = {"learning_rate": 0.05, "optimizer": "adam", "batch_size": 7}
    model, again = small(), small()
    measure = model._measure

    def interrupted(ratings):
        row = measure(ratings)

        def measured():
            if model.iteration == 30:
                raise KeyboardInterrupt
            return row()

        return measured

    monkeypatch.setattr(model, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        model.train(A, num_iterations=100, **options)
    assert "30 iterations" in caught.value.__notes__[0]
    monkeypatch.undo()
    again.train(A, num_iterations=30, **options)
    assert_same(model, again)
    for each in (model, again):
        each.train(A, num_iterations=10, **options)
    assert_same(model, again)


def test_progress_is_quiet_unless_asked_for(A, capsys):
    small().train_als(A, num_iterations=5)
    assert capsys.readouterr() == ("", "")
    small().train_als(A, num_iterations=5, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "0/5" in captured.err


# Alternating least squares


@pytest.mark.parametrize(("l2_coeff", "gravity_coeff"), COEFFICIENTS)
def test_a_sweep_solves_every_row(l2_coeff, gravity_coeff):
    # Rows of up to 60 ratings; 5 dimensions, so that all rated rows are determined.
    A = tensor(random_frame(40, 70, density=0.7), 40, 70)
    model = CFModel((40, 70), 5, l2_coeff=l2_coeff, gravity_coeff=gravity_coeff, init_stddev=0.5)
    U, V = model.user_embeddings, model.item_embeddings
    model.train_als(A, num_iterations=1)
    table, mask = dense(A)
    expected_U = solve_in_numpy(V.astype(np.float64), table, mask, l2_coeff, gravity_coeff)
    free = not (l2_coeff or gravity_coeff)
    if free:
        expected_U[-1] = U[-1]  # unrated and not pulled anywhere: left alone
    np.testing.assert_allclose(model.user_embeddings, expected_U, atol=2e-3)
    expected_V = solve_in_numpy(
        model.user_embeddings.astype(np.float64), table.T, mask.T, l2_coeff, gravity_coeff
    )
    if free:
        expected_V[-1] = V[-1]
    np.testing.assert_allclose(model.item_embeddings, expected_V, atol=2e-3)


@pytest.mark.parametrize(("l2_coeff", "gravity_coeff"), COEFFICIENTS)
def test_the_loss_never_grows(A, l2_coeff, gravity_coeff):
    model = CFModel((12, 9), 20, l2_coeff=l2_coeff, gravity_coeff=gravity_coeff, init_stddev=0.5)
    loss = model.train_als(A, num_iterations=40)["loss"].to_numpy()  # d is above N and M
    assert np.diff(loss).max() <= 1e-6 * loss[0]
    assert loss[-1] == pytest.approx(sum(loss_in_numpy(model, A)), rel=1e-4, abs=1e-6)


def test_als_ends_where_the_gradient_is_zero(A):
    model = small(l2_coeff=0.1, gravity_coeff=0.3)
    model.train_als(A, num_iterations=1000, eval_every=1000)
    for gradient in gradients_in_numpy(model, A):  # of dense float64
        np.testing.assert_allclose(gradient, 0, atol=1e-4)


def test_als_mixes_with_descent_and_resumes(A):
    once, twice = small(l2_coeff=0.1), small(l2_coeff=0.1)
    once.train_als(A, num_iterations=6)
    history = pd.concat([twice.train_als(A, num_iterations=number) for number in (2, 4)])
    assert_same(once, twice)
    assert history["iteration"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    loss = twice.train(A, num_iterations=10, learning_rate=0.01)["loss"].iloc[-1]
    assert loss < history["loss"].iloc[-1]


def test_rows_without_ratings():
    A = tensor(frame((0, 0, 4), (2, 2, 2)), 4, 4)
    pulled, free = CFModel((4, 4), 2, l2_coeff=0.01), CFModel((4, 4), 2)
    U = free.user_embeddings
    for model in (pulled, free):
        model.train_als(A, num_iterations=3)
    np.testing.assert_array_equal(pulled.user_embeddings[[1, 3]], 0)
    np.testing.assert_array_equal(pulled.item_embeddings[[1, 3]], 0)
    np.testing.assert_array_equal(free.user_embeddings[[1, 3]], U[[1, 3]])


def test_a_ridge_too_small_for_float32_says_what_to_do(A):
    # Nine identical items and l2_coeff of 1e-30: singular to float32, and not proximal.
    model = CFModel((12, 9), 8, l2_coeff=1e-30, init_stddev=0.5)
    before = model.user_embeddings
    model._items.assign(np.ones((9, 8), np.float32))
    with pytest.raises(FloatingPointError, match="Set l2_coeff to 0.001 or more"):
        model.train_als(A, num_iterations=5)
    np.testing.assert_array_equal(model.user_embeddings, before)


def test_a_checkerboard_gives_back_what_was_withheld():
    # Rank 2: even users rate even items 5 and odd ones 1, odd users the other way round. A model
    # that has understood this fills in every cell that it was not shown.
    users, items = np.indices((14, 12)).reshape(2, -1)
    ratings = np.where((users + items) % 2 == 0, 5, 1)
    withheld = np.random.default_rng(1).random(len(ratings)) < 0.25
    A = tensor(frame(*np.stack([users, items, ratings], axis=1)[~withheld]), 14, 12)
    options = {"optimizer": "adam", "learning_rate": 0.02, "eval_every": 1000}
    by_als, by_adam = (CFModel((14, 12), 2, init_stddev=0.5, l2_coeff=1e-4) for _ in range(2))
    by_als.train_als(A, num_iterations=100)
    by_adam.train(A, num_iterations=1000, **options)
    for model in (by_als, by_adam):
        guesses = model.predict(np.stack([users, items], axis=1)[withheld])
        np.testing.assert_allclose(guesses, ratings[withheld], atol=0.1)


# Fold-in


@pytest.mark.parametrize(("l2_coeff", "gravity_coeff"), COEFFICIENTS)
def test_fold_in_is_a_row_of_least_squares(A, l2_coeff, gravity_coeff):
    model = CFModel((12, 9), 2, init_stddev=0.5, l2_coeff=l2_coeff, gravity_coeff=gravity_coeff)
    model.train_als(A, num_iterations=3)
    table, mask = dense(A)
    # The equation of every known user, with the items as they are now.
    V = model.item_embeddings.astype(np.float64)
    expected = solve_in_numpy(V, table, mask, l2_coeff, gravity_coeff)
    folded = model.fold_in(A)
    np.testing.assert_allclose(folded[:11], expected[:11], atol=1e-4)
    assert folded.dtype == np.float32
    np.testing.assert_array_equal(folded[11], 0)  # who has rated nothing
    np.testing.assert_array_equal(model.fold_in(scipy.sparse.csr_array(table)[:5]), folded[:5])
    (items,) = np.nonzero(mask[3])
    parts = model.fold_in_parts(items[::-1], table[3, items[::-1]])
    np.testing.assert_allclose(parts.sum(axis=0), folded[3], atol=1e-5)
    # A score is linear in the ratings: without one of them it lacks that part, given the same H.
    assert parts.shape == (len(items), 2)
    # And what the model's own next sweep, which begins with the users, gives each of them.
    model.train_als(A, num_iterations=1)
    np.testing.assert_allclose(folded[:11], model.user_embeddings[:11], atol=2e-3)


def test_fold_in_of_nothing_and_of_little(A):
    model = small(l2_coeff=0.1)
    model.train(A, num_iterations=10, learning_rate=0.1)
    np.testing.assert_array_equal(model.fold_in(scipy.sparse.csr_array((2, 9))), np.zeros((2, 3)))
    assert model.fold_in_parts([], []).shape == (0, 3)
    free = small()
    free.train_als(A, num_iterations=5)
    # One rating and no regularization: the shortest u with u.V_2 = 4 is 4 V_2 / |V_2|^2.
    V_2 = free.item_embeddings[2]
    np.testing.assert_allclose(free.fold_in_parts([2], [4])[0], 4 * V_2 / (V_2 @ V_2), rtol=1e-4)


def test_fold_in_refuses_what_is_not_of_the_model(A):
    model = small()
    with pytest.raises(ValueError, match="trained model"):
        model.fold_in(A)
    model.train_als(A, num_iterations=1)
    twice = scipy.sparse.coo_array(([1.0, 2.0], ([0, 0], [3, 3])), shape=(1, 9))
    for matrix, message in (
        (scipy.sparse.eye_array(9, 12), r"model's shape \['any', 9\]. Received: \[9, 12\]"),
        (twice, "should be there once"),
        (scipy.sparse.coo_array(([np.inf], ([0], [3])), shape=(1, 9)), "all finite"),
        (np.ones((2, 9)), "should be a Dataset or a tf.SparseTensor"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fold_in(matrix)


# The Keras interface


def test_predict_and_call_are_dot_products(A):
    model = small()
    scores = model.user_embeddings @ model.item_embeddings.T
    pairs = np.array([[0, 8], [11, 0], [3, 3]])
    expected = scores[pairs[:, 0], pairs[:, 1]]
    data = pd.DataFrame(pairs, columns=["user_num", "item_num"])
    for x in (pairs, data, tf.data.Dataset.from_tensor_slices(pairs).batch(2)):
        np.testing.assert_allclose(model.predict(x), expected, rtol=1e-5)
    np.testing.assert_allclose(model.predict(pairs, batch_size=2), expected, rtol=1e-5)
    np.testing.assert_allclose(model(pairs), expected, rtol=1e-5)
    at = tuple(A.indices.numpy().T)
    np.testing.assert_allclose(model(A), scores[at], rtol=1e-4, atol=1e-6)


def test_fit_is_train(A):
    fitted, trained = (small(l2_coeff=0.1, gravity_coeff=0.5) for _ in range(2))
    for model in (fitted, trained):  # both go on with the state of the optimizer
        model.train(A, num_iterations=5, optimizer="adam", learning_rate=0.05)
    dataset = tf.data.Dataset.from_tensors(A)
    history = fitted.fit(dataset, epochs=10, validation_data=A, verbose=0).history
    options = {"optimizer": "adam", "learning_rate": 0.05, "eval_every": 1}
    losses = trained.train(A, num_iterations=10, **options)["loss"]
    np.testing.assert_allclose(fitted.user_embeddings, trained.user_embeddings, atol=1e-5)
    assert fitted.iteration == 15
    # Keras reports the loss of an epoch as it was before its step, and of validation after it.
    np.testing.assert_allclose(history["val_loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(history["loss"][1:], losses[:-1], rtol=1e-5)
    parts = fitted.evaluate(A, verbose=0, return_dict=True)
    mse, l2, pull = loss_in_numpy(fitted, A)
    expected = {"loss": mse + l2 + pull, "mse": mse, "l2": l2, "gravity": pull}
    assert parts == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(fitted.fold_in(A), trained.fold_in(A), atol=1e-5)


def test_fit_takes_callbacks(A, tmp_path):
    A_valid = tensor(random_frame(12, 9, seed=7), 12, 9)
    model = small()
    model.compile(keras.optimizers.Adam(0.3))
    watched = {"monitor": "val_mse", "mode": "min"}
    callbacks = [
        keras.callbacks.EarlyStopping(**watched, patience=3, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", **watched, save_best_only=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    options = {"epochs": 100, "validation_data": A_valid, "verbose": 0, "callbacks": callbacks}
    history = model.fit(A, **options).history
    assert len(history["loss"]) < 100
    assert loss_in_numpy(model, A_valid)[0] == pytest.approx(min(history["val_mse"]), rel=1e-4)
    assert_same(model, keras.models.load_model(tmp_path / "best.keras"))
    assert len(pd.read_csv(tmp_path / "log.csv")) == len(history["loss"])


REFUSED = {
    "y": 1, "batch_size": 3, "sample_weight": np.ones(12), "class_weight": {0: 1.0},
    "validation_split": 0.1, "shuffle": True, "validation_batch_size": 3,
}  # fmt: skip


def test_fit_refuses_what_it_would_not_heed(A):
    model = small()
    model.compile()
    for name, value in REFUSED.items():
        for call in (model.fit, model.evaluate):
            with pytest.raises(ValueError, match=f"^{name} should not be given"):
                call(A, verbose=0, **{name: value})


def test_compile_refuses_another_loss_and_other_metrics():
    for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
        with pytest.raises(ValueError, match=f"^{name} should not be given: the loss is the mod"):
            small().compile(**{name: ["mse"]})


def wrong_ratings(A):
    """What Keras would take, cut into batches, and train as the first users."""
    twice = tf.SparseTensor([[0, 0], [0, 0]], [1.0, 2.0], (12, 9))
    whole, slices = tf.data.Dataset.from_tensors, tf.data.Dataset.from_tensor_slices(A)
    return {
        "a SciPy matrix": scipy.sparse.csr_array(dense(A)[0]),
        "a frame": random_frame(12, 9),
        "nothing": None,
        "slices": slices,
        "a batch of all": slices.batch(12),
        "pairs of tensors": whole((A, A)),
        "another shape": whole(tf.sparse.transpose(A)),
        "a pair twice, found when it comes": whole(twice).repeat(2),
        "a NaN, found when it comes": whole(A).map(lambda B: B.with_values(B.values * np.nan)),
    }


def test_a_model_can_be_made_for_the_shape_of_a_tensor(A):
    model = CFModel(A.shape, 2)
    assert [model.num_users, model.num_items] == A.shape.as_list()


def test_fit_and_evaluate_refuse_what_train_would(A):
    model, validated, untouched = small(), small(), small()
    for each in (model, validated, untouched):
        each.compile(keras.optimizers.Adam(0.1))
    for name, x in wrong_ratings(A).items():
        for call in (model.fit, model.evaluate):
            with pytest.raises(ValueError, match="^x should|^Each pair .x: user_num, x"):
                call(x, verbose=0)
        for values, expected in zip(model.get_weights(), untouched.get_weights(), strict=True):
            np.testing.assert_array_equal(values, expected, err_msg=name)
        if x is not None:
            with pytest.raises(ValueError, match="^validation_data should|^Each pair .valida"):
                validated.fit(A, validation_data=x, verbose=0)
    model.l2_coeff = -1
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="^l2_coeff should be a finite number, 0 or more"):
            call(A)
    model.l2_coeff = untouched.l2_coeff
    for each in (model, untouched):  # it goes on as if nothing had been asked
        each.fit(A, epochs=3, verbose=0)
    assert_same(model, untouched)
    for call in (model.train_on_batch, model.test_on_batch, model.export):
        with pytest.raises(NotImplementedError, match="Call train, fit, evaluate or save"):
            call(A)


def test_another_float_type_of_keras_changes_nothing(A):
    found = []
    for floats in ("float64", "float32"):
        keras.config.set_floatx(floats)
        keras.config.set_dtype_policy(floats)
        try:
            model = small(l2_coeff=0.1)
            model.train(A, num_iterations=3, optimizer="adam", learning_rate=0.1)
            model.fit(A, verbose=0, validation_data=A)
            model.train_als(A, num_iterations=1)
            found.append(model)
        finally:
            keras.config.set_floatx("float32")
            keras.config.set_dtype_policy("float32")
    assert_same(*found)
    assert found[0].user_embeddings.dtype == np.float32


# Arguments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": (0, 3)}, "data: a number should be an integer, 1 or more. Received: 0"),
        ({"data": (2, 2.5)}, "data: a number should be"),
        ({"data": random_frame(2, 3)}, "data should be a Dataset, or a pair .* Received: DataFr"),
        ({"embedding_dim": True}, "embedding_dim should be"),
        ({"l2_coeff": -1}, "l2_coeff should be a finite number, 0 or more. Received: -1"),
        ({"gravity_coeff": np.nan}, "gravity_coeff should be"),
        ({"init_stddev": 0}, "init_stddev should be a finite number, above 0"),
        ({"seed": None}, "seed should be an integer, 0 or more. Received: None"),
    ],
)
def test_constructor_refuses(change, message):
    arguments = {"data": (2, 3), "embedding_dim": 1} | change
    with pytest.raises(ValueError, match=message):
        CFModel(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_iterations": 0}, "num_iterations should be an integer, 1 or more. Received: 0"),
        ({"learning_rate": -1}, "learning_rate should be a finite number, above 0. Received: -1"),
        ({"learning_rate": np.inf}, "learning_rate should be"),
        ({"batch_size": 0}, "batch_size should be"),
        ({"eval_every": 0}, "eval_every should be"),
        ({"patience": 0}, "patience should be"),
        ({"patience": 2, "test": None}, "test should be given if patience is. Received: None"),
        ({"optimizer": "sdg"}, "sdg"),
    ],
)
def test_train_refuses(A, change, message):
    model = small()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        model.train(A, **({"test": A, "num_iterations": 1, "learning_rate": 0.1} | change))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


SPARSE = tf.SparseTensor
WRONG = [
    (np.ones((12, 9)), "should be a Dataset or a tf.SparseTensor"),
    (scipy.sparse.eye_array(12, 9), "should be a Dataset or a tf.SparseTensor"),
    (SPARSE([[0, 0]], [1.0], (9, 12)), r"model's shape \[12, 9\]. Received: \[9, 12\]"),
    (SPARSE(np.zeros((0, 2), int), [], (12, 9)), "at least one rating"),
    (SPARSE([[0, 0]], ["5"], (12, 9)), "all finite"),
    (SPARSE([[0, 0]], [1e15], (12, 9)), r"below 1e\+15"),
    (SPARSE([[12, 0]], [1.0], (12, 9)), "user_num should be from 0 to 11"),
    (SPARSE([[1, 2], [1, 2]], [1.0, 2.0], (12, 9)), r"once. Received: \(1, 2\) again"),
]


@pytest.mark.parametrize(("ratings", "message"), WRONG)
def test_training_refuses_other_tensors(A, ratings, message):
    for call in (small().train, small().train_als):
        with pytest.raises(ValueError, match="train.*" + message):
            call(ratings, num_iterations=1)
        with pytest.raises(ValueError, match="test.*" + message):
            call(A, ratings, num_iterations=1)


def test_embeddings_are_copies():
    model = small()
    with contextlib.suppress(ValueError):  # a read-only array would do as well
        model.user_embeddings[:] = 0
    assert np.abs(model.user_embeddings).min() > 0


def test_models_of_all_shapes_share_one_graph():
    # TensorFlow warns, into notebooks, where a function is traced again and again.
    for rows, dim in ((5, 2), (7, 3), (9, 1), (6, 4)):
        A = tf.sparse.from_dense(np.arange(rows * 3, dtype="f4").reshape(rows, 3))
        CFModel((rows, 3), dim, l2_coeff=0.1).train(A, num_iterations=2, learning_rate=0.001)
    assert _descent.measure_function(1, True).experimental_get_tracing_count() == 1


# Input that means no good


def outcome(model, train):
    """What a call did: "refused" leaves the model as it was, and it is finite whatever happens."""
    before, done = model.get_weights(), "trained"
    try:
        train()
    except ValueError as error:
        assert "should" in str(error)
        for values, expected in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(values, expected)
        done = "refused"
    except FloatingPointError as error:
        assert "The loss should stay finite" in str(error)
        done = "stopped"
    assert all(np.isfinite(values).all() for values in model.get_weights())
    return done


@pytest.mark.parametrize(
    ("shape", "value"),
    [((1, 1, 1), 0.0), ((4, 1, 9), -3.0), ((3, 2, 1), 1e14)],
)
def test_factorizations_of_any_shape(shape, value):
    """One user, one item, empty users, equal ratings, d = 1, d above N and M."""
    N, M, d = shape
    A = tensor(frame(*((0, item, value) for item in range(M))), N, M)
    options = {"num_iterations": 3, "learning_rate": 0.01}
    ways = [
        (0.1, lambda m: m.train(A, **options)),
        (0.0, lambda m: m.train(A, **options, batch_size=2)),
        (0.1, lambda m: m.train_als(A, num_iterations=3)),
        (0.0, lambda m: m.train_als(A, num_iterations=3)),
    ]
    for number, (l2_coeff, way) in enumerate(ways):
        model = CFModel((N, M), d, l2_coeff=l2_coeff, gravity_coeff=l2_coeff)
        done = outcome(model, lambda w=way, m=model: w(m))
        # Zeros shrink the embeddings until there is nothing left to solve with.
        assert done == "trained" or value > 1e10 or (value == 0 and number == 3)
        if done == "trained" and value == -3 and number == 3:
            # One user's ratings are always fitted exactly: rank one is enough.
            predicted = model.user_embeddings[0] @ model.item_embeddings.T
            np.testing.assert_allclose(predicted, value, atol=3e-3)
        assert model.predict([[N - 1, M - 1]]).shape == (1,)


@settings(max_examples=40)
@given(
    arrays(np.float32, 3, elements=st.floats(width=32)),
    st.lists(st.tuples(st.integers(-2, 4), st.integers(-2, 5)), min_size=3, max_size=3),
)
def test_training_on_any_tensor(values, pairs):
    """Values that are not finite, indices outside or twice: refused, the model unchanged."""
    A = tf.SparseTensor(np.array(pairs, np.int64), values, (3, 4))
    inside = all(0 <= u < 3 and 0 <= i < 4 for u, i in pairs) and len(set(pairs)) == 3
    good = inside and np.isfinite(values).all() and np.abs(values).max() < 1e15
    model = CFModel((3, 4), 2)
    done = outcome(model, lambda: model.train(A, num_iterations=1, learning_rate=1e-3))
    assert (done == "refused") == (not good)
    if good and np.abs(values).max() < 1e3:
        assert done == "trained"


ROWS = st.one_of(
    st.integers(-3, 5),
    st.sampled_from([2**31, 2**62, 2**63, 10**30, -(2**63), 1.5, np.nan, None, True, "1", ""]),
)
STARS = st.one_of(st.floats(-10, 10), st.sampled_from([np.nan, np.inf, 1e300, None, "five"]))


@settings(max_examples=60)
@given(st.lists(ROWS, max_size=3), st.lists(STARS, max_size=3))
def test_fold_in_of_anything(rows, ratings):
    """Somebody's ratings give a finite embedding, or are refused by name."""
    model = folding()
    good = len(rows) == len(ratings) and all(type(row) is int and 0 <= row < 9 for row in rows)
    good = good and len(set(rows)) == len(rows)
    good = good and all(isinstance(r, float) and abs(r) < 1e9 for r in ratings)
    try:
        parts = model.fold_in_parts(rows, ratings)
    except ValueError as error:
        assert not good, error
        assert "should" in str(error)
    else:
        assert parts.shape == (len(rows), 3)
        assert np.isfinite(parts).all() or max(map(abs, ratings)) > 1e9


@settings(max_examples=40)
@given(st.lists(st.tuples(ROWS, ROWS), max_size=3))
def test_predictions_for_any_pairs(pairs):
    model = folding()
    good = all(type(n) is int for pair in pairs for n in pair) and len(pairs) > 0
    good = good and all(u in range(12) and i in range(9) for u, i in pairs)
    try:
        predicted = model.predict(pd.DataFrame(pairs, dtype=object).infer_objects())
    except ValueError as error:
        assert "x should be integers [n, 2], user_num below 12" in str(error)
        assert not good
    else:
        for (u, i), value in zip(pairs, predicted, strict=True):
            expected = model.user_embeddings[int(u)] @ model.item_embeddings[int(i)]
            assert value == pytest.approx(expected, abs=1e-5)


@functools.cache
def folding():
    model = small(l2_coeff=0.1)
    model.train_als(tensor(random_frame(12, 9), 12, 9), num_iterations=2)
    return model


# Large data, by small pieces


def test_least_squares_in_pieces_and_threads(monkeypatch):
    # Rows of 0 to 70 ratings: some longer than a piece, several pieces in a block, several blocks.
    A = tensor(random_frame(40, 70, density=0.7), 40, 70)
    found = {}
    for piece, block, workers in ((2**18, 20_000, 1), (160, 200, 1), (160, 200, 3)):
        monkeypatch.setattr(_als, "_PIECE", piece)
        monkeypatch.setattr(_als, "_BLOCK", block)
        monkeypatch.setattr(_als, "_WORKERS", workers)
        model = CFModel((40, 70), 5, l2_coeff=0.1, gravity_coeff=0.1, init_stddev=0.5)
        model.train_als(A, num_iterations=3)
        found[block, workers] = model.user_embeddings
    np.testing.assert_allclose(found[200, 1], found[20_000, 1], atol=1e-4)
    np.testing.assert_array_equal(found[200, 3], found[200, 1])
    monkeypatch.setattr(_als, "_BLOCK", 100)
    blocks = _als._blocks(np.array([0, 7, 70, 0, 3, 7]), 5)
    # Work 70 + 20, 7 + 20, 7 + 20, 3 + 20 makes 90, 117, 144, 167; equals stay in their order.
    assert [block.tolist() for block in blocks] == [[2], [1, 5, 4]]


def test_a_batch_without_ratings_has_no_gradient():
    # Machine 1 of 2 has user 1, whose ratings are all in the second batch.
    users, items = np.int32([[0, 0, 1, 1], [0, 1, 0, 1]])
    parts, sizes = _descent.sparse_tables(users, items, np.ones(4, "f4"), 2, None, (1, 2))
    assert sizes.tolist() == [2, 2]
    U, V = tf.fill([2, 1], 2.0), tf.fill([2, 1], 3.0)
    for numbers, error in (([0], 0.0), ([1], 5.0), ([0, 1], 5.0)):  # 2 * 3 - 1
        by_user, by_item = _descent.sparse_gradient(parts, tf.constant(numbers), 1.0, None, U, V)
        np.testing.assert_array_equal(by_user, [[0], [2 * error * 3]])
        np.testing.assert_array_equal(by_item, [[error * 2]] * 2)

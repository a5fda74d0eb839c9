"""The softmax model: what it computes, what it must not see, and how it trains."""

import dataclasses

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from cfutils import _histories
from cfutils._tensorflow import keras, tf
from cfutils.data import Dataset
from cfutils.factorization import load_model, ratings_tensor
from cfutils.metrics import chance_metrics, ranking_metrics
from cfutils.softmax import SoftmaxModel, split_histories

# Keras itself still converts tensors the way that NumPy 2.4 warns of, when it saves.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

N, M = 30, 12


def tensor(table):
    table = np.asarray(table, np.float32)
    return tf.SparseTensor(np.argwhere(table), table[table != 0], table.shape)


def dataset(table, users="u", items="i"):
    """The ratings of a table by users "u0", "u1"... of items "i0", "i1"..."""
    user_nums, item_nums = np.nonzero(table)
    ids = [f"{items}{n}" for n in range(table.shape[1])]
    return Dataset(
        pd.DataFrame({"user_id": [f"{users}{n}" for n in range(len(table))]}),
        pd.DataFrame({"item_id": ids, "title": ids}),
        pd.DataFrame({"user_num": user_nums, "item_num": item_nums, "rating": table[table != 0]}),
    )


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
ALL = {"item_features": FEATURES, "input_dims": DIMS, "hidden_dims": (7, 4), "tied": False}
TOWERS = [
    {},
    {"rating_power": 2.0},
    {"hidden_dims": (7,), "rating_power": 1.0},
    ALL,
]


def small(**options):
    return SoftmaxModel((N, M), **({"input_dims": 5, "seed": 3} | options))


def psi_in_numpy(model, table, features=None):
    """The tower, user by user."""
    names = [layer.name for layer in model.layers]

    def weights(name):
        return [v.numpy().astype(np.float64) for v in model.get_layer(name).weights]

    inputs = weights("item_table" if model.tied else "input_table")[0]
    result = []
    for row in table:
        w = np.where(row > 0, row.astype(np.float64) ** model.rating_power, 0)
        w = w / w.sum() if w.any() else w
        bags = [w @ inputs]
        for name, values in (features or {}).items():
            bags.append(w @ values @ weights(f"embed_{name}")[0])
        h = np.concatenate(bags)
        for layer in range(len(model.hidden_dims)):
            W, b = weights(f"hidden_{layer}")
            h = np.maximum(h @ W + b, 0)
        result.append(h @ weights("projection")[0] if "projection" in names else h)
    return np.array(result)


def cross_entropy_in_numpy(model, inputs, labels):
    """The mean of -log p over labels, weighted as the model weighs ratings."""
    inputs, labels = (tf.sparse.to_dense(part).numpy() for part in (inputs, labels))
    logits = psi_in_numpy(model, inputs) @ model.item_embeddings.T.astype(np.float64)
    w = np.where(labels > 0, labels.astype(np.float64) ** model.rating_power, 0)
    return -(w * scipy.special.log_softmax(logits, axis=1)).sum() / w.sum()


def assert_same(one, other):
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


# Splitting histories


@settings(deadline=None, max_examples=40)
@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 9))).filter(np.any),
    st.floats(0.01, 0.99),
    st.integers(0, 2**40),
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
    labels = tf.sparse.to_dense(split_histories(tensor(np.ones((400, 4))), 0.5, seed=0)[1]).numpy()
    # Binomial with n = 400, p = 1/2: standard deviation 10.
    assert np.abs(labels.sum(axis=0) - 200).max() < 40


def test_split_follows_the_seed_and_not_the_order(table, A):
    once, again, other = (split_histories(A, 0.5, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(once.indices, again.indices)
    assert not np.array_equal(once.indices, other.indices)
    order = np.random.default_rng(0).permutation(len(A.values))
    shuffled = tf.SparseTensor(A.indices.numpy()[order], A.values.numpy()[order], A.shape)
    for same in (shuffled, dataset(table)):
        np.testing.assert_array_equal(split_histories(same, 0.5, 1)[1].indices, once.indices)
    for share in (0, 1, -0.1, np.nan, "half"):
        with pytest.raises(ValueError, match="fraction should be"):
            split_histories(A, share)


# What the tower computes


def test_pooling_by_hand():
    # Weights 1 and 3 of rows 0 and 2; nothing; row 1 alone, whatever its weight.
    history = tf.SparseTensor([[0, 0], [0, 2], [2, 1]], [1.0, 3.0, 0.5], (3, 3))
    table = tf.constant([[4.0, 0.0], [1.0, 2.0], [8.0, 4.0]])
    with tf.GradientTape() as tape:
        tape.watch(table)
        pooled = _histories.HistoryPooling()(history, table)
        total = tf.reduce_sum(pooled)
    np.testing.assert_array_equal(pooled, [[7, 3], [0, 0], [1, 2]])
    nothing = tf.sparse.from_dense(tf.zeros((2, 3)))
    np.testing.assert_array_equal(_histories.HistoryPooling()(nothing, table), np.zeros((2, 2)))
    np.testing.assert_array_equal(
        tape.gradient(total, table), np.array([[0.25], [1], [0.75]]) @ [[1, 1]]
    )


@pytest.mark.parametrize("options", TOWERS)
def test_tower_is_its_formula(table, A, options):
    model = small(**options)
    for variable in model.trainable_variables:  # biases are not zero then
        variable.assign_add(0.1 * tf.ones(variable.shape))
    expected = psi_in_numpy(model, table, options.get("item_features"))
    found = model.fold_in(A)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32
    for same in (dataset(table), scipy.sparse.coo_array(table)):
        np.testing.assert_array_equal(model.fold_in(same), found)
    np.testing.assert_allclose(model(A), found @ model.item_embeddings.T, atol=1e-5)
    weights = tf.SparseTensor(A.indices, A.values**model.rating_power, A.shape)
    np.testing.assert_allclose(model.tower()(weights), found, atol=1e-6)


def test_the_seed_fills_the_tower():
    model = small(**ALL)
    generator = np.random.default_rng(3)
    for name, shape, stddev in (
        ("item_table", (M, 5), 0.2),
        ("input_table", (M, 5), 0.2),
        ("embed_genres", (3, 2), 0.2),
        ("embed_decade", (4, 3), 0.2),
        ("hidden_0", (10, 7), (2 / 10) ** 0.5),
        ("hidden_1", (7, 4), (2 / 7) ** 0.5),
        ("projection", (4, 5), 4**-0.5),
    ):
        found = model.get_layer(name).weights[0]
        np.testing.assert_allclose(found, generator.normal(0, stddev, shape), rtol=1e-6)
    np.testing.assert_array_equal(model.get_layer("item_table").embeddings, model.item_embeddings)
    assert sum(variable.shape.num_elements() for variable in model.trainable_variables) == 267


@pytest.mark.parametrize("options", TOWERS)
def test_parts_of_a_row(table, A, options):
    model = small(**options)
    (items,) = np.nonzero(table[6])
    psi = model.fold_in(A)[6]
    np.testing.assert_allclose(model.fold_in(tensor(table[6:7]))[0], psi, atol=1e-6)  # on its own
    items = items[::-1]  # in any order
    parts = model.fold_in_parts(items, table[6, items])
    for item, part in zip(items, parts, strict=True):
        row = table[6].copy()
        row[item] = 0
        without = psi_in_numpy(model, [row], options.get("item_features"))[0]
        np.testing.assert_allclose(part, psi - without, atol=1e-5)
    assert model.fold_in_parts([], []).shape == (0, 5)
    with pytest.raises(ValueError, match="item_nums should be from 0 to 11. Received: 12"):
        model.fold_in_parts([3, 12], [1, 1])


# What it must not see


@pytest.mark.parametrize("options", TOWERS)
def test_no_score_changes_with_a_held_out_rating(table, options):
    """Scores are computed from the inputs; whatever the labels were, they are the same."""
    model = small(**options)
    inputs, labels = split_histories(tensor(table), 0.5, seed=0)
    before = model(inputs).numpy()

    def scores_if(user, item):
        changed = table.copy()
        changed[user, item] = 1 if changed[user, item] == 5 else 5
        return model(split_histories(tensor(changed), 0.5, seed=0)[0]).numpy()

    for user, item in labels.indices.numpy()[::4]:
        np.testing.assert_array_equal(scores_if(user, item), before)
    # The same change to an input is seen, where ratings count.
    moved = scores_if(*inputs.indices.numpy()[0])
    assert np.array_equal(moved, before) == (model.rating_power == 0)


def test_a_training_step_never_shows_its_labels(A, monkeypatch):
    """Every loss that training computes: no entry is input and label at once."""
    seen, original = [], SoftmaxModel._psi

    def psi(self, history, rows):
        seen.append(history.indices.numpy())
        return original(self, history, rows)

    def loss(users, items, labels):
        given, asked = ({*map(tuple, part)} for part in (seen[-1], labels.indices.numpy()))
        assert len(given) * len(asked) > 0
        assert not given & asked
        assert given | asked == {*map(tuple, A.indices.numpy())}
        return tf.reduce_sum(users) * 0, 1.0

    model = small()
    monkeypatch.setattr(SoftmaxModel, "_psi", psi)
    monkeypatch.setattr("cfutils.softmax.summed_softmax_loss", loss)
    for step in range(20):
        model._iteration.assign(step)
        model._loss_parts(A)
    assert len({part.tobytes() for part in seen}) > 15  # and each step splits anew


def structureless(seed, num_users=300, num_items=60, share=0.3):
    rng = np.random.default_rng(seed)
    filled = rng.random((num_users, num_items)) < share
    return dataset(filled * rng.integers(1, 6, filled.shape).astype(float))


def standard_errors_from_chance(model, histories, train, test):
    scores = model.fold_in(histories) @ model.item_embeddings.T
    gap = ranking_metrics(scores, train, test) - chance_metrics(train, test)
    names = ["recall", "ndcg", "precision"]
    return (gap[names].mean() / gap[names].sem()).to_numpy()


@pytest.mark.parametrize(
    "options", [{}, {"rating_power": 2.0}, {"hidden_dims": (16,), "tied": False}]
)
def test_structureless_data_give_chance(options):
    data = structureless(seed=0)
    train, test = data.split(test_fraction=0.2, seed=0)
    model = SoftmaxModel(data, input_dims=16, seed=1, **options)
    model.train(train, num_iterations=60, learning_rate=0.03, eval_every=60)
    assert np.abs(standard_errors_from_chance(model, train, train, test)).max() < 4
    # Users never seen in training.
    history, hidden = structureless(seed=9).split(test_fraction=0.2, seed=0)
    assert np.abs(standard_errors_from_chance(model, history, history, hidden)).max() < 4
    # The same figures if the test ratings are in the histories: far from chance.
    if "hidden_dims" not in options:
        assert standard_errors_from_chance(model, data, train, test).min() > 4


def test_checkerboard_gives_back_what_was_withheld():
    # Users rate the items of their own parity; one each is withheld.
    users, items = np.indices((40, 20))
    rated = users % 2 == items % 2
    withheld = rated & (items // 2 == users % 10)
    data = dataset(4.0 * rated)
    train, test = (
        dataclasses.replace(data, ratings=dataset(4.0 * part).ratings)
        for part in (rated & ~withheld, withheld)
    )
    model = SoftmaxModel(data, input_dims=4)
    model.train(train, num_iterations=100, learning_rate=0.05)
    scores = model.fold_in(train) @ model.item_embeddings.T
    found = ranking_metrics(scores, train, test, k=1, relevant_rating=4)
    assert found["recall"].min() == 1


# Ids


def test_datasets_are_matched_by_item(table, A):
    """Items in another order, some of them missing, one that nobody rated new; other users."""
    model, by_row = SoftmaxModel(dataset(table), input_dims=5, seed=3), small()
    assert model.item_ids.tolist() == [f"i{n}" for n in range(M)]
    order = np.random.default_rng(0).permutation(M)
    ids = [f"i{n}" for n in order] + ["new"]
    other = dataset(np.c_[table[:, order], np.zeros(N)], users="other")
    other = dataclasses.replace(other, items=pd.DataFrame({"item_id": ids, "title": ids}))
    np.testing.assert_array_equal(model.fold_in(other), by_row.fold_in(A))
    options = {"num_iterations": 3, "learning_rate": 0.1}
    for data, history in ((other, model), (A, by_row)):
        history.train(data, data, **options)
    assert_same(model, by_row)
    model.compile("adam")
    by_row.compile("adam")
    assert model.evaluate(other, verbose=0) == by_row.evaluate(A, verbose=0)
    strange = dataset(np.c_[table, np.ones((N, 2))])
    for call in (model.fold_in, model.evaluate, lambda data: model.train(data, num_iterations=1)):
        with pytest.raises(ValueError, match="2 of 14 that are not in it: 'i12', 'i13'"):
            call(strange)


# Other data


@pytest.fixture
def today(table):
    """The items i11, i10 ... i3 and a new one, other users."""
    data = dataset(np.c_[table[:, :2:-1], table[:, 1]], users="other")
    ids = [f"i{n}" for n in range(11, 2, -1)] + ["new"]
    return dataclasses.replace(data, items=pd.DataFrame({"item_id": ids, "title": ids}))


def features_of(data, features=FEATURES):
    """The rows of known items, that of i0 for a new one; features in another order."""
    rows = [int(id_[1:]) if id_ != "new" else 0 for id_ in data.items["item_id"]]
    return {name: features[name][rows] for name in ("decade", "genres")}


@pytest.mark.parametrize("options", TOWERS)
def test_a_model_goes_on_with_other_items(table, today, options, tmp_path):
    data = dataset(table)
    model = SoftmaxModel(data, **({"input_dims": 5, "seed": 3} | options))
    model.train(data, num_iterations=4, learning_rate=0.1)
    model.save(tmp_path / "a.keras")
    before = model.get_weights()
    features = [features_of(today)] if "item_features" in options else []
    others = {name: value for name, value in options.items() if name != "item_features"}
    fresh = SoftmaxModel(today, *features, **({"input_dims": 5, "seed": 3} | others))
    for old in (model, load_model(tmp_path / "a.keras")):
        with pytest.warns(UserWarning, match="^data lacks 3 of 12 items of the model: they"):
            new = old.for_data(today, *features)
        assert new.iteration == 4
        assert new.item_ids.tolist() == today.items["item_id"].tolist()
        for layer in new.layers:
            for found, was, first in zip(
                layer.weights,
                model.get_layer(layer.name).weights,
                fresh.get_layer(layer.name).weights,
                strict=True,
            ):
                expected = was.numpy()
                if layer.name.endswith("_of_items"):
                    expected = features_of(today)[layer.name.removesuffix("_of_items")]
                elif layer.name.endswith("_table"):
                    joined = pd.DataFrame(expected, index=model.item_ids).reindex(new.item_ids)
                    expected = np.r_[joined[:-1], first.numpy()[-1:]]
                np.testing.assert_array_equal(found, expected, err_msg=layer.name)
    for values, same in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(values, same)
    known = table * (np.arange(M) > 2)  # histories of items that both know
    psi = new.fold_in(dataclasses.replace(today, ratings=today.ratings.query("item_num < 9")))
    np.testing.assert_allclose(psi, model.fold_in(tensor(known)), atol=1e-5)
    history = new.train(today, num_iterations=2, learning_rate=0.1)
    assert history["iteration"].tolist() == [6]


@pytest.mark.parametrize("options", [{}, ALL])
def test_the_same_data_give_the_same_model(table, A, options):
    model = SoftmaxModel(dataset(table), **({"input_dims": 5} | options))
    model.train(A, num_iterations=3, learning_rate=0.1)
    features = [FEATURES] if options else []
    new, hand = model.for_data(dataset(table), *features), small(seed=0, **options)
    assert_same(model, new)
    np.testing.assert_array_equal(new(A), model(A))
    hand.set_weights(model.get_weights())
    for each in (new, hand):  # a model with these numbers, and an optimizer without state
        each.train(A, num_iterations=3, learning_rate=0.1, batch_size=7)
    assert_same(new, hand)
    assert not hasattr(new, "user_num_ratings")


@pytest.mark.filterwarnings("ignore:data lacks")
def test_columns_of_features_stay_what_they_were(table, today):
    features = FEATURES | {"decade": np.eye(4)[np.arange(M) % 4]}
    model, right = SoftmaxModel(dataset(table), features, DIMS), features_of(today, features)
    sizes = r"model learned: \{'genres': 3, 'decade': 4\}. Received: "
    wider = np.c_[right["genres"][:, :1], np.eye(10, 1), right["genres"][:, 1:]]
    for features, message in (
        (None, r"\{\}. Leave new ones out"),
        ({"genres": right["genres"]}, r"\{'genres': 3\}"),
        (right | {"studio": np.ones((10, 2))}, "'studio': 2"),
        (right | {"genres": wider}, "'genres': 4"),
        # As many columns, but the first decade is gone and there is one behind the last.
        (
            right | {"decade": np.roll(right["decade"], -1, axis=1)},
            r"others in the place of 'decade",
        ),
    ):
        with pytest.raises(ValueError, match=sizes + ".*" + message):
            model.for_data(today, features)
    with pytest.raises(ValueError, match=r"finite arrays \[10, size\]"):
        model.for_data(today, FEATURES)
    model.for_data(today, right | {"genres": np.delete(wider, 1, axis=1)})  # the advice
    corrected = right["decade"].copy()
    corrected[0] = [1, 0, 0, 0]  # the year of i11 was wrong; i3 and i7 are of its decade too
    assert not (corrected == right["decade"]).all()
    model.for_data(today, right | {"decade": corrected})
    plain = SoftmaxModel(dataset(table))
    with pytest.raises(ValueError, match=r"learned: \{\}. Received: \{'decade': 4"):
        plain.for_data(today, right)
    with pytest.raises(ValueError, match="made for a pair"):
        small().for_data(today)
    with pytest.raises(ValueError, match="data should be a Dataset"):
        model.for_data(tensor(table))


# Training


@pytest.mark.parametrize(
    ("tower", "options"),
    [({}, {}), (ALL, {"batch_size": 7}), ({}, {"batch_size": 7, "num_sampled": 20})],
)
@pytest.mark.slow
def test_training_goes_on_also_from_a_file(A, options, tower, tmp_path):
    once, twice = small(**tower), small(**tower)
    options = {"learning_rate": 0.05, **options}
    once.train(A, num_iterations=14, **options)
    twice.train(A, num_iterations=6, **options)
    twice.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.get_config() == twice.get_config()
    for model in (twice, loaded):
        history = model.train(A, num_iterations=8, **options)
        assert history["iteration"].tolist() == [14]
        assert_same(once, model)
    np.testing.assert_array_equal(loaded(A), once(A))


CHANGES = [
    ("train", {"batch_size": 4}, {}),
    ("train", {"num_sampled": 5}, {}),
    ("train", {"optimizer": "adam"}, {}),
    ("train", {"rows": 11}, {}),
    ("fit", {"rows": 11}, {}),
    *((way, {}, {"dropout": 0.2}) for way in ("train", "fit")),
    *((way, {}, {"rating_power": 2.0}) for way in ("train", "fit")),
]


@pytest.mark.parametrize(("way", "options", "settings"), CHANGES)
@pytest.mark.slow
def test_what_changes_between_two_trainings_takes_effect(table, way, options, settings):
    """As for a new model of the same weights."""

    def train(model, rows=N, **how):
        if way == "fit":
            model.fit(tensor(table[:rows]), epochs=4, verbose=0)
        else:
            how = {"optimizer": "sgd", "learning_rate": 0.5} | how
            model.train(tensor(table[:rows]), num_iterations=4, **how)

    model, new = small(), small(**settings)
    for each in (model, new):
        each.compile(keras.optimizers.SGD(0.5))
    train(model)
    state = model.get_weights()
    train(model)
    unchanged = model.item_embeddings
    for each in (model, new):
        each.set_weights(state)
    for name, value in settings.items():
        setattr(model, name, value)
    train(model, **options)
    train(new, **options)
    assert_same(model, new)
    assert not np.array_equal(model.item_embeddings, unchanged)
    np.testing.assert_array_equal(model(tensor(table)), new(tensor(table)))


def test_a_batch_without_labels_changes_nothing(table):
    """Users of a single rating, one at a time."""
    lonely = tensor(np.eye(6, M) + np.eye(6, M, 1) * (np.arange(6) == 2)[:, None])
    model = small()
    history = model.train(
        lonely, num_iterations=6, batch_size=1, eval_every=1, optimizer="sgd", learning_rate=1.0
    )
    assert (history["train_loss"].diff()[1:] != 0).sum() == 1  # user 2 has a label


def test_history_holds_the_cross_entropies(table, A):
    model, untrained = small(rating_power=2.0), small(rating_power=2.0)
    held_out, pair = tensor(table[:10]), split_histories(A, 0.4, seed=8)
    history = model.train(A, held_out, num_iterations=25, learning_rate=0.03, eval_every=10)
    assert history.columns.tolist() == ["iteration", "seconds", "train_loss", "validation_loss"]
    assert history["iteration"].tolist() == [0, 10, 20, 25]
    for row, at in ((0, untrained), (3, model)):
        for column, data in (("train_loss", A), ("validation_loss", held_out)):
            expected = cross_entropy_in_numpy(at, *split_histories(data, 0.2, seed=3))
            np.testing.assert_allclose(history[column][row], expected, rtol=1e-5)
    assert history["train_loss"].is_monotonic_decreasing
    expected = cross_entropy_in_numpy(untrained, *pair)
    row = untrained.train(A, pair, num_iterations=1).iloc[0]
    np.testing.assert_allclose(row["validation_loss"], expected, rtol=1e-5)
    assert np.isnan(untrained.train(A, num_iterations=1)["validation_loss"]).all()


def test_losses_are_measured_in_blocks_and_of_some_users_alike(table, A, monkeypatch):
    def first_row(validation=A):
        return small().train(A, validation, num_iterations=1).iloc[0, 2:].to_numpy(float)

    chosen = np.sort(np.random.default_rng(3).permutation(N)[:10])
    whole, expected = first_row(), first_row(tensor(table[chosen]))[1]
    monkeypatch.setattr("cfutils.softmax._CELLS", 4 * M)
    np.testing.assert_allclose(first_row(), whole, rtol=1e-5)
    monkeypatch.setattr("cfutils.softmax._MEASURED", 10)
    np.testing.assert_allclose(first_row()[0], expected, rtol=1e-5)


def test_patience_watches_the_validation(A):
    model = small(input_dims=8)
    other = tensor(np.random.default_rng(5).integers(1, 6, (20, M)))  # nothing to learn about these
    history = model.train(A, other, num_iterations=200, patience=4, learning_rate=0.3, eval_every=1)
    best = int(history["validation_loss"].idxmin())
    assert (len(history), model.iteration) == (best + 5, best)
    expected = cross_entropy_in_numpy(model, *split_histories(other, 0.2, seed=3))
    np.testing.assert_allclose(history["validation_loss"][best], expected, rtol=1e-5)


def test_many_samples_come_near_the_full_softmax(A):
    full, sampled = small(), small()
    for model, number in ((full, None), (sampled, 20_000)):
        model.train(A, num_iterations=20, learning_rate=0.05, num_sampled=number)
    change = full.item_embeddings - small().item_embeddings
    gap = sampled.item_embeddings - full.item_embeddings
    assert np.abs(gap).max() < 0.05 * np.abs(change).max()


def test_sampled_steps_leave_other_items_alone():
    # 6 users who rate items 0..9 of 5,000; 5 samples a step.
    users, items = np.indices((6, 5000))
    A = tensor(3.0 * ((items < 10) & ((users + items) % 3 > 0)))
    model = SoftmaxModel((6, 5000), input_dims=4)
    before = model.item_embeddings
    model.train(A, num_iterations=3, learning_rate=1.0, optimizer="sgd", num_sampled=5)
    changed = (model.item_embeddings != before).any(axis=1)
    assert changed[:10].all()
    assert changed[10:].sum() <= 15


def test_threads_do_not_change_what_is_learned(movielens):
    # At this size every product is shared between threads; on small ones a race would not show.
    A = ratings_tensor(movielens)
    once, twice = (SoftmaxModel(movielens, seed=1) for _ in range(2))
    once.train(A, num_iterations=12, learning_rate=0.05)
    for _ in range(2):
        twice.train(movielens, num_iterations=6, learning_rate=0.05)
    np.testing.assert_array_equal(once.item_embeddings, twice.item_embeddings)


# Keras


def test_keras_fit_and_evaluate(A):
    model, other = small(), small()
    model.compile(keras.optimizers.Adam(0.05))
    done = model.fit(A, validation_data=A, epochs=4, verbose=0)
    assert list(done.history) == ["loss", "val_loss"]
    # The same 4 steps by `train`, and the loss that it measures.
    history = other.train(A, A, num_iterations=4, learning_rate=0.05)
    np.testing.assert_allclose(other.item_embeddings, model.item_embeddings, atol=1e-5)
    np.testing.assert_allclose(
        model.evaluate(A, verbose=0), history["validation_loss"].iloc[-1], rtol=1e-5
    )
    order = np.random.default_rng(0).permutation(len(A.values))
    shuffled = tf.SparseTensor(A.indices.numpy()[order], A.values.numpy()[order], A.shape)
    assert model.evaluate(shuffled, verbose=0) == model.evaluate(A, verbose=0)
    np.testing.assert_array_equal(model(shuffled), model(A))
    model.fit(tf.data.Dataset.from_tensors(A).repeat(2), epochs=1, verbose=0)
    assert model.iteration == 6


def test_float64_elsewhere_does_no_harm(A):
    keras.config.set_floatx("float64")
    try:
        model = small(**ALL)
        model.train(A, num_iterations=2, num_sampled=5)
        assert {w.dtype for w in model.weights} == {"float32", "int64"}
    finally:
        keras.config.set_floatx("float32")


# Arguments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size should be"),
        ({"num_sampled": 0}, "num_sampled should be"),
        ({"validation": 3}, "validation should be a Dataset or a tf.SparseTensor"),
        ({"train": np.ones((N, M))}, "train should be a Dataset or a tf.SparseTensor"),
        ({"train": tensor(np.ones((N, 5)))}, "train should have the model's shape"),
        ({"train": tensor(np.eye(M))}, "train should have a history of two ratings or more"),
        ({"validation": tensor(np.eye(M))}, "validation should have a history of two ratings"),
        (
            {"validation": [tensor(np.ones((n, M))) for n in (3, 2)]},
            "same users. Received: 3 and 2",
        ),
    ],
)
def test_train_refuses(A, change, message):
    with pytest.raises(ValueError, match=message):
        small().train(**({"train": A, "num_iterations": 1} | change))


def test_negative_ratings_have_to_weigh_alike(table):
    def trainings(model):
        model.compile("adam")
        return (
            lambda A: model.train(A, num_iterations=1),
            lambda A: model.fit(A, verbose=0),
            lambda A: model.fit(tf.data.Dataset.from_tensors(A), verbose=0),
        )

    trainings(small())[0](tensor(-table))
    for run in trainings(small(rating_power=2.0)):
        with pytest.raises(ValueError, match="should hold no negative ratings if rating_power is"):
            run(tensor(-table))
        with pytest.raises(ValueError, match="should have a history of two ratings or more"):
            run(tensor(np.eye(M)))
    zeros = tf.SparseTensor([[0, 0], [0, 1]], [0.0, 0.0], (N, M))
    with pytest.raises(ValueError, match="train should have a label of positive weight"):
        small(rating_power=1.0).train(zeros, num_iterations=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": (3, 0)}, "should be an integer, 1 or more"),
        ({"data": 12}, "data should be a Dataset, or a pair"),
        ({"input_dims": 0}, "input_dims should be an integer, 1 or more"),
        ({"input_dims": {"movie": 3}}, r"input_dims should have a width for each of \['item'\]"),
        ({"hidden_dims": (0,)}, "hidden_dims should be"),
        ({"rating_power": -1}, "rating_power should be"),
        ({"dropout": 1}, "dropout should be above 0 and below 1"),
        ({"init_stddev": 0}, "init_stddev should be"),
        ({"seed": -1}, "seed should be"),
        ({"item_features": {"genres": np.ones((3, 2))}}, r"finite arrays \[12, size\]"),
        ({"item_features": {"item": np.ones((M, 2))}}, "other than 'item'"),
        ({"item_features": 32}, "a dict of arrays.* Received: 32. Widths are named: input_dims=32"),
    ],
)
def test_constructor_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxModel(**({"data": (N, M)} | change))

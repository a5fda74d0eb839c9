"""The softmax model: which items a user rates, predicted from those that the user has rated.

The embedding psi(x) of a user is computed from the history x, so that users who were never seen in
training are served like all others. With V the item embeddings, p(x) = softmax(psi(x) V^T).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from cfutils import _checks, _histories, _tensors
from cfutils._tensorflow import keras, tf
from cfutils._training import TrainedModel
from cfutils.data import Dataset
from cfutils.losses import summed_softmax_loss

__all__ = ["SoftmaxModel", "split_histories"]

_HELD_OUT = 0.2  # share of a history that serves as labels where a loss is measured
_MEASURED = 1024  # training users whose loss is measured
_CELLS = 2**24  # scores held at once while measuring: 64 MiB


def split_histories(
    A: Dataset | tf.SparseTensor, fraction: float, seed: int = 0
) -> tuple[tf.SparseTensor, tf.SparseTensor]:
    """Take labels out of histories: a random part of each row becomes labels, the rest is input.

    Args:
        A: ratings [n, M]; row i is the history of user i.
        fraction: share of each row that becomes labels, above 0 and below 1, rounded; but a row of
            two or more gives one label and keeps one entry at least, and a single entry stays.
        seed: integer from 0 that decides which.

    Returns `(inputs, labels)`, [n, M] with the values of `A`; each entry of `A` is in one of them.
    """
    fraction, seed = _checks.share("fraction", fraction), _checks.integer("seed", seed, 0)
    whole = _tensors.ratings_tensor(A) if isinstance(A, Dataset) else A
    whole = _tensors.canonical("A", whole, (None, None))
    return tuple(_histories.split(whole, fraction, seed, 0))


@keras.saving.register_keras_serializable(package="cfutils")
class SoftmaxModel(TrainedModel):
    """Predicts which items a user rates: p(x) = softmax(psi(x) V^T) for the history x.

    The tower psi, for a history of items j with weights w_j, in the layers that `summary()` lists:

        pool_item       the mean sum_j w_j V_j / sum_j w_j of rows of V, the `item_table`     [d]
        pool_genres     for a feature "genres", the same mean of what items are made up of
        embed_genres    that times a table of embeddings                  [input_dims of genres]
        bags            the bags of items and features, one after the other
        hidden_0, ...   h = relu(W h + b)                                          [hidden_dims]
        projection      a linear map, without bias, to the width of V                         [d]

    V serves the input and scores the items (tied). Without features and hidden layers there is no
    projection, and psi(x) is simply the mean of the history's rows of V.

    In each step of training, every history is split at random: `dropout` of it becomes the labels,
    and the rest is the input, features included. So no label is ever in the input, and the model
    learns to answer to short histories. Keras' `fit` and `evaluate` do the same; calling the model
    on a `tf.SparseTensor` of ratings [n, M] gives the scores psi(x) V^T [n, M].

    Args:
        data: as for `CFModel`; whose ratings it holds does not matter, any row is a history.
        item_features: further features by name, arrays [M, size]: row j says how item j is made up
            of the feature's values, as in `Dataset.item_features`.
        input_dims: width of all embeddings, or a dict of them by feature; that of "item" is d.
        hidden_dims: widths of the hidden layers; () for none.
        tied: False pools the history from a table of its own, `input_table`.
        rating_power: a rating r weighs w = r ** rating_power, in the history and as a label: 0
            asks only what was rated; with 2 a 5 counts 25 times as much as a 1.
        dropout: share of a history that becomes labels in training, above 0 and below 1.
        init_stddev: standard deviation of the normal distribution of the first embeddings.
        seed: integer from 0; it decides the first weights, the splits and the order of users.

    Attributes: item_ids (of the rows of V, as for `CFModel`), num_items M and embedding_dim d.

    Source: Covington, Adams, Sargin (2016), "Deep neural networks for YouTube recommendations";
    labels from what is dropped: Liang et al. (2018), "Variational autoencoders for collaborative
    filtering", section 2.
    """

    _arguments = ("input_dims", "hidden_dims", "tied", "rating_power", "dropout")
    _objective = "train_loss"
    _watched = "validation_loss", "validation"
    _any_users = True

    def __init__(
        self,
        data: Dataset | tuple[int, int],
        item_features: Mapping[str, np.ndarray] | None = None,
        input_dims: int | Mapping[str, int] = 64,
        hidden_dims: Iterable[int] = (),
        *,
        tied: bool = True,
        rating_power: float = 0.0,
        dropout: float = 0.7,
        init_stddev: float = 0.2,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(data, init_stddev, seed, name)
        features = _features(item_features or {}, self.num_items)
        self.input_dims = _widths(input_dims, ["item", *features])
        self.hidden_dims = tuple(_checks.positive_integer("hidden_dims", n) for n in hidden_dims)
        self.tied = bool(tied)
        self.rating_power = _checks.finite("rating_power", rating_power)
        self.dropout = _checks.share("dropout", dropout)
        self.embedding_dim = self.input_dims["item"]
        self._make_layers(features)
        self._start()

    def _make_layers(self, features: dict[str, np.ndarray]) -> None:
        generator = np.random.default_rng(self.seed)

        def normal(stddev):
            return lambda shape, dtype=None: generator.normal(0.0, stddev, shape).astype(np.float32)

        def table(name, width, first, trainable=True):
            options = {"name": name, "trainable": trainable, "dtype": "float32"}
            layer = keras.layers.Embedding(self.num_items, width, first, **options)
            layer.build((None,))
            return layer

        def dense(name, units, stddev, activation=None):
            options = {"name": name, "kernel_initializer": normal(stddev), "dtype": "float32"}
            return keras.layers.Dense(units, activation, activation is not None, **options)

        dim, stddev = self.embedding_dim, self.init_stddev
        self._tables = {"V": table("item_table", dim, normal(stddev))}
        if not self.tied:
            self._tables["item"] = table("input_table", dim, normal(stddev))
        self._pools, self._embed, self._top = {}, {}, []
        for name, width in self.input_dims.items():
            if name in features:
                size, given = features[name].shape[1], keras.initializers.Constant(features[name])
                self._tables[name] = table(f"{name}_of_items", size, given, trainable=False)
            self._pools[name] = _histories.HistoryPooling(name=f"pool_{name}", dtype="float32")
            if name in features:
                self._embed[name] = dense(f"embed_{name}", width, stddev)
        if features:
            self._top.append(keras.layers.Concatenate(name="bags", dtype="float32"))
        width = sum(self.input_dims.values())
        for number, units in enumerate(self.hidden_dims):
            self._top.append(dense(f"hidden_{number}", units, (2 / width) ** 0.5, "relu"))
            width = units
        if self._top:
            self._top.append(dense("projection", dim, width**-0.5))
        self.tower()  # calls the layers one after the other, which draws their first weights

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor; of `item_features` the sizes, since they are saved."""
        return super().get_config() | {"item_features": self._sizes()}

    def _sizes(self) -> dict[str, int]:
        return {name: self._tables[name].output_dim for name in self._embed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SoftmaxModel:
        """A new model of this configuration, its features still empty."""
        sizes = config["item_features"].items()
        features = {name: np.zeros((config["num_items"], size)) for name, size in sizes}
        return super().from_config(config | {"item_features": features})

    def _like(self, data, rows, item_features):
        """A new model with features whose columns mean what they did, in the order they had."""
        features = _features(item_features or {}, data.num_items)
        given = {name: table.shape[1] for name, table in features.items()}
        sizes, known, moved = self._sizes(), rows.items >= 0, []
        for name in sizes if given == sizes else ():  # known items tell whether a column is another
            before = self._tables[name].embeddings.numpy()[rows.items[known]] != 0
            kept = before & (features[name][known] != 0)
            columns = np.flatnonzero(2 * kept.sum(axis=0) < before.sum(axis=0))
            moved += [f"{name}[:, {column}]" for column in columns]
        if given != sizes or moved:
            raise ValueError(
                f"item_features should have the columns that the model learned: {sizes}. Received: "
                f"{f'others in the place of {_checks.shown(moved)}' if moved else given}. Leave "
                "new ones out and fill gone ones with 0 (data.genre_table() names genres), or make "
                "a new model."
            )
        return super()._like(data, rows, item_features={name: features[name] for name in sizes})

    def _by_id(self) -> dict[str, str]:
        tables = [table for name, table in self._tables.items() if name not in self._embed]
        return {table.embeddings.path: "items" for table in tables}

    @property
    def item_embeddings(self) -> np.ndarray:
        """V, the softmax weights, a copy [M, d]."""
        return self._tables["V"].embeddings.numpy()

    def tower(self) -> keras.Model:
        """psi of weights [n, M] as a functional model of the same layers, for `plot_model`."""
        history = keras.Input((self.num_items,), sparse=True, name="history")
        return keras.Model(history, self._psi(history, self._rows()), name="tower")

    def fold_in(self, A: Dataset | tf.SparseTensor | scipy.sparse.sparray) -> np.ndarray:
        """Embed histories of any users: psi(x) for each row x of ratings [n, M], float32 [n, d].

        A row may be empty. Raises ValueError if an item is unknown, or a rating not finite or,
        where ratings count, negative.
        """
        history = self._weigh(self._tensor("A", A, training=False))
        return self._psi(history, self._rows()).numpy()

    def fold_in_parts(self, item_nums: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """What each rating of one user adds: psi(x) less psi without that rating, float32 [n, d].

        The arguments are those of `CFModel.fold_in_parts`. The rows do not add up to psi(x): in a
        mean, the others weigh more once one is gone.
        """
        items, ratings = _tensors.own_ratings(item_nums, ratings, self.num_items)
        count = len(items)
        # Row 0 is the whole history, row i + 1 lacks rating i.
        rows, kept = np.nonzero(~np.eye(count + 1, count, -1, dtype=bool))
        shape = (count + 1, self.num_items)
        psi = self.fold_in(scipy.sparse.csr_array((ratings[kept], (rows, items[kept])), shape))
        return psi[0] - psi[1:]

    def call(self, inputs: tf.SparseTensor) -> tf.Tensor:
        """The scores psi(x) V^T [n, M] of histories, ratings [n, M]."""
        psi = self._psi(self._weigh(tf.sparse.reorder(inputs)), self._rows())
        return tf.matmul(psi, self._tables["V"].embeddings, transpose_b=True)

    def _psi(self, history: Any, rows: Mapping[str, Any]) -> Any:
        """psi [n, d] of weights [n, M], given the rows of all items in the tables by name."""
        bags = []
        for name, pool in self._pools.items():
            bag = pool(history, rows.get(name, rows["V"]))
            bags.append(self._embed[name](bag) if name in self._embed else bag)
        output = bags if self._embed else bags[0]
        for layer in self._top:
            output = layer(output)
        return output

    def _rows(self) -> dict[str, Any]:
        return {name: table.embeddings.value for name, table in self._tables.items()}

    def _settings(self) -> list[float]:
        power = _checks.finite("rating_power", self.rating_power)
        return [power, _checks.share("dropout", self.dropout)]

    def _weigh(self, ratings: tf.SparseTensor) -> tf.SparseTensor:
        return ratings.with_values(ratings.values ** self._now()[0])

    def _tensor(self, name: str, ratings: Any, *, training: bool = True) -> tf.SparseTensor:
        tensor = super()._tensor(name, ratings, training=training)
        least = tensor.values.numpy().min(initial=0)
        if self._settings()[0] and least < 0:
            raise ValueError(
                f"{name} should hold no negative ratings if rating_power is not 0. Received: "
                f"{least}. Shift your ratings, or set rating_power to 0."
            )
        if training and np.bincount(tensor.indices[:, 0]).max() < 2:
            raise ValueError(
                f"{name} should have a history of two ratings or more, so that one can be the "
                "label. Received: one rating per row at most."
            )
        return tensor

    # Training
    def train(
        self,
        train: Dataset | tf.SparseTensor,
        validation: Dataset | tf.SparseTensor | tuple[Any, Any] | None = None,
        *,
        num_iterations: int,
        learning_rate: float | None = None,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        batch_size: int | None = None,
        num_sampled: int | None = None,
        eval_every: int = 10,
        patience: int | None = None,
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Minimize the cross-entropy of labels taken out of histories; called again, it goes on.

        One iteration is one step of the optimizer on the histories of `batch_size` users, each
        split anew. 50 + 50 iterations equal 100 as for `CFModel.train`, splits included.

        Args:
            train: the histories: ratings of any users.
            validation: what `patience` watches: histories of users held out, of which a fifth
                becomes labels, the same in each row; or a pair `(inputs, labels)` of ratings.
            batch_size: users per step, in a random order and all once per epoch; None for all.
            num_sampled: None for the softmax over all M items, S for `sampled_softmax_loss` with S
                items drawn in proportion to 1 + their number of ratings; only embeddings of items
                in the batch or in the sample are then read.
            num_iterations, learning_rate, optimizer, eval_every, patience, progress: as for
                `CFModel.train`; 0.03 is a good learning rate to start from with Adam.

        Returns:
            Frame with the rows of `CFModel.train`: `iteration`; `seconds` spent in training;
            `train_loss`, the cross-entropy over all M items for up to 1,024 users of `train`, a
            fifth of each history as labels; `validation_loss`, NaN without.

        Raises:
            ValueError, FloatingPointError: as `CFModel.train`; ValueError also if no history has
                two ratings.

        Time of a step, for b users with nnz ratings: O(nnz log nnz + nnz d + b M d), memory
        O(nnz d + b M + M d); with `num_sampled`, O(nnz d + nnz S + b S d) and O(nnz (d + S)) but
        for what the optimizer does to its M d numbers.
        """
        histories = _histories.to_matrix(self._weigh(self._tensor("train", train)))
        some = np.random.default_rng(self.seed).permutation(histories.shape[0])[:_MEASURED]
        sample = [_tensors.to_tensor(histories[np.sort(some)])]
        measured = {"train_loss": self._blocks("train", sample), "validation_loss": []}
        if validation is not None:
            pair = isinstance(validation, (tuple, list)) and len(validation) == 2
            given: Any = validation if pair else [validation]
            parts = [self._tensor("validation", part, training=not pair) for part in given]
            measured["validation_loss"] = self._blocks("validation", list(map(self._weigh, parts)))
        self._set_optimizer(optimizer, learning_rate)
        return self._run(
            self._advance(histories, batch_size, num_sampled),
            lambda: {name: self._cross_entropy(blocks) for name, blocks in measured.items()},
            (num_iterations, eval_every, patience, progress),
            validated=validation is not None,
            advice="Lower learning_rate (by a factor of 3 to 10).",
        )

    def _advance(self, histories, batch_size, num_sampled):
        """A function that takes one step; all that it sees follows from seed and iteration."""
        size = histories.shape[0] if batch_size is None else batch_size
        size = _checks.positive_integer("batch_size", size)
        dealt: list[Callable] = [_histories.batches(histories, size, self.seed)]
        signature = [tf.SparseTensorSpec([None, self.num_items], tf.float32)]
        if num_sampled is not None:
            size = _checks.positive_integer("num_sampled", num_sampled)
            dealt.append(_histories.samples(histories, size, self.seed))
            signature.append((tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.float32)))
        workers, optimizer, dropout = self._workers, self.optimizer, self.dropout
        variables = self.trainable_variables

        def step(number, history, sample=()):
            with tf.GradientTape() as tape:
                loss = self._loss(history, dropout, number, sample, workers)
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            if workers.size > 1:  # rows that several of them have are one row
                gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
            optimizer.apply(gradients, variables)

        key = (workers, optimizer, dropout, self.seed, len(dealt), *map(id, variables))
        if self._steps[0] != key:  # else the graph of the last call goes on
            self._steps = key, workers.steps(step, self._iteration, *signature)
        steps = self._steps[1]

        def advance(_):
            number = self.iteration
            steps([number + 1], *(deal(number) for deal in dealt))
            return 1

        return advance

    def _loss(self, history, share, number, sample=(), workers=None):
        """The loss of histories of which a share are labels; of several workers, one's part."""
        rows = self._rows()
        if sample:  # only rows that the batch or the sample touches are read, and change
            history, drawn, touched = _histories.touched_only(history, sample[0])
            rows = {name: tf.gather(table, touched) for name, table in rows.items()}
            sample = drawn, sample[1]
        parts = _histories.split(history, share, self.seed, number)
        total = tf.reduce_sum(parts[1].values)
        if workers is not None and workers.size > 1:
            parts = [_histories.rows_from(workers.index, workers.size, part) for part in parts]
        psi = self._psi(parts[0], rows)
        loss, _ = summed_softmax_loss(psi, rows["V"], parts[1], *sample)
        return tf.math.divide_no_nan(loss, total)  # by chance a batch has no label

    def _loss_parts(self, data: tf.SparseTensor) -> tuple[tf.Tensor]:
        return (self._loss(self._weigh(data), self._now()[1], self._iteration + 1),)

    def test_step(self, data: tf.SparseTensor) -> dict[str, Any]:
        """The loss, a fifth of each history as labels, for `evaluate`."""
        return self._track((self._loss(self._weigh(data), _HELD_OUT, 0),))

    def _blocks(self, name: str, parts: list[tf.SparseTensor]) -> list[list[tf.SparseTensor]]:
        """Inputs and labels, or what gives both, of as many users at a time as memory holds."""
        if len(parts) == 1:
            parts = _histories.split(parts[0], _HELD_OUT, self.seed, 0)
        both = inputs, labels = [_histories.to_matrix(part) for part in parts]
        if inputs.shape != labels.shape:
            raise ValueError(
                f"{name} should hold inputs and labels of the same users. Received: "
                f"{inputs.shape[0]} and {labels.shape[0]} rows."
            )
        if not labels.data.any():
            raise ValueError(
                f"{name} should have a label of positive weight. Received: {labels.nnz} labels, "
                f"with rating_power {self.rating_power:g}. Set it to 0, or shift your ratings."
            )
        users, height = np.flatnonzero(np.diff(labels.indptr)), max(1, _CELLS // self.num_items)
        blocks = [users[start : start + height] for start in range(0, len(users), height)]
        return [[_tensors.to_tensor(part[block]) for part in both] for block in blocks]

    def _cross_entropy(self, blocks: list[list[tf.SparseTensor]]) -> float:
        rows, sums = self._rows(), np.zeros(2)
        for inputs, labels in blocks[self._workers.index :: self._workers.size]:
            sums += summed_softmax_loss(self._psi(inputs, rows), rows["V"], labels)
        loss, weight = self._workers.total(sums)
        return loss / weight if weight else np.nan


def _features(item_features: Mapping[str, np.ndarray], num_items: int) -> dict[str, np.ndarray]:
    if not isinstance(item_features, Mapping):
        raise ValueError(
            "item_features should be a dict of arrays, as Dataset.item_features makes. Received: "
            f"{item_features!r}. Widths are named: input_dims=32."
        )
    features = {str(name): np.asarray(each, np.float32) for name, each in item_features.items()}
    for name, values in features.items():
        fits = values.ndim == 2 and len(values) == num_items and np.isfinite(values).all()
        if name == "item" or not name.isidentifier() or not fits:
            raise ValueError(
                f"item_features should hold finite arrays [{num_items}, size] by names of letters, "
                f"digits and _, other than 'item'. Received: {list(values.shape)} for {name!r}."
            )
    return features


def _widths(input_dims: int | Mapping[str, int], names: list[str]) -> dict[str, int]:
    given = input_dims if isinstance(input_dims, Mapping) else dict.fromkeys(names, input_dims)
    widths = dict(given)
    if set(widths) != set(names):
        raise ValueError(f"input_dims should have a width for each of {names}. Received: {widths}.")
    return {name: _checks.positive_integer("input_dims", widths[name]) for name in names}

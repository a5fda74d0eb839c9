"""The softmax model: which movies a user rates, predicted from the ones that the user has rated.

The embedding psi(x) of a user is computed from the history x, so that users who were never seen in
training are served like all others. With V the item embeddings, p(x) = softmax(psi(x) V^T).
"""

import numpy as np
import scipy.sparse

from cfutils import _checks, _kernels
from cfutils._tensorflow import keras, tf
from cfutils._training import TrainedModel, observed
from cfutils.losses import summed_softmax_loss

__all__ = ["SoftmaxModel", "split_histories"]

_HELD_OUT = 0.2  # share of a history that serves as labels where a loss is measured
_MEASURED = 1024  # training users whose loss is measured
_CELLS = 2**24  # scores held at once while measuring: 64 MiB


def split_histories(A, fraction, seed=0):
    """Take labels out of histories: a random part of each row becomes labels, the rest is input.

    Args:
        A: `tf.SparseTensor` [n, M]; what row i stores is the history of user i.
        fraction: Share of each row that becomes labels, above 0 and below 1. The number is
            rounded, but a row of two entries or more gives at least one label and keeps at least
            one entry. A row with a single entry keeps it and has no label.
        seed: Integer from 0 that decides which.

    Returns:
        `(inputs, labels)`, `tf.SparseTensor`s [n, M] with the values of `A`; each entry of `A` is
        in one of them. Time O(nnz log nnz), memory O(nnz).

    Raises:
        ValueError: If `A` is no SparseTensor with finite values, or an argument is out of range.
    """
    fraction = _share("fraction", fraction)
    seed = _checks.integer("seed", seed, 0)
    users, items, values = observed("A", A, (None, None))
    indices = np.stack([users, items], axis=1).astype(np.int64)
    is_label = _choose_labels(tf.constant(indices[:, 0]), A.shape[0], fraction, (seed, 0)).numpy()
    return tuple(
        tf.SparseTensor(indices[part], values[part], A.shape) for part in (~is_label, is_label)
    )


@keras.saving.register_keras_serializable(package="cfutils")
class SoftmaxModel(TrainedModel):
    """Predicts which movies a user rates: p(x) = softmax(psi(x) V^T) for the history x.

    The tower psi, for one history of n movies with weights w_j (all equal, or see `rating_power`):

        bag of a feature   sum_j w_j e(j) / sum_j w_j         [input_dims of the feature]
        concatenated       the bags of all features           [sum of input_dims]
        hidden layers      h = relu(W h + b)                  [hidden_dims], one after the other
        projection         a linear map, without bias         [d]

    The feature "item" is the movie itself; d is its width and its table is V, used for input and
    output alike (tied). The projection brings the tower back to width d; without hidden layers and
    without other features there is none, and psi(x) is simply the mean of the history's rows of V.

    In each step of training, every history is split at random: `dropout` of it becomes the labels,
    and the rest is the input. So no label is ever in the input, and the model learns to answer to
    short histories. All features of the input are computed from those entries alone.

    It is a Keras model as well. `fit` and `evaluate` take a `tf.SparseTensor` [n, M] of histories
    or a dataset of them and split them in the same way, `compile` needs an optimizer only, and
    calling the model on histories gives the scores psi(x) V^T [n, M], the logits.

    Args:
        num_items: M.
        item_features: Dict of further features, name -> array [M, size]: row j says how movie j
            is made up of the feature's values (`cfutils.data.movie_features`). e(j) is then that
            row times a table of embeddings [size, input_dims].
        input_dims: Width of every feature's embedding, an integer or a dict by name with the
            key "item".
        hidden_dims: Widths of the hidden layers; () for none.
        tied: Whether V is the input's table of movies too, rather than a table of its own.
        rating_power: A rating r weighs w = r ** rating_power, in the bag and as a label: 0 asks
            only what was rated; with 2 a 5 counts 25 times as much as a 1.
        dropout: Share of a history that becomes labels in training, above 0 and below 1.
        init_stddev: Standard deviation of the normal distribution of the first embeddings.
        seed: Integer from 0; it decides the first weights, the splits and the order of users.
        ids: The `MovieLens` that the ratings come from. The `original_id`s of its movies are then
            saved with the model, as text, and recommendations from other data find their rows by
            them. None leaves it to you that row j is the same movie in all data, as it is for
            `train` and `fold_in`, which see rows alone.

    Attributes:
        item_ids: The ids of the movies' rows, a pandas Index of texts [M]; None without `ids`.

    Raises:
        ValueError: If an argument is outside its range.

    Source: Covington, Adams, Sargin (2016), "Deep neural networks for YouTube recommendations";
    labels from what is dropped: Liang et al. (2018), "Variational autoencoders for collaborative
    filtering", section 2.

    Memory O(M d) and what the further features and layers take, three times that with Adam.
    """

    _objective = "train_loss"
    _watched = "validation_loss", "A_validation"

    def __init__(
        self,
        num_items,
        item_features=None,
        input_dims=64,
        hidden_dims=(),
        *,
        tied=True,
        rating_power=0.0,
        dropout=0.7,
        init_stddev=0.2,
        seed=0,
        ids=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_items = _checks.positive_integer("num_items", num_items)
        features = _features(item_features, self.num_items)
        self.input_dims = _widths(input_dims, features)
        self.hidden_dims = tuple(
            _checks.positive_integer("hidden_dims", width) for width in hidden_dims
        )
        self.tied = bool(tied)
        self.rating_power = _checks.finite("rating_power", rating_power)
        self.dropout = _share("dropout", dropout)
        self.init_stddev = _checks.finite("init_stddev", init_stddev, positive=True)
        self.seed = _checks.integer("seed", seed, 0)
        self._set_ids(ids, None, self.num_items)
        generator = np.random.default_rng(self.seed)

        def normal(stddev):
            return lambda shape, dtype=None: generator.normal(0.0, stddev, shape).astype(np.float32)

        def given(values):
            return lambda shape, dtype=None: values

        def table(rows, width, name):
            return self.add_weight((rows, width), normal(self.init_stddev), name=name)

        dim = self.embedding_dim = self.input_dims["item"]
        self._items = table(self.num_items, dim, "item_embeddings")
        self._inputs = self._items if tied else table(self.num_items, dim, "input_embeddings")
        self._features = {}  # name -> what movies are made up of, and the embeddings of that
        for name, values in features.items():
            self._features[name] = (
                self.add_weight(values.shape, given(values), trainable=False, name=name),
                table(values.shape[1], self.input_dims[name], f"{name}_embeddings"),
            )
        width = sum(self.input_dims.values())
        self._hidden = []
        for number, units in enumerate(self.hidden_dims):
            shape = (width, units)
            weights = self.add_weight(shape, normal((2 / width) ** 0.5), name=f"hidden_{number}")
            bias = self.add_weight((units,), "zeros", name=f"hidden_{number}_bias")
            self._hidden.append((weights, bias))
            width = units
        self._projection = None
        if self._features or self.hidden_dims:
            self._projection = self.add_weight((width, dim), normal(width**-0.5), name="projection")
        self._start()

    def get_config(self):
        """The arguments of the constructor; of `item_features` the sizes, since they are saved.

        O(1), with ids O(M).
        """
        names = ("num_items", "input_dims", "hidden_dims", "tied", "rating_power", "dropout")
        config = {name: getattr(self, name) for name in (*names, "init_stddev", "seed")}
        sizes = {name: values.shape[1] for name, (values, _) in self._features.items()}
        return {"name": self.name, "ids": self._ids_config(), "item_features": sizes} | config

    @classmethod
    def from_config(cls, config):
        """A model of this configuration, its features still empty.

        As the constructor: O(M d) and the features.
        """
        rows = config["num_items"]
        features = {
            name: np.zeros((rows, size), np.float32)
            for name, size in config["item_features"].items()
        }
        return cls(**(config | {"item_features": features}))

    @property
    def item_embeddings(self):
        """V, the softmax weights, as a NumPy array [num_items, d], a copy. O(M d)."""
        return self._items.numpy()

    @property
    def input_embeddings(self):
        """The input's table of movies [num_items, d], a copy; equal to V unless untied. O(M d)."""
        return self._inputs.numpy()

    def user_embeddings(self, A):
        """Embed histories, those of known users or of any others: psi(x) for each row.

        Args:
            A: `tf.SparseTensor` [n, M] of ratings, from `ratings_tensor`.

        Returns:
            Float32 array [n, d]. A row without ratings has empty bags, zeros. Time and memory
            O(nnz d), and O(n) times the width of the tower.

        Raises:
            ValueError: If A has another number of columns, or a rating is not finite or, where
                ratings count, negative.
        """
        return self._tower(*self._histories("A", A)).numpy()

    def fold_in(self, item_ids, ratings):
        """Embed a new user from a few ratings; nothing is trained.

        Args:
            item_ids: Integers [n] from 0 to M - 1, each once.
            ratings: Their ratings [n].

        Returns:
            Float32 array [d], psi of this history. Time O(n d).

        Raises:
            ValueError: If an id is out of range or occurs twice, or as `user_embeddings`.
        """
        return self._fold_in(*_checks.own_ratings(item_ids, ratings, self.num_items))

    def fold_in_parts(self, item_ids, ratings):
        """What each rating adds: psi of the history, less psi of the history without the rating.

        Args:
            item_ids: Integers [n] from 0 to M - 1, each once.
            ratings: Their ratings [n].

        Returns:
            Float32 array [n, d]. The rows do not add up to `fold_in`: in a mean, the others weigh
            more once one is gone. Time O(n^2 d).

        Raises:
            ValueError: As `fold_in`.
        """
        ids, ratings = _checks.own_ratings(item_ids, ratings, self.num_items)
        whole = self._fold_in(ids, ratings)
        parts = [
            whole - self._fold_in(np.delete(ids, at), np.delete(ratings, at))
            for at in range(len(ids))
        ]
        return np.array(parts, np.float32).reshape(len(ids), self.embedding_dim)

    def _fold_in(self, ids, ratings):
        places = np.stack([np.zeros_like(ids), ids], axis=1)
        weights = self._weigh("ratings", ratings.astype(np.float32))
        return self._tower(places, weights, 1).numpy()[0]

    def call(self, inputs):
        """The scores psi(x) V^T [n, M] of histories, a SparseTensor [n, M].

        Time O(nnz d + n M d), memory O(n M).
        """
        self._check_tensor(inputs)
        return tf.matmul(self._tower(*self._parts_of(inputs)), self._items, transpose_b=True)

    def _tower(self, places, weights, num_rows, tables=None):
        """psi [num_rows, d] of histories: entries (row, movie) [nnz, 2] and weights [nnz]."""
        _, movies, features = self._tables() if tables is None else tables
        totals = tf.math.unsorted_segment_sum(weights, places[:, 0], num_rows)
        shares = tf.math.divide_no_nan(weights, tf.gather(totals, places[:, 0]))
        histories = places, shares, (num_rows, tf.shape(movies)[0])
        bags = [_kernels.sparse_product(*histories, movies)]  # [n, d]
        for name, values in features.items():
            embeddings = self._features[name][1]
            pooled = _kernels.sparse_product(*histories, values)  # [n, size]
            bags.append(tf.matmul(pooled, embeddings))
        if self._projection is None:
            return bags[0]
        output = tf.concat(bags, axis=1)
        for weights, bias in self._hidden:
            output = tf.nn.relu(tf.matmul(output, weights) + bias)
        return tf.matmul(output, self._projection)

    def _tables(self):
        """V, the input's table of movies, and the features' rows by name: of all movies."""
        features = {name: tf.convert_to_tensor(rows) for name, (rows, _) in self._features.items()}
        return tf.convert_to_tensor(self._items), tf.convert_to_tensor(self._inputs), features

    def _histories(self, name, tensor):
        """A checked ratings tensor: places [nnz, 2], weights [nnz], number of rows."""
        users, items, ratings = observed(name, tensor, (None, self.num_items))
        places = np.stack([users, items], axis=1).astype(np.int64)
        return places, self._weigh(name, ratings), np.int64(tensor.shape[0])

    def _weigh(self, name, ratings):
        if self.rating_power and (ratings < 0).any():
            raise ValueError(
                f"{name} should hold no negative ratings if rating_power is not 0. Received: "
                f"{ratings.min()}. Shift your ratings, or set rating_power to 0."
            )
        return self._weights(ratings)

    def _weights(self, ratings):
        """How much each rating counts."""
        return ratings**self.rating_power if self.rating_power else ratings * 0 + 1

    def _parts_of(self, data):
        data = tf.sparse.reorder(data)  # the split of histories needs the rows in order
        return data.indices, self._weights(data.values), tf.shape(data, tf.int64)[0]

    # Training

    def train(
        self,
        A_train,
        A_validation=None,
        *,
        num_iterations,
        learning_rate=None,
        optimizer="adam",
        batch_size=None,
        num_sampled=None,
        eval_every=10,
        patience=None,
        progress=None,
    ):
        """Minimize the cross-entropy of labels taken out of histories; called again, it goes on.

        One iteration is one step of the optimizer on the histories of `batch_size` users, each
        split anew. 50 + 50 iterations equal 100, state of the optimizer, splits and order of users
        included, also across `save` and `load_model`.

        Args:
            A_train: `tf.SparseTensor` [n, M] of histories, from `ratings_tensor`.
            A_validation: What `patience` watches: histories [m, M] of users held out, of which a
                fifth becomes labels, the same in each row; or a pair `(inputs, labels)` of
                SparseTensors [m, M]. Not the final test.
            num_iterations: Number of steps to do now.
            learning_rate: Step size; None for the optimizer's own. 0.03 is a good start for Adam.
            optimizer: Name of a Keras optimizer, or an instance. One configured like that of the
                previous call, learning rate apart, goes on with its state.
            batch_size: Users per step, in a random order and all once per epoch; None for all.
            num_sampled: None for the softmax over all M items. A number S for
                `sampled_softmax_loss` with S items drawn in proportion to 1 + their number of
                ratings; only embeddings of items in the batch or in the sample are then read.
            eval_every: Iterations between two rows of the history.
            patience: Stop after this many rows without a smaller validation loss, and go back to
                the best row. None never stops early.
            progress: Whether to show a bar on standard error; None if that is a terminal.

        Returns:
            Frame with a row per `eval_every` iterations and one for the last (and, on the first
            call, one for iteration 0): `iteration`; `seconds` spent in training since the call
            began, evaluation not; `train_loss`, the cross-entropy over all M items for up to 1,024
            users of A_train, a fifth of each history as labels; `validation_loss`, NaN without.

        Raises:
            ValueError: If an argument is outside its range, or no history has two ratings.
            FloatingPointError: If the loss is no longer finite. The model then has its weights of
                the last finite row.

        Time of a step, for the b users of a batch with nnz ratings: O(nnz log nnz + nnz d + b M d),
        memory O(nnz d + b M + M d); with `num_sampled`, time O(nnz d + nnz S + b S d) and memory
        O(nnz (d + S)) but for what the optimizer does to its M d numbers.
        """
        train = self._histories("A_train", A_train)
        if np.bincount(train[0][:, 0]).max() < 2:
            raise ValueError(
                "A_train should have a history of two ratings or more, so that one can be the "
                "label. Received: one rating per row at most."
            )
        self._set_optimizer(optimizer, learning_rate)
        return self._run(
            self._batches(train, batch_size, num_sampled),
            self._measured(A_train, A_validation),
            A_validation,
            num_iterations,
            eval_every,
            patience,
            progress,
            "Lower learning_rate (by a factor of 3 to 10).",
        )

    def test_step(self, data):
        """The loss on a SparseTensor of histories, for `evaluate`: a fifth of each as labels.

        Time O(nnz log nnz + nnz d + n M d), memory O(n M).
        """
        self._check_tensor(data)
        return self._track((self._split_loss(*self._parts_of(data), _HELD_OUT, self._seed(0)),))

    def _loss_parts(self, data):
        seed = self._seed(self._iteration + 1)
        return (self._split_loss(*self._parts_of(data), self.dropout, seed),)

    def _variables(self):
        return self.trainable_variables

    def _seed(self, number):
        return tf.stack([tf.constant(self.seed, tf.int64), tf.cast(number, tf.int64)])

    def _split_loss(
        self, places, weights, num_rows, share, seed, tables=None, sample=(), worker=(0, 1)
    ):
        """The loss of histories of which a share, chosen by the seed, are the labels.

        Worker (w, W) computes the part of it that rows w, w + W, w + 2 W... contribute.
        """
        tables = self._tables() if tables is None else tables
        is_label = _choose_labels(places[:, 0], num_rows, share, seed)
        rest = tf.logical_not(is_label)
        total = tf.reduce_sum(tf.boolean_mask(weights, is_label))
        if worker != (0, 1):
            first, step = worker
            mine = tf.equal(places[:, 0] % step, first)
            is_label, rest = tf.logical_and(is_label, mine), tf.logical_and(rest, mine)
            places = tf.stack([places[:, 0] // step, places[:, 1]], axis=1)
            num_rows = (num_rows - first + step - 1) // step
        users = self._tower(
            tf.boolean_mask(places, rest), tf.boolean_mask(weights, rest), num_rows, tables
        )
        shape = tf.stack([num_rows, tf.shape(tables[0], tf.int64)[0]])
        labels = tf.SparseTensor(
            tf.boolean_mask(places, is_label), tf.boolean_mask(weights, is_label), shape
        )
        return summed_softmax_loss(users, tables[0], labels, *sample)[0] / total

    def _batches(self, train, batch_size, num_sampled):
        places, weights, num_users = train
        if batch_size is None:
            batch_size = int(num_users)
        batch_size = min(_checks.positive_integer("batch_size", batch_size), int(num_users))
        per_epoch = -(-int(num_users) // batch_size)
        shape = (int(num_users), self.num_items)
        histories = scipy.sparse.csr_array((weights, places.T), shape=shape)
        if num_sampled is not None:
            num_sampled = _checks.positive_integer("num_sampled", num_sampled)
            chances = 1.0 + np.bincount(places[:, 1], minlength=self.num_items)
            chances /= chances.sum()
            cumulated = np.cumsum(chances)
        step = self._compiled_step(num_sampled is not None)
        everything = [tf.constant(part) for part in train]
        order, epoch = None, None

        def batch():
            nonlocal order, epoch
            if per_epoch == 1:
                return everything
            # Order and position follow from seed and iteration: nothing else needs to be saved.
            now, at = divmod(self.iteration, per_epoch)
            if now != epoch:
                order = np.random.default_rng([self.seed, now]).permutation(int(num_users))
                epoch = now
            chosen = histories[order[at * batch_size : (at + 1) * batch_size]].tocoo()
            coordinates = np.stack(chosen.coords, axis=1).astype(np.int64)
            return [coordinates, chosen.data, np.int64(chosen.shape[0])]

        def advance(_):
            sample = []
            if num_sampled is not None:
                generator = np.random.default_rng([self.seed, self.iteration, 1])
                drawn = np.searchsorted(cumulated, generator.random(num_sampled))
                drawn = np.minimum(drawn, self.num_items - 1)
                sample = [drawn, chances[drawn].astype(np.float32)]
            step(*(tf.convert_to_tensor(part) for part in [*batch(), *sample]))
            self._iteration.assign_add(1)
            return 1

        return advance

    def _compiled_step(self, sampled):
        """One step of the optimizer as a graph, kept for the next call."""
        key = (self.optimizer, sampled)
        if self._steps is not None and self._steps[0] == key:
            return self._steps[1]
        optimizer, variables = self.optimizer, self._variables()
        worker = self._worker, self._num_workers
        big = [self._items] if self.tied else [self._items, self._inputs]
        small = [v for v in variables if all(v is not table for table in big)]

        def full(places, weights, num_rows):
            seed = self._seed(self._iteration + 1)
            with tf.GradientTape() as tape:
                loss = self._split_loss(
                    places, weights, num_rows, self.dropout, seed, worker=worker
                )
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            optimizer.apply(gradients, variables)

        def few(places, weights, num_rows, drawn, chances):
            # Only rows that the batch or the sample touches are read and have a gradient.
            touched, now = tf.unique(tf.concat([places[:, 1], drawn], axis=0), tf.int64)
            size = tf.shape(places)[0]
            places = tf.stack([places[:, 0], now[:size]], axis=1)
            rows = [tf.gather(table, touched) for table in big]
            features = {
                name: tf.gather(values, touched) for name, (values, _) in self._features.items()
            }
            tables = rows[0], rows[-1], features
            seed, sample = self._seed(self._iteration + 1), (now[size:], chances)
            with tf.GradientTape() as tape:
                tape.watch(rows)
                loss = self._split_loss(
                    places, weights, num_rows, self.dropout, seed, tables, sample, worker
                )
            gradients = tape.gradient(loss, rows + [variable.value for variable in small])
            gradients[: len(big)] = [
                tf.IndexedSlices(gradient, touched, tf.shape(table, tf.int64))
                for gradient, table in zip(gradients, big, strict=False)
            ]
            if self._num_workers > 1:  # rows that several workers have are one row
                gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
            optimizer.apply(gradients, big + small)

        signature = [
            tf.TensorSpec([None, 2], tf.int64),
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([], tf.int64),
        ]
        if sampled:
            signature += [tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.float32)]
        # A concrete function: tracing one per model is meant, and TensorFlow would warn of it.
        step = tf.function(self._over_workers(few if sampled else full), autograph=False)
        self._steps = key, step.get_concrete_function(*signature)
        return self._steps[1]

    def _measured(self, A_train, A_validation):
        """Inputs and labels, in blocks of users, of what the rows of the history measure."""
        num_users = A_train.shape[0]
        if num_users > _MEASURED:
            chosen = np.random.default_rng(self.seed).permutation(num_users)[:_MEASURED]
            A_train = tf.sparse.retain(A_train, np.isin(A_train.indices[:, 0].numpy(), chosen))
        measured = [self._blocks("A_train", A_train)]
        if A_validation is not None:
            measured.append(self._blocks("A_validation", A_validation))
        return measured

    def _blocks(self, name, pair):
        if isinstance(pair, tf.SparseTensor):
            pair = split_histories(pair, _HELD_OUT, self.seed)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError(
                f"{name} should be a SparseTensor of histories or a pair (inputs, labels). "
                f"Received: {type(pair)}."
            )
        inputs = self._histories(name, pair[0])
        if not len(pair[1].values):
            raise ValueError(
                f"{name} should have a label, so a history of two ratings or more. Received: none."
            )
        labels = self._histories(name, pair[1])
        if not labels[1].any():
            raise ValueError(
                f"{name} should have a label of positive weight. Received: only ratings of 0, with "
                f"rating_power {self.rating_power:g}. Set rating_power to 0, or shift your ratings."
            )
        if inputs[2] != labels[2]:
            raise ValueError(
                f"{name} should hold inputs and labels of the same users. Received: {inputs[2]} "
                f"and {labels[2]} rows."
            )
        height = max(1, _CELLS // self.num_items)
        blocks = []
        for start in range(0, int(inputs[2]), height):
            here = [_between(*part[:2], start, start + height) for part in (inputs, labels)]
            if len(here[1][1]):
                blocks.append((*here, np.int64(min(height, inputs[2] - start))))
        return blocks

    def _row(self, measured):
        losses = [self._cross_entropy(blocks) for blocks in measured]
        return {
            "train_loss": losses[0],
            "validation_loss": losses[1] if len(losses) > 1 else np.nan,
        }

    def _cross_entropy(self, blocks):
        total, weight = 0.0, 0.0
        for (places, weights), labels, num_rows in blocks[self._worker :: self._num_workers]:
            users = self._tower(places, weights, num_rows)
            labels = tf.SparseTensor(*labels, (num_rows, self.num_items))
            total += float(summed_softmax_loss(users, self._items, labels)[0])
            weight += float(np.sum(labels.values, dtype=np.float64))
        total, weight = self._sum_over_workers([total, weight])
        return total / weight


def _choose_labels(rows, num_rows, share, seed):
    """Which entries of histories become labels: a share of each row, bool [nnz].

    The rows are sorted. Every row of two or more gives one at least and keeps one at least.
    """
    count = tf.shape(rows)[0]
    places = tf.random.stateless_uniform([count], seed, dtype=tf.float64)
    order = tf.argsort(tf.cast(rows, tf.float64) + places)  # at random within a row
    sizes = tf.math.bincount(tf.cast(rows, tf.int32), minlength=tf.cast(num_rows, tf.int32))
    wanted = tf.cast(tf.round(share * tf.cast(sizes, tf.float32)), tf.int32)
    wanted = tf.minimum(tf.maximum(wanted, 1), sizes - 1)
    rank = tf.range(count) - tf.gather(tf.cumsum(sizes, exclusive=True), rows)
    return tf.gather(rank < tf.gather(wanted, rows), tf.math.invert_permutation(order))


def _between(places, weights, first, last):
    """The entries of some rows, counted from the first of them; the rows are sorted."""
    start, end = np.searchsorted(places[:, 0], [first, last])
    return places[start:end] - [first, 0], weights[start:end]


def _features(item_features, num_items):
    checked = {}
    for name, values in (item_features or {}).items():
        values = np.asarray(values, np.float32)
        if values.ndim != 2 or len(values) != num_items or not np.isfinite(values).all():
            raise ValueError(
                f"item_features should hold finite arrays [{num_items}, size], a row per movie. "
                f"Received: shape {list(values.shape)} for {name!r}."
            )
        if name == "item" or not str(name).isidentifier():
            raise ValueError(
                "item_features should have names of letters, digits and _, other than 'item'. "
                f"Received: {name!r}."
            )
        checked[name] = values
    return checked


def _widths(input_dims, features):
    names = ["item", *features]
    if not isinstance(input_dims, dict):
        input_dims = dict.fromkeys(names, input_dims)
    if set(input_dims) != set(names):
        raise ValueError(
            f"input_dims should have a width for each of {names}. Received: {input_dims}."
        )
    return {name: _checks.positive_integer("input_dims", input_dims[name]) for name in names}


def _share(name, value):
    value = _checks.finite(name, value)
    if not 0 < value < 1:
        raise ValueError(f"{name} should be above 0 and below 1. Received: {value}.")
    return value

"""Matrix factorization A ~ U V^T: one loss, minimized by descent or alternating least squares."""

import functools

import numpy as np
import pandas as pd

from cfutils import _checks, _kernels
from cfutils._tensorflow import keras, tf
from cfutils._training import TrainedModel, observed
from cfutils.losses import gravity, l2_penalty, sparse_mean_squared_error

__all__ = ["CFModel", "ratings_tensor"]

_LARGE = 2**20  # numbers in both tables from which compiling the optimizer's step pays


def ratings_tensor(ratings, num_users, num_items):
    """Put a table of ratings into a sparse matrix, row i user i and column j movie j.

    Args:
        ratings: Frame with columns `user_id`, `movie_id` (integers from 0) and `rating`, one row
            per observed pair, in any order.
        num_users: N; users without ratings have an empty row.
        num_items: M; movies without ratings have an empty column.

    Returns:
        `tf.SparseTensor` [N, M], float32, in canonical order (by user, then movie). Time
        O(n log n), memory O(n).

    Raises:
        ValueError: If a column is missing, the frame is empty, an id is not an integer from 0 to
            N - 1 or M - 1, a rating is not finite, or a pair occurs twice; or N M is 2**63 or more.
    """
    num_users = _checks.positive_integer("num_users", num_users)
    num_items = _checks.positive_integer("num_items", num_items)
    if num_users * num_items >= 2**63:
        raise ValueError(
            "num_users * num_items should be below 2**63. Received: "
            f"{num_users} * {num_items}. Renumber the ids from 0 (pandas.factorize)."
        )
    missing = [name for name in ("user_id", "movie_id", "rating") if name not in ratings.columns]
    if missing:
        raise ValueError(
            "ratings should have the columns user_id, movie_id and rating. Received: columns "
            f"{list(ratings.columns)}, without {missing}. Rename yours."
        )
    if len(ratings) == 0:
        raise ValueError(
            "ratings should have at least one row. Received: an empty frame. Check the filter or "
            "the split that made it."
        )
    users = _checks.ids("user_id", ratings["user_id"], num_users, "num_users")
    items = _checks.ids("movie_id", ratings["movie_id"], num_items, "num_items")
    values = pd.to_numeric(ratings["rating"], errors="coerce").to_numpy(float, na_value=np.nan)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and refused below
        values = values.astype(np.float32)
    _checks.refuse(
        ~np.isfinite(values), ratings["rating"], "rating should be a finite number", "Drop the row."
    )
    keys = users * num_items + items
    order = None
    if (keys[1:] <= keys[:-1]).any():
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
    again = np.flatnonzero(keys[1:] == keys[:-1]) + 1
    if len(again):
        twice = np.zeros(len(keys), bool)
        twice[again if order is None else order[again]] = True
        row = int(np.argmax(twice))
        _checks.refuse(
            twice,
            {row: (users[row], items[row])},
            "each pair (user_id, movie_id) should occur once",
            "Keep one of its ratings, or their mean.",
        )
    del users, items
    if order is not None:
        values = values[order]
    del order
    pairs = np.empty((len(keys), 2), np.int64)
    np.divmod(keys, num_items, out=(pairs[:, 0], pairs[:, 1]))
    del keys
    return tf.SparseTensor(pairs, values, (num_users, num_items))


@keras.saving.register_keras_serializable(package="cfutils")
class CFModel(TrainedModel):
    """A matrix factorization: a rating is predicted as the dot product U_i.V_j of two embeddings.

    The model minimizes, over the tables U [N, d] and V [M, d],

        1/|Omega| sum_Omega (A_ij - U_i.V_j)^2 + l2_coeff r(U, V) + gravity_coeff g(U, V)

    with r and g as in `cfutils.losses`. `train` does it by gradient descent on all ratings or on
    mini-batches, `train_als` by alternating least squares. All training continues from where the
    model is, so that calls can be repeated and mixed.

    It is a Keras model as well. `fit`, `evaluate` and `validation_data` take a `tf.SparseTensor`
    [N, M] (one step an epoch) or a `tf.data` dataset of them, `compile` needs an optimizer only,
    and calling the model gives the predicted ratings of integer pairs [n, 2].

    Args:
        num_users: N.
        num_items: M.
        embedding_dim: d.
        l2_coeff: Weight of the l2 penalty, 0 or more.
        gravity_coeff: Weight of gravity, 0 or more.
        init_stddev: Standard deviation of the normal distribution of the first embeddings.
        seed: Integer from 0; it decides the first embeddings and the order of mini-batches.
        ids: The `MovieLens` that the ratings come from. Its `original_id`s are then saved with the
            model, as text, and recommendations from other data find their rows by them. None
            leaves it to you that row i is the same in all data, as it is for `train`, `predict` and
            `fold_in`, which see rows alone.

    Attributes:
        user_ids: The ids of the users' rows, a pandas Index of texts [N]; None without `ids`.
        item_ids: Those of the movies' rows [M].

    Raises:
        ValueError: If an argument is outside its range.

    Source: Koren et al. (2009); gravity and its least squares: Hu, Koren, Volinsky (2008).

    Memory O((N + M) d), three times that with Adam, and one copy while it trains.
    """

    _parts = ("loss", "mse", "l2", "gravity")

    def __init__(
        self,
        num_users,
        num_items,
        embedding_dim,
        *,
        l2_coeff=0.0,
        gravity_coeff=0.0,
        init_stddev=0.05,
        seed=0,
        ids=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_users = _checks.positive_integer("num_users", num_users)
        self.num_items = _checks.positive_integer("num_items", num_items)
        self.embedding_dim = _checks.positive_integer("embedding_dim", embedding_dim)
        self.l2_coeff = _checks.finite("l2_coeff", l2_coeff)
        self.gravity_coeff = _checks.finite("gravity_coeff", gravity_coeff)
        self.init_stddev = _checks.finite("init_stddev", init_stddev, positive=True)
        self.seed = _checks.integer("seed", seed, 0)
        self._set_ids(ids, self.num_users, self.num_items)
        generator = np.random.default_rng(self.seed)

        def normal(shape, dtype=None):
            return generator.normal(0.0, self.init_stddev, shape).astype(np.float32)

        dim = self.embedding_dim
        self._users = self.add_weight((self.num_users, dim), normal, name="user_embeddings")
        self._items = self.add_weight((self.num_items, dim), normal, name="item_embeddings")
        self._start()
        self._num_ratings = self._counter("num_ratings")  # fold-in has to know |Omega|

    def get_config(self):
        """The arguments of the constructor. O(1), with ids O(N + M)."""
        names = (
            "num_users",
            "num_items",
            "embedding_dim",
            "l2_coeff",
            "gravity_coeff",
            "init_stddev",
            "seed",
        )
        config = {name: getattr(self, name) for name in names}
        return {"name": self.name, "ids": self._ids_config()} | config

    @property
    def user_embeddings(self):
        """U as a NumPy array [num_users, d], a copy. O(N d)."""
        return self._users.numpy()

    @property
    def item_embeddings(self):
        """V as a NumPy array [num_items, d], a copy. O(M d)."""
        return self._items.numpy()

    # Training

    def train(
        self,
        A_train,
        A_test=None,
        *,
        num_iterations,
        learning_rate=None,
        optimizer="sgd",
        batch_size=None,
        eval_every=10,
        patience=None,
        progress=None,
    ):
        """Minimize the loss by gradient descent; called again, it goes on.

        One iteration is one step of the optimizer. With `batch_size` None it uses the gradient
        over all ratings. With a number it is mini-batch SGD: the ratings in a random order, all of
        them once per epoch, that many per step; the squared errors are averaged over the batch and
        the l2 and gravity terms are computed exactly, so that the expected gradient is that of the
        loss. 500 + 500 iterations equal 1,000, state of the optimizer and order of the
        mini-batches included, also across `save` and `load_model`.

        Args:
            A_train: `tf.SparseTensor` [N, M] of the ratings to fit.
            A_test: Ratings whose error is recorded, and that `patience` watches: pass a part of
                the training ratings set aside for validation then, not the final test.
            num_iterations: Number of steps to do now.
            learning_rate: Step size; None for the optimizer's own.
            optimizer: Name of a Keras optimizer, or an instance. One configured like that of the
                previous call, learning rate apart, goes on with its state.
            batch_size: Ratings per step, or None for all.
            eval_every: Iterations between two rows of the history.
            patience: Stop after this many rows without a smaller test error, and go back to the
                best row. None never stops early.
            progress: Whether to show a bar on standard error; None if that is a terminal.

        Returns:
            Frame with a row per `eval_every` iterations and one for the last (and, on the first
            call, one for iteration 0): `iteration`; `seconds` spent in training since the call
            began, compilation included, evaluation not; `train_mse`; `test_mse` (NaN without
            `A_test`); `l2_loss` and `gravity_loss`, times their coefficients; `loss`, the sum of
            all but `test_mse`. After early stopping the rows past the best one remain.

        Raises:
            ValueError: If an argument is outside its range.
            FloatingPointError: If the loss is no longer finite. The model then has its weights of
                the last finite row.

        Time of a full-batch step O(|Omega| d + (N + M) d^2) or, where the dense table is small,
        O(N M d); of a mini-batch step O(batch_size d + (N + M) d^2). Memory O(|Omega| + (N + M) d).
        """
        train = observed("A_train", A_train, (self.num_users, self.num_items))
        self._set_optimizer(optimizer, learning_rate)
        advance = (
            self._full_batch(train) if batch_size is None else self._batches(train, batch_size)
        )
        del train  # of large data every copy counts
        return self._run(
            advance,
            self._measured(A_train, A_test),
            A_test,
            num_iterations,
            eval_every,
            patience,
            progress,
            "Lower learning_rate (by a factor of 3 to 10), or lower init_stddev.",
        )

    def train_als(
        self, A_train, A_test=None, *, num_iterations, eval_every=1, patience=None, progress=None
    ):
        """Minimize the same loss by alternating least squares; called again, it goes on.

        One iteration is a sweep: every user's embedding is set to the minimum of the loss, all
        else fixed, then every movie's. User i's solves

            (alpha V^T V + sum_{j in Omega_i} V_j V_j^T + l2_coeff |Omega| / N I) U_i
                = sum_{j in Omega_i} A_ij V_j,      alpha = gravity_coeff |Omega| / (N M),

        movies alike with l2_coeff |Omega| / M. The loss never grows. Without l2_coeff the rows
        whose ratings leave directions open keep their old value there. A row without ratings
        becomes 0 if a coefficient pulls it there, and is left alone if none does.

        Args, returns and raises are those of `train`; there is no learning rate to choose.

        Time of a sweep O(|Omega| d^2 + (N + M) d^3), memory O(|Omega| + (N + M) d).

        Source: Hu, Koren, Volinsky (2008), equations 4 and 5, the unobserved weight alpha.
        """
        if self._num_workers > 1:
            raise ValueError(
                f"train_als should run on one machine. Received: {self._num_workers} workers. Use "
                "train, or make the model outside the strategy's scope."
            )
        train = observed("A_train", A_train, (self.num_users, self.num_items))
        users, items, values = train
        by_item = np.argsort(items, kind="stable")
        tables = (
            _kernels.least_squares_tables(users, items, values),
            _kernels.least_squares_tables(items[by_item], users[by_item], values[by_item]),
        )
        count = len(values)
        weights = tf.constant(
            [
                self.l2_coeff * count / self.num_users,
                self.l2_coeff * count / self.num_items,
                self.gravity_coeff * count / (self.num_users * self.num_items),
            ],
            tf.float32,
        )
        free = self.l2_coeff == 0 and self.gravity_coeff == 0
        kept = [  # 0 where a row without ratings has its minimum at zero
            tf.constant(free | (np.bincount(ids, minlength=rows) > 0)[:, None], tf.float32)
            for ids, rows in ((users, self.num_users), (items, self.num_items))
        ]
        del train, users, items, values, by_item  # of large data every copy counts

        def advance(sweeps):
            users, items = _sweeps(self.l2_coeff == 0)(
                *self._tables(), kept, tables, weights, tf.constant(sweeps)
            )
            self._users.assign(users)
            self._items.assign(items)
            self._iteration.assign_add(sweeps)
            return sweeps

        return self._run(
            advance,
            self._measured(A_train, A_test),
            A_test,
            num_iterations,
            eval_every,
            patience,
            progress,
            "Set l2_coeff to 0.001 or more: some least-squares rows have no unique solution.",
        )

    def fold_in(self, item_ids, ratings):
        """Embed a new user from a few ratings: one user's least-squares solve, movies fixed.

        Args:
            item_ids: Integers [n] from 0 to M - 1, each once.
            ratings: Their ratings [n].

        Returns:
            Float32 array [d]. Without any ratings the zero vector, and where the ratings do not
            determine it, the shortest solution. Time O((M + n) d^2 + d^3).

        Raises:
            ValueError: If the model is untrained (how the loss weighs a user depends on |Omega|),
                an id is out of range or occurs twice, or a rating is not finite.

        Source: the equation of `train_als`, in float64.
        """
        return self.fold_in_parts(item_ids, ratings).sum(axis=0).astype(np.float32)

    def fold_in_parts(self, item_ids, ratings):
        """What each rating adds to the embedding that `fold_in` returns.

        With H the matrix of the new user's equation, `fold_in` returns sum_j a_j H^-1 V_j. A
        score is linear in it, so rating j adds a_j V_i^T H^-1 V_j to the score of movie i.

        Args:
            item_ids: Integers [n] from 0 to M - 1, each once.
            ratings: Their ratings [n].

        Returns:
            Float64 array [n, d], row j the part of rating j; the rows add up to `fold_in`. Time
            O((M + n) d^2 + d^3).

        Raises:
            ValueError: As `fold_in`.
        """
        ids, ratings = _checks.own_ratings(item_ids, ratings, self.num_items)
        count = int(self._num_ratings.numpy())
        if not count:
            raise ValueError("fold_in should be called on a trained model. Received: a new one.")
        items = self.item_embeddings.astype(np.float64)
        rated = items[ids]
        matrix = rated.T @ rated + self.l2_coeff * count / self.num_users * np.eye(items.shape[1])
        matrix += self.gravity_coeff * count / (self.num_users * self.num_items) * items.T @ items
        return ratings[:, None] * np.linalg.lstsq(matrix, rated.T)[0].T

    # The interface of Keras

    def call(self, inputs):
        """Predicted ratings [n] of integer pairs [n, 2], or of those that a SparseTensor holds.

        O(n d).
        """
        pairs = inputs.indices if isinstance(inputs, tf.SparseTensor) else inputs
        rows = tf.gather(self._users, pairs[:, 0])
        return tf.reduce_sum(rows * tf.gather(self._items, pairs[:, 1]), axis=1)

    def predict(self, x, batch_size=65536, verbose=0, **kwargs):
        """Predicted ratings of pairs, as Keras predicts: one number per row of x.

        Args:
            x: Integers [n, 2], user ids and movie ids, an array or frame. For other inputs (a
                `tf.data` dataset of pairs) and arguments see `keras.Model.predict`.

        Returns:
            Float32 array [n]. Time O(n d), memory O(batch_size d).

        Raises:
            ValueError: If x has another shape or an id is out of range.
        """
        if not isinstance(x, tf.data.Dataset):
            x = np.asarray(x)
            if x.ndim != 2 or x.shape[1] != 2 or len(x) == 0:
                raise ValueError(
                    "x should be pairs of ids of shape [n, 2] with n > 0. Received: shape "
                    f"{x.shape}. Use np.stack([user_ids, movie_ids], axis=1)."
                )
            users = _checks.ids("user id", pd.Series(x[:, 0]), self.num_users, "num_users")
            items = _checks.ids("movie id", pd.Series(x[:, 1]), self.num_items, "num_items")
            x = np.stack([users, items], axis=1)
        return super().predict(x, batch_size=batch_size, verbose=verbose, **kwargs)

    def train_step(self, data):
        """One step of the optimizer on a SparseTensor of ratings, for `fit`.

        O(|Omega| d + (N + M) d^2).
        """
        done = super().train_step(data)
        self._num_ratings.assign(tf.size(data.values, tf.int64))
        return done

    def _variables(self):
        return [self._users, self._items]

    def _loss_parts(self, data):
        mse = sparse_mean_squared_error(data, *self._tables())
        l2 = self.l2_coeff * l2_penalty(*self._tables())
        pull = self.gravity_coeff * gravity(*self._tables())
        return mse + l2 + pull, mse, l2, pull

    # Behind train and train_als

    def _tables(self):
        return tf.convert_to_tensor(self._users), tf.convert_to_tensor(self._items)

    def _full_batch(self, train):
        count, shape = len(train[2]), (self.num_users, self.num_items)
        weight, pull = 2 / count, self._pull()
        if _kernels.choose_kernel(*shape, count) == "dense" and self._strategy is None:
            tables = _kernels.dense_tables(*train, *shape, weight, pull)

            def gradient(tables, _):
                return _kernels.dense_gradient(tables, *self._tables())

        else:
            num_batches = -(-count // _kernels.FULL)
            tables = _kernels.sparse_tables(*train, num_batches, share=self._share())

            def gradient(tables, _):
                everything = tf.range(num_batches)
                return _kernels.sparse_gradient(tables, everything, weight, pull, *self._tables())

        steps = self._compiled_steps(gradient, tables)

        def advance(count):
            steps(tables, np.zeros(count, np.int32))
            return count

        return advance

    def _batches(self, train, batch_size):
        count = len(train[2])
        batch_size = min(_checks.positive_integer("batch_size", batch_size), count)
        per_epoch = -(-count // batch_size)
        # Batches and their order follow from seed and iteration: nothing else needs to be saved.
        dealer = np.random.default_rng([self.seed, 0, 1])
        tables = _kernels.sparse_tables(*train, per_epoch, dealer, self._share())
        pull = self._pull()

        def gradient(tables, number):
            weight = 2 / tables[-1][number]
            return _kernels.sparse_gradient(tables, number[None], weight, pull, *self._tables())

        steps = self._compiled_steps(gradient, tables)

        def advance(limit):
            epoch, start = divmod(self.iteration, per_epoch)
            order = np.random.default_rng([self.seed, epoch]).permutation(per_epoch)
            order = order[start : start + limit].astype(np.int32)
            steps(tables, order)
            return len(order)

        return advance

    def _share(self):
        return self._worker, self._num_workers

    def _pull(self):
        """The factor of gravity's gradient; each worker adds its part."""
        return 2 * self.gravity_coeff / (self.num_users * self.num_items) / self._num_workers

    def _compiled_steps(self, gradient, tables):
        """A function of (tables, numbers): a step of the optimizer for each of the numbers.

        `gradient(tables, number)` gives the gradients of a step but for the l2 penalty. Graphs are
        kept for the next call.
        """
        key = (self.optimizer, gradient.__code__, [part.shape for part in tf.nest.flatten(tables)])
        if self._steps is not None and self._steps[0] == key:
            return self._steps[1]
        optimizer, variables = self.optimizer, self._variables()
        shrink = [
            2 * self.l2_coeff / rows / self._num_workers
            for rows in (self.num_users, self.num_items)
        ]

        def apply(*gradients):
            if self.l2_coeff:
                gradients = [
                    gradient + factor * table
                    for gradient, factor, table in zip(
                        gradients, shrink, self._tables(), strict=True
                    )
                ]
            optimizer.apply(gradients, variables)

        if self._strategy is None:
            large = (self.num_users + self.num_items) * self.embedding_dim >= _LARGE
            apply = tf.function(apply, autograph=False, jit_compile=large)

            def several(tables, numbers):
                def step(at):
                    apply(*gradient(tables, numbers[at]))
                    self._iteration.assign_add(1)
                    return (at + 1,)

                tf.while_loop(lambda at: at < tf.size(numbers), step, (0,), parallel_iterations=1)

            # A concrete function: tracing one per model is meant, and TensorFlow would warn of it.
            steps = tf.function(several, autograph=False)
            steps = steps.get_concrete_function(tables, tf.TensorSpec([None], tf.int32))

            def run(tables, numbers):
                steps(tables, tf.constant(numbers))

        else:
            # Workers meet in every step, which a loop within the graph does not allow.
            one = self._over_workers(lambda tables, at: apply(*gradient(tables, at)))
            step = tf.function(one, autograph=False)
            step = step.get_concrete_function(tables, tf.TensorSpec([], tf.int32))

            def run(tables, numbers):
                for number in numbers:
                    step(tables, tf.constant(number))
                    self._iteration.assign_add(1)

        self._steps = key, run
        return run

    def _measured(self, A_train, A_test):
        """Numbers of ratings, and the tensors of which this worker measures the errors."""
        tensors = [A_train]
        if A_test is not None:
            observed("A_test", A_test, (self.num_users, self.num_items))
            tensors.append(A_test)
        counts = [len(tensor.values) for tensor in tensors]
        if self._num_workers > 1:
            tensors = [
                tf.sparse.retain(tensor, tensor.indices[:, 0] % self._num_workers == self._worker)
                for tensor in tensors
            ]
        return counts, [(A.indices, tf.cast(A.values, tf.float32)) for A in tensors]

    def _row(self, measured):
        counts, tensors = measured
        self._num_ratings.assign(counts[0])  # here, since all arguments have passed their checks
        dense = _kernels.choose_kernel(self.num_users, self.num_items, counts[0]) == "dense"
        measure = _measure(len(tensors), dense)
        *errors, l2, pull = measure(tensors, *self._tables()).numpy().tolist()
        errors = self._sum_over_workers(errors)
        errors = [error / count for error, count in zip(errors, counts, strict=True)]
        l2, pull = self.l2_coeff * l2, self.gravity_coeff * pull
        return {
            "train_mse": errors[0],
            "test_mse": errors[1] if len(errors) > 1 else np.nan,
            "l2_loss": l2,
            "gravity_loss": pull,
            "loss": errors[0] + l2 + pull,
        }


# What tables and ratings look like to a graph, whatever their sizes: one graph serves all models.
_TABLE = tf.TensorSpec([None, None], tf.float32)
_PAIRS = tf.TensorSpec([None, 2], tf.int64)
_VALUES = tf.TensorSpec([None], tf.float32)


@functools.cache
def _measure(number, dense):
    """A function of `number` (pairs, ratings) and U, V: the squared errors of each, l2, gravity."""

    def measure(tensors, users, items):
        errors = [_kernels.squared_error(*tensor, users, items, dense) for tensor in tensors]
        pulls = [l2_penalty(users, items), gravity(users, items)]
        return tf.stack(errors + [tf.cast(pull, tf.float64) for pull in pulls])

    signature = [[(_PAIRS, _VALUES)] * number, _TABLE, _TABLE]
    return tf.function(measure, signature, autograph=False)


@functools.cache
def _sweeps(proximal):
    """A function of U, V, what `least_squares_tables` made, and a count: U and V after sweeps."""

    def sweeps(users, items, kept, tables, weights, count):
        by_user, by_item = tables
        user_ridge, item_ridge, unobserved = tf.unstack(weights)

        def sweep(done, users, items):
            users = _kernels.solve_rows(
                users * kept[0], items, by_user, user_ridge, unobserved, proximal
            )
            items = _kernels.solve_rows(
                items * kept[1], users, by_item, item_ridge, unobserved, proximal
            )
            return done + 1, users, items

        start = tf.constant(0), users, items
        return tf.while_loop(lambda done, *_: done < count, sweep, start, parallel_iterations=1)[1:]

    column = tf.TensorSpec([None, 1], tf.float32)
    ids = tf.TensorSpec([None], tf.int32)
    table = (ids, ids, column, tf.TensorSpec([None, 4], tf.int32), tf.TensorSpec([], tf.float32))
    weights, count = tf.TensorSpec([3], tf.float32), tf.TensorSpec([], tf.int32)
    signature = [_TABLE, _TABLE, [column, column], (table, table), weights, count]
    return tf.function(sweeps, signature, autograph=False)

"""Matrix factorization A ~ U V^T: one loss, minimized by descent or alternating least squares."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from cfutils import _als, _checks, _descent, _tensors
from cfutils._tensorflow import keras, tf
from cfutils._tensors import ratings_tensor
from cfutils._training import TrainedModel, load_model
from cfutils.data import Dataset
from cfutils.losses import gravity, l2_penalty, sparse_mean_squared_error

__all__ = ["CFModel", "load_model", "ratings_tensor"]

_LARGE = 2**20  # numbers in both tables from which compiling the optimizer's step pays


@keras.saving.register_keras_serializable(package="cfutils")
class CFModel(TrainedModel):
    """A matrix factorization: a rating is predicted as the dot product U_i.V_j of two embeddings.

    The model minimizes, over the tables U [N, d] and V [M, d],

        1/|Omega| sum_Omega (A_ij - U_i.V_j)^2 + l2_coeff r(U, V) + gravity_coeff g(U, V)

    with r and g as in `cfutils.losses`: `train` by gradient descent on all ratings or on
    mini-batches, `train_als` by alternating least squares. All training goes on from where the
    model is; calls can be repeated and mixed, and the coefficients changed in between.

    It is a Keras model too: `compile` needs an optimizer only, `fit` and `evaluate` take ratings
    (one step an epoch), and calling it gives the predicted ratings of integer pairs [n, 2].

    Args:
        data: The `Dataset` that the model is for, or a pair (N, M) where there are no ids.
        embedding_dim: d.
        l2_coeff, gravity_coeff: Weights of the l2 penalty and of gravity, 0 or more.
        init_stddev: Standard deviation of the normal distribution of the first embeddings.
        seed: Integer from 0; it decides the first embeddings and the order of mini-batches.

    Attributes:
        user_ids, item_ids: The ids of the rows of U and V, pandas Indexes of texts [N] and [M],
            saved with the model; None for a pair. All other data finds its rows by them.

    Raises ValueError if an argument is outside its range. Memory O((N + M) d), three times that
    with Adam, and one copy while it trains.

    Source: Koren et al. (2009); gravity and its least squares: Hu, Koren, Volinsky (2008).
    """

    _arguments = ("embedding_dim", "l2_coeff", "gravity_coeff")
    _parts = ("loss", "mse", "l2", "gravity")

    def __init__(
        self,
        data: Dataset | tuple[int, int],
        embedding_dim: int,
        *,
        l2_coeff: float = 0.0,
        gravity_coeff: float = 0.0,
        init_stddev: float = 0.05,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(data, init_stddev, seed, name)
        self.embedding_dim = _checks.positive_integer("embedding_dim", embedding_dim)
        self.l2_coeff = _checks.finite("l2_coeff", l2_coeff)
        self.gravity_coeff = _checks.finite("gravity_coeff", gravity_coeff)
        generator, dim = np.random.default_rng(self.seed), self.embedding_dim

        def normal(shape, dtype=None):
            return generator.normal(0.0, self.init_stddev, shape).astype(np.float32)

        self._users = self.add_weight((self.num_users, dim), normal, name="user_embeddings")
        self._items = self.add_weight((self.num_items, dim), normal, name="item_embeddings")
        self._start()
        self._user_num_ratings = self._counter("user_num_ratings", self.num_users)

    @property
    def user_embeddings(self) -> np.ndarray:
        """U as a NumPy array [num_users, d], a copy."""
        return self._users.numpy()

    @property
    def item_embeddings(self) -> np.ndarray:
        """V as a NumPy array [num_items, d], a copy."""
        return self._items.numpy()

    @property
    def user_num_ratings(self) -> np.ndarray:
        """How many ratings of each user the last training had, integers [num_users], a copy."""
        return self._user_num_ratings.numpy()

    def _by_id(self) -> dict[str, str]:
        by_user = self._users.path, self._user_num_ratings.path
        return {self._items.path: "items"} | dict.fromkeys(by_user, "users")

    # Training
    def train(
        self,
        train: Dataset | tf.SparseTensor,
        test: Dataset | tf.SparseTensor | None = None,
        *,
        num_iterations: int,
        learning_rate: float | None = None,
        optimizer: str | keras.optimizers.Optimizer = "sgd",
        batch_size: int | None = None,
        eval_every: int = 10,
        patience: int | None = None,
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Minimize the loss by gradient descent; called again, it goes on.

        One iteration is one step of the optimizer: over all ratings, or with a `batch_size` over
        that many, in a random order and all of them once per epoch. The squared errors are averaged
        over the batch and the l2 and gravity terms are exact, so that the expected gradient is that
        of the loss. 500 + 500 iterations equal 1,000, state of the optimizer and order of the
        mini-batches included, also across `save` and `load_model`.

        Args:
            train: The ratings to fit: a `Dataset`, whose users and items are found by their ids,
                or a `tf.SparseTensor` [N, M], whose rows and columns are the model's.
            test: Ratings whose error is recorded, and watched by `patience`: ratings set aside
                for validation then, not the final test.
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
            Frame with a row per `eval_every` iterations and for the last (and for iteration 0 on
            the first call): `iteration`; `seconds` of training, evaluation not counted;
            `train_mse`; `test_mse` (NaN without `test`); `l2_loss` and `gravity_loss`, times their
            coefficients; `loss`, the sum of all but `test_mse`.

        Raises:
            ValueError: If an argument is outside its range, or the ratings are not the model's.
            FloatingPointError: If the loss diverges; the model then has its last finite weights.

        Time of a full-batch step O(|Omega| d + (N + M) d^2) or, where the dense table is small,
        O(N M d); of a mini-batch step O(batch_size d + (N + M) d^2). Memory O(|Omega| + (N + M) d).
        """
        ratings = self._both(train, test)
        self._set_optimizer(optimizer, learning_rate)
        return self._run(
            self._advance(ratings[0], batch_size),
            self._measure(ratings),
            (num_iterations, eval_every, patience, progress),
            validated=test is not None,
            advice="Lower learning_rate (by a factor of 3 to 10), or lower init_stddev.",
        )

    def train_als(
        self,
        train: Dataset | tf.SparseTensor,
        test: Dataset | tf.SparseTensor | None = None,
        *,
        num_iterations: int,
        eval_every: int = 1,
        patience: int | None = None,
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Minimize the same loss by alternating least squares; called again, it goes on.

        One iteration is a sweep: every user's embedding is set to the minimum of the loss, all
        else fixed, then every item's. User i's solves

            (alpha V^T V + sum_{j in Omega_i} V_j V_j^T + l2_coeff |Omega| / N I) U_i
                = sum_{j in Omega_i} A_ij V_j,      alpha = gravity_coeff |Omega| / (N M),

        items alike with l2_coeff |Omega| / M. The loss never grows. Without l2_coeff rows keep
        their old value in directions that their ratings leave open; a row without ratings becomes 0
        if a coefficient pulls it there, and else stays.

        Args, returns and raises are those of `train`; there is no learning rate to choose. Time of
        a sweep O(|Omega| d^2 + (N + M) d^3), memory O(|Omega| + (N + M) d).

        Source: Hu, Koren, Volinsky (2008), equations 4 and 5, the unobserved weight alpha.
        """
        if self._workers.size > 1:
            raise ValueError(
                "train_als should run on one machine. Received: "
                f"{self._workers.size} workers. Use train."
            )
        ratings = self._both(train, test)
        l2, pull = self._settings()
        sweeps = _als.sweeps_function(
            *_columns(ratings[0]), self._shape(), self.embedding_dim,
            l2_coeff=l2, gravity_coeff=pull,
        )  # fmt: skip

        def advance(count):
            users, items = sweeps(self.user_embeddings, self.item_embeddings, count)
            self._users.assign(users)
            self._items.assign(items)
            self._iteration.assign_add(count)
            return count

        return self._run(
            advance,
            self._measure(ratings),
            (num_iterations, eval_every, patience, progress),
            validated=test is not None,
            advice="Set l2_coeff to 0.001 or more: some rows have no unique solution.",
        )

    def fold_in(self, A: Dataset | tf.SparseTensor | scipy.sparse.sparray) -> np.ndarray:
        """Embed users, known or new, from their ratings: the equation of `train_als`, V fixed.

        A holds ratings of any users: a `Dataset` (its items are found by their ids), or a
        `tf.SparseTensor` or SciPy sparse matrix [n, M]. Returns a float32 array [n, d]: of a user
        without ratings the zero vector, and where the ratings do not determine it, the shortest
        solution. Time O(|Omega| d^2 + n d^3).

        Raises ValueError if the model is untrained (how the loss weighs a user depends on |Omega|),
        or the ratings are not of its items, or not finite.
        """
        A = self._tensor("A", A, training=False)
        items, base = self._fixed()
        users, columns, values = _columns(A)
        starts = np.searchsorted(users, np.arange(A.shape[0] + 1))
        folded = np.zeros((A.shape[0], self.embedding_dim), np.float32)
        for user, (start, stop) in enumerate(itertools.pairwise(starts)):
            if stop > start:
                rated = items[columns[start:stop]]
                right = rated.T @ values[start:stop]
                folded[user] = np.linalg.lstsq(rated.T @ rated + base, right)[0]
        return folded

    def fold_in_parts(self, item_nums: Any, ratings: Any) -> np.ndarray:
        """What each rating of one user adds to the embedding that `fold_in` returns.

        With H the matrix of the user's equation that embedding is sum_j a_j H^-1 V_j, so that
        rating j adds a_j V_i^T H^-1 V_j to the score of item i. Given are rows of the model,
        integers [n], each once, and their ratings [n]; returned is a float64 array [n, d], row j
        the part of rating j. The rows add up to `fold_in`, which raises the same.
        """
        rows, values = _tensors.own_ratings(item_nums, ratings, self.num_items)
        items, base = self._fixed()
        rated = items[rows]
        return values[:, None] * np.linalg.lstsq(rated.T @ rated + base, rated.T)[0].T

    def _fixed(self) -> tuple[np.ndarray, np.ndarray]:
        """V in float64, and the part of a new user's matrix that all users share."""
        count = int(self.user_num_ratings.sum())  # |Omega|
        if not count:
            raise ValueError(
                "fold_in should be called on a trained model. Received: a new one. Call train."
            )
        items, (l2, pull) = self.item_embeddings.astype(np.float64), self._settings()
        base = l2 * count / self.num_users * np.eye(self.embedding_dim)
        return items, base + pull * count / (self.num_users * self.num_items) * items.T @ items

    # The interface of Keras
    def call(self, inputs: Any) -> tf.Tensor:
        """Predicted ratings [n] of integer pairs [n, 2], or of those that a SparseTensor holds."""
        pairs = inputs.indices if isinstance(inputs, tf.SparseTensor) else inputs
        rows = tf.gather(self._users, pairs[:, 0])
        return tf.reduce_sum(rows * tf.gather(self._items, pairs[:, 1]), axis=1)

    def predict(self, x: Any, batch_size: int = 65536, verbose: int = 0, **options: Any) -> Any:
        """Predicted ratings [n] of pairs, as `keras.Model.predict` does it.

        x: integers [n, 2], `user_num` and `item_num`, as an array, a frame or a `tf.data` dataset
        of batches. Raises ValueError if it has another shape or a row is out of range.
        """
        if not isinstance(x, tf.data.Dataset):
            x = np.asarray(x)
            whole = x.ndim == 2 and x.shape[1] == 2 and len(x) > 0 and x.dtype.kind in "iu"
            if not whole or (x < 0).any() or (x >= self._shape()).any():
                raise ValueError(
                    f"x should be integers [n, 2], user_num below {self.num_users} and item_num "
                    f"below {self.num_items}, n > 0. Received: {x.dtype} {list(x.shape)}, {x[:3]}. "
                    "Use np.stack([user_nums, item_nums], axis=1)."
                )
        return super().predict(x, batch_size=batch_size, verbose=verbose, **options)

    def train_step(self, data: tf.SparseTensor) -> dict[str, Any]:
        """One step of the optimizer, for `fit`."""
        self._user_num_ratings.assign(self._of_users(data))
        return super().train_step(data)

    def _loss_parts(self, data):
        (l2_coeff, gravity_coeff), (U, V) = self._now(), self._tables()
        mse = sparse_mean_squared_error(data, U, V)
        l2, pull = l2_coeff * l2_penalty(U, V), gravity_coeff * gravity(U, V)
        return mse + l2 + pull, mse, l2, pull

    # Behind train and train_als
    def _settings(self) -> list[float]:
        return [_checks.finite(name, getattr(self, name)) for name in ("l2_coeff", "gravity_coeff")]

    def _shape(self) -> tuple[int, int]:
        return self.num_users, self.num_items

    def _tables(self) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.convert_to_tensor(self._users), tf.convert_to_tensor(self._items)

    def _of_users(self, ratings):
        count = self.num_users
        return tf.math.bincount(ratings.indices[:, 0], None, count, count, tf.int64)

    def _both(self, train, test):
        ratings = [self._tensor("train", train)]
        return ratings if test is None else [*ratings, self._tensor("test", test)]

    def _advance(self, ratings, batch_size):
        """A function that takes up to so many steps, and returns how many."""
        columns, workers = _columns(ratings), self._workers
        count, per_step, kind = len(columns[0]), _descent.FULL, "sparse"
        if batch_size is not None:
            per_step = min(_checks.positive_integer("batch_size", batch_size), count)
            kind = "batch"
        elif workers.size == 1:
            kind = _descent.choose_kernel(*self._shape(), count)
        num_batches, weights = -(-count // per_step), [2 / count]
        if kind == "dense":
            pull = self._factors()[0]
            parts = _descent.dense_tables(*columns, self._shape(), weights[0], pull)
        else:
            # Batches and their order follow from seed and iteration: nothing else has to be saved.
            dealer = np.random.default_rng([self.seed, 0, 1]) if kind == "batch" else None
            share = workers.index, workers.size
            parts, sizes = _descent.sparse_tables(*columns, num_batches, dealer, share)
            weights = 2 / sizes if dealer else weights
        steps = self._compiled(kind, parts, weights)

        def advance(limit):
            numbers = np.zeros(limit, np.int32)
            if kind == "batch":
                epoch, start = divmod(self.iteration, num_batches)
                order = np.random.default_rng([self.seed, epoch]).permutation(num_batches)
                numbers = order[start : start + limit].astype(np.int32)
            steps(numbers)
            return len(numbers)

        return advance

    def _factors(self) -> list[float]:
        """The factors of gravity and l2 in the gradients; each worker adds its part."""
        l2, pull = self._settings()
        N, M = self._shape()
        factors = 2 * pull / (N * M), 2 * l2 / N, 2 * l2 / M
        return [factor / self._workers.size for factor in factors]

    def _compiled(self, kind, parts, weights) -> Callable[[np.ndarray], None]:
        """A function of batch numbers that takes a step for each; its graph is kept."""
        arguments = (parts, tf.constant(weights, tf.float32), tf.constant(self._factors()))
        l2, pull = (coefficient > 0 for coefficient in self._settings())
        key = (self.optimizer, self._workers, kind, l2, pull)
        if self._steps[0] != key:
            large = sum(self._shape()) * self.embedding_dim >= _LARGE
            compiled, tables = large and self._workers.size == 1, [self._users, self._items]
            step = _descent.step_function(kind, tables, self.optimizer, l2, pull, compiled)
            signature = tf.nest.map_structure(
                lambda each: tf.TensorSpec([None, *each.shape[1:]], each.dtype), arguments
            )
            self._steps = key, self._workers.steps(step, self._iteration, *signature)
        steps = self._steps[1]
        return lambda numbers: steps(numbers, *arguments)

    def _measure(self, ratings) -> Callable[[], dict[str, float]]:
        """A function that measures the model: what a row of the history says of it."""
        counts, workers = [len(A.values) for A in ratings], self._workers
        of_users = self._of_users(ratings[0])
        if workers.size > 1:  # each measures the errors of its own users
            mine = [A.indices[:, 0] % workers.size == workers.index for A in ratings]
            ratings = [tf.sparse.retain(*each) for each in zip(ratings, mine, strict=True)]
        pairs = [(A.indices, A.values) for A in ratings]
        dense = _descent.choose_kernel(*self._shape(), counts[0]) == "dense"
        measure = _descent.measure_function(len(pairs), dense)

        def measured():
            self._user_num_ratings.assign(of_users)  # here, since all arguments have passed
            *errors, l2, pull = measure(pairs, *self._tables()).numpy().tolist()
            train, test = [*(workers.total(errors) / counts).tolist(), np.nan][:2]
            l2, pull = self.l2_coeff * l2, self.gravity_coeff * pull
            row = {"train_mse": train, "test_mse": test, "l2_loss": l2, "gravity_loss": pull}
            return row | {"loss": train + l2 + pull}

        return measured


def _columns(ratings: tf.SparseTensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users and items, int32 [n], and the ratings [n] of a tensor."""
    users, items = ratings.indices.numpy().T.astype(np.int32, order="C")
    return users, items, ratings.values.numpy()

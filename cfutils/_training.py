"""What all trainable models share: ids, the loop of `train`, files, and the hooks of Keras."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
import pandas as pd

from cfutils import _checks, _progress, _tensors, ids
from cfutils._files import replaced
from cfutils._tensorflow import keras, tf
from cfutils.data import Dataset

# What Keras would heed in a way of its own, or ignore.
_REFUSED = {"y", "batch_size", "shuffle", "sample_weight", "class_weight", "validation_split"}
_REFUSED |= {"validation_batch_size", "loss", "loss_weights", "metrics", "weighted_metrics"}


class Alone:
    """The one machine that trains, with all users; `distributed.Workers` is several.

    Machine `index` of `size` has the users index, index + size, index + 2 size and so on.
    """

    index, size, scope = 0, 1, contextlib.nullcontext

    def total(self, values: Any) -> np.ndarray:
        """The sum over machines of an array that each of them has."""
        return np.asarray(values)

    def steps(self, step: Callable, counter: Any, *signature: Any) -> Callable[..., None]:
        """Compile `step(number, *arguments)` into a function of (numbers, *arguments)."""

        def several(numbers: Any, *arguments: Any) -> None:
            def one(at: Any) -> tuple:
                step(numbers[at], *arguments)
                counter.assign_add(1)
                return (at + 1,)

            tf.while_loop(lambda at: at < tf.size(numbers), one, (0,), parallel_iterations=1)

        # A concrete function: tracing one per model is meant, and TensorFlow would warn of it.
        graph = tf.function(several, autograph=False).get_concrete_function(
            tf.TensorSpec([None], tf.int32), *signature
        )
        return lambda numbers, *arguments: graph(tf.constant(numbers, tf.int32), *arguments)


class TrainedModel(keras.Model):
    """A Keras model with a loss of its own, trained on ratings by `_run` or by `fit`.

    A subclass calls `_start` at the end of its constructor, and defines `_loss_parts(tensor)`,
    tensors in the order of `_parts` (`fit` minimizes the first); `_settings()`, two numbers that
    may have been changed since, checked; `_by_id()`, "users" or "items" for the path of each table.
    """

    _arguments: tuple[str, ...]  # further ones of the constructor, kept under their names
    _parts: tuple[str, ...] = ("loss",)
    _objective = "loss"  # the column of the history that has to stay finite
    _watched = "test_mse", "test"  # the column that `patience` watches, and the argument behind it
    _any_users = False  # whether a row of ratings may be anybody's: num_users is None then
    num_users: Any

    def __init__(self, data: Any, init_stddev: float, seed: int, name: str | None) -> None:
        super().__init__(name=name, dtype="float32")  # whatever keras.config says
        self.init_stddev = _checks.finite("init_stddev", init_stddev, positive=True)
        self.seed = _checks.integer("seed", seed, 0)
        self._set_ids()
        if isinstance(data, Dataset):
            self._set_ids(data.users["user_id"], data.items["item_id"])
            data = data.num_users, data.num_items
        elif not isinstance(data, (tuple, list, tf.TensorShape)) or len(data) != 2:
            raise ValueError(
                "data should be a Dataset, or a pair (number of users, number of items). "
                f"Received: {type(data).__name__}. load_ratings makes a Dataset of any table."
            )
        users, items = (_checks.positive_integer("data: a number", count) for count in data)
        self.num_users, self.num_items = None if self._any_users else users, items

    def _set_ids(self, users: Any = None, items: Any = None) -> None:
        self.user_ids = None if users is None or self._any_users else ids.texts(users)
        self.item_ids = None if items is None else ids.texts(items)

    def _start(self) -> None:
        self._workers = Alone()
        self._iteration = self._counter("iteration")  # saved: training goes on in its epoch
        self._trackers = [keras.metrics.Mean(name, dtype="float32") for name in self._parts]
        self._steps: tuple[Any, Any] = (None, None)  # compiled for the last training: key, function
        self.built = True

    def _counter(self, name: str, *shape: int) -> Any:
        return self.add_weight(shape, "zeros", dtype="int64", trainable=False, name=name)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, with the ids of users and items as texts."""
        known = {"users": self.user_ids, "items": self.item_ids}
        texts = {name: index.tolist() for name, index in known.items() if index is not None}
        kept = ("name", "num_users", "num_items", *self._arguments, "init_stddev", "seed")
        return {name: getattr(self, name) for name in kept} | {"ids": texts or None}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TrainedModel:
        """A new model of this configuration."""
        config = dict(config)
        known, users, items = (config.pop(name, None) for name in ("ids", "num_users", "num_items"))
        model = cls((users or 1, items), **config)
        model._set_ids(**(known or {}))
        return model

    @property
    def iteration(self) -> int:
        """Steps, sweeps and `fit` batches done so far; 0 for a model that is untrained."""
        return int(self._iteration.numpy())

    def for_data(self, data: Dataset, item_features: Any = None) -> Self:
        """A new model of the same kind and settings for another `Dataset`, such as today's.

        Rows of users and items that this model has are found by id and copied, new ones are those
        of a new model, others are dropped and counted in a UserWarning. `iteration` goes on, the
        optimizer starts anew. A model with features needs those of `data`, in the same columns.

        Raises ValueError for a model without ids, data without a known item, or other features.
        """
        if self.item_ids is None:
            raise ValueError(
                "for_data should be called on a model with ids. Received: one made for a pair. "
                "Make one for its Dataset, and call new.set_weights(model.get_weights())."
            )
        rows, gone = ids.align(self, data), {}
        made, kinds = self._like(data, rows, item_features), self._by_id()
        for old, new in zip(self._changing(), made._changing(), strict=True):
            values = old.numpy()
            if kind := kinds.get(old.path):
                found, table = getattr(rows, kind), new.numpy()
                table[found >= 0] = values[found[found >= 0]]
                gone[f"{len(values)} {kind}"] = len(values) - (found >= 0).sum()
                values = table
            new.assign(values)
        if self.compiled:
            made._set_optimizer(self.optimizer.from_config(self.optimizer.get_config()), None)
        if any(gone.values()):
            text = " and ".join(f"{number} of {all_}" for all_, number in gone.items())
            warnings.warn(f"data lacks {text} of the model: they are dropped.", stacklevel=2)
        return made

    def _like(self, data: Dataset, rows: ids.Alignment, item_features: Any) -> Self:
        options = {} if item_features is None else {"item_features": item_features}
        kept = ("name", *self._arguments, "init_stddev", "seed")
        return type(self)(data, **{name: getattr(self, name) for name in kept}, **options)

    def _changing(self) -> list[Any]:
        """What training changes: tables, layers and counters."""
        counters = [each for each in self.non_trainable_variables if each.dtype == "int64"]
        return [*self.trainable_variables, *counters]

    def _tensor(self, name: str, ratings: Any, *, training: bool = True) -> tf.SparseTensor:
        """Checked ratings [N, M]; [n, M], of SciPy too, where the rows may be anybody's."""
        if isinstance(ratings, Dataset):
            return _tensors.of_model(self, ratings, any_users=self._any_users or not training)
        shape = (self.num_users if training else None, self.num_items)
        return _tensors.canonical(name, ratings, shape, empty=not training)

    # The interface of Keras
    def compile(self, optimizer: Any = "sgd", loss: None = None, **options: Any) -> None:
        """Set the optimizer of `fit`; the loss is the model's own."""
        _refuse(loss=loss, **options)
        super().compile(optimizer, **({"jit_compile": False} | options))

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Set the optimizer again when a saved model is loaded."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any, y: None = None, *, validation_data: Any = None, **options: Any) -> Any:
        """`keras.Model.fit`: a step for each tensor of ratings, so one an epoch for a `Dataset`.

        x and validation_data are what `train` takes, or tf.data datasets of whole SparseTensors.
        Raises ValueError for what `train` refuses, and for options that do not apply to ratings.
        """
        with self._feeding(y=y, **options) as feed:
            x = feed("x", x)
            if validation_data is not None:
                validation_data = feed("validation_data", validation_data)
            if self.compiled and not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
            # The one element of a dataset has no other order.
            return super().fit(x, validation_data=validation_data, shuffle=False, **options)

    def evaluate(self, x: Any, y: None = None, **options: Any) -> Any:
        """`keras.Model.evaluate`: the loss and its parts on ratings, given as to `fit`."""
        with self._feeding(y=y, **options) as feed:
            return super().evaluate(feed("x", x), **options)

    def _now(self) -> list[tf.Tensor]:
        """The settings, looked up at each step: a graph would keep those of its first."""
        now = tf.numpy_function(lambda: np.array(self._settings(), np.float32), [], tf.float32)
        return tf.unstack(tf.ensure_shape(now, [2]))

    @contextlib.contextmanager
    def _feeding(self, **options: Any) -> Iterator[Callable[[str, Any], tf.data.Dataset]]:
        """Gives what makes checked datasets of ratings, and raises what their checks find."""
        _refuse(**options)
        self._settings()
        faults: list[ValueError] = []

        def feed(name: str, x: Any) -> tf.data.Dataset:
            shape = (self.num_users, self.num_items)
            return _tensors.checked_elements(name, x, shape, self._tensor, faults)

        try:
            yield feed
        except tf.errors.OpError:
            if faults:
                raise faults[0] from None
            raise

    def _not_offered(self, *args: Any, **options: Any) -> None:
        """Not offered: ratings would not be checked, or a model not be loaded again."""
        raise NotImplementedError("Call train, fit, evaluate or save.")

    train_on_batch = test_on_batch = export = _not_offered

    @property
    def metrics(self) -> list[Any]:
        """The trackers of the loss and its parts."""
        return self._trackers

    def train_step(self, data: tf.SparseTensor) -> dict[str, Any]:
        """One step of the optimizer, for `fit`."""
        variables = self.trainable_variables
        with tf.GradientTape() as tape:
            parts = self._loss_parts(data)
        gradients = tape.gradient(parts[0], [variable.value for variable in variables])
        with tf.control_dependencies([data.values]):  # nothing is counted where their check fails
            self.optimizer.apply(gradients, variables)
            self._iteration.assign_add(1)
        return self._track(parts)

    def test_step(self, data: tf.SparseTensor) -> dict[str, Any]:
        """The loss and its parts, for `evaluate`."""
        return self._track(self._loss_parts(data))

    def _track(self, parts: Any) -> dict[str, Any]:
        for tracker, part in zip(self._trackers, parts, strict=True):
            tracker.update_state(part)
        return {tracker.name: tracker.result() for tracker in self._trackers}

    # Files
    def save(self, filepath: str | os.PathLike, overwrite: bool = True) -> None:
        """Save the model, with its ids and the state of its optimizer, for `load_model`.

        The file is at every moment whole, the old or the new one. Raises ValueError for a name
        that does not end in .keras, FileExistsError for a file there if `overwrite` is False.
        """
        with _written(filepath, ".keras", overwrite) as scratch:
            super().save(scratch)

    def save_weights(self, filepath: str | os.PathLike, overwrite: bool = True) -> None:
        """Save the numbers alone, as `save` does, under a name that ends in .weights.h5."""
        with _written(filepath, ".weights.h5", overwrite) as scratch:
            super().save_weights(scratch)

    def load_weights(self, filepath: str | os.PathLike, **options: Any) -> None:
        """Take the numbers of a .keras or .weights.h5 file; all of them, or ValueError and none."""
        state = [*self.variables, *(self.optimizer.variables if self.compiled else [])]
        before = [variable.numpy() for variable in state]
        try:
            with _read(filepath, (".keras", ".weights.h5")):
                super().load_weights(filepath, **options)
        except BaseException:
            _restore(state, before)
            raise

    # Training
    def _set_optimizer(self, optimizer: Any, learning_rate: float | None) -> None:
        """Go on with the optimizer at hand if the one asked for is configured alike."""
        if learning_rate is not None:
            learning_rate = _checks.finite("learning_rate", learning_rate, positive=True)
        asked = keras.optimizers.get(optimizer)
        if not self.compiled or asked is not self.optimizer:
            kind, rate = _configuration(asked)
            if not self.compiled or kind != _configuration(self.optimizer)[0]:
                # A copy, so that one instance can be handed to several models.
                self.compile(asked.from_config(asked.get_config()) if asked.built else asked)
            elif learning_rate is None:
                learning_rate = rate
        if learning_rate is not None:
            self.optimizer.learning_rate = learning_rate
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    def _run(self, advance, measure, schedule, *, validated, advice):
        """Advance, record, keep the best: the loop that all solvers share.

        `advance(steps)` does that many steps or fewer and returns how many; `measure()` is what a
        row of the history says of the model; `advice` helps where the loss is no longer finite.
        """
        num_iterations, eval_every, patience, progress = schedule
        num_iterations = _checks.positive_integer("num_iterations", num_iterations)
        eval_every = _checks.positive_integer("eval_every", eval_every)
        column, argument = self._watched
        if patience is not None:
            patience = _checks.positive_integer("patience", patience)
            if not validated:
                raise ValueError(f"{argument} should be given if patience is. Received: None.")
        kept = _Kept(self, column if patience else None)
        start = measure()
        kept.lowest = start[column]
        history = [] if self.iteration else [{"iteration": 0, "seconds": 0.0} | start]
        done, seconds = 0, 0.0
        with _progress.bar(num_iterations, "it", progress) as bar, kept.guarded(self, advice):
            while done < num_iterations and kept.worse != patience:
                target = min(num_iterations, done + eval_every)
                while done < target:
                    started = time.perf_counter()
                    steps = advance(target - done)
                    seconds += time.perf_counter() - started
                    done += steps
                    bar.update(steps)
                row = measure()
                if not np.isfinite(row[self._objective]):
                    raise FloatingPointError
                history.append({"iteration": self.iteration, "seconds": seconds} | row)
                kept.keep(row)
                bar.set_postfix(loss=f"{row[self._objective]:.4f}", refresh=False)
        if patience:
            _restore(kept.state, kept.best or kept.good)
        return pd.DataFrame(history)


class _Kept:
    """The last finite state of a model in training and, where a column is watched, the best one."""

    def __init__(self, model: TrainedModel, column: str | None) -> None:
        self.state = model._changing() + (model.optimizer.variables if model.compiled else [])
        self.good = [variable.numpy() for variable in self.state]
        self.column, self.best = column, self.good if column else None
        self.lowest, self.worse = np.inf, 0

    def keep(self, row: dict[str, float]) -> None:
        """The state is that of a finite row of the history."""
        if self.good is self.best:
            self.good = [*self.good]
        for place, variable in enumerate(self.state):  # one by one: there may be no room for more
            self.good[place] = variable.numpy()
        if self.column is not None:
            self.worse += 1
            if row[self.column] < self.lowest:
                self.lowest, self.best, self.worse = row[self.column], self.good, 0

    @contextlib.contextmanager
    def guarded(self, model: TrainedModel, advice: str) -> Iterator[None]:
        """Go back to the last finite state where the loss is no longer finite, and say so."""
        try:
            yield
        except (FloatingPointError, tf.errors.InvalidArgumentError) as error:
            if not isinstance(error, FloatingPointError) and "Cholesky" not in str(error):
                raise
            at = model.iteration
            _restore(self.state, self.good)
            raise FloatingPointError(
                "The loss should stay finite. Received: a loss or solution that is not, between "
                f"iterations {model.iteration} and {at}. {advice} Or bring the ratings to a scale "
                "of about 1 to 5; if they are counts: data = dataclasses.replace(data, ratings="
                'data.ratings.assign(rating=np.log1p(data.ratings["rating"]))). '
                f"The model has its weights of iteration {model.iteration}."
            ) from error
        except KeyboardInterrupt as error:
            error.add_note(f"The model keeps its {model.iteration} iterations; it can go on.")
            raise


def load_model(path: str | os.PathLike) -> TrainedModel:
    """Load what `save` wrote: a `CFModel` or a `SoftmaxModel`, to train on or to recommend from.

    Nothing that stands in the file is run. Raises FileNotFoundError if there is none, ValueError
    if it is not whole or holds something else.
    """
    with _read(path, ".keras"):
        model = keras.saving.load_model(path)
        if not isinstance(model, TrainedModel):
            raise ValueError(f"it holds a {type(model).__name__}")
    return model


@contextlib.contextmanager
def _read(path: str | os.PathLike, endings: str | tuple[str, ...]) -> Iterator[None]:
    """Says what is wrong with a file that can't be read."""
    name = os.fspath(path)
    try:
        if not name.endswith(endings):
            raise ValueError(f"the name does not end in {endings}")
        if name.endswith(".keras"):
            with zipfile.ZipFile(path) as archive:
                if altered := archive.testzip():
                    raise ValueError(f"the checksum of {altered} is another")
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            "path should be a file that a model of this kind was saved in, whole and unaltered. "
            f"Received: {name!r}: {error}. Take another copy of the file."
        ) from error


@contextlib.contextmanager
def _written(path: str | os.PathLike, ending: str, overwrite: bool) -> Iterator[Any]:
    """Gives the path of a new file that takes the place of the old one once it is whole."""
    name = os.fspath(path)
    if not name.endswith(ending) or "://" in name:
        raise ValueError(
            f"filepath should be the name of a local file that ends in {ending}. Received: "
            f"{name!r}. Nothing was written."
        )
    if not overwrite and os.path.exists(name):
        raise FileExistsError(f"filepath should be new if overwrite is False. Received: {name!r}.")
    with replaced(name) as scratch:
        yield scratch


def _refuse(**options: Any) -> None:
    for name in _REFUSED.intersection(options):
        if options[name] is not None:
            raise ValueError(
                f"{name} should not be given: the loss is the model's own, over all ratings of x "
                f"at once. Received: {type(options[name]).__name__}. Leave it out."
            )


def _restore(state: list[Any], values: list[np.ndarray]) -> None:
    for variable, value in zip(state, values, strict=True):
        variable.assign(value)


def _configuration(optimizer: Any) -> tuple[Any, float | None]:
    """What must agree for two optimizers to share their state, and the learning rate beside it."""
    serialized = keras.saving.serialize_keras_object(optimizer)
    config = {key: value for key, value in serialized["config"].items() if key != "name"}
    # A schedule is part of what must agree, a plain number is not.
    schedule = isinstance(config.get("learning_rate"), dict)
    rate = None if schedule else config.pop("learning_rate", None)
    return (serialized["class_name"], config), rate

"""What all trainable models share: the loop of `train`, optimizers that go on, the Keras hooks."""

import os
import time
import zipfile

import numpy as np
import pandas as pd

from cfutils import _checks, _progress
from cfutils._files import replaced
from cfutils._tensorflow import keras, tf

_LARGEST = 1e15  # of a rating: float32 still holds the sum of the squares of many


class TrainedModel(keras.Model):
    """A Keras model with a loss of its own, trained by `_run` or by `fit` on ratings tensors.

    A subclass calls `_start` at the end of its constructor and defines `_variables()`, the list of
    what an optimizer changes, `_loss_parts(tensor)`, tensors in the order of `_parts`, of which the
    first is the loss that `fit` minimizes, `_row(measured)`, a dict for the history, and which of
    its columns are the loss and the validation.
    """

    _parts = ("loss",)
    _objective = "loss"  # the column of the history that has to stay finite
    _watched = "test_mse", "A_test"  # the column that `patience` watches, and where it comes from

    def _start(self):
        # In the scope of a strategy of several workers each does its share of a step.
        self._strategy, self._worker, self._num_workers = _place()
        # Saved with the model: training goes on in its epoch.
        self._iteration = self._counter("iteration")
        self._trackers = [keras.metrics.Mean(name) for name in self._parts]
        self._steps, self._totals = None, {}
        self.built = True

    def _set_ids(self, ids, num_users, num_items):
        """Take the ids of the rows from a `MovieLens` or a saved model's configuration."""
        self.user_ids = self.item_ids = None
        if ids is None:
            return
        if not isinstance(ids, dict):
            if not hasattr(ids, "users") or not hasattr(ids, "movies"):
                raise ValueError(
                    "ids should be the MovieLens frames that the model is for. Received: "
                    f"{type(ids).__name__}. Pass what load_ratings or load_movielens returned."
                )
            ids = {"users": ids.users["original_id"], "items": ids.movies["original_id"]}
        for name, rows in (("users", num_users), ("items", num_items)):
            if rows is None:
                continue
            texts = _checks.texts(ids[name])
            if len(texts) != rows or not texts.is_unique:
                raise ValueError(
                    f"ids should have {rows} {name}, as many as the model, with an id each. "
                    f"Received: {len(texts)}, {texts.nunique()} of them different. Take num_users "
                    "and num_items from the same data."
                )
            setattr(self, "user_ids" if name == "users" else "item_ids", texts)

    def _ids_config(self):
        known = {"users": self.user_ids, "items": self.item_ids}
        return {name: ids.tolist() for name, ids in known.items() if ids is not None} or None

    def _counter(self, name):
        return self.add_weight((), "zeros", dtype="int64", trainable=False, name=name)

    @property
    def iteration(self):
        """Steps, sweeps and `fit` batches done so far."""
        return int(self._iteration.numpy())

    def compile(self, optimizer="sgd", loss=None, jit_compile=False, **kwargs):
        """Set the optimizer of `fit`; the loss is the model's own."""
        if loss is not None:
            raise ValueError(
                f"loss should be None: the model's loss is fixed. Received: {loss!r}. The "
                "arguments of the constructor shape it."
            )
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config):
        """Set the optimizer again when a saved model is loaded."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self._variables())

    def fit(self, x=None, *args, validation_data=None, **kwargs):
        """`keras.Model.fit` on a SparseTensor [N, M] (a step per epoch) or a dataset of them."""
        kwargs = {"shuffle": False} | kwargs  # the one element of a dataset has no other order
        return super().fit(
            _as_dataset(x), *args, validation_data=_as_dataset(validation_data), **kwargs
        )

    def evaluate(self, x=None, *args, **kwargs):
        """`keras.Model.evaluate`: the loss and its parts on a SparseTensor or a dataset."""
        return super().evaluate(_as_dataset(x), *args, **kwargs)

    @property
    def metrics(self):
        """The trackers of the loss and its components."""
        return self._trackers

    def train_step(self, data):
        """One step of the optimizer on a SparseTensor of ratings, for `fit`."""
        self._check_tensor(data)
        variables = self._variables()
        with tf.GradientTape() as tape:
            parts = self._loss_parts(data)
        gradients = tape.gradient(parts[0], [variable.value for variable in variables])
        self.optimizer.apply(gradients, variables)
        self._iteration.assign_add(1)
        return self._track(parts)

    def test_step(self, data):
        """The loss on a SparseTensor of ratings, for `evaluate`."""
        self._check_tensor(data)
        return self._track(self._loss_parts(data))

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """`keras.Model.save`; a `.keras` file is at every moment whole, the old or the new one."""
        name = os.fspath(filepath)
        if not name.endswith(".keras") or zipped is False or "://" in name:
            return super().save(filepath, overwrite, zipped, **kwargs)
        if _may_write(name, overwrite):
            with replaced(name) as scratch:
                super().save(scratch, True, zipped, **kwargs)

    def save_weights(self, filepath, overwrite=True, max_shard_size=None):
        """`keras.Model.save_weights`; a file is at every moment whole, the old or the new one."""
        name = os.fspath(filepath)
        if not name.endswith(".weights.h5") or max_shard_size is not None or "://" in name:
            return super().save_weights(filepath, overwrite, max_shard_size)
        if _may_write(name, overwrite):
            with replaced(name) as scratch:
                super().save_weights(scratch)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """`keras.Model.load_weights`; where it raises, the model is as it was.

        Raises:
            ValueError: If the file is not whole, or a table in it has another shape.
        """
        state = [*self.variables, *(self.optimizer.variables if self.compiled else [])]
        before = [variable.numpy() for variable in state]
        try:
            if str(filepath).endswith(".keras"):
                with zipfile.ZipFile(filepath) as archive:
                    altered = archive.testzip()
                if altered:
                    raise zipfile.BadZipFile(f"the checksum of {altered} is another")
            super().load_weights(filepath, skip_mismatch, **kwargs)
        except BaseException as error:
            self._restore(state, before)
            if isinstance(error, FileNotFoundError):
                raise
            if isinstance(error, (OSError, KeyError, zipfile.BadZipFile)):
                raise ValueError(
                    f"filepath should be a whole .keras or .weights.h5 file. Received: {filepath}, "
                    f"{error}. The model is as it was; take another copy of the file."
                ) from error
            raise

    def load_own_variables(self, store):
        """What Keras calls to fill the tables from a file: all of them, or none."""
        for number, variable in enumerate(self.weights):
            expected = list(variable.shape)
            received = list(store[str(number)].shape) if str(number) in store else "nothing"
            if received != expected:
                raise ValueError(
                    f"{variable.name} should have the model's shape {expected}. Received: "
                    f"{received} in the file. Make the model with the arguments of the one that "
                    "was saved, or load that one: keras.saving.load_model."
                )
        super().load_own_variables(store)

    def _check_tensor(self, data):
        if not isinstance(data, tf.SparseTensor):
            raise ValueError(
                f"x should be a SparseTensor or a dataset of them. Received: {type(data)}. See "
                "ratings_tensor."
            )

    def _track(self, parts):
        for tracker, part in zip(self._trackers, parts, strict=True):
            tracker.update_state(part)
        return {tracker.name: tracker.result() for tracker in self._trackers}

    def _over_workers(self, step):
        """A step that each worker takes with its own share; the optimizer adds up the gradients."""
        if self._strategy is None:
            return step
        return lambda *arguments: self._strategy.run(step, arguments)

    def _sum_over_workers(self, values):
        """The sum of an array that each worker has, NumPy; the array itself if there is only one.

        Time and memory O(size of the array).
        """
        values = np.asarray(values)
        if self._strategy is None:
            return values

        def total(mine):
            mine = tf.identity(mine)  # on the worker's device
            return tf.distribute.get_replica_context().all_reduce("SUM", mine)

        if values.dtype not in self._totals:
            step = tf.function(self._over_workers(total), autograph=False, reduce_retracing=True)
            self._totals[values.dtype] = step
        return self._totals[values.dtype](tf.constant(values)).numpy()

    def _set_optimizer(self, optimizer, learning_rate):
        """Go on with the optimizer at hand if the one asked for is configured alike."""
        asked = keras.optimizers.get(optimizer)
        if not self.compiled or asked is not self.optimizer:
            kind, rate = _configuration(asked)
            if not self.compiled or kind != _configuration(self.optimizer)[0]:
                # A copy, so that one instance can be handed to several models.
                self.compile(asked.from_config(asked.get_config()) if asked.built else asked)
            elif learning_rate is None:
                learning_rate = rate
        if learning_rate is not None:
            if not np.isfinite(learning_rate) or learning_rate <= 0:
                raise ValueError(
                    f"learning_rate should be positive and finite. Received: {learning_rate}."
                )
            self.optimizer.learning_rate = float(learning_rate)
        if not self.optimizer.built:
            self.optimizer.build(self._variables())

    def _run(
        self,
        advance,
        measured,
        validation,
        num_iterations,
        eval_every,
        patience,
        progress,
        advice,
    ):
        """Advance, record, keep the best: the loop that all solvers share.

        `advance(steps)` does that many steps or fewer and returns how many; `_row(measured)` is
        what a row of the history says of the model.
        """
        num_iterations = _checks.positive_integer("num_iterations", num_iterations)
        eval_every = _checks.positive_integer("eval_every", eval_every)
        watched, source = self._watched

        def row(seconds):
            return {"iteration": self.iteration, "seconds": seconds} | self._row(measured)

        if patience is not None:
            patience = _checks.positive_integer("patience", patience)
            if validation is None:
                raise ValueError(
                    f"{source} should hold validation ratings if patience is given. Received: None."
                )
        # Whatever changes: tables, the state of the optimizer, and the counters.
        state = [*self._variables(), *(w for w in self.weights if w.dtype == "int64")]
        state += self.optimizer.variables if self.compiled else []
        good = [variable.numpy() for variable in state]
        start = row(0.0)
        history = [start] if self.iteration == 0 else []
        best, worse, done, seconds = (start[watched], patience and good), 0, 0, 0.0
        bar = _progress.bar(num_iterations, "it", progress)
        with bar:
            try:
                while done < num_iterations:
                    target = min(num_iterations, done + eval_every)
                    while done < target:
                        started = time.perf_counter()
                        steps = advance(target - done)
                        seconds += time.perf_counter() - started
                        done += steps
                        bar.update(steps)
                    reached = row(seconds)
                    loss = reached[self._objective]
                    if not np.isfinite(loss):
                        raise FloatingPointError
                    if good is best[1]:
                        good = [variable.numpy() for variable in state]
                    else:  # of large tables there is no room for more copies than these
                        for place, variable in enumerate(state):
                            good[place] = variable.numpy()
                    history.append(reached)
                    bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
                    if patience is not None:
                        if reached[watched] < best[0]:
                            best, worse = (reached[watched], good), 0
                        else:
                            worse += 1
                            if worse == patience:
                                break
            except (FloatingPointError, tf.errors.InvalidArgumentError) as error:
                if not isinstance(error, FloatingPointError) and "Cholesky" not in str(error):
                    raise
                at = self.iteration
                self._restore(state, good)
                raise FloatingPointError(
                    f"The loss should stay finite. Received: a loss or solution that is not, "
                    f"between iterations {self.iteration} and {at}. {advice} The model has its "
                    f"weights of iteration {self.iteration}."
                ) from error
            except KeyboardInterrupt as error:
                error.add_note(
                    f"The model keeps its {self.iteration} iterations; train again to go on."
                )
                raise
        if patience is not None:
            self._restore(state, best[1])
        return pd.DataFrame(history)

    @staticmethod
    def _restore(state, values):
        for variable, value in zip(state, values, strict=True):
            variable.assign(value)


def _place():
    """The strategy in scope if it joins several machines, which worker this is, and of how many."""
    strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return None, 0, 1
    resolver, count = strategy.cluster_resolver, strategy.num_replicas_in_sync
    jobs = resolver.cluster_spec().as_dict()
    if sum(map(len, jobs.values())) != count or not set(jobs) <= {"chief", "worker"}:
        raise ValueError(
            "TF_CONFIG should name workers with one device each. Received: "
            f"{count} devices in {jobs}. Set CUDA_VISIBLE_DEVICES to one device per worker."
        )
    first = len(jobs.get("chief", ())) if resolver.task_type == "worker" else 0
    return strategy, first + resolver.task_id, count


def observed(name, tensor, shape):
    """A ratings tensor as checked user ids, item ids (int32) and values, in canonical order.

    `shape` is what the tensor's should be; where it says None any number will do.
    """
    if not isinstance(tensor, tf.SparseTensor):
        raise ValueError(
            f"{name} should be a tf.SparseTensor. Received: {type(tensor)}. See ratings_tensor."
        )
    pairs = zip(tensor.shape, shape, strict=True)
    shape = tuple(received if wanted is None else wanted for received, wanted in pairs)
    if tuple(tensor.shape) != shape:
        raise ValueError(
            f"{name} should have the model's shape {shape}. Received: {tuple(tensor.shape)}."
        )
    indices, values = tensor.indices.numpy(), tensor.values.numpy().astype(np.float32)
    if not len(values) or not (np.abs(values) < _LARGEST).all():  # neither is NaN
        raise ValueError(
            f"{name} should hold at least one rating, all finite and of a size below "
            f"{_LARGEST:g}. Received: {values[:5]}..."
        )
    if indices.min() < 0 or (indices.max(axis=0) >= shape).any():
        raise ValueError(
            f"{name} should have indices below {shape}. Received: up to {indices.max(axis=0)}."
        )
    keys = indices[:, 0] * shape[1] + indices[:, 1]
    steps = np.diff(keys)
    if (steps <= 0).any():
        order = np.argsort(keys)
        indices, values, steps = indices[order], values[order], np.diff(keys[order])
        if (steps == 0).any():
            raise ValueError(
                f"{name} should hold each pair once. Received: pair "
                f"{tuple(indices[np.argmin(steps)].tolist())} twice."
            )
    users, items = indices.T.astype(np.int32)
    return users, items, values


def _may_write(path, overwrite):
    if overwrite or not os.path.exists(path):
        return True
    from keras.src.utils.io_utils import ask_to_proceed_with_overwrite  # as Keras asks itself

    return ask_to_proceed_with_overwrite(path)


def _configuration(optimizer):
    """What must agree for two optimizers to share their state, and the learning rate beside it."""
    serialized = keras.saving.serialize_keras_object(optimizer)
    config = {key: value for key, value in serialized["config"].items() if key != "name"}
    # A schedule is part of what must agree, a plain number is not.
    rate = None if isinstance(config["learning_rate"], dict) else config.pop("learning_rate")
    return (serialized["class_name"], config), rate


def _as_dataset(x):
    return tf.data.Dataset.from_tensors(x) if isinstance(x, tf.SparseTensor) else x

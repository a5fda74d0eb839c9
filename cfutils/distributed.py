"""Training on several machines, each with its share of the users, that survives losing one.

On every machine the same script runs, and `TF_CONFIG` says who takes part and which one this is:

    TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:7000", "10.0.0.2:7000"]},
                "task": {"type": "worker", "index": 0}}' \\
        python -m cfutils.distributed ratings.csv model.keras --num-iterations 1000

All workers hold all embeddings and take every step together: each computes the gradient of its own
users' ratings, the sum goes to all (`tf.distribute.MultiWorkerMirroredStrategy`), and so W workers
do what one does, but for the order of additions. Worker 0 saves the model. When a worker is lost,
the others give up, start again and wait for it; all go on from the last saved model.

The tables on every machine are the limit: with Adam 3.5 KiB per user or item at d 64 (measured with
a million of them), so that 24 GiB serve some seven million; and each step sends 256 bytes per row.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cfutils import _checks
from cfutils._tensorflow import tf
from cfutils._training import Alone, TrainedModel, load_model
from cfutils.data import Dataset

__all__ = ["Workers", "connect", "train"]

# What a worker sees when another one is gone.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)


class Workers(Alone):
    """Several machines that take every step together, each with the gradients of its own users."""

    def __init__(self, strategy: tf.distribute.MultiWorkerMirroredStrategy) -> None:
        self.index, self.size = strategy.cluster_resolver.task_id, strategy.num_replicas_in_sync
        workers = strategy.cluster_resolver.cluster_spec().as_dict()["worker"]
        if len(workers) != self.size:
            raise ValueError(
                "TF_CONFIG should name workers with one device each. Received: "
                f"{self.size} devices of {len(workers)} workers. Set CUDA_VISIBLE_DEVICES to one "
                "device per worker."
            )
        self._strategy, self.scope = strategy, strategy.scope
        self._totals: dict[Any, Any] = {}

    def total(self, values: Any) -> np.ndarray:
        values = np.asarray(values)

        def total(mine):
            mine = tf.identity(mine)  # on the worker's device
            return tf.distribute.get_replica_context().all_reduce("SUM", mine)

        if values.dtype not in self._totals:
            step = lambda mine: self._strategy.run(total, (mine,))  # noqa: E731
            graph = tf.function(step, autograph=False, reduce_retracing=True)
            self._totals[values.dtype] = graph
        return self._totals[values.dtype](tf.constant(values)).numpy()

    def steps(self, step: Callable, counter: Any, *signature: Any) -> Callable[..., None]:
        # They meet in every step, which a loop within the graph does not allow.
        graph = tf.function(
            lambda *arguments: self._strategy.run(step, arguments), autograph=False
        ).get_concrete_function(tf.TensorSpec([], tf.int32), *signature)

        def run(numbers, *arguments):
            for number in numbers:
                graph(tf.constant(number, tf.int32), *arguments)
                counter.assign_add(1)

        return run


def connect() -> Alone:
    """Join the other workers that `TF_CONFIG` names; call it before anything else of TensorFlow.

    Returns the `Workers`, once all of them are there; without `TF_CONFIG`, or with a single worker
    in it, this machine alone. Raises ValueError if it is no JSON of the form that TensorFlow
    documents, RuntimeError if TensorFlow has already done something in this process.
    """
    text = os.environ.get("TF_CONFIG")
    if text is None:
        return Alone()
    try:
        config = json.loads(text)
        workers, index = config["cluster"]["worker"], config["task"]["index"]
        if config["task"]["type"] != "worker" or set(config["cluster"]) != {"worker"}:
            raise ValueError
        workers[_checks.integer("index", index, 0)].split(":")[1]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise ValueError(
            'TF_CONFIG should be {"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
            f'"worker", "index": one of them, counted from 0}}}}. Received: {text}.'
        ) from None
    if len(workers) == 1:
        return Alone()
    return Workers(tf.distribute.MultiWorkerMirroredStrategy())


def train(
    workers: Alone,
    build: Callable[[], TrainedModel],
    ratings: Dataset | tf.SparseTensor,
    validation: Any = None,
    *,
    path: str | os.PathLike,
    num_iterations: int,
    save_every: int,
    optimizer: Any = "adam",
    learning_rate: float | None = None,
    **how: Any,
) -> tuple[TrainedModel, pd.DataFrame]:
    """Train a model on all workers, which call this alike, from the last saved state if any.

    Args:
        workers: What `connect` returned.
        build: Function without arguments that makes the model, a `CFModel` or a `SoftmaxModel`.
        ratings: All ratings; of W workers worker w trains on those of users w, w + W, w + 2 W...
        validation, learning_rate: As for the model's `train`.
        path: File of the saved model, "....keras", which worker 0 alone reads and writes.
        num_iterations: Number of steps in all, those of the saved model included.
        save_every: Number of steps between two savings; as many may have to be done again.
        optimizer: As for the model's `train`; with another one than before it is an error.
        **how: Further arguments of the model's `train`, such as `batch_size` (of all workers
            together) and `eval_every`; not `patience`.

    Returns `(model, history)`: the trained model, equal on all workers, and the frame of the
    model's `train` for the steps done now.

    Raises:
        ValueError: If an argument is outside its range, or the model saved at `path` is not one
            that `build` makes and `optimizer` trains.
        tf.errors.OpError: If another worker is gone. Start this process again then;
            `python -m cfutils.distributed` does so by itself.

    Time of a step on W workers that of the model's `train` on 1/W of the ratings, and
    O((N + M) d) to add up the gradients and send them; memory that of `train`, on each worker.
    """
    path = pathlib.Path(path)
    save_every = _checks.positive_integer("save_every", save_every)
    num_iterations = _checks.positive_integer("num_iterations", num_iterations)
    if path.suffix != ".keras" or not path.parent.is_dir():
        raise ValueError(
            f"path should be a file name that ends in .keras, in a folder that exists. Received: "
            f"{str(path)!r}."
        )
    if "patience" in how:
        raise ValueError(
            f"patience should not be given here. Received: {how['patience']}. Train for more "
            "iterations and compare the rows of the history."
        )
    how |= {"optimizer": optimizer, "learning_rate": learning_rate}
    with workers.scope():
        model = build()
        model._workers = workers
        model._set_optimizer(optimizer, learning_rate)
    saved = _load(path, model) if workers.index == 0 and path.exists() else None
    if workers.total(float(saved is not None)):
        _restore(model, saved)
    histories = [pd.DataFrame()]
    while model.iteration < num_iterations:
        # Savings are at multiples of save_every, wherever the last process was stopped.
        todo = min(num_iterations - model.iteration, save_every - model.iteration % save_every)
        with workers.scope():
            histories.append(model.train(ratings, validation, num_iterations=todo, **how))
        if workers.index == 0:
            model.save(path)
    return model, pd.concat(histories, ignore_index=True)


def _load(path, model):
    """The saved model, if it fits the one at hand."""
    saved = load_model(path)
    wanted, received = (
        each.get_config()
        | {"name": type(each).__name__, "optimizer": type(each.optimizer).__name__}
        for each in (model, saved)
    )
    if wanted.pop("ids") != received.pop("ids"):
        raise ValueError(
            "path should hold a model of the same users and items. Received: a model of others in "
            f"{path}. To go on with these ratings, name another path after "
            "load_model(path).for_data(data).save(other_path); or take the ratings that it was "
            "trained on, or move the file away to start anew."
        )
    if wanted != received:
        differs = [name for name in wanted if wanted[name] != received.get(name)]
        raise ValueError(
            f"path should hold a model with {', '.join(f'{n} {wanted[n]}' for n in differs)}. "
            f"Received: {', '.join(f'{n} {received.get(n)}' for n in differs)} in {path}. Name "
            "another path, or move the file away to start anew."
        )
    return saved


def _restore(model, saved):
    """Give all workers the state of the model that worker 0 has loaded."""
    targets = [*model.weights, *model.optimizer.variables]
    for number, target in enumerate(targets):
        value = np.zeros(target.shape, target.dtype)
        if saved is not None:
            value = [*saved.weights, *saved.optimizer.variables][number].numpy()
        target.assign(model._workers.total(value))


def _options() -> argparse.ArgumentParser:
    from cfutils.tables import add_options

    parser = argparse.ArgumentParser(
        prog="python -m cfutils.distributed",
        description="Train a model on a table of ratings, on as many machines as TF_CONFIG names.",
    )
    add = parser.add_argument
    add("ratings", help="file of ratings, the same on every machine")
    add("path", help="file of the model, ....keras; taken up where it ends")
    add("--model", choices=["cf", "softmax"], default="cf")
    add_options(parser.add_argument_group("the table, as for cfutils.load_ratings"))
    add("--embedding-dim", type=int, default=64)
    add("--l2-coeff", type=float, default=0.0, help="cf only")
    add("--gravity-coeff", type=float, default=0.0, help="cf only")
    add("--rating-power", type=float, default=0.0, help="softmax only")
    add("--num-sampled", type=int, help="softmax only: sampled items per step")
    add("--seed", type=int, default=0)
    add("--num-iterations", type=int, required=True, help="steps in all")
    add("--batch-size", type=int, help="ratings (cf) or users (softmax) per step")
    add("--optimizer", default="adam")
    add("--learning-rate", type=float, default=0.01)
    add("--save-every", type=int, default=100, help="steps between savings")
    add("--eval-every", type=int, default=100, help="steps between measurements")
    add("--restarts", type=int, default=10, help="how often to start again after losing a worker")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module."""
    options = _options().parse_args(arguments)
    try:
        _train(options)
    except LOST as error:
        if not options.restarts:
            raise
        print(f"A worker is gone ({type(error).__name__}); starting again.", file=sys.stderr)
        again = list(sys.argv[1:] if arguments is None else arguments)
        again += ["--restarts", str(options.restarts - 1)]
        sys.stderr.flush()
        time.sleep(1)
        os.execv(sys.executable, [sys.executable, "-m", "cfutils.distributed", *again])


def _train(options):
    workers = connect()
    from cfutils.factorization import CFModel
    from cfutils.softmax import SoftmaxModel
    from cfutils.tables import from_options

    def chosen(names):
        return {name: getattr(options, name) for name in names.split()}

    data = from_options(options.ratings, options)

    def build():
        if options.model == "softmax":
            width = options.embedding_dim
            return SoftmaxModel(data, input_dims=width, **chosen("rating_power seed"))
        return CFModel(data, **chosen("embedding_dim l2_coeff gravity_coeff seed"))

    how = chosen("path num_iterations save_every batch_size optimizer learning_rate eval_every")
    how |= chosen("num_sampled") if options.model == "softmax" else {}
    _, history = train(workers, build, data, **how)
    print(history.drop(columns="seconds").to_string(index=False))


if __name__ == "__main__":
    main()

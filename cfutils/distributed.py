"""Training on several machines, each with its share of the users, that survives losing one.

On every machine the same script runs, and `TF_CONFIG` says who takes part and which one this is:

    TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:7000", "10.0.0.2:7000"]},
                "task": {"type": "worker", "index": 0}}' \\
        python -m cfutils.distributed ratings.csv model.keras --num-iterations 1000

All workers hold all embeddings and take every step together: each computes the gradient of its own
users' ratings, the sum goes to all (`tf.distribute.MultiWorkerMirroredStrategy`), and so W workers
do what one does, but for the order of additions. Worker 0 saves the model. When a worker is lost,
the others give up, start again and wait for it; all go on from the last saved model.

What limits it is that the tables are on every machine. Parameters, gradients, their sum, Adam's two
moments and the copy to fall back to take 3.5 KiB per user or movie at d 64 (measured with a million
of them), so 24 GiB serve some seven million users and movies together; and each step sends all
gradients over the network, 256 bytes per row. The next step past that would keep a user's embedding
only on the worker that has the user's ratings (no other ever needs it) and spread the movies' rows
over the workers, looked up by those who need them.
"""

import argparse
import json
import os
import pathlib
import sys
import time

import numpy as np
import pandas as pd

from cfutils import _checks
from cfutils._tensorflow import keras, tf

__all__ = ["connect", "train"]

# What a worker sees when another one is gone.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)


def connect():
    """Join the other workers that `TF_CONFIG` names; call it before anything else of TensorFlow.

    Returns:
        `tf.distribute.MultiWorkerMirroredStrategy`, once all workers are there; without
        `TF_CONFIG` the strategy of a single machine. Time and memory O(1).

    Raises:
        ValueError: If `TF_CONFIG` is no JSON of the form that TensorFlow documents.
        RuntimeError: If TensorFlow has already done something in this process.
    """
    if "TF_CONFIG" not in os.environ:
        return tf.distribute.get_strategy()
    text = os.environ["TF_CONFIG"]
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
    return tf.distribute.MultiWorkerMirroredStrategy()


def train(
    strategy,
    build,
    A_train,
    A_validation=None,
    *,
    path,
    num_iterations,
    save_every,
    optimizer="adam",
    learning_rate=None,
    **how,
):
    """Train a model on all workers, from the last saved state if there is one.

    Every worker calls it with equal arguments.

    Args:
        strategy: What `connect` returned.
        build: Function without arguments that makes the model, a `CFModel` or a `SoftmaxModel`.
        A_train: `tf.SparseTensor` of all ratings; a worker trains on its users' rows alone. With W
            workers worker w has users w, w + W, w + 2 W and so on.
        A_validation: As for the model's `train`.
        path: File of the saved model, "....keras", on the machine of worker 0, which alone reads
            and writes it.
        num_iterations: Number of steps in all, those of the saved model included.
        save_every: Number of steps between two savings; as many may have to be done again.
        optimizer: As for the model's `train`; with another one than before it is an error.
        learning_rate: As for the model's `train`.
        how: Further arguments of the model's `train`, such as `batch_size` (of all workers
            together) and `eval_every`; not `patience`.

    Returns:
        `(model, history)`: the trained model, equal on all workers, and the frame of the model's
        `train` for the steps done now.

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
            "path should be a file name that ends in .keras, in a folder that exists. Received: "
            f"{str(path)!r}."
        )
    if "patience" in how:
        raise ValueError(
            f"patience should not be given here. Received: {how['patience']}. Train for more "
            "iterations and compare the rows of the history."
        )
    how |= {"optimizer": optimizer, "learning_rate": learning_rate}
    with strategy.scope():
        model = build()
        model._set_optimizer(optimizer, learning_rate)
    saved = _load(path, model) if model._worker == 0 and path.exists() else None
    if model._sum_over_workers(float(saved is not None)):
        _restore(model, saved)
    histories = [pd.DataFrame()]
    while model.iteration < num_iterations:
        # Savings are at multiples of save_every, wherever the last process was stopped.
        todo = min(num_iterations - model.iteration, save_every - model.iteration % save_every)
        with strategy.scope():
            histories.append(model.train(A_train, A_validation, num_iterations=todo, **how))
        if model._worker == 0:
            model.save(path)
    return model, pd.concat(histories, ignore_index=True)


def _load(path, model):
    """The saved model, if it fits the one at hand."""
    try:
        saved = keras.saving.load_model(path)
    except Exception as error:
        raise ValueError(
            f"path should hold a model that was saved whole. Received: {path}, which can't be "
            f"loaded: {error}. Move it away to start anew."
        ) from error
    wanted, received = (
        {
            **each.get_config(),
            "name": type(each).__name__,
            "optimizer": type(each.optimizer).__name__,
        }
        for each in (model, saved)
    )
    if wanted.pop("ids") != received.pop("ids", None):
        raise ValueError(
            "path should hold a model of the same users and items. Received: a model of others in "
            f"{path}. Take the ratings that it was trained on, name another path, or move the file "
            "away to start anew."
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
        target.assign(model._sum_over_workers(value))


def main(arguments=None):
    """The command line; see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m cfutils.distributed",
        description="Train a model on a table of ratings, on as many machines as TF_CONFIG names.",
    )
    parser.add_argument("ratings", help="CSV or Parquet file, the same on every machine")
    parser.add_argument("path", help="file of the model, ....keras; taken up where it ends")
    parser.add_argument("--model", choices=["cf", "softmax"], default="cf")
    parser.add_argument("--user", default="user_id", help="column of user ids")
    parser.add_argument("--item", default="item_id", help="column of item ids")
    parser.add_argument("--rating", default="rating", help="column of ratings")
    parser.add_argument("--embedding-dim", type=int, default=64)
    parser.add_argument("--l2-coeff", type=float, default=0.0, help="cf only")
    parser.add_argument("--gravity-coeff", type=float, default=0.0, help="cf only")
    parser.add_argument("--rating-power", type=float, default=0.0, help="softmax only")
    parser.add_argument("--num-sampled", type=int, help="softmax only: sampled items per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-iterations", type=int, required=True, help="steps in all")
    parser.add_argument("--batch-size", type=int, help="ratings (cf) or users (softmax) per step")
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--save-every", type=int, default=100, help="steps between savings")
    parser.add_argument("--eval-every", type=int, default=100, help="steps between measurements")
    parser.add_argument(
        "--restarts", type=int, default=10, help="how often to start again after losing a worker"
    )
    options = parser.parse_args(arguments)
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
    strategy = connect()
    from cfutils.data import load_ratings
    from cfutils.factorization import CFModel, ratings_tensor
    from cfutils.softmax import SoftmaxModel

    data = load_ratings(
        options.ratings, user=options.user, item=options.item, rating=options.rating
    )
    shape, seed = (data.num_users, data.num_items), options.seed
    A = ratings_tensor(data.ratings, *shape)

    def build():
        if options.model == "softmax":
            power = options.rating_power
            return SoftmaxModel(
                shape[1],
                input_dims=options.embedding_dim,
                rating_power=power,
                seed=seed,
                ids=data,
            )
        coefficients = {"l2_coeff": options.l2_coeff, "gravity_coeff": options.gravity_coeff}
        return CFModel(*shape, options.embedding_dim, **coefficients, seed=seed, ids=data)

    _, history = train(
        strategy,
        build,
        A,
        path=options.path,
        num_iterations=options.num_iterations,
        save_every=options.save_every,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        eval_every=options.eval_every,
        **({"num_sampled": options.num_sampled} if options.model == "softmax" else {}),
    )
    print(history.drop(columns="seconds").to_string(index=False))


if __name__ == "__main__":
    main()

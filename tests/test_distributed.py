"""Several workers as real processes on this machine: as good as one, also when one is lost."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from cfutils import distributed
from cfutils.factorization import CFModel, load_model
from cfutils.softmax import SoftmaxModel
from cfutils.tables import load_ratings

# Keras itself still converts tensors the way that NumPy 2.4 warns of, when it saves.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

N, M = 60, 40
MODELS = {  # name -> what makes the model, and how it is trained
    "cf": (
        lambda data: CFModel(data, 8, l2_coeff=0.1, gravity_coeff=1.0),
        {"optimizer": "adam", "batch_size": 300},
    ),
    "cf, all ratings": (lambda data: CFModel(data, 8), {"optimizer": "sgd"}),
    "softmax": (
        lambda data: SoftmaxModel(data, input_dims=8, rating_power=1.0),
        {"batch_size": 17},
    ),
    "softmax, sampled": (
        lambda data: SoftmaxModel(data, input_dims=8),
        {"batch_size": 17, "num_sampled": 20},
    ),
}


def train_all(table, folder):
    """What every worker does: it trains the models and leaves their histories."""
    workers, folder = distributed.connect(), pathlib.Path(folder)
    data = load_ratings(table)
    for name, (make, how) in MODELS.items():
        _, history = distributed.train(
            workers,
            lambda make=make: make(data),
            data,
            path=folder / f"{name}.keras",
            num_iterations=40,
            save_every=20,
            eval_every=10,
            learning_rate=0.02,
            **how,
        )
        history.drop(columns="seconds").to_csv(folder / f"{name}, {workers.index}.csv", index=False)


@pytest.fixture(scope="module")
def ratings():
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((N, M)) < 0.4)
    stars = rng.integers(1, 6, len(users))
    return pd.DataFrame({"user_id": users, "item_id": items, "rating": stars})


@pytest.fixture
def table(ratings, tmp_path):
    ratings.to_csv(tmp_path / "ratings.csv", index=False)
    return tmp_path / "ratings.csv"


class Workers:
    """Processes that know each other; killed in the end."""

    def __init__(self, count, folder, command):
        ports = [socket.socket() for _ in range(count)]
        for port in ports:
            port.bind(("127.0.0.1", 0))
        self.addresses = [f"127.0.0.1:{port.getsockname()[1]}" for port in ports]
        for port in ports:
            port.close()
        self.command = [sys.executable, *map(str, command)]
        self.folder, self.processes = folder, {}
        for index in range(count):
            self.start(index)

    def start(self, index):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": self.addresses}, "task": task}
        environment = os.environ | {"TF_CONFIG": json.dumps(config), "CUDA_VISIBLE_DEVICES": "-1"}
        with open(self.folder / f"{index}.out", "w") as out, open(self.log(index), "w") as log:
            self.processes[index] = subprocess.Popen(
                self.command, env=environment, stdout=out, stderr=log
            )

    def log(self, index):
        return self.folder / f"{index}.log"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def finish(self):
        for index, process in self.processes.items():
            assert process.wait(timeout=150) == 0, self.log(index).read_text()[-3000:]


def wait_for(condition, process, seconds=90):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.02)


def variables(path):
    model = load_model(path)
    return [each.numpy() for each in [*model.weights, *model.optimizer.variables]]


def assert_equal_models(one, other):
    for first, second in zip(variables(one), variables(other), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_workers_train_to_what_one_does(table, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    code = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import test_distributed"
    code += "; test_distributed.train_all(*sys.argv[1:])"
    with Workers(2, tmp_path, ["-c", code, table, together]) as workers:
        train_all(table, alone)
        workers.finish()
    for name in MODELS:
        expected = pd.read_csv(alone / f"{name}, 0.csv")
        assert expected["iteration"].tolist() == [0, 10, 20, 30, 40]
        loss = expected["loss" if "cf" in name else "train_loss"]
        assert loss.iloc[-1] < loss.iloc[0]
        for index in range(2):
            history = pd.read_csv(together / f"{name}, {index}.csv")
            pd.testing.assert_frame_equal(history, expected, rtol=1e-4)
        assert_equal_models(alone / f"{name}.keras", together / f"{name}.keras")
        if "cf" in name:
            counts = load_ratings(table).user_stats()["num_ratings"].tolist()
            assert load_model(together / f"{name}.keras").user_num_ratings.tolist() == counts


OPTIONS = ["--embedding-dim", "8", "--learning-rate", "0.02", "--batch-size", "300"]
OPTIONS += ["--l2-coeff", "0.1", "--gravity-coeff", "1"]


@pytest.mark.slow
def test_killed_workers_that_come_back_lose_only_the_steps_since(table, tmp_path):
    """First worker 1 is killed, then worker 0, which saves; each is started again by hand."""
    last, path = 1200, tmp_path / "model.keras"
    options = [*OPTIONS, "--num-iterations", str(last), "--save-every", "50", "--eval-every", "300"]
    command = ["-m", "cfutils.distributed", table, path, *options]
    with Workers(2, tmp_path, command) as workers:
        for lost in (1, 0):
            before = path.stat().st_mtime_ns if path.exists() else 0
            wait_for(
                lambda b=before: path.exists() and path.stat().st_mtime_ns > b, workers.processes[0]
            )
            workers.processes[lost].send_signal(signal.SIGKILL)
            workers.processes[lost].wait()
            saved = load_model(path).iteration
            assert 0 < saved < last  # it was in the middle
            log = workers.log(1 - lost)
            wait_for(
                lambda log=log: "starting again" in log.read_text(), workers.processes[1 - lost]
            )
            workers.start(lost)
        workers.finish()
    for index in range(2):
        history = pd.read_csv(tmp_path / f"{index}.out", sep=r"\s+")
        assert history["iteration"].iloc[0] >= saved  # nothing before was done again
        assert history["iteration"].iloc[-1] == last
    distributed.main([str(table), str(tmp_path / "alone.keras"), *options])
    assert_equal_models(path, tmp_path / "alone.keras")


# One process, without TF_CONFIG


@pytest.fixture(scope="module")
def data(ratings):
    return load_ratings(ratings)


def make(data=(N, M), **options):
    return CFModel(data, 4, **options)


def run(data, path, build=make, **options):
    options = {"num_iterations": 20, "save_every": 10, "learning_rate": 0.05} | options
    return distributed.train(distributed.connect(), build, data, path=path, **options)


def test_stopped_and_taken_up_equals_once(data, tmp_path):
    options = {"batch_size": 100, "eval_every": 5}
    once, history = run(data, tmp_path / "once.keras", **options)
    run(data, tmp_path / "twice.keras", num_iterations=7, **options)
    twice, rest = run(data, tmp_path / "twice.keras", **options)
    assert rest["iteration"].tolist() == [10, 15, 20]
    assert history["iteration"].tolist() == [0, 5, 10, 15, 20]
    np.testing.assert_array_equal(twice.user_embeddings, once.user_embeddings)
    again, nothing = run(data, tmp_path / "twice.keras", **options)
    assert nothing.empty
    np.testing.assert_array_equal(again.user_embeddings, once.user_embeddings)
    model = make()  # it is the training of the model
    model.train(data, num_iterations=20, learning_rate=0.05, optimizer="adam", batch_size=100)
    np.testing.assert_allclose(once.user_embeddings, model.user_embeddings, atol=1e-6)


def test_a_saved_model_of_another_kind_is_refused_and_kept(data, tmp_path):
    path = tmp_path / "a.keras"
    run(data, path, num_iterations=5)
    before = path.read_bytes()
    for options, message in (
        ({"build": lambda: make(l2_coeff=1.0)}, "l2_coeff 1.0. Received: l2_coeff 0.0 in"),
        ({"build": lambda: CFModel((N, M), 5)}, "embedding_dim 5. Received: embedding_dim 4 in"),
        ({"optimizer": "sgd"}, "optimizer SGD. Received: optimizer Adam in"),
        ({"build": lambda: SoftmaxModel((N, M), input_dims=4)}, "name SoftmaxModel"),
    ):
        with pytest.raises(ValueError, match=f"path should hold a model with .*{message}"):
            run(data, path, **options)
        assert path.read_bytes() == before


def test_ratings_of_others_are_refused_and_the_model_is_kept(table, ratings, tmp_path):
    path, options = tmp_path / "a.keras", [*OPTIONS, "--num-iterations", "5"]
    distributed.main([str(table), str(path), *options])
    model = load_model(path)
    assert model.user_ids.tolist() == sorted({str(user) for user in ratings["user_id"]}, key=int)
    before = path.read_bytes()
    ratings.replace({"item_id": {3: 1003}}).to_csv(table, index=False)
    with pytest.raises(ValueError, match=r"of the same users and items. Received: a model of oth"):
        distributed.main([str(table), str(path), *options])
    assert path.read_bytes() == before


@pytest.mark.parametrize("build", [make, lambda data: SoftmaxModel(data, input_dims=4)])
def test_a_saved_model_goes_on_with_other_ratings_as_the_error_advises(
    data, ratings, tmp_path, build
):
    path, other_path = tmp_path / "a.keras", tmp_path / "b.keras"
    run(data, path, lambda: build(data), num_iterations=5)
    rows = ratings.replace({"item_id": {3: 1003}, "user_id": {5: 1005}})
    today, options = load_ratings(rows), {"num_iterations": 10, "eval_every": 5}
    with pytest.raises(ValueError, match=r"load_model\(path\).for_data\(data\).save\(other_path"):
        run(today, path, lambda: build(today), **options)
    with pytest.warns(UserWarning, match="^data lacks .*1 of 40 items"):
        load_model(path).for_data(today).save(other_path)
    model, history = run(today, other_path, lambda: build(today), **options)
    assert history["iteration"].tolist() == [10]
    assert "1003" in model.item_ids


def test_a_damaged_file_is_refused_and_kept(data, tmp_path):
    path = tmp_path / "a.keras"
    path.write_bytes(b"PK but no zip file")
    with pytest.raises(ValueError, match="path should be a file .*a.keras.*another copy"):
        run(data, path)
    assert path.read_bytes() == b"PK but no zip file"


def test_bad_arguments_are_refused(data, tmp_path):
    for path in (tmp_path / "a.h5", tmp_path / "nowhere" / "a.keras"):
        with pytest.raises(ValueError, match="path should be a file name that ends in .keras"):
            run(data, path)
    for name in ("num_iterations", "save_every"):
        with pytest.raises(ValueError, match=f"{name} should be an integer, 1 or more"):
            run(data, tmp_path / "a.keras", **{name: 0})
    with pytest.raises(ValueError, match="patience should not be given here. Received: 3"):
        run(data, tmp_path / "a.keras", patience=3)


WORKER = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}


def test_a_cluster_that_is_none_is_refused(monkeypatch):
    changes = [
        *({"task": {"type": "worker", "index": index}} for index in (2, -1)),
        {"task": {"type": "ps", "index": 0}},
        {"cluster": {"worker": ["a", "b:2"]}},
        {"cluster": {"worker": ["a:1"], "ps": ["b:2"]}},
    ]
    for text in ["no json", "[]", "{}", *(json.dumps(WORKER | change) for change in changes)]:
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(ValueError, match="TF_CONFIG should be .*Received: "):
            distributed.connect()
    monkeypatch.setenv("TF_CONFIG", json.dumps(WORKER | {"cluster": {"worker": ["a:1"]}}))
    assert type(distributed.connect()) is distributed.Alone

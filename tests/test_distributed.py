"""Several workers as real processes on this machine: as good as one, also when one is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest

from cfutils import distributed
from cfutils.factorization import CFModel, ratings_tensor
from cfutils.softmax import SoftmaxModel

# Keras itself still converts tensors the way that NumPy 2.4 warns of, when it saves.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

N, M = 60, 40
OPTIONS = ["--embedding-dim", "8", "--eval-every", "10", "--learning-rate", "0.02"]
MODELS = {
    "cf": ["--batch-size", "300", "--l2-coeff", "0.1", "--gravity-coeff", "1"],
    "cf, all ratings": ["--optimizer", "sgd"],
    "softmax": ["--model", "softmax", "--batch-size", "17", "--rating-power", "1"],
    "softmax, sampled": ["--model", "softmax", "--batch-size", "17", "--num-sampled", "20"],
}


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
    """Processes of the command line that know each other; killed in the end."""

    def __init__(self, count, table, path, options):
        ports = [socket.socket() for _ in range(count)]
        for port in ports:
            port.bind(("127.0.0.1", 0))
        self.addresses = [f"127.0.0.1:{port.getsockname()[1]}" for port in ports]
        for port in ports:
            port.close()
        self.command = [sys.executable, "-m", "cfutils.distributed", table, path, *options]
        self.folder, self.processes = path.parent, {}
        for index in range(count):
            self.start(index)

    def start(self, index):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": self.addresses}, "task": task}
        environment = os.environ | {"TF_CONFIG": json.dumps(config), "CUDA_VISIBLE_DEVICES": "-1"}
        with open(self.folder / f"{index}.out", "w") as out, open(self.log(index), "w") as log:
            self.processes[index] = subprocess.Popen(
                list(map(str, self.command)), env=environment, stdout=out, stderr=log
            )

    def log(self, index):
        return self.folder / f"{index}.log"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def histories(self):
        """What each worker printed, once all are done."""
        frames = []
        for index, process in self.processes.items():
            assert process.wait(timeout=150) == 0, self.log(index).read_text()[-3000:]
            frames.append(pd.read_csv(self.folder / f"{index}.out", sep=r"\s+"))
        return frames


def wait_for(condition, process, seconds=90):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.02)


def variables(path):
    model = keras.saving.load_model(path)
    return [each.numpy() for each in [*model.weights, *model.optimizer.variables]]


def assert_equal_models(one, other):
    for first, second in zip(variables(one), variables(other), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_two_workers_train_to_what_one_does(table, tmp_path, model):
    options = [*OPTIONS, *MODELS[model], "--num-iterations", "40", "--save-every", "20"]
    alone, together = tmp_path / "alone.keras", tmp_path / "together.keras"
    command = [sys.executable, "-m", "cfutils.distributed", table, alone, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    with open(tmp_path / "alone.out", "w") as file:
        file.write(done.stdout)
    expected = pd.read_csv(tmp_path / "alone.out", sep=r"\s+")
    assert expected["iteration"].tolist() == [0, 10, 20, 30, 40]
    with Workers(2, table, together, options) as workers:
        for history in workers.histories():
            pd.testing.assert_frame_equal(history, expected, rtol=1e-4)
    assert_equal_models(alone, together)
    loss = expected.iloc[:, -1 if "cf" in model else 1]
    assert loss.iloc[-1] < loss.iloc[0]


def test_killed_workers_that_come_back_lose_only_the_steps_since(table, tmp_path):
    """First worker 1 is killed, then worker 0, which saves; each is started again by hand."""
    last = 2500
    options = [*OPTIONS, *MODELS["cf"], "--num-iterations", last, "--save-every", "50"]
    options += ["--eval-every", "500"]
    path = tmp_path / "model.keras"
    with Workers(2, table, path, options) as workers:
        for lost in (1, 0):
            before = path.stat().st_mtime_ns if path.exists() else 0
            wait_for(
                lambda b=before: path.exists() and path.stat().st_mtime_ns > b, workers.processes[0]
            )
            workers.processes[lost].send_signal(signal.SIGKILL)
            workers.processes[lost].wait()
            saved = keras.saving.load_model(path).iteration
            assert 0 < saved < last  # it was in the middle
            log = workers.log(1 - lost)
            wait_for(
                lambda log=log: "starting again" in log.read_text(), workers.processes[1 - lost]
            )
            workers.start(lost)
        for history in workers.histories():
            assert history["iteration"].iloc[0] >= saved  # nothing before was done again
            assert history["iteration"].iloc[-1] == last
    alone = tmp_path / "alone.keras"
    command = [sys.executable, "-m", "cfutils.distributed", table, alone, *options]
    subprocess.run(list(map(str, command)), capture_output=True, check=True)
    assert_equal_models(path, alone)


# One process, without TF_CONFIG


@pytest.fixture
def A(ratings):
    return ratings_tensor(ratings.rename(columns={"item_id": "movie_id"}), N, M)


def make(**options):
    return CFModel(N, M, 4, **options)


def run(A, path, build=make, **options):
    options = {"num_iterations": 20, "save_every": 10, "learning_rate": 0.05} | options
    return distributed.train(distributed.connect(), build, A, path=path, **options)


@pytest.mark.parametrize("batch_size", [None, 100])
def test_stopped_and_taken_up_equals_once(A, tmp_path, batch_size):
    options = {"batch_size": batch_size, "eval_every": 5}
    once, history = run(A, tmp_path / "once.keras", **options)
    run(A, tmp_path / "twice.keras", num_iterations=7, **options)
    twice, rest = run(A, tmp_path / "twice.keras", **options)
    assert rest["iteration"].tolist() == [10, 15, 20]
    assert history["iteration"].tolist() == [0, 5, 10, 15, 20]
    np.testing.assert_array_equal(twice.user_embeddings, once.user_embeddings)
    again, nothing = run(A, tmp_path / "twice.keras", **options)
    assert nothing.empty
    np.testing.assert_array_equal(again.user_embeddings, once.user_embeddings)


def test_it_is_the_training_of_the_model(A, tmp_path):
    model = make(l2_coeff=0.1)
    model.train(A, num_iterations=20, learning_rate=0.05, optimizer="adam", batch_size=100)
    same, _ = run(A, tmp_path / "a.keras", lambda: make(l2_coeff=0.1), batch_size=100)
    np.testing.assert_allclose(same.user_embeddings, model.user_embeddings, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"build": lambda: make(l2_coeff=1.0)}, "l2_coeff 1.0. Received: l2_coeff 0.0 in"),
        ({"build": lambda: CFModel(N, M, 5)}, "embedding_dim 5. Received: embedding_dim 4 in"),
        ({"optimizer": "sgd"}, "optimizer SGD. Received: optimizer Adam in"),
        ({"build": lambda: SoftmaxModel(M, input_dims=4)}, "name SoftmaxModel"),
    ],
)
def test_a_saved_model_of_another_kind_is_refused_and_kept(A, tmp_path, options, message):
    path = tmp_path / "a.keras"
    run(A, path, num_iterations=5)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"path should hold a model with .*{message}"):
        run(A, path, **options)
    assert path.read_bytes() == before


def test_ratings_of_others_are_refused_and_the_model_is_kept(table, ratings, tmp_path):
    path, options = tmp_path / "a.keras", [*OPTIONS, "--num-iterations", "5"]
    distributed.main([str(table), str(path), *options])
    model = keras.saving.load_model(path)
    assert model.user_ids.tolist() == sorted({str(user) for user in ratings["user_id"]}, key=int)
    before = path.read_bytes()
    ratings.replace({"item_id": {3: 1003}}).to_csv(table, index=False)
    with pytest.raises(ValueError, match=r"of the same users and items. Received: a model of oth"):
        distributed.main([str(table), str(path), *options])
    assert path.read_bytes() == before


def test_a_damaged_file_is_refused_and_kept(A, tmp_path):
    path = tmp_path / "a.keras"
    path.write_bytes(b"PK but no zip file")
    with pytest.raises(ValueError, match="path should hold a model that was saved whole"):
        run(A, path)
    assert path.read_bytes() == b"PK but no zip file"


def test_bad_arguments_are_refused(A, tmp_path):
    for path in (tmp_path / "a.h5", tmp_path / "nowhere" / "a.keras"):
        with pytest.raises(ValueError, match="path should be a file name that ends in .keras"):
            run(A, path)
    for name in ("num_iterations", "save_every"):
        with pytest.raises(ValueError, match=f"{name} should be an integer, 1 or more"):
            run(A, tmp_path / "a.keras", **{name: 0})
    with pytest.raises(ValueError, match="patience should not be given here. Received: 3"):
        run(A, tmp_path / "a.keras", patience=3)


WORKER = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        "{}",
        json.dumps(WORKER | {"task": {"type": "worker", "index": 2}}),
        json.dumps(WORKER | {"task": {"type": "worker", "index": -1}}),
        json.dumps(WORKER | {"task": {"type": "ps", "index": 0}}),
        json.dumps(WORKER | {"cluster": {"worker": ["a", "b:2"]}}),
        json.dumps(WORKER | {"cluster": {"worker": ["a:1"], "ps": ["b:2"]}}),
    ],
)
def test_a_cluster_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="TF_CONFIG should be .*Received: "):
        distributed.connect()

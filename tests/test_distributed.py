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

import cfutils.softmax  # noqa: F401  (known to load_model)

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


@pytest.mark.parametrize("lost", [1, 0])
def test_a_killed_worker_that_comes_back_loses_only_the_steps_since(table, tmp_path, lost):
    options = [*OPTIONS, *MODELS["cf"], "--num-iterations", "4000", "--save-every", "100"]
    options += ["--eval-every", "1000"]
    path = tmp_path / "model.keras"
    with Workers(2, table, path, options) as workers:
        wait_for(path.exists, workers.processes[0])
        workers.processes[lost].send_signal(signal.SIGKILL)
        workers.processes[lost].wait()
        saved = keras.saving.load_model(path).iteration
        assert 0 < saved < 4000  # it was in the middle
        other = workers.processes[1 - lost]
        wait_for(lambda: "starting again" in workers.log(1 - lost).read_text(), other)
        workers.start(lost)
        for history in workers.histories():
            assert history["iteration"].iloc[0] >= saved  # nothing before was done again
            assert history["iteration"].iloc[-1] == 4000
    alone = tmp_path / "alone.keras"
    command = [sys.executable, "-m", "cfutils.distributed", table, alone, *options]
    subprocess.run(list(map(str, command)), capture_output=True, check=True)
    np.testing.assert_allclose(variables(path)[0], variables(alone)[0], rtol=0.02, atol=0.02)
    assert keras.saving.load_model(path).iteration == 4000

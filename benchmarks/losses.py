"""Memory and time of the two ways to compute the squared error and its gradients (claim V1).

    python -m benchmarks.losses [--json FILE]

Users and movies grow by the same factor while every user keeps as many ratings; the embedding
dimension is 10. Each way runs in a process of its own, smallest matrix first, so that the
process' highest memory so far belongs to the matrix at hand.
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
import psutil

from benchmarks.common import peak_mib

NUM_USERS, NUM_ITEMS, RATINGS_PER_USER, EMBEDDING_DIM = 943, 1682, 95, 10
FACTORS = (0.5, 1, 2, 4, 8)
REPEATS = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", help="append the rows to this file, one JSON object a line")
    parser.add_argument("--method", choices=["full", "gather"], help="measure one way, here")
    options = parser.parse_args()
    if options.method:
        for row in measure(options.method):
            print(json.dumps(row), flush=True)
        return
    rows = []
    for method in ("full", "gather"):
        command = [sys.executable, "-m", "benchmarks.losses", "--method", method]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows += [json.loads(line) for line in done.stdout.splitlines()]
    print("method  factor      users      MB  seconds")
    for row in rows:
        print("{method:6} {factor:7} {users:10} {mb:7.1f} {seconds:8.4f}".format(**row))
    if options.json:
        with open(options.json, "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def measure(method):
    from cfutils import tf
    from cfutils.losses import sparse_mean_squared_error

    def value_and_gradients(matrix, tables):
        with tf.GradientTape() as tape:
            tape.watch(tables)
            loss = sparse_mean_squared_error(matrix, *tables, method=method)
        return [tf.convert_to_tensor(part).numpy() for part in (loss, *tape.gradient(loss, tables))]

    rng = np.random.default_rng(0)
    value_and_gradients(*problem(tf, rng, 0.1))  # what TensorFlow loads on first use
    for factor in FACTORS:
        matrix, tables = problem(tf, rng, factor)
        before = psutil.Process().memory_info().rss
        times = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            value_and_gradients(matrix, tables)
            times.append(time.perf_counter() - started)
        yield {
            "method": method,
            "factor": factor,
            "users": int(matrix.shape[0]),
            "mb": max(0, peak_mib() * 2**20 - before) / 1e6,
            "seconds": float(np.median(times)),
        }


def problem(tf, rng, factor):
    """A random matrix with random tables."""
    num_users, num_items = int(NUM_USERS * factor), int(NUM_ITEMS * factor)
    users = np.repeat(np.arange(num_users), RATINGS_PER_USER)
    keys = np.unique(users * num_items + rng.integers(0, num_items, len(users)))
    pairs = np.stack([keys // num_items, keys % num_items], axis=1)
    matrix = tf.SparseTensor(pairs, tf.ones(len(pairs)), (num_users, num_items))
    shapes = (num_users, EMBEDDING_DIM), (num_items, EMBEDDING_DIM)
    return matrix, [tf.constant(rng.normal(0, 0.5, shape), tf.float32) for shape in shapes]


if __name__ == "__main__":
    main()

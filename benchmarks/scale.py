"""Time, peak memory and growth of training on 0.1 to 25 million ratings, each in its own process.

    python -m benchmarks.scale [--sizes 100000 1000000] [--only "ALS sweep"] [--json FILE]

The peers take the same steps: a parallel numba kernel, the limit of what this machine can do; plain
TensorFlow, which gathers embeddings and lets autodiff scatter the gradients; and `implicit`. An
epoch is 25 mini-batches at every size, so that all costs should grow as the number of ratings does.
"""

import argparse
import itertools
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.common import SIZES, Report, clock, dataset, peak_mib, run_apart, synthetic_ratings
from benchmarks.training import DIM, implicit_sweeps, numba_step, our_sweeps

BATCHES = 25  # per epoch
RATE = 0.1


def load(path):
    """The `Dataset` of a size."""
    table = np.load(path)
    frame = pd.DataFrame({name: table[name] for name in table.dtype.names})
    return dataset(frame, *SIZES[len(table)])


def save(path, num_ratings):
    """Write synthetic ratings as one array of records, as a CSV file and as a Parquet file.

    In the files the ids have gaps, as in MovieLens.
    """
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    path = Path(path)
    frame = synthetic_ratings(num_ratings).ratings
    dtype = [("user_num", "i4"), ("item_num", "i4"), ("rating", "f4")]
    table = np.empty(num_ratings, dtype)
    for name in table.dtype.names:
        table[name] = frame[name]
    np.save(path, table)
    columns = {"user_id": 3 * table["user_num"] + 1, "item_id": 7 * table["item_num"] + 5}
    written = pyarrow.table(columns | {"rating": table["rating"]})
    pyarrow.csv.write_csv(written, path.with_suffix(".csv"))
    pyarrow.parquet.write_table(written, path.with_suffix(".parquet"))


def deal(users, count):
    """A batch for each rating, all of equal size, and the order that brings batches together."""
    batches = np.random.default_rng(0).permutation(count) * BATCHES // count
    return np.argsort(batches.astype(np.int8), kind="stable"), count * np.arange(26) // BATCHES


def tensor(path):
    """Our ratings tensor; the frame is let go."""
    from cfutils.factorization import ratings_tensor

    return ratings_tensor(load(path))


def our_epochs(path, epochs, optimizer, rate):
    """Seconds of each epoch but the first, which compiles."""
    from cfutils.factorization import CFModel

    A = tensor(path)
    batch_size = -(-len(A.values) // BATCHES)
    history = CFModel(A.shape, DIM).train(
        A,
        num_iterations=(epochs + 1) * BATCHES,
        learning_rate=rate,
        optimizer=optimizer,
        batch_size=batch_size,
        eval_every=BATCHES,
    )
    return history["seconds"].diff().dropna().tolist()[1:]


def our_steps(path, steps):
    """Seconds of each full-batch step but the first."""
    from cfutils.factorization import CFModel

    A = tensor(path)
    history = CFModel(A.shape, DIM).train(A, num_iterations=steps + 1, eval_every=1)
    return history["seconds"].diff().dropna().tolist()[1:]


def our_rankings(path, _):
    """Seconds to rank all movies for every user who has ratings: ten best, known ones left out."""
    from cfutils.metrics import rank_candidates

    train = load(path)
    rng = np.random.default_rng(0)
    sizes = train.num_users, train.num_items
    tables = tuple(rng.normal(size=(n, DIM)).astype(np.float32) for n in sizes)
    return [clock(lambda: rank_candidates(tables, train))]


def numba_epochs(path, epochs):
    """Seconds of each epoch of the parallel loops, batches sorted by user and by item before."""
    import numba

    train = load(path)
    num_users, num_items, table = train.num_users, train.num_items, train.ratings
    users, items = (table[name].to_numpy(np.int32) for name in ("user_num", "item_num"))
    ratings = table["rating"].to_numpy(np.float32)
    order, starts = deal(users, len(ratings))
    rng = np.random.default_rng(0)
    U, V = (rng.normal(0, 0.05, (n, DIM)).astype(np.float32) for n in (num_users, num_items))
    new_U = np.empty_like(U)

    @numba.njit(parallel=True, fastmath=True)
    def kernel(U, V, new_U, errors, rate, user_starts, items, ratings, item_starts, moves, users):
        for user in numba.prange(len(U)):
            gradient = np.zeros(U.shape[1], np.float32)
            for at in range(user_starts[user], user_starts[user + 1]):
                item = items[at]
                error = -ratings[at]
                for k in range(U.shape[1]):
                    error += U[user, k] * V[item, k]
                errors[at] = error
                for k in range(U.shape[1]):
                    gradient[k] += error * V[item, k]
            for k in range(U.shape[1]):
                new_U[user, k] = U[user, k] - rate * gradient[k]
        for item in numba.prange(len(V)):
            gradient = np.zeros(U.shape[1], np.float32)
            for at in range(item_starts[item], item_starts[item + 1]):
                error = errors[moves[at]]
                user = users[at]
                for k in range(U.shape[1]):
                    gradient[k] += error * U[user, k]
            for k in range(U.shape[1]):
                V[item, k] -= rate * gradient[k]
        for user in numba.prange(len(U)):
            for k in range(U.shape[1]):
                U[user, k] = new_U[user, k]

    batches = []
    for start, stop in itertools.pairwise(starts):
        mine = order[start:stop]
        moves = np.argsort(items[mine], kind="stable").astype(np.int32)
        rate = np.float32(2 * RATE / len(mine))
        by_user = np.searchsorted(users[mine], np.arange(num_users + 1)), items[mine], ratings[mine]
        by_item = np.searchsorted(items[mine][moves], np.arange(num_items + 1)), moves
        errors = np.empty(len(mine), np.float32)
        batches.append((errors, rate, *by_user, *by_item, users[mine][moves]))

    def epoch():
        for batch in batches:
            kernel(U, V, new_U, *batch)

    return [clock(epoch) for _ in range(epochs + 1)][1:]


def numba_steps(path, steps):
    """Seconds of each full-batch step of the parallel loops but the first."""
    step = numba_step(load(path), DIM, RATE)
    return [clock(step) for _ in range(steps + 1)][1:]


def gather_epochs(path, epochs):
    """Seconds of each epoch of plain TensorFlow: gathered rows, autodiff, descent."""
    from cfutils import tf

    train = load(path)
    num_users, num_items, table = train.num_users, train.num_items, train.ratings
    users, items = (table[name].to_numpy(np.int32) for name in ("user_num", "item_num"))
    ratings = table["rating"].to_numpy(np.float32)
    order, starts = deal(users, len(ratings))
    U = tf.Variable(tf.random.stateless_normal((num_users, DIM), [0, 1], stddev=0.05))
    V = tf.Variable(tf.random.stateless_normal((num_items, DIM), [0, 2], stddev=0.05))

    @tf.function(reduce_retracing=True)
    def step(users, items, ratings):
        with tf.GradientTape() as tape:
            guesses = tf.reduce_sum(tf.gather(U, users) * tf.gather(V, items), axis=1)
            loss = tf.reduce_mean(tf.square(ratings - guesses))
        for table, gradient in zip((U, V), tape.gradient(loss, (U, V)), strict=True):
            table.assign_sub(RATE * tf.convert_to_tensor(gradient))

    batches = [
        [tf.constant(part[order[start:stop]]) for part in (users, items, ratings)]
        for start, stop in itertools.pairwise(starts)
    ]

    def epoch():
        for batch in batches:
            step(*batch)
        float(U[0, 0])

    return [clock(epoch) for _ in range(epochs + 1)][1:]


def our_loading(path, suffix, times):
    """Seconds to load a file; ids, ratings and pairs checked."""
    from cfutils.tables import load_ratings

    return [clock(lambda: load_ratings(Path(path).with_suffix(suffix))) for _ in range(times)]


def pandas_loading(path, times):
    """Seconds of the short way: the whole file as numbers, then factorize; nothing is checked."""

    def whole():
        frame = pd.read_csv(Path(path).with_suffix(".csv"))
        for column in ("user_id", "item_id"):
            frame[column] = pd.factorize(frame[column], sort=True)[0]

    return [clock(whole) for _ in range(times)]


# work -> contender -> seconds of each repetition
WORK = {
    "loading a CSV file": {
        "ours": lambda path, _: our_loading(path, ".csv", 1),
        "pandas, unchecked": lambda path, _: pandas_loading(path, 1),
    },
    "loading a Parquet file": {"ours": lambda path, _: our_loading(path, ".parquet", 1)},
    "SGD epoch": {
        "ours": lambda path, n: our_epochs(path, n, "sgd", RATE),
        "numba": numba_epochs,
        "TensorFlow gather": gather_epochs,
    },
    "Adam epoch": {"ours": lambda path, n: our_epochs(path, n, "adam", 0.001)},
    "full-batch step": {"ours": our_steps, "numba": numba_steps},
    "ALS sweep": {
        "ours": lambda path, n: our_sweeps(tensor(path), n),
        "implicit Cholesky": lambda path, n: implicit_sweeps(load(path), False, n + 1)[1:],
        "implicit CG": lambda path, n: implicit_sweeps(load(path), True, n + 1)[1:],
    },
    "ranking for all users": {"ours": our_rankings},
}


def measure(folder, sizes, chosen):
    """Medians in turns: {(work, contender, size): (seconds, MiB)}."""
    found = {}
    for size in sizes:
        path = Path(folder) / f"{size}.npy"
        run_apart("benchmarks.scale", "--make", path, "--sizes", size)
        repetitions, rounds = (8, 3) if size <= 1_000_000 else (3, 2)
        for _ in range(rounds):
            for work, contender in chosen:
                done = run_apart(
                    "benchmarks.scale", "--one", work, contender, "--repeat", repetitions,
                    "--file", path,
                )  # fmt: skip
                found.setdefault((work, contender, size), []).append(done)
        for suffix in (".npy", ".csv", ".parquet"):
            path.with_suffix(suffix).unlink()
        for work, contender in chosen:
            runs = found[work, contender, size]
            seconds = float(np.median([run["seconds"] for run in runs]))
            mib = float(np.median([run["mib"] for run in runs]))
            found[work, contender, size] = seconds, mib
            print(
                f"{size:>12,}  {work:24}{contender:20}{seconds:10.4f} s{mib:8.0f} MiB", flush=True
            )
    return found


def report(found, sizes, chosen):
    """Ours against each peer, and how each cost grows."""
    rows = Report()
    for work in dict.fromkeys(work for work, _ in chosen):
        for size in sizes:
            rows.section(f"{work}, {size:,} ratings, d {DIM}")
            if (work, "ours") not in chosen:
                continue
            ours = found[work, "ours", size]
            for contender in WORK[work]:
                if contender != "ours" and (work, contender) in chosen:
                    peer = found[work, contender, size]
                    rows.add(f"{work}, {size:,}", ours[0], contender, peer[0])
                    rows.add(f"peak memory, {work}, {size:,}", ours[1], contender, peer[1], "MiB")
    if len(sizes) > 1:
        print("\nGrowth: the slope of seconds over ratings on log-log axes (1: linear)")
        for work, contender in chosen:
            seconds = [found[work, contender, size][0] for size in sizes]
            # Ranking scores every movie for every user.
            cells = work == "ranking for all users"
            amount = [np.prod(np.float64(SIZES[size])) if cells else size for size in sizes]
            slope = float(np.polyfit(np.log(amount), np.log(seconds), 1)[0])
            over = "users x movies" if cells else "ratings"
            print(f"{work:24}{contender:20}{slope:6.2f}  over {over}")
            rows.rows.append({"name": work, "contender": contender, "slope": slope, "over": over})
    for (work, contender, size), (seconds, mib) in found.items():
        row = {"name": work, "contender": contender, "ratings": size}
        rows.rows.append(row | {"seconds": seconds, "peak_mib": mib})
    return rows


def main():
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="*", type=int, choices=SIZES, default=list(SIZES))
    parser.add_argument("--only", nargs="*", choices=WORK, default=list(WORK))
    parser.add_argument("--json", help="file for JSON lines")
    for hidden in ("--make", "--file"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--repeat", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        save(arguments.make, arguments.sizes[0])
        print("{}")
        return
    if arguments.one:
        work, contender = arguments.one
        seconds = WORK[work][contender](arguments.file, arguments.repeat)
        print(json.dumps({"seconds": float(np.median(seconds)), "mib": peak_mib()}))
        return
    chosen = [(work, contender) for work in arguments.only for contender in WORK[work]]
    print(f"{os.cpu_count()} processors; a process each; medians over processes in turns\n")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(folder, arguments.sizes, chosen)
    rows = report(found, arguments.sizes, chosen)
    if arguments.json:
        rows.write(arguments.json)


if __name__ == "__main__":
    main()

"""Training of `CFModel` against the source's computation, a numba kernel, and `implicit`.

    python -m benchmarks.training [--only step objective als] [--sizes 1000000] [--json FILE]

Steps and objective are measured on MovieLens 100K, sweeps on synthetic ratings.
"""

import argparse
import json
import os

import numpy as np

from benchmarks.common import (
    Report,
    clock,
    interleaved,
    peak_mib,
    run_apart,
    synthetic_ratings,
)
from cfutils.movielens import load_movielens

DIM = 32  # embedding dimension of the synthetic comparisons
STEPS = 200  # steps per measurement


def movielens():
    """ML-100K split as the source narrative splits it: a tenth at random to test."""
    return load_movielens().split(seed=42)


class Baseline:
    """The source's training, in TensorFlow 2: autodiff, plain descent, errors at every step."""

    def __init__(self, A, A_test, dim, stddev, learning_rate, method, l2_coeff=0.0, gravity=0.0):
        from cfutils import tf

        num_users, num_items = A.shape
        U = tf.Variable(tf.random.stateless_normal((num_users, dim), [0, 1], stddev=stddev))
        V = tf.Variable(tf.random.stateless_normal((num_items, dim), [0, 2], stddev=stddev))

        def error(ratings):
            if method == "full":
                guesses = tf.gather_nd(tf.matmul(U, V, transpose_b=True), ratings.indices)
            else:
                rows = tf.gather(U, ratings.indices[:, 0])
                guesses = tf.reduce_sum(rows * tf.gather(V, ratings.indices[:, 1]), axis=1)
            return tf.reduce_mean(tf.square(ratings.values - guesses))

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                mse = loss = error(A)
                if l2_coeff:
                    loss += l2_coeff * tf.reduce_sum(U * U) / num_users
                    loss += l2_coeff * tf.reduce_sum(V * V) / num_items
                if gravity:
                    grams = tf.matmul(U, U, transpose_a=True) * tf.matmul(V, V, transpose_a=True)
                    loss += gravity * tf.reduce_sum(grams) / (num_users * num_items)
            test = error(A_test)
            for table, gradient in zip((U, V), tape.gradient(loss, (U, V)), strict=True):
                table.assign_sub(learning_rate * tf.convert_to_tensor(gradient))
            return mse, test, loss

        self.step, self.history = step, []

    def run(self, steps):
        for _ in range(steps):
            self.history.append([float(part) for part in self.step()])


def numba_step(train, dim, learning_rate):
    """A plain descent step as parallel numba loops over users, then over items."""
    import numba

    num_users, num_items = train.num_users, train.num_items
    table = train.ratings.sort_values(["user_num", "item_num"])
    users, items = (table[name].to_numpy(np.int32) for name in ("user_num", "item_num"))
    ratings = table["rating"].to_numpy(np.float32)
    by_item = np.argsort(items, kind="stable").astype(np.int32)
    user_starts = np.searchsorted(users, np.arange(num_users + 1))
    item_starts = np.searchsorted(items[by_item], np.arange(num_items + 1))
    item_users = users[by_item]
    rng = np.random.default_rng(0)
    U, V = (rng.normal(0, 0.05, (n, dim)).astype(np.float32) for n in (num_users, num_items))
    new_U, errors = np.empty_like(U), np.empty_like(ratings)

    @numba.njit(parallel=True, fastmath=True)
    def kernel(U, V, new_U, errors, rate):
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
                error = errors[by_item[at]]
                user = item_users[at]
                for k in range(U.shape[1]):
                    gradient[k] += error * U[user, k]
            for k in range(U.shape[1]):
                V[item, k] -= rate * gradient[k]
        U[:] = new_U

    rate = np.float32(2 * learning_rate / len(ratings))
    return lambda: kernel(U, V, new_U, errors, rate)


def per_step(history):
    """Seconds per iteration of a history, its first rows (compilation) left out."""
    last, first = history.iloc[-1], history.iloc[1]
    return (last["seconds"] - first["seconds"]) / (last["iteration"] - first["iteration"])


def compare_steps(report, data):
    """(a) A full-batch step, d 30, errors recorded at every tenth step of ours."""
    from cfutils.factorization import CFModel, ratings_tensor

    train, test = data
    A, A_test = ratings_tensor(train), ratings_tensor(test)
    product, gathered = (Baseline(A, A_test, 30, 0.5, 10.0, m) for m in ("full", "gather"))
    kernel = numba_step(train, 30, 10.0)
    model = CFModel(A.shape, 30, init_stddev=0.5)

    def ours():
        whole = clock(lambda: model.train(A, A_test, num_iterations=STEPS, learning_rate=10))
        return whole / STEPS

    def ours_pure():
        return per_step(model.train(A, num_iterations=STEPS, learning_rate=10))

    taken = interleaved(
        {
            "ours": ours,
            "pure": ours_pure,
            "dense product + gather_nd": lambda: clock(lambda: product.run(STEPS)) / STEPS,
            "gathered rows": lambda: clock(lambda: gathered.run(STEPS)) / STEPS,
            "numba": lambda: clock(lambda: [kernel() for _ in range(STEPS)]) / STEPS,
        },
        rounds=5,
    )
    report.section("(a) A full-batch step at ML-100K, d 30")
    for peer in ("dense product + gather_nd", "gathered rows"):
        report.add("step", taken["pure"], peer, taken[peer])
        report.add("step, all of train() counted", taken["ours"], peer, taken[peer])
    report.add("step", taken["pure"], "numba", taken["numba"])


def compare_objective(report, data):
    """(b) Seconds until the regularized loss is what 2,000 steps of the baseline give.

    Ours is all of a new model and one call of train; a first call in the process came before.
    """
    from cfutils import keras
    from cfutils.factorization import CFModel, ratings_tensor

    train, test = data
    A, A_test = ratings_tensor(train), ratings_tensor(test)
    baseline = Baseline(A, A_test, 35, 0.05, 20.0, "full", l2_coeff=0.1, gravity=1.0)
    baseline.run(2000)
    mse, test_mse, target = baseline.history[-1]
    report.section(
        f"(b) To the baseline's loss of 2,000 steps: {target:.4f} "
        f"(train {mse:.3f}, test {test_mse:.3f}), d 35"
    )
    sgd, adam = keras.optimizers.SGD, keras.optimizers.Adam
    per_epoch = -(-len(train.ratings) // 3000)
    decay = keras.optimizers.schedules.CosineDecay(20.0, 30 * per_epoch)
    solvers = {
        "descent": (3000, 20, {"optimizer": lambda: sgd(20.0)}),
        "descent, momentum 0.9": (400, 5, {"optimizer": lambda: sgd(60.0, momentum=0.9)}),
        "Adam": (400, 5, {"optimizer": lambda: adam(0.2, beta_2=0.99)}),
        "mini-batch SGD, 3,000, decay": (
            30 * per_epoch, per_epoch,
            {"optimizer": lambda: sgd(decay, momentum=0.8), "batch_size": 3000},
        ),
        "ALS": (40, 1, None),
    }  # fmt: skip

    def run(iterations, every, options):
        model = CFModel(A.shape, 35, l2_coeff=0.1, gravity_coeff=1.0, init_stddev=0.05)
        arguments = {"num_iterations": iterations, "eval_every": every}
        if options is None:
            return model.train_als(A, **arguments)
        made = options | {"optimizer": options["optimizer"]()}
        return model.train(A, **arguments, **made)

    contenders = {"baseline": lambda: 20 * clock(lambda: baseline.run(100))}
    for name, (limit, every, options) in solvers.items():
        history = run(limit, every, options)
        reached = history.loc[history["loss"] <= target + 5e-5, "iteration"]
        if reached.empty:
            print(f"{name:44} not reached: {history['loss'].min():.4f} in {limit} iterations")
            continue
        count = int(reached.iloc[0])
        contenders[f"{name}, {count} iterations"] = lambda count=count, options=options: clock(
            lambda: run(count, count, options)
        )
    taken = interleaved(contenders, rounds=5)
    for name in list(taken)[1:]:
        report.add(name, taken[name], "baseline", taken["baseline"])


def implicit_sweeps(train, use_cg, sweeps):
    """Seconds of each sweep of `implicit`, as it reports them itself."""
    import implicit
    import scipy.sparse
    from threadpoolctl import threadpool_limits

    matrix = scipy.sparse.csr_matrix(train.interactions(binary=False))
    taken = []
    with threadpool_limits(1, "blas"):  # it brings its own threads and asks for this
        model = implicit.cpu.als.AlternatingLeastSquares(
            factors=DIM, regularization=0.1, use_cg=use_cg, iterations=sweeps, num_threads=0,
            random_state=0,
        )  # fmt: skip
        model.fit(
            matrix, show_progress=False, callback=lambda _, seconds, __: taken.append(seconds)
        )
    return taken


def our_sweeps(A, sweeps):
    """Seconds of each sweep of ours, from its history."""
    from cfutils.factorization import CFModel

    model = CFModel(A.shape, DIM, l2_coeff=0.01, gravity_coeff=0.1)
    return model.train_als(A, num_iterations=sweeps)["seconds"].diff().dropna().tolist()


CONTENDERS = {"implicit Cholesky": False, "implicit CG": True}


def compare_same_loss(report, size, sweeps=15, l2_coeff=0.01, gravity_coeff=0.1):
    """(d) Sweeps, and seconds, to the loss of `implicit`'s CG after its default of 15 sweeps.

    Where all ratings are 1 + alpha, alpha = gravity_coeff |Omega| / (N M), its loss is alpha times
    less than |Omega| times ours: for confidences of 1 + 1 / alpha, and with U times a factor and V
    divided by it, which makes one regularization of our two. Both start from the same embeddings.
    """
    import implicit
    import scipy.sparse
    from threadpoolctl import threadpool_limits

    from cfutils import losses, tf
    from cfutils.factorization import CFModel, ratings_tensor

    A = ratings_tensor(synthetic_ratings(size))
    (num_users, num_items), count = map(int, A.shape), len(A.values)
    alpha = gravity_coeff * count / (num_users * num_items)
    A = tf.SparseTensor(A.indices, tf.fill([count], np.float32(1 + alpha)), A.shape)
    factor = (num_items / num_users) ** 0.25
    ridge = l2_coeff * count / alpha / (num_users * num_items) ** 0.5
    model = CFModel(A.shape, DIM, l2_coeff=l2_coeff, gravity_coeff=gravity_coeff)
    start = model.user_embeddings * np.float32(factor), model.item_embeddings / np.float32(factor)
    ours = model.train_als(A, num_iterations=sweeps)
    found, taken = [], []

    def record(_, seconds, __):
        U, V = peer.user_factors / np.float32(factor), peer.item_factors * np.float32(factor)
        pulls = l2_coeff * losses.l2_penalty(U, V) + gravity_coeff * losses.gravity(U, V)
        found.append(float(losses.sparse_mean_squared_error(A, U, V) + pulls))
        taken.append(seconds)

    confidences = np.full(count, (1 + alpha) / alpha, np.float32)
    with threadpool_limits(1, "blas"):
        peer = implicit.cpu.als.AlternatingLeastSquares(
            DIM, regularization=ridge, iterations=sweeps
        )
        peer.user_factors, peer.item_factors = start
        matrix = scipy.sparse.csr_matrix((confidences, A.indices.numpy().T), A.shape)
        peer.fit(matrix, show_progress=False, callback=record)
    reached = int(ours.index[ours["loss"] <= found[-1]].min())
    report.section(f"(d) To the loss of {sweeps} sweeps of implicit's CG: {found[-1]:.5f}, d {DIM}")
    name = f"{reached} of our sweeps, {size:,} ratings"
    report.add(name, ours["seconds"][reached], "implicit CG", sum(taken))


def compare_als(report, sizes):
    """(c) A sweep of ALS, d 32, and the peak memory of a process that does two."""
    from cfutils.factorization import ratings_tensor

    report.section(f"(c) A sweep of ALS, d {DIM}")
    for size in sizes:
        train = synthetic_ratings(size)
        A = ratings_tensor(train)
        sweeps = 4 if size <= 1_000_000 else 2
        contenders = {"ours": lambda A=A, n=sweeps: float(np.median(our_sweeps(A, n)[1:]))}
        for name, use_cg in CONTENDERS.items():
            contenders[name] = lambda use_cg=use_cg, train=train, n=sweeps: float(
                np.median(implicit_sweeps(train, use_cg, n)[1:])
            )
        taken = interleaved(contenders, rounds=5 if size <= 1_000_000 else 2)
        del train, A, contenders
        memory = {
            name: run_apart("benchmarks.training", "--memory", name, "--sizes", size)["mib"]
            for name in taken
        }
        for name in CONTENDERS:
            report.add(f"sweep, {size:,} ratings", taken["ours"], name, taken[name])
            report.add(f"peak memory, {size:,} ratings", memory["ours"], name, memory[name], "MiB")


def main():
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=["step", "objective", "als"])
    parser.add_argument("--sizes", nargs="*", type=int, default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--json", help="file for JSON lines")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        data = synthetic_ratings(arguments.sizes[0])
        if arguments.memory == "ours":
            from cfutils.factorization import ratings_tensor

            A = ratings_tensor(data)
            del data
            our_sweeps(A, 2)
        else:
            implicit_sweeps(data, CONTENDERS[arguments.memory], 2)
        print(json.dumps({"mib": peak_mib()}))
        return
    report = Report()
    print(f"{os.cpu_count()} processors; medians of interleaved runs")
    if {"step", "objective"} & set(arguments.only):
        data = movielens()
    if "step" in arguments.only:
        compare_steps(report, data)
    if "objective" in arguments.only:
        compare_objective(report, data)
    if "als" in arguments.only:
        compare_als(report, arguments.sizes)
        for size in arguments.sizes:
            compare_same_loss(report, size)
    if arguments.json:
        report.write(arguments.json)


if __name__ == "__main__":
    main()

"""Training of `SoftmaxModel` against the course's way, and the sampled softmax against the full.

    python -m benchmarks.softmax [--only training sampled] [--sizes 1000000] [--json FILE]

Training is measured on MovieLens 100K with a fifth of the users held out; of each of those, a fifth
of the ratings are labels and the rest is the input. The sampled softmax is measured on random
histories over `--sizes` items.
"""

import argparse
import json
import os

import numpy as np

from benchmarks.common import SIZES, Report, clock, dataset, interleaved, peak_mib, run_apart
from cfutils.movielens import load_movielens

ROUNDS = 5
COURSE_STEPS, EVERY = 3000, 50  # how long the course trains, and how often it is measured
HAIR = 0.01  # nats above a peer's lowest cross-entropy that count as reaching it
# The course's learning rate is 8. Of 1, 2, 4 and 8, 4 gave the lowest cross-entropy on the users
# that seed 1 holds out, with and without the leak. Ours was chosen on the same users, by seconds
# to that level; what is reported is seed 0.
COURSE = {
    "course's way": {"learning_rate": 8.0},
    "course's way, best rate": {"learning_rate": 4.0},
    "course's way, best rate, no leak": {"learning_rate": 4.0, "leak": False},
}
OURS = {"input_dims": 64}
TRAIN = {"learning_rate": 0.03, "batch_size": 200}

DIM, USERS, RATINGS, SAMPLED = 64, 128, 50, 1000
STEPS = 3  # per measurement of a whole step
LIMIT = 12 * 2**30  # bytes; a full softmax that needs more is left out


class Course:
    """The course's training of its softmax model, in TensorFlow 2.

    A step takes 200 users and, for each, all rated movies with their genres and years, as bags of
    ids padded to the longest, and one of these very movies as the label: it stays in the input,
    unless `leak` is False. Bags are averaged (35 + 3 + 2 wide) and a linear layer of width 35, its
    weights divided by 10, comes before the softmax over the same table of movies. Adagrad is
    TensorFlow 1's, through the same kernel. Ids are integers here, where the course had strings.
    """

    WIDTHS = (35, 3, 2)  # movie, genre, year

    def __init__(self, data, learning_rate, leak=True, seed=0):
        from cfutils import tf

        self.tf, self.data, self.rate, self.leak = tf, data, learning_rate, leak
        counts = (len(data.genres), data.genres.shape[1], data.years.max() + 1)
        shapes = [*zip(counts, self.WIDTHS, strict=True), (sum(self.WIDTHS), self.WIDTHS[0])]
        self.tables = [
            tf.Variable(tf.random.stateless_truncated_normal(shape, [seed, i], 0, shape[1] ** -0.5))
            for i, shape in enumerate(shapes)
        ]
        self.accumulators = [tf.Variable(tf.fill(table.shape, 0.1)) for table in self.tables]
        batches = tf.data.Dataset.from_tensor_slices(data.bags(data.train))
        batches = batches.shuffle(1000, seed=seed).repeat().batch(200, drop_remainder=True)
        self.batches = iter(batches.prefetch(1))
        self.step = tf.function(self._step, autograph=False)
        self.count = tf.Variable([seed, 0], dtype=tf.int64)

    def tower(self, bags):
        tf = self.tf
        pooled = []
        for bag, table in zip(bags, self.tables[:3], strict=True):
            places = tf.where(bag >= 0)
            ids = tf.SparseTensor(places, tf.gather_nd(bag, places), tf.shape(bag, tf.int64))
            pooled.append(tf.nn.embedding_lookup_sparse(table, ids, None, combiner="mean"))
        return tf.matmul(tf.concat(pooled, axis=1), self.tables[3] / 10)

    def _step(self, movies, genres, years, owners):
        tf = self.tf
        sizes = tf.math.count_nonzero(movies >= 0, axis=1, dtype=tf.float32)
        chosen = tf.cast(sizes * tf.random.stateless_uniform([200], self.count), tf.int64)[:, None]
        labels = tf.gather(movies, chosen[:, 0], batch_dims=1)
        if not self.leak:
            here = tf.range(tf.shape(movies, tf.int64)[1])[None] == chosen
            movies, years = (tf.where(here, tf.constant(-1, tf.int64), x) for x in (movies, years))
            genres = tf.where(owners == chosen, tf.constant(-1, tf.int64), genres)
        with tf.GradientTape() as tape:
            scores = tf.matmul(
                self.tower([movies, genres, years]), self.tables[0], transpose_b=True
            )
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores))
        gradients = tape.gradient(loss, self.tables)
        for table, sums, gradient in zip(self.tables, self.accumulators, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdagrad(
                var=table.handle, accum=sums.handle, lr=self.rate,
                grad=tf.convert_to_tensor(gradient),
            )  # fmt: skip
        self.count.assign_add([0, 1])
        return loss

    def train(self, steps):
        for _ in range(steps):
            self.step(*next(self.batches)).numpy()
        return self

    def cross_entropy(self):
        """Of the labels of the users held out."""
        from cfutils.losses import softmax_loss

        inputs, labels = self.data.held_out
        users = self.tower([self.tf.constant(bag) for bag in self.data.bags(inputs)[:3]])
        return float(softmax_loss(users, self.tables[0], labels))


class Histories:
    """ML-100K, a fifth of its users held out, and the padded bags that the course reads.

    Attributes: `train`, histories [754 or 755, M]; `held_out`, inputs and labels, of the others;
    `genres` [M, G], 0 or 1; `years` [M], numbered from 0.
    """

    def __init__(self, seed):
        from cfutils.factorization import ratings_tensor
        from cfutils.softmax import split_histories

        data = load_movielens()
        num_users, self.num_items = SIZES[100_000]
        self.genres = data.items["genres"].str.join("|").str.get_dummies().to_numpy()
        years = data.items["year"].fillna(0).rank(method="dense")
        self.years = years.to_numpy(np.int64) - 1
        ranks = np.random.default_rng(seed).permutation(num_users)
        ratings = data.ratings.assign(user_num=ranks[data.ratings["user_num"]])
        ratings["rating"] = 1.0  # all labels weigh alike
        out = num_users // 5
        held_out = ratings[ratings["user_num"] < out]
        train = ratings[ratings["user_num"] >= out].assign(user_num=lambda x: x["user_num"] - out)
        self.train = ratings_tensor(dataset(train, num_users - out, self.num_items))
        held_out = dataset(held_out, out, self.num_items)
        self.held_out = split_histories(held_out, 0.2, seed)

    def bags(self, A):
        """Ids of movies, genres and years of each user, and the place of each genre's movie.

        Integers [n, longest], -1 where a row has ended.
        """
        users, items = A.indices.numpy().T
        lists = np.split(items, np.flatnonzero(np.diff(users)) + 1)
        owners, genres = zip(*(np.nonzero(self.genres[items]) for items in lists), strict=True)
        years = [self.years[items] for items in lists]
        return tuple(padded(bag) for bag in (lists, genres, years, owners))


def padded(lists):
    """Lists of integers as one matrix, -1 behind the shorter ones."""
    matrix = np.full((len(lists), max(map(len, lists))), -1)
    for row, values in zip(matrix, lists, strict=True):
        row[: len(values)] = values
    return matrix


def our_training(data, steps, every, options=None):
    """A new model and the history of its training."""
    from cfutils.softmax import SoftmaxModel

    options = OURS | TRAIN | (options or {})
    made = {name: options.pop(name) for name in OURS}
    model = SoftmaxModel(data.train.shape, **made)
    return model.train(data.train, data.held_out, num_iterations=steps, eval_every=every, **options)


def first_at(values, level):
    """The place of the first value that is not above the level, or None."""
    reached = np.flatnonzero(np.asarray(values) <= level)
    return int(reached[0]) if len(reached) else None


def course_seconds(data, options, steps):
    """Seconds to make and train a new model; past the first 100 steps from the time of 100 more."""
    made = []
    first = clock(lambda: made.append(Course(data, **options).train(100)))
    return first + (steps - 100) / 100 * clock(lambda: made[0].train(100))


def compare_training(report):
    """(a) Seconds to each peer's lowest cross-entropy on users held out, and to our own.

    Everything is made anew in each round, so that tracing is counted. Measuring is not, but for
    the two rows that each call of our `train` measures.
    """
    data = Histories(0)
    report.section(f"(a) To a peer's lowest cross-entropy in {COURSE_STEPS:,} steps + {HAIR}")
    history = our_training(data, 300, 5)
    ours, at = history["validation_loss"], history["iteration"]
    lowest = int(at[ours.idxmin()])
    print(f"{'ours':44} lowest {ours.min():.4f}, at step {lowest}", flush=True)
    contenders, rows = {}, []

    def add_ours(steps):
        contenders[steps] = lambda: clock(lambda: our_training(data, steps, steps))

    add_ours(lowest)
    for name, options in COURSE.items():
        course = Course(data, **options)
        curve = [course.train(EVERY).cross_entropy() for _ in range(0, COURSE_STEPS, EVERY)]
        level = min(curve) + HAIR
        steps, place = EVERY * (1 + first_at(curve, level)), first_at(ours, level)
        when = EVERY * (1 + int(np.argmin(curve)))
        print(f"{name:44} lowest {min(curve):.4f}, at step {when}", flush=True)
        if place is None:
            print(f"{name:44} {level:.4f} is not reached by ours")
            continue
        add_ours(int(at[place]))
        contenders[name] = lambda options=options, steps=steps: course_seconds(data, options, steps)
        rows.append((name, level, int(at[place]), steps, min(curve)))
    taken = interleaved(contenders, ROUNDS)
    for name, level, ours_steps, steps, peer_lowest in rows:
        title = f"to {level:.3f}, {ours_steps} steps, peer {steps}"
        report.add(title, taken[ours_steps], name, taken[name])
        report.rows[-1] |= {"ours_lowest": ours.min(), "peer_lowest": peer_lowest}
    print(f"{f'to our own lowest, {lowest} steps':44}{taken[lowest] * 1e3:8.2f} ms")
    report.rows.append({"name": "to our own lowest", "ours_s": taken[lowest]})
    memory = {
        name: run_apart("benchmarks.softmax", "--memory", name)["mib"] for name in ["ours", *COURSE]
    }
    for name in COURSE:
        report.add("peak memory above TensorFlow's", memory["ours"], name, memory[name], "MiB")


def train_once(name):
    """What `--memory` measures of training: a hundred steps."""
    data = Histories(0)
    if name == "ours":
        our_training(data, 100, 10)
    else:
        Course(data, **COURSE[name]).train(100).cross_entropy()


# Loss and gradient, and a whole step, over many items


def random_histories(num_items):
    """Of `USERS` users, about `RATINGS` each, items with power-law popularity."""
    from cfutils import tf

    rng = np.random.default_rng(0)
    popularity = np.cumsum(1 / (np.arange(num_items) + 10.0) ** 0.9)
    users = np.repeat(np.arange(USERS), rng.poisson(RATINGS, USERS))
    items = np.searchsorted(popularity, rng.random(len(users)) * popularity[-1])
    keys = np.unique(users * num_items + rng.permutation(num_items)[items])
    places = np.stack([keys // num_items, keys % num_items], axis=1)
    return tf.SparseTensor(places, tf.ones(len(keys)), (USERS, num_items))


def loss_and_gradient(num_items, num_sampled):
    """A function that computes both for 70 % of the histories as labels."""
    from cfutils import tf
    from cfutils.losses import sampled_softmax_loss, softmax_loss
    from cfutils.softmax import split_histories

    _, labels = split_histories(random_histories(num_items), 0.7)
    rng = np.random.default_rng(0)
    users = tf.Variable(rng.normal(0, 0.2, (USERS, DIM)), dtype=tf.float32)
    items = tf.Variable(tf.fill((num_items, DIM), 0.1))  # drawing it would be the peak
    chances = tf.fill([num_sampled or 0], 1 / num_items)

    @tf.function(autograph=False)
    def step(drawn):
        with tf.GradientTape() as tape:
            if num_sampled is None:
                loss = softmax_loss(users, items, labels)
            else:
                loss = sampled_softmax_loss(users, items, labels, drawn, chances)
        return loss, tape.gradient(loss, [users, items])

    def run():
        loss, _ = step(tf.constant(rng.integers(0, num_items, num_sampled or 0)))
        return loss.numpy()

    run()  # traced
    return lambda: clock(run)


def whole_step(num_items, num_sampled):
    """A function that returns the seconds of a step of `SoftmaxModel.train`."""
    from cfutils.softmax import SoftmaxModel

    A = random_histories(num_items)
    model = SoftmaxModel(A.shape, input_dims=DIM)

    def run():
        history = model.train(
            A, num_iterations=STEPS, eval_every=STEPS, num_sampled=num_sampled, learning_rate=0.01
        )
        return history["seconds"].iloc[-1] / STEPS

    return run


PARTS = {"loss and gradient": loss_and_gradient, "step of train()": whole_step}


def full_needs(part, num_items):
    """About how many bytes the full softmax holds: scores, and what is as large as V."""
    tables = 2 if part == "loss and gradient" else 9
    return 4 * num_items * (4 * USERS + tables * DIM)


def compare_sampled(report, sizes):
    """(b) The sampled softmax as ours, the full as the peer."""
    report.section(
        f"(b) {SAMPLED} sampled items against all M, d {DIM}, {USERS} users with {RATINGS} ratings"
    )
    for size in sizes:
        for part, made in PARTS.items():
            numbers = {"sampled": SAMPLED, "full": None}
            needs = full_needs(part, size)
            if needs > LIMIT:
                del numbers["full"]
            taken = interleaved({name: made(size, n) for name, n in numbers.items()}, 3)
            memory = {
                name: run_apart("benchmarks.softmax", "--memory", part, name, "--sizes", size)
                for name in numbers
            }
            title = f"{part}, M {size:,}"
            if "full" in taken:
                report.add(title, taken["sampled"], "full", taken["full"])
                mib = [memory[name]["mib"] for name in ("sampled", "full")]
                report.add(f"{title}, peak", mib[0], "full", mib[1], "MiB")
                continue
            seconds, mib = taken["sampled"], memory["sampled"]["mib"]
            skipped = f"not run: needs about {needs / 2**30:.0f} GiB"
            print(f"{title:44}{seconds * 1e3:8.2f} ms{'-':>11}{'-':>11}  full, {skipped}")
            print(f"{title + ', peak':44}{mib:7.0f} MiB{'-':>11}{'-':>11}  full, {skipped}")
            report.rows.append({"name": title, "ours_s": seconds, "peer": f"full, {skipped}"})
            report.rows.append({"name": title, "ours_MiB": mib, "peer": f"full, {skipped}"})


def measure_memory(name, sizes):
    """Print the peak memory of one contender above that of importing TensorFlow."""
    import cfutils.softmax  # noqa: F401

    before = peak_mib()
    if name[0] in PARTS:
        run = PARTS[name[0]](sizes[0], None if name[1] == "full" else SAMPLED)
        run(), run()
    else:
        train_once(name[0])
    print(json.dumps({"mib": peak_mib() - before}))


def main():
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=["training", "sampled"])
    parser.add_argument("--sizes", nargs="*", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--json", help="file for JSON lines")
    parser.add_argument("--memory", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        measure_memory(arguments.memory, arguments.sizes)
        return
    report = Report()
    print(f"{os.cpu_count()} processors; medians of interleaved runs")
    if "training" in arguments.only:
        compare_training(report)
    if "sampled" in arguments.only:
        compare_sampled(report, arguments.sizes)
    if arguments.json:
        report.write(arguments.json)


if __name__ == "__main__":
    main()

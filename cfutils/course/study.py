"""Every claim of the series, measured once on each of several splits; and every model beside it.

    python -m cfutils.course.study                              MovieLens 100K, five splits
    python -m cfutils.course.study --seeds 10 --claims V3 V4
    python -m cfutils.course.study --release latest-small
    python -m cfutils.course.study ratings.csv --items movies.csv --user userId --item movieId

prints the table of models and the ledger of claims, and writes them as Markdown and JSON if asked.

A split is 90/10 at random by its seed; settings are chosen on a tenth of its training ratings,
never on its test. Its parts run in processes of one thread each, so that no figure depends on
what runs beside it. What is measured are the library's own functions.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

import cfutils as cf
from cfutils import _checks, _progress
from cfutils.course import claims
from cfutils.data import Dataset
from cfutils.tables import add_options, from_options

__all__ = ["ALPHAS", "Study", "run"]

STARTS = (0.5, 0.05)  # standard deviations of the first embeddings
TERMS = {"neither": (0, 0), "l2": (0.1, 0), "gravity": (0, 1.0), "both": (0.1, 1.0)}
GRID = {"l2_coeff": (0.1, 0.2, 0.4, 0.8), "gravity_coeff": (0.0, 1.25, 2.5, 5.0, 10.0, 20.0)}
PENALTIES = {True: (50, 100, 200, 400, 800), False: (1000, 2000, 4000, 8000, 16000)}
RESIDUAL = (0.15, 0.2, 0.25, 0.3, 0.4)
STEPS = (60, 120, 180)
ALPHAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
GENRES = ("Horror", "Animation", "Children's", "Children", "Drama")
MAX_ITEMS = 20_000  # EASE inverts a table of items by items


@dataclasses.dataclass(frozen=True)
class Study:
    """What a study found, and with which settings.

    Attributes:
        facts: `claim`, `variant`, `measure`, `seed`, `value`: the figures of the claims.
        models: `model`, `seed`, `measure`, `value`: what stands in the table of models.
        curves: `curve`, `model`, `at`, `seed`, `measure`, `value`: how models change with the power
            `alpha` of the norm and, if asked for, with their dimension and their tower.
        settings: `model`, `seed`, `settings`: what was chosen on validation ratings.
        seconds: `part`, `seed`, `seconds`: what the study took, on one thread.
    """

    facts: pd.DataFrame
    models: pd.DataFrame
    curves: pd.DataFrame
    settings: pd.DataFrame
    seconds: pd.DataFrame

    def ledger(self) -> pd.DataFrame:
        """The claims with their figures and verdicts."""
        return claims.ledger(self.facts)

    def table(self) -> pd.DataFrame:
        """Means of the models over the splits, best NDCG first, with the interval of that."""
        means = self.models.pivot_table(
            index="model", columns="measure", values="value", sort=False
        )
        ndcg = self.models[self.models["measure"] == "NDCG@10"].groupby("model")["value"]
        ends = ndcg.agg(lambda values: _ends(values.to_numpy()))
        means["95 % interval"] = ends.reindex(means.index)
        names = ["test MSE", "Recall@10", "NDCG@10", "95 % interval", "median ratings", "coverage"]
        means = means.reindex(columns=names)
        return means.sort_values("NDCG@10", ascending=False).round(4)


def _ends(values: np.ndarray) -> str:
    if len(values) < 2:
        return ""
    interval = cf.metrics.mean_interval(values)
    return f"{interval['low']:.3f} to {interval['high']:.3f}"


class _Split:
    """One split of the data, and what is found on it."""

    def __init__(self, data: Dataset, seed: int, relevant: float | None) -> None:
        self.data, self.seed, self.relevant = data, seed, relevant
        self.train, self.test = data.split(seed=seed)
        self.fit, self.validation = self.train.split(seed=seed)
        self.counts = self.train.item_stats()["num_ratings"].to_numpy()
        self.facts: list[tuple] = []
        self.models: list[tuple] = []
        self.curves: list[tuple] = []
        self.settings: list[tuple] = []

    def fact(self, claim: str, variant: str, measure: str, value: float) -> None:
        self.facts.append((claim, variant, measure, self.seed, float(value)))

    def ndcg(self, scores: Any, train: Dataset | None = None, test: Dataset | None = None) -> float:
        parts = train or self.train, test or self.test
        return self.ranking(scores, *parts)["ndcg"]

    def ranking(self, scores: Any, train: Dataset, test: Dataset) -> pd.Series:
        return cf.ranking_metrics(scores, train, test, relevant_rating=self.relevant).mean()

    def lists(self, scores: Any) -> pd.Series:
        """Median popularity and coverage of everybody's ten."""
        return cf.metrics.list_metrics(cf.metrics.rank_candidates(scores, self.train), self.counts)

    def model(
        self, name: str, scores: Any, *, settings: str = "", mse: float = np.nan
    ) -> pd.Series:
        """A row of the table of models; returns its measures."""
        ranking, lists = self.ranking(scores, self.train, self.test), self.lists(scores)
        found = {"test MSE": mse, "Recall@10": ranking["recall"], "NDCG@10": ranking["ndcg"]}
        found |= {"median ratings": lists["median_popularity"], "coverage": lists["coverage"]}
        self.models += [(name, self.seed, measure, value) for measure, value in found.items()]
        self.settings.append((name, self.seed, settings))
        return pd.Series(found)

    def mse(self, guesses: np.ndarray) -> float:
        return float(((self.test.ratings["rating"] - guesses) ** 2).mean())

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        users, items = self.test.ratings[["user_num", "item_num"]].to_numpy().T
        return users, items

    def error(self, model: cf.CFModel) -> float:
        users, items = self.pairs()
        taste = model.user_embeddings[users] * model.item_embeddings[items]
        return self.mse(taste.sum(axis=1))

    def best(self, grid: Iterable[Any], score: Callable[[Any], float]) -> Any:
        """The setting that ranks best on validation ratings."""
        return max(grid, key=score)

    def lift(self, V: np.ndarray) -> pd.Series:
        nearest, table = cf.inspection.nearest_items(V), self.data.genre_table()
        return cf.inspection.genre_lift(nearest, table, num_permutations=1)["lift"]

    @functools.cached_property
    def genres(self) -> list[str]:
        """Those that the course names or, where there are none, the most frequent ones."""
        if "genres" not in self.data.items:
            return []
        counts = self.data.items["genres"].explode().value_counts()
        return [genre for genre in GENRES if genre in counts] or counts.index[:4].tolist()

    @functools.cached_property
    def rate(self) -> float:
        """A learning rate as stable as 10 on MovieLens 100K: the busiest row has the say."""
        busiest = max(np.bincount(self.train.ratings[n]).max() for n in ("user_num", "item_num"))
        return 10 * 0.0074 * len(self.train.ratings) / busiest

    def stopped(self, make: Callable[[], cf.CFModel], steps: int, **how: Any) -> int:
        """The number of steps after which the validation error is lowest."""
        options = {"num_iterations": steps, "eval_every": 10, "patience": 10} | how
        history = make().train(self.fit, self.validation, **options)
        return max(10, int(history.loc[history["test_mse"].idxmin(), "iteration"]))


# The parts of a study -----------------------------------------------------------------------------


def _plain(split: _Split) -> None:
    """The plain factorization with both starts, at its best and as the course runs it."""
    popularity = split.ndcg(cf.popularity_scores(split.train))
    best: dict[str, list] = {"early-stopped": [], "as the course runs it": []}
    for start in STARTS:
        make = functools.partial(cf.CFModel, split.data, 30, init_stddev=start, seed=split.seed)
        rate: dict[str, Any] = {"learning_rate": split.rate}
        stop = split.stopped(make, 1000, **rate)
        model, initial = make(), make().item_embeddings
        norms = np.linalg.norm(initial, axis=1)
        split.fact("V6", f"start {start}", "off", abs(norms.mean() / (start * 30**0.5) - 1))
        for name, steps in (("early-stopped", stop), ("as the course runs it", 1000 - stop)):
            history = model.train(
                split.train, split.test, num_iterations=steps, eval_every=steps, **rate
            )
            U, V = model.user_embeddings, model.item_embeddings
            row = f"plain, start {start}" + (", early-stopped" if steps == stop else "")
            settings = f"{model.iteration} steps at {split.rate:g}"
            found = split.model(row, (U, V), settings=settings, mse=history["test_mse"].iloc[-1])
            cosine = cf.compute_scores(U, V, "cosine")
            best[name].append(max(found["NDCG@10"], split.ndcg(cosine)))
            if split.genres:
                split.fact("V8", f"start {start}, {name}", "lift", split.lift(V)["any"])
        variant, dot = f"start {start}", found["median ratings"]
        split.fact("V3", variant, "ratio", dot / split.lists(cosine)["median_popularity"])
        split.fact("V4", variant, "spearman", cf.inspection.norm_popularity(V, split.counts))
        kept = cf.inspection.norm_persistence(initial, V, split.counts)["spearman"]
        split.fact("V5", variant, "spearman", kept["1-4"])
    for name, found in best.items():
        split.fact("V2", name, "gap", popularity - max(found))
    tsne, pca = cf.tsne_map(V, seed=split.seed), PCA(2, random_state=split.seed).fit_transform(V)
    for name, coordinates in (("t-SNE", tsne), ("PCA, beside it", pca)):
        quality = cf.inspection.map_quality(V, coordinates)
        split.fact("V7", name, "distances", quality["distance_correlation"])
        split.fact("V7", name, "neighbourhoods", quality["trustworthiness"])


def _terms(split: _Split) -> None:
    """The course's loss without its terms, with each, and with both."""
    found: dict[str, dict[str, float]] = {}
    lifts = {}
    for name, (l2, pull) in [*TERMS.items(), ("early-stopped", (0, 0))]:
        make = functools.partial(
            cf.CFModel, split.data, 35, l2_coeff=l2, gravity_coeff=pull, seed=split.seed
        )
        how = {
            "optimizer": cf.keras.optimizers.SGD(momentum=0.9),
            "learning_rate": 2 * split.rate,
        }
        steps = split.stopped(make, 200, **how) if name == "early-stopped" else 200
        model = make()
        history = model.train(
            split.train, split.test, num_iterations=steps, eval_every=steps, **how
        )
        last = history.iloc[-1]
        settings = f"l2 {l2:g}, gravity {pull:g}, {steps} steps at {2 * split.rate:g}, momentum 0.9"
        row = split.model(f"factorization, {name}", model, settings=settings, mse=last["test_mse"])
        found[name] = {"train": last["train_mse"], "test": last["test_mse"], "ndcg": row["NDCG@10"]}
        if split.genres:
            lifts[name] = split.lift(model.item_embeddings)
    plains = {"neither, as the course": "neither", "neither, early-stopped": "early-stopped"}
    for (words, plain), term, side in itertools.product(
        plains.items(), ("l2", "gravity", "both"), ("train", "test")
    ):
        value = found[term][side] - found[plain][side]
        split.fact("V9", f"{side}: {term} - {words}", "mse", value)
    for words, plain in plains.items():
        split.fact("V10", f"both - {words}", "ndcg", found["both"]["ndcg"] - found[plain]["ndcg"])
        for genre in split.genres:
            gained = lifts["both"][genre] - lifts[plain][genre]
            split.fact("V12", f"{genre}, both - {words}", "lift", gained)
    popularity = split.ndcg(cf.popularity_scores(split.train))
    split.fact("V10", "both - popularity", "ndcg", found["both"]["ndcg"] - popularity)


def _als(
    split: _Split, train: Dataset, dim: int, how: tuple[float, float], sweeps: int = 8
) -> cf.CFModel:
    """A factorization with these coefficients of l2 and gravity."""
    l2, pull = how
    model = cf.CFModel(split.data, dim, l2_coeff=l2, gravity_coeff=pull, seed=split.seed)
    model.train_als(train, num_iterations=sweeps, eval_every=sweeps)
    return model


def _references(split: _Split) -> None:
    """Popularity, chance, biases, EASE; the factorization with chosen coefficients; their sum."""
    split.model("popularity", cf.popularity_scores(split.train))
    chance = cf.chance_metrics(split.train, split.test, relevant_rating=split.relevant).mean()
    for measure, name in (("Recall@10", "recall"), ("NDCG@10", "ndcg")):
        split.models.append(("chance", split.seed, measure, chance[name]))
    _biases(split)
    ease = _ease(split) if split.data.num_items <= MAX_ITEMS else None

    @functools.cache
    def tried(setting):
        return split.ndcg(_als(split, split.fit, 32, setting, 5), split.fit, split.validation)

    without = split.best(((l2, 0.0) for l2 in GRID["l2_coeff"]), tried)
    chosen = split.best(itertools.product(*GRID.values()), tried)
    pair = [_als(split, split.train, 32, setting) for setting in (without, chosen)]
    ndcgs = [split.ndcg(model) for model in pair]
    errors = [split.error(model) for model in pair]
    split.fact("V11", "gravity chosen - none", "ndcg", ndcgs[1] - ndcgs[0])
    split.fact("V11", "gravity chosen - none", "mse", errors[1] - errors[0])
    model = _als(split, split.train, 128, chosen)
    settings = "l2 {:g}, gravity {:g}, d 128".format(*chosen)
    mse = split.error(model)
    U, V = model.user_embeddings, model.item_embeddings
    split.model("regularized, chosen", U @ V.T, settings=settings, mse=mse)
    if ease is not None:
        both = [scores / scores.std() for scores in (U @ V.T, ease)]
        split.model("regularized + EASE", sum(both), settings="each by its standard deviation")
    curve = {alpha: cf.compute_scores(U, V, alpha=alpha) for alpha in ALPHAS}
    lists = {alpha: split.lists(scores) for alpha, scores in curve.items()}
    for alpha in ALPHAS:
        found = {"NDCG@10": split.ndcg(curve[alpha])}
        found["median ratings"], found["coverage"] = lists[alpha].iloc[:2]
        for taken in found.items():
            split.curves.append(("alpha", "regularized", alpha, split.seed, *taken))
    ratio = lists[0.0]["median_popularity"] / lists[1.0]["median_popularity"]
    split.fact("V16", "regularized, chosen", "ratio", ratio)
    gained = lists[1.0]["coverage"] - lists[0.0]["coverage"]
    split.fact("V16", "regularized, chosen", "coverage", gained)


def _ease(split: _Split) -> np.ndarray:
    """Both forms of EASE, the penalty chosen on validation ratings; the scores of the better."""
    for binary, name in ((True, "binary"), (False, "ratings")):
        scores = functools.partial(cf.ease_scores, binary=binary)
        ranked = {
            l2: split.ndcg(scores(split.fit, l2=float(l2)), split.fit, split.validation)
            for l2 in PENALTIES[binary]
        }
        l2 = max(ranked, key=ranked.__getitem__)
        found = scores(split.train, l2=float(l2))
        split.model(f"EASE, {name}", found, settings=f"l2 {l2}")
    return found


def _biases(split: _Split) -> None:
    """The biases alone, and with a factorization of what they leave, judged by stars and ranks."""
    users, items = split.pairs()

    def residual(train: Dataset, l2: float) -> tuple[np.ndarray, np.ndarray]:
        mean, of_users, of_items = cf.baselines.fit_biases(train)
        base = mean + of_users[:, None] + of_items
        rows = train.ratings["user_num"].to_numpy(), train.ratings["item_num"].to_numpy()
        left = train.ratings.assign(rating=train.ratings["rating"] - base[rows])
        model = _als(split, dataclasses.replace(train, ratings=left), 32, (l2, 0.0), 5)
        return base, base + model.user_embeddings @ model.item_embeddings.T

    def error(l2: float) -> float:
        ratings = split.validation.ratings
        guesses = residual(split.fit, l2)[1][ratings["user_num"], ratings["item_num"]]
        return -float(((ratings["rating"] - guesses) ** 2).mean())

    l2 = split.best(RESIDUAL, error)
    base, both = residual(split.train, l2)
    split.model("biases", base, mse=split.mse(base[users, items]))
    settings = f"l2 {l2:g}, d 32"
    split.model(
        "biases + factorization", both, settings=settings, mse=split.mse(both[users, items])
    )


def _softmax(
    split: _Split,
    train: Dataset,
    steps: int,
    rating_power: float = 2,
    rate: float = 0.05,
    **options: Any,
) -> cf.SoftmaxModel:
    """A softmax model with the usual settings, trained for so many steps."""
    options = {"input_dims": 128, "rating_power": rating_power, "seed": split.seed} | options
    model = cf.SoftmaxModel(split.data, **options)
    schedule = cf.keras.optimizers.schedules.CosineDecay(rate, steps)
    adam = cf.keras.optimizers.Adam(schedule)
    batch = -(-split.data.num_users // 2)
    model.train(train, num_iterations=steps, batch_size=batch, optimizer=adam, eval_every=steps)
    return model


def _softmaxes(split: _Split) -> None:
    """The softmax model of what was rated and of how, and with two tables."""

    def ranked(steps):
        model = _softmax(split, split.fit, steps)
        return split.ndcg(model, split.fit, split.validation)

    steps = split.best(STEPS, ranked)
    settings = f"d 128, {steps} steps"
    binary = _softmax(split, split.train, steps, 0)
    split.model("softmax, binary", binary, settings=settings)
    tied = _softmax(split, split.train, steps)
    first = split.model("softmax, ratings", tied, settings=settings)
    second = split.model(
        "softmax, untied", _softmax(split, split.train, steps, tied=False), settings=settings
    )
    split.fact("V15", "ratings", "ndcg", first["NDCG@10"] - second["NDCG@10"])
    each = cf.tf.sparse.eye(split.data.num_items)
    same = (tied.fold_in(each) == tied.item_embeddings).all(axis=1).mean()
    split.fact("V15", "histories of one movie", "rows", same)
    _new_users(split, steps)


def _new_users(split: _Split, steps: int) -> None:
    """Users of whom training knows nothing: a fifth of them, with a fifth of their ratings."""
    known, asked = split.data.split_users(test_fraction=0.2, seed=split.seed)
    history, unknown = asked.split(test_fraction=0.2, seed=split.seed)
    model = _softmax(split, known, steps, 0)
    scores = {"softmax": model.fold_in(history) @ model.item_embeddings.T}
    scores["popularity"] = cf.popularity_scores(known)
    if split.data.num_items <= MAX_ITEMS:
        B = cf.baselines.ease_weights(known, l2=200.0)
        scores["EASE"] = history.interactions() @ B
    lowest = float(unknown.ratings["rating"].min())
    for words, relevant in (("all held-out", lowest), ("relevant alone", split.relevant)):
        ndcg = {
            name: cf.ranking_metrics(s, history, unknown, relevant_rating=relevant)["ndcg"].mean()
            for name, s in scores.items()
        }
        split.fact("V14", words, "ndcg", ndcg["softmax"] - ndcg["popularity"])
        if "EASE" in ndcg:
            split.fact("V14", words, "ease", ndcg["softmax"] - ndcg["EASE"])


def _dimensions(split: _Split) -> None:
    """Each model with 8, 32 and 128 dimensions, its settings chosen at each."""

    def found(model, dim, ndcg):
        split.curves.append(("dimension", model, dim, split.seed, "NDCG@10", ndcg))

    for dim in (8, 32, 128):

        def als(setting, dim=dim):
            return split.ndcg(_als(split, split.fit, dim, setting, 5), split.fit, split.validation)

        def softmax(steps, dim=dim):
            model = _softmax(split, split.fit, steps, input_dims=dim)
            return split.ndcg(model, split.fit, split.validation)

        grids = {"l2 alone": [(l2, 0.0) for l2 in (0.1, 0.2, 0.4)]}
        grids["regularized"] = [*itertools.product((0.2, 0.4), (2.5, 5.0, 10.0))]
        for name, grid in grids.items():
            found(name, dim, split.ndcg(_als(split, split.train, dim, split.best(grid, als))))
        steps = split.best(STEPS[:2], softmax)
        found("softmax", dim, split.ndcg(_softmax(split, split.train, steps, input_dims=dim)))


def _towers(split: _Split) -> None:
    """The softmax model with features and a hidden layer, each at its own learning rate."""
    known: dict[str, np.ndarray] = {}
    with contextlib.suppress(ValueError):  # neither genres nor years
        known = split.data.item_features()
    inputs = [tuple(known)[:count] for count in range(len(known) + 1)]
    for hidden, names in itertools.product(((), (64,)), inputs):
        tower: dict[str, Any] = {
            "item_features": {name: known[name] for name in names},
            "hidden_dims": hidden,
        }
        tower["input_dims"] = {"item": 64} | dict.fromkeys(names, 8)

        def ranked(rate, tower=tower):
            model = _softmax(split, split.fit, 120, rate=rate, **tower)
            return split.ndcg(model, split.fit, split.validation)

        rate = split.best((0.02, 0.05), ranked)
        ndcg = split.ndcg(_softmax(split, split.train, 120, rate=rate, **tower))
        words = ", ".join(("items", *names)), "one of 64" if hidden else "none"
        split.curves.append(("tower", *words, split.seed, "NDCG@10", ndcg))


# Memory, seconds and work -------------------------------------------------------------------------


def _memory(split: _Split) -> None:
    """The two ways to compute the error of all ratings, with its gradient, at the course's d."""
    num_users, num_items, dim = split.data.num_users, split.data.num_items, 30
    sizes = num_users, num_items, len(split.train.ratings), dim
    formula = {"full": 2 * 4 * num_users * num_items, "gather": 4 * 4 * sizes[2] * dim}
    split.fact("V1", "by formula", "formula", abs(formula["full"] - formula["gather"]) / 2**20)
    split.fact("V1", "25 million ratings, by formula", "scale", 4 * 162_000 * 59_000 / 2**30)
    if not hasattr(os, "fork"):
        return  # what a process has used at most is not known then
    command = [sys.executable, "-c", _PEAKS, *map(str, (*sizes, split.seed))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peaks = json.loads(done.stdout)
    split.fact("V1", "measured", "memory", abs(peaks["full"] - peaks["gather"]))


# A process that has done nothing yet, and a child for each way: the peak of one is not the other's.
_PEAKS = """
import json, os, resource, sys
import numpy as np
from cfutils._tensorflow import tf
from cfutils.losses import sparse_mean_squared_error
N, M, n, d, seed = map(int, sys.argv[1:])
rng = np.random.default_rng(seed)
cells = np.sort(rng.choice(N * M, n, replace=False))
U, V = (rng.normal(0, 0.5, (rows, d)).astype("f") for rows in (N, M))
def full(A, U, V):
    found = tf.gather_nd(tf.matmul(U, V, transpose_b=True), A.indices)
    return tf.reduce_mean((A.values - found) ** 2)
peaks = {}
for name, loss in {"full": full, "gather": sparse_mean_squared_error}.items():
    read, write = os.pipe()
    if not os.fork():
        A = tf.SparseTensor(np.stack(np.divmod(cells, M), 1), np.ones(n, "f"), (N, M))
        tables = [tf.Variable(U), tf.Variable(V)]
        tf.linalg.matmul(tables[0][:1], tables[1][:1], transpose_b=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with tf.GradientTape() as tape:
            error = loss(A, *tables)
        tape.gradient(error, tables)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.write(write, str((after - before) / 1024).encode())
        os._exit(0)
    os.wait()
    peaks[name] = float(os.read(read, 99))
print(json.dumps(peaks))
"""


def _solvers(split: _Split) -> None:
    """The course's loss by gradient methods and by ALS: here, and on a larger made-up table."""
    tables = {"here": split.train, "200,000 made-up ratings": _made_up(split.seed)}
    for words, train in tables.items():
        raced = _race(train, split.seed)
        best, als = raced.drop("ALS").min(), raced.loc["ALS"]
        if words == "here":
            split.fact("V13", words, "seconds", best["seconds"])
        split.fact("V13", words, "ratio", best["seconds"] / als["seconds"])
        split.fact("V13", words, "work", best["work"] / als["work"])


def _made_up(seed: int, num_users: int = 3000, num_items: int = 2500) -> Dataset:
    """200,000 ratings of a model of ten dimensions, with popular items and noise."""
    rng = np.random.default_rng(seed)
    popularity = 1 / (np.arange(num_items) + 20.0)
    users = rng.integers(0, num_users, 500_000)
    items = rng.choice(num_items, 500_000, p=popularity / popularity.sum())
    keys = rng.permutation(np.unique(users * num_items + items))[:200_000]
    users, items = keys // num_items, keys % num_items
    U, V = (rng.normal(0, 0.5, (count, 10)) for count in (num_users, num_items))
    stars = np.clip(3.5 + (U[users] * V[items]).sum(1) + rng.normal(0, 0.7, len(keys)), 1, 5)
    frame = pd.DataFrame({"user_id": users, "item_id": items, "rating": stars})
    return cf.load_ratings(frame)


def _race(train: Dataset, seed: int) -> pd.DataFrame:
    """Seconds and multiplications of each solver to within 2 % of the lowest loss of all.

    The gradient methods have three learning rates each to choose from, in short runs, and then
    some 0.6 seconds. Who does not get there has what was spent, a lower bound.
    """
    n, d, rows = len(train.ratings), 35, train.num_users + train.num_items
    step = 3 * n * d + 2 * rows * d**2  # multiplications; the gravity term from Gram matrices
    batch = n // 30
    work = {"momentum": step, "Adam": step, "SGD": 3 * batch * d + 2 * rows * d**2}
    work["ALS"] = 2 * n * d**2 + rows * (d**3 // 3 + 2 * d**2)
    busiest = max(np.bincount(train.ratings[name]).max() for name in ("user_num", "item_num"))
    rate = 20 * 0.0074 * n / busiest
    rates = {"momentum": rate, "Adam": 0.1, "SGD": rate / 2}

    def model():
        return cf.CFModel(train, d, l2_coeff=0.1, gravity_coeff=1.0, seed=seed)

    def run(name, rate, steps):
        decay = cf.keras.optimizers.schedules.CosineDecay(rate, steps)
        sgd = cf.keras.optimizers.SGD(rate if name == "momentum" else decay, momentum=0.9)
        how: dict[str, Any] = {
            "optimizer": cf.keras.optimizers.Adam(decay) if name == "Adam" else sgd
        }
        how |= {"batch_size": batch} if name == "SGD" else {}
        try:
            return model().train(train, num_iterations=steps, eval_every=max(1, steps // 30), **how)
        except FloatingPointError:
            return pd.DataFrame({"iteration": [steps], "seconds": [np.inf], "loss": [np.inf]})

    histories = {"ALS": model().train_als(train, num_iterations=12)}
    for name, first in rates.items():
        steps = 120 if name == "SGD" else 30
        tried = {r: run(name, r, steps) for r in first * np.array([0.5, 1.0, 2.0])}
        best = min(tried, key=lambda r: tried[r]["loss"].iloc[-1])
        each = tried[best]["seconds"].diff().median() * 30 / steps  # seconds a step
        histories[name] = run(name, best, int(np.clip(0.6 / each, 100, 600)))
    level = 1.02 * min(history["loss"].min() for history in histories.values())
    found = {}
    for name, history in histories.items():
        reached = history[history["loss"] <= level]
        row = (reached if len(reached) else history).iloc[0 if len(reached) else -1]
        found[name] = {"seconds": row["seconds"], "work": row["iteration"] * work[name]}
    return pd.DataFrame(found).T


PARTS: dict[str, tuple[Callable[[_Split], None], tuple[str, ...]]] = {
    "plain": (_plain, ("V2", "V3", "V4", "V5", "V6", "V7", "V8")),
    "solvers": (_solvers, ("V13",)),
    "softmax": (_softmaxes, ("V14", "V15")),
    "references": (_references, ("V11", "V16")),
    "terms": (_terms, ("V9", "V10", "V12")),
    "memory": (_memory, ("V1",)),
    # No claim needs them: they are measured on the first split, if asked for.
    "towers": (_towers, ()),
    "dimensions": (_dimensions, ()),
}


# All of it ----------------------------------------------------------------------------------------


def run(
    data: Dataset,
    *,
    seeds: Sequence[int] = range(5),
    numbers: Sequence[str] | None = None,
    curves: bool = False,
    relevant_rating: float | None = None,
    jobs: int | None = None,
    progress: bool | None = None,
) -> Study:
    """Trains every model once per split, and takes every measure of every claim once.

    Args:
        data: any ratings. Claims about genres are left out where items have none.
        seeds: of the splits.
        numbers: the claims to measure, such as ["V3", "V4"]; None for all, and all models.
        curves: whether dimensions and towers are varied too, on the first split.
        relevant_rating: what counts as a hit, as for `ranking_metrics`.
        jobs: processes at once, of one thread each; None for the number of processors.
        progress: whether to show a bar on standard error; None if that is a terminal.

    Raises: ValueError if there is no such claim, or no seed; what `ranking_metrics` raises on a
    scale that leaves open what is relevant.
    """
    wanted = list(claims.CLAIMS) if numbers is None else list(numbers)
    unknown = [number for number in wanted if number not in claims.CLAIMS]
    if unknown or not wanted:
        raise ValueError(
            f"numbers should be among {', '.join(claims.CLAIMS)}. Received: {unknown or wanted}."
        )
    seeds = [_checks.integer("seeds: one of them", seed, 0) for seed in seeds]
    if not seeds:
        raise ValueError("seeds should hold one seed at least. Received: none.")
    tasks = [
        (name, seed)
        for name, (_, of_part) in PARTS.items()
        for seed in (seeds if of_part else seeds[:1])
        if set(of_part) & set(wanted) or (curves and not of_part)
    ]
    jobs = min(len(tasks), _checks.positive_integer("jobs", jobs or os.cpu_count() or 1))
    results = {}
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    with (
        _progress.bar(len(tasks), "part", progress) as bar,
        _one_thread(),
        concurrent.futures.ProcessPoolExecutor(jobs, context, _start) as pool,
    ):
        futures = {
            pool.submit(_measure, data, part, seed, relevant_rating): (part, seed)
            for part, seed in tasks
        }
        try:
            for future in concurrent.futures.as_completed(futures):
                results[futures[future]] = future.result()
                bar.update(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    columns = {
        "facts": ["claim", "variant", "measure", "seed", "value"],
        "models": ["model", "seed", "measure", "value"],
        "curves": ["curve", "model", "at", "seed", "measure", "value"],
        "settings": ["model", "seed", "settings"],
        "seconds": ["part", "seed", "seconds"],
    }
    frames = {
        name: pd.DataFrame([row for task in tasks for row in results[task][name]], columns=names)
        for name, names in columns.items()
    }
    frames["facts"] = frames["facts"][frames["facts"]["claim"].isin(wanted)]
    return Study(**frames)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that are started here use one thread each: BLAS and OpenMP look when they load."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _start() -> None:
    cf.tf.config.threading.set_intra_op_parallelism_threads(1)
    cf.tf.config.threading.set_inter_op_parallelism_threads(1)


def _measure(data: Dataset, part: str, seed: int, relevant: float | None) -> dict[str, list]:
    """What one part finds on one split."""
    started = time.perf_counter()
    split = _Split(data, seed, relevant)
    with threadpool_limits(1):
        PARTS[part][0](split)
    seconds = [(part, seed, time.perf_counter() - started)]
    found = {name: getattr(split, name) for name in ("facts", "models", "curves", "settings")}
    return found | {"seconds": seconds}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m cfutils.course.study", description="Measure the claims of the series."
    )
    add = parser.add_argument
    add("ratings", nargs="?", help="file of ratings; without one, a release of MovieLens")
    add("--release", default="100k", help="of MovieLens: 100k, 1m, ..., latest-small")
    add("--seeds", type=int, default=5, help="number of splits")
    add("--first-seed", type=int, default=0)
    add("--claims", nargs="+", metavar="V", help="only these, such as V3 V4")
    add("--curves", action="store_true", help="vary dimensions and towers too")
    add("--relevant-rating", type=float, help="the rating from which on an item is a hit")
    add("--jobs", type=int, help="processes at once")
    add("--markdown", type=pathlib.Path, help="write both tables to this file")
    add("--json", type=pathlib.Path, help="write all figures to this file")
    add_options(parser.add_argument_group("the table, as for cfutils.load_ratings"))
    options = parser.parse_args(arguments)
    if options.ratings is None:
        data = cf.load_movielens(options.release)
    else:
        data = from_options(options.ratings, options)
    study = run(
        data,
        seeds=range(options.first_seed, options.first_seed + options.seeds),
        numbers=options.claims,
        curves=options.curves,
        relevant_rating=options.relevant_rating,
        jobs=options.jobs,
    )
    left_out = [n for n in options.claims or claims.CLAIMS if n not in set(study.facts["claim"])]
    text = _report(study)
    if left_out:
        text += f"\nLeft out, since the items have no genres: {', '.join(left_out)}.\n"
    print(text)
    if options.markdown:
        options.markdown.write_text(text, "utf-8")
    if options.json:
        frames = {name: getattr(study, name) for name in ("facts", "models", "curves", "settings")}
        tables = {name: frame.to_dict("records") for name, frame in frames.items()}
        options.json.write_text(json.dumps(tables, indent=1) + "\n", "utf-8")


def _report(study: Study) -> str:
    """Both tables and the settings in Markdown."""
    table = study.table().astype(object).fillna("")
    chosen = study.settings[study.settings["settings"] != ""]
    by_model = chosen.groupby("model", sort=False)["settings"].unique().str.join("; ").to_frame()
    parts = [
        "## Models",
        claims.to_markdown(table),
        "## Settings",
        claims.to_markdown(by_model),
        "## Claims",
        claims.to_markdown(study.ledger()),
        "## What would matter",
        claims.to_markdown(claims.sizes(study.facts["claim"].unique())),
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    main()

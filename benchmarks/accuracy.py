"""RMSE of ratings on MovieLens 100K: biases and a factorization of what is left, against Surprise.

    python -m benchmarks.accuracy [--folds 5] [--json FILE]

Five random folds, each rating once in the test. Dimension and penalty of ours are chosen in every
fold on a tenth of its training ratings. Surprise's SVD and SVD++ have their default settings.
"""

import argparse
import itertools
import json
import time

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold
from surprise import SVD, Dataset, Reader, SVDpp

from cfutils.baselines import fit_biases
from cfutils.data import load_movielens, split_ratings
from cfutils.factorization import CFModel, ratings_tensor
from cfutils.metrics import mean_interval, verdict

DATA = load_movielens()
N, M = DATA.num_users, DATA.num_items
GRID = list(itertools.product((30, 100), (0.15, 0.2, 0.25, 0.3)))
COLUMNS = ["user_id", "movie_id", "rating"]


def baseline(train):
    mean, users, movies = fit_biases(train, N, M)
    return lambda ratings: mean + users[ratings["user_id"]] + movies[ratings["movie_id"]]


def fitted(train, test, dim, l2):
    base = baseline(train)
    left = train.assign(rating=train["rating"] - base(train))
    model = CFModel(N, M, dim, l2_coeff=l2, seed=0)
    model.train_als(ratings_tensor(left, N, M), num_iterations=5, eval_every=5)
    taste = model.user_embeddings[test["user_id"]] * model.item_embeddings[test["movie_id"]]
    return base(test) + taste.sum(axis=1)


def ours(train, test):
    fit, validation = split_ratings(train, seed=0)
    reached = {s: rmse(fitted(fit, validation, *s), validation) for s in GRID}
    started = time.perf_counter()
    guesses = fitted(train, test, *min(reached, key=reached.get))
    return guesses, time.perf_counter() - started


def surprise(algorithm):
    def run(train, test):
        reader = Reader(rating_scale=(1, 5))
        trainset = Dataset.load_from_df(train[COLUMNS], reader).build_full_trainset()
        started = time.perf_counter()
        model = algorithm(random_state=0).fit(trainset)
        pairs = zip(test["user_id"], test["movie_id"], strict=True)
        guesses = np.array([model.predict(user, movie).est for user, movie in pairs])
        return guesses, time.perf_counter() - started

    return run


def plain(guess):
    def run(train, test):
        started = time.perf_counter()
        guesses = guess(train)(test)
        return guesses, time.perf_counter() - started

    return run


METHODS = {
    "global mean": plain(lambda train: lambda test: np.full(len(test), train["rating"].mean())),
    "user and movie bias": plain(baseline),
    "ours": ours,
    "Surprise SVD": surprise(SVD),
    "Surprise SVD++": surprise(SVDpp),
}


def rmse(guesses, test):
    return float(np.sqrt(np.mean((np.clip(guesses, 1, 5) - test["rating"]) ** 2)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--json", help="append the rows to this file, one JSON object a line")
    options = parser.parse_args()
    rows = []
    folds = KFold(options.folds, shuffle=True, random_state=0).split(DATA.ratings)
    for fold, (kept, left_out) in enumerate(folds):
        train, test = DATA.ratings.iloc[kept], DATA.ratings.iloc[left_out]
        for name, method in METHODS.items():
            guesses, seconds = method(train, test)
            rows.append({"name": name, "fold": fold, "rmse": rmse(guesses, test), "s": seconds})
            print(f"fold {fold}  {name:22} {rows[-1]['rmse']:.4f}  {seconds:6.2f} s", flush=True)
    frame = pd.DataFrame(rows)
    table = frame.pivot(index="fold", columns="name", values="rmse")[list(METHODS)]
    print("\n", table.apply(mean_interval).T.round(4))
    print("\nseconds, median:", frame.groupby("name")["s"].median().round(2).to_dict())
    for peer in [name for name in METHODS if name != "ours"]:
        print(f"\n{peer} - ours:", verdict(table[peer] - table["ours"]).to_dict())
    if options.json:
        with open(options.json, "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()

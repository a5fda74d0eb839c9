"""RMSE of ratings on MovieLens 100K: biases and a factorization of what is left, against Surprise.

    python -m benchmarks.accuracy [--folds 5] [--json FILE]

Five random folds, each rating once in the test. Dimension and penalty of ours are chosen in every
fold on a tenth of its training ratings. Surprise's SVD and SVD++ have their default settings.
"""

import argparse
import dataclasses
import itertools
import json
import time

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold
from surprise import SVD, Reader, SVDpp
from surprise import Dataset as SurpriseDataset

from cfutils.baselines import fit_biases
from cfutils.factorization import CFModel
from cfutils.metrics import mean_interval, verdict
from cfutils.movielens import load_movielens

DATA = load_movielens()
GRID = list(itertools.product((30, 100), (0.15, 0.2, 0.25, 0.3)))
COLUMNS = ["user_num", "item_num", "rating"]


def baseline(train):
    mean, users, items = fit_biases(train)
    return lambda data: mean + users[data.ratings["user_num"]] + items[data.ratings["item_num"]]


def fitted(train, test, dim, l2):
    base = baseline(train)
    left = train.ratings.assign(rating=train.ratings["rating"] - base(train))
    model = CFModel(DATA, dim, l2_coeff=l2, seed=0)
    model.train_als(dataclasses.replace(train, ratings=left), num_iterations=5, eval_every=5)
    return base(test) + model.predict(test.ratings[["user_num", "item_num"]])


def ours(train, test):
    fit, validation = train.split(seed=0)
    reached = {s: rmse(fitted(fit, validation, *s), validation) for s in GRID}
    started = time.perf_counter()
    guesses = fitted(train, test, *min(reached, key=reached.get))
    return guesses, time.perf_counter() - started


def surprise(algorithm):
    def run(train, test):
        reader = Reader(rating_scale=(1, 5))
        trainset = SurpriseDataset.load_from_df(
            train.ratings[COLUMNS], reader
        ).build_full_trainset()
        started = time.perf_counter()
        model = algorithm(random_state=0).fit(trainset)
        pairs = zip(test.ratings["user_num"], test.ratings["item_num"], strict=True)
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
    "global mean": plain(
        lambda train: lambda test: np.full(len(test.ratings), train.ratings["rating"].mean())
    ),
    "user and movie bias": plain(baseline),
    "ours": ours,
    "Surprise SVD": surprise(SVD),
    "Surprise SVD++": surprise(SVDpp),
}


def rmse(guesses, test):
    return float(np.sqrt(np.mean((np.clip(guesses, 1, 5) - test.ratings["rating"]) ** 2)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--json", help="append the rows to this file, one JSON object a line")
    options = parser.parse_args()
    rows = []
    folds = KFold(options.folds, shuffle=True, random_state=0).split(DATA.ratings)
    for fold, (kept, left_out) in enumerate(folds):
        train, test = (
            dataclasses.replace(DATA, ratings=DATA.ratings.iloc[rows]) for rows in (kept, left_out)
        )
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

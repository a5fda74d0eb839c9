"""NDCG@10 of the regularized loss, `implicit`'s ALS and EASE, each tuned on validation ratings.

    python -m benchmarks.ranking [--splits 5] [--json FILE]

For every split of MovieLens 100K the settings of each method are chosen on a tenth of the training
ratings, and the method is then trained on all of them and judged on the test ratings.
"""

import argparse
import itertools
import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `implicit` asks for

import pandas as pd
import scipy.sparse
from implicit.als import AlternatingLeastSquares

from cfutils.baselines import ease_scores, popularity_scores
from cfutils.factorization import CFModel
from cfutils.metrics import mean_interval, ranking_metrics, verdict
from cfutils.movielens import load_movielens

DATA = load_movielens()


def ours(train, seed, embedding_dim, l2, gravity):
    model = CFModel(train, embedding_dim, l2_coeff=l2, gravity_coeff=gravity, seed=seed)
    model.train_als(train, num_iterations=12, eval_every=12)
    return model.user_embeddings @ model.item_embeddings.T


def implicit_als(train, seed, factors, regularization, alpha):
    model = AlternatingLeastSquares(
        factors=factors, regularization=regularization, alpha=alpha, iterations=15,
        random_state=seed,
    )  # fmt: skip
    histories = scipy.sparse.csr_matrix(train.interactions(binary=False))
    model.fit(histories, show_progress=False)
    return model.user_factors @ model.item_factors.T


def ease(train, seed, l2):
    return ease_scores(train, l2=l2, binary=False)


def popularity(train, seed):
    return popularity_scores(train)


METHODS = {
    "ours": (ours, list(itertools.product((64, 128), (0.3, 0.4), (3.0, 5.0)))),
    "implicit ALS": (
        implicit_als,
        list(itertools.product((16, 32, 64), (3.0, 10.0, 30.0), (0.1, 0.3, 1.0, 3.0))),
    ),
    "EASE, ratings": (ease, [(2000.0,), (4000.0,), (8000.0,)]),
    "popularity": (popularity, [()]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--json", help="append the rows to this file, one JSON object a line")
    options = parser.parse_args()
    rows = []
    for seed in range(options.splits):
        train, test = DATA.split(seed=seed)
        fit, validation = train.split(seed=seed)
        for name, (method, settings) in METHODS.items():
            chosen = max(
                settings, key=lambda setting: ndcg(method(fit, seed, *setting), fit, validation)
            )
            reached = ndcg(method(train, seed, *chosen), train, test)
            rows.append({"name": name, "split": seed, "settings": chosen, "ndcg": reached})
            print(f"split {seed}  {name:14} {reached:.4f}  {chosen}", flush=True)
    table = pd.DataFrame(rows).pivot(index="split", columns="name", values="ndcg")
    print("\n", table.apply(mean_interval).T.round(4))
    for peer in [name for name in METHODS if name != "ours"]:
        print(f"\nours - {peer}:", verdict(table["ours"] - table[peer]).to_dict())
    if options.json:
        with open(options.json, "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def ndcg(scores, train, test):
    return ranking_metrics(scores, train, test)["ndcg"].mean()


if __name__ == "__main__":
    main()

"""The 10 best of 50,000 items for 100,000 users, d 32: time and memory, against `implicit`.

    python -m benchmarks.scoring [--users N] [--json FILE]

`implicit` is asked in batches of 1,000 users, as its documentation advises, and with its own
threads. Embeddings are random; with "100 left out" each user has as many rated items.
"""

import argparse
import json

import numpy as np
import psutil
import scipy.sparse

from benchmarks.common import Report, clock, interleaved, peak_mib, run_apart
from cfutils.scores import top_k

NUM_USERS, NUM_ITEMS, DIM, K, RATED = 100_000, 50_000, 32, 10, 100
BATCH = 1000
ROUNDS = 3


def problem(num_users):
    """Random embeddings, float32, and the items that each user has rated."""
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, DIM), np.float32) for n in (num_users, NUM_ITEMS))
    columns = rng.integers(0, NUM_ITEMS, num_users * RATED, dtype=np.int32)
    starts = np.arange(0, len(columns) + 1, RATED, dtype=np.int32)
    ones = np.ones(len(columns), np.float32)
    rated = scipy.sparse.csr_matrix((ones, columns, starts), (num_users, NUM_ITEMS))
    rated.sum_duplicates()
    return users, items, rated


def ours(users, items, rated, leave_out):
    """Ids and scores by `top_k`."""
    return top_k(users, items, K, exclude=rated if leave_out else None)


def peer(users, items, rated, leave_out):
    """Ids and scores by `implicit`."""
    import implicit
    from threadpoolctl import threadpool_limits

    model = implicit.cpu.als.AlternatingLeastSquares(factors=DIM, num_threads=0)
    model.user_factors, model.item_factors = users, items
    parts = []
    with threadpool_limits(1, "blas"):  # it brings its own threads and asks for this
        for start in range(0, len(users), BATCH):
            chosen = np.arange(start, min(start + BATCH, len(users)))
            parts.append(
                model.recommend(chosen, rated[chosen], N=K, filter_already_liked_items=leave_out)
            )
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def memory(method):
    """MiB that the whole task takes at its peak beyond inputs and output."""
    data = problem(NUM_USERS)
    before = psutil.Process().memory_info().rss / 2**20
    ids, scores = method(*data, leave_out=True)
    return peak_mib() - before - (ids.nbytes + scores.nbytes) / 2**20


def main():
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=NUM_USERS, help="users in the timings")
    parser.add_argument("--json", help="file for JSON lines")
    parser.add_argument("--memory", choices=["ours", "peer"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        print(json.dumps({"mib": memory({"ours": ours, "peer": peer}[arguments.memory])}))
        return
    report = Report()
    data = problem(arguments.users)
    report.section(f"Top {K} of {NUM_ITEMS:,} items for {arguments.users:,} users, d {DIM}")
    for leave_out in (False, True):
        found, expected = (method(*data, leave_out)[1] for method in (ours, peer))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        contenders = {
            name: lambda method=method, leave_out=leave_out, data=data: clock(
                lambda: method(*data, leave_out)
            )
            for name, method in (("ours", ours), ("peer", peer))
        }
        taken = interleaved(contenders, ROUNDS)
        name = f"{RATED} left out per user" if leave_out else "all items"
        report.add(name, taken["ours"], "implicit", taken["peer"])
    del data
    used = {name: run_apart("benchmarks.scoring", "--memory", name)["mib"] for name in taken}
    report.add(
        f"memory beyond in- and output, {NUM_USERS:,} users", used["ours"], "implicit",
        used["peer"], "MiB",
    )  # fmt: skip
    if arguments.json:
        report.write(arguments.json)


if __name__ == "__main__":
    main()

"""Where the seconds of `python -m cfutils.course.study` go, part by part, and its largest process.

python -m benchmarks.study [--seeds 5]
"""

import argparse
import resource
import time

import cfutils as cf
from cfutils.course import study


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    started = time.perf_counter()
    found = study.run(cf.load_movielens(), seeds=range(options.seeds))
    seconds = time.perf_counter() - started
    parts = found.seconds.groupby("part", sort=False)["seconds"].agg(["median", "sum", "size"])
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(parts.round(1).to_string())
    print(f"{seconds:.0f} s in all; the largest process took {largest:.2f} GiB")


if __name__ == "__main__":
    main()

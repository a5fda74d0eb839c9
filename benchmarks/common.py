"""What the benchmarks share: data, interleaved timing, peak memory, one table and one JSON file."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from cfutils.data import Dataset

# Users and movies of the MovieLens sets of that many ratings.
SIZES = {
    100_000: (943, 1682),
    1_000_000: (6040, 3706),
    10_000_000: (69_878, 10_677),
    25_000_000: (162_541, 59_047),
}


def synthetic_ratings(num_ratings, seed=0):
    """Random ratings with power-law popularity of movies and log-normal activity of users.

    Returns:
        A `Dataset`, its ratings sorted.
    """
    num_users, num_items = SIZES[num_ratings]
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(0, 1.2, num_users)
    popularity = 1 / (np.arange(num_items) + 10.0) ** 0.9
    shares = [p / p.sum() for p in (activity, popularity)]
    keys = np.empty(0, np.int64)
    while len(keys) < num_ratings:
        users, items = (
            np.repeat(np.arange(len(p)), rng.multinomial(num_ratings, p)) for p in shares
        )
        keys = np.unique(np.concatenate([keys, users * num_items + rng.permutation(items)]))
    keys = np.sort(rng.choice(keys, num_ratings, replace=False))
    ratings = rng.integers(1, 6, num_ratings).astype(np.float32)
    columns = {"user_num": keys // num_items, "item_num": keys % num_items, "rating": ratings}
    return dataset(pd.DataFrame(columns), num_users, num_items)


def dataset(ratings, num_users, num_items):
    """A `Dataset` of ratings by row numbers, which are the ids as well."""
    users, items = np.arange(num_users), np.arange(num_items)
    return Dataset(
        users=pd.DataFrame({"user_id": users}),
        items=pd.DataFrame({"item_id": items, "title": items.astype(str)}),
        ratings=ratings,
    )


def clock(function):
    """Seconds that a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def interleaved(contenders, rounds):
    """Median of what each contender returns (seconds), taken in turns after one round unmeasured.

    Taking turns lets a slow spell of the machine fall on all alike.
    """
    for contender in contenders.values():
        contender()
    taken = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            taken[name].append(contender())
    return {name: float(np.median(times)) for name, times in taken.items()}


def peak_mib():
    """The largest resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent that this process was forked from
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS: bytes


def run_apart(module, *arguments):
    """Run `python -m module arguments` and return the JSON that its last line holds."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


class Report:
    """Rows of a comparison: printed as they come, and written as JSON lines."""

    def __init__(self):
        self.rows = []

    def section(self, title):
        """Print a heading and the names of the columns."""
        print(f"\n{title}\n{'':44}{'ours':>11}{'peer':>11}  peer/ours  peer", flush=True)

    def add(self, name, ours, peer, peer_value, unit="s"):
        """Add ours against a peer; a ratio above 1 means that ours is better."""
        ratio = peer_value / ours
        self.rows.append(
            {"name": name, f"ours_{unit}": ours, "peer": peer, f"peer_{unit}": peer_value}
            | {"ratio": ratio}
        )
        shown = [
            f"{value:.0f} {unit}" if unit != "s"
            else f"{value * 1e3:.2f} ms" if value < 10
            else f"{value:.2f} s"
            for value in (ours, peer_value)
        ]  # fmt: skip
        print(f"{name:44}{shown[0]:>11}{shown[1]:>11}{ratio:10.2f}x  {peer}", flush=True)

    def write(self, path):
        """Write one JSON object per line."""
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in self.rows)

"""Every public function says how its cost grows, and where it can be counted it is true."""

import importlib
import inspect
import tracemalloc

import numpy as np
import pandas as pd
import pytest

import cfutils
from cfutils.data import load_ratings, rating_stats, split_ratings
from cfutils.metrics import interactions, list_metrics, rank_candidates
from cfutils.scores import compute_scores, top_k

MODULES = [*cfutils.__all__]


def public(module):
    """(name, object) of functions and classes that a module offers, and of what classes offer."""
    names = getattr(module, "__all__", [name for name in vars(module) if name[0] != "_"])
    for name in names:
        thing = getattr(module, name)
        if getattr(thing, "__module__", None) != module.__name__:
            continue  # imported, or a constant
        if inspect.isclass(thing):
            if issubclass(thing, Exception):
                continue
            for key, member in vars(thing).items():
                if key[0] != "_" and (
                    callable(member) or isinstance(member, (property, classmethod))
                ):
                    yield f"{name}.{key}", member
        yield name, thing


@pytest.mark.parametrize("name", MODULES)
def test_every_docstring_states_the_growth(name):
    found = dict(public(importlib.import_module(f"cfutils.{name}")))
    assert found
    silent = [key for key, thing in found.items() if "O(" not in (inspect.getdoc(thing) or "")]
    assert silent == []


# Growth of memory, counted: the most that NumPy and Python hold at one size and at four times it


def ratings(n, num_items=50):
    pairs = np.random.default_rng(0).permutation(n)
    users, items = pairs // num_items, pairs % num_items
    return pd.DataFrame({"user_id": users, "movie_id": items, "rating": np.ones(n)})


def tables(n, num_items=2_000, d=8):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)).astype("f4"), rng.normal(size=(num_items, d)).astype("f4")


def lists(n):
    return np.zeros((n, 10), int)


def rank(scores, users):
    return rank_candidates(scores, ratings(50).iloc[:1], np.arange(len(users)), 2_000, k=1)


# name -> (what makes the input of size n, the work, n, whether its memory grows with n)
WORK = {
    "load_ratings": (ratings, lambda t: load_ratings(t, item="movie_id"), 100_000, True),
    "split_ratings": (ratings, lambda t: split_ratings(t, seed=0), 100_000, True),
    "rating_stats": (ratings, lambda t: rating_stats(t, "user_id", len(t)), 100_000, True),
    "interactions": (ratings, lambda t: interactions(t, len(t), 50), 100_000, True),
    "list_metrics": (lists, lambda t: list_metrics(t, np.arange(9)), 20_000, True),
    "compute_scores": (tables, lambda t: compute_scores(*t), 1_000, True),
    "top_k": (tables, lambda t: top_k(*t, 1), 5_000, False),
    "rank_candidates, embeddings": (tables, lambda t: rank(t, t[0]), 5_000, False),
    "rank_candidates, function": (
        tables, lambda t: rank(lambda ids: t[0][ids] @ t[1].T, t[0]), 5_000, False
    ),
}  # fmt: skip


def peak(work, given):
    work(given)  # what is only made once does not count
    tracemalloc.start()
    try:
        work(given)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", WORK)
def test_memory_grows_as_stated(name):
    make, work, n, grows = WORK[name]
    ratio = peak(work, make(4 * n)) / peak(work, make(n))
    low, high = (2.5, 6) if grows else (0.8, 1.6)
    assert low < ratio < high

"""Verdicts from made figures whose reading is known."""

import numpy as np
import pandas as pd
import pytest

from cfutils.course import claims
from cfutils.course.claims import verdict

UP = np.array([1.0, 1.1, 0.9, 1.05, 0.95])  # mean 1, standard deviation 0.08: clearly above 0
NOISE = np.array([1.0, -1.0, 0.5, -0.5, 0.0])
ZERO = np.zeros(5)
TREND = np.outer(UP, [9.0, 5.0, 1.0])  # falls from the first alpha to the last


def starts(large, small):
    return {"init 0.5": large, "init 0.05": small}


def four(neither, l2, gravity, both):
    return {"neither": neither, "l2": l2, "gravity": gravity, "both": both}


def maps(near, far):
    return {"trustworthiness": near, "distance_correlation": far}


def solvers(*seconds):
    return dict(zip(claims.SOLVERS, seconds, strict=True))


def alphas(ndcg, popularity, coverage):
    return {"alphas": [0, 0.5, 1], "ndcg": ndcg, "popularity": popularity, "coverage": coverage}


def memory(full, scale):
    sizes = {"sizes": [1, 2, 4], "full_mib": full, "gather_mib": [10, 20, 40]}
    return {**sizes, "full_mib_at_scale": scale}


NOT, ALL = np.nan, solvers(1, 1, 1, 1, 1)
RAISED, PLAIN = four(ZERO, UP, UP, UP), maps(ZERO, ZERO)
TERM = "holds only if gravity is used"
CASES = [
    ("V1", memory([10, 40, 160], 99_999), "holds"),  # powers 2 and 1
    ("V1", memory([10, 20, 40], 99_999), "does not hold"),  # the full product grows like 1
    ("V1", memory([40, 160, 640], 99_999), "does not hold"),  # four times as much at size 1
    ("V1", memory([10, 40, 160], 9_999), "does not hold"),  # would fit
    ("V2", {"best_plain_ndcg": UP, "popularity_ndcg": ZERO}, "does not hold"),
    ("V2", {"best_plain_ndcg": NOISE, "popularity_ndcg": ZERO}, "undecided"),
    ("V6", {"mean_norms": starts([2.5, 2.5], [0.25, 0.26]), "embedding_dim": 25}, "does not hold"),
    ("V7", {"tsne": maps(UP, UP), "pca": PLAIN}, "holds"),
    ("V7", {"tsne": maps(UP, -UP), "pca": PLAIN}, "holds only for neighbourhoods; not for distanc"),
    ("V7", {"tsne": maps(NOISE, -UP), "pca": PLAIN}, "undecided"),
    ("V8", {"lift": starts(1 + NOISE, 1 + NOISE)}, "holds"),  # at chance
    ("V8", {"lift": starts(1 + UP, 1 + UP)}, "does not hold"),
    ("V8", {"lift": starts(1 + UP, 1 + NOISE)}, "undecided"),
    ("V9", {"train_mse": RAISED, "test_mse": RAISED}, "holds"),
    ("V9", {"train_mse": RAISED, "test_mse": RAISED | {"l2": NOISE}}, TERM),
    ("V9", {"train_mse": RAISED, "test_mse": RAISED | {"l2": -UP}}, f"{TERM}; l2 alone lowers the"),
    ("V9", dict.fromkeys(("train_mse", "test_mse"), four(ZERO, ZERO, ZERO, UP)), "holds only if b"),
    ("V9", dict.fromkeys(("train_mse", "test_mse"), four(ZERO, ZERO, ZERO, -UP)), "does not hold"),
    ("V10", {"ndcg": four(ZERO, ZERO, ZERO, UP) | {"popularity": ZERO}}, "holds"),
    # The best gravity is 1; its error is higher, so fitting alone is not enough.
    ("V11", {"ndcg": {0: ZERO, 1: UP, 10: UP / 2}, "test_mse": {0: ZERO, 1: UP}}, "holds"),
    ("V11", {"ndcg": {0: ZERO, 1: UP}, "test_mse": {0: ZERO, 1: -UP}}, "does not hold"),
    ("V12", {"lift": {"War": (ZERO, UP), "Drama": (UP, ZERO)}}, "holds only for War; not for Dram"),
    ("V13", {"small": ALL, "large": solvers(NOT, NOT, NOT, NOT, 1)}, "holds"),
    ("V13", {"small": ALL, "large": solvers(NOT, NOT, 2.5, NOT, 1)}, "holds"),  # Adam, far later
    (
        "V13",
        {"small": ALL, "large": solvers(NOT, NOT, 2.5, 1.9, 1)},
        "holds only for plain descent",
    ),
    ("V13", {"small": ALL, "large": solvers(3, 9, 9, 1.9, 1)}, "does not hold"),  # descent too
    ("V13", {"small": ALL, "large": solvers(9, 9, 9, 1, NOT)}, "does not hold"),
    ("V13", {"small": solvers(20, 20, 20, 20, 1), "large": ALL}, "does not hold"),
    ("V14", {"softmax": UP, "popularity": ZERO, "ease": 2 * UP}, "holds"),
    ("V15", {"same_rows": True, "tied": NOISE, "untied": ZERO}, "holds"),
    ("V15", {"same_rows": False, "tied": UP, "untied": ZERO}, "does not hold"),
    ("V16", alphas(TREND, TREND, TREND[:, ::-1]), "holds"),
    ("V16", alphas(TREND, TREND[:, ::-1], TREND), "does not hold"),
]


@pytest.mark.parametrize(("number", "figures", "expected"), CASES)
def test_verdicts(number, figures, expected):
    row = verdict(number, **figures)
    begins = "only" in expected and row["verdict"].startswith(expected)
    assert row["verdict"] == expected or begins
    assert row["claim"].startswith(f"{number}: ")


@pytest.mark.parametrize(
    ("large", "small", "expected"),
    [
        (UP, UP, "holds"),
        (-UP, -UP, "does not hold"),
        (-UP, UP, "holds only if the start is 0.05; reversed with 0.5"),
        (UP, NOISE, "holds only if the start is 0.5; undecided with 0.05"),
        (NOISE, -UP, "undecided; start 0.5: undecided, 0.05: does not hold"),
    ],
)
def test_claims_that_may_depend_on_the_start(large, small, expected):
    zero, frame = starts(ZERO, ZERO), pd.DataFrame(starts(large, small))
    assert verdict("V3", dot=frame, cosine=zero)["verdict"] == expected
    assert verdict("V4", spearman=starts(large, small))["verdict"] == expected
    assert verdict("V5", rare=starts(large, small), popular=zero)["verdict"] == expected


def test_figures_hold_means_and_intervals():
    # Mean 1, sd 0.0790569, n 5: half-width 2.7764 * 0.0790569 / sqrt(5) = 0.0982
    row = verdict("V2", best_plain_ndcg=ZERO, popularity_ndcg=UP)
    assert list(row.index) == ["claim", "measure", "figure", "seeds", "verdict"]
    assert row["figure"] == "1.000 [0.902, 1.098]"
    assert (row["seeds"], row["verdict"]) == (5, "holds")
    # sigma sqrt(d) = 0.5 * 5 = 2.5, so 1 +/- 0.004, whose 95 % interval with one degree of freedom
    # is 12.706 * 0.004 wide; and 1
    row = verdict("V6", mean_norms=starts([2.49, 2.51], [0.25, 0.25]), embedding_dim=25)
    assert row["figure"] == "1.000 [0.949, 1.051]; 1.000 [1.000, 1.000]"
    assert (row["seeds"], row["verdict"]) == (2, "holds")
    row = verdict("V11", ndcg={0: ZERO, 10: UP}, test_mse={0: ZERO, 10: UP})
    assert row["measure"] == "gravity 10 - gravity 0: NDCG@10; test MSE"
    assert verdict("V12", lift={"War": (ZERO, UP)})["figure"] == "War 1.000 [0.902, 1.098]"
    assert verdict("V16", **alphas(TREND, TREND, -TREND))["figure"].endswith("; at alpha 0")
    assert verdict("V1", **memory([10, 40, 160], 40_960))["figure"] == (
        "within a factor of 3; above 1.5 and below; 40 GiB"
    )


def test_ledger_and_markdown():
    rows = [
        verdict("V2", best_plain_ndcg=ZERO, popularity_ndcg=UP),
        verdict("V14", softmax=UP, popularity=ZERO, ease=ZERO),
    ]
    table = claims.ledger(rows)
    assert table.index.tolist() == ["V2", "V14"]
    assert table.loc["V14", "verdict"] == "holds"
    frame = pd.DataFrame({"a": ["x|y"], "b": [2]}, index=pd.Index(["V1"], name=""))
    assert claims.to_markdown(frame) == "|  | a | b |\n| --- | --- | --- |\n| V1 | x\\|y | 2 |\n"


@pytest.mark.parametrize(
    ("number", "figures", "message"),
    [
        ("V17", {}, "number should be one of V1, .* Received: 'V17'"),
        ("V1", memory([1] * 3, 1) | {"sizes": [2, 4, 8]}, "sizes should rise, with 1 among them"),
        ("V2", {"best_plain_ndcg": ZERO, "popularity_ndcg": [1.0]}, "on the same seeds"),
        ("V2", {"best_plain_ndcg": 1.0, "popularity_ndcg": 2.0}, "two or more finite numbers"),
        ("V3", {"dot": {"init 0.5": UP}, "cosine": starts(UP, UP)}, "the key 'init 0.05'"),
        ("V9", {"train_mse": {}, "test_mse": {}}, "the key 'l2'"),
        ("V11", {"ndcg": {1: UP}, "test_mse": {1: UP}}, "the key 0"),
        ("V12", {"lift": {}}, "V12 needs a figure at least"),
        ("V16", alphas(UP, UP, UP), r"arrays \[seeds, 3\]"),
    ],
)
def test_errors(number, figures, message):
    with pytest.raises(ValueError, match=message):
        verdict(number, **figures)

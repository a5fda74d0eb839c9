"""Verdicts from made figures whose reading is known."""

import numpy as np
import pandas as pd
import pytest

from cfutils import claims

UP = np.array([1.0, 1.1, 0.9, 1.05, 0.95])  # mean 1, standard deviation 0.08: clearly above 0
NOISE = np.array([1.0, -1.0, 0.5, -0.5, 0.0])
ZERO = np.zeros(5)


def starts(large, small):
    return {"init 0.5": large, "init 0.05": small}


def four(neither, l2, gravity, both):
    return {"neither": neither, "l2": l2, "gravity": gravity, "both": both}


@pytest.mark.parametrize(
    ("full", "scale", "expected"),
    [
        ([10, 40, 160], 99_999, "holds"),  # powers 2 and 1
        ([10, 20, 40], 99_999, "does not hold"),  # the full product grows like 1
        ([40, 160, 640], 99_999, "does not hold"),  # four times as much at size 1
        ([10, 40, 160], 9_999, "does not hold"),  # would fit
    ],
)
def test_v1(full, scale, expected):
    row = claims.v1([1, 2, 4], full, [10, 20, 40], scale)
    assert row["verdict"] == expected
    assert row["claim"].startswith("V1: ")


def test_figures_hold_mean_and_interval():
    # Mean 1, sd 0.0790569, n 5: half-width 2.7764 * 0.0790569 / sqrt(5) = 0.0982
    row = claims.v2(ZERO, UP)
    assert row["figure"] == "1.000 [0.902, 1.098]"
    assert row["verdict"] == "holds"
    assert row["seeds"] == 5
    assert claims.v2(UP, ZERO)["verdict"] == "does not hold"
    assert claims.v2(NOISE, ZERO)["verdict"] == "undecided"


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
    zero = starts(ZERO, ZERO)
    assert claims.v3(starts(large, small), zero)["verdict"] == expected
    assert claims.v4(starts(large, small))["verdict"] == expected
    assert claims.v5(starts(large, small), zero)["verdict"] == expected


def test_v6():
    # sigma sqrt(d) = 0.5 * 5 = 2.5
    row = claims.v6(starts(np.array([2.49, 2.51]), np.array([0.25, 0.25])), 25)
    assert row["verdict"] == "holds"
    # 1 +/- 0.004, whose 95 % interval with one degree of freedom is 12.706 * 0.004 wide; and 1
    assert row["figure"] == "1.000 [0.949, 1.051]; 1.000 [1.000, 1.000]"
    assert row["seeds"] == 2
    for other in (starts([2.40, 2.5], [0.25, 0.25]), starts([2.5, 2.5], [0.25, 0.26])):
        assert claims.v6(other, 25)["verdict"] == "does not hold"


def test_v7_reads_neighbours_and_distances_apart():
    def maps(near, far):
        return {"trustworthiness": near, "distance_correlation": far}

    zero = maps(ZERO, ZERO)
    assert claims.v7(maps(UP, UP), zero)["verdict"] == "holds"
    expected = "holds only for neighbourhoods; not for distances"
    assert claims.v7(maps(UP, -UP), zero)["verdict"] == expected
    assert claims.v7(maps(NOISE, -UP), zero)["verdict"] == "undecided"


def test_v8_holds_at_chance():
    assert claims.v8(starts(1 + NOISE, 1 + NOISE))["verdict"] == "holds"
    assert claims.v8(starts(1 + UP, 1 + UP))["verdict"] == "does not hold"
    assert claims.v8(starts(1 + UP, 1 + NOISE))["verdict"] == "undecided"


def test_v9_names_the_term():
    def verdict(l2_test):
        train = four(ZERO, UP, UP, UP)
        return claims.v9(train, four(ZERO, l2_test, UP, UP))["verdict"]

    assert verdict(UP) == "holds"
    assert verdict(-UP) == "holds only if gravity is used; l2 alone lowers the test error"
    assert verdict(NOISE) == "holds only if gravity is used"
    none = four(ZERO, ZERO, ZERO, -UP)
    assert claims.v9(none, none)["verdict"] == "does not hold"


def test_v10_to_v12():
    ndcg = four(ZERO, ZERO, ZERO, UP) | {"popularity": ZERO}
    assert claims.v10(ndcg)["verdict"] == "holds"
    # The best gravity is 1; its error is higher, so fitting alone is not enough.
    ndcg, error = {0: ZERO, 1: UP, 10: UP / 2}, {0: ZERO, 1: UP, 10: ZERO}
    row = claims.v11(ndcg, error)
    assert row["verdict"] == "holds"
    assert "gravity 1 - gravity 0" in row["measure"]
    assert claims.v11(ndcg, {0: ZERO, 1: -UP, 10: ZERO})["verdict"] == "does not hold"
    lift = {"Horror": (ZERO, UP), "Drama": (UP, ZERO)}
    assert claims.v12(lift)["verdict"] == "holds only for Horror; not for Drama"


@pytest.mark.parametrize(
    ("large", "expected"),
    [
        ([np.nan] * 4 + [1.0], "holds"),
        ([np.nan, np.nan, 2.5, np.nan, 1.0], "holds"),  # Adam arrives, much later than ALS
        ([np.nan, np.nan, 2.5, 1.9, 1.0], "holds only for plain descent"),
        ([3.0, np.nan, np.nan, 1.9, 1.0], "does not hold"),  # plain descent arrives too
        ([np.nan, np.nan, np.nan, 1.0, np.nan], "does not hold"),
        ([np.nan] * 5, "does not hold"),
    ],
)
def test_v13(large, expected):
    small = dict(zip(claims.SOLVERS, [1.0] * 5, strict=True))
    row = claims.v13(small, dict(zip(claims.SOLVERS, large, strict=True)))
    assert row["verdict"].split(";")[0] == expected
    slow = dict(zip(claims.SOLVERS, [20.0] * 4 + [1.0], strict=True))
    assert claims.v13(slow, dict.fromkeys(claims.SOLVERS, 1.0))["verdict"] == "does not hold"


def test_v14_to_v16():
    assert claims.v14(UP, ZERO, 2 * UP)["verdict"] == "holds"
    assert claims.v14(ZERO, UP, ZERO)["verdict"] == "does not hold"
    assert claims.v15(True, NOISE, ZERO)["verdict"] == "holds"
    assert claims.v15(False, UP, ZERO)["verdict"] == "does not hold"
    falling = np.outer(UP, [9.0, 5.0, 1.0])
    rising = falling[:, ::-1]
    row = claims.v16([0, 0.5, 1], rising, falling, rising)
    assert row["verdict"] == "holds"
    assert row["figure"].endswith("at alpha 1")
    assert claims.v16([0, 0.5, 1], rising, rising, rising)["verdict"] == "does not hold"


def test_ledger_and_markdown():
    table = claims.ledger([claims.v2(ZERO, UP), claims.v14(UP, ZERO, ZERO)])
    assert table.index.tolist() == ["V2", "V14"]
    assert table.loc["V14", "verdict"] == "holds"
    frame = pd.DataFrame({"a": ["x|y"], "b": [2]}, index=pd.Index(["V1"], name=""))
    assert claims.to_markdown(frame) == "|  | a | b |\n| --- | --- | --- |\n| V1 | x\\|y | 2 |\n"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: claims.v1([2, 4, 8], [1] * 3, [1] * 3, 1), "sizes should rise, with 1 among"),
        (lambda: claims.v2(ZERO, [1.0]), "one figure per seed, on the same seeds"),
        (lambda: claims.v3({"init 0.5": UP}, starts(UP, UP)), "dot should have"),
        (lambda: claims.v9({}, {}), "train_mse should have"),
        (lambda: claims.v11({1: UP}, {1: UP}), "0 among them"),
        (lambda: claims.v12({}), "lift should hold a genre"),
        (lambda: claims.v16([0, 1], [UP], [UP], [UP]), r"arrays \[seeds, 2\]"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""How figures are read: by their size, and never from too few splits."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from cfutils.course import claims

GAIN = claims.Measure("gain", 0.01, "a reason")
LESS = dataclasses.replace(GAIN, below=True)
NOISE = np.array([-1.5, -0.5, 0.5, 1.0, 0.5])  # of mean 0


@pytest.mark.parametrize(
    ("mean", "noise", "above", "below"),
    [
        (0.1, 0.001, "holds", "does not hold"),
        (0.002, 0.0001, "does not hold", "holds"),  # significant, and tiny
        (0.1, 0.2, "undecided", "undecided"),  # large, and uncertain
        (-0.1, 0.001, "does not hold", "holds"),  # reversed
        (0.0, 0.0001, "does not hold", "holds"),  # nothing there, and that is certain
        (0.0, 0.2, "undecided", "undecided"),  # not shown is not "not there"
        (0.02, 0.0, "holds", "does not hold"),  # equal figures
        (0.01, 0.0, "holds", "does not hold"),  # from the size on, it matters
    ],
)
def test_a_verdict_needs_a_size(mean, noise, above, below):
    values = mean + noise * NOISE
    assert claims.verdict(values, GAIN)["verdict"] == above
    assert claims.verdict(values, LESS)["verdict"] == below


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_splits_decide_nothing(count):
    read = claims.verdict(np.full(count, 0.5), GAIN)
    assert (read["verdict"], read["splits"]) == ("undecided: too few splits", count)
    exact = dataclasses.replace(GAIN, exact=True)
    assert claims.verdict(np.full(count, 0.5), exact)["verdict"] == "holds"


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=9), st.floats(-3, 3))
def test_the_whole_interval_lies_beyond_the_size(values, size):
    low, high = -np.inf, np.inf
    if np.ptp(values) > 1e-9:
        interval = scipy.stats.t.interval(
            0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values)
        )
        low, high = interval
    found = claims.verdict(np.array(values), claims.Measure("m", size, "r"))["verdict"]
    if np.isfinite(low) and min(abs(low - size), abs(high - size)) > 1e-9:
        expected = "holds" if low > size else "does not hold" if high < size else "undecided"
        assert found == expected


def test_figures_are_written_with_their_interval():
    # mean 2, standard error 1 / sqrt(3) * ... of 1, 2, 3, 2: sd 0.8165, t(3) = 3.1824
    read = claims.verdict(np.array([1.0, 2.0, 3.0, 2.0]), claims.Measure("m", 1.5, "r", digits=2))
    assert read["figure"] == "2.00 [0.70, 3.30]"
    assert claims.verdict(np.full(4, 36.2), claims.Measure("m", 1, "r", digits=0))["figure"] == "36"


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf, 1.0]])
def test_figures_that_are_none_are_refused(values):
    with pytest.raises(ValueError, match="values should be finite figures, one a split"):
        claims.verdict(values, GAIN)


def facts(rows):
    columns = ["claim", "variant", "measure", "value"]
    frame = pd.DataFrame([row for row in rows for _ in range(5)], columns=columns)
    return frame.assign(seed=np.tile(range(5), len(rows)))


def test_the_ledger_has_a_line_for_each_variant():
    table = claims.ledger(
        facts(
            [
                ("V4", "start 0.5", "spearman", -0.25),
                ("V4", "start 0.05", "spearman", 0.9),
                ("V1", "25 million", "scale", 36.0),
            ]
        )
    )
    assert table.index.tolist() == ["V1", "V4", "V4"]
    assert table["variant"].tolist() == ["25 million", "start 0.5", "start 0.05"]
    assert table["verdict"].tolist() == ["holds", "does not hold", "holds"]
    assert table["figure"].tolist() == ["36", "-0.250", "0.900"]
    assert table["matters"].tolist() == ["from 16", "from 0.5", "from 0.5"]
    assert table["claim"].tolist() == [claims.CLAIMS[n].text for n in ("V1", "V4")] + [""]


def test_every_claim_says_what_would_matter_and_why():
    assert list(claims.CLAIMS) == [f"V{number}" for number in range(1, 17)]
    sizes = claims.sizes()
    assert (sizes["reason"].str.split().str.len() >= 5).all()
    assert claims.sizes(["V1", "V4"]).index.tolist() == ["V1", "V1", "V4"]


def test_a_table_in_markdown():
    frame = pd.DataFrame({"a": ["x|y"], "b": [2]}, index=pd.Index(["V1"], name=""))
    assert claims.to_markdown(frame) == "|  | a | b |\n| --- | --- | --- |\n| V1 | x\\|y | 2 |\n"

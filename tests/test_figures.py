import pathlib

import numpy as np
import pandas as pd
import pytest
import vl_convert

from cfutils.course import figures


class Plain:
    """What `tower` reads of a model."""

    num_items, embedding_dim, tied = 1682, 64, True
    input_dims, hidden_dims = {"item": 64}, ()


class Tall(Plain):
    input_dims, hidden_dims, tied = {"item": 64, "genres": 8}, (32, 16), False


def rows_with(chart, *columns):
    rows = [row for rows in chart.to_dict()["datasets"].values() for row in rows]
    return [tuple(row[column] for column in columns) for row in rows if columns[-1] in row]


def test_the_series_is_listed_wherever_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"0{n}" for n in range(1, 8)]
    assert figures.series().index.str[:2].tolist() == names
    monkeypatch.setattr(figures, "__file__", str(tmp_path / "a" / "b" / "c"))  # installed
    assert figures.series().empty
    monkeypatch.chdir(pathlib.Path(__file__).parents[1] / "notebooks")
    assert figures.series()["title"].str.endswith("?").all()


def test_a_factorization_is_drawn_to_one_scale():
    chart = figures.factorization(30, 70, 5, title="T", subtitle="look")
    assert chart.title.subtitle == "look"
    drawn = rows_with(chart, "x", "x2", "y", "y2", "label")
    sizes = {label: (right - left, low - high) for left, right, high, low, label in drawn}
    assert sizes == {
        "A: 30 x 70": (70, 30),
        "U: 30 x 5": (5, 30),
        "V, transposed: 5 x 70": (70, 5),
    }
    (width, height), encoding = (chart.width, chart.height), chart.to_dict()["layer"][0]["encoding"]
    across, down = (np.ptp(encoding[axis]["scale"]["domain"]) for axis in "xy")
    assert width / across == pytest.approx(height / down, rel=0.01)


def test_tower_shows_every_layer_with_its_shape():
    history, scores = "[n, 1,682]", "[n, 1,682]"
    tied = ("mean of V's rows", "[n, 64]")
    ends = [("scores: dot products with V", scores), ("softmax: p(x)", scores)]
    chart = figures.tower(Plain, title="T")
    table = ("V, one table", "[1,682, 64]")
    assert rows_with(chart, "label", "shape") == [("history x", history), tied, *ends, table]
    # the table lies at the left, halfway from the bag, its first use, to the scores, its second
    assert [row for row in rows_with(chart, "x", "y", "x2", "y2") if row[0] == -1] == [
        (-1, -1.5, 0, -1),
        (-1, -1.5, -0.46, -2),
    ]
    chart = figures.tower(Tall, title="T", subtitle="look")
    assert chart.title.subtitle == "look"
    assert rows_with(chart, "label", "shape") == [
        ("history x", history),
        ("mean of item", "[n, 64]"),
        ("mean of genres", "[n, 8]"),
        ("concatenated", "[n, 72]"),
        ("hidden layer, relu", "[n, 32]"),
        ("hidden layer, relu", "[n, 16]"),
        ("psi(x), by a projection", "[n, 64]"),
        *ends,
    ]
    # to two bags and from them, then down: 2 + 2 + 5
    assert len(rows_with(chart, "y", "y2")) == 9


def densities(scores, **options):
    return figures.score_histograms(scores, title="T", x_title="s", **options).data


def test_score_histograms_are_densities_over_common_bins():
    scores = {"rated": [0.0, 1, 1, 1, 2, 3], "not rated": np.array([[0.0], [4]], np.float32)}
    # bins of width 1 from 0 to 4; the last is closed at both ends
    expected = {"rated": [1 / 6, 3 / 6, 1 / 6, 1 / 6], "not rated": [0.5, 0, 0, 0.5]}
    for panels in ({"": scores}, {"a": scores, "b": scores}):
        data = densities(scores if len(panels) == 1 else panels, bins=4)
        for (_, group), part in data.groupby(["panel", "group"]):
            np.testing.assert_allclose(part["density"], expected[group], rtol=1e-3)
        assert len(data) == 8 * len(panels)


def test_density_counts_what_lies_beyond_the_domain():
    data = densities({"all": [0.0, 0, 10, 10]}, bins=2, domain=(-1, 1))
    assert data["density"].tolist() == [0, 0.5]


@pytest.mark.parametrize(
    ("scores", "received"), [([1, np.nan], "2 scores, 1 of"), ([], "0 scores")]
)
def test_scores_should_be_finite_and_some(scores, received):
    with pytest.raises(ValueError, match=f"'a' of 'm' should be finite.*Received: {received}"):
        densities({"m": {"a": scores}})


def test_the_picture_of_the_panel_marks_the_stars_given_and_lists_the_reasons():
    recommended = pd.DataFrame({"title": ["C", "D"], "because": ["A", "B"]}, index=[1, 2])
    chart = figures.panel_picture({"A": 5, "B": 1.0}, recommended, title="T", subtitle="look")
    buttons = rows_with(chart, "title", "stars", "chosen")
    assert len(buttons) == 2 * 5
    assert [row[:2] for row in buttons if row[2]] == [("A", 5), ("B", 1)]
    assert rows_with(chart, "rank", "title", "because") == [(1, "C", "A"), (2, "D", "B")]
    picture = vl_convert.vegalite_to_svg(chart.to_dict())
    assert all(f">{text}<" in picture for text in ("look", "A", "C", "D"))


def test_norm_lab_joins_lists_and_items():
    items = pd.DataFrame(
        {"item_id": ["a", "b"], "title": ["A", "B"], "num_ratings": [9, 0], "norm": [2.0, 0.5]}
    )
    lists = pd.DataFrame({"alpha": [0.0, 0.5, 1.0], "rank": 1, "item_id": ["a", "a", "b"]})
    curves = pd.DataFrame({"alpha": [0.0, 0.5, 1.0], "nDCG.[10]": [0.1, 0.2, 0.3]})
    chart = figures.norm_lab(items, lists, curves, title="Lab")
    spec = chart.to_dict()
    (slider,) = [param for param in spec["params"] if param["name"] == "alpha"]
    assert slider["value"] == 0
    assert (slider["bind"]["min"], slider["bind"]["max"], slider["bind"]["step"]) == (0, 1, 0.5)
    rows = rows_with(chart, "alpha", "title", "rank")
    assert rows == [(0.0, "A", 1), (0.5, "A", 1), (1.0, "B", 1)]
    assert rows_with(chart, "alpha", "value") == [(0.0, 0.1), (0.5, 0.2), (1.0, 0.3)]


@pytest.mark.parametrize(("alpha", "line"), [(0.5, "A (9)"), (1.0, "B (0)")])
def test_norm_lab_shows_the_list_and_the_points_of_its_alpha(alpha, line):
    items = pd.DataFrame({"item_id": [0, 1], "title": ["A", "B"], "num_ratings": [9, 0]})
    lists = pd.DataFrame({"alpha": [0.0, 0.5, 1.0], "rank": 1, "item_id": [0, 0, 1]})
    curves = pd.DataFrame({"alpha": [0.0, 0.5, 1.0], "coverage": [0.1, 0.2, 0.3]})
    spec = figures.norm_lab(items.assign(norm=1.0), lists, curves, title="Lab").to_dict()
    next(param for param in spec["params"] if param["name"] == "alpha")["value"] = alpha
    scene = str(vl_convert.vegalite_to_scenegraph(spec, vl_version="5.8"))
    assert [text for text in ("A (9)", "B (0)") if f"'{text}'" in scene] == [line]

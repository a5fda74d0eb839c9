import base64
import re
import subprocess
import sys

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert

from cfutils import charts


def stats(rows=60):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "user_id": range(rows),
            "job": rng.choice(["a", "b"], rows),
            "title": [f"Movie {i}" for i in range(rows)],
            "num_ratings": rng.integers(1, 300, rows),
            "mean_rating": rng.uniform(1, 5, rows).round(2),
            "secret": "not for the chart",
        }
    )


def chart_of(name):
    frame = stats()
    if name == "bars":
        return charts.bars(frame, "title", "num_ratings", title="T", x_title="x", y_title="y")
    if name == "bars with intervals":
        frame = frame.assign(low=frame["mean_rating"] - 0.5, high=frame["mean_rating"] + 0.5)
        options = {"title": "T", "x_title": "x", "y_title": "y", "interval": ("low", "high")}
        return charts.bars(frame, "title", "mean_rating", **options)
    if name == "sliced_histograms":
        return charts.sliced_histograms(frame, "user_id", "job", title="T", unit="users")
    if name == "scatter":
        options = {"title": "T", "x_title": "x", "y_title": "y", "log_x": True}
        return charts.scatter(frame, "num_ratings", "mean_rating", **options)
    if name.startswith("heatmap"):
        blocks = pd.DataFrame({"users": [0, 0, 1], "items": [0, 1, 0], "density": [0.5, 0.25, 0]})
        titles = {"title": "T", "x_title": "x", "y_title": "y", "value_title": "v"}
        panel = "model" if name.endswith("panels") else None
        blocks = blocks.assign(model="a", secret="not for the chart")
        options = {"domain": (0, 1), "panel": panel, **titles}
        return charts.heatmap(blocks, "items", "users", "density", **options)
    if name.startswith("lines"):
        options = {"title": "T", "x_title": "x", "y_title": "y"}
        if name == "lines panels":
            options |= {"panel": "title", "y_domain": (0, 5), "points": True}
        else:
            options |= {"log_x": True, "log_y": True}
        return charts.lines(frame.head(4), "num_ratings", "mean_rating", "job", **options)
    return charts.long_tail(frame, title="T")


NAMES = [
    "bars",
    "bars with intervals",
    "sliced_histograms",
    "scatter",
    "heatmap",
    "heatmap panels",
    "lines",
    "lines panels",
    "long_tail",
]


@pytest.fixture
def enabled():
    before = alt.renderers.active, alt.theme.active
    charts.enable()
    yield
    alt.renderers.enable(before[0])
    alt.theme.enable(before[1])


def items_of(node):
    """All groups and items of a Vega scene."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from items_of(value)


def rows_of(scene):
    """The rows of the marks that a Vega scene draws."""
    for node in items_of(scene):
        if node.get("marktype") in {"rect", "symbol", "line", "rule"} and node["role"] == "mark":
            yield from node["items"]


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_get_vegalite_5_a_picture_and_text_but_no_html(enabled, name):
    bundle, metadata = chart_of(name)._repr_mimebundle_(None, None)
    assert set(bundle) == {"application/vnd.vegalite.v5+json", "image/png", "text/plain"}
    spec = bundle["application/vnd.vegalite.v5+json"]
    assert spec["$schema"] == "https://vega.github.io/schema/vega-lite/v5.json"
    picture = bundle["image/png"]
    picture = picture if isinstance(picture, bytes) else base64.b64decode(picture)
    assert picture.startswith(b"\x89PNG")
    assert bundle["text/plain"] == "Chart: T"
    assert metadata["application/vnd.vegalite.v5+json"]["embed_options"]["renderer"] == "svg"


@pytest.mark.parametrize("name", NAMES)
def test_charts_draw_marks_in_vegalite_5(name):
    scene = vl_convert.vegalite_to_scenegraph(chart_of(name).to_dict(), vl_version="5.8")
    assert len(list(rows_of(scene))) >= (2 if name == "lines" else 3)


@pytest.mark.parametrize("name", NAMES)
def test_charts_carry_only_the_columns_they_use(name):
    assert "not for the chart" not in chart_of(name).to_json()


@pytest.mark.parametrize(("name", "across"), [("a", "x"), ("a long name", "y")])
def test_names_of_bars_do_not_overlap_and_lines_have_their_ends(name, across):
    names = [f"{name} {number}" for number in range(9)]
    heights = np.arange(1.0, 10)
    frame = pd.DataFrame({"model": names, "ndcg": heights, "from": heights - 0.5, "to": heights})
    chart = charts.bars(
        frame, "model", "ndcg", title="T", x_title="model", y_title="h", interval=("from", "to")
    )
    drawn = chart.to_dict()
    assert drawn["layer"][0]["encoding"][across]["sort"] == names
    scene = vl_convert.vegalite_to_scenegraph(drawn, vl_version="5.8")
    marks = [node for node in items_of(scene) if node.get("role") == "mark"]
    bars, lines = (
        next(node["items"] for node in marks if node["marktype"] == kind)
        for kind in ("rect", "rule")
    )
    side = "height" if across == "x" else "width"
    unit = bars[0][side]
    np.testing.assert_allclose([bar[side] for bar in bars], unit * heights)
    value = "y" if across == "x" else "x"
    lengths = [abs(line[value] - line.get(f"{value}2", 0)) for line in lines]
    np.testing.assert_allclose(lengths, unit / 2)
    labels = {item["text"]: item[across] for item in items_of(scene) if item.get("text") in names}
    room = 6 * len(names[0]) if across == "x" else 11  # letters of 10 pixels
    assert (np.diff([labels[name] for name in names]) >= room).all()


def test_histograms_are_those_of_numpy():
    frame = stats()
    chart = charts.sliced_histograms(frame, "user_id", "job", title="T", unit="users", step=25)
    scene = vl_convert.vegalite_to_scenegraph(chart.to_dict(), vl_version="5.8")
    drawn = [item.get("description", "") for item in rows_of(scene)]
    for field, label, edges in (
        ("num_ratings", "number of ratings", np.arange(0, 326, 25)),
        ("mean_rating", "mean rating", np.arange(1, 5.1, 0.25)),
    ):
        bars = [
            re.search(r"from: ([\d.]+); to: ([\d.]+); users: (\d+); share: ([\d.]+)%", text)
            for text in drawn
            if text.startswith(label)
        ]
        received = sorted(tuple(map(float, bar.groups())) for bar in bars)
        counts, _ = np.histogram(frame[field], bins=edges)
        expected = [
            (low, high, count, round(100 * count / len(frame), 1))
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
            if count
        ]
        # each bar twice: all users in grey, and the selection, at first all users, in blue
        np.testing.assert_allclose(received, sorted(expected * 2))


def test_a_key_in_two_categories_counts_once():
    twice = pd.DataFrame(
        {"id": [0, 0, 1], "genre": ["a", "b", "a"], "num_ratings": [10, 10, 40], "mean_rating": 3.0}
    )
    chart = charts.sliced_histograms(twice, "id", "genre", title="T", unit="movies")
    scene = vl_convert.vegalite_to_scenegraph(chart.to_dict(), vl_version="5.8")
    drawn = " ".join(item.get("description", "") for item in rows_of(scene))
    assert "50.0%" in drawn  # one of two movies in each bin, though one of them has two genres
    assert "66.7%" not in drawn


def test_long_tail_of_equal_movies_is_the_diagonal():
    equal = pd.DataFrame({"num_ratings": [7] * 40})
    chart = charts.long_tail(equal, title="T")
    np.testing.assert_allclose(chart.data["movies"], chart.data["ratings"])


def test_quiet_start_drops_known_lines_and_keeps_the_others():
    code = (
        "import os, re\n"
        "from cfutils._tensorflow import quiet_start\n"
        "with quiet_start(re.compile('noise')):\n"
        "    os.write(2, b'noise 1\\nerror 2\\n')\n"
        "os.write(2, b'noise 3\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["error 2", "noise 3"]


def test_tensorflow_starts_without_a_line():
    code = "from cfutils._tensorflow import keras, tf; print(int(tf.reduce_sum(tf.ones(3))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("3\n", "")


def movies_on_a_map(rows=30):
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "movie_id": range(rows),
            "title": ["Twice (1990)"] * 2 + [f"Movie {i} (1990)" for i in range(2, rows)],
            "genres": [["War"], ["War", "Drama"], ["(none; listed)"]] * (rows // 3),
            "num_ratings": [0, 0, *range(1, rows - 1)],
            "x": rng.normal(size=rows).astype(np.float32),
            "y": rng.normal(size=rows).astype(np.float32),
            "norm": rng.uniform(1, 2, rows).astype(np.float32),
            "secret": "not for the chart",
        }
    )


def two_models():
    frame = movies_on_a_map()
    # in another order of rows: movies are matched by id
    return pd.concat([frame.assign(model="a"), frame.assign(model="b", norm=frame.norm * 2)[::-1]])


def inspection_chart(name):
    if name == "norms":
        return charts.norms(two_models(), title="T")
    if name == "embedding_map":
        return charts.embedding_map(
            movies_on_a_map(), title="T", trust="trust 0.9", highlight=["War"]
        )
    if name == "embedding_map panels":
        trust = {"a": "trust of a", "b": "trust of b"}
        return charts.embedding_map(two_models(), title="T", trust=trust, panel="model")
    scores = {"rated": np.array([[0.0, 1, 1], [1, 2, 3]]), "not rated": np.array([0.0, 4])}
    if name == "score_histograms panels":
        scores = {"a": scores, "b": scores}
    return charts.score_histograms(scores, title="T", x_title="score", bins=4)


INSPECTION = [
    "norms",
    "embedding_map",
    "embedding_map panels",
    "score_histograms",
    "score_histograms panels",
]


@pytest.mark.parametrize("name", INSPECTION)
def test_inspection_charts_draw_in_vegalite_5_and_carry_only_what_they_use(enabled, name):
    chart = inspection_chart(name)
    bundle, _ = chart._repr_mimebundle_(None, None)
    assert bundle["text/plain"] == "Chart: T"
    scene = vl_convert.vegalite_to_scenegraph(chart.to_dict(), vl_version="5.8")
    assert len(list(rows_of(scene))) >= 10
    assert "not for the chart" not in chart.to_json()
    numbers = re.findall(r"\d\.(\d{4,})", str(list(chart.to_dict()["datasets"].values())))
    assert all(len(digits) <= 4 for digits in numbers)


def test_score_histograms_are_densities():
    chart = charts.score_histograms(
        {"rated": [0.0, 1, 1, 1, 2, 3], "not rated": [0.0, 4]}, title="T", x_title="s", bins=4
    )
    # bins of width 1 from 0 to 4; the last is closed at both ends
    expected = {"rated": [1 / 6, 3 / 6, 1 / 6, 1 / 6], "not rated": [0.5, 0, 0, 0.5]}
    for group, values in expected.items():
        np.testing.assert_allclose(
            chart.data.loc[chart.data["group"] == group, "density"], values, rtol=1e-3
        )


def test_density_counts_what_lies_beyond_the_domain():
    chart = charts.score_histograms(
        {"all": [0.0, 0, 10, 10]}, title="T", x_title="s", bins=2, domain=(-1, 1)
    )
    assert chart.data["density"].tolist() == [0, 0.5]


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="'a' of 'm' should be finite.*Received: 2 scores, 1 of"):
        charts.score_histograms({"m": {"a": [1, np.nan]}}, title="T", x_title="s")


def test_norms_match_movies_by_id_and_show_those_without_ratings():
    chart = charts.norms(two_models(), title="T", subtitle="look")
    np.testing.assert_allclose(chart.data["norm_1"], 2 * chart.data["norm_0"], atol=0.0011)
    assert chart.data["drawn_at"].tolist()[:3] == [0.5, 0.5, 1]
    assert "movies without ratings stand at 0" in chart.title.subtitle
    rated = two_models().query("num_ratings > 0")
    assert "drawn_at" not in charts.norms(rated, title="T").data


def test_one_brush_serves_every_panel_of_norms():
    spec = charts.norms(two_models(), title="T").to_dict()
    (brush,) = spec["params"]
    assert brush["select"] == {"type": "interval", "resolve": "global"}
    assert brush["views"] == [panel["name"] for panel in spec["hconcat"]]


def test_panels_should_have_the_same_movies():
    frame = two_models().iloc[:-1]
    with pytest.raises(ValueError, match="Every model should have each movie once. Received: 29"):
        charts.norms(frame, title="T")


def colours_of(chart, layer):
    scene = vl_convert.vegalite_to_scenegraph(chart.to_dict(), vl_version="5.8")

    def groups(node):
        if isinstance(node, dict):
            if node.get("marktype") == "symbol" and node.get("role") == "mark":
                yield [item.get("fill") for item in node["items"]]
            for value in node.values():
                yield from groups(value)
        elif isinstance(node, list):
            for value in node:
                yield from groups(value)

    return list(groups(scene))[layer]


def test_a_movie_has_the_colour_of_the_first_chosen_genre_that_it_has(enabled):
    # 10 movies each of [War], [War, Drama] and another genre, whose name is no pattern
    frame = movies_on_a_map()
    one = charts.embedding_map(frame, title="T", trust="", highlight=["Drama", "War"])
    assert colours_of(one, 0) == [charts.MUTED] * 30
    assert colours_of(one, 1).count(charts.PALETTE[0]) == 10
    assert colours_of(one, 1).count(charts.PALETTE[1]) == 10
    none = charts.embedding_map(frame, title="T", trust="trust 0.9")
    assert colours_of(none, 0) == [charts.ACCENT] * 30
    assert "trust 0.9" in none.title.subtitle
    odd = charts.embedding_map(frame, title="T", trust="", highlight=["(none; listed)"])
    assert colours_of(odd, 1) == [charts.PALETTE[0]] * 10


def test_the_map_takes_genres_as_text_too():
    frame = movies_on_a_map()
    text = frame.assign(genres=frame["genres"].str.join(", "))
    charts_of = [charts.embedding_map(f, title="T", trust="") for f in (frame, text)]
    assert charts_of[0].to_json() == charts_of[1].to_json()


def test_the_map_refuses_a_genre_that_no_movie_has():
    with pytest.raises(ValueError, match=r"Received: \['Horror'\]. They have: \(none; listed\)"):
        charts.embedding_map(movies_on_a_map(), title="T", trust="", highlight=["Horror"])


def test_tower_shows_every_layer_with_its_shape():
    class Tall:
        num_items, embedding_dim, tied = 1682, 64, True
        input_dims, hidden_dims = {"item": 64, "genres": 8}, (32, 16)

    class Plain(Tall):
        input_dims, hidden_dims = {"item": 64}, ()

    def boxes(model):
        chart = charts.tower(model, title="The tower").to_dict()
        rows = [row for rows in chart["datasets"].values() for row in rows if "label" in row]
        return {(row["label"], row["shape"]) for row in rows}

    ends = {
        ("history x", "[n, 1,682]"),
        ("mean of V's rows", "[n, 64]"),
        ("scores: dot products with V", "[n, 1,682]"),
        ("softmax: p(x)", "[n, 1,682]"),
    }
    assert boxes(Plain) == ends
    assert boxes(Tall) == ends | {
        ("mean of genres", "[n, 8]"),
        ("concatenated", "[n, 72]"),
        ("hidden layer, relu", "[n, 32]"),
        ("hidden layer, relu", "[n, 16]"),
        ("psi(x), by a projection", "[n, 64]"),
    }


def test_norm_lab_joins_lists_and_movies():
    movies = pd.DataFrame(
        {"movie_id": [0, 1], "title": ["A", "B"], "num_ratings": [9, 0], "norm": [2.0, 0.5]}
    )
    lists = pd.DataFrame({"alpha": [0.0, 0.5, 1.0], "rank": 1, "movie_id": [0, 0, 1]})
    curves = pd.DataFrame({"alpha": [0.0, 0.5, 1.0], "coverage": [0.1, 0.2, 0.3]})
    chart = charts.norm_lab(movies, lists, curves, title="Lab").to_dict()
    (slider,) = [p for p in chart["params"] if p["name"] == "alpha"]
    assert slider["value"] == 0
    assert (slider["bind"]["min"], slider["bind"]["max"], slider["bind"]["step"]) == (0, 1, 0.5)
    rows = [row for rows in chart["datasets"].values() for row in rows if "line" in row]
    assert [(row["alpha"], row["line"]) for row in rows] == [
        (0.0, "A (9)"),
        (0.5, "A (9)"),
        (1.0, "B (0)"),
    ]

import base64
import re

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert

from cfutils import charts

VEGALITE = "application/vnd.vegalite.v5+json"
ODD = {"user_id": "user.id[0]", "job": "job [kind.of]"}  # Vega would read paths into these names


def stats(rows=60):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user_id": range(rows), "job": rng.choice(["a", "b"], rows)})
    frame["num_ratings"] = rng.integers(1, 300, rows)
    frame["mean_rating"] = rng.uniform(1, 5, rows).round(2)
    return frame.assign(secret="not for the chart").rename(columns=ODD)


def items(rows=30):
    """Ten items each of [War], [War, Drama] and a third genre, whose name is no pattern."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(rows, 2)).astype("f4"), columns=["x", "y"])
    return frame.assign(
        item_id=[f"i{number}" for number in range(rows)],
        title=["Twice"] * 2 + [f"Item {i}" for i in range(2, rows)],
        genres=[["War"], ["War", "Drama"], ["(none; listed)"]] * (rows // 3),
        num_ratings=[0, 0, *range(1, rows - 1)],
        norm=rng.uniform(1, 2, rows).astype("f4"),
        secret="not for the chart",
    )


def two_models():
    frame = items()
    # in another order of rows: items are matched by id
    return pd.concat([frame.assign(model="a"), frame.assign(model="b", norm=frame.norm * 2)[::-1]])


def sliced(frame, **options):
    return charts.sliced_histograms(frame, *ODD.values(), title="T", unit="users", **options)


def mapped(frame, **options):
    return charts.embedding_map(frame, title="T", trust="trust 0.9", **options)


CHARTS = {
    "sliced histograms": lambda: sliced(stats()),
    "norms": lambda: charts.norms(two_models(), title="T"),
    "map": lambda: mapped(items(), highlight=["War"]),
    "map without genres": lambda: mapped(items().drop(columns="genres")),
}


@pytest.fixture
def enabled():
    before = alt.renderers.active, alt.theme.active
    charts.enable()
    yield
    alt.renderers.enable(before[0])
    alt.theme.enable(before[1])


def scene_of(chart):
    spec = chart if isinstance(chart, dict) else chart.to_dict()
    return vl_convert.vegalite_to_scenegraph(spec, vl_version="5.8")


def marks(node, kind, role="mark"):
    """The marks of a kind in a Vega scene, each a list of items."""
    if isinstance(node, dict):
        if node.get("marktype") == kind and node.get("role") == role:
            yield node["items"]
        node = list(node.values())
    for value in node if isinstance(node, list) else ():
        yield from marks(value, kind, role)


def bars_of(chart):
    """What the bars of a chart stand for, in words."""
    return [bar.get("description", "") for bars in marks(scene_of(chart), "rect") for bar in bars]


@pytest.mark.parametrize("name", CHARTS)
def test_notebooks_get_vegalite_5_a_picture_and_text_but_no_html(enabled, name):
    bundle, metadata = CHARTS[name]()._repr_mimebundle_(None, None)
    assert set(bundle) == {VEGALITE, "image/png", "text/plain"}
    spec, picture = bundle[VEGALITE], bundle["image/png"]
    assert spec["$schema"] == "https://vega.github.io/schema/vega-lite/v5.json"
    picture = picture if isinstance(picture, bytes) else base64.b64decode(picture)
    assert picture.startswith(b"\x89PNG")
    assert bundle["text/plain"] == "Chart: T"
    assert metadata[VEGALITE]["embed_options"]["renderer"] == "svg"
    kind = "rect" if name == "sliced histograms" else "symbol"
    assert sum(map(len, marks(scene_of(spec), kind))) >= 10
    data = str([spec.get("data"), list(spec["datasets"].values())])  # what it uses, in few digits
    assert "not for the chart" not in data
    assert all(len(digits.lstrip("0")) <= 4 for digits in re.findall(r"\d\.(\d+)", data))


def test_plain_charts_have_the_theme_and_text_too(enabled):
    base = alt.Chart(pd.DataFrame({"x": [1, 2]}), title=alt.Title(["One", "line"], subtitle="s"))
    layered = base.mark_bar().encode(x="x") + base.mark_rule().encode(x="x")
    both = layered | base.properties(title="Two").mark_bar().encode(x="x")
    bundle, _ = both._repr_mimebundle_(None, None)
    assert bundle["text/plain"] == "Chart: One line; Two"
    bars = [bar for bars in marks(scene_of(bundle[VEGALITE]), "rect") for bar in bars]
    assert {bar["fill"] for bar in bars} == {charts.ACCENT}


def test_what_has_no_ratings_has_a_place_on_the_logarithmic_axis():
    frame = pd.DataFrame({"num_ratings": [0, 1, 2, 4]})
    (points,) = marks(scene_of(charts.log_counts(alt.Chart(frame).mark_point())), "symbol")
    x = [point["x"] for point in points]
    np.testing.assert_allclose(np.diff(x), x[1] - x[0])  # drawn at 1/2, 1, 2, 4


@pytest.mark.parametrize(("scale", "options"), [(1, {}), (20, {"steps": (50, 5)})])
def test_histograms_are_those_of_numpy(scale, options):
    frame = stats().assign(mean_rating=lambda f: f["mean_rating"] * scale)
    step, rating_step = options.get("steps", (25, 0.25))
    drawn = bars_of(sliced(frame, rating_unit="points", **options))
    pattern = r"from: ([\d.]+); to: ([\d.]+); users: (\d+); share: ([\d.]+)%"
    for field, label, edges in (
        ("num_ratings", "number of ratings", np.arange(0, 300 + step, step)),
        ("mean_rating", "mean rating (points)", np.arange(1, 5.01, rating_step / scale) * scale),
    ):
        bars = [re.search(pattern, text).groups() for text in drawn if text.startswith(label)]
        counts, _ = np.histogram(frame[field], bins=edges)
        shares = (100 * counts / len(frame)).round(1)
        expected = np.stack([edges[:-1], edges[1:], counts, shares], axis=1)[counts > 0]
        # each bar twice: all users in grey, and the selection, at first all users, in blue
        expected = expected.repeat(2, axis=0)
        np.testing.assert_allclose(sorted(tuple(map(float, bar)) for bar in bars), expected)


def test_a_key_in_two_categories_counts_once():
    twice = pd.DataFrame(
        {"id": [0, 0, 1], "genre": ["a", "b", "a"], "num_ratings": [10, 10, 40], "mean_rating": 3.0}
    )
    drawn = " ".join(bars_of(charts.sliced_histograms(twice, "id", "genre", title="T", unit="i")))
    assert "50.0%" in drawn  # one of two items in each bin, though one of them has two genres
    assert "66.7%" not in drawn


def test_norms_match_items_by_id_and_are_drawn_on_one_scale():
    chart = charts.norms(two_models(), title="T", subtitle="look")
    np.testing.assert_allclose(chart.data["norm_1"], 2 * chart.data["norm_0"], atol=0.0011)
    assert chart.title.subtitle[0] == "look"
    assert "items without ratings stand at 0" in chart.title.subtitle
    left, right = marks(scene_of(chart), "symbol")
    heights = [240 - np.array([point["y"] for point in points]) for points in (left, right)]
    np.testing.assert_allclose(heights[1], 2 * heights[0], atol=0.2)
    spec = chart.to_dict()  # one brush serves both
    (brush,) = spec["params"]
    assert brush["select"] == {"type": "interval", "resolve": "global"}
    assert brush["views"] == [panel["name"] for panel in spec["hconcat"]]
    rated = charts.norms(items().query("num_ratings > 0"), title="T")  # of one model
    assert len(rated.hconcat) == 1
    assert "items without ratings stand at 0" not in rated.title.subtitle


def test_panels_should_have_the_same_items_once():
    with pytest.raises(ValueError, match="Every model should have each item once. Received: 29"):
        charts.norms(two_models().iloc[:-1], title="T")
    with pytest.raises(ValueError, match="Received: 31 rows with 30 items"):
        charts.norms(pd.concat([items(), items().head(1)]), title="T")


def fills(chart, layer):
    return [item.get("fill") for item in list(marks(scene_of(chart), "symbol"))[layer]]


def test_an_item_has_the_colour_of_the_first_chosen_genre_that_it_has(enabled):
    chart = mapped(items(), highlight=["Drama", "War"])
    assert fills(chart, 0) == [charts.MUTED] * 30
    assert sorted(fills(chart, 1)) == sorted([*charts.PALETTE[:2]] * 10)
    none = mapped(items(), subtitle="look")
    assert fills(none, 0) == [charts.ACCENT] * 30
    assert (none.title.subtitle[0], none.title.subtitle[-1]) == ("look", "trust 0.9")
    odd = mapped(items(), highlight=["(none; listed)"])
    assert fills(odd, 1) == [charts.PALETTE[0]] * 10
    names = [f"genre {number}" for number in range(150)]  # many, and the seventh chosen is black
    chart = mapped(pd.concat([items()] * 5).assign(genres=names), highlight=names[90:97])
    assert fills(chart, 1) == [*charts.PALETTE, "black"]


def test_genres_may_be_text_but_have_to_be_those_of_an_item():
    text = items().assign(genres=items()["genres"].str.join(", "))
    assert mapped(text).to_json() == mapped(items()).to_json()
    with pytest.raises(ValueError, match=r"Received: \['Horror'\]. They have: \(none; listed\), D"):
        mapped(items(), highlight=["Horror"])


def titles_of(chart, search=""):
    """Titles on a map, from top to bottom, and their heights in pixels."""
    spec = chart.to_dict()
    next(param for param in spec["params"] if param["name"] == "search")["value"] = search
    *_, halo, texts = marks(scene_of(spec), "text")
    assert [text["text"] for text in halo] == [text["text"] for text in texts]
    texts = sorted(texts, key=lambda text: text["y"])
    return [text["text"] for text in texts], np.array([text["y"] for text in texts])


def test_the_most_rated_of_the_chosen_genres_have_titles_without_a_search():
    # The last three of each genre, in turn; all but [War] and [War, Drama] if none is chosen.
    assert set(titles_of(mapped(items()))[0]) == {f"Item {i}" for i in range(22, 30)}
    some, _ = titles_of(mapped(items(), highlight=["Drama", "(none; listed)"]))
    assert set(some) == {f"Item {i}" for i in (19, 20, 22, 23, 25, 26, 28, 29)}


@pytest.mark.parametrize(("spread", "shift"), [(1, 100), (1e-3, 0), (0, 0)])
def test_titles_lie_apart_and_within_the_map(spread, shift):
    frame = items().assign(y=lambda f: f["y"] + shift)
    frame.loc[5:, "y"] *= spread  # the others are close to each other
    found, heights = titles_of(mapped(frame), search="ITEM 1")
    assert set(found) == {f"Item {i}" for i in range(10, 20)}
    assert (np.diff(heights) >= 14.99).all()
    assert heights.min() >= -0.01
    assert heights.max() <= 420.01
    assert titles_of(mapped(frame), search="Item.")[0] == []  # text, and no pattern
    assert len(titles_of(mapped(frame), search="item")[0]) == 12


# More points, other names, other texts ------------------------------------------------------------


def large():
    frame = items(6000)
    return pd.concat([frame.assign(model="a"), frame.assign(model="b", norm=frame.norm * 2)])


LARGE = {
    "sliced histograms": (lambda: sliced(stats(6000)), "5,000 of 6,000 users, drawn at random"),
    "norms": (
        lambda: charts.norms(large(), title="T"),
        "5,000 of 6,000 items, the 2,500 most rated and others at random",
    ),
    "map": (
        lambda: mapped(items(6000)),
        "5,000 of 6,000 items, the 2,500 most rated and others at random",
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_of_many_points_some_are_drawn_and_the_chart_says_so(enabled, name):
    make, line = LARGE[name]
    bundle, _ = make()._repr_mimebundle_(None, None)
    spec = bundle[VEGALITE]
    assert line in spec["title"]["subtitle"]
    (rows,) = (rows for rows in spec["datasets"].values() if len(rows) > 100)
    assert len(rows) == 5000
    if name != "sliced histograms":  # the most rated are all there
        assert {row["num_ratings"] for row in rows} >= set(range(3500, 5999))
    assert make().to_dict()["datasets"] == make().to_dict()["datasets"]  # the same each time


def test_a_chart_of_ones_own_with_too_many_rows_says_what_to_do(enabled):
    chart = alt.Chart(pd.DataFrame({"x": range(5001)})).mark_point().encode(x="x")
    with pytest.raises(alt.MaxRowsError, match=r"Received: 5001. .* frame.sample\(5000, random_st"):
        chart.to_dict()
    with alt.data_transformers.enable("default", max_rows=6000):  # whoever wants more has it
        assert len(next(iter(chart.to_dict()["datasets"].values()))) == 5001


@pytest.mark.parametrize("name", ["avg.score", "a[0]", "it's", 'say "x"', "plain"])
def test_columns_of_any_name_are_drawn(enabled, name):
    frame = pd.DataFrame({name: [1.0, 2, 4], "y": [1, 2, 3]})
    chart = alt.Chart(frame).mark_point().encode(x=alt.X(field=name, type="quantitative"), y="y")
    spec = chart._repr_mimebundle_(None, None)[0][VEGALITE]
    (points,) = marks(scene_of(spec), "symbol")
    x = [point["x"] for point in points]
    assert len(x) == 3
    assert x[2] - x[0] == pytest.approx(3 * (x[1] - x[0]))
    title = name.replace('"', "\u201d")  # Vega takes a quote in the title of an axis for code
    texts = [
        text.get("text") for group in marks(scene_of(spec), "text", "axis-title") for text in group
    ]
    assert title in texts


def test_rows_that_speak_of_columns_stay_as_they_are(enabled):
    rows = pd.DataFrame({"a.b": [1, 2], "field": ["a.b", "c"], "type": ["x", "y"]})
    chart = alt.Chart(rows).mark_bar().encode(x="mean(a.b):Q", y="field:N")
    spec = chart._repr_mimebundle_(None, None)[0][VEGALITE]
    assert [*spec["datasets"].values()] == [rows.to_dict("records")]
    assert spec["encoding"]["x"]["title"] == "mean of a.b"


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\x00b", "<script>x</script>", "\ufffe"])
def test_no_text_breaks_a_picture(enabled, text):
    frame = pd.DataFrame({"title": [text, "b"], "y": [1, 2]})
    chart = alt.Chart(frame, title=f"T {text}").mark_text().encode(text="title", y="y", x="y")
    bundle, _ = chart._repr_mimebundle_(None, None)
    drawn = [
        item.get("text") for items in marks(scene_of(bundle[VEGALITE]), "text") for item in items
    ]
    assert "b" in drawn
    shown = re.sub("[\x00-\x1f\ufffe]", "\ufffd", text)
    assert shown in drawn


def test_a_genre_may_have_a_comma_in_its_name(enabled):
    frame = items().assign(genres=[["Comics, graphic"], ["War"], []] * 10)
    assert fills(mapped(frame, highlight=["Comics, graphic"]), 1) == [charts.PALETTE[0]] * 10


def test_items_without_genres_for_some_are_drawn():
    frame = items().assign(genres=[["War"], None, []] * 10)
    assert len(next(marks(scene_of(mapped(frame)), "symbol"))) == 30

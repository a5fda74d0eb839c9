"""Charts: a tidy frame in, an Altair chart out; and the way notebooks show them.

Here stand the charts that react to each other by click, brush and search. Whatever a few lines of
Altair can draw, draw with Altair: after `enable()` it has the theme of the series. A chart takes
small frames, aggregated before: its data become part of the notebook. The `title` of each says what
is seen, in words, and `subtitle`, in smaller letters, what to look at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow and black.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
ACCENT, MUTED = PALETTE[0], "#c9c9c9"

# JupyterLab 4 draws Vega-Lite 5; the nearest version here draws the picture.
_VL_VERSION = "5.8"
_MIME = "application/vnd.vegalite.v5+json"
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_MOST = 5000  # rows of a chart: what Altair takes, and a notebook carries
# What no XML holds (vl-convert ends the process on some), what Vega reads as a path in the name of
# a column, and what it reads as code in the title of an axis.
_UNDRAWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_PATH, _CODE = re.compile(r"[][.\\'\"]"), {ord('"'): "\u201d", ord("\\"): "\u2216", ord("\n"): " "}


def enable() -> None:
    """Shows charts as interactive Vega-Lite 5 with a PNG beside it, in the theme of the series.

    Call it once in the setup cell of a notebook. No chart needs a network.
    """
    alt.renderers.register("cfutils", _mime_bundle)
    alt.renderers.enable("cfutils")
    alt.theme.register("cfutils", enable=True)(_theme)
    alt.data_transformers.register("default", _few_rows)
    if alt.data_transformers.active == "default":  # with the options that are set
        alt.data_transformers.enable("default", **alt.data_transformers.options)


def _few_rows(data: Any, **options: Any) -> Any:
    """Altair's own way with data, but with advice that does not blank the charts of a notebook."""
    try:
        return alt.default_data_transformer(data, **options)
    except alt.MaxRowsError:
        rows = len(data["values"] if isinstance(data, dict) else data)
        most = options.get("max_rows", _MOST)
        raise alt.MaxRowsError(
            f"A chart should have {most} rows at most: they become part of the notebook. Received: "
            f"{rows}. Aggregate or sample before drawing: frame.sample({most}, random_state=0)."
        ) from None


def _mime_bundle(spec: dict[str, Any], **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    names = {name for rows in spec.get("datasets", {}).values() for row in rows[:1] for name in row}
    spec = _drawable({**spec, "$schema": _SCHEMA}, {name for name in names if _PATH.search(name)})
    bundle = {
        _MIME: spec,
        "image/png": vl_convert.vegalite_to_png(spec, vl_version=_VL_VERSION, scale=1),
        "text/plain": f"Chart: {'; '.join(dict.fromkeys(_titles(spec))) or 'a chart'}",
    }
    return bundle, {_MIME: {"embed_options": {"renderer": "svg", "actions": False}}}


def _drawable(part: Any, odd: set[str]) -> Any:
    """A part of a chart without what can't be drawn, its odd column names escaped for Vega."""
    if isinstance(part, list):
        return [_drawable(each, odd) for each in part]
    if not isinstance(part, dict):
        return _UNDRAWN.sub("\ufffd", part) if isinstance(part, str) else part
    rows = ("datasets", "values")
    made = {key: _drawable(each, set() if key in rows else odd) for key, each in part.items()}
    if isinstance(name := part.get("field"), str) and name in odd:
        made["field"] = _PATH.sub(r"\\\g<0>", name)
        how = part.get("aggregate", "")
        if "type" in part and isinstance(how, str):  # x, color, a tooltip: what has a title
            made.setdefault("title", f"{how} of {name}" if how else name)
    if "type" in part and isinstance(title := made.get("title"), str):
        made["title"] = title.translate(_CODE)
    return made


def _titles(spec: dict[str, Any]) -> Iterator[str]:
    """The title of a chart, or those of the charts that it puts together."""
    if "title" in spec:
        title = spec["title"]["text"] if isinstance(spec["title"], dict) else spec["title"]
        yield title if isinstance(title, str) else " ".join(title)
        return
    for kind in ("hconcat", "vconcat", "concat", "layer"):
        for part in spec.get(kind, ()):
            yield from _titles(part)


def _theme() -> alt.theme.ThemeConfig:
    labels: Any = {"labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal"}
    lines: Any = {"gridColor": "#ececec", "domainColor": "#888", "tickColor": "#888"}
    sizes: Any = {"continuousWidth": 420, "continuousHeight": 240, "discreteWidth": 420}
    return {
        "background": "white",
        "config": {
            "view": {**sizes, "stroke": None},
            "title": {"fontSize": 15, "anchor": "start", "subtitleFontSize": 12, "offset": 12},
            "axis": {**labels, **lines, "labelLimit": 260},
            "legend": {**labels, "symbolLimit": 30},
            "header": {**labels},
            "range": {"category": list(PALETTE), "heatmap": ["#f7f7f7", "#08306b"]},
            "bar": {"color": ACCENT},
            "point": {"color": ACCENT, "filled": True},
            "line": {"color": ACCENT, "strokeWidth": 2},
        },
    }


def log_counts(chart: alt.Chart, *, title: str = "number of ratings (log)") -> alt.Chart:
    """Puts `num_ratings` of a chart's data on a logarithmic x axis of this title.

    What has none is drawn at 0.5, and the mark of the axis there says 0.
    """
    axis = alt.Axis(
        values=(0.5, 1, 3, 10, 30, 100, 300, 1000, 10_000, 100_000),
        labelExpr="datum.value < 1 ? '0' : datum.label",
    )
    scale = alt.Scale(type="log", padding=8, nice=False)
    drawn = chart.transform_calculate(drawn_at="max(datum.num_ratings, 0.5)")
    return drawn.encode(x=alt.X("drawn_at:Q", title=title, scale=scale, axis=axis))


def _drawn(
    data: pd.DataFrame, keys: pd.Series | pd.Index, unit: str, *, most_rated: bool = False
) -> tuple[pd.DataFrame, str]:
    """At most 5,000 rows, all of a key or none, and a line that says which."""
    if len(data) <= _MOST:
        return data, ""
    sizes, how = keys.value_counts().sample(frac=1, random_state=0), "drawn"
    if most_rated:
        first = data["num_ratings"].nlargest(_MOST // 2).index
        sizes = pd.concat([sizes[first], sizes.drop(first)])
        how = f"the {len(first):,} most rated and others"
    shown = sizes.index[sizes.cumsum() <= _MOST]
    return data[keys.isin(shown)], f"{len(shown):,} of {len(sizes):,} {unit}, {how} at random"


def _titled(title: str, *lines: str) -> alt.Title:
    return alt.Title(title, subtitle=[line for line in lines if line])


def sliced_histograms(
    stats: pd.DataFrame,
    key: str,
    category: str,
    *,
    title: str,
    unit: str,
    steps: tuple[float, float] = (25, 0.25),
    rating_unit: str = "stars",
) -> alt.HConcatChart:
    """Histograms of counts and means, sliced by clicking categories.

    A click on a bar at the left selects its category, SHIFT-click adds another, a double click
    clears. Each histogram shows the share of the selected rows per bin, in front of that of all
    rows in grey: percentages of their own group, so small groups compare with large.

    Args:
        stats: one row per (key, category): `num_ratings` and `mean_rating` of the key, repeated
            for each of its categories. A key with several categories counts once in any selection.
        key: the column that identifies a user or an item.
        category: the column to slice by.
        unit: what a row is, in the plural, for the axes ("users").
        steps: width of a bin of `num_ratings`, and of one of `mean_rating`.
        rating_unit: the unit of `mean_rating`, for its axis.
    """
    data = stats[[key, category, "num_ratings", "mean_rating"]].dropna()
    # Vega would read a dot or a bracket in a name as a path: the chart has names of its own.
    data = data.set_axis(["key", "slice", "num_ratings", "mean_rating"], axis=1)
    data, drawn = _drawn(data, data["key"], unit)
    data = data.assign(mean_rating=data["mean_rating"].astype(float).round(3))
    clicked = alt.selection_point("clicked", fields=["slice"], toggle="event.shiftKey")
    categories = alt.Chart(title=_small(f"Click: {category}")).mark_bar(cursor="pointer")
    categories = categories.add_params(clicked).encode(
        x=alt.X("count():Q", title=unit),
        y=alt.Y("slice:N", sort="-x", title=None),
        color=alt.condition(clicked, alt.value(ACCENT), alt.value(MUTED)),
        tooltip=[alt.Tooltip("slice:N", title=category), alt.Tooltip("count():Q", title=unit)],
    )
    charts = [categories.properties(width=130, height=15 * data["slice"].nunique())]
    titles = ("number of ratings", f"mean rating ({rating_unit})")
    tips = [alt.Tooltip("bin:Q", title="from"), alt.Tooltip("bin_end:Q", title="to")]
    tips += [alt.Tooltip("rows:Q", title=unit), alt.Tooltip("share:Q", title="share", format=".1%")]
    for field, step, x_title in zip(("num_ratings", "mean_rating"), steps, titles, strict=True):
        # The last bin is closed at both ends, so that five stars do not open one beyond.
        last = float(np.ceil(data[field].max() / step) * step) - step
        bins = f"min(floor(datum.{field} / {step}) * {step}, {last})"
        everyone = _shares(alt.Chart().mark_bar(color=MUTED, opacity=0.75), field, bins, step)
        selected = alt.Chart().mark_bar(color=ACCENT, opacity=0.75).transform_filter(clicked)
        both = alt.layer(everyone, _shares(selected, field, bins, step)).encode(
            x=alt.X("bin:Q", title=x_title, bin="binned"),
            y=alt.Y("share:Q", title=f"share of the {unit}", axis=alt.Axis(format="%")),
            tooltip=tips,
        )
        charts.append(both.properties(width=290, height=250))
    colors = f"blue: the selection (at first all {unit}); grey: all {unit}"
    return alt.hconcat(*charts, data=data, title=_titled(title, colors, drawn))


def _shares(chart: alt.Chart, field: str, bins: str, step: float) -> alt.Chart:
    """Counts the keys in each bin of a field, and their share of all keys, where Vega draws."""
    smallest: Any = {field: f"min({field})"}  # the same in all rows of a key
    return (
        chart.transform_aggregate(groupby=["key"], **smallest)
        .transform_calculate(bin=bins)
        .transform_aggregate(rows="count()", groupby=["bin"])
        .transform_joinaggregate(total="sum(rows)")
        .transform_calculate(share="datum.rows / datum.total", bin_end=f"datum.bin + {step}")
        .encode(x2="bin_end:Q")
    )


def norms(
    frame: pd.DataFrame, *, title: str, panel: str = "model", subtitle: str = ""
) -> alt.HConcatChart:
    """Norm of each item's embedding against its number of ratings, one panel per model.

    One brush for all panels: drag a rectangle in any of them and the same items stay coloured in
    every panel while the others fade; a double click lets go.

    Args:
        frame: one row per item and model: `item_id`, `title`, `num_ratings`, `norm` and `panel`.
        panel: the column that names the model. A frame without that column is drawn in one panel.

    Raises: ValueError if an item occurs twice in a panel, or is missing in one.
    """
    names, data = _side_by_side(frame, panel)
    data, drawn = _drawn(data, data.index, "items", most_rated=True)
    drag = "drag over items in one panel: the same items stay blue in all; double click: clear"
    unrated = "items without ratings stand at 0" if (data["num_ratings"] == 0).any() else ""
    views = [f"norms_{number}" for number in range(len(names))]
    select = alt.IntervalSelectionConfig(type="interval", resolve="global")
    brush = alt.TopLevelSelectionParameter(name="brush", select=select, views=views)
    # An item's tooltip says its norm in every model, whichever panel it is hovered in.
    tooltip: list = ["title:N", alt.Tooltip("num_ratings:Q", title="ratings")]
    for number, name in enumerate(names):
        tooltip.append(alt.Tooltip(f"norm_{number}:Q", title=f"norm, {name}" if name else "norm"))
    panels = []
    for number, name in enumerate(names):
        points = log_counts(alt.Chart(name=views[number], title=_small(name)).mark_point(size=20))
        points = points.encode(
            y=alt.Y(f"norm_{number}:Q", title=None if number else "norm of the item's embedding"),
            color={"condition": {"param": "brush", "value": ACCENT}, "value": MUTED},
            opacity={"condition": {"param": "brush", "value": 0.5}, "value": 0.25},
            tooltip=tooltip,
        )
        panels.append(points.properties(width=260 if len(names) > 1 else 420, height=240))
    title_ = _titled(title, subtitle, drag, unrated, drawn)
    return alt.hconcat(*panels, data=data, params=[brush], title=title_).resolve_scale(y="shared")


def _side_by_side(frame: pd.DataFrame, panel: str) -> tuple[list[str], pd.DataFrame]:
    """One row per item: title, num_ratings, and its norm in each panel as norm_0, norm_1, ..."""
    parts = dict(iter(frame.groupby(panel, sort=False))) if panel in frame else {"": frame}
    data = next(iter(parts.values()))[["item_id", "title", "num_ratings"]].reset_index(drop=True)
    for number, (name, part) in enumerate(parts.items()):
        values = part.set_index("item_id")["norm"]
        if values.index.has_duplicates or set(values.index) != set(data["item_id"]):
            raise ValueError(
                f"Every {panel} should have each item once. Received: {len(values)} rows with "
                f"{values.index.nunique()} items in {name!r}, {len(data)} rows in the first."
            )
        data[f"norm_{number}"] = _short(values.loc[data["item_id"]])
    return [str(name) for name in parts], data.drop(columns="item_id")


def _short(values: pd.Series) -> list[float]:
    """Four digits of each: what lies behind them is not seen, and fills notebooks."""
    return [float(f"{value:.4g}") for value in values]


def _small(title: str) -> alt.Title:
    return alt.Title(title, fontSize=13, offset=6)


# The codes of the genres that are chosen, in the order of the clicks.
_CHOSEN = "(isArray(clicked.code) ? clicked.code : [])"


def embedding_map(
    frame: pd.DataFrame,
    *,
    title: str,
    trust: str,
    highlight: Sequence[str] = (),
    subtitle: str = "",
) -> alt.HConcatChart:
    """A map of items in two dimensions, with their genres by click and a search by title.

    A click on a genre in the list colours every item that has it and fades the rest; SHIFT-click
    adds a genre, a double click on the list clears. An item has the colour of the first of its
    genres that was chosen, black from the seventh on. Eight of the most rated coloured items have
    their titles, from the chosen genres in turn. The search box below takes plain text, upper or
    lower case: matching items get a ring, 12 of them their title.

    Args:
        frame: one row per item with the columns `x` and `y` (the map's coordinates), `title`,
            `num_ratings` and, if there are any, `genres` (a list, or text joined by ", ").
        trust: how far distances on the map can be trusted, in words and figures.
        highlight: the genres chosen at first, also in the static picture.

    Raises: ValueError if a genre of `highlight` is no item's.
    """
    frame = frame.reset_index(drop=True)
    frame, drawn = _drawn(frame, frame.index, "items", most_rated=True)
    data = frame[["title", "num_ratings"]].assign(x=_short(frame["x"]), y=_short(frame["y"]))
    listed = frame.get("genres", pd.Series("", frame.index)).fillna("")
    lists = [each.split(", ") if isinstance(each, str) else list(each) for each in listed]
    data["genres"] = [", ".join(each) for each in lists]
    genres, data["codes"] = _genre_codes(lists)
    missing = [genre for genre in highlight if genre not in set(genres["genre"])]
    if missing:
        raise ValueError(
            f"highlight should hold genres of the items. Received: {missing}. They have: "
            f"{', '.join(sorted(genres['genre']))}."
        )
    box: Any = {"input": "search", "name": "Find a title: ", "placeholder": "e.g. star wars"}
    params = [alt.param(name="search", value="", bind=alt.binding(**box, debounce=150))]
    parts, chosen = [_map(data)], ["ring: the title holds the text of the search box"]
    if len(genres):
        parts.insert(0, _genre_list(genres, highlight))
        colour = "colour: the first of the genres clicked at the left that the item has "
        chosen = [f"{colour}(SHIFT-click adds)", f"grey: items with none of them; {chosen[0]}"]
    else:  # nothing to click, nothing chosen
        params.append(alt.param(name="clicked", value={}))
    title_ = _titled(title, subtitle, *chosen, drawn, trust)
    return alt.hconcat(*parts, title=title_).add_params(*params)


def _genre_codes(lists: list[list[str]]) -> tuple[pd.DataFrame, list[str]]:
    """The genres, most frequent first (genre, items, code), and each item's codes as one text."""
    counts = pd.Series([genre for each in lists for genre in each if genre]).value_counts()
    # A letter per genre: membership is one comparison of text, whatever the genres are called.
    letters = {genre: chr(0x100 + number) for number, genre in enumerate(counts.index)}
    frame = pd.DataFrame({"genre": letters.keys(), "items": [*counts], "code": letters.values()})
    return frame, ["".join(letters[name] for name in each if name) for each in lists]


def _by_place(code: str) -> list[dict[str, str]]:
    """Conditions on the place of a code among the chosen genres, each with its colour."""
    test = f"indexof({_CHOSEN}, {code})"
    return [{"test": f"{test} == {place}", "value": c} for place, c in enumerate(PALETTE)]


def _genre_list(genres: pd.DataFrame, highlight: Sequence[str]) -> alt.LayerChart | alt.FacetChart:
    """The list of genres with their numbers of items, which takes the clicks."""
    codes = genres.set_index("genre")["code"]
    at_first: Any = {"value": [{"code": codes[genre]} for genre in highlight]} if highlight else {}
    clicked = alt.selection_point("clicked", fields=["code"], toggle="event.shiftKey", **at_first)
    rows = alt.Chart(genres).encode(
        y=alt.Y("genre:N", title=None, sort=list(genres["genre"])), tooltip=["genre:N", "items:Q"]
    )
    chosen = {"test": f"indexof({_CHOSEN}, datum.code) >= 0", "value": "black"}
    color = {"condition": [*_by_place("datum.code"), chosen], "value": MUTED}
    amounts = rows.mark_bar().encode(x=alt.X("items:Q", axis=None), color=color)
    numbers = rows.mark_text(align="left", dx=3, fontSize=11).encode(x="items:Q", text="items:Q")
    # What is clicked: the whole row, since the bar of a rare genre is a pixel wide.
    targets = rows.mark_rect(opacity=0, cursor="pointer").add_params(clicked)
    chart = alt.layer(amounts, numbers, targets)
    return chart.properties(width=90, height=16 * len(genres), title=_small("Click: genre"))


_WIDTH, _HEIGHT = 480, 420  # of a map, in pixels


def _map(data: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """All points, those of the chosen genres, and rings and titles of some."""
    across, up = _padded(data["x"]), _padded(data["y"])
    hidden = alt.Axis(labels=False, ticks=False, grid=False, domain=False)
    exact: Any = {"nice": False, "zero": False}
    base = alt.Chart(data).encode(
        x=alt.X("x:Q", title=None, axis=hidden, scale=alt.Scale(domain=across, **exact)),
        y=alt.Y("y:Q", title=None, axis=hidden, scale=alt.Scale(domain=up, **exact)),
        tooltip=[
            *(["title:N", "genres:N"] if data["codes"].any() else ["title:N"]),
            alt.Tooltip("num_ratings:Q", title="ratings"),
        ],
    )
    anything = f"length({_CHOSEN}) > 0"
    everything = base.mark_point(size=22).encode(
        color={"condition": {"test": anything, "value": MUTED}, "value": ACCENT},
        opacity={"condition": {"test": anything, "value": 0.4}, "value": 0.5},
    )
    # The first chosen genre that an item has: of all chosen codes, strike what it lacks.
    first = f"replace(join({_CHOSEN}, ''), regexp('[^' + datum.codes + ']', 'g'), '')[0] || ''"
    base = base.transform_calculate(first=first)
    colored = base.transform_filter("datum.first != ''").mark_point(size=26, opacity=0.85)
    colored = colored.encode(color={"condition": _by_place("datum.first"), "value": "black"})
    found = "search != '' && indexof(lower(datum.title), lower(search)) >= 0"
    rings = base.transform_filter(found).mark_point(size=90, filled=False, opacity=1)
    rings = rings.encode(stroke=alt.value("black"), strokeWidth=alt.value(1.8))
    titled = base.transform_filter(f"search ? {found} : (datum.first != '' || !({anything}))")
    leaders, *titles = _map_titles(titled, across, up)
    chart = alt.layer(everything, colored, leaders, rings, *titles)
    return chart.properties(width=_WIDTH, height=_HEIGHT)


def _map_titles(
    chart: alt.Chart, across: tuple[float, float], up: tuple[float, float]
) -> list[alt.Chart]:
    """Titles of the most rated items of a map: lines to them, their halo, and they."""
    most = alt.SortField("num_ratings", order="descending")
    rank, place = alt.SortField("rank"), alt.SortField("place")
    # Titles are 15 pixels apart at least: between pushed up and pushed down just enough.
    line = 15 * (up[1] - up[0]) / _HEIGHT
    lowest = f"{up[0]} + (datum.place - 1) * {line}"
    highest = f"{up[1]} - (datum.shown - datum.place) * {line}"
    titled = (
        chart.transform_calculate(group="search ? '' : datum.first")
        .transform_window(rank="row_number()", groupby=["group"], sort=[most])
        .transform_window(row="row_number()", sort=[rank, most])
        .transform_filter("datum.row <= (search ? 12 : 8)")
        .transform_joinaggregate(shown="count()")
        .transform_window(place="row_number()", sort=[alt.SortField("y")])
        .transform_calculate(free=f"datum.y - datum.place * {line}")
        .transform_window(up="max(free)", frame=[None, 0], ignorePeers=True, sort=[place])
        .transform_window(down="min(free)", frame=[0, None], ignorePeers=True, sort=[place])
        .transform_calculate(middle=f"(datum.up + datum.down) / 2 + datum.place * {line}")
        .transform_calculate(label=f"clamp(datum.middle, {lowest}, {highest})")
    )
    side = f"datum.x < {sum(across) / 2}"
    style: dict[str, Any] = {"fontSize": 12, "baseline": "middle", "limit": _WIDTH / 2 - 10}
    style |= {"align": alt.expr(f"{side} ? 'left' : 'right'"), "dx": alt.expr(f"{side} ? 9 : -9")}
    text = titled.encode(y="label:Q", text="title:N")
    return [
        titled.mark_rule(color="black", strokeWidth=0.8).encode(y2="label:Q"),
        text.mark_text(stroke="white", strokeWidth=4, opacity=0.9, **style),
        text.mark_text(color="black", **style),
    ]


def _padded(column: pd.Series) -> tuple[float, float]:
    """The ends of an axis, a little beyond the values."""
    lowest, highest = float(column.min()), float(column.max())
    pad = 0.03 * (highest - lowest) or 1.0
    return lowest - pad, highest + pad

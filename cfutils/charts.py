"""Charts: a tidy frame in, an Altair chart out; and the way notebooks show them.

A chart takes small frames, aggregated before: its data become part of the notebook. `enable()`
makes every chart of a notebook interactive in JupyterLab without a network, with a picture beside
it for places that run no scripts.
"""

import altair as alt
import numpy as np
import vl_convert

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow and black.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
ACCENT, MUTED = PALETTE[0], "#c9c9c9"

# JupyterLab 4 draws Vega-Lite 5; the nearest version here draws the picture.
_VL_VERSION = "5.8"
_MIME = "application/vnd.vegalite.v5+json"
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


def enable():
    """Shows charts as interactive Vega-Lite 5 with a PNG beside it, in the theme of the series.

    Call it once in the setup cell of a notebook. No chart needs a network.
    """
    alt.renderers.register("cfutils", _mime_bundle)
    alt.renderers.enable("cfutils")
    alt.theme.register("cfutils", enable=True)(_theme)


def _mime_bundle(spec, **_):
    spec = {**spec, "$schema": _SCHEMA}
    text = "; ".join(_titles(spec)) or "a chart"
    bundle = {
        _MIME: spec,
        "image/png": vl_convert.vegalite_to_png(spec, vl_version=_VL_VERSION, scale=1),
        "text/plain": f"Chart: {text}",
    }
    return bundle, {_MIME: {"embed_options": {"renderer": "svg", "actions": False}}}


def _titles(spec):
    """The title of a chart, or those of the charts that it puts side by side."""
    if "title" in spec:
        title = spec["title"]
        return [title["text"] if isinstance(title, dict) else title]
    return [title for part in spec.get("hconcat", []) for title in _titles(part)]


def _theme():
    labels = {"labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal"}
    return {
        "background": "white",
        "config": {
            "view": {
                "continuousWidth": 420,
                "continuousHeight": 240,
                "discreteWidth": 420,
                "stroke": None,
            },
            "title": {"fontSize": 15, "anchor": "start", "subtitleFontSize": 12, "offset": 12},
            "axis": {**labels, "gridColor": "#ececec", "domainColor": "#888", "tickColor": "#888"},
            "legend": {**labels, "symbolLimit": 30},
            "header": {**labels},
            "range": {"category": list(PALETTE)},
            "bar": {"color": ACCENT},
            "point": {"color": ACCENT, "filled": True},
            "line": {"color": ACCENT, "strokeWidth": 2},
        },
    }


def bars(frame, x, y, *, title, x_title, y_title, subtitle=""):
    """Bars of values that the frame already holds, one per row, in the order of the rows.

    Args:
        frame: a frame with the columns `x` (any kind, shown as text) and `y` (numbers).
        x: the column of the categories.
        y: the column of the heights.
        title: what is seen, in words.
        x_title: title of the x axis, with its unit.
        y_title: title of the y axis, with its unit.
        subtitle: what to look at, in smaller letters.

    Returns:
        An `altair.Chart`.
    """
    data = frame[[x, y]].round(4).assign(**{x: frame[x].astype(str)})
    return (
        alt.Chart(data, title=alt.Title(title, subtitle=subtitle))
        .mark_bar()
        .encode(
            x=alt.X(f"{x}:N", sort=list(data[x]), title=x_title, axis=alt.Axis(labelAngle=0)),
            y=alt.Y(f"{y}:Q", title=y_title),
            tooltip=[alt.Tooltip(f"{x}:N", title=x_title), alt.Tooltip(f"{y}:Q", title=y_title)],
        )
    )


def sliced_histograms(stats, key, category, *, title, unit, step=25):
    """Histograms of counts and means, sliced by clicking categories.

    A click on a bar at the left selects its category, SHIFT-click adds another, a double click
    clears. Each histogram shows the share of the selected rows per bin, in front of the share of
    all rows in grey: both are percentages of their own group, so small groups compare with large.

    Args:
        stats: one row per (key, category): `num_ratings` and `mean_rating` of the key, repeated
            for each of its categories. A key with several categories counts once in any selection.
        key: the column that identifies a user or movie.
        category: the column to slice by.
        title: what is seen, in words.
        unit: what a row is, in the plural, for the axes ("users").
        step: width of a bin of `num_ratings`.

    Returns:
        An `altair.HConcatChart`.
    """
    columns = [key, category, "num_ratings", "mean_rating"]
    data = stats[columns].dropna().round({"mean_rating": 3})
    clicked = alt.selection_point("clicked", fields=[category], toggle="event.shiftKey")
    categories = (
        alt.Chart(title=alt.Title(f"Click: {category}", fontSize=13))
        .mark_bar(cursor="pointer")
        .encode(
            x=alt.X("count():Q", title=unit),
            y=alt.Y(f"{category}:N", sort="-x", title=None),
            color=alt.condition(clicked, alt.value(ACCENT), alt.value(MUTED)),
            tooltip=[f"{category}:N", alt.Tooltip("count():Q", title=unit)],
        )
        .add_params(clicked)
        .properties(width=130, height=15 * data[category].nunique())
    )

    def histogram(field, step, x_title):
        # The last bin is closed at both ends, so that five stars do not open one beyond.
        highest = float(np.ceil(data[field].max() / step) * step)

        def layer(chart, color):
            return (
                chart.transform_aggregate(groupby=[key], **{field: f"min({field})"})
                .transform_calculate(
                    bin=f"min(floor(datum.{field} / {step}) * {step}, {highest} - {step})"
                )
                .transform_aggregate(rows="count()", groupby=["bin"])
                .transform_joinaggregate(total="sum(rows)")
                .transform_calculate(
                    share="datum.rows / datum.total", bin_end=f"datum.bin + {step}"
                )
                .mark_bar(color=color, opacity=0.75)
                .encode(
                    x=alt.X("bin:Q", title=x_title, bin="binned"),
                    x2="bin_end:Q",
                    y=alt.Y("share:Q", title=f"share of the {unit}", axis=alt.Axis(format="%")),
                    tooltip=[
                        alt.Tooltip("bin:Q", title="from"),
                        alt.Tooltip("bin_end:Q", title="to"),
                        alt.Tooltip("rows:Q", title=unit),
                        alt.Tooltip("share:Q", title="share", format=".1%"),
                    ],
                )
            )

        everyone = layer(alt.Chart(), MUTED)
        selected = layer(alt.Chart().transform_filter(clicked), ACCENT)
        return alt.layer(everyone, selected).properties(width=290, height=250)

    return alt.hconcat(
        categories,
        histogram("num_ratings", step, "number of ratings"),
        histogram("mean_rating", 0.25, "mean rating (stars)"),
        data=data,
        title=alt.Title(
            title, subtitle=f"blue: the selection (at first all {unit}); grey: all {unit}"
        ),
    )


def scatter(frame, x, y, *, title, x_title, y_title, log_x=False, subtitle=""):
    """One point per row with its title as tooltip.

    Args:
        frame: a frame with the columns `title`, `x` and `y` (positive for `log_x`).
        x: the column of the x axis.
        y: the column of the y axis.
        title: what is seen, in words.
        x_title: title of the x axis, with its unit.
        y_title: title of the y axis, with its unit.
        log_x: whether the x axis is logarithmic.
        subtitle: what to look at, in smaller letters.

    Returns:
        An `altair.Chart`.
    """
    data = frame[["title", x, y]].dropna().round(3)
    scale = alt.Scale(type="log" if log_x else "linear", padding=10)
    return (
        alt.Chart(data, title=alt.Title(title, subtitle=subtitle))
        .mark_point(size=18, opacity=0.45)
        .encode(
            x=alt.X(f"{x}:Q", title=x_title, scale=scale),
            y=alt.Y(f"{y}:Q", title=y_title, scale=alt.Scale(zero=False, padding=10)),
            tooltip=[
                "title:N",
                alt.Tooltip(f"{x}:Q", title=x_title),
                alt.Tooltip(f"{y}:Q", title=y_title),
            ],
        )
    )


def heatmap(
    frame,
    x,
    y,
    value,
    *,
    title,
    x_title,
    y_title,
    value_title,
    domain,
    panel=None,
    value_format=".1%",
    subtitle="",
):
    """A matrix as a picture, one colour per cell.

    Args:
        frame: one row per cell with the columns `x`, `y`, `value` and `panel`.
        x: the column of the matrix columns, in their order.
        y: the column of the matrix rows, in their order.
        value: the column of the numbers.
        title: what is seen, in words.
        x_title: what a matrix column is.
        y_title: what a matrix row is.
        value_title: title of the colour legend, with its unit.
        domain: the two values of the lightest and the darkest colour.
        panel: the column that names the matrix, for several side by side; None for one.
        value_format: how tooltips and legend write the value (a D3 format).
        subtitle: what to look at, in smaller letters.

    Returns:
        An `altair.Chart`.
    """
    columns = [x, y, value] + ([panel] if panel else [])
    color = alt.Color(
        f"{value}:Q",
        title=value_title,
        scale=alt.Scale(range=["#f7f7f7", "#08306b"], domain=list(domain), clamp=True),
        legend=alt.Legend(format=value_format),
    )
    chart = (
        alt.Chart(frame[columns].round(4))
        .mark_rect()
        .encode(
            x=alt.X(f"{x}:O", title=x_title, axis=alt.Axis(labelOverlap=True, labelAngle=0)),
            y=alt.Y(f"{y}:O", title=y_title, axis=alt.Axis(labelOverlap=True)),
            color=color,
            tooltip=[f"{x}:O", f"{y}:O", alt.Tooltip(f"{value}:Q", format=value_format)],
        )
        .properties(width=220 if panel else 480, height=220 if panel else 300)
    )
    if panel:
        chart = chart.facet(alt.Column(f"{panel}:N", title=None, sort=list(frame[panel].unique())))
    return chart.properties(title=alt.Title(title, subtitle=subtitle))


def lines(
    frame,
    x,
    y,
    series,
    *,
    title,
    x_title,
    y_title,
    log_x=False,
    log_y=False,
    panel=None,
    y_domain=None,
    points=False,
    subtitle="",
):
    """One line per series, drawn through the rows in the order of x.

    Args:
        frame: a tidy frame with the columns `x`, `y`, `series` and `panel`.
        x: the column of the x axis (numbers, positive for `log_x`).
        y: the column of the y axis (numbers, positive for `log_y`).
        series: the column that names the line; colours follow the order of first appearance.
        title: what is seen, in words.
        x_title: title of the x axis, with its unit.
        y_title: title of the y axis, with its unit.
        log_x: whether the x axis is logarithmic.
        log_y: whether the y axis is logarithmic.
        panel: the column that names the panel, for several side by side; None for one.
        y_domain: lowest and highest y that is drawn; what lies beyond is cut off.
        points: whether the rows are marked on the lines.
        subtitle: what to look at, in smaller letters.

    Returns:
        An `altair.Chart`.
    """
    columns = [x, y, series] + ([panel] if panel else [])
    data = frame[columns].dropna()
    data[[x, y]] = data[[x, y]].map(lambda value: float(f"{value:.4g}"))
    y_scale = {"type": "log"} if log_y else {"zero": False}
    if y_domain is not None:
        y_scale |= {"domain": list(y_domain), "nice": False}
    x_scale = alt.Scale(type="log", nice=False) if log_x else alt.Scale()
    names = list(frame[series].unique())
    colors = alt.Scale(domain=names, range=list(PALETTE[: len(names)]))
    chart = (
        alt.Chart(data)
        .mark_line(clip=True, point=points)
        .encode(
            x=alt.X(f"{x}:Q", title=x_title, scale=x_scale, axis=alt.Axis(labelFlush=False)),
            y=alt.Y(f"{y}:Q", title=y_title, scale=alt.Scale(**y_scale)),
            color=alt.Color(f"{series}:N", title=None, scale=colors),
            tooltip=[f"{series}:N", f"{x}:Q", f"{y}:Q"],
        )
    )
    if panel:
        order = list(frame[panel].unique())
        chart = chart.properties(width=280, height=220)
        chart = chart.facet(alt.Column(f"{panel}:N", title=None, sort=order))
        chart = chart.resolve_scale(x="independent")
    return chart.properties(title=alt.Title(title, subtitle=subtitle))


def long_tail(stats, *, title, subtitle=""):
    """The share of all ratings that the most rated movies hold.

    Args:
        stats: a frame with `num_ratings` per movie.
        title: what is seen, in words.
        subtitle: what to look at, in smaller letters.

    Returns:
        An `altair.LayerChart`: movies, most rated first, against their cumulated share of the
        ratings, with the line that equal popularity would give in grey.
    """
    counts = stats["num_ratings"].sort_values(ascending=False, ignore_index=True)
    shares = (counts.cumsum() / counts.sum()).rename("ratings").rename_axis("rank").reset_index()
    shares["movies"] = (shares["rank"] + 1) / len(shares)
    every = max(1, len(shares) // 200)
    data = shares.iloc[every - 1 :: every][["movies", "ratings"]].round(4)
    x = alt.X("movies:Q", title="share of the movies, most rated first", axis=alt.Axis(format="%"))
    y = alt.Y("ratings:Q", title="share of the ratings", axis=alt.Axis(format="%"))
    base = alt.Chart(data).encode(x=x)
    equal = base.mark_line(color=MUTED, strokeDash=[4, 4]).encode(y=alt.Y("movies:Q"))
    curve = base.mark_line().encode(y=y)
    points = base.mark_point(size=40, opacity=0).encode(
        y=y,
        tooltip=[alt.Tooltip("movies:Q", format=".1%"), alt.Tooltip("ratings:Q", format=".1%")],
    )
    return alt.layer(equal, curve, points, title=alt.Title(title, subtitle=subtitle))

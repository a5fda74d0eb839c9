"""Charts: a tidy frame in, an Altair chart out; and the way notebooks show them.

A chart takes small frames, aggregated before: its data become part of the notebook. `enable()`
makes every chart of a notebook interactive in JupyterLab without a network, with a picture beside
it for places that run no scripts.
"""

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow and black.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
ACCENT, MUTED = PALETTE[0], "#c9c9c9"
# A logarithmic axis of counts: what has none stands at 0.5, and the mark there says 0.
_COUNT_AXIS = alt.Axis(
    values=(0.5, 1, 3, 10, 30, 100, 300, 1000, 10_000, 100_000),
    labelExpr="datum.value < 1 ? '0' : datum.label",
)

# JupyterLab 4 draws Vega-Lite 5; the nearest version here draws the picture.
_VL_VERSION = "5.8"
_MIME = "application/vnd.vegalite.v5+json"
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


def enable():
    """Shows charts as interactive Vega-Lite 5 with a PNG beside it, in the theme of the series.

    Call it once in the setup cell of a notebook. No chart needs a network.

    Cost: O(1).
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


def bars(frame, x, y, *, title, x_title, y_title, interval=None, subtitle=""):
    """Bars of values that the frame already holds, one per row, in the order of the rows.

    Categories stand below each other if a name has more than 8 letters, else side by side; then
    give the chart a width (`properties`) that the names have room in.

    Args:
        frame: a frame with the columns `x` (any kind, shown as text) and `y` (numbers).
        x: the column of the categories.
        y: the column of the heights.
        title: what is seen, in words.
        x_title: title of the axis of the categories, with their unit.
        y_title: title of the axis of the heights, with their unit.
        interval: a pair of columns, the ends of the line that is drawn over each bar; None for no
            lines.
        subtitle: what to look at, in smaller letters.

    Returns:
        An `altair.LayerChart`.

    Cost: O(rows of the frame) time and memory.
    """
    ends = list(interval or ())
    data = frame[[x, y, *ends]].round(4).assign(**{x: frame[x].astype(str)})
    names = list(data[x])
    along, across = ("y", "x") if max(map(len, names), default=0) > 8 else ("x", "y")
    kind = {"x": alt.X, "y": alt.Y}
    place = kind[along](f"{x}:N", sort=names, title=x_title).axis(labelAngle=0, labelLimit=260)
    shown = [alt.Tooltip(f"{x}:N", title=x_title), alt.Tooltip(f"{y}:Q", title=y_title)]
    shown += [f"{end}:Q" for end in ends]
    height = {across: kind[across](f"{y}:Q", title=y_title)}
    base = alt.Chart(data).encode(**{along: place}, tooltip=shown)
    layers = [base.mark_bar().encode(**height)]
    if ends:
        low, high = ends
        line = {across: kind[across](f"{low}:Q", title=y_title), f"{across}2": high}
        layers.append(base.mark_rule(color=PALETTE[1], strokeWidth=3).encode(**line))
    return alt.layer(*layers, title=alt.Title(title, subtitle=subtitle))


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

    Cost: O(rows times slices of a row) time and memory.
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

    Cost: O(rows of the frame) time and memory.
    """
    data = frame[["title", x, y]].dropna().round(3)
    scale = alt.Scale(type="log", nice=False, padding=10) if log_x else alt.Scale(padding=10)
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

    Cost: O(cells) time and memory.
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

    Cost: O(rows of the frame) time and memory.
    """
    columns = [x, y, series] + ([panel] if panel else [])
    data = frame[columns].dropna()
    data[[x, y]] = data[[x, y]].map(lambda value: float(f"{value:.4g}"))
    y_scale = {"type": "log"} if log_y else {"zero": False}
    if y_domain is not None:
        y_scale |= {"domain": list(y_domain), "nice": False}
    x_scale = alt.Scale(type="log", nice=False) if log_x else alt.Scale()
    axis = alt.Axis(labelFlush=False, labelSeparation=6)
    if log_x and data[x].nunique() <= 6:  # each has its mark
        axis.values = sorted(data[x].unique().tolist())
    names = list(frame[series].unique())
    colors = alt.Scale(domain=names, range=list(PALETTE[: len(names)]))
    chart = (
        alt.Chart(data)
        .mark_line(clip=y_domain is not None, point=points)
        .encode(
            x=alt.X(f"{x}:Q", title=x_title, scale=x_scale, axis=axis),
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

    Cost: O(M log M) time, O(M) memory.
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


def score_histograms(scores, *, title, x_title, bins=60, domain=None, subtitle=""):
    """Distributions of scores, one colour per group, one panel per model.

    Scores may be many millions: they are binned here, and the chart carries the bins only. All
    groups and panels share the bins.

    Args:
        scores: a dict {group: scores}, or {panel: {group: scores}} for several panels side by
            side. Scores are arrays of any shape; colours follow the order of the first panel.
        title: what is seen, in words.
        x_title: title of the x axis, with its unit.
        bins: number of bins.
        domain: lowest and highest score drawn; None for those of all scores. A density is the
            share of all scores of its group per unit, those beyond the domain included.
        subtitle: what to look at, in smaller letters.

    Returns:
        An `altair.Chart`, or a facet of several.

    Raises:
        ValueError: if a group has no scores, or one that is not finite.

    Cost: O(rows of the frame) time and memory.
    """
    panels = scores if isinstance(next(iter(scores.values())), dict) else {"": scores}
    panels = {
        panel: {group: np.ravel(values) for group, values in groups.items()}
        for panel, groups in panels.items()
    }
    groups = list(dict.fromkeys(group for parts in panels.values() for group in parts))
    flat = [(panel, *part) for panel, parts in panels.items() for part in parts.items()]
    for panel, group, values in flat:
        if not len(values) or not np.isfinite(values).all():
            where = f"{group!r}" + (f" of {panel!r}" if panel else "")
            raise ValueError(
                f"scores of {where} should be finite, and at least one. Received: {len(values)} "
                f"scores, {np.sum(~np.isfinite(values))} of them not finite. Leave those out."
            )
    lowest = min(float(values.min()) for _, _, values in flat)
    highest = max(float(values.max()) for _, _, values in flat)
    edges = np.histogram_bin_edges([], bins, domain or (lowest, highest))
    rows = []
    for panel, group, values in flat:
        shares = np.histogram(values, edges)[0] / len(values)
        for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True):
            density = share / (high - low)
            row = [float(f"{value:.4g}") for value in (low, high, share, density)]
            rows.append([panel, group, *row])
    columns = ["panel", "group", "from", "to", "share", "density"]
    data = pd.DataFrame(rows, columns=columns)
    if len(panels) == 1:
        data = data.drop(columns="panel")
    colors = alt.Scale(domain=groups, range=list(PALETTE[: len(groups)]))
    bars = (
        alt.Chart()
        .mark_bar(opacity=0.45, binSpacing=0)
        .encode(
            x=alt.X("from:Q", title=x_title, bin="binned"),
            x2="to:Q",
            y=alt.Y("density:Q", title="density (share per unit of score)", stack=None),
            color=alt.Color("group:N", title=None, scale=colors),
            tooltip=[
                "group:N",
                "from:Q",
                "to:Q",
                alt.Tooltip("share:Q", title="share of the scores", format=".2%"),
            ],
        )
    )
    outlines = (
        alt.Chart()
        .mark_line(interpolate="step-after", strokeWidth=1.5)
        .encode(x="from:Q", y=alt.Y("density:Q", stack=None), color="group:N")
    )
    chart = alt.layer(bars, outlines, data=data)
    if len(panels) > 1:
        chart = chart.properties(width=260, height=220)
        chart = chart.facet(alt.Column("panel:N", title=None, sort=list(panels)))
    return chart.properties(title=alt.Title(title, subtitle=subtitle))


def norms(frame, *, title, panel="model", subtitle=""):
    """Norm of each movie's embedding against its number of ratings, one panel per model.

    One brush for all panels: drag a rectangle in any of them and the same movies stay coloured in
    every panel while the others fade; a double click lets go. Movies are matched by their id, so
    two of one title stay apart.

    Args:
        frame: one row per movie and model with the columns `movie_id`, `title`, `num_ratings`,
            `norm` and `panel`. The logarithmic x axis has no zero: movies without ratings are
            drawn at 0.5, and the subtitle then says so.
        title: what is seen, in words.
        panel: the column that names the model; panels stand in the order of first appearance.
        subtitle: what to look at, in smaller letters.

    Returns:
        An `altair.HConcatChart`.

    Raises:
        ValueError: if a movie occurs twice in a panel, or is missing in one.

    Cost: O(rows of the frame) time and memory.
    """
    names, data = _side_by_side(frame, ["title", "num_ratings"], ["norm"], panel, 3)
    lines = ["drag over movies in one panel: the same movies stay blue in all; double click: clear"]
    if (data["num_ratings"] == 0).any():
        lines.append("movies without ratings stand at 0")
        data["drawn_at"] = data["num_ratings"].clip(lower=0.5)
    x = "drawn_at" if "drawn_at" in data else "num_ratings"
    brush = alt.selection_interval(name="brush", resolve="global")
    everywhere = alt.TopLevelSelectionParameter(
        name="brush",
        select=brush.param.select,
        views=[f"norms_{number}" for number in range(len(names))],
    )
    # A movie's tooltip says its norm in every model, whichever panel it is hovered in.
    tooltip = ["title:N", alt.Tooltip("num_ratings:Q", title="ratings")] + [
        alt.Tooltip(f"norm_{number}:Q", title=f"norm, {name}") for number, name in enumerate(names)
    ]

    def points(number, name):
        return (
            alt.Chart(title=alt.Title(name, fontSize=13, offset=6))
            .mark_point(size=20)
            .encode(
                x=alt.X(
                    f"{x}:Q",
                    title="number of ratings (log)",
                    scale=alt.Scale(type="log", padding=8, nice=False),
                    axis=_COUNT_AXIS,
                ),
                y=alt.Y(
                    f"norm_{number}:Q",
                    title="norm of the movie's embedding" if number == 0 else None,
                    scale=alt.Scale(zero=True, nice=True),
                    axis=alt.Axis(labelFlush=True),  # or the panels' titles differ in height
                ),
                color=alt.condition(brush, alt.value(ACCENT), alt.value(MUTED)),
                opacity=alt.condition(brush, alt.value(0.5), alt.value(0.25)),
                tooltip=tooltip,
            )
            .properties(name=f"norms_{number}", width=260 if len(names) > 1 else 420, height=240)
        )

    return alt.hconcat(
        *[points(number, name) for number, name in enumerate(names)],
        data=data.drop(columns="movie_id"),
        params=[everywhere],
        title=alt.Title(title, subtitle=[subtitle, *lines] if subtitle else lines),
    )


def embedding_map(frame, *, title, trust, panel=None, highlight=(), subtitle=""):
    """A map of movies in two dimensions, with their genres by click and a search by title.

    A click on a genre in the list colours every movie that has it and fades the rest; SHIFT-click
    adds a genre with the next colour, a double click on the list clears. A movie with several of
    the chosen genres has the colour of the one chosen first. The seventh genre and all further
    ones are black: more colours than six can't be told apart. The search box below the chart
    takes plain text, upper or lower case: matching movies get a ring, the 12 most rated of them
    their title.

    Args:
        frame: one row per movie with the columns `x` and `y` (the map's coordinates), `title`,
            `genres` (a list, or text joined by ", ") and `num_ratings`; with `panel` one row per
            movie and model, and `movie_id`.
        title: what is seen, in words.
        trust: how far distances on the map can be trusted, in words and figures; with `panel` a
            dict {model: words and figures}.
        panel: the column that names the model, for several maps side by side; None for one.
        highlight: the genres chosen at first, also in the static picture.
        subtitle: what to look at, in smaller letters.

    Returns:
        An `altair.HConcatChart`.

    Raises:
        ValueError: if a movie occurs twice in a panel or is missing in one, or a genre of
            `highlight` is no movie's.

    Cost: O(rows of the frame) time and memory.
    """
    if panel is None:
        frame = frame.assign(movie_id=np.arange(len(frame)), panel="")
        trust = {"": trust}
    texts = frame["genres"].map(
        lambda genres: genres if isinstance(genres, str) else ", ".join(genres)
    )
    frame = frame.assign(genres=texts)
    names, data = _side_by_side(
        frame, ["title", "genres", "num_ratings"], ["x", "y"], panel or "panel", 2
    )
    lists = data["genres"].str.split(", ")
    counts = lists.explode().value_counts(sort=False).sort_index()
    missing = [genre for genre in highlight if genre not in counts.index]
    if missing:
        raise ValueError(
            f"highlight should hold genres of the movies. Received: {missing}. They have: "
            f"{', '.join(counts.index)}."
        )
    # A letter per genre: membership is one comparison of text, whatever the genres are called.
    letters = {genre: chr(ord("A") + number) for number, genre in enumerate(counts.index)}
    data["codes"] = ["".join(letters[genre] for genre in genres) for genres in lists]
    data = data.drop(columns="movie_id")
    genres = pd.DataFrame(
        {"genre": counts.index, "movies": counts.to_numpy(), "code": list(letters.values())}
    )

    clicked = alt.selection_point(
        name="clicked",
        fields=["code"],
        toggle="event.shiftKey",
        **({"value": [{"code": letters[genre]} for genre in highlight]} if highlight else {}),
    )
    search = alt.param(
        name="search",
        value="",
        bind=alt.binding(
            input="search", name="Find a title: ", placeholder="e.g. star wars", debounce=150
        ),
    )
    chosen = "(isArray(clicked.code) ? clicked.code : [])"
    anything = f"length({chosen}) > 0"
    found = "search != '' && indexof(lower(datum.title), lower(search)) >= 0"

    def nth(field):
        """Conditions on the place among the chosen genres, each with its colour."""
        return [
            {
                "test": f"length({chosen}) > {place} && indexof({field}, {chosen}[{place}]) >= 0",
                "value": color,
            }
            for place, color in enumerate(PALETTE)
        ]

    member = f"test(regexp('[' + join({chosen}, '') + ']'), datum.codes)"
    rows = alt.Chart(genres).encode(
        y=alt.Y("genre:N", title=None, sort=list(genres.sort_values("movies").genre[::-1])),
        tooltip=["genre:N", "movies:Q"],
    )
    amounts = rows.mark_bar().encode(
        x=alt.X("movies:Q", axis=None),
        color={
            "condition": [
                *nth("datum.code"),
                {"test": f"indexof({chosen}, datum.code) >= 0", "value": "black"},
            ],
            "value": MUTED,
        },
    )
    numbers = rows.mark_text(align="left", dx=3, fontSize=11).encode(x="movies:Q", text="movies:Q")
    # What is clicked: the whole row, since the bar of a rare genre is a pixel wide.
    targets = rows.mark_rect(opacity=0, cursor="pointer").add_params(clicked)
    listing = alt.layer(amounts, numbers, targets).properties(
        width=90, height=16 * len(genres), title=alt.Title("Click: genre", fontSize=13, offset=6)
    )
    tooltip = ["title:N", "genres:N", alt.Tooltip("num_ratings:Q", title="ratings")]

    width, height = (480, 420) if panel is None else (300, 300)

    def one_map(number, name):
        x, y = f"x_{number}", f"y_{number}"
        hidden = alt.Axis(labels=False, ticks=False, grid=False, domain=False)
        (left, right), (bottom, top) = (_padded(data[column]) for column in (x, y))
        base = alt.Chart(data).encode(
            x=alt.X(f"{x}:Q", title=None, axis=hidden, scale=alt.Scale(domain=[left, right])),
            y=alt.Y(f"{y}:Q", title=None, axis=hidden, scale=alt.Scale(domain=[bottom, top])),
        )
        everything = base.mark_point(size=22).encode(
            color={"condition": {"test": anything, "value": MUTED}, "value": ACCENT},
            opacity={"condition": {"test": anything, "value": 0.4}, "value": 0.5},
            tooltip=tooltip,
        )
        colored = (
            base.transform_filter(f"{anything} && {member}")
            .mark_point(size=26, opacity=0.85)
            .encode(color={"condition": nth("datum.codes"), "value": "black"}, tooltip=tooltip)
        )
        matches = base.transform_filter(found)
        rings = matches.mark_point(
            size=90, filled=False, stroke="black", strokeWidth=1.8, opacity=1
        ).encode(tooltip=tooltip)
        # Titles are 15 pixels apart at least: pushed up just enough, pushed down just enough, and
        # then the middle of both. Drawn towards the centre before, they can't leave the map.
        line, middle = 15 * (top - bottom) / height, (top + bottom) / 2
        labels = (
            matches.transform_window(
                rank="row_number()", sort=[alt.SortField("num_ratings", order="descending")]
            )
            .transform_filter("datum.rank <= 12")
            .transform_joinaggregate(shown="count()")
            .transform_calculate(
                wanted=f"{middle} + (datum.{y} - {middle})"
                f" * (1 - 15 * (datum.shown - 1) / {height})"
            )
            .transform_window(place="row_number()", sort=[alt.SortField("wanted")])
            .transform_calculate(free=f"datum.wanted - datum.place * {line}")
            .transform_window(
                up="max(free)", frame=[None, 0], ignorePeers=True, sort=[alt.SortField("place")]
            )
            .transform_window(
                down="min(free)", frame=[0, None], ignorePeers=True, sort=[alt.SortField("place")]
            )
            .transform_calculate(label=f"(datum.up + datum.down) / 2 + datum.place * {line}")
        )
        side = f"datum.{x} < {(left + right) / 2}"
        place = {
            "align": alt.expr(f"{side} ? 'left' : 'right'"),
            "dx": alt.expr(f"{side} ? 9 : -9"),
            "limit": width / 2 - 10,
            "fontSize": 12,
            "baseline": "middle",
        }
        leaders = labels.mark_rule(color="black", strokeWidth=0.8).encode(y2="label:Q")
        titles = labels.encode(y="label:Q", text="title:N")
        halo = titles.mark_text(stroke="white", strokeWidth=4, opacity=0.9, **place)
        text = titles.mark_text(color="black", **place)
        chart = alt.layer(everything, colored, leaders, rings, halo, text)
        chart = chart.properties(width=width, height=height)
        if panel is None:
            return chart
        return chart.properties(title=alt.Title(name, subtitle=trust[name], fontSize=13, offset=6))

    rule = [
        "colour: the first of the genres clicked at the left that the movie has (SHIFT-click adds)",
        "grey: movies with none of them; ring: the title holds the text of the search box",
    ]
    lines = ([subtitle] if subtitle else []) + rule + ([] if panel else [trust[""]])
    return (
        alt.hconcat(listing, *[one_map(number, name) for number, name in enumerate(names)])
        .add_params(search)
        .properties(title=alt.Title(title, subtitle=lines))
    )


def _padded(column):
    """The ends of an axis, a little beyond the values."""
    lowest, highest = float(column.min()), float(column.max())
    pad = 0.03 * (highest - lowest) or 1.0
    return round(lowest - pad, 3), round(highest + pad, 3)


def _side_by_side(frame, shared, measured, panel, decimals):
    """One row per movie: what panels share once, what they measure as `name_0`, `name_1`, ..."""
    names = list(frame[panel].unique())
    first = frame[frame[panel] == names[0]]
    data = first[["movie_id", *shared]].reset_index(drop=True)
    for number, name in enumerate(names):
        part = frame[frame[panel] == name].set_index("movie_id")[measured].astype(float)
        if part.index.has_duplicates or set(part.index) != set(data["movie_id"]):
            raise ValueError(
                f"Every {panel} should have each movie once. Received: {len(part)} rows with "
                f"{part.index.nunique()} movies in {name!r}, {len(data)} rows in {names[0]!r}."
            )
        part = part.loc[data["movie_id"]].round(decimals).to_numpy()
        data[[f"{column}_{number}" for column in measured]] = part
    return names, data


def tower(model, *, title, subtitle=""):
    """Draws a `SoftmaxModel`: from a history to probabilities, with the shape of everything.

    Args:
        model: a `SoftmaxModel`; only its dimensions are read.
        title: what is seen, in words.
        subtitle: what to look at, in smaller letters.

    Returns:
        An `altair.LayerChart`.

    Cost: O(layers) time and memory.
    """
    dim, num_items = model.embedding_dim, model.num_items
    middle = (len(model.input_dims) - 1) / 2
    steps = [("history x", f"[n, {num_items:,}]", middle), None]
    width = sum(model.input_dims.values())
    if len(model.input_dims) > 1:
        steps.append(("concatenated", f"[n, {width}]", middle))
    steps += [("hidden layer, relu", f"[n, {units}]", middle) for units in model.hidden_dims]
    if len(steps) > 2:
        steps.append(("psi(x), by a projection", f"[n, {dim}]", middle))
    steps += [
        ("scores: dot products with V", f"[n, {num_items:,}]", middle),
        ("softmax: p(x)", f"[n, {num_items:,}]", middle),
    ]
    boxes, arrows, before = [], [], []
    for level, step in enumerate(steps):
        here = [step] if step else []
        for place, (name, units) in enumerate(() if step else model.input_dims.items()):
            text = "mean of V's rows" if name == "item" and model.tied else f"mean of {name}"
            here.append((text, f"[n, {units}]", float(place)))
        for text, shape, place in here:
            boxes.append({"label": text, "shape": shape, "x": place, "y": -level})
            arrows += [{"x": x, "y": 0.74 - level, "x2": place, "y2": 0.26 - level} for x in before]
        before = [place for _, _, place in here]
    frame = pd.DataFrame(boxes).assign(
        left=lambda b: b["x"] - 0.46,
        right=lambda b: b["x"] + 0.46,
        low=lambda b: b["y"] - 0.26,
        high=lambda b: b["y"] + 0.26,
    )
    reach = alt.Scale(domain=[min(-0.5, middle - 1.2), max(2 * middle + 0.5, middle + 1.2)])
    x, y = alt.X("x:Q", axis=None, scale=reach), alt.Y("y:Q", axis=None)
    boxed = alt.Chart(frame).mark_rect(cornerRadius=5, color="#e8f1f8", stroke=ACCENT)
    boxed = boxed.encode(
        x=alt.X("left:Q", axis=None, scale=reach),
        x2="right:Q",
        y=alt.Y("low:Q", axis=None),
        y2="high:Q",
    )
    joined = (
        alt.Chart(pd.DataFrame(arrows))
        .mark_rule(color="#777")
        .encode(x=x, y=y, x2="x2:Q", y2="y2:Q")
    )
    text = alt.Chart(frame).encode(x=x, y=y)
    return alt.layer(
        joined,
        boxed,
        text.mark_text(dy=-7, fontSize=12).encode(text="label:N"),
        text.mark_text(dy=9, fontSize=11, color="#555").encode(text="shape:N"),
    ).properties(width=520, height=64 * len(steps), title=alt.Title(title, subtitle=subtitle))


def norm_lab(movies, lists, curves, *, title, subtitle=""):
    """A slider for alpha in the scores <u, v> / |v|^alpha, and what it does to one user's list.

    Args:
        movies: one row per movie: `movie_id`, `title`, `num_ratings`, `norm` (its length).
        lists: one row per alpha and rank: `alpha`, `rank`, `movie_id`.
        curves: one row per alpha, in equal steps: `alpha` and, for each measure, a column named as
            the axis shall be.
        title: what is seen, in words.
        subtitle: what to look at, in smaller letters.

    Returns:
        An `altair.HConcatChart`: the list at the chosen alpha; the measures along all alphas with
        the chosen one marked; norm against number of ratings, the list's movies coloured.

    Cost: O(movies + rows of the lists and curves) time and memory.
    """
    alphas = sorted(curves["alpha"])
    slider = alt.binding_range(
        min=alphas[0], max=alphas[-1], step=round(alphas[1] - alphas[0], 4), name="alpha "
    )
    alpha = alt.param(name="alpha", value=alphas[0], bind=slider)
    here = alt.expr.abs(alt.datum.alpha - alpha) < 1e-3
    listed = lists[["alpha", "rank", "movie_id"]].merge(movies, on="movie_id")
    listed["norm"] = listed["norm"].astype(float).round(3)
    listed["line"] = [
        f"{title} ({number})"
        for title, number in zip(listed["title"], listed["num_ratings"], strict=True)
    ]
    names = alt.Chart(listed.drop(columns="movie_id")).transform_filter(here)
    shown = names.mark_text(align="left", fontSize=12, limit=310).encode(
        y=alt.Y("rank:O", title=None, axis=alt.Axis(domain=False, ticks=False)),
        x=alt.value(4),
        text="line:N",
    )
    shown = shown.properties(width=310, height=260, title="Top ten (number of ratings)")
    steps = []
    for measure in [name for name in curves if name != "alpha"]:
        part = curves[["alpha", measure]].rename(columns={measure: "value"}).round(4)
        base = alt.Chart(part).encode(
            x=alt.X("alpha:Q", title="alpha", axis=alt.Axis(format=".1f")),
            y=alt.Y("value:Q", title=measure, scale=alt.Scale(zero=False)),
            tooltip=["alpha:Q", alt.Tooltip("value:Q", title=measure)],
        )
        dot = base.transform_filter(here).mark_circle(size=110, color=PALETTE[1], opacity=1)
        steps.append(alt.layer(base.mark_line(color=ACCENT), dot).properties(width=190, height=62))
    drawn = movies.assign(
        norm=movies["norm"].astype(float).round(3), x=movies["num_ratings"].clip(lower=0.5)
    )
    places = {
        "x": alt.X(
            "x:Q",
            title="ratings (log)",
            scale=alt.Scale(type="log", nice=False),
            axis=_COUNT_AXIS,
        ),
        "y": alt.Y("norm:Q", title="norm"),
        "tooltip": ["title:N", "num_ratings:Q", "norm:Q"],
    }
    grey = alt.Chart(drawn[["title", "num_ratings", "norm", "x"]]).mark_circle(size=14, color=MUTED)
    chosen = alt.Chart(
        listed.assign(x=listed["num_ratings"].clip(lower=0.5))[
            ["alpha", "title", "num_ratings", "norm", "x"]
        ]
    ).transform_filter(here)
    chosen = chosen.mark_circle(size=70, color=PALETTE[1], opacity=1)
    cloud = alt.layer(grey.encode(**places), chosen.encode(**places))
    cloud = cloud.properties(width=230, height=260, title="Where these movies lie")
    chart = alt.hconcat(shown, alt.vconcat(*steps), cloud).add_params(alpha)
    return chart.properties(title=alt.Title(title, subtitle=subtitle))

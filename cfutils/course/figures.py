"""Figures of one notebook: tower, histograms of scores, panel, norm lab; titles as in `charts`."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cfutils.charts import ACCENT, MUTED, PALETTE, log_counts

if TYPE_CHECKING:
    from cfutils.softmax import SoftmaxModel


def series() -> pd.DataFrame:
    """The notebooks: `title` and the `seconds` that each took when last measured, by name.

    They lie beside the package in its repository, or where this runs; the frame is empty elsewhere.
    """
    repository = pathlib.Path(__file__).resolve().parents[2] / "notebooks"
    for folder in (repository, pathlib.Path.cwd()):
        times = folder / "run_times.json"
        if times.is_file():
            cells = {
                path.stem: json.loads(path.read_text("utf-8"))["cells"][0]["source"]
                for path in sorted(folder.glob("[0-9]*.ipynb"))
            }
            titles = {name: cell[0].strip("# \n") for name, cell in cells.items()}
            seconds = pd.Series(json.loads(times.read_text()))
            return pd.DataFrame({"title": pd.Series(titles), "seconds": seconds})
    return pd.DataFrame(columns=["title", "seconds"])


def factorization(
    num_users: int, num_items: int, embedding_dim: int, *, title: str, subtitle: str = ""
) -> alt.LayerChart | alt.FacetChart:
    """Draws A ~ U V^T, the three of them to one scale, with their shapes."""
    N, M, d = num_users, num_items, embedding_dim
    gap, middle = M / 7, N / 2
    start = M + gap + d + gap  # of V, transposed
    shapes = {"A": (N, M), "U": (N, d), "V, transposed": (d, M)}
    boxes = pd.DataFrame(
        {
            "label": [f"{name}: {n:,} x {m:,}" for name, (n, m) in shapes.items()],
            "x": [0, M + gap, start],
            "x2": [M, M + gap + d, start + M],
            "y": [0, 0, middle - d / 2],
            "y2": [N, N, middle + d / 2],
        }
    )
    boxes["middle"], boxes["above"] = (boxes["x"] + boxes["x2"]) / 2, boxes["y"] - N / 40
    signs = pd.DataFrame({"sign": ["~", "x"], "x": [M + gap / 2, start - gap / 2], "y": middle})
    width = 700
    reach = alt.Scale(domain=[0, start + M], nice=False)
    x, down = alt.X("x:Q", axis=None, scale=reach), alt.Scale(domain=[N, -N / 8], nice=False)
    drawn = alt.Chart(boxes)
    tables = drawn.mark_rect(color="#e8f1f8", stroke=ACCENT).encode(
        x, alt.Y("y:Q", axis=None, scale=down), x2="x2", y2="y2"
    )
    labels = drawn.mark_text(baseline="bottom", fontSize=12)
    labels = labels.encode(alt.X("middle:Q", axis=None, scale=reach), y="above:Q", text="label:N")
    between = alt.Chart(signs).mark_text(fontSize=18).encode(x, y="y:Q", text="sign:N")
    height = round(width * N * 1.125 / (start + M))
    chart = alt.layer(tables, labels, between).properties(width=width, height=height)
    return chart.properties(title=alt.Title(title, subtitle=subtitle))


def tower(
    model: SoftmaxModel, *, title: str, subtitle: str = ""
) -> alt.LayerChart | alt.FacetChart:
    """Draws a `SoftmaxModel`: from a history to probabilities, with the shape of everything.

    Dashed lines lead from a table that is input and output to the two places where it is used.
    """
    levels = _tower_levels(model)
    boxes = [
        {"label": label, "shape": shape, "x": place, "y": -level}
        for level, row in enumerate(levels)
        for label, shape, place in row
    ]
    arrows = [
        {"x": above[2], "y": 0.74 - level, "x2": below[2], "y2": 0.26 - level}
        for level in range(1, len(levels))
        for above in levels[level - 1]
        for below in levels[level]
    ]
    middle = levels[0][0][2]
    reach = alt.Scale(domain=[min(-0.5, middle - 1.5), max(2 * middle + 0.5, middle + 1.5)])
    x, y = alt.X("x:Q", axis=None, scale=reach), alt.Y("y:Q", axis=None)
    joined = alt.Chart(pd.DataFrame(arrows)).mark_rule(color="#777").encode(x, y, x2="x2", y2="y2")
    if model.tied:  # the table beside the layers, with its uses: in the bag and for the scores
        across, down, scores = middle - 1, -len(levels) / 2 + 0.5, len(levels) - 2
        label, shape = "V, one table", f"[{model.num_items:,}, {model.embedding_dim}]"
        boxes.append({"label": label, "shape": shape, "x": across, "y": down})
        used = [{"x2": 0.0, "y2": -1}, {"x2": middle - 0.46, "y2": -scores}]
        shared = pd.DataFrame(used).assign(x=across, y=down)
        dashed = alt.Chart(shared).mark_rule(color=ACCENT, strokeDash=[5, 3], strokeWidth=2)
        joined += dashed.encode(x, y, x2="x2", y2="y2")
    text = alt.Chart(pd.DataFrame(boxes)).encode(x, y)
    boxed = text.transform_calculate(
        left="datum.x - 0.46", right="datum.x + 0.46", low="datum.y - 0.26", high="datum.y + 0.26"
    ).mark_rect(cornerRadius=5, color="#e8f1f8", stroke=ACCENT)
    left, low = alt.X("left:Q", axis=None, scale=reach), alt.Y("low:Q", axis=None)
    boxed = boxed.encode(left, low, x2="right:Q", y2="high:Q")
    labels = text.mark_text(dy=-7, fontSize=12).encode(text="label:N")
    shapes = text.mark_text(dy=9, fontSize=11, color="#555").encode(text="shape:N")
    chart = alt.layer(joined, boxed, labels, shapes)
    title_ = alt.Title(title, subtitle=subtitle)
    return chart.properties(width=520, height=64 * len(levels), title=title_)


def _tower_levels(model: SoftmaxModel) -> list[list[tuple[str, str, float]]]:
    """The boxes (label, shape, place across) of a tower, level by level, the history at the top."""
    features = dict(model.input_dims)
    own = "mean of V's rows" if model.tied else "mean of item"
    inputs = [
        (own if name == "item" else f"mean of {name}", f"[n, {units}]", float(place))
        for place, (name, units) in enumerate(features.items())
    ]
    steps = [("hidden layer, relu", units) for units in model.hidden_dims]
    if len(features) > 1:
        steps.insert(0, ("concatenated", sum(features.values())))
    if steps:
        steps.append(("psi(x), by a projection", model.embedding_dim))
    steps += [("scores: dot products with V", model.num_items), ("softmax: p(x)", model.num_items)]
    middle = (len(features) - 1) / 2
    below = [[(label, f"[n, {units:,}]", middle)] for label, units in steps]
    return [[("history x", f"[n, {model.num_items:,}]", middle)], inputs, *below]


def score_histograms(
    scores: Mapping[str, ArrayLike] | Mapping[str, Mapping[str, ArrayLike]],
    *,
    title: str,
    x_title: str,
    bins: int = 60,
    domain: tuple[float, float] | None = None,
    subtitle: str = "",
) -> alt.LayerChart | alt.FacetChart:
    """Distributions of scores, one colour per group, one panel per model.

    Scores may be many millions: they are binned here, and the chart carries the bins only.

    Args:
        scores: {group: scores}, or {panel: {group: scores}} for several panels side by side.
            Scores are arrays of any shape; colours follow the order of the first panel.
        x_title: title of the x axis, with its unit.
        bins: number of bins, which all groups and panels share.
        domain: lowest and highest score drawn; None for those of all scores. A density is the
            share of all scores of its group per unit, those beyond the domain included.

    Raises: ValueError if a group has no scores, or one that is not finite.
    """
    data = _densities(scores, bins, domain)
    groups, panels = list(data["group"].unique()), list(data["panel"].unique())
    colors = alt.Scale(domain=groups, range=list(PALETTE[: len(groups)]))
    base = alt.Chart().encode(
        y=alt.Y("density:Q", title="density (share per unit of score)", stack=None),
        color=alt.Color("group:N", title=None, scale=colors),
    )
    share = alt.Tooltip("share:Q", title="share of the scores", format=".2%")
    across = alt.X("from:Q", title=x_title, bin="binned")
    bars = base.mark_bar(opacity=0.45, binSpacing=0)
    bars = bars.encode(across, x2="to:Q", tooltip=["group:N", "from:Q", "to:Q", share])
    outlines = base.mark_line(interpolate="step-after", strokeWidth=1.5).encode(x="from:Q")
    chart = alt.layer(bars, outlines, data=data)
    if len(panels) > 1:
        chart = chart.properties(width=260, height=220)
        chart = chart.facet(column=alt.Column("panel:N", title=None, sort=panels))
    return chart.properties(title=alt.Title(title, subtitle=subtitle))


def _densities(scores: Mapping, bins: int, domain: tuple[float, float] | None) -> pd.DataFrame:
    """One row per panel, group and bin: panel, group, from, to, share, density."""
    panels = scores if isinstance(next(iter(scores.values())), Mapping) else {"": scores}
    flat = [
        (panel, group, np.ravel(values))
        for panel, groups in panels.items()
        for group, values in groups.items()
    ]
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
    parts = []
    for panel, group, values in flat:
        shares = np.histogram(values, edges)[0] / len(values)
        columns = {"from": edges[:-1], "to": edges[1:], "share": shares}
        part = pd.DataFrame({**columns, "density": shares / np.diff(edges)})
        part = part.map(lambda value: float(f"{value:.4g}"))
        parts.append(part.assign(panel=panel, group=group))
    return pd.concat(parts, ignore_index=True)


def panel_picture(
    ratings: Mapping[int | str, float], recommended: pd.DataFrame, *, title: str, subtitle: str = ""
) -> alt.HConcatChart:
    """What a `RatingPanel` shows, as a picture: your ratings from 1 to 5, and your list.

    Args:
        ratings: {title: rating}.
        recommended: a frame of `recommend(..., ratings=ratings)`.
    """
    buttons = [
        {"title": str(name), "stars": stars, "chosen": stars == rating}
        for name, rating in ratings.items()
        for stars in range(1, 6)
    ]
    plain: Any = {"domain": False, "ticks": False, "labelLimit": 240, "labelFontSize": 12}
    base = alt.Chart(pd.DataFrame(buttons)).encode(
        x=alt.X("stars:O", axis=None),
        y=alt.Y("title:N", title=None, sort=None, axis=alt.Axis(**plain)),
    )
    boxes = base.mark_square(size=360, opacity=1)
    boxes = boxes.encode(
        color=alt.when("datum.chosen").then(alt.value(PALETTE[5])).otherwise(alt.value("#e4e4e4"))
    )
    digits = base.mark_text(fontSize=12).encode(text="stars:O")
    own = alt.layer(boxes, digits).properties(width=130, height=24 * len(ratings))
    lines = recommended[["title", "because"]].reset_index(names="rank")
    ranks = alt.Y("rank:O", title=None, axis=alt.Axis(**plain))
    listed = alt.Chart(lines).encode(ranks).mark_text(align="left", fontSize=12, limit=225)
    columns = [
        listed.encode(x=alt.value(4), text="title:N"),
        listed.encode(x=alt.value(236), text="because:N", color=alt.value("#666")),
    ]
    best = alt.layer(*columns).properties(width=440, height=24 * len(lines))
    heads = ("Your ratings", "Recommended for you, and because of which rating")
    small = [alt.Title(head, fontSize=12) for head in heads]
    titled = [part.properties(title=head) for part, head in zip((own, best), small, strict=True)]
    return alt.hconcat(*titled, spacing=30, title=alt.Title(title, subtitle=subtitle))


def norm_lab(
    items: pd.DataFrame,
    lists: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    title: str,
    subtitle: str = "",
) -> alt.HConcatChart:
    """A slider for alpha in the scores <u, v> / |v|^alpha, and what it does to one user's list.

    Beside the list at the chosen alpha are the measures along all alphas, with the chosen one
    marked, and norm against number of ratings, the list's items coloured.

    Args:
        items: one row per item: `item_id`, `title`, `num_ratings`, `norm` (its length).
        lists: one row per alpha and rank: `alpha`, `rank`, `item_id`.
        curves: one row per alpha, in equal steps: `alpha` and a column per measure, named as the
            axis shall be.
    """
    alphas = sorted(curves["alpha"])
    step = round(alphas[1] - alphas[0], 4)
    slider = alt.binding_range(min=alphas[0], max=alphas[-1], step=step, name="alpha ")
    alpha = alt.param(name="alpha", value=alphas[0], bind=slider)
    here = alt.expr.abs(alt.datum.alpha - alpha) < 1e-3
    items = items[["item_id", "title", "num_ratings", "norm"]]
    items = items.assign(norm=items["norm"].astype(float).round(3))
    listed = lists[["alpha", "rank", "item_id"]].merge(items, on="item_id").drop(columns="item_id")
    chosen = alt.Chart(listed).transform_filter(here)
    names = chosen.transform_calculate(line="datum.title + ' (' + datum.num_ratings + ')'")
    ranks = alt.Y("rank:O", title=None, axis=alt.Axis(domain=False, ticks=False))
    names = names.mark_text(align="left", fontSize=12, limit=310)
    names = names.encode(ranks, x=alt.value(4), text="line:N")
    names = names.properties(width=310, height=260, title="Top ten (number of ratings)")
    measures = [_measure(curves, name, here) for name in curves if name != "alpha"]
    layers = [
        log_counts(chart, title="ratings (log)").encode(
            y=alt.Y("norm:Q", title="norm"), tooltip=["title:N", "num_ratings:Q", "norm:Q"]
        )
        for chart in (
            alt.Chart(items.drop(columns="item_id")).mark_circle(size=14, color=MUTED),
            chosen.mark_circle(size=70, color=PALETTE[1], opacity=1),
        )
    ]
    cloud = alt.layer(*layers).properties(width=230, height=260, title="Where these items lie")
    chart = alt.hconcat(names, alt.vconcat(*measures), cloud).add_params(alpha)
    return chart.properties(title=alt.Title(title, subtitle=subtitle))


def _measure(curves: pd.DataFrame, name: str, here: Any) -> alt.LayerChart | alt.FacetChart:
    """A measure along alpha, and a dot where the slider stands."""
    # Vega would read a dot or a bracket in a name as a path: the name is a title alone.
    data = curves[["alpha", name]].set_axis(["alpha", "value"], axis=1).round(4)
    base = alt.Chart(data).encode(
        x=alt.X("alpha:Q", title="alpha", axis=alt.Axis(format=".1f")),
        y=alt.Y("value:Q", title=name, scale=alt.Scale(zero=False)),
        tooltip=["alpha:Q", alt.Tooltip("value:Q", title=name)],
    )
    dot = base.transform_filter(here).mark_circle(size=110, color=PALETTE[1], opacity=1)
    return alt.layer(base.mark_line(), dot).properties(width=190, height=62)

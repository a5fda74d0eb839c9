"""Notebooks, charts and the panel of own ratings in a real JupyterLab and browser, offline."""

import contextlib
import itertools
import json
import re

import nbformat
import pytest
from driving import (
    ACCENT,
    GREY,
    MARKERS,
    NOTEBOOKS,
    ORANGE,
    SCREENSHOTS,
    check_slicing,
    number_of_charts,
    wait_for_charts,
)
from playwright.sync_api import expect

pytestmark = MARKERS

OPEN = ".jp-NotebookPanel:not(.lm-mod-hidden)"
CHARTS = """
import pandas as pd, numpy as np
from sklearn.decomposition import TruncatedSVD
import cfutils as cf

cf.charts.enable()
data = cf.load_movielens()
svd = TruncatedSVD(20, random_state=0).fit(data.interactions(binary=False))
V = {"few": svd.components_.T[:, :4], "many": svd.components_.T}
items = data.items[["item_id", "title", "genres"]].join(data.item_stats()["num_ratings"])
frame = pd.concat([items.assign(model=name, norm=np.linalg.norm(v, axis=1))
                   for name, v in V.items()])
display(cf.charts.norms(frame, title="Norm and popularity"))
on_map = items.assign(x=V["many"][:, 0], y=V["many"][:, 1])
cf.charts.embedding_map(on_map, title="Two directions of the movies", trust="0.9")
"""
PANEL = """
import cfutils as cf

data = cf.load_movielens()
model = cf.CFModel(data, 20, l2_coeff=0.1, gravity_coeff=1.0, seed=0)
model.train_als(data, num_iterations=10)
cf.RatingPanel(model, data)
"""


# A notebook in a tab of its own, with its kernel (asked for before, JupyterLab asks which).
OPENING = """async path => {
  const panel = await jupyterapp.commands.execute("docmanager:open", {path});
  await Promise.all([panel.revealed, panel.sessionContext.ready]);
  jupyterapp.shell.activateById(panel.id);
}"""
CLOSING = """async path => {
  for (const panel of [...jupyterapp.shell.widgets("main")]) {
    if (panel.context?.path !== path) continue;
    await panel.sessionContext.shutdown();
    panel.dispose();  // and do not ask whether to save
  }
}"""


@contextlib.contextmanager
def opened(lab, name):
    lab.evaluate(OPENING, name)
    lab.wait_for_selector(f"{OPEN} .jp-Cell")
    try:
        yield lab.locator(OPEN)
    finally:
        lab.evaluate(CLOSING, name)


@contextlib.contextmanager
def run(lab, folder, name, source):
    """A new notebook of one cell, run by the kernel that JupyterLab starts."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source.strip())])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "3", "language": "python"}
    nbformat.write(notebook, folder / "notebooks" / name)
    with opened(lab, name) as found:
        lab.evaluate("async () => { await jupyterapp.commands.execute('notebook:run-all-cells'); }")
        error = found.locator('[data-mime-type="application/vnd.jupyter.error"]')
        done = found.locator(".jp-InputPrompt", has_text="[1]:")
        expect(error.or_(done).first).to_be_attached(timeout=120_000)
        assert error.all_inner_texts() == []
        yield found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_jupyterlab_draws_the_committed_charts_offline(lab, path):
    with opened(lab, path.name) as notebook:
        wait_for_charts(lab, f"{OPEN} .vega-embed", number_of_charts(path))
        if path == NOTEBOOKS[0]:
            chart = notebook.locator(".vega-embed").first
            chart.scroll_into_view_if_needed()
            check_slicing(chart)
        lab.screenshot(path=SCREENSHOTS / f"jupyterlab_{path.stem[:2]}.png")


def own_titles(panel):
    return panel.get_by_role("button", name="Remove").evaluate_all(
        "buttons => buttons.map(button => button.title)"
    )


def test_the_panel_takes_ratings_recommends_and_survives_a_restart(lab, lab_folder):
    rated = {"Star Wars (1977)": 5, "Alien (1979)": 4, "Pretty Woman (1990)": 1}
    with run(lab, lab_folder, "panel.ipynb", PANEL) as notebook:
        panel = notebook.locator(".cfutils-panel")
        panel.scroll_into_view_if_needed()
        for title, stars in rated.items():
            panel.locator('input[type="text"]').fill(title[:8].lower())
            panel.locator(f'button[title="Rate {title}: {stars}"]').click()
            expect(panel.locator(f'button[title="Remove {title}"]')).to_be_visible()
        jedi = panel.locator("tr", has_text="Return of the Jedi")
        expect(jedi).to_contain_text("Star Wars (1977)")
        expect(panel.locator("tr")).to_have_count(11)
        expect(panel).to_contain_text("3 ratings saved in")
        assert own_titles(panel) == [f"Remove {title}" for title in rated]
        content = json.loads((lab_folder / "notebooks" / "my_ratings.json").read_text())
        assert [(row["title"], row["rating"]) for row in content] == [*rated.items()]
        panel.screenshot(path=SCREENSHOTS / "panel.png")

        lab.evaluate("void jupyterapp.commands.execute('notebook:restart-run-all')")
        lab.get_by_role("button", name="Confirm Kernel Restart").click()
        expect(panel).to_contain_text("3 ratings read from", timeout=120_000)
        assert own_titles(panel) == [f"Remove {title}" for title in rated]
        expect(jedi).to_contain_text("Star Wars (1977)")
        panel.locator('button[title="Remove Alien (1979)"]').click()
        expect(panel).to_contain_text("2 ratings saved in")
        panel.locator('input[type="text"]').fill("zzzz")
        expect(panel).to_contain_text("Closest")
        panel.screenshot(path=SCREENSHOTS / "panel_restarted.png")


@pytest.fixture(scope="module")
def charts(lab, lab_folder):
    """The charts of a notebook that was just run: norms and a map."""
    with run(lab, lab_folder, "charts.ipynb", CHARTS) as notebook:
        wait_for_charts(lab, f"{OPEN} .vega-embed", 2)
        yield notebook.locator(".vega-embed")


# Fill, opacity, centre (in pixels of the page) and text of the points of a mark group, in order.
POINTS = """paths => paths.map(path => {
  const box = path.getBoundingClientRect();
  return {fill: path.getAttribute("fill"), opacity: +(path.getAttribute("opacity") ?? 1),
          x: box.x + box.width / 2, y: box.y + box.height / 2,
          text: path.getAttribute("aria-label")};
})"""


def symbols(chart, layer):
    return chart.locator("g.mark-symbol.role-mark").nth(layer).locator("path")


def points(chart, layer):
    return symbols(chart, layer).evaluate_all(POINTS)


def blue(points):
    return {number for number, point in enumerate(points) if point["fill"] == ACCENT}


def check_tip(lab, point, text):
    lab.mouse.move(point["x"], point["y"])
    expect(lab.locator("#vg-tooltip-element")).to_contain_text(text)


def click_genre(chart, name, **options):
    """On its row in the list: what takes its clicks."""
    rows = chart.locator("g.mark-rect.role-mark path")
    rows.and_(chart.page.locator(f'[aria-label*="{name}"]')).last.click(**options)


def test_brushing_one_panel_of_norms_highlights_the_same_movies_in_the_other(lab, charts):
    norms = charts.nth(0)
    norms.scroll_into_view_if_needed()
    before = points(norms, 0)
    assert len(before) == len(blue(before)) == len(blue(points(norms, 1))) == 1682
    star_wars = next(point for point in before if "Star Wars (1977)" in point["text"])
    check_tip(lab, star_wars, "Star Wars (1977)")
    left, top = star_wars["x"] - 60, star_wars["y"] - 15
    right, bottom = star_wars["x"] + 8, star_wars["y"] + 60
    lab.mouse.move(left, top)
    lab.mouse.down()
    lab.mouse.move(right, bottom, steps=5)
    lab.mouse.up()
    grey = lab.locator(f'path[fill="{GREY}"]')
    expect(symbols(norms, 1).and_(grey).first).to_be_attached()
    inside = {
        number
        for number, point in enumerate(before)
        if left + 1 < point["x"] < right - 1 and top + 1 < point["y"] < bottom - 1
    }
    chosen = blue(points(norms, 0))
    assert inside <= chosen  # and those on the edge
    assert 3 < len(chosen) < 400
    assert chosen == blue(points(norms, 1))
    norms.screenshot(path=SCREENSHOTS / "norms_brushed.png")


def test_a_genre_click_colours_its_movies_and_fades_the_rest(lab, charts):
    map_ = charts.nth(1)
    map_.scroll_into_view_if_needed()
    everything = points(map_, 0)
    assert len(everything) == len(blue(everything)) == 1682
    assert points(map_, 1) == []
    lonely = max(everything, key=lambda point: point["x"])
    check_tip(lab, lonely, re.search(r"title: (.*?); genres", lonely["text"])[1])
    click_genre(map_, "Horror")
    colored = symbols(map_, 1)
    expect(colored).to_have_count(92)
    assert {(point["fill"], point["opacity"]) for point in points(map_, 0)} == {(GREY, 0.4)}
    assert {point["fill"] for point in points(map_, 1)} == {ACCENT}
    click_genre(map_, "Fantasy", modifiers=["Shift"])
    # 22 fantasies, those among them that are horror stay blue
    expect(colored.and_(lab.locator(f'path[fill="{ORANGE}"]')).first).to_be_attached()
    both = points(map_, 1)
    assert all({ACCENT: "Horror", ORANGE: "Fantasy"}[p["fill"]] in p["text"] for p in both)
    assert len(blue(both)) == 92
    map_.screenshot(path=SCREENSHOTS / "map_genres.png")


def test_the_search_finds_a_movie_by_literal_text(charts):
    map_ = charts.nth(1)
    box, rings = map_.locator('input[type="search"]'), symbols(map_, 2)
    for text, number in (("STAR WARS", 1), ("(1922)", 1), (".*", 0)):  # nothing is a pattern
        box.fill(text)
        expect(rings).to_have_count(number)
    box.fill("star")
    titles = map_.locator("svg g.mark-text text", has_text=re.compile("star", re.I))
    expect(titles).to_have_count(24)  # the 12 most rated, each with its halo
    tops = sorted(titles.nth(number).bounding_box()["y"] for number in range(12, 24))
    assert all(low + 13 < high for low, high in itertools.pairwise(tops))  # none overlap
    map_.screenshot(path=SCREENSHOTS / "map_search.png")

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
CHARTS = [
    """
import pandas as pd, numpy as np
from sklearn.decomposition import TruncatedSVD
import cfutils as cf

cf.charts.enable()
data = cf.load_movielens()
svd = TruncatedSVD(20, random_state=0).fit(data.interactions(binary=False))
V = {"few": svd.components_.T[:, :4], "many": svd.components_.T}
items = data.items[["item_id", "title", "genres"]].join(data.item_stats()["num_ratings"])
""",
    """
frame = pd.concat([items.assign(model=name, norm=np.linalg.norm(v, axis=1))
                   for name, v in V.items()])
cf.charts.norms(frame, title="Norm and popularity")
""",
    """
on_map = items.assign(x=V["many"][:, 0], y=V["many"][:, 1])
cf.charts.embedding_map(on_map, title="Two directions of the movies", trust="0.9")
""",
]
PANEL = [
    """
import cfutils as cf

data = cf.load_movielens()
model = cf.CFModel(data, 20, l2_coeff=0.1, gravity_coeff=1.0, seed=0)
model.train_als(data, num_iterations=10);
""",
    "cf.RatingPanel(model, data)",
]


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
RUNNING = "async name => { await jupyterapp.commands.execute(name); }"


@contextlib.contextmanager
def opened(lab, name):
    lab.evaluate(OPENING, name)
    lab.wait_for_selector(f"{OPEN} .jp-Cell")
    try:
        yield lab.locator(OPEN)
    finally:
        lab.evaluate(CLOSING, name)


@contextlib.contextmanager
def run(lab, folder, name, sources):
    """A new notebook, run from top to bottom by the kernel that JupyterLab starts."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source.strip()) for source in sources]
    )
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "3", "language": "python"}
    nbformat.write(notebook, folder / "notebooks" / name)
    with opened(lab, name) as found:
        lab.evaluate(RUNNING, "notebook:run-all-cells")
        error = found.locator('[data-mime-type="application/vnd.jupyter.error"]')
        done = found.locator(".jp-InputPrompt", has_text=f"[{len(sources)}]:")
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


def points(chart, layer):
    """Fill, centre (in pixels of the page) and text of the points of one mark group, in order."""
    return (
        chart.locator("g.mark-symbol.role-mark")
        .nth(layer)
        .locator("path")
        .evaluate_all(
            """paths => paths.map(path => {
                const box = path.getBoundingClientRect();
                return {fill: path.getAttribute("fill"),
                        opacity: +(path.getAttribute("opacity") ?? 1),
                        x: box.x + box.width / 2, y: box.y + box.height / 2,
                        text: path.getAttribute("aria-label")};
            })"""
        )
    )


def blue(points):
    return {number for number, point in enumerate(points) if point["fill"] == ACCENT}


def hover(lab, point):
    lab.mouse.move(point["x"], point["y"])
    tip = lab.locator("#vg-tooltip-element")
    expect(tip).to_be_visible()
    return tip


def genre(chart, name):
    """The row of a genre in the list: what takes its clicks."""
    return (
        chart.locator("g.mark-rect.role-mark path")
        .and_(chart.page.locator(f'[aria-label*="{name}"]'))
        .last
    )


def test_brushing_one_panel_of_norms_highlights_the_same_movies_in_the_other(lab, charts):
    norms = charts.nth(0)
    norms.scroll_into_view_if_needed()
    before = points(norms, 0)
    assert len(before) == len(blue(before)) == len(blue(points(norms, 1))) == 1682
    star_wars = next(point for point in before if "Star Wars (1977)" in point["text"])
    expect(hover(lab, star_wars)).to_contain_text("Star Wars (1977)")
    left, top = star_wars["x"] - 60, star_wars["y"] - 15
    right, bottom = star_wars["x"] + 8, star_wars["y"] + 60
    lab.mouse.move(left, top)
    lab.mouse.down()
    lab.mouse.move(right, bottom, steps=5)
    lab.mouse.up()
    other = norms.locator("g.mark-symbol.role-mark").nth(1)
    expect(other.locator(f'path[fill="{GREY}"]').first).to_be_attached()
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
    title = re.search(r"title: (.*?); genres", lonely["text"])[1]
    expect(hover(lab, lonely)).to_contain_text(title)
    genre(map_, "Horror").click()
    colored = map_.locator("g.mark-symbol.role-mark").nth(1).locator("path")
    expect(colored).to_have_count(92)
    faded = points(map_, 0)
    assert {(point["fill"], point["opacity"]) for point in faded} == {(GREY, 0.4)}
    assert {point["fill"] for point in points(map_, 1)} == {ACCENT}
    genre(map_, "Fantasy").click(modifiers=["Shift"])
    # 22 fantasies, those among them that are horror stay blue
    expect(colored.and_(lab.locator(f'path[fill="{ORANGE}"]')).first).to_be_attached()
    both = points(map_, 1)
    assert all("Fantasy" in p["text"] for p in both if p["fill"] == ORANGE)
    assert all("Horror" in p["text"] for p in both if p["fill"] == ACCENT)
    assert len(blue(both)) == 92
    map_.screenshot(path=SCREENSHOTS / "map_genres.png")


def test_the_search_finds_a_movie_by_literal_text(charts):
    map_ = charts.nth(1)
    box = map_.locator('input[type="search"]')
    box.fill("STAR WARS")
    rings = map_.locator("g.mark-symbol.role-mark").nth(2).locator("path")
    expect(rings).to_have_count(1)
    expect(map_.locator("svg text", has_text="Star Wars (1977)").first).to_be_visible()
    box.fill("star")
    titles = map_.locator("svg g.mark-text text", has_text=re.compile("star", re.I))
    expect(titles).to_have_count(24)  # the 12 most rated, each with its halo
    tops = sorted(titles.nth(number).bounding_box()["y"] for number in range(12, 24))
    assert all(low + 13 < high for low, high in itertools.pairwise(tops))  # none overlap
    map_.screenshot(path=SCREENSHOTS / "map_search.png")
    box.fill("(1922)")  # brackets are text; nothing is a pattern
    expect(rings).to_have_count(1)
    box.fill(".*")
    expect(rings).to_have_count(0)

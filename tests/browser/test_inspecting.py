"""The inspection charts and the panel of own ratings, with a real kernel, offline."""

import itertools
import re

import nbformat
import pytest
from driving import MARKERS, SCREENSHOTS, open_notebook, run_all
from playwright.sync_api import expect

pytestmark = MARKERS

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#c9c9c9"
CELLS = [
    """
import pandas as pd, numpy as np
from sklearn.decomposition import PCA
from cfutils import charts
from cfutils.data import load_movielens, rating_stats
from cfutils.factorization import CFModel, ratings_tensor
from cfutils.panel import RatingPanel

charts.enable()
data = load_movielens()
A = ratings_tensor(data.ratings, data.num_users, data.num_items)
models = {}
for name, gravity_coeff in {"l2 only": 0.0, "regularized": 1.0}.items():
    model = CFModel(943, 1682, 20, l2_coeff=0.1, gravity_coeff=gravity_coeff, seed=0)
    model.train_als(A, num_iterations=10)
    models[name] = model
stats = rating_stats(data.ratings, "movie_id", data.num_items)
movies = data.movies[["movie_id", "title", "genres"]].assign(num_ratings=stats["num_ratings"])
""",
    """
frame = pd.concat([movies.assign(model=name, norm=np.linalg.norm(model.item_embeddings, axis=1))
                   for name, model in models.items()])
charts.norms(frame, title="Norm and popularity")
""",
    """
def on_map(name):
    x, y = PCA(2, random_state=0).fit_transform(models[name].item_embeddings).T
    return movies.assign(model=name, x=x, y=y)
charts.embedding_map(on_map("regularized"), title="Two main directions of the movies",
                     trust="trustworthiness 0.9 of 1")
""",
    """
maps = pd.concat([on_map(name) for name in models])
charts.embedding_map(maps, title="Two models", panel="model", highlight=["Horror", "Children's"],
                     trust={name: "trustworthiness 0.9 of 1" for name in models})
""",
    """
seen = np.zeros((943, 1682), bool)
seen[data.ratings["user_id"], data.ratings["movie_id"]] = True
scores = {name: model.user_embeddings @ model.item_embeddings.T for name, model in models.items()}
charts.score_histograms({name: {"rated": part[seen], "not rated": part[~seen]}
                         for name, part in scores.items()},
                        title="Scores of rated and unrated pairs", x_title="score", domain=(-2, 6))
""",
    "RatingPanel(models['regularized'], data, 'mine.csv')",
]


@pytest.fixture(scope="module")
def scratch(browser, lab, lab_folder):
    """A page with a notebook of all charts and the panel, run from top to bottom."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(c) for c in map(str.strip, CELLS)]
    )
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, lab_folder / "notebooks" / "scratch.ipynb")
    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(20_000)
    open_notebook(page, lab, "scratch.ipynb")
    run_all(page, len(CELLS))
    yield page
    context.close()


def chart(page, number):
    found = page.locator(".jp-Notebook .vega-embed").nth(number)
    found.scroll_into_view_if_needed()
    return found


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
    return {number for number, point in enumerate(points) if point["fill"] == BLUE}


def test_brushing_one_panel_of_norms_highlights_the_same_movies_in_the_other(scratch):
    norms = chart(scratch, 0)
    before = points(norms, 0)
    assert len(before) == 1682
    assert len(blue(before)) == len(blue(points(norms, 1))) == 1682
    star_wars = next(p for p in before if "Star Wars (1977)" in p["text"])
    scratch.mouse.move(star_wars["x"], star_wars["y"])
    tip = scratch.locator("#vg-tooltip-element")
    expect(tip).to_be_visible()
    expect(tip).to_contain_text("Star Wars (1977)")
    scratch.screenshot(path=SCREENSHOTS / "inspection_norms_hover.png")
    left, top = star_wars["x"] - 60, star_wars["y"] - 15
    right, bottom = star_wars["x"] + 8, star_wars["y"] + 60
    scratch.mouse.move(left, top)
    scratch.mouse.down()
    scratch.mouse.move(right, bottom, steps=5)
    scratch.mouse.up()
    other = norms.locator("g.mark-symbol.role-mark").nth(1)
    expect(other.locator(f'path[fill="{GREY}"]').first).to_be_attached()
    inside = {
        number
        for number, point in enumerate(before)
        if left + 1 < point["x"] < right - 1 and top + 1 < point["y"] < bottom - 1
    }
    chosen = blue(points(norms, 0))
    assert inside <= chosen  # and those on the edge
    assert 3 < len(chosen) < 200
    assert chosen == blue(points(norms, 1))
    norms.screenshot(path=SCREENSHOTS / "inspection_norms_brushed.png")


def test_a_genre_click_colours_its_movies_and_fades_the_rest(scratch):
    map_ = chart(scratch, 1)
    everything = points(map_, 0)
    assert len(everything) == len(blue(everything)) == 1682
    assert points(map_, 1) == []
    map_.screenshot(path=SCREENSHOTS / "inspection_map.png")
    rows = map_.locator("g.mark-rect.role-mark path")
    rows.and_(scratch.locator('[aria-label*="Horror"]')).last.click()
    expect(map_.locator("g.mark-symbol.role-mark").nth(1).locator("path")).to_have_count(92)
    faded = points(map_, 0)
    assert {(point["fill"], point["opacity"]) for point in faded} == {(GREY, 0.4)}
    assert {point["fill"] for point in points(map_, 1)} == {BLUE}
    rows.and_(scratch.locator('[aria-label*="Fantasy"]')).last.click(modifiers=["Shift"])
    orange = map_.locator("g.mark-symbol.role-mark").nth(1).locator(f'path[fill="{ORANGE}"]')
    # 22 fantasies, those among them that are horror stay blue
    expect(orange.first).to_be_attached()
    both = points(map_, 1)
    assert all("Fantasy" in p["text"] for p in both if p["fill"] == ORANGE)
    assert all("Horror" in p["text"] for p in both if p["fill"] == BLUE)
    assert len([p for p in both if p["fill"] == BLUE]) == 92
    map_.screenshot(path=SCREENSHOTS / "inspection_map_genres.png")


def test_the_search_finds_a_movie_by_literal_text(scratch):
    map_ = chart(scratch, 1)
    box = map_.locator('input[type="search"]')
    box.fill("STAR WARS")
    rings = map_.locator("g.mark-symbol.role-mark").nth(2).locator("path")
    expect(rings).to_have_count(1)
    expect(map_.locator("svg text", has_text="Star Wars (1977)").first).to_be_visible()
    box.fill("star")
    titles = map_.locator("svg g.mark-text text", has_text=re.compile("star", re.I))
    expect(titles).to_have_count(24)  # the 12 most rated, each with its halo
    boxes = sorted(box["y"] for box in [titles.nth(n).bounding_box() for n in range(12, 24)])
    assert all(low + 13 < high for low, high in itertools.pairwise(boxes))  # none overlap
    map_.screenshot(path=SCREENSHOTS / "inspection_map_search.png")
    box.fill("(1922)")  # brackets are text; nothing is a pattern
    expect(rings).to_have_count(1)
    box.fill(".*")
    expect(rings).to_have_count(0)
    box.fill("")


def test_hovering_the_map_shows_a_title(scratch):
    map_ = chart(scratch, 1)
    lonely = max(points(map_, 0), key=lambda point: point["x"])
    scratch.mouse.move(lonely["x"], lonely["y"])
    tip = scratch.locator("#vg-tooltip-element")
    expect(tip).to_be_visible()
    title = re.search(r"title: (.*?); genres", lonely["text"])[1]
    expect(tip).to_contain_text(title)
    scratch.mouse.move(5, 5)


def test_several_maps_share_the_clicked_genre(scratch):
    maps = chart(scratch, 2)
    for layer in (1, 4):  # each map has three groups of points
        assert {p["fill"] for p in points(maps, layer)} == {BLUE, ORANGE}
    maps.screenshot(path=SCREENSHOTS / "inspection_maps.png")
    rows = maps.locator("g.mark-rect.role-mark path")
    rows.and_(scratch.locator('[aria-label*="Western"]')).last.click()
    for layer in (1, 4):
        expect(maps.locator("g.mark-symbol.role-mark").nth(layer).locator("path")).to_have_count(27)
    maps.locator('input[type="search"]').fill("star wars")
    expect(maps.locator("svg text", has_text="Star Wars (1977)")).to_have_count(4)  # with halo
    chart(scratch, 3).screenshot(path=SCREENSHOTS / "inspection_scores.png")


def own_titles(panel):
    return panel.get_by_role("button", name="Remove").evaluate_all(
        "buttons => buttons.map(button => button.title)"
    )


def test_the_panel_takes_ratings_recommends_and_survives_a_restart(scratch, lab_folder):
    panel = scratch.locator(".cfutils-panel")
    panel.scroll_into_view_if_needed()
    for text, title, stars in (
        ("star wars", "Star Wars (1977)", 5),
        ("alien", "Alien (1979)", 4),
        ("pretty w", "Pretty Woman (1990)", 1),
    ):
        panel.locator('input[type="text"]').fill(text)
        panel.locator(f'button[title="Rate {title}: {stars}"]').click()
        expect(panel.locator(f'button[title="Remove {title}"]')).to_be_visible()
    expect(panel.locator("tr", has_text="Return of the Jedi")).to_contain_text("Star Wars (1977)")
    expect(panel.locator("tr")).to_have_count(11)
    expect(panel).to_contain_text("3 ratings saved in")
    rated = ["Star Wars (1977)", "Alien (1979)", "Pretty Woman (1990)"]
    assert own_titles(panel) == [f"Remove {title}" for title in rated]
    lines = (lab_folder / "notebooks" / "mine.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines] == ["title", *rated]
    panel.screenshot(path=SCREENSHOTS / "panel.png")

    scratch.get_by_role("menuitem", name="Kernel", exact=True).click()
    scratch.get_by_role("menuitem", name=re.compile("^Restart Kernel and Run All")).click()
    scratch.get_by_role("button", name="Confirm Kernel Restart").click()
    panel = scratch.locator(".cfutils-panel")
    expect(panel).to_contain_text("3 ratings read from", timeout=90_000)
    assert own_titles(panel) == [f"Remove {title}" for title in rated]
    expect(panel.locator("tr", has_text="Return of the Jedi")).to_contain_text("Star Wars (1977)")
    panel.locator('button[title="Remove Alien (1979)"]').click()
    expect(panel).to_contain_text("2 ratings saved in")
    panel.locator('input[type="text"]').fill("zzzz")
    expect(panel).to_contain_text("Closest")
    panel.scroll_into_view_if_needed()
    panel.screenshot(path=SCREENSHOTS / "panel_restarted.png")

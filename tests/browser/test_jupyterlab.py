"""The notebooks in a real JupyterLab, and the pages of `make run`, in a real browser, offline."""

import re
import sys

import nbformat
import pytest
from driving import MARKERS, ROOT, SCREENSHOTS, open_notebook, run_all
from playwright.sync_api import expect

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
VEGALITE = "application/vnd.vegalite.v5+json"
MARKS = "svg g.mark-rect.role-mark path, svg g.mark-symbol.role-mark path, svg .mark-line path"

pytestmark = MARKERS


def number_of_charts(path):
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return sum(VEGALITE in output.get("data", {}) for output in outputs)


def check_charts(charts, number):
    expect(charts).to_have_count(number, timeout=20_000)
    for index in range(number):
        expect(charts.nth(index).locator(MARKS).nth(1)).to_be_attached()


def marks(chart, color):
    """What the histograms' bars of one colour stand for: bin, count and share."""
    return chart.locator(f'path[fill="{color}"][aria-label*="; from:"]').evaluate_all(
        "paths => paths.map(path => path.getAttribute('aria-label'))"
    )


def check_slicing(page, chart):
    """A click on an occupation changes the blue bars of the histograms, and not the grey ones."""
    blue, grey = "#0072B2", "#c9c9c9"
    blue_before, grey_before = marks(chart, blue), marks(chart, grey)
    chart.locator('path[aria-label*="technician"]').click()
    expect(chart.locator(f'path[aria-label*="technician"][fill="{blue}"]')).to_be_visible()
    expect(chart.locator(f'path[aria-label*="student"][fill="{grey}"]')).to_be_visible()
    blue_after, grey_after = marks(chart, blue), marks(chart, grey)
    assert blue_after != blue_before
    assert grey_after == grey_before
    chart.locator('path[aria-label*="student"]').click(modifiers=["Shift"])
    expect(chart.locator(f'path[aria-label*="student"][fill="{blue}"]')).to_be_visible()
    expect(chart.locator(f'path[aria-label*="technician"][fill="{blue}"]')).to_be_visible()
    assert marks(chart, blue) != blue_after


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_jupyterlab_draws_the_committed_charts_offline(page, lab, path):
    open_notebook(page, lab, path.name)
    charts = page.locator(".jp-Notebook .vega-embed")
    check_charts(charts, number_of_charts(path))
    for index in range(charts.count()):
        name = f"jupyterlab_{path.stem[:2]}_chart_{index + 1}.png"
        charts.nth(index).screenshot(path=SCREENSHOTS / name)


def test_jupyterlab_slices_histograms_by_a_click(page, lab):
    open_notebook(page, lab, "01_eda.ipynb")
    chart = page.locator(".jp-Notebook .vega-embed").first
    check_charts(page.locator(".jp-Notebook .vega-embed"), number_of_charts(NOTEBOOKS[0]))
    chart.scroll_into_view_if_needed()
    check_slicing(page, chart)
    page.screenshot(path=SCREENSHOTS / "jupyterlab_01_sliced.png")


def test_jupyterlab_runs_the_notebook_with_its_own_kernel(page, lab):
    path = ROOT / "notebooks" / "01_eda.ipynb"
    open_notebook(page, lab, f"blank_{path.name}")
    assert page.locator(".jp-Notebook .vega-embed").count() == 0
    cells = nbformat.read(path, as_version=4).cells
    shown = [cell for cell in cells if "solution" not in cell.metadata.get("tags", [])]
    last = sum(cell.cell_type == "code" for cell in shown)
    run_all(page, last)
    check_charts(page.locator(".jp-Notebook .vega-embed"), number_of_charts(path))
    page.screenshot(path=SCREENSHOTS / "jupyterlab_01_run.png")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of the committed notebooks, without running them again."""
    sys.path.insert(0, str(ROOT / "tools"))
    import run

    output = tmp_path_factory.mktemp("site")
    done = {path.stem: (nbformat.read(path, as_version=4), 1) for path in NOTEBOOKS}
    run.write_site(done, {path.stem: run.read_title(path) for path in NOTEBOOKS}, output)
    return output


def test_pages_are_whole_and_interactive_without_a_network(page, site):
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(request.url))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "data:")) else problems.append(request.url)
        ),
    )
    page.goto(f"{site}/index.html".replace("/", "file:///", 1))
    page.screenshot(path=SCREENSHOTS / "index.png")
    links = page.locator("main a").evaluate_all("links => links.map(link => link.href)")
    names = [path.stem for path in NOTEBOOKS]
    assert [re.search(r"(\w+)\.html", link)[1] for link in links] == names
    for link, name in zip(links, names, strict=True):
        page.goto(link)
        number = number_of_charts(ROOT / "notebooks" / f"{name}.ipynb")
        check_charts(page.locator(".chart.vega-embed"), number)
        assert not any("$" in text for text in page.locator("main p").all_inner_texts())
    page.goto(links[0])
    check_slicing(page, page.locator(".chart.vega-embed").first)
    page.screenshot(path=SCREENSHOTS / "page_01.png")
    assert problems == []


def test_pages_fit_a_phone(browser, site):
    context = browser.new_context(viewport={"width": 390, "height": 844})
    phone = context.new_page()
    for path in sorted(site.glob("*.html")):
        phone.goto(path.as_uri())
        width = phone.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"{path.name} is {width} pixels wide"
    phone.screenshot(path=SCREENSHOTS / "phone.png")
    context.close()

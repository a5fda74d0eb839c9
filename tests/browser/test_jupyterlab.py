"""The notebooks in a real JupyterLab and a real browser, offline."""

import nbformat
import pytest
from driving import (
    MARKERS,
    NOTEBOOKS,
    ROOT,
    SCREENSHOTS,
    check_charts,
    check_slicing,
    number_of_charts,
    open_notebook,
    run_all,
)

pytestmark = MARKERS


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
    code = [cell for cell in cells if cell.cell_type == "code"]
    folded = ["solution" in cell.metadata.get("tags", []) for cell in code]
    last = max(number for number, hidden in enumerate(folded, 1) if not hidden)
    run_all(page, last)
    check_charts(page.locator(".jp-Notebook .vega-embed"), number_of_charts(path))
    page.screenshot(path=SCREENSHOTS / "jupyterlab_01_run.png")

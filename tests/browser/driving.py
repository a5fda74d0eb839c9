"""Where the browser tests find things, and what several of them do."""

import pathlib
import shutil

import nbformat
import pytest
from playwright.sync_api import expect

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "site" / "screenshots"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
VEGALITE = "application/vnd.vegalite.v5+json"
MARKS = "svg g.mark-rect.role-mark path, svg g.mark-symbol.role-mark path, svg .mark-line path"
TOKEN = "0123456789abcdef"

MARKERS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="neither chromium nor google-chrome is installed"),
]


def open_notebook(page, lab, name):
    page.goto(f"{lab}/lab/tree/{name}?token={TOKEN}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")


def run_all(page, last):
    """Runs every cell and waits for the last, whose execution count is `last`."""
    # Before its kernel is there, JupyterLab would ask which one to start.
    expect(page.locator(".jp-StatusBar-Widget", has_text="| Idle")).to_be_attached(timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    error = page.locator('[data-mime-type="application/vnd.jupyter.error"]')
    done = page.locator(".jp-InputPrompt", has_text=f"[{last}]:")
    expect(error.or_(done).first).to_be_attached(timeout=60_000)
    assert error.all_inner_texts() == []


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

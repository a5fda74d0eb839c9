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
TOKEN = "0123456789abcdef"
ACCENT, ORANGE, GREY = "#0072B2", "#E69F00", "#c9c9c9"

MARKERS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="neither chromium nor google-chrome is installed"),
]

# Whether there are so many charts, each with two marks at least.
DRAWN = """([charts, number]) => {
  const groups = ["g.mark-rect.role-mark", "g.mark-symbol.role-mark", ".mark-line"];
  const marks = groups.map(group => `svg ${group} path`).join();
  const found = [...document.querySelectorAll(charts)];
  return found.length === number && found.every(chart => chart.querySelectorAll(marks).length > 1);
}"""


def number_of_charts(path):
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return sum(VEGALITE in output.get("data", {}) for output in outputs)


def wait_for_charts(page, selector, number):
    page.wait_for_function(DRAWN, arg=[selector, number], timeout=60_000)


def marks(chart, color):
    """What the histograms' bars of one colour stand for: bin, count and share."""
    return chart.locator(f'path[fill="{color}"][aria-label*="; from:"]').evaluate_all(
        "paths => paths.map(path => path.getAttribute('aria-label'))"
    )


def check_slicing(chart):
    """A click on an occupation changes the blue bars of the histograms, and not the grey ones."""
    before, everyone = marks(chart, ACCENT), marks(chart, GREY)

    def click(name, **options):
        chart.locator(f'path[aria-label*="{name}"]').click(**options)
        expect(chart.locator(f'path[aria-label*="{name}"][fill="{ACCENT}"]')).to_be_visible()

    click("technician")
    expect(chart.locator(f'path[aria-label*="student"][fill="{GREY}"]')).to_be_visible()
    after = marks(chart, ACCENT)
    assert after != before
    assert marks(chart, GREY) == everyone
    click("student", modifiers=["Shift"])
    expect(chart.locator(f'path[aria-label*="technician"][fill="{ACCENT}"]')).to_be_visible()
    assert marks(chart, ACCENT) != after

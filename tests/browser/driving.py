"""Where the browser tests find things, and what they all do in JupyterLab."""

import pathlib
import shutil

import pytest
from playwright.sync_api import expect

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "site" / "screenshots"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "0123456789abcdef"

MARKERS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
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

"""One browser and one JupyterLab, both without a network, for all browser tests."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from driving import CHROMIUM, ROOT, SCREENSHOTS, TOKEN
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="session")
def browser():
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-sync", offline, *quiet],
        )
        yield running
        running.close()


@pytest.fixture(scope="session")
def lab_folder(tmp_path_factory):
    """A folder with a copy of the notebooks in `notebooks`, with and without their outputs."""
    folder = tmp_path_factory.mktemp("lab")
    work = shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")
    for path in sorted(work.glob("[0-9]*.ipynb")):  # and without outputs, to run
        blank = nbformat.read(path, as_version=4)
        for cell in blank.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(blank, work / f"blank_{path.name}")
    return folder


@pytest.fixture(scope="session")
def lab(lab_folder):
    """A JupyterLab on loopback over that copy, for all browser tests; yields its address."""
    folder, work = lab_folder, lab_folder / "notebooks"
    settings = folder / "settings" / "@jupyterlab"
    for plugin, values in {
        # every cell is in the page, not only those in view
        "notebook-extension/tracker": {"windowingMode": "none"},
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    }.items():
        path = settings / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    options = [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"]
    with (
        open(folder / "log", "w") as log,
        subprocess.Popen(
            [*command, *options, f"--notebook-dir={work}", "--ip=127.0.0.1"],
            env=environment,
            stdout=log,
            stderr=log,
        ) as server,
    ):
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=5).close()
                break
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail((folder / "log").read_text()[-2000:])
            time.sleep(0.2)
        yield address
        server.terminate()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield page
    context.close()

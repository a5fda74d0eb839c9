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

import pytest
from driving import CHROMIUM, ROOT, SCREENSHOTS, TOKEN
from playwright.sync_api import expect, sync_playwright

expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def browser():
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    switches = "no-sandbox disable-gpu disable-sync no-first-run disable-background-networking"
    offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    arguments = [offline, *(f"--{switch}" for switch in switches.split())]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


@pytest.fixture(scope="session")
def lab_folder(tmp_path_factory):
    """What JupyterLab works in: a copy of the notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    return folder


@pytest.fixture(scope="session")
def lab(browser, lab_folder):
    """The page of a JupyterLab on loopback, without a notebook."""
    folder, environment = lab_folder, {**os.environ, "PYTHONPATH": str(ROOT)}  # this code
    for plugin, values in {
        # every cell is in the page, not only those in view
        "notebook-extension/tracker": {"windowingMode": "none"},
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    }.items():
        path = folder / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    for name in ("LAB_SETTINGS", "LAB_WORKSPACES", "_RUNTIME"):
        environment[f"JUPYTER{name}_DIR"] = str(folder / name.split("_")[1].lower())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = "no-browser allow-root expose-app-in-browser ServerApp.port_retries=0 ip=127.0.0.1"
    options = [*options.split(), f"port={port}", f"IdentityProvider.token={TOKEN}"]
    options += [f"notebook-dir={folder / 'notebooks'}"]
    command = [sys.executable, "-m", "jupyterlab", *(f"--{option}" for option in options)]
    with (
        open(folder / "log", "w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
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
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(20_000)
        page.goto(f"{address}/lab?token={TOKEN}")
        page.wait_for_function("window.jupyterapp?.restored", timeout=60_000)
        page.evaluate("jupyterapp.restored")
        yield page
        page.close()
        server.terminate()

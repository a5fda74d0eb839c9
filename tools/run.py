"""Executes the notebooks, each in a kernel of its own, and leaves them as browsable HTML.

    python tools/run.py                  every notebook, pages in site/
    python tools/run.py --only 01        the notebooks whose names start with 01
    python tools/run.py --in-place       write the outputs into the notebooks, for committing

The pages are plain files: charts are interactive and formulas are set without a network.
"""

import argparse
import json
import os
import pathlib
import re
import sys
import threading
import time

import nbclient
import nbformat
import pages

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
RUN_TIMES = NOTEBOOKS / "run_times.json"
CELL_TIMEOUT = 600
SIGN_OF_LIFE = 20  # seconds between two lines about a long cell


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default="", help="run the notebooks whose names start with this")
    parser.add_argument("--in-place", action="store_true", help="keep the outputs in the notebooks")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "site")
    options = parser.parse_args()
    everything = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
    paths = [path for path in everything if path.name.startswith(options.only)]
    if not paths:
        names = ", ".join(path.stem for path in everything)
        sys.exit(f"No notebook starts with {options.only!r}. There are: {names}")
    series = pages.read_series(everything)
    if options.in_place:
        for path in reversed(paths):  # the first notebook shows the others' run times
            notebook, seconds = execute(path)
            nbformat.write(tidy(notebook), path)
            save_run_time(path.stem, seconds)
        return
    if options.output.exists():
        for path in paths:
            (options.output / f"{path.stem}.html").unlink(missing_ok=True)
        pages.link_pages(series, options.output)
    for path in paths:
        pages.write_page(path.stem, *execute(path), series, options.output)
        pages.link_pages(series, options.output)
    print(f"\nOpen {options.output / 'index.html'} in a browser.")


def execute(path):
    """Runs one notebook from a clean kernel; returns it and the seconds it took."""
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    total, current, done = len(notebook.cells), 0, threading.Event()

    def show(cell=None, cell_index=None):
        nonlocal current
        current = current if cell_index is None else cell_index + 1
        line = f"{path.stem}: cell {current} of {total}, {int(time.perf_counter() - started)} s"
        terminal = sys.stdout.isatty()
        print(f"\r{line:<70}" if terminal else line, end="" if terminal else "\n", flush=True)

    def keep_showing():
        while not done.wait(SIGN_OF_LIFE):
            show()

    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        on_cell_execute=show,
        extra_arguments=["--log-level=ERROR"],  # not the warning that loopback is unencrypted
    )
    threading.Thread(target=keep_showing, daemon=True).start()
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        trace = str(error) if sys.stderr.isatty() else re.sub(r"\x1b\[[\d;]*m", "", str(error))
        sys.exit(f"\n{path.name} failed in cell {current} of {total}:\n{trace}")
    except nbclient.exceptions.CellTimeoutError:
        sys.exit(f"\n{path.name}: cell {current} of {total} took over {CELL_TIMEOUT} s; stopped.")
    except nbclient.exceptions.DeadKernelError:
        sys.exit(f"\n{path.name}: the kernel died in cell {current} of {total} (out of memory?).")
    finally:
        done.set()
    describe_widgets(notebook)
    seconds = time.perf_counter() - started
    print(f"\r{path.stem}: done in {seconds:.0f} s{'':<40}", flush=True)
    return notebook, seconds


def describe_widgets(notebook):
    """Puts a sentence in the place of each widget, which lives only as long as its kernel."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                text = "Controls stand here when this cell is run in JupyterLab."
                output["data"] = nbformat.from_dict({"text/plain": text})


def tidy(notebook):
    """The notebook without what differs from run to run and machine to machine."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    return notebook


def save_run_time(name, seconds):
    times = json.loads(RUN_TIMES.read_text()) if RUN_TIMES.exists() else {}
    times[name] = round(seconds)
    RUN_TIMES.write_text(json.dumps(times, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a warning of the debugger
    main()

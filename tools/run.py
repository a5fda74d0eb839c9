"""Executes the notebooks, each in a kernel of its own, and leaves them as browsable HTML.

    python tools/run.py                  every notebook, pages in site/
    python tools/run.py --only 01        the notebooks whose names start with 01
    python tools/run.py --in-place       write the outputs into the notebooks, for committing

The pages are plain files: charts are interactive and formulas are set without a network.
"""

import argparse
import html
import json
import os
import pathlib
import re
import sys
import time

import latex2mathml.converter
import nbclient
import nbformat
import vl_convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
RUN_TIMES = NOTEBOOKS / "run_times.json"
CELL_TIMEOUT = 600
VEGALITE = "application/vnd.vegalite.v5+json"


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
    titles = {path.stem: read_title(path) for path in everything}
    if options.in_place:
        paths.reverse()  # the first notebook shows the others' run times
    else:
        for path in paths:
            (options.output / f"{path.stem}.html").unlink(missing_ok=True)
    done = {}
    for path in paths:
        notebook, seconds = execute(path)
        if options.in_place:
            tidy(notebook)
            nbformat.write(notebook, path)
            save_run_time(path.stem, seconds)
        else:
            done[path.stem] = notebook, seconds
    if not options.in_place:
        write_site(done, titles, options.output)
        print(f"\nOpen {options.output / 'index.html'} in a browser.")


def execute(path):
    """Runs one notebook from a clean kernel; returns it and the seconds it took."""
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    total, current = len(notebook.cells), 0

    def show(cell, cell_index):
        nonlocal current
        current = cell_index + 1
        elapsed = f"{int(time.perf_counter() - started)} s"
        line = f"{path.stem}: cell {current} of {total}, {elapsed}"
        print(f"\r{line:<70}" if sys.stdout.isatty() else line, end=end, flush=True)

    end = "" if sys.stdout.isatty() else "\n"
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
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        trace = str(error) if sys.stderr.isatty() else re.sub(r"\x1b\[[\d;]*m", "", str(error))
        sys.exit(f"\n{path.name} failed in cell {current} of {total}:\n{trace}")
    except nbclient.exceptions.CellTimeoutError:
        sys.exit(f"\n{path.name}: cell {current} of {total} took over {CELL_TIMEOUT} s; stopped.")
    except nbclient.exceptions.DeadKernelError:
        sys.exit(f"\n{path.name}: the kernel died in cell {current} of {total} (out of memory?).")
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
    """Removes what differs from run to run and machine to machine."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)


def save_run_time(name, seconds):
    times = json.loads(RUN_TIMES.read_text()) if RUN_TIMES.exists() else {}
    times[name] = round(seconds)
    RUN_TIMES.write_text(json.dumps(times, indent=1, sort_keys=True) + "\n")


# Pages --------------------------------------------------------------------------------------------


class MathMLRenderer(IPythonRenderer):
    """Markdown with formulas as MathML, which browsers set without scripts."""

    def block_math(self, body):
        return latex2mathml.converter.convert(body, display="block")

    def inline_math(self, body):
        return latex2mathml.converter.convert(body)


def markdown_to_html(source):
    return MarkdownWithMath(renderer=MathMLRenderer(escape=False)).render(source)


def charts_to_html(notebook):
    """Puts each chart's specification where the page's script finds it."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if VEGALITE in data:
                # "<" is written as an escape, so that no text of a chart can end the script
                spec = json.dumps(data[VEGALITE]).replace("<", "\\u003c")
                alt = html.escape(data.get("text/plain", "Chart"))
                picture = f'<img alt="{alt}" src="data:image/png;base64,{data["image/png"]}">'
                output["data"] = nbformat.from_dict(
                    {
                        "text/html": f'<div class="chart">{picture}</div>'
                        f'<script type="application/json" class="chart-spec">{spec}</script>'
                    }
                )


def write_site(done, titles, output):
    """Writes the pages of the notebooks just run, and an index of all."""
    assets = output / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    (assets / "vega.js").write_text(vl_convert.javascript_bundle(), encoding="utf-8")
    style = STYLE + HtmlFormatter().get_style_defs(".highlight")
    (assets / "style.css").write_text(style, encoding="utf-8")
    there = [name for name in titles if name in done or (output / f"{name}.html").exists()]
    for name, (notebook, seconds) in done.items():
        here = there.index(name)
        links = ['<a href="index.html">All notebooks</a>']
        if here > 0:
            links.append(f'<a rel="prev" href="{there[here - 1]}.html">← {there[here - 1]}</a>')
        if here + 1 < len(there):
            links.append(f'<a rel="next" href="{there[here + 1]}.html">{there[here + 1]} →</a>')
        nav = f"<nav>{' '.join(links)}</nav>"
        footer = f"<p>Executed in {seconds:.0f} seconds.</p>{DATA_NOTE}"
        body = f"{nav}<main>{page_body(notebook)}</main>{nav}{footer}"
        write_page(output / f"{name}.html", titles[name], body)
    items = []
    for name, title in titles.items():
        link = f'<a href="{name}.html">{html.escape(title)}</a>'
        text = link if name in there else f"{html.escape(title)} (not run yet)"
        times = f"{done[name][1]:.0f} seconds" if name in done else ""
        items.append(f"<li><h2>{text}</h2>{markdown_to_html(read_lead(name))}<p>{times}</p></li>")
    heading = "Embedding-based recommendation, measured"
    body = f"<main><h1>{heading}</h1><ol>{''.join(items)}</ol></main>{DATA_NOTE}"
    write_page(output / "index.html", heading, body)


def page_body(notebook):
    charts_to_html(notebook)
    exporter = HTMLExporter(template_name="basic")
    exporter.register_filter("markdown2html", markdown_to_html)
    return exporter.from_notebook_node(notebook)[0]


def read_title(path):
    """The notebook's title: the first line of its first cell, behind "# "."""
    try:
        title = re.match(r"# (.*)", nbformat.read(path, as_version=4).cells[0].source)
    except (ValueError, IndexError, AttributeError, nbformat.ValidationError) as error:
        sys.exit(f"{path.name} can't be read as a notebook: {error}")
    if title is None:
        sys.exit(f"{path.name} should begin with a cell whose first line is '# ' and its title.")
    return title[1]


def read_lead(name):
    """The paragraph below the title."""
    source = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells[0].source
    return re.sub(r"^# .*\n+", "", source).split("\n\n")[0]


DATA_NOTE = (
    "<p>Data: MovieLens 100K, F. Maxwell Harper and Joseph A. Konstan, The MovieLens Datasets: "
    "History and Context, ACM TiiS 5(4), 2015. Not to be redistributed.</p>"
)
STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1d1d1f; background: #fff;
  max-width: 62rem; margin: 0 auto; padding: 0 1rem 3rem; }
h1, h2, h3 { line-height: 1.25; } a { color: #005a9c; }
nav { display: flex; flex-wrap: wrap; gap: 1.5rem; padding: 1rem 0; }
pre { overflow-x: auto; font-size: 0.86rem; line-height: 1.4; margin: 0; }
.jp-InputArea pre, div.input pre, .highlight { background: #f6f7f8; border-radius: 4px; }
.highlight pre { padding: 0.6rem 0.8rem; }
.anchor-link, .prompt, .jp-InputPrompt, .jp-OutputPrompt { display: none; }
.output_area, .jp-OutputArea-child { overflow-x: auto; margin: 0.6rem 0; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
table, th, td { border: none; }
th, td { padding: 0.25rem 0.7rem; text-align: right; border-bottom: 1px solid #e3e3e6; }
.chart img { max-width: 100%; } .chart { overflow-x: auto; }
details { margin: 0.6rem 0; }
math[display="block"] { margin: 1rem 0; overflow-x: auto; overflow-y: hidden; }
ol { padding-left: 1.2rem; } code { font-size: 0.9em; }
"""

SCRIPT = """
for (const spec of document.querySelectorAll("script.chart-spec")) {
  const place = spec.previousElementSibling;
  const {$schema, ...chart} = JSON.parse(spec.textContent);
  vegaEmbed(place, chart, {mode: "vega-lite", renderer: "svg", actions: false});
}
for (const solution of document.querySelectorAll(".celltag_solution")) {
  const folded = document.createElement("details");
  folded.innerHTML = "<summary>Solution</summary>";
  folded.append(...solution.childNodes);
  solution.append(folded);
}
"""


def write_page(path, title, body):
    path.write_text(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title>"
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="assets/style.css"></head>'
        f'<body>{body}<script src="assets/vega.js"></script><script>{SCRIPT}</script>'
        "</body></html>",
        encoding="utf-8",
    )


if __name__ == "__main__":
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a warning of the debugger
    main()

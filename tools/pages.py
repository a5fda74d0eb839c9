"""The pages of `make run`: one per notebook and an index, plain files that need no network.

A page is written as soon as its notebook has run; `link_pages` then joins whatever pages there
are by links and lists them in the index, so that a run of a few notebooks keeps the others.
"""

import base64
import html
import json
import pathlib
import re
import sys

import latex2mathml.converter
import nbformat
import vl_convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

TOOLS = pathlib.Path(__file__).resolve().parent
HEADING = "Embedding-based recommendation, measured"
LEAD = (
    "Notebooks on MovieLens 100K, run from top to bottom. Each asks a question and measures the "
    "answer. The charts react to the mouse: hover for details, click where the title says so."
)
REFERENCE = '<p>Their package: <a href="api/index.html">reference of cfutils</a>.</p>'
DATA_NOTE = (
    "<p>Data: MovieLens 100K, F. Maxwell Harper and Joseph A. Konstan, The MovieLens Datasets: "
    "History and Context, ACM TiiS 5(4), 2015. Not to be redistributed.</p>"
)
VEGALITE = "application/vnd.vegalite.v5+json"
ABOUT = re.compile(r"\b(this notebook|here we)\b", re.IGNORECASE)


def read_series(paths):
    """What the index says of each notebook: {name: (title, sentence)}.

    The title is the first line, behind "# ". The sentence is the first of the paragraph below that
    says what the notebook does ("this notebook ...", "here we ..."), or else the first.
    """
    series = {}
    for path in paths:
        try:
            source = nbformat.read(path, as_version=4).cells[0].source
            title = re.match(r"# (.*)", source)
        except (ValueError, IndexError, AttributeError, nbformat.ValidationError) as error:
            sys.exit(f"{path.name} can't be read as a notebook: {error}")
        if title is None:
            sys.exit(f"{path.name} should begin with a cell whose first line is '# ' and a title.")
        lead = re.split(r"\n\s*\n", source[title.end() :].strip())[0]
        sentences = re.split(r"(?<=[.!?])\s+(?=\W*[A-Z])", lead)
        about = [text for text in sentences if ABOUT.search(text)]
        series[path.stem] = title[1], [*about, *sentences][0]
    return series


def write_page(name, notebook, seconds, series, output):
    """Writes the page, picture and entry in the index of a notebook that took `seconds` to run."""
    assets = output / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    image, time = "", f"Executed in {seconds:.0f} seconds."
    (assets / f"{name}.png").unlink(missing_ok=True)
    if picture := _picture(notebook):
        alt, png = picture
        (assets / f"{name}.png").write_bytes(png)
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        image = f'<img src="assets/{name}.png" alt="{alt}" width="{width}" height="{height}">'
    card = _card(name, series, f"{name}.html", image, time)
    (assets / f"{name}.card").write_text(card, encoding="utf-8")
    body = (
        f'<nav aria-label="Notebooks, top"></nav><main>{_body(notebook, series)}</main>'
        f'<nav aria-label="Notebooks, bottom"></nav><footer><p>{time}</p>{DATA_NOTE}</footer>'
        '<script src="assets/vega.js"></script><script src="assets/page.js"></script>'
    )
    _write(output / f"{name}.html", series[name][0], body)


def link_pages(series, output):
    """Joins the pages that are there by links, and lists all notebooks in the index."""
    assets = output / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    (assets / "vega.js").write_text(vl_convert.javascript_bundle(), encoding="utf-8")
    (assets / "page.js").write_bytes((TOOLS / "page.js").read_bytes())
    (assets / "style.css").write_text(_style(), encoding="utf-8")
    pages = {name: (output / f"{name}.html", assets / f"{name}.card") for name in series}
    there = [name for name, files in pages.items() if all(file.exists() for file in files)]
    for before, name, after in zip([None, *there], there, [*there[1:], None], strict=False):
        links = '<a href="index.html">All notebooks</a>'
        for rel, other, text in (("prev", before, "← {}"), ("next", after, "{} →")):
            if other is not None:
                text = text.format(html.escape(_named(other, series)))
                links += f'<a rel="{rel}" href="{other}.html">{text}</a>'
        nav = re.compile(r'(<nav aria-label="Notebooks, \w+">).*?(</nav>)', re.DOTALL)
        page = pages[name][0].read_text(encoding="utf-8")
        page = nav.sub(lambda match, links=links: f"{match[1]}{links}{match[2]}", page)
        pages[name][0].write_text(page, encoding="utf-8")
    cards = [
        pages[name][1].read_text(encoding="utf-8")
        if name in there
        else _card(name, series, None, "", "Not run yet.")
        for name in series
    ]
    reference = REFERENCE if (output / "api" / "index.html").exists() else ""
    body = (
        f'<main><h1>{HEADING}</h1><p>{LEAD}</p><ol class="cards">{"".join(cards)}</ol>'
        f"{reference}</main><footer>{DATA_NOTE}</footer>"
    )
    _write(output / "index.html", HEADING, body)


def markdown_to_html(source):
    """Markdown to HTML, formulas to MathML."""
    return MarkdownWithMath(renderer=_MathMLRenderer(escape=False)).render(source)


class _MathMLRenderer(IPythonRenderer):
    """Markdown with formulas as MathML, which browsers set without scripts."""

    def block_math(self, body):
        return latex2mathml.converter.convert(body, display="block")

    def inline_math(self, body):
        return latex2mathml.converter.convert(body)


def _picture(notebook):
    """(text, PNG) of the chart tagged `picture`, or of the last chart; None without a chart."""
    charts = [
        ("picture" in tags, html.escape(output.data["text/plain"]), output.data["image/png"])
        for cell in notebook.cells
        if "solution" not in (tags := cell.metadata.get("tags", []))
        for output in cell.get("outputs", [])
        if VEGALITE in output.get("data", {})
    ]
    if not charts:
        return None
    _, text, png = next((chart for chart in charts if chart[0]), charts[-1])
    return text, base64.b64decode(png)


def _named(name, series):
    """The title behind the notebook's number."""
    return f"{name.split('_')[0]} {series[name][0]}"


def _card(name, series, link, image, note):
    title, sentence = html.escape(_named(name, series)), markdown_to_html(series[name][1])
    heading = title if link is None else f'<a href="{link}">{title}</a>'
    return f'<li>{image}<div><h2>{heading}</h2>{sentence}<p class="note">{note}</p></div></li>'


def _body(notebook, series):
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if VEGALITE in output.get("data", {}):
                output["data"] = nbformat.from_dict({"text/html": _chart(output.data)})
    exporter = HTMLExporter(template_name="basic")
    exporter.register_filter("markdown2html", markdown_to_html)
    body = exporter.from_notebook_node(notebook)[0]
    names = "|".join(map(re.escape, series))
    return re.sub(rf'href="({names})\.ipynb([#"])', r'href="\1.html\2', body)


def _chart(data):
    """A chart's picture, and its specification where the page's script finds it."""
    # "<" is written as an escape, so that no text of a chart can end the script
    spec = json.dumps(data[VEGALITE]).replace("<", "\\u003c")
    alt = html.escape(data.get("text/plain", "Chart"))
    return (
        f'<div class="chart" role="group" aria-label="{alt}">'
        f'<img alt="{alt}" src="data:image/png;base64,{data["image/png"]}"></div>'
        f'<script type="application/json" class="chart-spec">{spec}</script>'
    )


def _style():
    """The style sheet, with colours for code in light and in dark."""
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    own = (TOOLS / "page.css").read_text(encoding="utf-8")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{own}"


def _write(path, title, body):
    path.write_text(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title>"
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="assets/style.css"></head>'
        f"<body>{body}</body></html>",
        encoding="utf-8",
    )

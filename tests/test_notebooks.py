"""What is committed of the notebooks, the tool that runs them, and the site that it leaves."""

import base64
import json
import pathlib
import re
import struct
import subprocess
import sys

import nbformat
import pages
import pytest
import reference
import run

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
VEGALITE = "application/vnd.vegalite.v5+json"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    assert request.param.stat().st_size < 3_000_000
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_outputs_are_those_of_one_clean_run_and_show_no_machine(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    for cell in code_cells(notebook):
        assert not re.search(
            r"/(home|root|tmp|work|Users)/\w| object at 0x", json.dumps(cell.outputs)
        )
        assert "execution" not in cell.metadata
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
            data = output.get("data", {})
            assert "vega" not in data.get("text/html", "")
            if VEGALITE in data:  # has a picture and a title
                assert set(data) == {VEGALITE, "image/png", "text/plain"}
                assert data["text/plain"] != "Chart: a chart"


def test_style_of_the_series(notebook):
    assert re.match(r"# .*\?\n", notebook.cells[0].source)  # the title is a question
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "## Summary" in text
    for cell in code_cells(notebook):
        assert len([line for line in cell.source.splitlines() if line]) <= 16, cell.source


# The runner ---------------------------------------------------------------------------------------


def write_notebook(path, *sources, lead="Because."):
    cells = [nbformat.v4.new_markdown_cell(f"# Why?\n{lead}")]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


@pytest.fixture
def run_tool(tmp_path, monkeypatch):
    """Runs the tool on the notebooks in tmp_path; pages go to tmp_path / "site"."""

    def call(*arguments):
        monkeypatch.setattr(run, "NOTEBOOKS", tmp_path)
        monkeypatch.setattr(run, "RUN_TIMES", tmp_path / "run_times.json")
        output = ["--output", str(tmp_path / "site")]
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments, *output])
        run.main()
        return tmp_path / "site"

    return call


@pytest.mark.slow
def test_a_failing_cell_stops_with_its_name_and_traceback(tmp_path, run_tool):
    write_notebook(tmp_path / "01_bad.ipynb", "x = 1", "1 / 0", "raise SystemExit")
    with pytest.raises(SystemExit) as caught:
        run_tool()
    assert "01_bad.ipynb failed in cell 3 of 4" in str(caught.value)
    assert "ZeroDivisionError" in str(caught.value)
    assert not (tmp_path / "site").exists()


@pytest.mark.slow
def test_only_runs_what_it_names(tmp_path, run_tool):
    site, links = tmp_path / "site", {}
    site.mkdir()
    (site / "02_a.html").write_text("a page of some other making")
    for number in ("01", "02", "03"):
        write_notebook(tmp_path / f"{number}_a.ipynb", number.lstrip("0"))
    run_tool("--only", "01")
    assert "02_a" not in (site / "01_a.html").read_text()
    assert (site / "index.html").read_text().count("Not run yet") == 2
    for number in ("03", "02"):
        run_tool("--only", number)
    for page in sorted(site.glob("*.html")):
        links[page.stem] = re.findall(r'href="(\w+)\.html"', page.read_text())
    assert links == {
        "01_a": ["index", "02_a"] * 2,
        "02_a": ["index", "01_a", "03_a"] * 2,
        "03_a": ["index", "02_a"] * 2,
        "index": ["01_a", "02_a", "03_a"],
    }
    write_notebook(tmp_path / "02_a.ipynb", "1 / 0")  # what fails is taken out
    with pytest.raises(SystemExit):
        run_tool("--only", "02")
    assert all("02_a.html" not in page.read_text() for page in site.glob("*.html"))
    assert (site / "index.html").read_text().count("Not run yet") == 1
    with pytest.raises(
        SystemExit, match=r"No notebook starts with '9'. There are: 01_a, 02_a, 03_a"
    ):
        run_tool("--only", "9")


@pytest.mark.slow
def test_a_dead_kernel_is_named(tmp_path, run_tool):
    write_notebook(tmp_path / "01_dies.ipynb", "import os; os._exit(1)")
    with pytest.raises(SystemExit, match=r"01_dies.ipynb: the kernel died in cell 2 of 2"):
        run_tool()


@pytest.mark.parametrize("content", ["", "{}", '{"cells": [], "nbformat": 4}'])
def test_a_file_that_is_no_notebook_is_named_before_anything_runs(tmp_path, run_tool, content):
    write_notebook(tmp_path / "01_one.ipynb", "1 + 1")
    (tmp_path / "02_two.ipynb").write_text(content)
    with pytest.raises(SystemExit, match=r"02_two.ipynb"):
        run_tool("--only", "01")
    assert not (tmp_path / "site").exists()


@pytest.mark.slow
def test_in_place_keeps_outputs_without_times_and_paths(tmp_path, run_tool):
    path = tmp_path / "01_one.ipynb"
    write_notebook(path, "1 + 1")
    run_tool("--in-place")
    done = nbformat.read(path, as_version=4)
    assert done.cells[1].outputs[0].data["text/plain"] == "2"
    assert "execution" not in done.cells[1].metadata
    assert list(json.loads((tmp_path / "run_times.json").read_text())) == ["01_one"]


# The site -----------------------------------------------------------------------------------------


def chart_cell(number, tags):
    data = {
        VEGALITE: {},
        "text/plain": f'Chart: "{number}" & more',
        "image/png": base64.b64encode(b"x" * 16 + struct.pack(">II", 640, number)).decode(),
    }
    output = nbformat.v4.new_output("display_data", data)
    return nbformat.v4.new_code_cell("chart", outputs=[output], metadata={"tags": tags})


@pytest.mark.parametrize(
    ("tags", "shown"),
    [
        ([[], [], []], 3),
        ([[], ["picture"], []], 2),
        ([[], ["other", "picture"], ["solution"]], 2),
        ([[], [], ["solution"]], 2),
        ([], None),
    ],
)
def test_the_index_shows_the_chart_tagged_picture_or_the_last(tmp_path, tags, shown):
    path = tmp_path / "01_one.ipynb"
    write_notebook(path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells += [chart_cell(number, kept) for number, kept in enumerate(tags, start=1)]
    series = pages.read_series([path])
    pages.write_page("01_one", notebook, 1, series, tmp_path)
    pages.link_pages(series, tmp_path)
    images = re.findall(r"<img[^>]*>", (tmp_path / "index.html").read_text())
    if shown is None:
        assert images == []
        return
    assert images == [
        '<img src="assets/01_one.png" '
        f'alt="Chart: &quot;{shown}&quot; &amp; more" width="640" height="{shown}">'
    ]
    png = (tmp_path / "assets" / "01_one.png").read_bytes()
    assert png[16:] == struct.pack(">II", 640, shown)


@pytest.mark.parametrize(
    ("lead", "expected"),
    [
        (
            "One thing (i.e. that).\nIn this notebook *we* look. More.",
            "In this notebook *we* look.",
        ),
        ("A model predicts. Here we ask: why?\n\nThis notebook is not read.", "Here we ask: why?"),
        ("No end", "No end"),
        ("See 2.5 of $x$. More", "See 2.5 of $x$."),
    ],
)
def test_the_sentence_of_the_index_says_what_the_notebook_does(tmp_path, lead, expected):
    write_notebook(tmp_path / "01_one.ipynb", lead=f"\n{lead}")
    assert pages.read_series([tmp_path / "01_one.ipynb"]) == {"01_one": ("Why?", expected)}


def test_links_to_notebooks_lead_to_pages_and_formulas_become_mathml(tmp_path):
    paths = [tmp_path / "01_one.ipynb", tmp_path / "02_two.ipynb"]
    links = "[a](02_two.ipynb#Why?) [b](https://example.org/02_two.ipynb)"
    for path in paths:
        write_notebook(path, lead=f"{links} $\\frac{{a}}{{b}}$\n\n$$x^2$$")
    notebook = nbformat.read(paths[0], as_version=4)
    pages.write_page("01_one", notebook, 1, pages.read_series(paths), tmp_path)
    text = (tmp_path / "01_one.html").read_text()
    assert 'href="02_two.html#Why?"' in text
    assert 'href="https://example.org/02_two.ipynb"' in text
    assert text.count("<math") == 2
    assert "<mfrac>" in text
    assert "$" not in text


@pytest.mark.slow
def test_the_site_holds_a_reference_that_needs_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "SITE", tmp_path)
    reference.main()
    pages.link_pages({}, tmp_path)
    assert 'href="api/index.html"' in (tmp_path / "index.html").read_text()
    api = tmp_path / "api"
    texts = {str(path.relative_to(api)): path.read_text() for path in api.rglob("*.html")}
    modules = (ROOT / "cfutils").glob("[a-z]*.py")
    assert texts.keys() >= {f"cfutils/{module.stem}.html" for module in modules}
    assert texts.keys() >= {"index.html", "cfutils.html", "cfutils/course/exercises.html"}
    for name in ("recommend", "CFModel.train", "Dataset.split"):
        assert f'id="{name}"' in texts["cfutils.html"]
    outside = re.compile(r'src="(https?:)?//|<link[^>]*href="(https?:)?//|@import|0x\w{9}')
    assert not any(outside.search(text) or str(ROOT) in text for text in texts.values())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="make is not part of Windows")
def test_an_unsupported_interpreter_is_refused_first(tmp_path):
    old = tmp_path / "python3.8"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo "Python 3.8.18";; *) exit 1;; esac\n')
    old.chmod(0o755)
    command = ["make", "run", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13; found: Python 3.8.18" in done.stdout
    assert not (tmp_path / "venv").exists()

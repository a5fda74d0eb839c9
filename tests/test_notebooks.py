"""What is committed of the notebooks, and the tool that runs them."""

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
import run

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
VEGALITE = "application/vnd.vegalite.v5+json"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_outputs_are_those_of_one_clean_run(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr"


def test_outputs_carry_no_machine_path_time_or_html_chart(notebook):
    for cell in code_cells(notebook):
        text = json.dumps(cell.outputs)
        assert not re.search(r"/(home|root|tmp|work|Users)/\w", text)
        assert " object at 0x" not in text
        assert "execution" not in cell.metadata
        for output in cell.outputs:
            assert "vega" not in output.get("data", {}).get("text/html", "")


def test_every_chart_has_a_picture_beside_it_and_a_title(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            if VEGALITE in data:
                assert set(data) == {VEGALITE, "image/png", "text/plain"}
                assert data["text/plain"] != "Chart: a chart"


def test_file_is_small():
    for path in NOTEBOOKS:
        assert path.stat().st_size < 3_000_000, path.name


def test_style_of_the_series(notebook):
    assert re.match(r"# .*\?\n", notebook.cells[0].source)  # the title is a question
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "## Summary" in text
    assert "## Exercises" in text
    for cell in code_cells(notebook)[1:]:  # all but the imports
        assert len(cell.source.splitlines()) <= 20, cell.source


def write_notebook(path, sources):
    cells = [nbformat.v4.new_markdown_cell("# Why?\nBecause.")]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def run_tool(monkeypatch, folder, *arguments):
    monkeypatch.setattr(run, "NOTEBOOKS", folder)
    monkeypatch.setattr(run, "RUN_TIMES", folder / "run_times.json")
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    run.main()


def test_a_failing_cell_stops_with_its_name_and_traceback(tmp_path, monkeypatch):
    write_notebook(tmp_path / "01_bad.ipynb", ["x = 1", "x / 0", "x = 2"])
    with pytest.raises(SystemExit) as caught:
        run_tool(monkeypatch, tmp_path, "--output", str(tmp_path / "site"))
    message = str(caught.value)
    assert "01_bad.ipynb failed in cell 3 of 4" in message
    assert "ZeroDivisionError" in message
    assert not (tmp_path / "site").exists()


def test_only_runs_what_it_names(tmp_path, monkeypatch, capsys):
    write_notebook(tmp_path / "01_one.ipynb", ["1 + 1"])
    write_notebook(tmp_path / "02_two.ipynb", ["raise ValueError"])
    run_tool(monkeypatch, tmp_path, "--only", "01", "--output", str(tmp_path / "site"))
    assert sorted(p.name for p in (tmp_path / "site").glob("*.html")) == [
        "01_one.html",
        "index.html",
    ]
    assert (tmp_path / "site" / "index.html").read_text().count("Not run yet") == 1
    assert "02_two" not in (tmp_path / "site" / "01_one.html").read_text()
    assert "01_one: cell 2 of 2" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"No notebook starts with '9'. There are: 01_one, 02_two"):
        run_tool(monkeypatch, tmp_path, "--only", "9")


def test_pages_of_runs_one_by_one_are_joined_and_a_failed_one_is_taken_out(tmp_path, monkeypatch):
    site, links = tmp_path / "site", {}
    site.mkdir()
    (site / "02_a.html").write_text("a page of some other making")
    for number, source in (("01", "1"), ("03", "3"), ("02", "2")):
        write_notebook(tmp_path / f"{number}_a.ipynb", [source])
    for number in ("01", "03", "02"):
        run_tool(monkeypatch, tmp_path, "--only", number, "--output", str(site))
    for page in sorted(site.glob("*.html")):
        links[page.stem] = re.findall(r'href="(\w+)\.html"', page.read_text())
    assert links == {
        "01_a": ["index", "02_a"] * 2,
        "02_a": ["index", "01_a", "03_a"] * 2,
        "03_a": ["index", "02_a"] * 2,
        "index": ["01_a", "02_a", "03_a"],
    }
    assert "Not run yet" not in (site / "index.html").read_text()
    write_notebook(tmp_path / "02_a.ipynb", ["1 / 0"])
    with pytest.raises(SystemExit):
        run_tool(monkeypatch, tmp_path, "--only", "02", "--output", str(site))
    for page in site.glob("*.html"):
        assert "02_a.html" not in page.read_text()
    assert (site / "index.html").read_text().count("Not run yet") == 1


def test_a_dead_kernel_is_named(tmp_path, monkeypatch):
    write_notebook(tmp_path / "01_dies.ipynb", ["import os; os._exit(1)"])
    with pytest.raises(SystemExit, match=r"01_dies.ipynb: the kernel died in cell 2 of 2"):
        run_tool(monkeypatch, tmp_path, "--output", str(tmp_path / "site"))


@pytest.mark.parametrize("content", ["", "{}", '{"cells": [], "nbformat": 4}'])
def test_a_file_that_is_no_notebook_is_named_before_anything_runs(tmp_path, monkeypatch, content):
    write_notebook(tmp_path / "01_one.ipynb", ["1 + 1"])
    (tmp_path / "02_two.ipynb").write_text(content)
    with pytest.raises(SystemExit, match=r"02_two.ipynb"):
        run_tool(monkeypatch, tmp_path, "--only", "01", "--output", str(tmp_path / "site"))
    assert not (tmp_path / "site").exists()


def test_in_place_keeps_outputs_without_times_and_paths(tmp_path, monkeypatch):
    path = tmp_path / "01_one.ipynb"
    write_notebook(path, ["1 + 1"])
    run_tool(monkeypatch, tmp_path, "--in-place")
    done = nbformat.read(path, as_version=4)
    assert done.cells[1].outputs[0].data["text/plain"] == "2"
    assert "execution" not in done.cells[1].metadata
    assert list(json.loads((tmp_path / "run_times.json").read_text())) == ["01_one"]


def chart_cell(number, tags=()):
    data = {
        VEGALITE: {},
        "text/plain": f'Chart: "{number}" & more',
        "image/png": base64.b64encode(b"x" * 16 + struct.pack(">II", 640, number)).decode(),
    }
    output = nbformat.v4.new_output("display_data", data)
    return nbformat.v4.new_code_cell("chart", outputs=[output], metadata={"tags": list(tags)})


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([[], [], []], 3),
        ([[], ["picture"], []], 2),
        ([[], [], ["solution"]], 2),
        ([[], ["other", "picture"], ["solution"]], 2),
        ([], None),
    ],
)
def test_the_index_shows_the_chart_tagged_picture_or_the_last(tmp_path, tags, expected):
    path = tmp_path / "01_one.ipynb"
    write_notebook(path, [])
    notebook = nbformat.read(path, as_version=4)
    notebook.cells += [chart_cell(number + 1, kept) for number, kept in enumerate(tags)]
    series = pages.read_series([path])
    pages.write_page("01_one", notebook, 1, series, tmp_path)
    pages.link_pages(series, tmp_path)
    images = re.findall(r"<img[^>]*>", (tmp_path / "index.html").read_text())
    assert images == (
        [
            '<img src="assets/01_one.png" '
            f'alt="Chart: &quot;{expected}&quot; &amp; more" width="640" height="{expected}">'
        ]
        if expected
        else []
    )
    if expected:
        png = (tmp_path / "assets" / "01_one.png").read_bytes()
        assert png[16:] == struct.pack(">II", 640, expected)


@pytest.mark.parametrize(
    ("lead", "expected"),
    [
        ("One thing. Another.", "One thing."),
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
    path = tmp_path / "01_one.ipynb"
    cell = nbformat.v4.new_markdown_cell(f"# Why?\n\n{lead}")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    assert pages.read_series([path]) == {"01_one": ("Why?", expected)}


def test_a_link_to_a_notebook_becomes_one_to_its_page(tmp_path):
    for name in ("01_one", "02_two"):
        write_notebook(tmp_path / f"{name}.ipynb", [])
    notebook = nbformat.read(tmp_path / "01_one.ipynb", as_version=4)
    notebook.cells[0].source += "\n[a](02_two.ipynb#Why?) [b](https://example.org/02_two.ipynb)"
    series = pages.read_series([tmp_path / "01_one.ipynb", tmp_path / "02_two.ipynb"])
    pages.write_page("01_one", notebook, 1, series, tmp_path)
    text = (tmp_path / "01_one.html").read_text()
    assert 'href="02_two.html#Why?"' in text
    assert 'href="https://example.org/02_two.ipynb"' in text


def test_formulas_become_mathml():
    html = pages.markdown_to_html("the mean $\\frac{a}{b}$\n\n$$x^2$$")
    assert html.count("<math") == 2
    assert "<mfrac>" in html
    assert "$" not in html


@pytest.mark.skipif(sys.platform == "win32", reason="make is not part of Windows")
def test_an_unsupported_interpreter_is_refused_first(tmp_path):
    old = tmp_path / "python3.8"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo "Python 3.8.18";; *) exit 1;; esac\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "run", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13; found: Python 3.8.18" in done.stdout
    assert not (tmp_path / "venv").exists()

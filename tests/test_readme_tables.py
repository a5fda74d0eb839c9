"""What the README shows of the notebooks is what their committed outputs hold."""

import base64
import pathlib

import nbformat
import pytest
import readme

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_tables_and_pictures_are_those_of_the_notebooks():
    outputs = readme.tagged_outputs(ROOT / "notebooks")
    assert set(outputs) == {"models", "ledger", "sizes", "map", "norms"}
    text = (ROOT / "README.md").read_text("utf-8")
    for name in ("models", "ledger", "sizes"):
        assert f"<!-- {name} -->\n{outputs[name].strip()}\n<!-- /{name} -->" in text
    for name in ("map", "norms"):
        assert (ROOT / "pictures" / f"{name}.png").read_bytes() == outputs[name]
        assert f"(pictures/{name}.png)" in text


def test_the_ledger_has_all_claims_and_each_a_verdict():
    ledger = readme.tagged_outputs(ROOT / "notebooks")["ledger"].strip().splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in ledger]
    assert list(dict.fromkeys(row[0] for row in rows)) == [f"V{number}" for number in range(1, 17)]
    assert all(row[-1].startswith(("holds", "does not hold", "undecided")) for row in rows)


def test_tables_are_replaced_where_they_stand(tmp_path):
    cell = nbformat.v4.new_code_cell("x", metadata={"tags": ["readme-table"]})
    data = {"text/markdown": "| a |\n| --- |\n| \\1 |\n"}
    cell.outputs = [nbformat.v4.new_output("display_data", data=data)]
    chart = nbformat.v4.new_code_cell("y", metadata={"tags": ["readme-chart"]})
    png = {"image/png": base64.b64encode(b"png").decode()}
    chart.outputs = [nbformat.v4.new_output("display_data", data=png)]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell, chart]), tmp_path / "01.ipynb")
    outputs = readme.tagged_outputs(tmp_path)
    assert outputs["chart"] == b"png"
    text = "before\n<!-- table -->\nold\n<!-- /table -->\nafter"
    expected = "before\n<!-- table -->\n| a |\n| --- |\n| \\1 |\n<!-- /table -->\nafter"
    assert readme.with_tables(text, outputs) == expected
    with pytest.raises(ValueError, match="README.md should have <!-- table -->"):
        readme.with_tables("nothing", outputs)

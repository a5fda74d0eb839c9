"""The table of faults names tests that there are."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split(" | ")]
    for line in (ROOT / "docs" / "faults.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| fault |", "| --- |"))
]


def named():
    return [name for row in ROWS for name in re.findall(r"`(tests/[\w/]+\.py::\w+)`", row[2])]


def cases_in(path):
    functions = ast.parse((ROOT / path).read_text("utf-8")).body
    names = [f.name for f in functions if isinstance(f, ast.FunctionDef)]
    return [f"{path}::{name}" for name in names if name.startswith("test_")]


def test_every_row_has_a_fault_what_happens_and_a_test():
    assert len(ROWS) > 40
    for row in ROWS:
        assert len(row) == 3
        assert all(row)
        assert re.fullmatch(r"(`tests/[\w/]+\.py::\w+`(, )?)+", row[2]), row
    assert len({row[0] for row in ROWS}) == len(ROWS)


def test_every_named_test_is_there():
    there = {name for path in {each.split("::")[0] for each in named()} for name in cases_in(path)}
    assert set(named()) - there == set()

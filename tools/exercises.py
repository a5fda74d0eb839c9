"""Writes a copy of the notebooks to solve: their solutions taken out, their outputs cleared.

    python tools/exercises.py                       every notebook, into exercises/
    python tools/exercises.py --output FOLDER       into another folder beside `notebooks`

In a cell tagged `solution` the lines from `### BEGIN SOLUTION` to `### END SOLUTION` give way to a
stub, and what the text says of folded solutions to where they are found. A notebook that is in the
folder already is left as it is, so that no answer gets lost; delete or rename it for a fresh one.
"""

import argparse
import pathlib
import re
import sys

import nbformat

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
SOLUTION = re.compile(rf"^([ \t]*){BEGIN}\n(?:(?!.*{BEGIN}).*\n)*?[ \t]*{END}$", re.MULTILINE)
STUB = "...  # your code here"
FOLDED = "Solutions are folded; `make exercises` writes copies of the notebooks without them."
ELSEWHERE = "Solutions stand in the notebook of the same name in the folder `notebooks`."


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "exercises")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    copies = {}
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        try:
            copies[folder / path.name] = copy_to_solve(nbformat.read(path, as_version=4))
        except ValueError as error:
            sys.exit(f"{path.name}: {error}")
    for path, notebook in copies.items():
        if path.exists():
            print(f"{path} is kept; delete or rename it to get a fresh one.")
        else:
            nbformat.write(notebook, path)
            print(f"{path} written.")


def copy_to_solve(notebook):
    """A notebook without solutions and outputs; it is changed in place."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            cell.source = cell.source.replace(FOLDED, ELSEWHERE)
            continue
        cell.outputs, cell.execution_count = [], None
        cell.metadata.pop("execution", None)
        if "solution" in cell.metadata.get("tags", []):
            cell.source = without_solution(cell.source, cell.id)
            cell.metadata.pop("jupyter", None)
    notebook.metadata.pop("widgets", None)  # the state of widgets is output as well
    return notebook


def without_solution(source, name):
    """The text of a cell with a stub, indented alike, in the place of each marked solution."""
    text, found = SOLUTION.subn(rf"\1{STUB}", source)
    if not found or BEGIN in text or END in text:
        raise ValueError(f"cell {name} is tagged 'solution' and should hold {BEGIN!r}, {END!r}.")
    return text


if __name__ == "__main__":
    main()

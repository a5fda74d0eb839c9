"""Writes a copy of the notebooks to solve: their solutions taken out, their outputs cleared.

    python tools/exercises.py                       every notebook, into exercises/
    python tools/exercises.py --output FOLDER       into another folder beside `notebooks`

In a cell tagged `solution` the lines from `### BEGIN SOLUTION` to `### END SOLUTION` give way to a
stub, and what the text says of folded solutions to where they are found. A notebook that is in the
folder already is left as it is, so that no answer gets lost; delete or rename it for a fresh one.
"""

import argparse
import pathlib
import sys

import nbformat

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = "...  # your code here"
FOLDED = "Solutions are folded; `make exercises` writes copies of the notebooks without them."
ELSEWHERE = "Solutions stand in the notebook of the same name in the folder `notebooks`."


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "exercises")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    copies = {}
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        try:
            copies[path.name] = copy_to_solve(nbformat.read(path, as_version=4))
        except ValueError as error:
            sys.exit(f"{path.name}: {error}")
    for name, notebook in copies.items():
        path = options.output / name
        if path.exists():
            print(f"{path} is kept; delete or rename it to get a fresh one.")
        else:
            nbformat.write(notebook, path)
            print(f"{path} written.")


def copy_to_solve(notebook):
    """Take solutions and outputs out of a notebook, in place.

    Args:
        notebook: A notebook of nbformat 4.

    Returns:
        The notebook.

    Raises:
        ValueError: If a cell tagged `solution` does not mark what to take out.
    """
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
    """Put a stub in the place of each marked solution.

    Args:
        source: Text of a code cell.
        name: Name of the cell, for the error.

    Returns:
        The text without the marks and what stands between them; the stub is indented as the mark.

    Raises:
        ValueError: If there is no mark, or one has no counterpart.
    """
    lines, inside, found = [], False, 0
    for line in source.splitlines():
        mark = line.strip()
        if mark in (BEGIN, END):
            if (mark == END) != inside:
                raise ValueError(f"cell {name}: {mark!r} has no counterpart.")
            inside = mark == BEGIN
            if inside:
                found += 1
                lines.append(line.replace(BEGIN, STUB))
        elif not inside:
            lines.append(line)
    if inside or not found:
        raise ValueError(f"cell {name} is tagged 'solution' and should hold {BEGIN!r}, {END!r}.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

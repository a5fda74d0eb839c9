"""Puts tables and pictures of the notebooks' committed outputs into the README.

    python tools/readme.py

A cell tagged `readme-NAME` gives its table, in Markdown, to the part of the README between
`<!-- NAME -->` and `<!-- /NAME -->`, or its chart to pictures/NAME.png.
"""

import base64
import pathlib
import re

import nbformat

ROOT = pathlib.Path(__file__).resolve().parents[1]


def tagged_outputs(notebooks):
    """The outputs of tagged cells, by name: Markdown as text, charts as the bytes of a PNG."""
    found = {}
    for path in sorted(notebooks.glob("[0-9]*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for tag in cell.metadata.get("tags", []):
                if tag.startswith("readme-"):
                    data = cell.outputs[-1].data
                    content = data.get("text/markdown") or base64.b64decode(data["image/png"])
                    found[tag.removeprefix("readme-")] = content
    return found


def with_tables(text, outputs):
    """The README's text with every table replaced; a ValueError if one has no place in it."""
    for name, content in outputs.items():
        if isinstance(content, str):
            place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
            text, found = place.subn(lambda m, new=content: f"{m[1]}{new.strip()}\n{m[2]}", text)
            if not found:
                raise ValueError(f"README.md should have <!-- {name} --> ... <!-- /{name} -->.")
    return text


def main():
    outputs = tagged_outputs(ROOT / "notebooks")
    readme = ROOT / "README.md"
    readme.write_text(with_tables(readme.read_text("utf-8"), outputs), "utf-8")
    for name, content in outputs.items():
        if isinstance(content, bytes):
            (ROOT / "pictures" / f"{name}.png").write_bytes(content)


if __name__ == "__main__":
    main()

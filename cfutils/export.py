"""Embeddings as files that viewers of embeddings read."""

from __future__ import annotations

import os
import pathlib
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cfutils._files import replace_files

# What ends a field or a line for one reader or another.
_BREAKS = re.compile("[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def save_embeddings(
    path: str | os.PathLike[str], embeddings: npt.ArrayLike, frame: pd.DataFrame
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes embeddings and what their rows stand for as a pair of files that viewers read.

    `<path>_vectors.tsv` has one line per embedding, `<path>_metadata.tsv` one per row of the frame,
    below a header line if there is more than one column: the format of the TensorFlow Embedding
    Projector. Fields are separated by tabs and never quoted. The numbers are those of float32, to
    the last bit. Tabs and line breaks in a text become blanks and a list is joined by "|"; what is
    missing is empty.

    Args:
        path: where to, and how the two names begin: "out/books" gives out/books_vectors.tsv.
        embeddings: array [n, d], such as a model's `item_embeddings`.
        frame: n rows in the same order, such as `data.items`, whose columns are written.

    Returns: the paths of the two files. They are replaced at once: there is never half a file, nor
    a new one beside an old one.
    Raises: ValueError if the rows don't match, a number is not finite, a row has nothing but blanks
    (viewers would skip it), or a column `..._id` has a tab or line break in it; FileNotFoundError
    without the folder.
    """
    path = pathlib.Path(path).expanduser()
    if not path.name or not path.parent.is_dir():
        raise FileNotFoundError(
            f"path should be a name in a folder that exists. Received: {path}. "
            "Make the folder first: pathlib.Path(...).mkdir(parents=True)."
        )
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(
            f"frame should be a DataFrame. Received: {type(frame).__name__}. Of one column: "
            "data.items[['title']]."
        )
    values = np.asarray(embeddings)
    if values.ndim != 2 or len(values) != len(frame) or not values.size:
        raise ValueError(
            f"embeddings should have shape [{len(frame)}, d], one row per row of frame. Received: "
            f"{list(values.shape)}. Items go with data.items, users with data.users."
        )
    if values.dtype.kind not in "biuf":
        raise ValueError(f"embeddings should be numbers. Received: {values.dtype}.")
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and refused below
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(
            "embeddings should be finite numbers in float32. "
            f"Received: {values[row, column]} in row {row}, column {column}"
        )
    lines = ["\t".join(map(str, row)) for row in values], _metadata(frame)
    vectors, metadata = (path.with_name(f"{path.name}_{x}.tsv") for x in ("vectors", "metadata"))
    contents = ["".join(f"{line}\n" for line in part).encode() for part in lines]
    replace_files(dict(zip((vectors, metadata), contents, strict=True)))
    return vectors, metadata


def _metadata(frame: pd.DataFrame) -> list[str]:
    """The lines of a table of texts, below a header if there is more than one column."""
    columns = []
    for name, column in frame.items():
        texts = [_as_text(value) for value in column]
        for row, text in enumerate(texts):
            if str(name).endswith("_id") and _BREAKS.search(text):
                raise ValueError(
                    f"{name} should hold no tab or line break. Received: {text!r} in row {row}. "
                    "Rename it."
                )
        columns.append([_BREAKS.sub(" ", text) for text in texts])
    lines = ["\t".join(fields) for fields in zip(*columns, strict=True)] or [""] * len(frame)
    for row, line in enumerate(lines):
        if re.fullmatch(r"[\s\ufeff]*", line):
            raise ValueError(
                f"frame should have a text in each row. Received: nothing but blanks in row {row}. "
                "Add a column of ids."
            )
    header = ["\t".join(_BREAKS.sub(" ", str(name)) for name in frame.columns)]
    return header + lines if len(columns) > 1 else lines


def _as_text(value: Any) -> str:
    if isinstance(value, (list, tuple, np.ndarray)):
        return "|".join(map(str, value))
    return "" if pd.isna(value) else str(value)

"""What only the notebooks use: exercises, the study of the claims, figures, and you."""

from __future__ import annotations

import os
import pathlib

from cfutils.data import Dataset
from cfutils.recommendation import item_ratings

_EXAMPLE: dict[int | str, float] = {
    "Toy Story (1995)": 5,
    "Aladdin (1992)": 5,
    "Star Wars (1977)": 5,
    "Lion King, The (1994)": 4,
    "Babe (1995)": 4,
    "Back to the Future (1985)": 4,
    "Fargo (1996)": 3,
    "Shining, The (1980)": 2,
    "Scream (1996)": 1,
    "Natural Born Killers (1994)": 1,
}


def your_ratings(
    data: Dataset, path: str | os.PathLike = "my_ratings.json"
) -> dict[int | str, float]:
    """Your ratings, {title: rating}: those kept by the panel of notebook 03, or ten as an example.

    Raises: ValueError if the file is there and can't be read as such.
    """
    from cfutils.panel import read_own_ratings  # starts widgets, which few need

    ids = data.items.set_index("item_id")["title"]
    if pathlib.Path(path).is_file():
        kept = read_own_ratings(path, data)
        if kept:
            return {ids[item_id]: rating for item_id, rating in kept.items()}
    item_ratings(data, _EXAMPLE)  # every title is one of the data
    return dict(_EXAMPLE)

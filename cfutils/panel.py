"""Your own ratings in a notebook: a panel of buttons, and the small file that it keeps them in."""

from __future__ import annotations

import contextlib
import html
import json
import os
import pathlib
import warnings
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd

from cfutils._files import replace_files
from cfutils.data import Dataset
from cfutils.ids import find_item, match_item
from cfutils.recommendation import item_ratings, recommend

__all__ = ["RatingPanel", "read_own_ratings"]

_FAINT, _ALARM = "opacity:.75", "color:#b00020;font-weight:600"
_REMEDY = "Mend the file and run this cell again, or move it away, or give the panel another path."


def read_own_ratings(path: str | os.PathLike, data: Dataset) -> dict[int | str, float]:
    """Reads the file of a `RatingPanel` as {item id: rating}, for `recommend(..., ratings=...)`.

    It is a JSON list of objects with `item_id`, `title` and `rating`.

    Raises: ValueError if it is not, an item is not in `data` or has another title there or stands
    twice, or a rating is out of the range of `data.ratings`; FileNotFoundError without a file.
    """
    path = pathlib.Path(path).expanduser()
    titles, found = _titles(data), {}
    try:
        entries = json.loads(path.read_bytes())
        if not isinstance(entries, list):
            raise ValueError(f"{type(entries).__name__}.")
        for entry in entries:
            if set(entry) != {"item_id", "title", "rating"}:
                raise ValueError(f"{entry!r}.")
            item_id, title = entry["item_id"], entry["title"]
            if item_id in found or titles.get(item_id) != title:
                raise ValueError(f"{title!r} (id {item_id}) again, or not in data.")
            found[item_id] = entry["rating"]
        numbers = item_ratings(data, found).values() if found else []
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} should be a list of item_id, title and rating. Received: {error}"
        ) from None
    return dict(zip(found, numbers, strict=True))


class RatingPanel(ipywidgets.VBox):
    """Rate items in the notebook and see recommendations change with every rating.

    Type part of a title and click a rating beside it. Every change is saved at once and read again
    when the panel is made. A file that can't be read, or that somebody else has changed, is left
    alone: the panel says so, and keeps ratings in memory until the file is moved away.

    Args:
        model, data, k: as for `recommend`.
        path: the file of the ratings, see `read_own_ratings`; its folder has to exist.

    Attributes:
        recommendations: the frame of `recommend`, None without ratings.
    """

    MATCHES = 6

    def __init__(
        self, model: Any, data: Dataset, path: str | os.PathLike = "my_ratings.json", *, k: int = 10
    ) -> None:
        self.recommendations: pd.DataFrame | None = None
        self._model, self._data, self._k = model, data, k
        self._titles = _titles(data)
        self._ids = [*self._titles]
        self._ratings: dict[int | str, float] = {}
        self._path = pathlib.Path(path).expanduser().resolve()
        self._on_disk: bytes | None = None  # what the file held when last read or written
        self._hint, self._status, self._list = (ipywidgets.HTML() for _ in range(3))
        self._own = ipywidgets.VBox()
        self._search = ipywidgets.Text(
            placeholder="part of a title, e.g. star wars",
            description="Search",
            layout={"width": "360px"},
            style={"description_width": "initial"},
        )
        self._search.observe(lambda change: self._show_matches(), "value")
        values = np.unique(data.ratings["rating"].to_numpy(float))
        if len(values) > 10:
            values = np.linspace(values[0], values[-1], 10).round(2).clip(values[0], values[-1])
        self._matches = [_Match(self, values.tolist()) for _ in range(self.MATCHES)]
        bold = "font-size:14px;font-weight:bold"
        own, best = (
            ipywidgets.HTML(_text(text, bold)) for text in ("Your ratings", "Recommended for you")
        )
        parts = [self._search, *self._matches, self._hint, own, self._own]
        left = ipywidgets.VBox(parts, layout={"width": "500px", "flex": "0 0 auto"})
        across = {"flex": "1 1 380px", "min_width": "380px"}
        right = ipywidgets.VBox([best, self._list], layout=across)
        wrapped = {"flex_flow": "row wrap", "grid_gap": "24px"}
        super().__init__([ipywidgets.HBox([left, right], layout=wrapped), self._status])
        self.add_class("cfutils-panel")
        self._load()
        self._show()

    @property
    def ratings(self) -> dict[int | str, float]:
        """Ratings by item id, a copy."""
        return dict(self._ratings)

    def rate(self, item: int | str, rating: float) -> None:
        """Rate an item, by id or title, or change its rating, as a click on a button does."""
        for item_num, number in item_ratings(self._data, {item: rating}).items():
            self._change(self._ids[item_num], number)

    def remove(self, item: int | str) -> None:
        """Take back the rating of an item, by id or title."""
        self._change(self._ids[match_item(self._data, item)], None)

    def _change(self, item_id, rating):
        self._ratings |= {item_id: rating}
        if rating is None:
            del self._ratings[item_id]
        self._show()
        self._save()

    def _load(self):
        try:
            content = self._path.read_bytes()
            self._ratings = read_own_ratings(self._path, self._data)
            self._on_disk = content
            self._say(f"{_count(len(self._ratings))} read from {self._path}")
        except FileNotFoundError:
            pass
        except (ValueError, OSError) as error:
            self._say(f"Not read, and left as it is: {error} {_REMEDY}", _ALARM)

    def _save(self):
        entries = [
            {"item_id": item_id, "title": self._titles[item_id], "rating": rating}
            for item_id, rating in self._ratings.items()
        ]
        content = json.dumps(entries, ensure_ascii=False, indent=1).encode()
        try:
            with contextlib.suppress(FileNotFoundError):
                if self._path.read_bytes() != self._on_disk:
                    raise OSError(f"{self._path} can't be read or was changed by somebody else.")
            replace_files({self._path: content})
            self._on_disk = content
            self._say(f"{_count(len(entries))} saved in {self._path}")
        except OSError as error:
            self._say(f"Not saved: {error} {_REMEDY}", _ALARM)

    def _say(self, text, style=_FAINT):
        self._status.value = _text(text, style)

    def _show(self):
        self._show_matches()
        gone = self._own.children
        self._own.children = [self._own_row(*each) for each in self._ratings.items()]
        for row in gone:
            for widget in (*row.children, row):
                widget.close()
        self.recommendations, self._list.value = None, _text("Rate a title to begin.", _FAINT)
        if self._ratings:
            try:
                with warnings.catch_warnings(record=True, action="always") as told:
                    frame = recommend(self._model, self._data, ratings=self._ratings, k=self._k)
                notes = [_text(each.message, _FAINT) for each in told]
                self.recommendations, self._list.value = frame, _table(frame) + "".join(notes)
            except ValueError as error:  # an untrained model, for one
                self._list.value = _text(error, _ALARM)

    def _show_matches(self):
        text, hint, found = self._search.value.strip(), "", []
        try:
            found = list(find_item(self._data, text).itertuples()) if text else []
            if len(found) > self.MATCHES:
                hint = f"and {len(found) - self.MATCHES} more: type more of the title"
        except LookupError as error:
            hint = str(error)
        self._hint.value = _text(hint if text else "Search for what you know, and rate it.", _FAINT)
        for number, row in enumerate(self._matches):
            row.show(found[number] if number < len(found) else None)

    def _own_row(self, item_id, rating):
        title = self._titles[item_id]
        label = f"<b>{rating:g}</b>&ensp;{_text(title)}"
        button = ipywidgets.Button(
            description="Remove", tooltip=f"Remove {title}", layout={"width": "80px"}
        )
        button.on_click(lambda _: self._change(item_id, None))
        return ipywidgets.HBox([ipywidgets.HTML(label, layout={"width": "400px"}), button])


class _Match(ipywidgets.HBox):
    """A row of the matches: made once, then shown for one item after the other."""

    def __init__(self, panel, values):
        self._panel, self._item_id = panel, None
        layout = {"width": "34px", "padding": "0", "margin": "2px"}
        self._buttons = {
            value: ipywidgets.Button(description=f"{value:g}", layout=layout) for value in values
        }
        for value, button in self._buttons.items():
            button.on_click(lambda _, value=value: panel._change(self._item_id, value))
        self._title = ipywidgets.HTML(layout={"width": "290px"})
        buttons = ipywidgets.HBox([*self._buttons.values()], layout={"flex_flow": "row wrap"})
        super().__init__([self._title, buttons])

    def show(self, item):
        self.layout.display = "none" if item is None else "flex"
        if item is not None:
            self._item_id = self._panel._ids[item.Index]
            self._title.value = _text(item.title, note=_count(item.num_ratings))
            rating = self._panel.ratings.get(self._item_id)
            for value, button in self._buttons.items():
                button.button_style = "primary" if rating == value else ""
                button.tooltip = f"Rate {item.title}: {value:g}"


def _titles(data):
    """Titles by item id, as a file can hold it: an integer, or else a text."""
    ids = [id_ if isinstance(id_, int) else str(id_) for id_ in data.items["item_id"].tolist()]
    return dict(zip(ids, data.items["title"].tolist(), strict=True))


def _count(number):
    return f"{number:,} rating" + ("" if number == 1 else "s")


def _text(text, style="", note=""):
    """A text as HTML, and a note in small print: whatever they hold, it is never markup."""
    note = f' <span style="opacity:.65;font-size:12px">{html.escape(note)}</span>' if note else ""
    style = f"line-height:1.3;display:inline-block;{style}"
    return f'<span style="{style}">{html.escape(str(text))}{note}</span>'


def _table(frame):
    cell = 'style="text-align:left;vertical-align:top;padding:3px 12px 3px 0;line-height:1.3"'
    rows = [f"<tr><th></th><th {cell}>title</th><th {cell}>because&nbsp;you&nbsp;rated</th></tr>"]
    for item in frame.itertuples():
        title = _text(item.title, note=getattr(item, "genres", ""))
        because = "" if pd.isna(item.because) else _text(item.because)
        cells = f"<td {cell}>{item.Index}</td><td {cell}>{title}</td><td {cell}>{because}</td>"
        rows.append(f"<tr>{cells}</tr>")
    return f'<table style="border-collapse:collapse">{"".join(rows)}</table>'

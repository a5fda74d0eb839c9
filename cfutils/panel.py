"""Your own ratings: recommendations for somebody new, from a file, a dict or a panel of buttons.

A leaf: nothing else imports it. It takes any trained model that folds in new users, and keeps
the ratings in a CSV file with the columns `movie_id`, `title` and `rating`.
"""

import contextlib
import csv
import html
import io
import math
import os
import pathlib
import re
import warnings

import ipywidgets
import numpy as np
import pandas as pd

from cfutils import _checks
from cfutils._files import replace_files
from cfutils.scores import find_movie, recommend

__all__ = ["RatingPanel", "read_ratings", "recommend_for", "save_ratings"]

COLUMNS = ("movie_id", "title", "rating")


def recommend_for(ratings, model, data, *, k=10):
    """Recommend movies to somebody new, each with the rating that speaks most for it.

    Nothing is trained: the model folds the ratings in (`CFModel.fold_in`, `SoftmaxModel.fold_in`).
    The reason is the rating that adds most to the score (`fold_in_parts`). In a model with gravity
    a low rating raises the scores of similar movies as well, only less than a high one: whatever is
    not rated counts as 0. So does any rating in a softmax model.

    Args:
        ratings: A dict {movie id or title: rating}, where an integer is a row of `data.movies` and
            a text a title (an original id, where `load_ratings` made the data); or the path of a
            CSV file with the columns `movie_id`, `title` and `rating` (see `read_ratings`). Case,
            year and article of a title may be left out where only one movie fits.
        model: A trained `CFModel` or `SoftmaxModel`, or another model with `item_embeddings`
            [M, d], `fold_in(item_ids, ratings)` -> [d] and `fold_in_parts` alike -> [n, d].
        data: The `MovieLens` frames that the model was trained on.
        k: Number of recommendations.

    Returns:
        Frame like that of `cfutils.scores.recommend`, without the rated movies, and the column
        `because`: the title of the own rating that adds most to the score, missing where none
        raises it.

    Raises:
        ValueError: If there is no rating, a movie is unknown, ambiguous or rated twice, a rating
            lies outside the range of `data.ratings`, the model is untrained, or it knows its ids
            and no rated movie is in it. For a file the message names the line.
        LookupError: If a text is no title; the message lists those that hold it, or the closest.
        TypeError: If `ratings` is neither a dict nor a path.
        FileNotFoundError: If there is no such file.

    Cost: for n own ratings the model's two folds, O(M d + n k d) for the list, and O(n) looks
    through titles and ratings.
    """
    if not isinstance(ratings, (dict, str, os.PathLike)):
        raise TypeError(
            "ratings should be a dict {title: rating} or the path of a file. Received: "
            f"{type(ratings).__name__}. Make a dict of it: dict(zip(titles, ratings))."
        )
    read = _resolve if isinstance(ratings, dict) else read_ratings
    ratings = read(ratings, data)
    if not ratings:
        raise ValueError("ratings should hold at least one rating. Received: none. Rate a movie.")
    return _recommend(ratings, model, data, k)


def _recommend(ratings, model, data, k):
    rows = _checks.item_rows(model, data)
    ids = np.array(list(ratings), np.int64)
    values = np.array(list(ratings.values()), np.float64)
    own = pd.DataFrame({"movie_id": ids, "rating": values})
    known = rows[ids] >= 0
    if not known.any():
        title = data.movies["title"].iloc[ids[0]]
        raise ValueError(
            f"ratings should hold a movie that is in the model. Received: {title!r}, which is not. "
            "Rate another one, or train a new model."
        )
    ids, values = ids[known], values[known]
    query = model.fold_in(rows[ids], values)
    with warnings.catch_warnings():  # given above already
        warnings.filterwarnings("ignore", r"\d+ of the \d+ movies of data are not in the model")
        frame = recommend(model, query, data, ratings=own, k=k)
    parts = model.fold_in_parts(rows[ids], values)  # [n, d]
    terms = model.item_embeddings[rows[frame["movie_id"].to_numpy()]] @ parts.T  # [k, n]
    titles = data.movies["title"].to_numpy()[ids[terms.argmax(axis=1)]]
    because = pd.Series(titles, index=frame.index, dtype="str")
    return frame.assign(because=because.where(terms.max(axis=1) > 0))


def read_ratings(path, data):
    """Read own ratings from a CSV file, and refuse what is not right in every line.

    Args:
        path: A CSV file in UTF-8 whose first line names the columns `movie_id`, `title` and
            `rating`; others are ignored. Ids are those of `data.movies`, and the title has to be
            that movie's, so that a file made for other data is noticed.
        data: The `MovieLens` frames.

    Returns:
        Dict {movie id: rating} in the order of the lines; empty for a file without ratings.

    Raises:
        ValueError: If a column is missing, a line has too few or too many fields, an id is
            unknown or has another title, a movie stands twice, or a rating is not a number in the
            range of `data.ratings`; the message names file and line. The file is only read.
        FileNotFoundError: If there is no such file.

    Cost: O(n (number of data.ratings)) time for n lines, O(n) memory.
    """
    path = pathlib.Path(path).expanduser()
    return _parse(path.read_bytes(), path, data)


def save_ratings(path, ratings, data):
    """Write own ratings to a CSV file that is at every moment whole: the old one or the new one.

    Args:
        path: The file; its folder exists. It is replaced in one step, so that neither a crash nor
            a full disk leaves half a file.
        ratings: Dict {movie id: rating}.
        data: The `MovieLens` frames.

    Raises:
        OSError: If it can't be written; the old file is then unharmed.

    Cost: O(n) time and memory for n own ratings.
    """
    replace_files({pathlib.Path(path).expanduser().resolve(): _format(ratings, data)})


class RatingPanel(ipywidgets.VBox):
    """Rate movies in the notebook and see recommendations change with every rating.

    Type part of a title, click a rating beside a movie; your ratings stand below with a button
    to remove each, and beside them the recommendations, each with the rating that speaks most for
    it. Every change is saved to `path` at once and read again when the panel is made.

    A file that can't be read is left alone, and so is one that somebody else changed since: the
    panel then says so, keeps new ratings in memory only, and saves again once the file is moved
    away or the panel is made with another path.

    Args:
        model: A trained model as in `recommend_for`.
        data: The `MovieLens` frames that it was trained on.
        path: The CSV file of the ratings; it need not exist, its folder does.
        k: Number of recommendations.

    Attributes:
        ratings: Dict {movie id: rating}, a copy.
        recommendations: The frame of `recommend_for`, None without ratings.

    Cost: O(M) memory; every change of a rating costs what `recommend_for` does.
    """

    MATCHES = 6

    def __init__(self, model, data, path="my_ratings.csv", *, k=10):
        self._model, self._data, self._k = model, data, k
        self._path = pathlib.Path(path).expanduser().resolve()
        self._ratings, self._own_rows = {}, {}
        self.recommendations = None
        # What the file held when last read or written, None for nothing that may be replaced:
        # a file that holds anything else is left alone.
        self._on_disk, problem = None, ""
        try:
            self._on_disk = self._path.read_bytes()
            self._ratings = _parse(self._on_disk, self._path, data)
        except FileNotFoundError:
            pass
        except (ValueError, OSError) as error:
            self._on_disk, problem = None, str(error)

        self._search = ipywidgets.Text(
            placeholder="part of a title, e.g. star wars",
            description="Search",
            layout={"width": "360px"},
            style={"description_width": "initial"},
        )
        self._search.observe(lambda change: self._show_matches(), "value")
        self._matches = [_Match(self, _choices(data)) for _ in range(self.MATCHES)]
        self._hint = ipywidgets.HTML()
        self._status = ipywidgets.HTML()
        self._own = ipywidgets.VBox()
        self._list = ipywidgets.HTML()
        left = [self._search, *self._matches, self._hint, _heading("Your ratings"), self._own]
        super().__init__(
            [
                ipywidgets.HBox(
                    [
                        ipywidgets.VBox(left, layout={"width": "500px", "flex": "0 0 auto"}),
                        ipywidgets.VBox(
                            [_heading("Recommended for you"), self._list],
                            layout={"flex": "1 1 380px", "min_width": "380px"},
                        ),
                    ],
                    layout={"flex_flow": "row wrap", "grid_gap": "24px"},
                ),
                self._status,
            ]
        )
        self.add_class("cfutils-panel")
        self._show_matches()
        self._show_ratings()
        if problem:
            self._say(
                f"{problem} The file is left as it is and nothing is saved over it: mend it and "
                "run this cell again, or move it away, or give the panel another path.",
                alarm=True,
            )
        elif self._on_disk is not None:
            self._say(f"{_count(self._ratings)} read from {self._path}")

    @property
    def ratings(self):
        """Dict {movie id: rating}, a copy. O(n)."""
        return dict(self._ratings)

    def rate(self, movie_id, rating):
        """Rate a movie, or change its rating, as a click on a button does.

        Args:
            movie_id: An id of `data.movies`.
            rating: A number in the range of `data.ratings`.

        Raises:
            ValueError: If the id or the rating is out of range.

        Cost: that of `recommend_for`: O(1) calls of the model and O(M d).
        """
        self._ratings |= _resolve({movie_id: rating}, self._data)
        self._changed()

    def remove(self, movie_id):
        """Take back the rating of a movie.

        Cost: that of `recommend_for`: O(1) calls of the model and O(M d).
        """
        self._ratings.pop(movie_id, None)
        self._changed()

    def _changed(self):
        self._show_matches()
        self._show_ratings()
        self._save()

    def _save(self):
        try:
            with contextlib.suppress(FileNotFoundError):
                if self._path.read_bytes() != self._on_disk:
                    self._say(
                        f"Not saved: {self._path} can't be read or was changed by somebody else, "
                        "and is left as it is. Move it away, or run this cell again once it is "
                        "mended, or give the panel another path.",
                        alarm=True,
                    )
                    return
            content = _format(self._ratings, self._data)
            replace_files({self._path: content})
            self._on_disk = content
            self._say(f"{_count(self._ratings)} saved in {self._path}")
        except OSError as error:
            self._say(f"Not saved: {error}. Give the panel a path that can be written.", alarm=True)

    def _say(self, text, alarm=False):
        style = "color:#b00020;font-weight:600" if alarm else "opacity:.75"
        self._status.value = f'<div style="{style};line-height:1.4">{html.escape(text)}</div>'

    def _show_matches(self):
        text, hint, found = self._search.value.strip(), "", []
        if text:
            try:
                frame = find_movie(text, self._data)
                found = list(frame[["movie_id", "title", "num_ratings"]].itertuples(index=False))
                if len(found) > self.MATCHES:
                    hint = f"and {len(found) - self.MATCHES} more: type more of the title"
            except LookupError as error:
                hint = str(error.args[0])
        else:
            hint = "Search for movies that you know and click a rating."
        self._hint.value = f'<span style="opacity:.75">{html.escape(hint)}</span>'
        for number, row in enumerate(self._matches):
            row.show(found[number] if number < len(found) else None, self._ratings)

    def _show_ratings(self):
        for movie_id in [*self._own_rows]:
            if movie_id not in self._ratings:
                self._own_rows.pop(movie_id).close_all()
        for movie_id, rating in self._ratings.items():
            if movie_id not in self._own_rows:
                self._own_rows[movie_id] = _Own(self, movie_id)
            self._own_rows[movie_id].show(rating)
        self._own.children = [self._own_rows[movie_id] for movie_id in self._ratings]
        self.recommendations, self._list.value = None, ""
        if self._ratings:
            try:
                self.recommendations = _recommend(self._ratings, self._model, self._data, self._k)
                self._list.value = _table(self.recommendations)
            except ValueError as error:  # an untrained model, for one
                self._list.value = html.escape(str(error))
        else:
            self._list.value = '<span style="opacity:.75">Rate a movie to begin.</span>'


class _Match(ipywidgets.HBox):
    """A row of the matches: made once, then shown for one movie after the other."""

    def __init__(self, panel, choices):
        self._movie_id, self._choices = None, choices
        self._title = ipywidgets.HTML(layout={"width": "290px"})
        self._buttons = [
            ipywidgets.Button(
                description=f"{value:g}", layout={"width": "34px", "padding": "0", "margin": "2px"}
            )
            for value in choices
        ]
        for value, button in zip(choices, self._buttons, strict=True):
            button.on_click(lambda _, value=value: panel.rate(self._movie_id, value))
        buttons = ipywidgets.HBox(self._buttons, layout={"flex_flow": "row wrap"})
        super().__init__([self._title, buttons])

    def show(self, movie, ratings):
        self.layout.display = "none" if movie is None else "flex"
        if movie is None:
            return
        self._movie_id = int(movie.movie_id)
        number = f"{movie.num_ratings:,} rating" + ("" if movie.num_ratings == 1 else "s")
        self._title.value = _text(movie.title, number)
        for value, button in zip(self._choices, self._buttons, strict=True):
            button.button_style = "primary" if ratings.get(self._movie_id) == value else ""
            button.tooltip = f"Rate {movie.title}: {value:g}"


class _Own(ipywidgets.HBox):
    """A row of the own ratings."""

    def __init__(self, panel, movie_id):
        self._name = panel._data.movies["title"].iloc[movie_id]
        self._label = ipywidgets.HTML(layout={"width": "400px"})
        self._button = ipywidgets.Button(
            description="Remove", tooltip=f"Remove {self._name}", layout={"width": "80px"}
        )
        self._button.on_click(lambda _: panel.remove(movie_id))
        super().__init__([self._label, self._button])

    def show(self, rating):
        self._label.value = f"<b>{rating:g}</b>&ensp;{_text(self._name)}"

    def close_all(self):
        for widget in (self._label, self._button, self):
            widget.close()


def _choices(data):
    """The ratings to click on: those of the data, or, if they are many, ten along their range."""
    values = np.unique(data.ratings["rating"].to_numpy(float))
    return values if len(values) <= 10 else np.linspace(values[0], values[-1], 10).round(2)


def _heading(text):
    return ipywidgets.HTML(f'<b style="font-size:14px">{text}</b>')


def _text(title, note=""):
    note = f' <span style="opacity:.65;font-size:12px">{html.escape(note)}</span>' if note else ""
    return f'<span style="line-height:1.3;display:inline-block">{html.escape(title)}{note}</span>'


def _count(ratings):
    return f"{len(ratings)} rating" + ("" if len(ratings) == 1 else "s")


def _table(frame):
    """The recommendations as HTML; titles are text, whatever they hold."""
    cell = 'style="text-align:left;vertical-align:top;padding:3px 12px 3px 0;line-height:1.3"'
    head = cell.replace("line-height", "white-space:nowrap;line-height")
    rows = [f"<tr><th></th><th {head}>movie</th><th {head}>because you rated</th></tr>"]
    for rank, movie in zip(frame.index, frame.itertuples(index=False), strict=True):
        note = getattr(movie, "genres", "")
        because = "" if pd.isna(movie.because) else movie.because
        cells = [f"{rank}", _text(movie.title, note), _text(because)]
        rows.append("<tr>" + "".join(f"<td {cell}>{value}</td>" for value in cells) + "</tr>")
    return f'<table style="border-collapse:collapse">{"".join(rows)}</table>'


# Ratings and files


def _resolve(ratings, data):
    """A dict by movie id from one by movie id or title."""
    resolved = {}
    for key, value in ratings.items():
        movie_id = _by_title(key, data) if isinstance(key, str) else _known(key, data)
        if movie_id in resolved:
            raise ValueError(
                f"ratings should hold each movie once. Received: "
                f"{data.movies['title'].iloc[movie_id]!r} (id {movie_id}) twice. Keep one."
            )
        resolved[movie_id] = _checked(value, data)
    return resolved


def _known(movie_id, data):
    whole = isinstance(movie_id, (int, np.integer)) and not isinstance(movie_id, bool)
    if not whole or not 0 <= movie_id < data.num_items:
        raise ValueError(
            f"A movie id should be an integer from 0 to {data.num_items - 1}. Received: "
            f"{movie_id!r}. Find it with cfutils.scores.find_movie."
        )
    return int(movie_id)


def _by_title(text, data):
    """The only movie of this title; case, year and article may be left out where that is enough."""
    titles = data.movies["title"].tolist()
    wanted = text.strip().casefold()
    for is_meant in (
        lambda title: title == text,
        lambda title: title.strip().casefold() == wanted,
        lambda title: wanted in _spellings(title),
    ):
        found = [row for row, title in enumerate(titles) if is_meant(title)]
        if found:
            break
    else:
        found = find_movie(text, data)["movie_id"].tolist()  # closest titles in its error
        raise LookupError(
            f"A text should be a whole title. Received: {text!r}. Titles that hold it: "
            f"{_listed(found, data)}. Write one of them, or its id."
        )
    if len(found) > 1:
        raise ValueError(
            f"A title should be that of one movie. Received: {text!r}, which fits "
            f"{_listed(found, data)}. Write the whole title, or the id."
        )
    return found[0]


def _spellings(title):
    """How one may write a title: without year or article, or with the article in front."""
    name, year = re.fullmatch(r"(.*?)( \(\d{4}\))?", title.strip().casefold(), re.DOTALL).groups("")
    names = {name}
    if behind := re.fullmatch(r"(.*), (the|a|an)", name, re.DOTALL):
        names |= {behind[1], f"{behind[2]} {behind[1]}"}
    elif front := re.fullmatch(r"(?:the|a|an) (.*)", name, re.DOTALL):
        names.add(front[1])
    return names | {name + year for name in names}


def _listed(movie_ids, data):
    titles = data.movies["title"]
    shown = [f"{titles.iloc[movie]!r} (id {movie})" for movie in movie_ids[:8]]
    more = f" and {len(movie_ids) - 8} more" if len(movie_ids) > 8 else ""
    return ", ".join(shown) + more


def _checked(value, data):
    """A rating as a float in the range of the data's ratings."""
    lowest, highest = data.ratings["rating"].min(), data.ratings["rating"].max()
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not lowest <= number <= highest:
        raise ValueError(
            f"A rating should be a number from {lowest:g} to {highest:g}, the range of "
            f"data.ratings. Received: {value!r}."
        )
    return number


def _parse(content, path, data):
    """The ratings of a file's content; an error names the line (or the line a record ends in)."""
    try:
        # Spreadsheets put a byte order mark in front.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path} should be in UTF-8. Received: other bytes in line {line}. Save it as UTF-8."
        ) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    ratings = {}

    def refuse(rule, received, remedy="Mend or delete the line."):
        raise ValueError(
            f"{path}, line {max(reader.line_num, 1)}: {rule}. Received: {received}. {remedy}"
        )

    try:
        header = [name.strip() for name in next(reader, [])]
        if [header.count(name) for name in COLUMNS] != [1, 1, 1]:
            refuse(
                f"the columns should be {', '.join(COLUMNS)}, separated by commas",
                ", ".join(header) or "none",
                "Name them in the first line.",
            )
        places = [header.index(name) for name in COLUMNS]
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                refuse(f"there should be {len(header)} fields", f"{len(row)}")
            movie, title, rating = (row[place] for place in places)
            try:
                movie_id = _known(int(movie) if movie.strip().isdecimal() else movie, data)
                number = _checked(rating, data)
            except ValueError as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
            expected = data.movies["title"].iloc[movie_id]
            if title != expected:
                refuse(f"movie {movie_id} should have the title {expected!r}", f"{title!r}")
            if movie_id in ratings:
                refuse("a movie should stand once", f"{title!r} (id {movie_id}) again")
            ratings[movie_id] = number
    except csv.Error as error:
        refuse("it should be a line of a CSV file", str(error))
    return ratings


def _format(ratings, data):
    """The content of the file: one line per rating, in their order."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    titles = data.movies["title"]
    for movie_id, rating in ratings.items():
        number = int(rating) if float(rating).is_integer() else float(rating)
        writer.writerow([movie_id, titles.iloc[movie_id], repr(number)])
    return buffer.getvalue().encode()

"""The one noun of the package: users, items and ratings as checked frames.

`cfutils.tables.load_ratings` makes a `Dataset` of any table of (user, item, rating),
`cfutils.movielens.load_movielens` of MovieLens 100K. Everything downstream relies on one promise
made here: `user_num` and `item_num` are 0-based rows, the ids of the source stand beside them as
`user_id` and `item_id`, and each pair is rated once, by a finite number.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from cfutils import _checks

__all__ = ["Dataset", "as_floats", "check_pairs", "refuse_rows"]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Users, items and ratings; the index of users and items is the row number of all arrays.

    Attributes:
        users: one row per user, index `user_num` (0..N-1): `user_id`, and whatever else is known.
        items: one row per item, index `item_num` (0..M-1): `item_id`, `title`; where the source
            has them `year` (missing where unknown) and `genres` (lists of texts).
        ratings: one row per rating, in the order of the source: `user_num`, `item_num`, `rating`
            and, where the source has one, `timestamp`. Ratings of the same users and items are
            exchanged by `dataclasses.replace(data, ratings=...)`.

    Raises:
        ValueError: if a column is missing, a row number is out of range, an id stands twice, a
            rating is not finite, or a pair is rated twice. O(n log n) for n ratings.
    """

    users: pd.DataFrame
    items: pd.DataFrame
    ratings: pd.DataFrame

    def __post_init__(self) -> None:
        for name, kind, columns in (
            ("users", "user", ["user_id"]),
            ("items", "item", ["item_id", "title"]),
        ):
            frame = getattr(self, name)
            _check_columns(name, frame, columns)
            if not np.array_equal(frame.index, np.arange(len(frame))):
                raise ValueError(
                    f"{name} should have the index 0..{len(frame) - 1} in order. Received: "
                    f"{_checks.shown(frame.index)}. Call reset_index, or make it by load_ratings."
                )
            texts = frame[f"{kind}_id"].astype(str)
            if texts.duplicated().any():
                raise ValueError(
                    f"{name}.{kind}_id should hold each id once. Received: "
                    f"{texts[texts.duplicated()].iloc[0]!r} twice. Drop one of the rows."
                )
            if frame.index.name != f"{kind}_num":
                object.__setattr__(self, name, frame.rename_axis(f"{kind}_num"))
        if "genres" in self.items and not self.items["genres"].map(pd.api.types.is_list_like).all():
            raise ValueError(
                "items.genres should hold lists of texts. Received: "
                f"{self.items['genres'].iloc[0]!r}. Split it: items['genres'].str.split('|')."
            )
        _check_columns("ratings", self.ratings, ["user_num", "item_num", "rating"])
        users, items = (_whole(self.ratings, name) for name in ("user_num", "item_num"))
        ratings = as_floats(self.ratings["rating"])
        check_pairs(users, items, ratings, (self.num_users, self.num_items))

    @classmethod
    def _of_checked(cls, users, items, ratings) -> Dataset:
        """A Dataset of frames that have passed the check: no second sort of many ratings."""
        made = object.__new__(cls)
        for name, frame in (("users", users), ("items", items), ("ratings", ratings)):
            object.__setattr__(made, name, frame)
        return made

    @property
    def num_users(self) -> int:
        """N, the number of users, with or without ratings."""
        return len(self.users)

    @property
    def num_items(self) -> int:
        """M, the number of items, with or without ratings."""
        return len(self.items)

    def split(self, *, test_fraction: float = 0.1, seed: int) -> tuple[Dataset, Dataset]:
        """Splits the ratings at random, row by row, into training and test.

        Args:
            test_fraction: share of the ratings that go to the test, above 0 and below 1; rounded to
                the nearest whole number of ratings.
            seed: an integer; the same seed gives the same split.

        Returns:
            `(train, test)`, two Datasets of the same users and items whose ratings are disjoint and
            together complete, in the order of `ratings` with a new index.

        Raises:
            ValueError: if `test_fraction` leaves no rating on one of the two sides.
        """
        count = len(self.ratings)
        num_test = round(_checks.share("test_fraction", test_fraction) * count)
        if not 0 < num_test < count:
            raise ValueError(
                "test_fraction should leave ratings on both sides. Received: "
                f"{test_fraction} of {count} ratings."
            )
        seed = _checks.integer("seed", seed, 0)
        is_test = np.zeros(count, dtype=bool)
        is_test[pd.Series(np.arange(count)).sample(num_test, random_state=seed)] = True
        train, test = (
            self._of_checked(self.users, self.items, self.ratings[part].reset_index(drop=True))
            for part in (~is_test, is_test)
        )
        return train, test

    def user_stats(self) -> pd.DataFrame:
        """`num_ratings` and `mean_rating` (NaN without ratings) of each user, by `user_num`."""
        return self._stats("user_num", self.num_users)

    def item_stats(self) -> pd.DataFrame:
        """`num_ratings` and `mean_rating` (NaN without ratings) of each item, by `item_num`."""
        return self._stats("item_num", self.num_items)

    def _stats(self, by: str, count: int) -> pd.DataFrame:
        rows, ratings = self.ratings[by].to_numpy(), self.ratings["rating"].to_numpy(float)
        numbers = np.bincount(rows, minlength=count)
        totals = np.bincount(rows, ratings, minlength=count)
        means = np.divide(totals, numbers, out=np.full(count, np.nan), where=numbers > 0)
        index = pd.RangeIndex(count, name=by)
        return pd.DataFrame({"num_ratings": numbers, "mean_rating": means}, index=index)

    def interactions(self, *, binary: bool = True) -> scipy.sparse.csr_array:
        """The ratings as a SciPy matrix [N, M], float32: 1 for each, or the rating itself."""
        rows, columns = (self.ratings[name].to_numpy() for name in ("user_num", "item_num"))
        values = np.ones(len(rows), "float32")
        if not binary:
            values = self.ratings["rating"].to_numpy("float32")
        shape = self.num_users, self.num_items
        return scipy.sparse.csr_array((values, (rows, columns)), shape=shape)

    def genre_table(self) -> pd.DataFrame:
        """Which item has which genre: 0 or 1 [M, genres], by `item_num`, genres in their order.

        Raises:
            ValueError: if the items have no genres.
        """
        if "genres" not in self.items:
            raise ValueError(
                "items should have the column genres (lists of texts). Received: "
                f"{list(self.items.columns)}. Add it to items."
            )
        lists = self.items["genres"]
        names = sorted({genre for genres in lists for genre in genres})
        table = {name: [int(name in genres) for genres in lists] for name in names}
        return pd.DataFrame(table, index=self.items.index)

    def item_features(self) -> dict[str, np.ndarray]:
        """What items are made up of, for models that embed genres and years beside the item itself.

        Returns:
            A dict of float32 arrays with one row per item: `genres` [M, number of genres], in
            alphabetical order and 1/n for each of an item's n; `decade` [M, number of decades], the
            earliest first and 1 for the item's. A row of zeros where it is missing.

        Raises:
            ValueError: if the items have neither genres nor year.
        """
        features = {}
        if "genres" in self.items:
            table = self.genre_table().to_numpy("float64")
            shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
            features["genres"] = shares.astype("float32")
        if "year" in self.items:
            decades = self.items["year"].astype("float64") // 10
            known = np.arange(decades.min(), decades.max() + 1)
            features["decade"] = np.equal.outer(decades.to_numpy(), known).astype("float32")
        if not features:
            raise ValueError(
                "items should have the column genres (lists) or year (numbers). Received: "
                f"{list(self.items.columns)}. Without them, train on the items alone."
            )
        return features


def check_pairs(
    users: np.ndarray,
    items: np.ndarray,
    ratings: np.ndarray,
    shape: tuple[int, int],
    *,
    columns: tuple[str, str, str] = ("user_num", "item_num", "rating"),
    ids: tuple[Any, Any] | None = None,
    remedy: str = "Keep one of its ratings, or their mean.",
) -> np.ndarray | None:
    """The check of a ratings table: in range, finite, each pair once.

    Args:
        users: integers [n], rows of the matrix.
        items: integers [n], its columns.
        ratings: numbers [n].
        shape: (N, M).
        columns: what the three are called in a message.
        ids: what users [N] and items [M] are called in a message; None for their numbers.
        remedy: what to do about a pair that is there twice.

    Returns:
        The order of rows [n] that sorts by user and then item; None if they are in that order.

    Raises:
        ValueError: on the first rating that breaks a rule, with its row, counted from 0. Or if
            there is none, or N M is 2**63 or more.
    """
    if not len(ratings):
        raise ValueError("ratings should hold at least one rating. Received: none.")
    if shape[0] * shape[1] >= 2**63:
        raise ValueError(f"ratings should have fewer than 2**63 cells. Received: {list(shape)}.")
    for name, values, count in zip(columns, (users, items), shape, strict=False):
        if values.min() < 0 or values.max() >= count:
            row = int(np.argmax((values < 0) | (values >= count)))
            raise ValueError(
                f"{name} should be from 0 to {count - 1}. Received: {values[row]} in row {row} "
                "(counted from 0). It is a row number; load_ratings makes them of any ids."
            )
    refuse_rows(~np.isfinite(ratings), ratings, f"{columns[2]} should be a finite number")
    keys = users.astype(np.int64) * shape[1] + items
    if (keys[1:] > keys[:-1]).all():
        return None
    order = np.argsort(keys)
    ordered = keys[order]
    if (ordered[1:] == ordered[:-1]).any():
        row = int(np.argmax(pd.Series(keys).duplicated()))
        pair = users[row], items[row]
        if ids is not None:
            pair = ids[0][pair[0]], ids[1][pair[1]]
        raise ValueError(
            f"Each pair ({columns[0]}, {columns[1]}) should be there once. Received: ({pair[0]}, "
            f"{pair[1]}) again in row {row} (counted from 0). {remedy}"
        )
    return order


def refuse_rows(bad: np.ndarray, values: Any, rule: str, remedy: str = "Drop the row.") -> None:
    """Raises on the first bad row, and says how many there are."""
    if bad.any():
        row, count = int(np.argmax(bad)), int(bad.sum())
        more = f", the first of {count} such rows" if count > 1 else ""
        raise ValueError(
            f"{rule}. Received: {values[row]} in row {row} (counted from 0){more}. {remedy}"
        )


def _check_columns(name: str, frame: pd.DataFrame, wanted: list[str]) -> None:
    missing = [column for column in wanted if column not in frame.columns]
    if missing:
        raise ValueError(
            f"{name} should have the columns {', '.join(wanted)}. Received: {list(frame.columns)}, "
            f"without {missing}. load_ratings makes such frames of any table."
        )


def _whole(frame: pd.DataFrame, name: str) -> np.ndarray:
    if not pd.api.types.is_integer_dtype(frame[name]) or frame[name].isna().any():
        raise ValueError(
            f"ratings.{name} should be integers. Received: {frame[name].dtype}. They are row "
            "numbers; load_ratings makes them of any ids."
        )
    return frame[name].to_numpy(np.int64)


def as_floats(column: pd.Series, name: str = "rating") -> np.ndarray:
    """Ratings as float64 [n]; what is no number is NaN."""
    numbers = pd.to_numeric(column, errors="coerce")
    for kind in (column.dtype, numbers.dtype):
        if kind.kind in "mMc":
            raise ValueError(f"{name} should hold real numbers. Received: {kind}.")
    return numbers.to_numpy("float64", na_value=np.nan)
